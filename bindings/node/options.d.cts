// Made by scripts/options.mjs from docs/configuration.md; do not edit.

/** A text, a number, or a list; times are seconds. */
export type OptionValue = string | number | bigint | readonly (string | number | bigint)[]

/** Every option of the proxy. What is undefined is not set. */
export interface Options {
  /** TCP port to listen on. 0 takes a free one; the log says which. Default: `6432`. */
  port?: OptionValue | undefined
  /** Address or host name to bind. `0.0.0.0` is every IPv4 address, `::` every address. A name with several addresses is bound on all of them that this machine has. Default: `127.0.0.1`. */
  listenHost?: OptionValue | undefined
  /** Absolute path of an existing directory, to listen also on the Unix socket `.s.PGSQL.<port>` in it. The socket is removed at the end. Any user who can enter the directory can connect. Default: `off`. */
  listenUnixDir?: OptionValue | undefined
  /** Let a new process listen on the same ports beside this one, to take over from it (SO_REUSEPORT). Default: `false`. */
  reusePort?: boolean | 'true' | 'false' | undefined
  /** `require`: every TCP connection begins with a PROXY header, version 1 or 2, by which a load balancer says who the client is. Needs `proxy_protocol_from`. Default: `off`. */
  proxyProtocol?: OptionValue | undefined
  /** Where the load balancers are: networks such as `10.0.0.0/8`, addresses, `loopback`. Nobody else may connect over TCP. Default: none. */
  proxyProtocolFrom?: OptionValue | undefined
  /** Host name or address of PostgreSQL. An absolute path is the directory of its Unix socket. Default: `127.0.0.1`. */
  upstreamHost?: OptionValue | undefined
  /** Port of PostgreSQL. Default: `5432`. */
  upstreamPort?: OptionValue | undefined
  /** PEM file with the proxy's certificate, and those between it and its authority. With it TLS is spoken with clients. Default: none. */
  tlsCert?: OptionValue | undefined
  /** PEM file with its private key, not encrypted. Default: none. */
  tlsKey?: OptionValue | undefined
  /** TLS on `port`. `disable`. `allow`: with clients that ask for it. `require`: TCP clients without it are refused. With `client_cert`, `require` is the default. Default: allow with tls_cert, else disable. */
  clientTls?: OptionValue | undefined
  /** TCP port where only TLS is spoken, whatever `client_tls` says. 0 takes a free one. Default: `off`. */
  tlsPort?: OptionValue | undefined
  /** PEM file with the authorities whose certificates clients may show. Default: none. */
  tlsClientCa?: OptionValue | undefined
  /** `verify`: clients must show a certificate of theirs. `tenant`: it also decides which tenants they may claim, by `cert_map`. Default: `none`. */
  clientCert?: OptionValue | undefined
  /** TOML file: which role and tenant a certificate may claim, by common name, DNS name or URI. Default: none. */
  certMap?: OptionValue | undefined
  /** Speak TLS with PostgreSQL. A server that does not is an error. Default: `false`. */
  upstreamTls?: boolean | 'true' | 'false' | undefined
  /** Verify its certificate, and that `upstream_host` is among the names in it. Default: `true`. */
  upstreamTlsVerify?: boolean | 'true' | 'false' | undefined
  /** PEM file with the authorities that its certificate may be by, or with the certificate itself. Without it those count that the system trusts. Default: none. */
  upstreamTlsCa?: OptionValue | undefined
  /** PEM file with the certificate that the proxy shows a server that asks for one. Default: none. */
  upstreamTlsCert?: OptionValue | undefined
  /** PEM file with its private key, not encrypted. Default: none. */
  upstreamTlsKey?: OptionValue | undefined
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
  /** Send `pgvpd:<tenant>` as `application_name`, whatever the client sends, so that `pg_stat_activity` shows who is who. PostgreSQL keeps 63 bytes of it; what is not printable ASCII becomes `?`. A session can change it later: an aid, not a proof. Sessions of one role see it of each other: the names of tenants are no secret among tenants then. Default: `false`. */
  tenantApplicationName?: boolean | 'true' | 'false' | undefined
  /** What tells tenants apart in the database: `context`, that of the session, or `role`, a login role of each tenant's own. Default: `context`. */
  isolation?: OptionValue | undefined
  /** `off`: the context is a plain setting. `prefer`: it is signed, and a database without a key is served as well. `require`: it is signed, and a session begins only where the database has verified it. Default: require with a key, else off. */
  contextSigning?: OptionValue | undefined
  /** The key: 64 to 128 hexadecimal digits. Default: none. */
  contextSigningKey?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  contextSigningKeyFile?: OptionValue | undefined
  /** The name by which the database knows the key. Default: `1`. */
  contextKeyId?: OptionValue | undefined
  /** The key before, which signs where the database does not know the present one yet. Default: none. */
  contextPreviousSigningKey?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  contextPreviousSigningKeyFile?: OptionValue | undefined
  /** The name by which the database knows that one. Default: `0`. */
  contextPreviousKeyId?: OptionValue | undefined
  /** What becomes of a login with a role that policies cannot hold: `refuse` or `warn`. Default: `refuse`. */
  roleCheck?: OptionValue | undefined
  /** Settings that every session begins with: `name=value` pairs between semicolons. Default: `local_preload_libraries=; row_security=on; standard_conforming_strings=on`. */
  pinSettings?: OptionValue | undefined
  /** Which notifications of `LISTEN` reach a session: `off`, `tenant` or `all`. Default: `tenant`. */
  notifications?: OptionValue | undefined
  /** The roles that a tenant login may name. With `pool_password` it is `app_user` where it is not set. Default: any. */
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
  /** Logins in progress at one time, 1 to 10000000, of clients that are not authenticated yet. Further ones wait. Default: `40`. */
  maxLogins?: OptionValue | undefined
  /** Those of one client address, of one IPv6 /64, or of the Unix socket, 1 to 10000000. Further ones wait. Default: `20`. */
  maxLoginsPerAddress?: OptionValue | undefined
  /** Client sessions of one tenant at one time, 1 to 10000000, whatever their role and database. One more gets 53300. Default: none. */
  tenantMaxConnections?: OptionValue | undefined
  /** New sessions of one tenant in a second, 1 to 1000000; as many may begin at once. One more gets 53300. Default: none. */
  tenantRateLimit?: OptionValue | undefined
  /** Seconds, at least 0.001, that a tenant's session may be idle, or one request outstanding. Default: none. */
  tenantQueryTimeout?: OptionValue | undefined
  /** TOML file: other limits for some tenants, by name or pattern, and tenants that may not log in. Default: none. */
  tenants?: OptionValue | undefined
  /** Seconds for startup, authentication and setting the context together, at least 0.001. A slower login gets 57014. Default: `30`. */
  handshakeTimeout?: OptionValue | undefined
  /** Seconds without a byte, 1 to 32767, after which TCP asks whether the other end is still there. `0`: never. Default: `60`. */
  tcpKeepaliveIdle?: OptionValue | undefined
  /** Seconds between two such questions, 1 to 32767. Default: `10`. */
  tcpKeepaliveInterval?: OptionValue | undefined
  /** Questions without an answer, 1 to 127, after which the connection counts as lost. Default: `6`. */
  tcpKeepaliveCount?: OptionValue | undefined
  /** Seconds, 1 to 32767, that the other end may leave what it was sent unacknowledged, or not take it, before the connection counts as lost. `0`: as long as the system says, some 15 minutes. Linux only. Default: `120`. */
  tcpUserTimeout?: OptionValue | undefined
  /** Seconds that sessions may go on after SIGTERM or SIGINT. With 0 they are closed at once. Default: `30`. */
  shutdownTimeout?: OptionValue | undefined
  /** How a tenant's bytes are passed on after the login: `raw`, without looking at them, or `framed`, message by message. Where it is not set, an option that must see messages (`tenant_query_timeout`) makes it `framed`. Default: `raw`. */
  relay?: OptionValue | undefined
  /** `none`: each session has an upstream connection of its own, and PostgreSQL judges the client's proof. `session`: it has one from a pool, for as long as it lasts, and the proxy judges the proof. Default: `none`. */
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
  /** Seconds after which an upstream connection is closed, as soon as no client has it. Each one's own time is up to a tenth shorter, so that they do not all go at once. Default: `3600`. */
  serverLifetime?: OptionValue | undefined
  /** An upstream connection that has been idle for longer is tried before a client gets it. With 0 each one is. Default: `30`. */
  serverCheckDelay?: OptionValue | undefined
  /** How clients prove who they are: `scram-sha-256`, `md5` or `cleartext`. Default: `scram-sha-256`. */
  clientAuth?: OptionValue | undefined
  /** A file of roles and their secrets, in the form of PgBouncer's `userlist.txt`. Default: none. */
  authFile?: OptionValue | undefined
  /** The role that asks the database for the verifiers of other roles. Needs `auth_dbname`. Default: none. */
  authUser?: OptionValue | undefined
  /** The database that it asks in: one where `sql/setup.sql` was run. Default: none. */
  authDbname?: OptionValue | undefined
  /** What it asks: a query with the role's name as `$1`, whose row is the role and its verifier. Default: `SELECT role, verifier FROM public.pgvpd_get_auth($1)`. */
  authQuery?: OptionValue | undefined
  /** Seconds that an answer is good for. With 0 each login asks. Default: `30`. */
  authQueryTtl?: OptionValue | undefined
  /** One password for all clients. It opens only `login_roles`, which is then `app_user` where it is not set. Default: none. */
  poolPassword?: OptionValue | undefined
  /** A file that holds it. A line end behind it does not count. Default: none. */
  poolPasswordFile?: OptionValue | undefined
  /** The password with which the proxy logs in to PostgreSQL. Default: none. */
  upstreamPassword?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  upstreamPasswordFile?: OptionValue | undefined
  /** A TOML file of resolvers: queries that work out further variables of the context at login. Default: none. */
  resolvers?: OptionValue | undefined
  /** Seconds that one resolver may take, at least 0.001. Then the login is refused with 57014. Default: `5`. */
  resolverTimeout?: OptionValue | undefined
  /** The role that asks, on few connections of the proxy's own. Where it is not set, the session's own connection is asked. Default: none. */
  resolverUser?: OptionValue | undefined
  /** What the proxy proves to the server for that role. Where it is not set, its entry in `auth_file`, else `upstream_password`. Default: none. */
  resolverPassword?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  resolverPasswordFile?: OptionValue | undefined
  /** Connections of that role in one database. A change counts for databases that have not been asked of late. Default: `4`. */
  resolverPoolSize?: OptionValue | undefined
  /** Listen to `NOTIFY pgvpd_invalidate` in each database that has sessions: it makes results void, and has open sessions resolved again. Needs `resolver_user`, and one connection more. Default: `false`. */
  resolverNotify?: boolean | 'true' | 'false' | undefined
  /** MiB that results with a `cache_ttl` may take. A change needs a restart. Default: `64`. */
  resolverCacheSize?: OptionValue | undefined
  /** `debug`, `info`, `warn`, `error`, `trace`, `off`, or a filter of the `tracing` library such as `warn,pgvpd_core=debug`. Default: `info`. */
  logLevel?: OptionValue | undefined
  /** `text` for people, `json` for one object a line. Default: `text`. */
  logFormat?: OptionValue | undefined
  /** A line when a session starts and one when it ends, at `info`. Default: `true`. */
  logSessions?: boolean | 'true' | 'false' | undefined
  /** Where security events are written as JSON lines: a file, which is appended to, or `stdout`. Default: `off`. */
  auditLog?: OptionValue | undefined
  /** What becomes of a login, or an administrator's action, whose event cannot be written: `refuse`, or `continue`, which the log tells. Default: `refuse`. */
  auditOnError?: OptionValue | undefined
  /** TCP port for HTTP: `/health`, `/ready`, `/metrics`, `/status`, and what changes something. 0 takes a free one; the log says which. Default: `off`. */
  adminPort?: OptionValue | undefined
  /** Address or host name to bind for it. Off loopback everything but `/health` and `/ready` needs `admin_token`: the names of tenants are a list of customers. Default: `127.0.0.1`. */
  adminHost?: OptionValue | undefined
  /** What a request must show to change something, as `Authorization: Bearer TOKEN`. Without one such requests are refused. Default: none. */
  adminToken?: OptionValue | undefined
  /** A file that holds it. Default: none. */
  adminTokenFile?: OptionValue | undefined
  /** Comma-separated user names that may use the [console](console.md), the database `pgvpd`. `auth_file` must have a secret for each, a password or a SCRAM-SHA-256 verifier; they come from `bypass_from`. Default: none. */
  adminUsers?: OptionValue | undefined
  /** Tenants that have metrics of their own: the most used ones. The rest count together, as `tenant="other"`. 0: no names of tenants in metrics. Default: `100`. */
  metricsTenants?: OptionValue | undefined
}
