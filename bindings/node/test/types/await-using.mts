// Compiled and run: nothing is left when the block ends.
import { createConnection } from 'node:net'
import { Proxy } from 'pgvpd'
import { startPostgres } from 'pgvpd/testing'

async function portsOfTheStopped(): Promise<number[]> {
  await using server = await startPostgres()
  await using proxy = await Proxy.start({ port: 0, upstreamPort: server.port })
  return [server.port, proxy.port]
}

async function connect(port: number): Promise<string> {
  const socket = createConnection(port, '127.0.0.1')
  return await new Promise<string>((resolve) => {
    socket.once('connect', () => resolve('connected'))
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code ?? 'error'))
  }).finally(() => socket.destroy())
}

const outcomes: string[] = []
for (const port of await portsOfTheStopped()) outcomes.push(await connect(port))
console.log(outcomes.join(' '))
