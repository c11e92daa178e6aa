//! What a shell may offer for the value of an option. It only offers: what is valid is checked by the library, which
//! can tell where a value came from.

use std::ffi::{OsStr, OsString};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::{Arg, Command, ValueHint};
use pgvpd_core::config::OptionSpec;

/// The argument of an option, with what a shell may offer for its value.
pub(crate) fn hinted(argument: Arg, option: &OptionSpec) -> Arg {
    let hint = match option.value {
        "DIR" => ValueHint::DirPath,
        "FILE" => ValueHint::FilePath,
        "HOST" => ValueHint::Hostname,
        _ => ValueHint::Other,
    };
    argument.value_parser(Offered(choices(option))).hide_possible_values(true).value_hint(hint)
}

/// The values to choose from; none where there is no fixed choice.
fn choices(option: &OptionSpec) -> &'static [&'static str] {
    match option.name {
        _ if option.switch => &["true", "false"],
        "tenant_format" => &["text", "uuid", "integer"],
        "isolation" => &["context", "role"],
        "context_signing" => &["off", "prefer", "require"],
        "role_check" => &["refuse", "warn"],
        "notifications" => &["off", "tenant", "all"],
        "relay" => &["raw", "framed"],
        "proxy_protocol" => &["off", "require"],
        "client_tls" => &["disable", "allow", "require"],
        "client_cert" => &["none", "verify", "tenant"],
        "pool_mode" => &["none", "session"],
        "client_auth" => &["scram-sha-256", "md5", "cleartext"],
        "log_level" => &["debug", "info", "warn", "error", "trace", "off"],
        "log_format" => &["text", "json"],
        "audit_on_error" => &["refuse", "continue"],
        _ => &[],
    }
}

/// Takes any value and offers these.
#[derive(Clone)]
struct Offered(&'static [&'static str]);

impl TypedValueParser for Offered {
    type Value = OsString;

    fn parse_ref(&self, _: &Command, _: Option<&Arg>, value: &OsStr) -> Result<OsString, clap::Error> {
        Ok(value.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        (!self.0.is_empty()).then(|| -> Box<dyn Iterator<Item = _>> { Box::new(self.0.iter().map(PossibleValue::new)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgvpd_core::config::OPTIONS;
    use pgvpd_core::{Config, Settings};

    fn checked(option: &OptionSpec, value: &str) -> Result<Config, pgvpd_core::ConfigError> {
        let mut settings = Settings::new();
        settings.set(option.name, value)?;
        Config::from_settings(settings)
    }

    #[test]
    fn every_value_that_is_offered_is_valid() {
        // Those that need other options, or files, beside them.
        let dependent =
            ["audit_on_error", "resolver_notify", "upstream_tls", "upstream_tls_verify", "client_tls", "client_cert"];
        for option in OPTIONS.iter().filter(|option| !dependent.contains(&option.name)) {
            // The modes that need another option beside them.
            for value in choices(option).iter().filter(|value| !["prefer", "require", "session"].contains(value)) {
                checked(option, value).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }

    #[test]
    fn every_value_that_an_error_lists_is_offered() {
        let mut lists = 0;
        for option in OPTIONS {
            let Err(error) = checked(option, "?") else { continue };
            let Some((_, listed)) = error.problems[0].message.split_once(" is not one of ") else { continue };
            let listed = listed.split(", nor").next().unwrap_or(listed);
            for value in listed.split(", ") {
                assert!(choices(option).contains(&value), "{}: {value:?}", option.name);
                lists += 1;
            }
        }
        assert!(lists > 8, "{lists}");
    }
}
