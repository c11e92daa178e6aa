// Run by cycles.test.mjs: starts and stops a proxy 1,000 times, and prints what the process holds.
import { createConnection } from 'node:net'
import { once } from 'node:events'
import { readdirSync, readFileSync } from 'node:fs'
import { setImmediate } from 'node:timers/promises'

import { Proxy } from 'pgvpd'

/** With a client now and then, but not always: Node.js's own sockets make more noise in memory than the proxy. */
async function cycle(number) {
  const proxy = await Proxy.start({ port: 0, tenantDeny: ['mallory'] })
  const client = number % 10 === 0 ? await connect(proxy.port) : undefined
  await Promise.all([proxy.stop(), proxy.closed(), client?.closed])
}

async function connect(port) {
  const socket = createConnection(port, '127.0.0.1')
  await once(socket, 'connect')
  // The proxy says why it closes the connection, or resets one that it has not accepted yet.
  socket.on('error', () => {}).resume()
  return { closed: new Promise((resolve) => socket.once('close', resolve)) }
}

async function held() {
  // Finalizers of the addon run in turns of the event loop after a collection.
  for (let round = 0; round < 20; round += 1) {
    gc()
    await setImmediate()
  }
  const kibibytes = /^RssAnon:\s+(\d+) kB$/m.exec(readFileSync('/proc/self/status', 'utf8'))[1]
  const count = (directory) => readdirSync(directory).length
  return { memory: kibibytes * 1024, threads: count('/proc/self/task'), files: count('/proc/self/fd') }
}

const samples = {}
for (let done = 1; done <= 1000; done += 1) {
  await cycle(done)
  if (done % 100 === 0) samples[done] = await held()
}
console.log(JSON.stringify(samples))
