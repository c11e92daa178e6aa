// A private PostgreSQL and a proxy in front of it, for test suites. Types and documentation: testing.d.cts.
'use strict'

const { AssertionError } = require('node:assert')
const { readFile } = require('node:fs/promises')
const { resolve } = require('node:path')

const binding = require('./binding.cjs')
const { PgvpdError, unwrap } = require('./errors.cjs')
const { Proxy } = require('./index.cjs')
const { Postgres, existingServer } = require('./postgres.cjs')
const { valueOf } = require('./settings.cjs')

/** How the workers of a test runner, which inherit the environment, learn what the global set-up has started. */
const VARIABLE = 'PGVPD_TESTING'

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
  const server = existing ? await existingServer(existing, database) : await startPostgres(postgres)
  let proxy
  try {
    const name = await server.createAppDatabase(existing ? undefined : database)
    for (const sql of statements) await server.execute(name, sql)
    const upstream = { port: 0, upstream_host: server.host, upstream_port: server.port }
    const defaults = Object.entries(upstream).filter(([option]) => valueOf(options, option) === undefined)
    proxy = await Proxy.start({ ...Object.fromEntries(defaults), ...options })
    const state = stateOf(server, proxy, name, options)
    await prepare?.({ adminUrl: state.adminUrl, tenantUrl: (payload) => urlOf(state, payload) })
    process.env[VARIABLE] = JSON.stringify(state)
    return new Setup(server, proxy, state)
  } catch (error) {
    await proxy?.stop({ timeout: 0 })
    await server.stop()
    throw error
  }
}

/** What {@link setup} has started. */
class Setup {
  #server
  #proxy
  #state

  constructor(server, proxy, state) {
    this.#server = server
    this.#proxy = proxy
    this.#state = state
  }

  get proxy() {
    return this.#proxy
  }

  /** What a worker needs, as environment variables. */
  get env() {
    return { [VARIABLE]: JSON.stringify(this.#state) }
  }

  async stop() {
    if (process.env[VARIABLE] === this.env[VARIABLE]) delete process.env[VARIABLE]
    await this.#proxy.stop({ timeout: 0 })
    await this.#server.stop()
  }

  async [Symbol.asyncDispose]() {
    await this.stop()
  }
}

function stateOf(server, proxy, database, options) {
  const marker = binding.freshTenant('text')
  const login = proxy.url(marker, database, { password: server.appPassword }).replace(marker, '{tenant}')
  const variables = [valueOf(options, 'context_variables') ?? 'one'].flat().join(',').split(',')
  return {
    login,
    appUrl: server.appUrl(database),
    adminUrl: server.url(database),
    format: valueOf(options, 'tenant_format') ?? 'text',
    // A login gives a value to each context variable; an empty one reads as NULL.
    further: String(valueOf(options, 'value_separator') ?? ':').repeat(variables.length - 1),
  }
}

function current() {
  const state = process.env[VARIABLE]
  if (state) return JSON.parse(state)
  throw new PgvpdError(
    'ERR_PGVPD_SETUP',
    "no test server is running: set globalSetup to 'pgvpd/vitest' in vitest.config, or preset to 'pgvpd' in " +
      "jest.config, or call setup() of 'pgvpd/testing' before the tests",
  )
}

function urlOf({ login }, payload) {
  const encoded = encodeURIComponent(payload).replace(/[!'()*]/g, (c) => `%${c.charCodeAt(0).toString(16).toUpperCase()}`)
  return login.replace('{tenant}', () => encoded)
}

function tenantUrl(payload) {
  return urlOf(current(), payload)
}

function adminUrl() {
  return current().adminUrl
}

async function withTenant(test) {
  const state = current()
  const tenant = binding.freshTenant(state.format)
  return await test({ tenant, url: urlOf(state, tenant + state.further) })
}

async function assertIsolated(table, options = {}) {
  const state = needsSetup(options) ? current() : undefined
  const { column, tenants = [] } = options
  const report = unwrap(
    await binding.checkIsolation({
      table,
      column,
      tenants: tenants.map((tenant) =>
        typeof tenant === 'object'
          ? [String(tenant.name), tenant.url]
          : [String(tenant), urlOf(state, tenant + state.further)],
      ),
      login: state?.login.replace('{tenant}', () => `{tenant}${encodeURIComponent(state.further)}`),
      withoutContext: options.withoutContextUrl ?? state?.appUrl,
      admin: options.adminUrl ?? state?.adminUrl,
    }),
  )
  if (report.holds) return report
  const error = new AssertionError({ message: report.text, operator: 'assertIsolated', stackStartFn: assertIsolated })
  // Not enumerable: the message says it all, and runners print the properties of errors.
  throw Object.defineProperty(error, 'report', { value: report })
}

/** Whoever gives two URLs needs no set-up. */
function needsSetup({ tenants = [] }) {
  return tenants.length === 0 || tenants.some((tenant) => typeof tenant !== 'object')
}

module.exports = { startPostgres, setup, withTenant, tenantUrl, adminUrl, assertIsolated }
