//! `auth_file`: PgBouncer's `userlist.txt` (its manual, "Authentication file format").
//!
//! ```text
//! ; a comment
//! "app_user" "SCRAM-SHA-256$4096:…"
//! "reporting" "a password with ""quotes"""
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::scram::{MAX_VERIFIER_ITERATIONS, Verifier};

/// What is known of a role's password. `Debug` hides it.
#[derive(Clone)]
pub(crate) enum Secret {
    /// The password itself.
    Plain(Zeroizing<String>),
    /// `md5` and the digest of password and role name, in hexadecimal.
    Md5(Zeroizing<String>),
    /// A SCRAM verifier.
    Scram(Verifier),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Plain(_) => "Secret::Plain(…)",
            Self::Md5(_) => "Secret::Md5(…)",
            Self::Scram(_) => "Secret::Scram(…)",
        })
    }
}

/// The secrets of `auth_file`.
#[derive(Debug, Clone)]
pub(crate) struct AuthFile {
    path: PathBuf,
    /// `None` where the secret is empty, which opens nothing.
    secrets: BTreeMap<String, Option<Secret>>,
    iterations: Vec<u32>,
}

/// A line that cannot be read. Never shows what stands in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub(crate) struct AuthFileError {
    /// From 1.
    pub(crate) line: usize,
    pub(crate) reason: &'static str,
}

impl Secret {
    /// By the form that it has, as PostgreSQL tells what `pg_authid` holds. An empty password opens nothing.
    pub(crate) fn of(text: &str) -> Option<Self> {
        if text.is_empty() {
            return None;
        }
        if let Ok(verifier) = Verifier::parse(text) {
            return Some(Self::Scram(verifier));
        }
        let owned = || Zeroizing::new(text.to_owned());
        let digest = text.strip_prefix("md5").filter(|digest| digest.len() == 32);
        let is_md5 = digest.is_some_and(|digest| digest.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        Some(if is_md5 { Self::Md5(owned()) } else { Self::Plain(owned()) })
    }
}

impl AuthFile {
    /// Reads a file.
    ///
    /// # Errors
    /// A sentence that names the file and every line that cannot be read.
    pub(crate) fn read(path: &Path) -> Result<Self, String> {
        let cannot = |error: std::io::Error| format!("cannot read {}: {error}", path.display());
        let text = Zeroizing::new(std::fs::read_to_string(path).map_err(cannot)?);
        let secrets = parse(&text).map_err(|errors| {
            let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
            format!("{}: {}", path.display(), lines.join("; "))
        })?;
        let of = |secret: &Option<Secret>| match secret {
            Some(Secret::Scram(verifier)) if !verifier.is_too_slow() => Some(verifier.iterations()),
            _ => None,
        };
        let mut iterations: Vec<u32> = secrets.values().filter_map(of).collect();
        iterations.sort_unstable();
        Ok(Self { path: path.into(), secrets, iterations })
    }

    /// What stands here of a role; `Some(None)`: it is shut out, whatever other sources say.
    pub(crate) fn entry(&self, role: &str) -> Option<Option<&Secret>> {
        self.secrets.get(role).map(Option::as_ref)
    }

    /// Those that have an entry.
    pub(crate) fn roles(&self) -> impl Iterator<Item = &str> {
        self.secrets.keys().map(String::as_str)
    }

    /// The numbers of iterations of all verifiers that open something, in order.
    pub(crate) fn iterations(&self) -> &[u32] {
        &self.iterations
    }

    /// What the operator should know.
    pub(crate) fn notices(&self) -> Vec<String> {
        let path = self.path.display();
        let md5: Vec<&str> = self
            .secrets
            .iter()
            .filter(|(_, secret)| matches!(secret, Some(Secret::Md5(_))))
            .map(|(role, _)| &**role)
            .collect();
        let mut notices = Vec::new();
        let is_slow = |secret: &Option<Secret>| matches!(secret, Some(Secret::Scram(one)) if one.is_too_slow());
        let slow: Vec<&str> =
            self.secrets.iter().filter(|(_, secret)| is_slow(secret)).map(|(role, _)| &**role).collect();
        if !slow.is_empty() {
            notices.push(format!(
                "{path}: the verifiers of {} have more than {MAX_VERIFIER_ITERATIONS} iterations, which is more work than the proxy \
                 does for strangers: nobody can log in as them; set a lower scram_iterations and the password again",
                slow.join(", ")
            ));
        }
        if !md5.is_empty() {
            notices.push(format!(
                "{path}: the entries of {} are MD5: a client hashes the name that it types, tenant included, so these roles \
                 are asked for their password in cleartext, over loopback and Unix sockets only unless \
                 allow_cleartext = true; SCRAM-SHA-256 verifiers need no such thing",
                md5.join(", ")
            ));
        }
        notices
    }
}

/// The secrets of all roles in the file's text.
///
/// # Errors
/// Every line that is not `"role" "secret"`, and every role that stands twice.
pub(crate) fn parse(text: &str) -> Result<BTreeMap<String, Option<Secret>>, Vec<AuthFileError>> {
    let mut secrets = BTreeMap::new();
    let mut errors = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line_number = index.saturating_add(1);
        match entry(line) {
            Ok(None) => {}
            Ok(Some((role, secret))) if !secrets.contains_key(&role) => {
                secrets.insert(role, secret);
            }
            Ok(Some(_)) => errors.push(AuthFileError { line: line_number, reason: "the role stands twice" }),
            Err(reason) => errors.push(AuthFileError { line: line_number, reason }),
        }
    }
    if errors.is_empty() { Ok(secrets) } else { Err(errors) }
}

type Entry = (String, Option<Secret>);

fn entry(line: &str) -> Result<Option<Entry>, &'static str> {
    let line = line.trim_start();
    if line.is_empty() || line.starts_with(';') || line.starts_with('#') {
        return Ok(None);
    }
    let (role, rest) = quoted(line)?;
    let (secret, _) = quoted(rest.trim_start())?;
    if role.is_empty() {
        return Err("the role is empty");
    }
    Ok(Some((role.to_string(), Secret::of(&secret))))
}

/// A text in double quotes, in which two of them stand for one, and what follows it.
fn quoted(text: &str) -> Result<(Zeroizing<String>, &str), &'static str> {
    let mut rest = text.strip_prefix('"').ok_or("expected a role and a secret, each in double quotes")?;
    let mut out = Zeroizing::new(String::new());
    loop {
        let (part, after) = rest.split_once('"').ok_or("a double quote is not closed")?;
        out.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                out.push('"');
                rest = more;
            }
            None => return Ok((out, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";

    #[test]
    fn each_form_of_secret_is_told_by_its_look() {
        let text = format!(
            "; comment\n\n\"a\" \"plain \"\"quoted\"\"\"\n\t\"b\"\t\"md5d41d8cd98f00b204e9800998ecf8427e\" \"ignored\"\n\
             \"c\" \"{VERIFIER}\"\r\n\"nobody\" \"\"\n\"d\" \"md5short\"\n\"\"\"e\" \"SCRAM-SHA-256$broken\""
        );
        let secrets = parse(&text).expect("all lines are right");
        let names: Vec<_> = secrets.keys().map(String::as_str).collect();
        assert_eq!(names, ["\"e", "a", "b", "c", "d", "nobody"]);
        assert!(matches!(secrets.get("nobody"), Some(None)), "an empty secret opens nothing");
        assert!(matches!(secrets.get("a"), Some(Some(Secret::Plain(text))) if **text == "plain \"quoted\""));
        assert!(matches!(secrets.get("b"), Some(Some(Secret::Md5(_)))));
        assert!(matches!(secrets.get("c"), Some(Some(Secret::Scram(_)))));
        assert!(matches!(secrets.get("d"), Some(Some(Secret::Plain(_)))));
        assert!(
            matches!(secrets.get("\"e"), Some(Some(Secret::Plain(_)))),
            "as PostgreSQL: what is no verifier is a password"
        );
    }

    #[test]
    fn every_bad_line_is_named_and_none_is_shown() {
        let errors =
            parse("\"a\" \"s3cret\nb s3cret\n\"c\"\n\"d\" \"1\"\n\"d\" \"2\"\n\"\" \"x\"").expect_err("bad lines");
        assert_eq!(errors.iter().map(|error| error.line).collect::<Vec<_>>(), [1, 2, 3, 5, 6]);
        assert!(!format!("{errors:?}").contains("s3cret"));
        assert!(!format!("{:?}", parse("\"a\" \"s3cret\"")).contains("s3cret"));
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(role in "[^\n\r]{1,12}", secret in "[^\n\r]{1,12}") {
            let line = format!("\"{}\" \"{}\"", role.replace('"', "\"\""), secret.replace('"', "\"\""));
            let secrets = parse(&line).expect("one line");
            prop_assert!(matches!(secrets.get(&role), Some(Some(Secret::Plain(text))) if **text == secret));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[\"a; \n\\t]{0,40}") {
            let _ = parse(&text);
        }
    }
}
