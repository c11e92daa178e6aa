'use strict'

const assert = require('node:assert/strict')
const { execFileSync } = require('node:child_process')
const { once } = require('node:events')
const { mkdtempSync, rmSync } = require('node:fs')
const { tmpdir } = require('node:os')
const { join } = require('node:path')
const { after, before, describe, test } = require('node:test')
const { connect } = require('node:tls')
const { inspect } = require('node:util')

const { ConfigError, PgvpdError, Proxy } = require('pgvpd')
const { startPostgres } = require('pgvpd/testing')
const { withClient } = require('./support.cjs')

describe('a proxy', () => {
  let server
  let options
  before(async () => {
    server = await startPostgres()
    await server.createAppDatabase('app')
    options = { port: 0, upstreamHost: server.host, upstreamPort: server.port }
  })
  after(() => server.stop())
  const login = (proxy, tenant) => proxy.url(tenant, 'app', { password: server.appPassword })
  const tenantOf = (url) =>
    withClient(url, async (client) => (await client.query('SELECT current_tenant_id() AS tenant')).rows[0].tenant)

  test('serves tenants between start and stop, and counts them', async () => {
    const proxy = await Proxy.start(options)
    assert.equal(proxy.host, '127.0.0.1')
    assert.ok(proxy.port > 0)
    assert.equal(await tenantOf(login(proxy, 'acme')), 'acme')
    const { connectionsTotal, sessionsTotal, refusedTotal } = proxy.stats()
    assert.deepEqual({ connectionsTotal, sessionsTotal, refusedTotal }, { connectionsTotal: 1, sessionsTotal: 1, refusedTotal: 0 })
    assert.equal(await proxy.stop({ timeout: 10 }), 0)
    await assert.rejects(tenantOf(login(proxy, 'acme')), { code: 'ECONNREFUSED' })
    // Everything else can still be asked, and to stop again changes nothing.
    assert.equal(proxy.stats().sessionsActive, 0)
    assert.equal(await proxy.stop(), 0)
  })

  test('stop closes the sessions that are left and says how many; closed resolves then', async () => {
    const proxy = await Proxy.start(options)
    await withClient(login(proxy, 'acme'), async (client) => {
      const ended = new Promise((resolve) => client.once('end', resolve))
      const closed = proxy.closed()
      assert.equal(proxy.stats().sessionsActive, 1)
      assert.equal(await proxy.stop(), 1)
      await closed
      await ended
    })
  })

  test('await using stops it', async () => {
    const proxy = await Proxy.start(options)
    await proxy[Symbol.asyncDispose]()
    await assert.rejects(tenantOf(login(proxy, 'acme')), { code: 'ECONNREFUSED' })
  })

  test('several run side by side', async () => {
    const proxies = await Promise.all(Array.from({ length: 5 }, () => Proxy.start(options)))
    assert.equal(new Set(proxies.map((proxy) => proxy.port)).size, 5)
    const tenants = proxies.map((_, index) => `t${index}`)
    assert.deepEqual(await Promise.all(proxies.map((proxy, index) => tenantOf(login(proxy, tenants[index])))), tenants)
    await Promise.all(proxies.map((proxy) => proxy.stop()))
  })

  test('TLS is spoken on a port of its own', async () => {
    const directory = mkdtempSync(join(tmpdir(), 'pgvpd-'))
    const [tlsCert, tlsKey] = [join(directory, 'cert'), join(directory, 'key')]
    const made = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-noenc', '-subj', '/CN=localhost']
    execFileSync('openssl', [...made, '-keyout', tlsKey, '-out', tlsCert], { stdio: 'ignore' })
    const proxy = await Proxy.start({ port: 0, tlsPort: 0, tlsCert, tlsKey })
    assert.ok(proxy.tlsPort > 0 && proxy.tlsPort !== proxy.port)
    const socket = connect({ port: proxy.tlsPort, host: '127.0.0.1', ALPNProtocols: ['postgresql'], rejectUnauthorized: false })
    await once(socket, 'secureConnect')
    assert.equal(socket.alpnProtocol, 'postgresql')
    socket.destroy()
    await proxy.stop()
    rmSync(directory, { recursive: true })
    const plain = await Proxy.start({ port: 0 })
    assert.equal(plain.tlsPort, undefined)
    assert.equal(plain.adminPort, undefined)
    await plain.stop()
  })

  test('it is closed when an administrator drains it', async () => {
    const proxy = await Proxy.start({ port: 0, adminPort: 0, adminToken: 'a-token-for-tests' })
    const closed = proxy.closed()
    const drained = await fetch(`http://127.0.0.1:${proxy.adminPort}/drain`, { method: 'POST', headers: { authorization: 'Bearer a-token-for-tests' } })
    assert.equal(drained.status, 202)
    await closed
    await proxy.stop()
  })

  test('a URL is encoded, with the password where one is given', async () => {
    const proxy = await Proxy.start({ port: 0, loginRoles: 'web', tenantSeparator: '#' })
    const address = `127.0.0.1:${proxy.port}`
    assert.equal(proxy.url('a@b', 'my db'), `postgresql://web%23a%40b@${address}/my%20db`)
    assert.equal(proxy.url(7, 'd', { password: 'p@:/ü' }), `postgresql://web%237:p%40%3A%2F%C3%BC@${address}/d`)
    assert.match(inspect(proxy), /^Proxy \{ host: '127\.0\.0\.1', port: \d+ \}$/)
    await proxy.stop()
  })

  test('options are taken in both cases, and values of every kind', async () => {
    const proxy = await Proxy.start({
      ...options,
      tenant_deny: ['mallory', 7, 8n],
      handshake_timeout: 2.5,
      contextInStartup: false,
      loginRoles: undefined,
    })
    await assert.rejects(tenantOf(login(proxy, 'mallory')), { code: '28000' })
    await assert.rejects(tenantOf(login(proxy, '8')), { code: '28000' })
    assert.equal(await tenantOf(login(proxy, 'acme')), 'acme')
    assert.equal(proxy.stats().refusedTotal, 2)
    await proxy.stop()
  })

  test('reload is for new sessions, and says what needs a new start', async () => {
    const proxy = await Proxy.start(options)
    await withClient(login(proxy, 'mallory'), async (client) => {
      assert.deepEqual(proxy.reload({ ...options, tenantDeny: 'mallory' }), { needsRestart: [] })
      assert.equal((await client.query('SELECT current_tenant_id() AS tenant')).rows[0].tenant, 'mallory')
    })
    await assert.rejects(tenantOf(login(proxy, 'mallory')), { code: '28000' })
    assert.deepEqual(proxy.reload({ ...options, listenHost: '::1' }), { needsRestart: ['listen_host'] })
    assert.equal(await tenantOf(login(proxy, 'mallory')), 'mallory')
    assert.throws(() => proxy.reload({ tenantDney: 'mallory' }), ConfigError)
    await proxy.stop()
  })
})

test('an error of the options lists every problem, with what would be valid', async () => {
  const error = await Proxy.start({
    upstreamHots: 'db',
    port: 'http',
    upstream_port: 5432,
    upstreamPort: 5433,
    tenantDeny: ['a,b'],
    set_role: null,
    tenantAllow: [{}],
  }).catch((error) => error)
  assert.ok(error instanceof ConfigError && error instanceof PgvpdError && error instanceof Error)
  assert.equal(error.name, 'ConfigError')
  assert.equal(error.code, 'ERR_PGVPD_CONFIG')
  const problems = Object.fromEntries(error.problems.map(({ option, message }) => [option, message]))
  assert.match(problems.upstream_hots, /did you mean upstream_host\?/)
  assert.match(problems.port, /"http" is not a port/)
  assert.match(problems.upstream_port, /set twice, the second time as upstreamPort/)
  assert.match(problems.tenant_deny, /cannot hold a comma/)
  assert.match(problems.set_role, /a value is a string, a number/)
  assert.match(problems.tenant_allow, /a value is a string, a number/)
  for (const { message } of error.problems) assert.ok(error.message.includes(message), message)
})

test('options that are no object, and a timeout that is no time, are errors', async () => {
  await assert.rejects(Proxy.start(6432), TypeError)
  await assert.rejects(Proxy.start([]), TypeError)
  assert.throws(() => new Proxy(), TypeError)
  const proxy = await Proxy.start({ port: 0 })
  await assert.rejects(proxy.stop({ timeout: -1 }), { code: 'ERR_PGVPD_CONFIG', message: /timeout/ })
  await assert.rejects(proxy.stop({ timeout: NaN }), { code: 'ERR_PGVPD_CONFIG' })
  await proxy.stop()
})

test('a port that is taken is an error of the start', async () => {
  const first = await Proxy.start({ port: 0 })
  const error = await Proxy.start({ port: first.port }).catch((error) => error)
  assert.ok(error instanceof PgvpdError && !(error instanceof ConfigError))
  assert.equal(error.code, 'ERR_PGVPD_START')
  assert.match(error.message, new RegExp(String(first.port)))
  await first.stop()
})

test('ESM and CommonJS give the same', async () => {
  assert.equal((await import('pgvpd')).Proxy, Proxy)
  assert.equal((await import('pgvpd/testing')).startPostgres, startPostgres)
  assert.deepEqual(Object.keys(await import('pgvpd')).sort(), Object.keys(require('pgvpd')).sort())
  assert.deepEqual(Object.keys(await import('pgvpd/testing')).sort(), Object.keys(require('pgvpd/testing')).sort())
})
