//! What a login is to come to, by the rules of docs/tls.md.

/// A way in: what the two legs are, and who judges the client's proof.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lane {
    pub(crate) client_tls: bool,
    pub(crate) upstream_tls: bool,
    pub(crate) judge: Judge,
    pub(crate) method: Method,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Judge {
    /// Passthrough: PostgreSQL, and the proxy relays.
    Postgres,
    /// Passthrough with `auth_user` and `auth_file`: the proxy, for clients on TLS.
    Proxy,
    /// `pool_mode = session`: the proxy.
    Pool,
}

/// What PostgreSQL asks of the role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Scram,
    Md5,
}

/// How a client logs in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Way {
    /// As it is told: a value of sslmode, or another word of its program's.
    pub(crate) name: &'static str,
    /// Whether it asks for TLS, or can do without.
    pub(crate) tls: Wish,
    /// It refuses a login without channel binding.
    pub(crate) insists_on_binding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// It does without where it can.
    Never,
    IfThere,
    Always,
}

/// What becomes of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Ok,
    /// The client finds no TLS.
    NoTls,
    /// The client finds no channel binding.
    NoBinding,
    /// The proxy refuses a proof that PostgreSQL would take for an attack.
    OtherCertificate,
}

impl Lane {
    /// Every lane, in the order of the table.
    pub(crate) fn all() -> Vec<Self> {
        let mut lanes = Vec::new();
        for client_tls in [false, true] {
            for upstream_tls in [false, true] {
                for judge in [Judge::Postgres, Judge::Proxy, Judge::Pool] {
                    for method in [Method::Scram, Method::Md5] {
                        // Without TLS with clients there is nobody for whom the proxy would judge.
                        if client_tls || judge != Judge::Proxy {
                            lanes.push(Self { client_tls, upstream_tls, judge, method });
                        }
                    }
                }
            }
        }
        lanes
    }

    /// The heading of its column.
    pub(crate) fn title(self) -> String {
        let leg = |is_tls| if is_tls { "TLS" } else { "-" };
        let judge = match self.judge {
            Judge::Postgres => "relay",
            Judge::Proxy => "proxy",
            Judge::Pool => "pool",
        };
        let method = match self.method {
            Method::Scram => "scram",
            Method::Md5 => "md5",
        };
        format!("{}\n{}\n{judge}\n{method}", leg(self.client_tls), leg(self.upstream_tls))
    }

    /// `can_bind`: the client says in its proof that it could bind it (libpq and tokio-postgres on TLS).
    pub(crate) fn expected(self, way: Way, can_bind: bool) -> Outcome {
        let is_tls = match (way.tls, self.client_tls) {
            (Wish::Always, false) => return Outcome::NoTls,
            (Wish::Never, _) | (Wish::IfThere, false) => false,
            (Wish::IfThere | Wish::Always, true) => true,
        };
        // On TLS, and only there, the proxy offers channel binding wherever it judges.
        let is_offered = is_tls && self.judge != Judge::Postgres;
        if way.insists_on_binding && !is_offered {
            return Outcome::NoBinding;
        }
        let is_relayed = self.judge == Judge::Postgres && self.method == Method::Scram;
        match is_relayed && is_tls && self.upstream_tls && can_bind {
            // One that can do without TLS comes again without it (libpq's sslmode=prefer).
            true if way.tls == Wish::Always => Outcome::OtherCertificate,
            _ => Outcome::Ok,
        }
    }
}

impl Outcome {
    /// What a client has printed.
    pub(crate) fn of(said: &str, tenant: &str) -> Option<Self> {
        let has = |parts: &[&str]| parts.iter().any(|part| said.contains(part));
        match said {
            _ if said == format!("ok {tenant}") => Some(Self::Ok),
            _ if !said.starts_with("error ") => None,
            _ if has(&["would be for the proxy's TLS certificate"]) && has(&["channel_binding=disable"]) => {
                Some(Self::OtherCertificate)
            }
            _ if has(&["channel binding is required", "channel binding required"]) => Some(Self::NoBinding),
            // libpq, asyncpg, node-postgres and tokio-postgres, postgres.js, pgjdbc; and libpq's direct negotiation, to which
            // the proxy says what it thinks of it.
            _ if has(&[
                "does not support SSL",
                "rejected SSL upgrade",
                "not support SSL connections",
                "does not support TLS",
                "does not speak TLS",
                "server does not support SSL",
                "wrong version number",
                "disconnected before secure TLS",
                "EOF detected",
            ]) =>
            {
                Some(Self::NoTls)
            }
            _ => None,
        }
    }

    pub(crate) fn cell(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::NoTls => "no TLS",
            Self::NoBinding => "no bind",
            Self::OtherCertificate => "28000",
        }
    }
}
