// PostgreSQL servers for tests: a private one, or one that is there already.
'use strict'

const { randomBytes } = require('node:crypto')
const binding = require('./binding.cjs')
const { PgvpdError, unwrap } = require('./errors.cjs')

// A server that nobody refers to goes on running; the addon's would end when it is collected.
const running = new Set()

class Postgres {
  #native

  constructor(native) {
    if (!(native instanceof binding.NativePostgres)) throw new TypeError('a server is made by `await startPostgres()`')
    this.#native = native
    running.add(native)
  }

  get host() {
    return '127.0.0.1'
  }

  get port() {
    return this.#native.port
  }

  get version() {
    return this.#native.version
  }

  get appUser() {
    return this.#native.appUser
  }

  get appPassword() {
    return this.#native.appPassword
  }

  url(database) {
    return urlOf(this, 'postgres', this.#native.password, database)
  }

  appUrl(database) {
    return urlOf(this, this.appUser, this.appPassword, database)
  }

  async execute(database, sql) {
    unwrap(await this.#native.execute(database, sql))
  }

  async createDatabase(name) {
    unwrap(await this.#native.createDatabase(name))
  }

  async createAppDatabase(name) {
    unwrap(await this.#native.createAppDatabase(name))
    return name
  }

  async stop() {
    unwrap(await this.#native.stop())
    running.delete(this.#native)
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }
}

function urlOf({ host, port }, role, password, database) {
  const address = host.includes(':') ? `[${host}]` : host
  const [user, secret, name] = [role, password, database].map(encodeURIComponent)
  return `postgresql://${user}:${secret}@${address}:${port}/${name}`
}

async function existingServer() {
  throw new Error("todo")
}

module.exports = { Postgres, existingServer }
