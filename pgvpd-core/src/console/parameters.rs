//! What the console reports of a session at its start, as a server does.

use crate::wire::parameter_status;

/// The parameters of one session.
#[derive(Debug)]
pub(super) struct Parameters {
    user: Box<str>,
    application_name: Box<str>,
}

/// Those that are reported when a session starts (manual, "Asynchronous Operations").
const REPORTED: &[&str] = &[
    "server_version",
    "server_encoding",
    "client_encoding",
    "application_name",
    "is_superuser",
    "session_authorization",
    "DateStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
];

impl Parameters {
    pub(super) fn new(user: &str, application_name: &str) -> Self {
        Self { user: user.into(), application_name: application_name.into() }
    }

    /// A parameter's value; empty for what there is not.
    pub(super) fn value(&self, name: &str) -> &str {
        match name {
            // As PgBouncer's own: a driver must not take it for a PostgreSQL of some age.
            "server_version" => concat!(env!("CARGO_PKG_VERSION"), "/pgvpd"),
            "server_encoding" | "client_encoding" => "UTF8",
            "application_name" => &self.application_name,
            "session_authorization" => &self.user,
            "DateStyle" => "ISO, MDY",
            "TimeZone" => "UTC",
            "is_superuser" | "integer_datetimes" | "standard_conforming_strings" => "on",
            "transaction_isolation" => "read committed",
            _ => "",
        }
    }

    /// Appends a ParameterStatus for each to `out`.
    pub(super) fn report(&self, out: &mut Vec<u8>) {
        for name in REPORTED {
            parameter_status(out, name.as_bytes(), self.value(name).as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::statement::PARAMETERS;

    #[test]
    fn whatever_can_be_asked_for_has_a_value() {
        let parameters = Parameters::new("root", "psql");
        assert!(PARAMETERS.iter().chain(REPORTED).all(|name| !parameters.value(name).is_empty()));
        assert!(REPORTED.iter().all(|name| PARAMETERS.contains(name)));
    }
}
