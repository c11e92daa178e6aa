//! One statement that sets every context variable and the role by bound parameters, and the proof that it did.

use std::fmt::Write as _;

use crate::tenant::Identity;
use crate::wire::bind_and_run;

/// Proof that PostgreSQL has confirmed an identity's context on a session. Only [`Injection::confirm`] makes one.
#[derive(Debug)]
pub(crate) struct Confirmed(());

/// What must be set before a session is the client's.
#[derive(Debug)]
pub(crate) struct Injection {
    sql: String,
    settings: Vec<(String, String)>,
}

/// Why a session cannot be handed over.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum InjectionError {
    /// The session has superuser rights, to which row-level security does not apply.
    Superuser,
    /// The answer is not the values that were sent.
    NotConfirmed,
}

impl Injection {
    /// The identity's context, then the role: what needs the login role's rights comes before the switch.
    ///
    /// Values travel as binary `bytea` in both directions: a client that chose another `client_encoding` at startup
    /// must not decide which characters a tenant's name is made of. Functions are qualified: so must a `search_path`
    /// that it chose not decide which function runs.
    pub(crate) fn new(identity: &Identity, role: &str) -> Self {
        const IS_SUPERUSER: &str = "pg_catalog.convert_to(pg_catalog.current_setting('is_superuser'), 'UTF8')";
        let context = identity.context().map(|(name, value)| (name.as_str().to_owned(), value.to_owned()));
        let settings: Vec<_> = context.chain([("role".to_owned(), role.to_owned())]).collect();
        let mut sql = format!("SELECT {IS_SUPERUSER}");
        for index in 0..settings.len() {
            let (name, value) = (2 * index + 1, 2 * index + 2);
            let _ = write!(
                sql,
                ", pg_catalog.convert_to(pg_catalog.set_config(${name}, \
                 pg_catalog.convert_from(${value}, 'UTF8'), false), 'UTF8')"
            );
        }
        let _ = write!(sql, ", {IS_SUPERUSER}");
        Self { sql, settings }
    }

    /// Appends the messages that ask for it, one round trip, to `out`.
    pub(crate) fn request(&self, out: &mut Vec<u8>) {
        let pairs: Vec<(&str, &[u8])> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        bind_and_run(out, &self.sql, &pairs);
    }

    /// Compares the row that came back with what was asked for.
    pub(crate) fn confirm(&self, row: &[Option<&[u8]>]) -> Result<Confirmed, InjectionError> {
        let [Some(before), values @ .., Some(after)] = row else {
            return Err(InjectionError::NotConfirmed);
        };
        if [before, after].iter().any(|&&is_superuser| is_superuser != b"off") {
            return Err(InjectionError::Superuser);
        }
        let confirmed = values.len() == self.settings.len()
            && values.iter().zip(&self.settings).all(|(found, (_, value))| *found == Some(value.as_bytes()));
        if confirmed { Ok(Confirmed(())) } else { Err(InjectionError::NotConfirmed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::{IdentityRules, TenantFormat, VariableName};
    use crate::wire::TaggedFrames;

    fn injection(user: &str, variables: &[&str]) -> Injection {
        let rules = IdentityRules {
            separator: ".".into(),
            value_separator: ":".into(),
            variables: variables.iter().map(|name| VariableName::new(name).expect("valid")).collect(),
            format: TenantFormat::Text,
            login_roles: None,
        };
        let identity = rules.identify(user).expect("valid");
        Injection::new(&identity, identity.role())
    }

    #[test]
    fn values_are_bound_and_never_part_of_the_statement() {
        let injection = injection("app.x'; drop table t--:y", &["app.a", "app.b"]);
        assert!(!injection.sql.contains("drop"), "{}", injection.sql);
        let mut out = Vec::new();
        injection.request(&mut out);
        let tags: Vec<u8> = TaggedFrames::new(&out, 10_000).map(|frame| frame.tag).collect();
        assert_eq!(tags, b"PBES");
        for placeholder in 1..=6 {
            assert!(injection.sql.contains(&format!("${placeholder}")), "${placeholder}");
        }
    }

    #[test]
    fn only_the_exact_values_of_a_session_without_superuser_rights_are_confirmed() {
        let injection = injection("app.acme", &["app.current_tenant_id"]);
        let off = Some(&b"off"[..]);
        let (acme, app) = (Some(&b"acme"[..]), Some(&b"app"[..]));
        assert!(injection.confirm(&[off, acme, app, off]).is_ok());
        for row in [
            &[off, Some(b"globex"), app, off][..],
            &[off, acme, Some(b"postgres"), off],
            &[off, acme, None, off],
            &[off, acme, off],
            &[off, acme, app, off, off],
            &[None, acme, app, off],
            &[],
        ] {
            assert_eq!(injection.confirm(row).err(), Some(InjectionError::NotConfirmed), "{row:?}");
        }
        for row in [[Some(&b"on"[..]), acme, app, off], [off, acme, app, Some(b"on")]] {
            assert_eq!(injection.confirm(&row).err(), Some(InjectionError::Superuser), "{row:?}");
        }
    }
}
