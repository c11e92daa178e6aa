//! From the client's StartupMessage to the one that goes upstream: rebuilt from the parsed map, never patched.

use std::collections::HashSet;

use crate::tenant::{Identity, VariableName};
use crate::wire::{
    OptionsError, ProtocolVersion, Setting, StartupMessage, join_options, normalize_setting_name, split_options,
};

/// Settings that decide what row-level security applies to, or how SQL text is read. A client may not plant them
/// where a later `RESET` would bring them back.
const FORBIDDEN: &[&str] = &["role", "session_authorization", "row_security", "standard_conforming_strings"];

/// Prefix of names that belong to the proxy.
const OWN_PREFIX: &str = "pgvpd.";

/// Prefix of protocol options, which are negotiated and not settings.
const PROTOCOL_OPTION_PREFIX: &str = "_pq_.";

/// A startup parameter that a tenant connection may not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// It would change what the session may see.
    #[error("startup parameter {0:?} cannot be set by a client")]
    Forbidden(String),
    /// An entry of `options` that is not a plain setting.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// A replication stream does not pass through row-level security.
    #[error("replication connections cannot be scoped to a tenant")]
    Replication,
    /// PostgreSQL would cut the database's name off, and log in to the one that the rest names.
    #[error("the name of database {0:?} is longer than {MAX_NAME} bytes")]
    DatabaseTooLong(String),
}

/// The startup message for a tenant's session: the role for the user, the database, the filtered parameters, and `own`, what
/// the proxy itself says of the session. It always names the database, so that everything that asks for it reads the same one.
///
/// # Errors
/// [`ParameterError`] for the first parameter that is refused.
pub fn tenant_startup(
    client: &StartupMessage,
    identity: &Identity,
    own: Vec<(String, String)>,
) -> Result<StartupMessage, ParameterError> {
    let variables: Vec<&VariableName> = identity.context().map(|(name, _)| name).chain(identity.resolved()).collect();
    let permit = |name: &str| {
        let normal = normalize_setting_name(name);
        let forbidden = FORBIDDEN.contains(&normal.as_str())
            || normal.starts_with(OWN_PREFIX)
            || variables.iter().any(|variable| variable.as_str() == normal);
        if forbidden { Err(ParameterError::Forbidden(name.into())) } else { Ok(()) }
    };

    let user = client.parameter("user").unwrap_or_default();
    // A client that names no database asks for the one named like the user; libpq spells that out.
    let named = client.parameter("database").filter(|database| !database.is_empty() && *database != user);
    let database = named.unwrap_or(identity.named_role());
    if database.len() > MAX_NAME {
        return Err(ParameterError::DatabaseTooLong(database.into()));
    }
    let mut parameters =
        vec![("user".to_owned(), identity.role().to_owned()), ("database".to_owned(), database.to_owned())];
    for (name, value) in &client.parameters {
        match name.as_str() {
            "user" | "database" => {}
            "options" => {
                let settings: Vec<Setting> = split_options(value)?;
                settings.iter().try_for_each(|setting| permit(&setting.name))?;
                if !settings.is_empty() {
                    parameters.push((name.clone(), join_options(&settings)));
                }
            }
            _ if normalize_setting_name(name) == "replication" => return Err(ParameterError::Replication),
            _ if name.starts_with(PROTOCOL_OPTION_PREFIX) => {}
            _ => {
                permit(name)?;
                parameters.push((name.clone(), value.clone()));
            }
        }
    }
    parameters.extend(own);
    Ok(StartupMessage { version: upstream_version(client), parameters })
}

/// The longest name that PostgreSQL keeps, in bytes (NAMEDATALEN - 1).
const MAX_NAME: usize = 63;

/// The same startup message with the tenant as its `application_name`: `pgvpd:<tenant>`, in the form that PostgreSQL would give it, with
/// `?` for what is not printable ASCII.
pub fn with_tenant_as_application_name(client: &StartupMessage, tenant: &str) -> StartupMessage {
    let tenant = tenant.chars().map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' });
    let name = "pgvpd:".chars().chain(tenant).take(MAX_NAME).collect();
    let is_other = |name: &str| normalize_setting_name(name) != "application_name";
    let others = client.parameters.iter().filter(|(name, _)| is_other(name)).cloned();
    let parameters = others.chain([("application_name".to_owned(), name)]).collect();
    StartupMessage { version: client.version, parameters }
}

/// What a client's startup message asks for besides role and database, as settings: entries of `options` first, since a parameter
/// of the message wins over them (PostgreSQL's `process_startup_options`).
///
/// # Errors
/// [`ParameterError`] for the first parameter that is refused.
pub fn tenant_preferences(startup: &StartupMessage) -> Result<Vec<(String, String)>, ParameterError> {
    let mut preferences = Vec::new();
    if let Some(options) = startup.parameter("options") {
        preferences.extend(split_options(options)?.into_iter().map(|setting| (setting.name, setting.value)));
    }
    let is_setting = |(name, _): &&(String, String)| !matches!(name.as_str(), "user" | "database" | "options");
    preferences.extend(startup.parameters.iter().filter(is_setting).cloned());
    // Of two for one setting the later counts.
    let mut seen = HashSet::new();
    preferences.reverse();
    preferences.retain(|(name, _)| seen.insert(normalize_setting_name(name)));
    preferences.reverse();
    Ok(preferences)
}

/// Of the settings that sessions begin with, those that the client does not choose itself.
///
/// # Errors
/// [`ParameterError`] where the client's `options` cannot be read.
pub fn pinned_settings(
    client: &StartupMessage,
    pinned: &[(String, String)],
) -> Result<Vec<(String, String)>, ParameterError> {
    let chosen: HashSet<_> = tenant_preferences(client)?.iter().map(|(name, _)| normalize_setting_name(name)).collect();
    Ok(pinned.iter().filter(|(name, _)| !chosen.contains(name)).cloned().collect())
}

/// The startup message for a bypass user: as it came, but for what the proxy negotiates itself.
pub fn bypass_startup(client: &StartupMessage) -> StartupMessage {
    let is_setting = |(name, _): &&(String, String)| !name.starts_with(PROTOCOL_OPTION_PREFIX);
    StartupMessage {
        version: upstream_version(client),
        parameters: client.parameters.iter().filter(is_setting).cloned().collect(),
    }
}

/// The `_pq_.` options that the client asks for. None is known up to protocol 3.2.
pub fn unknown_protocol_options(client: &StartupMessage) -> Vec<String> {
    let names = client.parameters.iter().map(|(name, _)| name);
    names.filter(|name| name.starts_with(PROTOCOL_OPTION_PREFIX)).cloned().collect()
}

fn upstream_version(client: &StartupMessage) -> ProtocolVersion {
    client.version.min(ProtocolVersion::LATEST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tenant::IdentityRules;

    fn identity() -> Identity {
        let rules = IdentityRules::for_tests(&["app.current_tenant_id"]);
        rules.identify("app_user.acme").expect("valid")
    }

    fn client(parameters: &[(&str, &str)]) -> StartupMessage {
        let all = [&[("user", "app_user.acme")], parameters].concat();
        StartupMessage {
            version: ProtocolVersion::V3_0,
            parameters: all.into_iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect(),
        }
    }

    fn own() -> Vec<(String, String)> {
        vec![("app.current_tenant_id".into(), "acme".into())]
    }

    fn rebuilt(parameters: &[(&str, &str)]) -> Result<Vec<(String, String)>, ParameterError> {
        tenant_startup(&client(parameters), &identity(), own()).map(|message| message.parameters)
    }

    #[test]
    fn the_role_takes_the_users_place_and_the_context_comes_last() {
        let parameters = rebuilt(&[("database", "mydb"), ("application_name", "x"), ("options", " -cwork_mem=1MB")]);
        let expected = [
            ("user", "app_user"),
            ("database", "mydb"),
            ("application_name", "x"),
            ("options", "-c work_mem=1MB"),
            ("app.current_tenant_id", "acme"),
        ];
        assert_eq!(parameters.expect("valid"), expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    }

    #[test]
    fn preferences_are_settings_of_which_each_is_there_once_with_the_value_that_counts() {
        let startup = client(&[
            ("database", "mydb"),
            ("options", "-c TimeZone=UTC -c work_mem=1MB --work-mem=2MB"),
            ("timezone", "Asia/Tokyo"),
        ]);
        let expected = [("work_mem", "2MB"), ("timezone", "Asia/Tokyo")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(tenant_preferences(&startup), Ok(expected.to_vec()));
    }

    #[test]
    fn a_database_defaulted_to_the_user_name_follows_the_role() {
        for defaulted in [&[("database", "app_user.acme")][..], &[("database", "")], &[]] {
            let parameters = rebuilt(defaulted).expect("valid");
            assert_eq!(parameters[1], ("database".into(), "app_user".into()));
            assert_eq!(parameters.iter().filter(|(name, _)| name == "database").count(), 1);
        }
    }

    #[test]
    fn a_database_whose_name_postgresql_would_cut_off_is_refused() {
        let (fits, long) = ("d".repeat(63), "d".repeat(64));
        assert!(rebuilt(&[("database", &fits)]).is_ok());
        assert_eq!(rebuilt(&[("database", &long)]), Err(ParameterError::DatabaseTooLong(long)));
    }

    #[test]
    fn forbidden_names_are_refused_in_every_spelling() {
        for name in [
            "app.current_tenant_id",
            "App.Current_Tenant_ID",
            "app.current-tenant-id",
            "pgvpd.context",
            "PGVPD.x",
            "role",
            "ROLE",
            "session_authorization",
            "session-authorization",
            "row_security",
            "standard_conforming_strings",
        ] {
            let forbidden = |result: Result<_, ParameterError>| matches!(result, Err(ParameterError::Forbidden(_)));
            assert!(forbidden(rebuilt(&[(name, "x")])), "{name}");
            for options in
                [format!("-c {name}=x"), format!("-c{name}=x"), format!("--{name}=x"), format!("-c a.b=1 --{name}=x")]
            {
                assert!(forbidden(rebuilt(&[("options", &options)])), "{options}");
            }
        }
        assert!(matches!(rebuilt(&[("options", "-ecrole=x")]), Err(ParameterError::Options(_))));
    }

    #[test]
    fn replication_is_refused_for_tenants_and_passed_on_for_bypass_users() {
        for name in ["replication", "Replication"] {
            assert_eq!(rebuilt(&[(name, "database")]), Err(ParameterError::Replication));
        }
        let passed = bypass_startup(&client(&[("replication", "true"), ("_pq_.x", "1")]));
        assert_eq!(passed.parameters.last(), Some(&("replication".into(), "true".into())));
    }

    #[test]
    fn protocol_options_stay_behind_and_versions_above_3_2_come_down() {
        let mut message = client(&[("_pq_.x", "1")]);
        message.version.minor = 9999;
        assert_eq!(unknown_protocol_options(&message), ["_pq_.x"]);
        let upstream = tenant_startup(&message, &identity(), vec![]).expect("valid");
        assert_eq!(upstream.version, ProtocolVersion::LATEST);
        let expected = [("user", "app_user"), ("database", "app_user")];
        assert_eq!(upstream.parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn the_tenant_as_application_name_takes_the_place_of_the_clients_and_has_postgresqls_form() {
        let name = |tenant: &str| {
            let client = StartupMessage {
                version: ProtocolVersion::V3_0,
                parameters: vec![
                    ("user".into(), "app_user.x".into()),
                    ("Application_Name".into(), "psql".into()),
                    ("application_name".into(), "psql".into()),
                ],
            };
            let renamed = with_tenant_as_application_name(&client, tenant);
            assert_eq!(renamed.parameters.len(), 2, "{renamed:?}");
            renamed.parameter("application_name").map(str::to_owned).expect("there")
        };
        assert_eq!(name("acme corp"), "pgvpd:acme corp");
        assert_eq!(name("acmé\n"), "pgvpd:acm??");
        assert_eq!(name(&"é".repeat(100)).len(), 63);
    }
}
