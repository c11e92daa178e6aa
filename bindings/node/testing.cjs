// A private PostgreSQL and a proxy in front of it, for test suites. Types and documentation: testing.d.cts.
'use strict'

const { AssertionError } = require('node:assert')
const { readFile } = require('node:fs/promises')
const { resolve } = require('node:path')

const binding = require('./binding.cjs')
const { PgvpdError, unwrap } = require('./errors.cjs')
const { Proxy } = require('./index.cjs')
const { ExistingServer, Postgres } = require('./postgres.cjs')
const { valueOf } = require('./settings.cjs')

/** How the workers of a test runner, which inherit the environment, learn what the global set-up has started. */
const VARIABLE = 'PGVPD_TESTING'

/** @typedef {InstanceType<typeof Postgres> | InstanceType<typeof ExistingServer>} Server */

/**
 * What they learn.
 * @typedef {object} State
 * @property {string} login a tenant's URL, in which `{tenant}` stands for all context values
 * @property {string} appUrl the application's role, past the proxy
 * @property {string} adminUrl the superuser, past the proxy
 * @property {string} format the option `tenant_format`
 * @property {string} further what follows the tenant's name where there are further context variables
 */

/** @param {import('./testing.cjs').PostgresOptions} [options] */
async function startPostgres({ binDir, settings = {} } = {}) {
  const texts = Object.entries(settings).map(([name, value]) => [name, String(value)])
  return new Postgres(unwrap(await binding.startPostgres(binDir, Object.fromEntries(texts))))
}

/** @param {import('./testing.cjs').SetupOptions} [options] */
async function setup({
  schema = [],
  prepare,
  database = 'app',
  proxy: options = {},
  root = process.cwd(),
  server: existing,
  ...postgres
} = {}) {
  const files = [schema].flat().map((file) => resolve(root, file))
  const statements = await Promise.all(files.map((file) => readFile(file, 'utf8')))
  const server = existing ? new ExistingServer(existing) : await startPostgres(postgres)
  let proxy
  try {
    const name = await server.createAppDatabase(database)
    for (const sql of statements) await server.execute(name, sql)
    const upstream = { port: 0, upstream_host: server.host, upstream_port: server.port }
    const defaults = Object.entries(upstream).filter(([option]) => valueOf(options, option) === undefined)
    proxy = await Proxy.start({ ...Object.fromEntries(defaults), ...options })
    const state = stateOf(server, proxy, name, options)
    await prepare?.({ adminUrl: state.adminUrl, tenantUrl: (payload) => urlOf(state, payload) })
    process.env[VARIABLE] = JSON.stringify(state)
    return new Setup(server, proxy, state)
  } catch (error) {
    await proxy?.stop()
    await server.stop()
    throw error
  }
}

class Setup {
  #server

  /**
   * @param {Server} server
   * @param {Proxy} proxy
   * @param {State} state
   */
  constructor(server, proxy, state) {
    this.#server = server
    this.proxy = proxy
    this.env = { [VARIABLE]: JSON.stringify(state) }
  }

  async stop() {
    if (process.env[VARIABLE] === this.env[VARIABLE]) delete process.env[VARIABLE]
    await this.proxy.stop()
    await this.#server.stop()
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }
}

/**
 * @param {Server} server
 * @param {Proxy} proxy
 * @param {string} database
 * @param {import('./index.cjs').Options} options
 * @returns {State}
 */
function stateOf(server, proxy, database, options) {
  const marker = binding.freshTenant('text')
  const variables = [valueOf(options, 'context_variables') ?? 'one'].flat().join(',').split(',')
  return {
    login: proxy.url(marker, database, { password: server.appPassword }).replace(marker, '{tenant}'),
    appUrl: server.appUrl(database),
    adminUrl: server.url(database),
    format: String(valueOf(options, 'tenant_format') ?? 'text'),
    // A login gives a value to each context variable; an empty one reads as NULL.
    further: String(valueOf(options, 'value_separator') ?? ':').repeat(variables.length - 1),
  }
}

/** @returns {State} */
function current() {
  const state = process.env[VARIABLE]
  if (state) return JSON.parse(state)
  throw new PgvpdError(
    'ERR_PGVPD_SETUP',
    "no test server is running: set globalSetup to 'pgvpd/vitest' in vitest.config, or preset to 'pgvpd' in " +
      "jest.config, or call setup() of 'pgvpd/testing' before the tests",
  )
}

/**
 * @param {Pick<State, 'login'>} state
 * @param {string} payload
 */
function urlOf({ login }, payload) {
  return login.replace('{tenant}', () => encodeURIComponent(payload))
}

/** @param {string} payload */
function tenantUrl(payload) {
  return urlOf(current(), payload)
}

function adminUrl() {
  return current().adminUrl
}

/**
 * @template Result
 * @param {(access: import('./testing.cjs').TenantAccess) => Result | Promise<Result>} test
 */
async function withTenant(test) {
  const state = current()
  const tenant = binding.freshTenant(state.format)
  return await test({ tenant, url: urlOf(state, tenant + state.further) })
}

/**
 * @param {string} table
 * @param {import('./testing.cjs').IsolationOptions} [options]
 */
async function assertIsolated(table, options = {}) {
  const tenants = options.tenants ?? []
  // Whoever gives two URLs needs no set-up.
  const state = tenants.length > 0 && tenants.every((tenant) => typeof tenant === 'object') ? undefined : current()
  const report = unwrap(
    await binding.checkIsolation({
      table,
      ...(options.column !== undefined && { column: options.column }),
      tenants: (tenants.length > 0 ? tenants : newTenants(state)).map((tenant) => loginOf(state, tenant)),
      ...accessOf(state, options),
    }),
  )
  if (report.holds) return report
  const error = new AssertionError({ message: report.text, operator: 'assertIsolated', stackStartFn: assertIsolated })
  // Not enumerable: the message says it all, and runners print the properties of errors.
  throw Object.defineProperty(error, 'report', { value: report })
}

/**
 * None where any name can log in: the check then takes names that fit the column.
 * @param {State | undefined} state
 */
function newTenants({ format } = current()) {
  return format === 'text' ? [] : [binding.freshTenant(format), binding.freshTenant(format)]
}

/**
 * @param {State | undefined} state
 * @param {import('./testing.cjs').Tenant} tenant
 * @returns {[string, string]}
 */
function loginOf(state, tenant) {
  if (typeof tenant === 'object') return [tenant.name, tenant.url]
  const { login, further } = state ?? current()
  return [tenant, urlOf({ login }, tenant + further)]
}

/**
 * @param {State | undefined} state
 * @param {import('./testing.cjs').IsolationOptions} options
 */
function accessOf(state, options) {
  const withoutContext = options.withoutContextUrl ?? state?.appUrl
  const admin = options.adminUrl ?? state?.adminUrl
  return {
    ...(state && { login: state.login.replace('{tenant}', () => `{tenant}${encodeURIComponent(state.further)}`) }),
    ...(withoutContext !== undefined && { withoutContext }),
    ...(admin !== undefined && { admin }),
  }
}

module.exports = { startPostgres, setup, withTenant, tenantUrl, adminUrl, assertIsolated }
