// Made by scripts/options.mjs from docs/configuration.md; do not edit.

/** A text, a number, or a list; times are seconds. */
export type OptionValue = string | number | bigint | readonly (string | number | bigint)[]

/** Every option of the proxy. What is undefined is not set. */
export interface Options {
  /** TCP port to listen on. 0 selects a free one; the log says which. Default: `6432`. */
  port?: OptionValue | undefined
  /** Address or host name to bind. `0.0.0.0` is every IPv4 address, `::` every address. A name with several addresses is bound on each of them that belongs to this machine. Default: `127.0.0.1`. */
  listenHost?: OptionValue | undefined
  /** Absolute path of an existing directory, to listen also on the Unix socket `.s.PGSQL.<port>` in it. The socket is removed on exit. Any user who can enter the directory can connect. Default: `off`. */
  listenUnixDir?: OptionValue | undefined
  /** Let a new process listen on the same ports at the same time, to take over from this one (SO_REUSEPORT). Default: `false`. */
  reusePort?: boolean | 'true' | 'false' | undefined
  /** `require`: every TCP connection begins with a PROXY header, version 1 or 2, in which a load balancer identifies the client. Needs `proxy_protocol_from`. Default: `off`. */
  proxyProtocol?: OptionValue | undefined
  /** The load balancers' addresses: networks such as `10.0.0.0/8`, addresses, `loopback`. Nobody else may connect over TCP. Default: none. */
  proxyProtocolFrom?: OptionValue | undefined
  /** Host name or address of PostgreSQL. An absolute path is the directory of its Unix socket. Default: `127.0.0.1`. */
  upstreamHost?: OptionValue | undefined
  /** Port of PostgreSQL. Default: `5432`. */
  upstreamPort?: OptionValue | undefined
  /** PEM file with the proxy's certificate, followed by any intermediate certificates up to its authority. It enables TLS with clients. Default: none. */
  tlsCert?: OptionValue | undefined
  /** PEM file with its private key, not encrypted. Default: none. */
  tlsKey?: OptionValue | undefined
  /** TLS on `port`: `disable`; `allow`, for clients that ask for it; or `require`, which refuses TCP clients without it. With `client_cert`, `require` is the default. Default: allow with tls_cert, else disable. */
  clientTls?: OptionValue | undefined
  /** TCP port that accepts only TLS, whatever `client_tls` says. 0 selects a free one. Default: `off`. */
  tlsPort?: OptionValue | undefined
  /** PEM file with the authorities whose certificates clients may present. Default: none. */
  tlsClientCa?: OptionValue | undefined
  /** `verify`: clients must present a certificate. `tenant`: it also decides which tenants they may claim, according to `cert_map`. Default: `none`. */
  clientCert?: OptionValue | undefined
  /** TOML file: which role and tenant a certificate may claim, by common name, DNS name or URI. Default: none. */
  certMap?: OptionValue | undefined
  /** Use TLS with PostgreSQL. If the server does not support it, that is an error. Default: `false`. */
  upstreamTls?: boolean | 'true' | 'false' | undefined
  /** Verify its certificate, and that `upstream_host` is among the names in it. Default: `true`. */
  upstreamTlsVerify?: boolean | 'true' | 'false' | undefined
  /** PEM file with the authorities that may have issued its certificate, or with the certificate itself. Without it, the authorities that the system trusts. Default: none. */
  upstreamTlsCa?: OptionValue | undefined
  /** PEM file with the certificate that the proxy presents to a server that asks for one. Default: none. */
  upstreamTlsCert?: OptionValue | undefined
  /** PEM file with its private key, not encrypted. Default: none. */
  upstreamTlsKey?: OptionValue | undefined
  /** Separates role and tenant in the user name. The first occurrence counts, so a tenant may contain it and a role may not. One character or several. Default: `.`. */
  tenantSeparator?: OptionValue | undefined
  /** The session variables that the user name fills, the tenant first: 1 to 32 names in lower case, with a dot. Names that begin with `pgvpd.` are reserved for the proxy. Default: `app.current_tenant_id`. */
  contextVariables?: OptionValue | undefined
  /** Separates the values if there are several variables. With one variable it has no meaning: the tenant is everything after `tenant_separator`. Default: `:`. */
  valueSeparator?: OptionValue | undefined
  /** What the first value must be: `text` (anything), `uuid` or `integer`. Default: `text`. */
  tenantFormat?: OptionValue | undefined
  /** Also send the context as startup parameters, so that it survives `RESET ALL` and `DISCARD ALL`. Default: `true`. */
  contextInStartup?: boolean | 'true' | 'false' | undefined
  /** Role to switch to after the login. Default: the login role. */
  setRole?: OptionValue | undefined
  /** Send `pgvpd:<tenant>` as `application_name`, whatever the client sends, so that `pg_stat_activity` shows who is who. PostgreSQL keeps 63 bytes of it; anything that is not printable ASCII becomes `?`. A session can change it later, so it helps but proves nothing. Sessions of one role see each other's, so tenants can learn the names of other tenants. Default: `false`. */
  tenantApplicationName?: boolean | 'true' | 'false' | undefined
  /** How the database distinguishes tenants: `context`, by the session's context, or `role`, by a separate login role for each tenant. Default: `context`. */
  isolation?: OptionValue | undefined
  /** `off`: the context is a plain setting. `prefer`: it is signed, and a database without a key is served as well. `require`: it is signed, and a session begins only after the database has verified it. Default: require with a key, else off. */
  contextSigning?: OptionValue | undefined
  /** The key: 64 to 128 hexadecimal digits. Default: none. */
  contextSigningKey?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  contextSigningKeyFile?: OptionValue | undefined
  /** The name by which the database knows the key. Default: `1`. */
  contextKeyId?: OptionValue | undefined
  /** The previous key, which is used for databases that do not know the current one yet. Default: none. */
  contextPreviousSigningKey?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  contextPreviousSigningKeyFile?: OptionValue | undefined
  /** The name by which the database knows the previous key. Default: `0`. */
  contextPreviousKeyId?: OptionValue | undefined
  /** What happens to a login with a role that is not subject to policies: `refuse` or `warn`. Default: `refuse`. */
  roleCheck?: OptionValue | undefined
  /** Settings that every session starts with: `name=value` pairs between semicolons. Default: `local_preload_libraries=; row_security=on; standard_conforming_strings=on`. */
  pinSettings?: OptionValue | undefined
  /** Which notifications of `LISTEN` reach a session: `off`, `tenant` or `all`. Default: `tenant`. */
  notifications?: OptionValue | undefined
  /** The roles that a tenant login may name. With `pool_password`, the default is `app_user`. Default: any. */
  loginRoles?: OptionValue | undefined
  /** User names that are passed through without a tenant: no context, every right of that role. Compared exactly, in full. Empty means nobody. Default: `postgres`. */
  superuserBypass?: OptionValue | undefined
  /** Where such a user may connect from: networks such as `10.0.0.0/8`, addresses, `loopback`, `unix`. Default: `loopback,unix`. */
  bypassFrom?: OptionValue | undefined
  /** Let remote clients in even if PostgreSQL asks for no authentication. Default: `false`. */
  allowTrust?: boolean | 'true' | 'false' | undefined
  /** Let passwords cross a network in cleartext. Default: `false`. */
  allowCleartext?: boolean | 'true' | 'false' | undefined
  /** The tenants that may log in; no others can. Not together with `tenant_deny`. Default: all. */
  tenantAllow?: OptionValue | undefined
  /** The tenants that may not log in. A client cannot tell a denied tenant from one that is not allowed. Default: none. */
  tenantDeny?: OptionValue | undefined
  /** Maximum number of concurrent client sessions, 1 to 10000000. One more gets 53300. Default: `10000`. */
  maxClientConnections?: OptionValue | undefined
  /** Maximum number of concurrent logins, of clients that are not authenticated yet, 1 to 10000000. Further ones wait. Default: `40`. */
  maxLogins?: OptionValue | undefined
  /** The same for one client address, one IPv6 /64, or the Unix socket, 1 to 10000000. Further ones wait. Default: `20`. */
  maxLoginsPerAddress?: OptionValue | undefined
  /** Maximum number of concurrent client sessions of one tenant, 1 to 10000000, whatever their role and database. One more gets 53300. Default: none. */
  tenantMaxConnections?: OptionValue | undefined
  /** New sessions of one tenant per second, 1 to 1000000; as many may begin at once. One more gets 53300. Default: none. */
  tenantRateLimit?: OptionValue | undefined
  /** Seconds, at least 0.001, for which a tenant's session may be idle, or one request outstanding. Default: none. */
  tenantQueryTimeout?: OptionValue | undefined
  /** TOML file: other limits for some tenants, by name or pattern, and tenants that may not log in. Default: none. */
  tenants?: OptionValue | undefined
  /** Seconds for startup, authentication and setting the context together, at least 0.001. A slower login gets 57014. Default: `30`. */
  handshakeTimeout?: OptionValue | undefined
  /** Seconds without a byte, 1 to 32767, after which TCP probes whether the other end is still there. `0`: never. Default: `60`. */
  tcpKeepaliveIdle?: OptionValue | undefined
  /** Seconds between two probes, 1 to 32767. Default: `10`. */
  tcpKeepaliveInterval?: OptionValue | undefined
  /** Unanswered probes, 1 to 127, after which the connection counts as lost. Default: `6`. */
  tcpKeepaliveCount?: OptionValue | undefined
  /** Seconds, 1 to 32767, for which the other end may leave data unacknowledged, or not accept it, before the connection counts as lost. `0`: the system's own limit, some 15 minutes. Linux only. Default: `120`. */
  tcpUserTimeout?: OptionValue | undefined
  /** Seconds for which sessions may continue after SIGTERM or SIGINT. With 0 they are closed immediately. Default: `30`. */
  shutdownTimeout?: OptionValue | undefined
  /** How a tenant's bytes are passed on after the login: `raw`, without parsing them, or `framed`, message by message. If it is not set, an option that needs to see messages (`tenant_query_timeout`) makes it `framed`. Default: `raw`. */
  relay?: OptionValue | undefined
  /** `none`: each session has its own upstream connection, and PostgreSQL authenticates the client. `session`: it uses a connection of a pool for as long as it lasts, and the proxy authenticates the client. Default: `none`. */
  poolMode?: OptionValue | undefined
  /** Upstream connections of one pool, that is of one role in one database, 1 to 10000000. Default: `20`. */
  poolSize?: OptionValue | undefined
  /** Upstream connections of all pools together. Idle ones of other pools are closed to make room. Default: `100`. */
  maxUpstreamConnections?: OptionValue | undefined
  /** Upstream connections that a pool keeps open once it has been used. Default: `0`. */
  minPoolSize?: OptionValue | undefined
  /** Seconds that a client waits for an upstream connection, then 53300. Default: `5`. */
  poolCheckoutTimeout?: OptionValue | undefined
  /** Seconds after which an idle upstream connection is closed. Default: `300`. */
  poolIdleTimeout?: OptionValue | undefined
  /** Seconds after which an upstream connection is closed, as soon as no client uses it. The time of each connection is up to a tenth shorter, so that they are not all closed at once. Default: `3600`. */
  serverLifetime?: OptionValue | undefined
  /** An upstream connection that has been idle for longer is tested before a client gets it. With 0, every connection is. Default: `30`. */
  serverCheckDelay?: OptionValue | undefined
  /** How clients authenticate: `scram-sha-256`, `md5` or `cleartext`. Default: `scram-sha-256`. */
  clientAuth?: OptionValue | undefined
  /** A file of roles and their secrets, in the format of PgBouncer's `userlist.txt`. Default: none. */
  authFile?: OptionValue | undefined
  /** The role that queries the database for the verifiers of other roles. Needs `auth_dbname`. Default: none. */
  authUser?: OptionValue | undefined
  /** The database that it queries: one where `sql/setup.sql` was run. Default: none. */
  authDbname?: OptionValue | undefined
  /** The query that it runs, with the role's name as `$1`; it returns the role and its verifier. Default: `SELECT role, verifier FROM public.pgvpd_get_auth($1)`. */
  authQuery?: OptionValue | undefined
  /** Seconds for which an answer is cached. With 0, each login asks. Default: `30`. */
  authQueryTtl?: OptionValue | undefined
  /** One password for all clients. It is valid only for `login_roles`, whose default is then `app_user`. Default: none. */
  poolPassword?: OptionValue | undefined
  /** A file that holds it. A trailing newline is ignored. Default: none. */
  poolPasswordFile?: OptionValue | undefined
  /** The password with which the proxy logs in to PostgreSQL. Default: none. */
  upstreamPassword?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  upstreamPasswordFile?: OptionValue | undefined
  /** A TOML file of resolvers: queries that determine further variables of the context at login. Default: none. */
  resolvers?: OptionValue | undefined
  /** Seconds that one resolver may take, at least 0.001. Then the login is refused with 57014. Default: `5`. */
  resolverTimeout?: OptionValue | undefined
  /** The role that runs the queries, on a few connections of the proxy's own. If it is not set, they run on the session's own connection. Default: none. */
  resolverUser?: OptionValue | undefined
  /** The password with which the proxy logs in as that role. If it is not set, the role's entry in `auth_file`, otherwise `upstream_password`. Default: none. */
  resolverPassword?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  resolverPasswordFile?: OptionValue | undefined
  /** Connections of that role in one database. A change applies to databases that have not been queried recently. Default: `4`. */
  resolverPoolSize?: OptionValue | undefined
  /** Listen to `NOTIFY pgvpd_invalidate` in each database that has sessions: notifications invalidate results, and open sessions are resolved again. Needs `resolver_user`, and one additional connection. Default: `false`. */
  resolverNotify?: boolean | 'true' | 'false' | undefined
  /** MiB that results with a `cache_ttl` may take. A change needs a restart. Default: `64`. */
  resolverCacheSize?: OptionValue | undefined
  /** `debug`, `info`, `warn`, `error`, `trace`, `off`, or a filter of the `tracing` library such as `warn,pgvpd_core=debug`. Default: `info`. */
  logLevel?: OptionValue | undefined
  /** `text` for people, `json` for one object per line. Default: `text`. */
  logFormat?: OptionValue | undefined
  /** A line when a session starts and one when it ends, at `info`. Default: `true`. */
  logSessions?: boolean | 'true' | 'false' | undefined
  /** Where security events are written as JSON lines: a file, which is appended to, or `stdout`. Default: `off`. */
  auditLog?: OptionValue | undefined
  /** What happens to a login, or an administrator's action, whose event cannot be written: `refuse`, or `continue`, which is logged. Default: `refuse`. */
  auditOnError?: OptionValue | undefined
  /** TCP port for HTTP: `/health`, `/ready`, `/metrics`, `/status`, and administrative actions. 0 selects a free one; the log says which. Default: `off`. */
  adminPort?: OptionValue | undefined
  /** Address or host name to bind for it. If it is not loopback, everything but `/health` and `/ready` needs `admin_token`: the names of tenants are a list of customers. Default: `127.0.0.1`. */
  adminHost?: OptionValue | undefined
  /** The token that a request must present to change something, as `Authorization: Bearer TOKEN`. If none is set, such requests are refused. Default: none. */
  adminToken?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  adminTokenFile?: OptionValue | undefined
  /** Comma-separated user names that may use the [console](console.md), the database `pgvpd`. `auth_file` must have a secret for each, a password or a SCRAM-SHA-256 verifier; they must connect from `bypass_from`. Default: none. */
  adminUsers?: OptionValue | undefined
  /** Tenants that have metrics of their own: the busiest ones. The rest count together, as `tenant="other"`. 0: no names of tenants in metrics. Default: `100`. */
  metricsTenants?: OptionValue | undefined
}
