// The package's public interface over the addon. Types and documentation: index.d.cts.
'use strict'

const binding = require('./binding.cjs')
const { PgvpdError, ConfigError, unwrap } = require('./errors.cjs')
const { entries } = require('./settings.cjs')

// A proxy that nobody refers to goes on running, as Node's servers do; the addon's would stop when it is collected.
const running = new Set()

// A thread of the addon's writes the log, and would be cut off.
if (process.env.PGVPD_LOG) process.on('exit', () => binding.flushLog())

class Proxy {
  #native

  /** @param {import('./binding.cjs').NativeProxy} native */
  constructor(native) {
    if (!(native instanceof binding.NativeProxy)) throw new TypeError('a proxy is made by `await Proxy.start({ … })`')
    this.#native = native
    running.add(native)
  }

  /** @param {import('./index.cjs').Options} [options] */
  static async start(options) {
    return new Proxy(unwrap(await binding.startProxy(entries(options))))
  }

  get host() {
    return this.#native.host
  }

  get port() {
    return this.#native.port
  }

  get tlsPort() {
    return this.#native.tlsPort ?? undefined
  }

  get adminPort() {
    return this.#native.adminPort ?? undefined
  }

  /**
   * @param {string | number | bigint} tenant
   * @param {string} database
   * @param {{ password?: string | undefined }} [options]
   */
  url(tenant, database, { password } = {}) {
    return this.#native.url(String(tenant), String(database), password)
  }

  stats() {
    return this.#native.stats()
  }

  /** @param {import('./index.cjs').Options} [options] */
  reload(options) {
    return { needsRestart: unwrap(this.#native.reload(entries(options))) }
  }

  /** @param {{ timeout?: number | undefined }} [options] */
  async stop({ timeout = 0 } = {}) {
    const closed = unwrap(await this.#native.stop(timeout))
    running.delete(this.#native)
    return closed
  }

  async closed() {
    await this.#native.closed()
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }

  [Symbol.for('nodejs.util.inspect.custom')]() {
    return `Proxy { host: '${this.host}', port: ${this.port} }`
  }
}

module.exports = { Proxy, PgvpdError, ConfigError }
