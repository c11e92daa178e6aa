// Made by scripts/options.mjs from docs/configuration.md; do not edit.

/** A text, a number, or a list; times are seconds. */
export type OptionValue = string | number | bigint | readonly (string | number | bigint)[]

/** Every option of the proxy. What is undefined is not set. */
export interface Options {
  /** TCP port to listen on. 0 takes a free one; the log says which. Default: `6432`. */
  port?: OptionValue | undefined
  /** Address or host name to bind. `0.0.0.0` is every IPv4 address, `::` every address. A name with several addresses is bound on all of them that this machine has. Default: `127.0.0.1`. */
  listenHost?: OptionValue | undefined
  /** Absolute path of an existing directory, to listen also on the Unix socket `.s.PGSQL.<port>` in it. The socket is removed at the end. Who may enter the directory may connect. Default: `off`. */
  listenUnixDir?: OptionValue | undefined
  /** `require`: every TCP connection begins with a PROXY header, version 1 or 2, by which a load balancer says who the client is. Needs `proxy_protocol_from`. Default: `off`. */
  proxyProtocol?: OptionValue | undefined
  /** Where the load balancers are: networks such as `10.0.0.0/8`, addresses, `loopback`. Nobody else may connect over TCP. Default: none. */
  proxyProtocolFrom?: OptionValue | undefined
  /** Host name or address of PostgreSQL. An absolute path is the directory of its Unix socket. Default: `127.0.0.1`. */
  upstreamHost?: OptionValue | undefined
  /** Port of PostgreSQL. Default: `5432`. */
  upstreamPort?: OptionValue | undefined
  /** Stands between role and tenant in the user name. The first one counts, so a tenant may contain it and a role may not. One character or several. Default: `.`. */
  tenantSeparator?: OptionValue | undefined
  /** The session variables that the user name fills, the tenant first: 1 to 32 names in lower case, with a dot. Names that begin with `pgvpd.` are kept for the proxy. Default: `app.current_tenant_id`. */
  contextVariables?: OptionValue | undefined
  /** Stands between the values where there are several variables. With one variable it means nothing: the tenant is all that follows `tenant_separator`. Default: `:`. */
  valueSeparator?: OptionValue | undefined
  /** What the first value must be: `text` (anything), `uuid` or `integer`. Default: `text`. */
  tenantFormat?: OptionValue | undefined
  /** Also send the context as startup parameters, so that it survives `RESET ALL` and `DISCARD ALL`. Default: `true`. */
  contextInStartup?: boolean | 'true' | 'false' | undefined
  /** Role to switch to after the login. Default: the login role. */
  setRole?: OptionValue | undefined
  /** The roles that a tenant login may name. Default: any. */
  loginRoles?: OptionValue | undefined
  /** User names that are passed through without a tenant: no context, every right of that role. Compared exactly, as a whole. Empty for nobody. Default: `postgres`. */
  superuserBypass?: OptionValue | undefined
  /** Where such a user may come from: networks such as `10.0.0.0/8`, addresses, `loopback`, `unix`. Default: `loopback,unix`. */
  bypassFrom?: OptionValue | undefined
  /** Let remote clients in where PostgreSQL asks for no proof. Default: `false`. */
  allowTrust?: boolean | 'true' | 'false' | undefined
  /** Let passwords cross a network in the clear. Default: `false`. */
  allowCleartext?: boolean | 'true' | 'false' | undefined
  /** The tenants that may log in; no others can. Not together with `tenant_deny`. Default: all. */
  tenantAllow?: OptionValue | undefined
  /** The tenants that may not log in. A client cannot tell a denied tenant from one that is not allowed. Default: none. */
  tenantDeny?: OptionValue | undefined
  /** Client sessions at one time, 1 to 10000000. One more gets 53300. Default: `10000`. */
  maxClientConnections?: OptionValue | undefined
  /** Client sessions of one tenant at one time, 1 to 10000000, whatever their role and database. One more gets 53300. Default: none. */
  tenantMaxConnections?: OptionValue | undefined
  /** New connections of one tenant in a second, 1 to 1000000; as many may come at once. One more gets 53300. Default: none. */
  tenantRateLimit?: OptionValue | undefined
  /** Seconds, at least 0.001, that a tenant's session may be idle, or one request outstanding. Default: none. */
  tenantQueryTimeout?: OptionValue | undefined
  /** Seconds for startup, authentication and setting the context together, at least 0.001. A slower login gets 57014. Default: `30`. */
  handshakeTimeout?: OptionValue | undefined
  /** Seconds that sessions may go on after SIGTERM or SIGINT. With 0 they are closed at once. Default: `30`. */
  shutdownTimeout?: OptionValue | undefined
  /** How a tenant's bytes are passed on after the login: `raw`, without looking at them, or `framed`, message by message. Where it is not set, an option that must see messages (`tenant_query_timeout`) makes it `framed`. Default: `raw`. */
  relay?: OptionValue | undefined
  /** Pooling of upstream connections. This release has `none`: each session has one of its own. Default: `none`. */
  poolMode?: OptionValue | undefined
  /** `debug`, `info`, `warn`, `error`, `trace`, `off`, or a filter of the `tracing` library such as `warn,pgvpd_core=debug`. Default: `info`. */
  logLevel?: OptionValue | undefined
  /** `text` for people, `json` for one object a line. Default: `text`. */
  logFormat?: OptionValue | undefined
}
