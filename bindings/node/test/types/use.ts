// Compiled, not run: what users write has these types.
import { ConfigError, PgvpdError, Proxy, type ErrorCode, type Options, type Stats } from 'pgvpd'
import {
  adminUrl,
  assertIsolated,
  setup,
  startPostgres,
  tenantUrl,
  withTenant,
  type IsolationReport,
} from 'pgvpd/testing'

export async function use(): Promise<void> {
  const options: Options = { upstreamHost: 'db.internal', upstream_port: 5432, tenantDeny: ['a', 'b'], allowTrust: false }
  await using proxy = await Proxy.start(options)
  const port: number = proxy.port
  const url: string = proxy.url('acme', 'mydb', { password: 'secret' })
  const stats: Stats = proxy.stats()
  const restart: string[] = proxy.reload({ loginRoles: 'web' }).needsRestart
  const closed: number = await proxy.stop({ timeout: 0 })
  const end: void = await proxy.closed()
  use7(port, url, stats.sessionsActive, restart, closed, end)

  // @ts-expect-error an option that does not exist
  await Proxy.start({ upstreamHots: 'db.internal' })
  // @ts-expect-error a value that is none
  await Proxy.start({ upstreamHost: null })
  // @ts-expect-error proxies are started, not constructed
  new Proxy()

  try {
    await Proxy.start()
  } catch (error) {
    if (error instanceof ConfigError) use7(error.problems.map(({ option, message }) => `${option ?? ''} ${message}`))
    if (error instanceof PgvpdError) {
      const code: ErrorCode = error.code
      use7(code)
      // @ts-expect-error not one of the codes
      if (error.code === 'ERR_OTHER') return
    }
  }

  await using server = await startPostgres({ settings: { max_connections: 20 }, binDir: '/usr/lib/postgresql/15/bin' })
  await server.createAppDatabase('app')
  await server.execute('app', 'SELECT 1')
  use7(server.port, server.url('app'), server.appUser, server.appPassword)

  await using started = await setup({ schema: ['schema.sql'], proxy: { tenantFormat: 'uuid' } })
  use7(started.proxy.port, tenantUrl('acme'), adminUrl())
  const length: number = await withTenant(async ({ tenant, url }) => tenant.length + url.length)
  const report: IsolationReport = await assertIsolated('orders', { column: 'org', tenants: ['acme', { name: 'b', url }] })
  use7(length, report.attempts[0]?.outcome === 'leaked')
}

function use7(..._values: unknown[]): void {}
