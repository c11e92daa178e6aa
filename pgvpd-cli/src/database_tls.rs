//! TLS with the database of `--database`, by the parameters that `psql` has for it (manual, "SSL Support" of libpq).
//!
//! | `sslmode` | here |
//! |---|---|
//! | `disable`, and Unix sockets | no TLS |
//! | `allow`, `prefer`, nothing | TLS where the server speaks it, with any certificate |
//! | `require` | TLS; the certificate is verified where `sslrootcert` is given |
//! | `verify-ca`, `verify-full` | TLS, with the certificate and the host's name verified |

use std::path::PathBuf;

use anyhow::anyhow;
use pgvpd_core::{Config, Settings};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres_rustls::MakeRustlsConnect;

/// The parameters that are taken out of what was given: the library has no place for them.
const TAKEN: [&str; 4] = ["sslmode", "sslrootcert", "sslcert", "sslkey"];

/// For a connector that is not used: it needs no authorities.
const UNUSED: [(&str, &str); 1] = [("upstream_tls_verify", "false")];

/// What was given of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    values: [Option<String>; 4],
}

impl Parameters {
    /// Takes them out of a URL or of pairs; gives the rest as it was.
    ///
    /// # Errors
    /// Where a value is not ended, or not what percent-encoding allows. Nothing of it is shown.
    pub(crate) fn take(conninfo: &str, is_url: bool) -> anyhow::Result<(String, Self)> {
        let taken = if is_url { Self::of_url(conninfo) } else { Self::of_pairs(conninfo) };
        taken.ok_or_else(|| {
            anyhow!("--database is not understood: a value is not ended, or not encoded as it has to be")
        })
    }

    fn of_url(url: &str) -> Option<(String, Self)> {
        let mut parameters = Self::default();
        let Some((place, query)) = url.split_once('?') else { return Some((url.into(), parameters)) };
        let mut rest = Vec::new();
        for pair in query.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match parameters.slot(name) {
                Some(slot) => {
                    *slot = Some(percent_encoding::percent_decode_str(value).decode_utf8().ok()?.into_owned())
                }
                None => rest.push(pair),
            }
        }
        let query = if rest.is_empty() { String::new() } else { format!("?{}", rest.join("&")) };
        Some((format!("{place}{query}"), parameters))
    }

    /// Pairs as libpq reads them: `name = value`, with quotes around what has blanks, and a backslash before what is meant as it
    /// stands.
    fn of_pairs(text: &str) -> Option<(String, Self)> {
        let (mut parameters, mut rest, mut left) = (Self::default(), String::new(), text);
        loop {
            left = left.trim_start();
            if left.is_empty() {
                return Some((rest, parameters));
            }
            let Some((name, behind)) = left.split_once('=') else {
                // No pair: the library's to say.
                rest.push_str(left);
                return Some((rest, parameters));
            };
            let behind = behind.trim_start();
            let (value, end) = value(behind)?;
            match parameters.slot(name.trim()) {
                Some(slot) => *slot = Some(value),
                None => {
                    let size = left.len() - behind.len() + end;
                    rest.push_str(left.get(..size)?);
                    rest.push(' ');
                }
            }
            left = behind.get(end..)?;
        }
    }

    fn slot(&mut self, name: &str) -> Option<&mut Option<String>> {
        let index = TAKEN.iter().position(|taken| *taken == name)?;
        self.values.get_mut(index)
    }

    /// With what the environment says of those that were not given.
    pub(crate) fn completed(mut self, variable: &dyn Fn(&str) -> Option<String>) -> Self {
        for (name, value) in TAKEN.iter().zip(&mut self.values) {
            *value = value.take().or_else(|| variable(&format!("PG{}", name.to_ascii_uppercase())));
        }
        self
    }

    /// How a server at this host is reached, and the connector for it.
    ///
    /// # Errors
    /// A mode that there is not, or a file that is of no use.
    pub(crate) fn connector(self, host: Option<&Host>) -> anyhow::Result<(SslMode, MakeRustlsConnect)> {
        let [mode, root, cert, key] = self.values;
        let (ssl_mode, verifies) = match mode.as_deref().unwrap_or("prefer") {
            "disable" => (SslMode::Disable, false),
            "allow" | "prefer" => (SslMode::Prefer, false),
            "require" => (SslMode::Require, root.is_some()),
            "verify-ca" | "verify-full" => (SslMode::Require, true),
            _ => {
                return Err(anyhow!(
                    "sslmode is none of disable, allow, prefer, require, verify-ca, verify-full (--database, PGSSLMODE)"
                ));
            }
        };
        let host = match host {
            Some(Host::Tcp(host)) => host.as_str(),
            // As psql has it: over a Unix socket there is no TLS, whatever the mode.
            _ => return Ok((SslMode::Disable, connector("localhost", &UNUSED)?)),
        };
        if ssl_mode == SslMode::Disable {
            return Ok((ssl_mode, connector(host, &UNUSED)?));
        }
        let mut options = Vec::new();
        let root = root.or_else(own_root).filter(|root| root != "system");
        match (verifies, root) {
            (true, Some(root)) => options.push(("upstream_tls_ca", root)),
            (true, None) => {}
            (false, _) => options.push(("upstream_tls_verify", "false".into())),
        }
        options.extend(cert.map(|cert| ("upstream_tls_cert", cert)));
        options.extend(key.map(|key| ("upstream_tls_key", key)));
        Ok((ssl_mode, connector(host, &options)?))
    }
}

/// The certificates of authorities that a user has for libpq.
fn own_root() -> Option<String> {
    let path: PathBuf = [std::env::home_dir()?, ".postgresql".into(), "root.crt".into()].iter().collect();
    path.is_file().then(|| path.display().to_string())
}

/// The proxy's own way to speak TLS with a server.
fn connector<V: std::fmt::Display>(host: &str, options: &[(&str, V)]) -> anyhow::Result<MakeRustlsConnect> {
    let mut settings = Settings::new();
    settings.set("upstream_host", host)?;
    settings.set("upstream_tls", "true")?;
    for (name, value) in options {
        settings.set(name, value)?;
    }
    let config = Config::from_settings(settings).map_err(|error| {
        let told: Vec<String> = error.problems.iter().map(|problem| problem.message.clone()).collect();
        anyhow!("TLS with the database (sslrootcert, sslcert, sslkey): {}", told.join("; "))
    })?;
    let tls = config.upstream.tls.ok_or_else(|| anyhow!("there is no TLS to {host}"))?;
    Ok(MakeRustlsConnect::new(tls.config().as_ref().clone()))
}

/// The value at the front of `text`, and where it ends.
fn value(text: &str) -> Option<(String, usize)> {
    let is_quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut characters = text.char_indices().skip(usize::from(is_quoted));
    while let Some((index, character)) = characters.next() {
        match character {
            '\\' => value.push(characters.next()?.1),
            '\'' if is_quoted => return Some((value, index + 1)),
            _ if character.is_whitespace() && !is_quoted => return Some((value, index)),
            _ => value.push(character),
        }
    }
    (!is_quoted).then_some((value, text.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(mode: Option<&str>, root: Option<&str>) -> Parameters {
        Parameters { values: [mode.map(Into::into), root.map(Into::into), None, None] }
    }

    #[test]
    fn what_is_about_tls_is_taken_out_and_the_rest_is_left_as_it_was() -> anyhow::Result<()> {
        for (text, is_url, rest, expected) in [
            ("host=h sslmode=require dbname='b c'", false, "host=h dbname='b c' ", given(Some("require"), None)),
            ("sslmode = 'verify-full' port=1", false, "port=1 ", given(Some("verify-full"), None)),
            (
                r"sslrootcert='/a b\'c' password='x sslmode=disable'",
                false,
                "password='x sslmode=disable' ",
                given(None, Some("/a b'c")),
            ),
            (r"sslrootcert=/a\ b user=u", false, "user=u ", given(None, Some("/a b"))),
            ("postgresql://u:p@h/d?sslmode=require", true, "postgresql://u:p@h/d", given(Some("require"), None)),
            (
                "postgresql://h/d?application_name=x&sslrootcert=%2Fa%20b&options=-c%20x%3D1",
                true,
                "postgresql://h/d?application_name=x&options=-c%20x%3D1",
                given(None, Some("/a b")),
            ),
            ("postgresql://h/d", true, "postgresql://h/d", given(None, None)),
            ("", false, "", given(None, None)),
        ] {
            assert_eq!(Parameters::take(text, is_url)?, (rest.to_owned(), expected), "{text}");
        }
        for bad in ["sslmode='require", "sslmode=a\\"] {
            let error = Parameters::take(bad, false).expect_err(bad).to_string();
            assert!(!error.contains("require"), "{error}");
        }
        Ok(())
    }

    #[test]
    fn modes_are_those_of_psql_and_a_unix_socket_has_none() -> anyhow::Result<()> {
        let host = Host::Tcp("localhost".into());
        for (mode, expected) in [
            (Some("disable"), SslMode::Disable),
            (Some("allow"), SslMode::Prefer),
            (Some("prefer"), SslMode::Prefer),
            (None, SslMode::Prefer),
            (Some("require"), SslMode::Require),
        ] {
            assert_eq!(given(mode, None).connector(Some(&host))?.0, expected, "{mode:?}");
        }
        let socket = Host::Unix("/run/postgresql".into());
        assert_eq!(given(Some("verify-full"), None).connector(Some(&socket))?.0, SslMode::Disable);
        assert!(given(Some("verifyfull"), None).connector(Some(&host)).is_err());
        let error = given(Some("verify-full"), Some("/nowhere")).connector(Some(&host)).map(drop).expect_err("no file");
        assert!(error.to_string().contains("sslrootcert") && error.to_string().contains("/nowhere"), "{error}");
        Ok(())
    }

    #[test]
    fn the_environment_counts_where_nothing_was_given() {
        let variable = |name: &str| (name == "PGSSLMODE").then(|| "verify-full".to_owned());
        assert_eq!(given(None, None).completed(&variable), given(Some("verify-full"), None));
        assert_eq!(given(Some("disable"), None).completed(&variable), given(Some("disable"), None));
    }
}
