//! Options of TLS, with clients and with PostgreSQL.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reader::{Checked, Reader};
use super::values;
use super::{Config, ConfigError};
use crate::tenant::CertMap;
use crate::tls::{
    Authorities, ClientCert, ClientTls, ClientTlsMode, FileError, Identity, TlsConfigs, TlsRules, UpstreamTls,
    Verification, read_authorities, read_identity,
};

/// Everything that this file reads.
pub(super) struct Tls {
    pub(super) rules: TlsRules,
    pub(super) port: Option<u16>,
    pub(super) upstream: Option<UpstreamTls>,
    /// What the operator should know and is not wrong.
    pub(super) notices: Vec<String>,
}

/// Options that name files, which are read again when they change.
const FILES: &[&str] =
    &["tls_cert", "tls_key", "tls_client_ca", "cert_map", "upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key"];

/// Reads the options.
pub(super) fn tls(reader: &Reader<'_>, own: &TlsConfigs, upstream_host: &str) -> Tls {
    let mut notices = Vec::new();
    let port = reader.read("tls_port", values::optional_port).flatten();
    let rules = rules(reader, own, port);
    let upstream = upstream(reader, own, upstream_host, &mut notices);
    Tls { rules, port, upstream, notices }
}

fn is_set(reader: &Reader<'_>, option: &str) -> bool {
    reader.settings.value(option).is_some()
}

/// Says of each of these options that it has no effect.
fn void(reader: &Reader<'_>, options: &[&str], without: &str) {
    for option in options.iter().filter(|option| is_set(reader, option) && !reader.is_problem(option)) {
        reader.problem(option, format!("has no effect without {without}; set it, or remove this"));
    }
}

fn rules(reader: &Reader<'_>, own: &TlsConfigs, port: Option<u16>) -> TlsRules {
    let mode = reader.read("client_tls", values::client_tls);
    let wanted = reader.read("client_cert", values::client_cert).unwrap_or(WantedCert::None);
    let map = reader.read("cert_map", |path| read_map(Path::new(path)));
    let authorities = reader.read("tls_client_ca", |path| checked(read_authorities(Path::new(path))));
    let identity = identity(reader, "tls_cert", "tls_key");
    let is_spoken = own.clients.is_some() || is_set(reader, "tls_cert");
    if !is_spoken {
        void(reader, &["tls_client_ca"], "tls_cert and tls_key");
        if port.is_some() {
            reader.problem("tls_port", "needs tls_cert and tls_key, the proxy's certificate".into());
        }
        if matches!(mode, Some(ClientTlsMode::Allow | ClientTlsMode::Require)) {
            reader.problem("client_tls", "needs tls_cert and tls_key, the proxy's certificate".into());
        }
        if wanted != WantedCert::None {
            reader.problem("client_cert", "needs tls_cert and tls_key: certificates are shown in TLS".into());
        }
    }
    let has_authorities = own.clients.is_some() || is_set(reader, "tls_client_ca");
    match wanted {
        WantedCert::None => void(reader, &["tls_client_ca"], "client_cert = verify or tenant"),
        WantedCert::Verify | WantedCert::Tenant if !has_authorities && is_spoken => {
            reader.problem("client_cert", "needs tls_client_ca, the authorities whose certificates count".into());
        }
        WantedCert::Verify | WantedCert::Tenant => {}
    }
    if wanted == WantedCert::Tenant && !is_set(reader, "cert_map") {
        reader.problem("client_cert", "tenant needs cert_map, which says what a certificate may claim".into());
    }
    if wanted != WantedCert::Tenant {
        void(reader, &["cert_map"], "client_cert = tenant");
    }
    if wanted != WantedCert::None && mode == Some(ClientTlsMode::Allow) {
        let message = "allow lets clients in without TLS, and so without the certificate that client_cert asks for; \
                       use require";
        reader.problem("client_tls", message.into());
    }
    if mode == Some(ClientTlsMode::Disable) && is_spoken && port.is_none() {
        reader.problem("client_tls", "disable leaves no port where TLS is spoken; set tls_port, or remove this".into());
    }
    let made = identity.and_then(|identity| {
        let made = ClientTls::from_files(&identity, authorities.as_ref());
        made.map_err(|error| reader.problem("tls_cert", error.to_string())).ok()
    });
    let client_cert = match (wanted, map) {
        (WantedCert::None, _) => ClientCert::None,
        (WantedCert::Tenant, Some(map)) => ClientCert::Tenant(Arc::new(map)),
        // Without its map it is a problem, and never in force.
        (WantedCert::Verify | WantedCert::Tenant, _) => ClientCert::Verify,
    };
    let default = match (is_spoken, &client_cert) {
        (false, _) => ClientTlsMode::Disable,
        (true, ClientCert::None) => ClientTlsMode::Allow,
        (true, _) => ClientTlsMode::Require,
    };
    TlsRules { clients: own.clients.clone().or(made), mode: mode.unwrap_or(default), client_cert }
}

fn upstream(reader: &Reader<'_>, own: &TlsConfigs, host: &str, notices: &mut Vec<String>) -> Option<UpstreamTls> {
    let is_on = reader.read("upstream_tls", values::boolean);
    let verify = reader.read("upstream_tls_verify", values::boolean).unwrap_or(true);
    let authorities = reader.read("upstream_tls_ca", |path| checked(read_authorities(Path::new(path))));
    let identity = identity(reader, "upstream_tls_cert", "upstream_tls_key");
    let is_on = is_on.unwrap_or(own.upstream.is_some());
    if !is_on {
        void(reader, &["upstream_tls_ca", "upstream_tls_cert", "upstream_tls_key"], "upstream_tls = true");
        if !verify {
            void(reader, &["upstream_tls_verify"], "upstream_tls = true");
        }
        return None;
    }
    if host.starts_with('/') {
        let message = "is not spoken over a Unix socket, which upstream_host names; give a host name, or remove this";
        reader.problem("upstream_tls", message.into());
        return None;
    }
    if own.upstream.is_some() {
        return own.upstream.clone();
    }
    if !verify && is_set(reader, "upstream_tls_ca") {
        let message = "has no effect with upstream_tls_verify = false; remove one";
        reader.problem("upstream_tls_ca", message.into());
    }
    if !verify {
        notices.push(
            "upstream_tls_verify = false: whoever can come between the proxy and PostgreSQL can pass for PostgreSQL"
                .into(),
        );
    }
    let system;
    let verification = match (verify, &authorities) {
        (false, _) => Verification::None,
        (true, Some(authorities)) => Verification::Authorities(authorities),
        (true, None) if is_set(reader, "upstream_tls_ca") => return None,
        (true, None) => {
            system =
                Authorities::of_the_system().map_err(|error| reader.problem("upstream_tls", error.to_string())).ok()?;
            Verification::System(&system)
        }
    };
    let made = UpstreamTls::from_files(&verification, identity.as_ref());
    made.map_err(|error| reader.problem("upstream_tls", error.to_string())).ok()
}

/// A certificate and its key: neither is of use without the other.
fn identity(reader: &Reader<'_>, cert: &str, key: &str) -> Option<Identity> {
    for (option, other) in [(cert, key), (key, cert)] {
        if is_set(reader, option) && !is_set(reader, other) {
            reader.problem(option, format!("needs {other} beside it"));
        }
    }
    let (cert_path, key_path) = (path(reader, cert)?, path(reader, key)?);
    if let Err(message) = reader.secret_file(&key_path, "a private key") {
        reader.problem(key, message);
        return None;
    }
    match read_identity(&cert_path, &key_path) {
        Ok(identity) => Some(identity),
        Err(error) => {
            let is_about_the_key = error.to_string().contains(&key_path.display().to_string());
            reader.problem(if is_about_the_key { key } else { cert }, error.to_string());
            None
        }
    }
}

fn path(reader: &Reader<'_>, option: &str) -> Option<PathBuf> {
    reader.settings.value(option).map(PathBuf::from)
}

fn read_map(path: &Path) -> Checked<CertMap> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    CertMap::parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

fn checked<T>(read: Result<T, FileError>) -> Checked<T> {
    read.map_err(|error| error.to_string())
}

/// `client_cert`, before its map is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WantedCert {
    None,
    Verify,
    Tenant,
}

impl Config {
    /// Checks the settings, with TLS configurations of a program's own. What they say counts instead of `tls_cert` and
    /// `upstream_tls_ca` with what goes with them.
    ///
    /// # Errors
    /// [`ConfigError`] lists every problem at once.
    pub fn from_settings_and_tls(settings: super::Settings, tls: TlsConfigs) -> Result<Self, ConfigError> {
        super::check::check(settings, tls)
    }

    /// The files that TLS is set up from.
    pub(crate) fn tls_files(&self) -> Vec<PathBuf> {
        FILES.iter().filter_map(|option| self.settings.value(option)).map(PathBuf::from).collect()
    }

    /// This configuration with those files as they are now; `None` where they say the same as before.
    ///
    /// # Errors
    /// [`ConfigError`] lists every problem of the files.
    pub(crate) fn with_tls_read_again(&self) -> Result<Option<Self>, ConfigError> {
        let reader = Reader::new(&self.settings);
        let Tls { rules, upstream, .. } = tls(&reader, &self.own_tls, &self.upstream.host);
        let problems = reader.into_problems();
        if !problems.is_empty() {
            return Err(ConfigError { problems });
        }
        let mut next = self.clone();
        next.tls = rules;
        next.upstream.tls = upstream;
        next.keep_tls_of(self);
        let is_same = next.tls.clients == self.tls.clients
            && next.tls.client_cert == self.tls.client_cert
            && next.upstream == self.upstream;
        Ok((!is_same).then_some(next))
    }

    /// Goes on with what another configuration has where both say the same: clients can resume sessions, and pools go on with
    /// their connections.
    pub(crate) fn keep_tls_of(&mut self, other: &Self) {
        if self.tls.clients == other.tls.clients {
            self.tls.clients.clone_from(&other.tls.clients);
        }
        if self.upstream.tls == other.upstream.tls {
            self.upstream.tls.clone_from(&other.upstream.tls);
        }
    }
}

#[cfg(test)]
#[path = "tls_tests.rs"]
mod tests;
