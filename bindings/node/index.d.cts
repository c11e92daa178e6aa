import type { SettingProblem, Stats } from './binding.cjs'
import type { Options as CamelCaseOptions } from './options.cjs'

export type { SettingProblem, Stats }
export type { OptionValue } from './options.cjs'

type SnakeCase<Key extends string> = Key extends `${infer Head}${infer Tail}`
  ? `${Head extends Uppercase<Head> ? `_${Lowercase<Head>}` : Head}${SnakeCase<Tail>}`
  : Key

/**
 * Every option of the proxy, in JavaScript's case (`upstreamHost`) or as in the configuration file (`upstream_host`).
 * An option that is undefined is not set; an unknown one, and one that is set in both cases, is an error.
 */
export type Options = CamelCaseOptions & {
  [Key in keyof CamelCaseOptions as SnakeCase<Key>]?: CamelCaseOptions[Key]
}

/**
 * What errors are told apart by:
 *
 * - `ERR_PGVPD_CONFIG`: the options are not valid ({@link ConfigError})
 * - `ERR_PGVPD_START`: the proxy could not listen, for instance because the port is taken
 * - `ERR_PGVPD_POSTGRES`: a PostgreSQL server for tests could not be found, started or used
 * - `ERR_PGVPD_ISOLATION`: a check of a table could not be made, or would have proved nothing
 * - `ERR_PGVPD_SETUP`: a function of `pgvpd/testing` was called and no test server is running
 */
export type ErrorCode =
  | 'ERR_PGVPD_CONFIG'
  | 'ERR_PGVPD_START'
  | 'ERR_PGVPD_POSTGRES'
  | 'ERR_PGVPD_ISOLATION'
  | 'ERR_PGVPD_SETUP'

/** An error of this package. Its message says what is wrong and what to change. */
export class PgvpdError extends Error {
  protected constructor()
  readonly code: ErrorCode
}

/** The options are not valid. The message lists every problem, and so does `problems`. */
export class ConfigError extends PgvpdError {
  private constructor()
  readonly code: 'ERR_PGVPD_CONFIG'
  readonly problems: readonly SettingProblem[]
}

/** What {@link Proxy.reload} could not change in a running proxy. */
export interface Reloaded {
  /** Options whose new value needs a restart, by their names in the configuration file; the old one stays in force. */
  needsRestart: string[]
}

/**
 * A running proxy.
 *
 * It does not keep the process alive: a script that is to serve until it is stopped says `await proxy.closed()`. It goes
 * on when nothing refers to it any more, and ends with the thread (main or worker) that started it.
 */
export class Proxy {
  private constructor()

  /**
   * Checks the options, listens, and starts to serve. `port: 0` takes a free port.
   *
   * @throws {ConfigError} an option is not valid.
   * @throws {PgvpdError} `ERR_PGVPD_START`: it could not listen.
   */
  static start(options?: Options): Promise<Proxy>

  /** The address that it listens on. */
  get host(): string

  /** The port that it listens on, also where 0 was asked for. */
  get port(): number

  /** The port of the TLS listener, the option `tlsPort`; `undefined` where there is none. */
  get tlsPort(): number | undefined
  /** The port of the admin listener, the option `adminPort`; `undefined` where there is none. */
  get adminPort(): number | undefined

  /**
   * A connection URL for a tenant: `postgresql://<role>.<tenant>@<host>:<port>/<database>`. The role is the first of
   * `loginRoles`, or `app_user`. Where there are several context variables, `tenant` holds all values, separated.
   */
  url(tenant: string | number | bigint, database: string, options?: { password?: string | undefined }): string

  /** What the proxy has done and does. */
  stats(): Stats

  /**
   * Replaces all options, for new sessions; what is not given takes its default. Sessions keep what they started with.
   * Names what needs a new start: the listener's options.
   *
   * @throws {ConfigError} an option is not valid; all stay as they were.
   */
  reload(options?: Options): Reloaded

  /**
   * Stops: no client is accepted any more, sessions may go on for `timeout` seconds (0 without it), then they are
   * closed. Resolves to the number of sessions that had to be closed.
   */
  stop(options?: { timeout?: number | undefined }): Promise<number>

  /** Resolves when the proxy has stopped and every session is closed. Keeps the process alive until then. */
  closed(): Promise<void>

  /** As {@link stop}, for `await using`. */
  [Symbol.asyncDispose](): Promise<void>
}
