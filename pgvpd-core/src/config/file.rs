//! The configuration file: `key = value` lines.
//!
//! `#` starts a comment only as a line's first non-blank character, so that a secret may hold one. The value is
//! everything after the first `=`, trimmed; one pair of surrounding quotes is taken off. Nothing is escaped.

use std::path::Path;

use super::settings::{ConfigError, Origin, Problem, Settings};

/// The settings of a file's text; `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Result<Settings, ConfigError> {
    let mut settings = Settings::new();
    let mut problems = Vec::new();
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin::File { path: path.into(), line: index + 1 };
        let problem = |option: Option<&str>, message: String| Problem {
            option: option.map(str::to_owned),
            origin: Some(origin.clone()),
            message,
        };
        let Some((key, value)) = line.split_once('=') else {
            // The line is not shown: it may hold a secret.
            problems.push(problem(None, "expected `key = value`, `#` for a comment, or an empty line".into()));
            continue;
        };
        let key = key.trim();
        if let Some(earlier) = settings.origin(key) {
            problems.push(problem(Some(key), format!("set twice; the first is in {earlier}")));
            continue;
        }
        problems.extend(settings.set_from(key, unquoted(value.trim()).into(), origin.clone()).err());
    }
    if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Settings, ConfigError> {
        parse(text, Path::new("pgvpd.conf"))
    }

    #[test]
    fn values_are_trimmed_and_unquoted_and_keep_hash_and_equal_signs() {
        let settings = read(
            "\u{feff}# comment\n\n  # another\n port =  7000 \r\ntenant_separator=#\nset_role = a=b # c\n\
             listen_host = \"::1\"\nvalue_separator = '\n",
        )
        .expect("valid");
        assert_eq!(settings.value("port"), Some("7000"));
        assert_eq!(settings.value("tenant_separator"), Some("#"));
        assert_eq!(settings.value("set_role"), Some("a=b # c"));
        assert_eq!(settings.value("listen_host"), Some("::1"));
        assert_eq!(settings.value("value_separator"), Some("'"));
    }

    #[test]
    fn every_bad_line_is_reported_with_its_number() {
        let error = read("port = 1\nnonsense\nprot = 2\nport = 3\n").expect_err("three problems");
        let text = error.to_string();
        assert_eq!(error.problems.len(), 3, "{text}");
        for part in ["line 2", "prot: unknown option; did you mean port? (pgvpd.conf, line 3)", "set twice", "line 4"] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(\\PC|\n|=|#|port ?=){0,60}") {
            let _ = read(&text);
        }
    }
}
