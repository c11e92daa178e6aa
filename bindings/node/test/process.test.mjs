// What a proxy means for the process and the threads that it runs in.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { after, before, test } from 'node:test'
import { Worker } from 'node:worker_threads'

import { Proxy } from 'pgvpd'
import { setup, withTenant } from 'pgvpd/testing'
import { runScript, withClient } from './support.cjs'

let started
before(async () => (started = await setup()))
after(() => started.stop())

const who = 'SELECT current_tenant_id() AS tenant'

test('a stopped proxy lets the process end', async () => {
  const { status, output } = await runScript(`
    import { Proxy } from 'pgvpd'
    const proxy = await Proxy.start({ port: 0 })
    const closed = proxy.closed()
    await proxy.stop()
    await closed
    process.on('exit', () => console.log('ended'))`)
  assert.deepEqual({ status, output }, { status: 0, output: 'ended\n' })
})

test('a running proxy does not keep the process', async () => {
  const { status, output } = await runScript(`
    import { Proxy } from 'pgvpd'
    await Proxy.start({ port: 0 })
    process.on('exit', () => console.log('ended'))`)
  assert.deepEqual({ status, output }, { status: 0, output: 'ended\n' })
})

test('closed keeps the process until the proxy is stopped', async () => {
  const { status, output } = await runScript(`
    import { Proxy } from 'pgvpd'
    const proxy = await Proxy.start({ port: 0 })
    setTimeout(() => proxy.stop().then(() => console.log('stopped')), 100).unref()
    await proxy.closed()
    console.log('closed')`)
  assert.equal(status, 0)
  assert.deepEqual(output.trim().split('\n').sort(), ['closed', 'stopped'])
})

test('process.exit with a running proxy and a session ends both', () =>
  withTenant(async ({ url }) => {
    const server = new URL(url)
    const { status, output } = await runScript(
      `
      import pg from 'pg'
      import { Proxy } from 'pgvpd'
      const proxy = await Proxy.start({ port: 0, upstreamPort: ${started.proxy.port}, tenantSeparator: '!', superuserBypass: decodeURIComponent('${server.username}') })
      const client = new pg.Client({ host: '127.0.0.1', port: proxy.port, user: decodeURIComponent('${server.username}'), password: '${server.password}', database: 'app' })
      await client.connect()
      console.log(proxy.stats().sessionsActive)
      client.query('SELECT pg_sleep(60)').catch(() => {})
      proxy.closed()
      process.exit(3)`,
    )
    assert.deepEqual({ status, output }, { status: 3, output: '1\n' })
  }))

test('an uncaught error with a running proxy ends the process', async () => {
  const { status, output } = await runScript(`
    import { Proxy } from 'pgvpd'
    const proxy = await Proxy.start({ port: 0 })
    proxy.closed()
    throw new Error('uncaught')`)
  assert.equal(status, 1)
  assert.match(output, /uncaught/)
})

test('a proxy that nothing refers to goes on running', async () => {
  const { status, output } = await runScript(
    `
    import { createConnection } from 'node:net'
    import { once } from 'node:events'
    import { setImmediate } from 'node:timers/promises'
    import { Proxy } from 'pgvpd'
    const port = await (async () => (await Proxy.start({ port: 0 })).port)()
    for (let round = 0; round < 10; round += 1) { gc(); await setImmediate() }
    const socket = createConnection(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.destroy()
    console.log('there')`,
    { args: ['--expose-gc'] },
  )
  assert.deepEqual({ status, output }, { status: 0, output: 'there\n' })
})

const worker = (script) =>
  new Worker(`(async () => { const { parentPort } = require('node:worker_threads'); ${script} })()`, { eval: true })
const startInWorker = `
  const { Proxy } = require(${JSON.stringify(import.meta.dirname + '/../index.cjs')})
  const proxy = await Proxy.start({ port: 0 })
  parentPort.postMessage(proxy.port)`

test('workers start and stop proxies while another thread has its own', () =>
  withTenant(async ({ tenant, url }) => {
    // None stops before all have started: another one could get its port.
    const stopWhenTold = "await new Promise((told) => parentPort.once('message', told)); await proxy.stop()"
    const workers = Array.from({ length: 4 }, () => worker(`${startInWorker}; ${stopWhenTold}`))
    const ports = await Promise.all(workers.map(async (each) => (await once(each, 'message'))[0]))
    assert.equal(new Set(ports).size, 4)
    workers.forEach((each) => each.postMessage('stop'))
    for (const each of workers) if (each.threadId !== -1) await once(each, 'exit')
    await withClient(url, async (client) => assert.equal((await client.query(who)).rows[0].tenant, tenant))
  }))

test('a worker that ends or is terminated takes its proxy along, and nobody else’s', () =>
  withTenant(async ({ tenant, url }) => {
    const own = await Proxy.start({ port: 0 })
    for (const end of ['process.exit()', 'proxy.closed(); setInterval(() => {}, 1000)']) {
      const each = worker(`${startInWorker}; ${end}`)
      const [port] = await once(each, 'message')
      await each.terminate()
      // The port is free again, so this thread can have it.
      const proxy = await Proxy.start({ port })
      await proxy.stop()
    }
    await withClient(url, async (client) => assert.equal((await client.query(who)).rows[0].tenant, tenant))
    assert.equal(own.stats().connectionsTotal, 0)
    await own.stop()
  }))

test('workers that are terminated while promises are pending do not take the process along', async () => {
  const { status, output } = await runScript(`
    import { once } from 'node:events'
    import { Worker } from 'node:worker_threads'
    import { Proxy } from 'pgvpd'
    const script = (pending) => \`(async () => {
      const { Proxy } = require(${JSON.stringify(import.meta.dirname + '/../index.cjs')})
      const proxy = await Proxy.start({ port: 0 })
      const socket = require('node:net').connect(proxy.port, '127.0.0.1').on('error', () => {})
      require('node:worker_threads').parentPort.postMessage(await new Promise((resolve) => socket.once('connect', resolve)))
      \${pending}
      setInterval(() => {}, 1000)
    })()\`
    const kept = await Proxy.start({ port: 0 })
    for (let round = 0; round < 40; round += 1) {
      const pending = ['proxy.closed()', 'proxy.stop({ timeout: 60 })', 'proxy.closed(); proxy.stop()'][round % 3]
      const worker = new Worker(script(pending), { eval: true, execArgv: [] })
      await once(worker, 'message')
      await worker.terminate()
    }
    await kept.stop()
    console.log('ended')`)
  assert.deepEqual({ status, output }, { status: 0, output: 'ended\n' })
})

test('PGVPD_LOG shows the log on standard error, and nothing does otherwise', async () => {
  const script = `
    import { Proxy } from 'pgvpd'
    const proxy = await Proxy.start({ port: 0 })
    proxy.reload({ port: 0 })
    await proxy.stop()`
  const { output } = await runScript(script, { env: { PGVPD_LOG: 'info' } })
  assert.match(output, /configuration reloaded/)
  assert.equal((await runScript(script)).output, '')
})

test('a log that nobody reads holds up neither proxies nor the process, and says what it lost', async () => {
  const script = `
    import { Proxy } from 'pgvpd'
    const proxy = await Proxy.start({ port: 0 })
    for (let round = 0; round < 10_000; round += 1) proxy.reload({ port: 0 })
    process.stdout.write('reloaded\\n')
    process.stdin.once('data', () => proxy.stop()).on('end', () => {})
    await proxy.closed()
    process.stdin.destroy()`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    cwd: import.meta.dirname,
    env: { ...process.env, PGVPD_LOG: 'info' },
    stdio: ['pipe', 'pipe', 'pipe'],
    timeout: 60_000,
  })
  // Standard error is a pipe that nobody reads, yet.
  const [text] = await once(child.stdout, 'data')
  assert.equal(String(text), 'reloaded\n')
  let log = ''
  child.stderr.setEncoding('utf8').on('data', (text) => (log += text))
  while (!log.includes('log lines are missing here')) await once(child.stderr, 'data')
  child.stdin.write('stop\n')
  const [status] = await once(child, 'close')
  assert.equal(status, 0)
})
