//! The context goes to PostgreSQL as startup parameters or as bound parameters of one statement; and the proof that it
//! is in force.

use std::fmt::Write as _;

use crate::tenant::Identity;
use crate::wire::{bind_and_run, query};

/// Proof that PostgreSQL has confirmed an identity's context on a session. Only [`Injection::confirm`] and
/// [`Injection::confirm_shown`] make one.
#[derive(Debug)]
pub(crate) struct Confirmed(());

/// What must be in force before a session is the client's.
#[derive(Debug, Clone)]
pub(crate) struct Injection {
    /// Names and values: the context, then the role.
    settings: Vec<(String, String)>,
    startup: Startup,
}

/// What of it goes as startup parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Startup {
    Nothing,
    Context,
    /// The role too. Only where it is the login role: switched to another role, a session no longer shows whether its login
    /// role is a superuser.
    ContextAndRole,
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
    pub(crate) fn new(identity: &Identity, role: &str, context_in_startup: bool) -> Self {
        let context = identity.context().map(|(name, value)| (name.as_str().to_owned(), value.to_owned()));
        let startup = match context_in_startup {
            false => Startup::Nothing,
            true if role == identity.role() => Startup::ContextAndRole,
            true => Startup::Context,
        };
        Self { settings: context.chain([("role".to_owned(), role.to_owned())]).collect(), startup }
    }

    /// What the StartupMessage is to carry.
    pub(crate) fn startup_parameters(&self) -> Vec<(String, String)> {
        let count = match self.startup {
            Startup::Nothing => 0,
            Startup::Context => self.settings.len() - 1,
            Startup::ContextAndRole => self.settings.len(),
        };
        self.settings.iter().take(count).cloned().collect()
    }

    /// Appends the message that asks what is in force, where the startup parameters have set all of it. `None` where
    /// they have not, or where the client's `client_encoding` would change the answer.
    ///
    /// Three SHOWs cost a fresh server process a quarter of what one SELECT of functions does: they need no catalog.
    pub(crate) fn show(&self, out: &mut Vec<u8>) -> Option<()> {
        let is_sent_and_plain =
            self.startup == Startup::ContextAndRole && self.settings.iter().all(|(_, v)| v.is_ascii());
        is_sent_and_plain.then(|| {
            let mut sql = String::new();
            for (name, _) in &self.settings {
                // A VariableName has letters, digits, underscores and dots: quoted, no part of it is a keyword.
                let _ = write!(sql, "SHOW \"{}\"; ", name.replace('.', "\".\""));
            }
            query(out, &(sql + "SHOW is_superuser"));
        })
    }

    /// Compares the rows that came back for [`Injection::show`], one value each, with what was asked for.
    pub(crate) fn confirm_shown(&self, rows: &[Vec<u8>]) -> Result<Confirmed, InjectionError> {
        let Some((is_superuser, values)) = rows.split_last() else { return Err(InjectionError::NotConfirmed) };
        let values: Vec<_> = values.iter().map(|value| Some(value.as_slice())).collect();
        self.compare(&[is_superuser], &values)
    }

    /// Appends the messages that set all of it, one round trip, to `out`.
    ///
    /// Values travel as binary `bytea` in both directions: a client that chose another `client_encoding` at startup
    /// must not decide which characters a tenant's name is made of. Functions are qualified: so must a `search_path`
    /// that it chose not decide which function runs.
    pub(crate) fn request(&self, out: &mut Vec<u8>) {
        let pairs: Vec<(&str, &[u8])> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        bind_and_run(out, &self.statement(), &pairs);
    }

    fn statement(&self) -> String {
        const IS_SUPERUSER: &str = "pg_catalog.convert_to(pg_catalog.current_setting('is_superuser'), 'UTF8')";
        let mut sql = format!("SELECT {IS_SUPERUSER}");
        for index in 0..self.settings.len() {
            let (name, value) = (2 * index + 1, 2 * index + 2);
            let _ = write!(
                sql,
                ", pg_catalog.convert_to(pg_catalog.set_config(${name}, \
                 pg_catalog.convert_from(${value}, 'UTF8'), false), 'UTF8')"
            );
        }
        let _ = write!(sql, ", {IS_SUPERUSER}");
        sql
    }

    /// Compares the row that came back for [`Injection::request`] with what was asked for.
    pub(crate) fn confirm(&self, row: &[Option<&[u8]>]) -> Result<Confirmed, InjectionError> {
        let [Some(before), values @ .., Some(after)] = row else {
            return Err(InjectionError::NotConfirmed);
        };
        self.compare(&[before, after], values)
    }

    fn compare(&self, is_superuser: &[&[u8]], values: &[Option<&[u8]>]) -> Result<Confirmed, InjectionError> {
        if is_superuser.iter().any(|&reading| reading != b"off") {
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
    use crate::tenant::IdentityRules;
    use crate::wire::TaggedFrames;

    fn injection(user: &str, variables: &[&str]) -> Injection {
        let rules = IdentityRules::for_tests(variables);
        let identity = rules.identify(user).expect("valid");
        Injection::new(&identity, identity.role(), true)
    }

    #[test]
    fn values_are_bound_and_never_part_of_the_statement() {
        let injection = injection("app.x'; drop table t--:y", &["app.a", "app.b"]);
        assert!(!injection.statement().contains("drop"), "{}", injection.statement());
        let mut out = Vec::new();
        injection.request(&mut out);
        let tags: Vec<u8> = TaggedFrames::new(&out, 10_000).map(|frame| frame.tag).collect();
        assert_eq!(tags, b"PBES");
        for placeholder in 1..=6 {
            assert!(injection.statement().contains(&format!("${placeholder}")), "${placeholder}");
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

    #[test]
    fn only_the_login_role_goes_as_a_startup_parameter() {
        let rules = IdentityRules::for_tests(&["app.current_tenant_id"]);
        let identity = rules.identify("app.acme").expect("valid");
        let names = |role: &str, in_startup| {
            let parameters = Injection::new(&identity, role, in_startup).startup_parameters();
            parameters.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
        };
        assert_eq!(names("app", true), ["app.current_tenant_id", "role"]);
        assert_eq!(names("reporting", true), ["app.current_tenant_id"]);
        assert!(names("app", false).is_empty());
        let asks = |role: &str, in_startup, user: &str| {
            let identity = rules.identify(user).expect("valid");
            Injection::new(&identity, role, in_startup).show(&mut Vec::new()).is_some()
        };
        assert!(asks("app", true, "app.acme"));
        for (role, in_startup, user) in
            [("app", false, "app.acme"), ("reporting", true, "app.acme"), ("app", true, "app.müller")]
        {
            assert!(!asks(role, in_startup, user), "{role} {in_startup} {user}");
        }
    }

    #[test]
    fn shown_values_are_confirmed_only_when_each_is_the_one_that_was_sent() {
        let injection = injection("app.acme:", &["app.current_tenant_id", "app.user"]);
        let mut out = Vec::new();
        injection.show(&mut out).expect("all of it is in the startup packet");
        assert_eq!(
            &out[5..],
            b"SHOW \"app\".\"current_tenant_id\"; SHOW \"app\".\"user\"; SHOW \"role\"; SHOW is_superuser\0"
        );
        let confirm = |rows: &[&str]| {
            let rows: Vec<Vec<u8>> = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
            injection.confirm_shown(&rows).err()
        };
        assert_eq!(confirm(&["acme", "", "app", "off"]), None);
        for rows in [
            &["globex", "", "app", "off"][..],
            &["acme", "", "none", "off"],
            &["acme", "x", "app", "off"],
            &["acme", "app", "off"],
            &["acme", "", "", "app", "off"],
            &["off"],
            &[],
        ] {
            assert_eq!(confirm(rows), Some(InjectionError::NotConfirmed), "{rows:?}");
        }
        assert_eq!(confirm(&["acme", "", "app", "on"]), Some(InjectionError::Superuser));
    }
}
