//! The configuration file: `key = value` lines.
//!
//! `#` starts a comment only as a line's first non-blank character, so that a secret may hold one. The value is
//! everything after the first `=`, trimmed; one pair of surrounding quotes is taken off. Nothing is escaped. A relative path
//! begins at the file's own folder, wherever the process was started.

use std::path::Path;

use super::options::OptionSpec;
use super::settings::{Origin, Problem, Settings};

/// The settings of a file's text, bad lines noted; `path` is for messages.
pub(super) fn parse(text: &str, path: &Path) -> Settings {
    let mut settings = Settings::new();
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let origin = Origin::File { path: path.into(), line: index + 1 };
        let Some((key, value)) = line.split_once('=') else {
            // The line is not shown: it may hold a secret.
            let message = "expected `key = value`, `#` for a comment, or an empty line".into();
            settings.reject(Problem { option: None, origin: Some(origin), message });
            continue;
        };
        let key = key.trim();
        match settings.origin(key) {
            Some(earlier) => {
                let message = format!("set twice; the first is in {earlier}");
                settings.reject(Problem { option: Some(key.into()), origin: Some(origin), message });
            }
            None => settings.gather(key, placed(key, unquoted(value.trim()), path), origin),
        }
    }
    settings
}

fn unquoted(value: &str) -> &str {
    ['"', '\''].into_iter().find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote)).unwrap_or(value)
}

/// The value of an option; of one that names a file, from the folder that the configuration is in.
fn placed(key: &str, value: &str, path: &Path) -> String {
    let is_file = OptionSpec::named(key).is_some_and(|option| option.value == "FILE");
    // audit_log's words for what is no file.
    if !is_file || value.is_empty() || ["off", "stdout"].contains(&value) {
        return value.into();
    }
    path.with_file_name(value).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Settings {
        parse(text, Path::new("pgvpd.conf"))
    }

    #[test]
    fn values_are_trimmed_and_unquoted_and_keep_hash_and_equal_signs() {
        let settings = read(
            "\u{feff}# comment\n\n  # another\n port =  7000 \r\ntenant_separator=#\nset_role = a=b # c\n\
             listen_host = \"::1\"\nvalue_separator = '\n",
        );
        assert_eq!(settings.problems(), []);
        assert_eq!(settings.value("port"), Some("7000"));
        assert_eq!(settings.value("tenant_separator"), Some("#"));
        assert_eq!(settings.value("set_role"), Some("a=b # c"));
        assert_eq!(settings.value("listen_host"), Some("::1"));
        assert_eq!(settings.value("value_separator"), Some("'"));
    }

    #[test]
    fn bad_lines_and_bad_values_are_reported_in_one_go_with_their_numbers() {
        let settings = read("port = 1\nnonsense\nprot = 2\nport = 3\nallow_trust = perhaps\n");
        let error = super::super::Config::from_settings(settings).expect_err("four problems");
        let text = error.to_string();
        assert_eq!(error.problems.len(), 4, "{text}");
        for part in [
            "perhaps",
            "line 5",
            "line 2",
            "prot: unknown option; did you mean port? (pgvpd.conf, line 3)",
            "set twice",
            "line 4",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn relative_paths_begin_at_the_folder_of_the_file() {
        let text = "auth_file = users.txt\nadmin_token_file = ../token\nresolvers=/etc/r.toml\naudit_log = audit.log\ntls_key = a b/key\n";
        let values = |path: &str| {
            let settings = parse(text, Path::new(path));
            ["auth_file", "admin_token_file", "resolvers", "audit_log", "tls_key"]
                .map(|name| settings.value(name).unwrap_or_default().to_owned())
        };
        let expected = [
            "/etc/pgvpd/users.txt",
            "/etc/pgvpd/../token",
            "/etc/r.toml",
            "/etc/pgvpd/audit.log",
            "/etc/pgvpd/a b/key",
        ];
        assert_eq!(values("/etc/pgvpd/pgvpd.conf"), expected);
        assert_eq!(values("pgvpd.conf"), ["users.txt", "../token", "/etc/r.toml", "audit.log", "a b/key"]);
        let words =
            parse("audit_log = off\nset_role = a\nlisten_unix_dir = off\ntenants =", Path::new("/etc/pgvpd.conf"));
        let word = |name| words.value(name);
        assert_eq!(
            ["audit_log", "set_role", "listen_unix_dir", "tenants"].map(word),
            ["off", "a", "off", ""].map(Some)
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "(\\PC|\n|=|#|port ?=){0,60}") {
            let _ = read(&text);
        }
    }
}
