// A real database with pgvpd's SQL, a proxy before it, and what a test needs to know of both.
import { execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'

import { pg } from './packages.mjs'
import { Postgres } from './postgres.mjs'

export const TOKEN = 'of-the-administrator'
export const DENIED = 'mallory'
const CLIENTS_PASSWORD = 'of-the-clients'
const APP_PASSWORD = 'of-app-user'

const SCHEMA = `
  CREATE TABLE orders (tenant_id text NOT NULL, id int GENERATED ALWAYS AS IDENTITY, item text, PRIMARY KEY (tenant_id, id));
  CREATE TABLE plans (tenant_id text PRIMARY KEY, plan text);
  GRANT SELECT, INSERT ON orders TO app_user;
  GRANT SELECT ON plans TO app_user;`

const RESOLVERS = `
  [[resolver]]
  name = "plan_of_tenant"
  query = "SELECT plan FROM plans WHERE tenant_id = $1"
  params = ["app.current_tenant_id"]
  inject = { "app.plan" = "plan" }
  cache_ttl = 60
  cache_negative = true`

export class Stage {
  /** With these databases, and with options of the proxy beside those that every stage has. */
  static async start({ databases = ['shop'], options = {} } = {}) {
    const stage = new Stage()
    process.once('exit', () => stage.proxy?.kill('SIGKILL'))
    stage.directory = mkdtempSync(join(tmpdir(), 'pgvpd-dashboard-proxy-'))
    stage.postgres = await Postgres.start()
    const file = (name) => join(stage.directory, name)
    writeFileSync(file('app_user'), APP_PASSWORD, { mode: 0o600 })
    writeFileSync(file('resolvers.toml'), RESOLVERS)
    stage.config = file('pgvpd.conf')
    for (const database of databases) {
      await stage.postgres.query('postgres', `CREATE DATABASE ${database}`)
      stage.command('init', '-d', stage.postgres.url(database), '--config', stage.config, '--app-password-file', file('app_user'))
      await stage.postgres.query(database, SCHEMA)
      stage.command('protect', '-d', stage.postgres.url(database), 'orders', 'plans')
    }
    const all = {
      port: 0, admin_port: 0, admin_token: TOKEN, log_format: 'json', tenant_deny: DENIED,
      pool_mode: 'session', pool_size: 8, pool_checkout_timeout: 60, pool_password: CLIENTS_PASSWORD, upstream_password: APP_PASSWORD,
      resolvers: file('resolvers.toml'), ...options
    }
    appendFileSync(stage.config, Object.entries(all).map(([name, value]) => `${name} = ${value}\n`).join(''))
    await stage.run()
    return stage
  }

  command(...args) {
    execFileSync(process.env.PGVPD_PROGRAM, args, { env: { ...process.env, ...this.postgres.environment() }, stdio: 'pipe' })
  }

  /** Starts the proxy; the second time on the same ports. */
  async run() {
    const ports = this.admin ? ['--port', this.port, '--admin-port', this.admin.split(':').at(-1)] : []
    this.proxy = spawn(process.env.PGVPD_PROGRAM, ['--config', this.config, ...ports], { stdio: ['ignore', 'ignore', 'pipe'] })
    const said = []
    // Read on after that, since a full pipe would hold it up.
    const lines = createInterface({ input: this.proxy.stderr })
    const listening = new Promise((resolve, reject) => {
      lines.on('line', (line) => {
        said.push(line)
        const event = JSON.parse(line)
        if (event.message === 'pgvpd is listening') resolve(event)
      })
      this.proxy.once('exit', () => reject(new Error(`the proxy has ended: ${said.slice(-5).join('\n')}`)))
    })
    const { address, admin_address: admin } = await listening
    this.port = address.split(':').at(-1)
    this.admin = `http://${admin}`
  }

  /** Kills the proxy, as a crash would. */
  async kill() {
    if (this.proxy.exitCode !== null || this.proxy.signalCode !== null) return
    const ended = once(this.proxy, 'exit')
    this.proxy.kill('SIGKILL')
    await ended
  }

  async remove() {
    await this.kill()
    await this.postgres.remove()
    rmSync(this.directory, { recursive: true, force: true })
  }

  /** A client of a tenant's that is not connected yet. */
  client(tenant, { database = 'shop', password = CLIENTS_PASSWORD } = {}) {
    const client = new pg.Client({ host: '127.0.0.1', port: this.port, user: `app_user.${tenant}`, database, password })
    // Ends of sessions are part of the test.
    client.on('error', () => {})
    return client
  }

  /** A session of a tenant's. */
  async session(tenant, options) {
    const client = this.client(tenant, options)
    await client.connect()
    return client
  }

  async status() {
    return (await fetch(`${this.admin}/status?sessions=1000`)).json()
  }

  async post(path) {
    const answer = await fetch(`${this.admin}${path}`, { method: 'POST', headers: { authorization: `Bearer ${TOKEN}` } })
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`)
    return answer.json()
  }
}
