//! Whether policies can hold the roles that a session may act as: asked once in a while for each role in each database.

use std::time::Duration;

use moka::sync::Cache;

use crate::net::UpstreamAddress;
use crate::wire::bind_and_run;

/// Whether a login goes on with a role that is not subject to policies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoleCheck {
    /// It is refused.
    Refuse,
    /// It goes on, with a line in the log.
    Warn,
}

/// What a role may do that no policy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RoleFault {
    /// It is, or may act as, this role, which is a superuser or has BYPASSRLS.
    Bypass(String),
    /// It owns, or may act as the owner of, this protected table.
    Owner(String),
}

/// The questions: the login role, and the role that sessions are switched to.
///
/// Catalogs are readable for everybody. The policies' names are those of `sql/setup.sql` and `sql/helpers.sql`. Temporary tables do
/// not count: no other session can use them, and with a policy of such a name one session would have all later ones refused.
const QUESTION: &str = "SELECT pg_catalog.convert_to(COALESCE((SELECT pg_catalog.min(r.rolname::pg_catalog.text) \
       FROM pg_catalog.pg_roles r, pg_catalog.pg_roles u \
       WHERE (r.rolsuper OR r.rolbypassrls) AND (u.rolname OPERATOR(pg_catalog.=) session_user \
         OR u.rolname::pg_catalog.text OPERATOR(pg_catalog.=) $1) \
       AND pg_catalog.pg_has_role(u.oid, r.oid, 'MEMBER')), ''), 'UTF8'), \
     pg_catalog.convert_to(COALESCE((SELECT pg_catalog.min(c.oid::pg_catalog.regclass::pg_catalog.text) \
       FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.polrelid, pg_catalog.pg_roles u \
       WHERE p.polname OPERATOR(pg_catalog.=) ANY (ARRAY['pgvpd_tenant_isolation', 'pgvpd_tenant_guard', 'pgvpd_visible', \
         'pgvpd_visible_guard']::pg_catalog.name[]) \
       AND c.relpersistence OPERATOR(pg_catalog.<>) 't' \
       AND (u.rolname OPERATOR(pg_catalog.=) session_user OR u.rolname::pg_catalog.text OPERATOR(pg_catalog.=) $1) \
       AND pg_catalog.pg_has_role(u.oid, c.relowner, 'MEMBER')), ''), 'UTF8')";

/// Appends the messages that ask about the login role and this one.
pub(crate) fn ask(role: &str, out: &mut Vec<u8>) {
    bind_and_run(out, QUESTION, &[(role, b"")]);
}

/// Reads the answer. `None` where it is none.
pub(crate) fn read(row: &[Option<&[u8]>]) -> Option<Result<(), RoleFault>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match row {
        [Some(b""), Some(b"")] => Some(Ok(())),
        [Some(b""), Some(table)] => Some(Err(RoleFault::Owner(text(table)))),
        [Some(role), Some(_)] => Some(Err(RoleFault::Bypass(text(role)))),
        _ => None,
    }
}

/// What was asked about.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RoleKey {
    pub(crate) upstream: UpstreamAddress,
    pub(crate) database: Box<str>,
    pub(crate) login: Box<str>,
    pub(crate) role: Box<str>,
}

/// How long an answer is good for: rights change.
const GOOD_FOR: Duration = Duration::from_secs(60);

/// Answers that are kept; with roles of tenants' own there are many.
const MAX_KEPT: u64 = 10_000;

/// Roles that were found to be held by policies of late.
#[derive(Debug)]
pub(crate) struct RoleChecks(Cache<RoleKey, ()>);

impl RoleChecks {
    pub(crate) fn new() -> Self {
        Self(Cache::builder().max_capacity(MAX_KEPT).time_to_live(GOOD_FOR).build())
    }

    /// True if there is no need to ask.
    pub(crate) fn is_known(&self, key: &RoleKey) -> bool {
        self.0.contains_key(key)
    }

    pub(crate) fn passed(&self, key: RoleKey) {
        self.0.insert(key, ());
    }
}

impl std::fmt::Display for RoleFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bypass(role) => {
                write!(
                    f,
                    "it is, or may act as, role {role:?}, a superuser or with BYPASSRLS, to which row-level security does not apply"
                )
            }
            Self::Owner(table) => write!(f, "it may act as the owner of table {table:?} and take its policies away"),
        }
    }
}
