// A private PostgreSQL of the system's own programs, on a port of its own, which ends with the test.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmodSync, chownSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

import { pg } from './packages.mjs'
import { until } from './wait.mjs'

const PASSWORD = 'of-the-superuser'

/** Root's servers run as somebody else, since PostgreSQL refuses root. */
const account = () => {
  if (process.getuid() !== 0) return {}
  const users = readFileSync('/etc/passwd', 'utf8').split('\n').map((line) => line.split(':'))
  const [, , uid, gid] = users.find(([name]) => name === 'postgres') ?? users.find(([name]) => name === 'nobody')
  return { uid: Number(uid), gid: Number(gid) }
}

/** A port that was free a moment ago. */
const freePort = async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

export class Postgres {
  static async start() {
    const server = new Postgres()
    // Also where a test ends in the middle: it must not outlive it.
    process.once('exit', () => server.child?.kill('SIGQUIT'))
    server.programs = process.env.PGVPD_PG_BINDIR
    server.as = account()
    server.directory = mkdtempSync(join(tmpdir(), 'pgvpd-dashboard-'))
    server.port = await freePort()
    const secret = join(server.directory, 'password')
    writeFileSync(secret, PASSWORD)
    if (server.as.uid) for (const path of [server.directory, secret]) chownSync(path, server.as.uid, server.as.gid)
    chmodSync(server.directory, 0o700)
    const options = ['-D', join(server.directory, 'data'), '-U', 'postgres', '-A', 'scram-sha-256', `--pwfile=${secret}`, '-E', 'UTF8', '--no-sync']
    execFileSync(join(server.programs, 'initdb'), [...options, '--locale=C.UTF-8'], { ...server.as, cwd: server.directory, stdio: 'pipe' })
    await server.resume()
    return server
  }

  /** Starts it, the first time or again. */
  async resume() {
    const options = ['listen_addresses=127.0.0.1', `unix_socket_directories=${this.directory}`, `port=${this.port}`, 'fsync=off', 'max_connections=200']
    const program = join(this.programs, 'postgres')
    const args = ['-D', join(this.directory, 'data'), ...options.flatMap((option) => ['-c', option])]
    this.child = spawn(program, args, { ...this.as, cwd: this.directory, stdio: 'ignore' })
    await until('PostgreSQL answers', async () => {
      if (this.child.exitCode !== null) throw new Error(`PostgreSQL has ended with ${this.child.exitCode}`)
      return this.query('postgres', 'SELECT 1').catch(() => false)
    })
  }

  /** Ends it at once, with every connection. */
  async stop() {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return
    const ended = once(this.child, 'exit')
    this.child.kill('SIGINT')
    await ended
  }

  async remove() {
    await this.stop()
    rmSync(this.directory, { recursive: true, force: true })
  }

  url(database) {
    return `postgresql://postgres@127.0.0.1:${this.port}/${database}`
  }

  /** What commands of pgvpd need in their environment. */
  environment() {
    return { PGPASSWORD: PASSWORD }
  }

  /** Runs statements as the superuser. */
  async query(database, statements) {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: 'postgres', database, password: PASSWORD })
    client.on('error', () => {})
    await client.connect()
    try {
      return await client.query(statements)
    } finally {
      await client.end()
    }
  }
}
