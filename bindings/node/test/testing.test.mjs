// pgvpd/testing on the tables of schema.sql.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'

import { PgvpdError, Proxy } from 'pgvpd'
import { adminUrl, assertIsolated, setup, startPostgres, tenantUrl, withTenant } from 'pgvpd/testing'
import { run, schema, withClient } from './support.cjs'

const who = 'SELECT current_tenant_id() AS tenant'
const tenantOf = (url) => withClient(url, async (client) => (await client.query(who)).rows[0].tenant)

describe('with a set-up', () => {
  let started
  before(async () => {
    started = await setup({ schema })
    await withClient(adminUrl(), (admin) =>
      admin.query(`CREATE ROLE bypasser LOGIN BYPASSRLS PASSWORD 'b' IN ROLE app_user;
                   CREATE TABLE "Org Notes" (org text, body text);
                   SELECT pgvpd_protect('"Org Notes"', 'org');
                   GRANT SELECT, INSERT, UPDATE, DELETE ON "Org Notes" TO app_user;
                   CREATE TABLE numbered (tenant_id bigint NOT NULL);
                   SELECT pgvpd_protect('numbered');
                   GRANT SELECT, INSERT, UPDATE, DELETE ON numbered TO app_user;`),
    )
  })
  after(() => started.stop())

  test('withTenant gives each test a tenant of its own, and what the test gives', async () => {
    const seen = await Promise.all(
      Array.from({ length: 3 }, () =>
        withTenant(async ({ tenant, url }) => {
          assert.equal(await tenantOf(url), tenant)
          return tenant
        }),
      ),
    )
    assert.equal(new Set(seen).size, 3)
    await assert.rejects(withTenant(() => Promise.reject(new Error('mine'))), /^Error: mine$/)
  })

  test('tenantUrl names any tenant, adminUrl the superuser', async () => {
    assert.equal(await tenantOf(tenantUrl("o'neil@(a/b)*!ü")), "o'neil@(a/b)*!ü")
    const user = await withClient(adminUrl(), async (client) => (await client.query('SELECT current_user')).rows[0])
    assert.deepEqual(user, { current_user: 'postgres' })
  })

  test('assertIsolated passes on a protected table, and says what it tried', async () => {
    const report = await assertIsolated('notes')
    assert.equal(report.table, 'public.notes')
    assert.equal(report.role, 'app_user')
    assert.ok(report.attempts.length >= 16)
    assert.deepEqual(report.attempts.filter(({ outcome }) => outcome === 'leaked'), [])
    await withClient(adminUrl(), async (admin) => assert.equal((await admin.query('SELECT FROM notes')).rowCount, 0))
  })

  test('assertIsolated takes a column, named tenants, and columns of other types', async () => {
    await assertIsolated('"Org Notes"', { column: 'org', tenants: ['acme', 'globex'] })
    await assertIsolated('numbered')
  })

  test('assertIsolated finds a leak and says what to do', async () => {
    const error = await assertIsolated('unprotected').catch((error) => error)
    assert.ok(error instanceof assert.AssertionError)
    assert.match(error.message, /unprotected leaks/)
    assert.match(error.message, /LEAK/)
    assert.equal(error.report.holds, false)
    assert.ok(error.report.attempts.some(({ outcome }) => outcome === 'leaked'))
    assert.match(error.stack, /testing\.test\.mjs/)
  })

  test('assertIsolated finds each planted leak', async () => {
    const own = 'USING (tenant_id = current_tenant_id())'
    const leaks = {
      'a policy on a table where row-level security is off': `CREATE POLICY p ON leaky ${own}`,
      'a policy that lets everything be read': `CREATE POLICY p ON leaky ${own}; CREATE POLICY r ON leaky FOR SELECT USING (true); ALTER TABLE leaky ENABLE ROW LEVEL SECURITY`,
      'a policy that lets everything be written': `CREATE POLICY p ON leaky ${own} WITH CHECK (true); ALTER TABLE leaky ENABLE ROW LEVEL SECURITY`,
      'a right that no policy holds': "SELECT pgvpd_protect('leaky'); GRANT TRUNCATE ON leaky TO app_user",
    }
    await withClient(adminUrl(), async (admin) => {
      for (const [name, statements] of Object.entries(leaks)) {
        await admin.query(`DROP TABLE IF EXISTS leaky; CREATE TABLE leaky (tenant_id text, body text);
          GRANT SELECT, INSERT, UPDATE, DELETE ON leaky TO app_user; ${statements}`)
        await assert.rejects(assertIsolated('leaky'), { code: 'ERR_ASSERTION', message: /LEAK/ }, name)
      }
      await admin.query("REVOKE TRUNCATE ON leaky FROM app_user")
    })
    await assertIsolated('leaky')
  })

  const direct = (user, password) => {
    const url = new URL(adminUrl())
    Object.assign(url, user && { username: user, password })
    return ['acme', 'globex'].map((name) => ({ name, url: url.href }))
  }
  const refusal = (reason) => (error) => {
    assert.ok(error instanceof PgvpdError && !(error instanceof assert.AssertionError))
    assert.equal(error.code, 'ERR_PGVPD_ISOLATION')
    assert.match(error.message, reason)
    return true
  }

  test('assertIsolated refuses to run as superuser, with BYPASSRLS, or as the owner', async () => {
    await assert.rejects(assertIsolated('notes', { tenants: direct() }), refusal(/superuser/))
    const bypasser = ['acme', 'globex'].map((name) => {
      const url = new URL(tenantUrl(name))
      return { name, url: Object.assign(url, { username: `bypasser.${name}`, password: 'b' }).href }
    })
    await assert.rejects(assertIsolated('notes', { tenants: bypasser }), refusal(/BYPASSRLS/))
    await assert.rejects(assertIsolated('owned'), refusal(/owns/))
  })

  test('assertIsolated refuses what cannot be checked', async () => {
    await assert.rejects(assertIsolated('no_such_table'), refusal(/no_such_table/))
    await assert.rejects(assertIsolated('notes', { column: 'org' }), refusal(/no column "org"/))
    await assert.rejects(assertIsolated('notes', { tenants: ['acme', 'acme'] }), refusal(/two tenants/))
    const tenants = ['acme', 'globex'].map((name) => ({ name, url: tenantUrl(name) }))
    await assert.rejects(assertIsolated('notes', { tenants }), refusal(/no row/))
    await assertIsolated('notes', { tenants, adminUrl: adminUrl() })
  })

  test('a server that is there is used, and left as it was', async () => {
    const databases = () =>
      withClient(adminUrl(), async (admin) =>
        (await admin.query('SELECT datname FROM pg_database ORDER BY 1')).rows.map(({ datname }) => datname),
      )
    const before = await databases()
    // The role is there already, so it has to be its password.
    const appPassword = new URL(tenantUrl('acme')).password
    const second = await setup({ schema, server: { url: adminUrl(), appPassword } })
    assert.equal((await databases()).length, before.length + 1)
    await assertIsolated('notes')
    await withTenant(async ({ tenant, url }) => assert.equal(await tenantOf(url), tenant))
    await second.stop()
    Object.assign(process.env, started.env)
    assert.deepEqual(await databases(), before)
    const bad = { url: adminUrl().replace(/:\w+@/, ':wrong@'), appPassword }
    await assert.rejects(setup({ server: bad }), { code: 'ERR_PGVPD_POSTGRES', message: /password authentication failed/ })
  })
})

describe('set-ups with options', () => {
  for (const [proxy, expected] of [
    [{ tenantFormat: 'uuid' }, /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/],
    [{ tenant_format: 'integer' }, /^[1-9]\d*$/],
    [{ contextVariables: ['app.current_tenant_id', 'app.user_id', 'app.team'], valueSeparator: '/' }, /^t[0-9a-f]+$/],
    [{ contextVariables: 'app.current_tenant_id,app.user_id', tenantSeparator: '{tenant}' }, /^t[0-9a-f]+$/],
  ]) {
    test(JSON.stringify(proxy), async () => {
      const started = await setup({ schema, proxy })
      try {
        await withTenant(async ({ tenant, url }) => {
          assert.match(tenant, expected)
          assert.equal(await tenantOf(url), tenant)
        })
        await assertIsolated('notes')
      } finally {
        await started.stop()
      }
    })
  }

  test('prepare runs with the proxy up, and files and options fail before or with everything stopped', async () => {
    const started = await setup({
      database: 'other db',
      settings: { max_connections: 17, log_statement: 'none' },
      prepare: async ({ adminUrl, tenantUrl }) => {
        await withClient(adminUrl, (admin) => admin.query('CREATE TABLE prepared ()'))
        assert.equal(await tenantOf(tenantUrl('acme')), 'acme')
      },
    })
    await withClient(adminUrl(), async (admin) => {
      await admin.query('SELECT FROM prepared')
      assert.equal((await admin.query('SHOW max_connections')).rows[0].max_connections, '17')
    })
    await started.stop()
    await assert.rejects(setup({ schema: 'no-such.sql' }), { code: 'ENOENT' })
    await assert.rejects(setup({ proxy: { port: 'http' } }), { code: 'ERR_PGVPD_CONFIG' })
    await assert.rejects(setup({ schema: import.meta.filename }), { code: 'ERR_PGVPD_POSTGRES', message: /syntax error/ })
  })
})

test('without a set-up, the error says how to make one', async () => {
  for (const call of [() => tenantUrl('a'), () => adminUrl()]) assert.throws(call, { code: 'ERR_PGVPD_SETUP' })
  await assert.rejects(withTenant(() => {}), { code: 'ERR_PGVPD_SETUP', message: /globalSetup to 'pgvpd\/vitest'/ })
  await assert.rejects(assertIsolated('notes'), { code: 'ERR_PGVPD_SETUP' })
})

describe('a private PostgreSQL', () => {
  test('starts, runs SQL, and is gone after stop', async () => {
    const server = await startPostgres()
    assert.match(server.version, /^\d+\.\d+/)
    await server.createDatabase('a "b"')
    await server.execute('a "b"', 'CREATE TABLE t (); CREATE TABLE u ()')
    await withClient(server.url('a "b"'), (client) => client.query('SELECT FROM t, u'))
    await server.createAppDatabase('app')
    const user = await withClient(server.appUrl('app'), async (client) => (await client.query('SELECT current_user')).rows)
    assert.deepEqual(user, [{ current_user: server.appUser }])
    await assert.rejects(server.execute('app', 'SELEC 1'), { code: 'ERR_PGVPD_POSTGRES', message: /syntax error/ })
    await server.stop()
    await server.stop()
    await assert.rejects(withClient(server.url('app'), () => {}), { code: 'ECONNREFUSED' })
    await assert.rejects(server.execute('app', 'SELECT 1'), { code: 'ERR_PGVPD_POSTGRES', message: /stopped/ })
  })

  test('a directory without PostgreSQL is an error that says what to change', async () => {
    await assert.rejects(startPostgres({ binDir: '/nowhere' }), { code: 'ERR_PGVPD_POSTGRES', message: /PGVPD_PG_BINDIR/ })
    await assert.rejects(startPostgres({ settings: { no_such_setting: 1 } }), { message: /no_such_setting/ })
  })

  test('ends with a process that is killed', async () => {
    const { output } = await run(
      process.execPath,
      ['--input-type=module', '--eval', `
        import { startPostgres } from 'pgvpd/testing'
        const server = await startPostgres()
        console.log(server.url('postgres'))
        process.kill(process.pid, 'SIGKILL')`],
      { cwd: import.meta.dirname },
    )
    const deadline = Date.now() + 10_000
    let error
    while (!error && Date.now() < deadline) {
      error = await withClient(output.trim(), () => {}).catch((error) => (error.code === 'ECONNREFUSED' ? error : undefined))
    }
    assert.ok(error, 'the server is still there')
  })
})
