//! What options of TLS need of each other, and what is read from files.

use std::error::Error;

use rcgen::{CertificateParams, KeyPair};

use super::*;
use crate::config::Settings;

/// A certificate with its key, and a map, in files.
struct Files {
    directory: tempfile::TempDir,
}

impl Files {
    fn new() -> Result<Self, Box<dyn Error>> {
        let files = Self { directory: tempfile::tempdir()? };
        files.renew()?;
        std::fs::write(files.path("map"), "[[identity]]\ncn = 'a'\nrole = 'r'\ntenant = 't'\n")?;
        std::fs::write(files.path("empty"), "")?;
        std::fs::set_permissions(files.path("empty"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        Ok(files)
    }

    /// Another certificate of the same names.
    fn renew(&self) -> Result<(), Box<dyn Error>> {
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(["localhost".to_owned()])?.self_signed(&key)?;
        std::fs::write(self.path("cert"), certificate.pem())?;
        std::fs::write(self.path("key"), key.serialize_pem())?;
        std::fs::write(self.path("other_key"), KeyPair::generate()?.serialize_pem())?;
        for key in ["cert", "key", "other_key"] {
            std::fs::set_permissions(self.path(key), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    /// Names with a `@` stand for files.
    fn config(&self, options: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let mut settings = Settings::new();
        for (name, value) in options {
            let value = value.strip_prefix('@').map_or_else(|| (*value).to_owned(), |file| self.path(file));
            settings.set(name, value)?;
        }
        Config::from_settings(settings)
    }
}

const OWN: [(&str, &str); 2] = [("tls_cert", "@cert"), ("tls_key", "@key")];

#[test]
fn tls_is_spoken_where_there_is_a_certificate_and_needed_where_clients_show_theirs() -> Result<(), Box<dyn Error>> {
    let files = Files::new()?;
    let mode = |options: &[(&str, &str)]| files.config(options).map(|config| config.tls.mode);
    assert_eq!(mode(&[])?, ClientTlsMode::Disable);
    assert_eq!(mode(&OWN)?, ClientTlsMode::Allow);
    let verified = [&OWN[..], &[("tls_client_ca", "@cert"), ("client_cert", "verify")]].concat();
    assert_eq!(mode(&verified)?, ClientTlsMode::Require);
    let own_port = [&OWN[..], &[("client_tls", "disable"), ("tls_port", "0")]].concat();
    assert_eq!(mode(&own_port)?, ClientTlsMode::Disable);
    Ok(())
}

#[test]
fn what_cannot_be_meant_is_refused_and_says_what_to_change() -> Result<(), Box<dyn Error>> {
    let files = Files::new()?;
    let with_own = |more: &[(&'static str, &'static str)]| [&OWN[..], more].concat();
    for (options, option, expected) in [
        (vec![("tls_cert", "@cert")], "tls_cert", "needs tls_key"),
        (vec![("tls_key", "@key")], "tls_key", "needs tls_cert"),
        (vec![("tls_cert", "@nowhere"), ("tls_key", "@key")], "tls_cert", "cannot read"),
        (vec![("tls_cert", "@empty"), ("tls_key", "@key")], "tls_cert", "holds no certificate"),
        (
            vec![("tls_cert", "@empty"), ("tls_key", "@key"), ("auth_file", "@empty")],
            "tls_cert",
            "holds no certificate",
        ),
        (vec![("tls_cert", "@cert"), ("tls_key", "@empty")], "tls_key", "holds no private key"),
        (vec![("tls_cert", "@cert"), ("tls_key", "@cert")], "tls_key", "holds no private key"),
        (vec![("tls_cert", "@cert"), ("tls_key", "@other_key")], "tls_cert", "the key is not that of the certificate"),
        (with_own(&[("tls_client_ca", "@cert")]), "tls_client_ca", "client_cert"),
        (with_own(&[("client_cert", "verify")]), "client_cert", "needs tls_client_ca"),
        (with_own(&[("client_cert", "tenant"), ("tls_client_ca", "@cert")]), "client_cert", "needs cert_map"),
        (with_own(&[("cert_map", "@map")]), "cert_map", "client_cert = tenant"),
        (
            with_own(&[("client_cert", "tenant"), ("tls_client_ca", "@cert"), ("cert_map", "@empty")]),
            "cert_map",
            "block",
        ),
        (
            with_own(&[("client_cert", "verify"), ("tls_client_ca", "@cert"), ("client_tls", "allow")]),
            "client_tls",
            "use require",
        ),
        (with_own(&[("client_tls", "disable")]), "client_tls", "tls_port"),
        (with_own(&[("port", "6432"), ("tls_port", "6432")]), "tls_port", "give another"),
        (vec![("upstream_tls_ca", "@cert")], "upstream_tls_ca", "upstream_tls = true"),
        (vec![("upstream_tls", "true"), ("upstream_tls_ca", "@empty")], "upstream_tls_ca", "holds no certificate"),
        (
            vec![("upstream_tls", "true"), ("upstream_tls_verify", "false"), ("upstream_tls_ca", "@cert")],
            "upstream_tls_ca",
            "remove one",
        ),
        (
            vec![("upstream_tls", "true"), ("upstream_tls_ca", "@cert"), ("upstream_tls_cert", "@cert")],
            "upstream_tls_cert",
            "needs upstream_tls_key",
        ),
        (vec![("auth_file", "@empty")], "auth_file", "or tls_cert"),
    ] {
        let error = files.config(&options).expect_err(expected);
        assert_eq!(error.problems.len(), 1, "{options:?}: {error}");
        assert_eq!(error.problems[0].option.as_deref(), Some(option), "{error}");
        assert!(error.to_string().contains(expected), "{options:?}: {error}");
    }
    Ok(())
}

#[test]
fn files_that_say_the_same_change_nothing_and_bad_ones_are_refused_whole() -> Result<(), Box<dyn Error>> {
    let files = Files::new()?;
    let upstream = [("upstream_tls", "true"), ("upstream_tls_ca", "@cert")];
    let config = files.config(&[&OWN[..], &upstream].concat())?;
    assert!(config.with_tls_read_again()?.is_none(), "nothing has changed");
    files.renew()?;
    let next = config.with_tls_read_again()?.expect("another certificate");
    assert!(next.tls.clients != config.tls.clients && next.upstream != config.upstream);
    assert!(next.with_tls_read_again()?.is_none());
    std::fs::write(files.path("key"), "no key")?;
    assert!(config.with_tls_read_again().is_err());
    Ok(())
}

#[test]
fn a_readable_key_is_refused_and_an_unverified_server_is_said() -> Result<(), Box<dyn Error>> {
    use std::os::unix::fs::PermissionsExt;
    let files = Files::new()?;
    std::fs::set_permissions(files.path("key"), std::fs::Permissions::from_mode(0o644))?;
    let error = files.config(&OWN).expect_err("a key that others can read");
    assert!(error.to_string().contains("tls_key: ") && error.to_string().contains("chmod 600 "), "{error}");
    std::fs::set_permissions(files.path("key"), std::fs::Permissions::from_mode(0o640))?;
    assert_eq!(files.config(&OWN)?.notices, [""; 0]);
    let config = files.config(&[("upstream_tls", "true"), ("upstream_tls_verify", "false")])?;
    assert!(config.notices.iter().any(|notice| notice.contains("upstream_tls_verify")));
    Ok(())
}
