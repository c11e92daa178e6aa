// PostgreSQL servers for tests: a private one, or one that is there already.
'use strict'

const { randomBytes } = require('node:crypto')
const binding = require('./binding.cjs')
const { unwrap } = require('./errors.cjs')

// A server that nobody refers to goes on running; the addon's would end when it is collected.
const running = new Set()

class Postgres {
  #native

  /** @param {import('./binding.cjs').NativePostgres} native */
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

  /** @param {string} database */
  url(database) {
    return urlOf(this, 'postgres', this.#native.password, database)
  }

  /** @param {string} database */
  appUrl(database) {
    return urlOf(this, this.appUser, this.appPassword, database)
  }

  /**
   * @param {string} database
   * @param {string} sql
   */
  async execute(database, sql) {
    unwrap(await this.#native.execute(database, sql))
  }

  /** @param {string} name */
  async createDatabase(name) {
    await this.execute('postgres', `CREATE DATABASE ${identifier(name)}`)
  }

  /** @param {string} name */
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

/**
 * @param {{ host: string, port: number }} server
 * @param {string} role
 * @param {string} password
 * @param {string} database
 */
function urlOf({ host, port }, role, password, database) {
  const [user, secret, name] = [role, password, database].map(encodeURIComponent)
  return `postgresql://${user}:${secret}@${host}:${port}/${name}`
}

/** A server that is there already, in which one database is made and dropped again. */
class ExistingServer {
  #url
  /** @type {string | undefined} */
  #database

  /** @param {import('./testing.cjs').ExistingServer} server */
  constructor({ url, appPassword }) {
    this.#url = new URL(url)
    this.appUser = 'app_user'
    this.appPassword = appPassword
  }

  get host() {
    return this.#url.hostname.replace(/^\[|\]$/g, '') || '127.0.0.1'
  }

  get port() {
    return Number(this.#url.port || 5432)
  }

  /** @param {string} database */
  url(database) {
    return this.#at(database, {})
  }

  /** @param {string} database */
  appUrl(database) {
    return this.#at(database, { username: this.appUser, password: encodeURIComponent(this.appPassword) })
  }

  /**
   * @param {string} database
   * @param {{ username?: string, password?: string }} login
   */
  #at(database, login) {
    return Object.assign(new URL(this.#url), login, { pathname: `/${encodeURIComponent(database)}` }).href
  }

  /**
   * @param {string} database
   * @param {string} sql
   */
  async execute(database, sql) {
    unwrap(await binding.executeAt(this.url(database), sql))
  }

  /**
   * A database of its own, so that suites that run at the same time do not meet.
   * @param {string} name
   */
  async createAppDatabase(name) {
    this.#database = `${name}_${randomBytes(4).toString('hex')}`
    await this.#executeAtServer(`CREATE DATABASE ${identifier(this.#database)}`)
    // A role that is there keeps its password: other suites, or people, use it.
    await this.execute(
      this.#database,
      `DO $$ BEGIN
         CREATE ROLE ${this.appUser} LOGIN PASSWORD ${literal(this.appPassword)};
       EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
       END $$`,
    )
    for (const sql of binding.setupSql()) await this.execute(this.#database, sql)
    return this.#database
  }

  async stop() {
    if (!this.#database) return
    await this.#executeAtServer(`DROP DATABASE IF EXISTS ${identifier(this.#database)} WITH (FORCE)`)
    this.#database = undefined
  }

  /** @param {string} sql */
  async #executeAtServer(sql) {
    unwrap(await binding.executeAt(this.#url.href, sql))
  }
}

/** @param {string} name */
const identifier = (name) => `"${name.replaceAll('"', '""')}"`
/** @param {string} text */
const literal = (text) => `E'${text.replace(/[\\']/g, '\\$&')}'`

module.exports = { Postgres, ExistingServer }
