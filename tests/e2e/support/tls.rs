//! Certificates for tests, a server that speaks TLS, and clients that do.

use std::path::PathBuf;
use std::sync::Arc;

use pgvpd_core::rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use pgvpd_core::rustls::{ClientConfig, RootCertStore, crypto::ring};
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use tempfile::TempDir;
use tokio::sync::OnceCell;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, Config, Error};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{Cluster, TestProxy, eventually, within};

/// An authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its certificate, in PEM.
    pub pem: String,
}

/// A certificate and its key, in PEM.
#[derive(Debug, Clone)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// The key.
    pub key: String,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Authority(…)")
    }
}

impl Authority {
    /// Makes one.
    pub fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate of a server with these names.
    pub fn server(&self, names: &[&str]) -> Issued {
        self.issue(params(names, ExtendedKeyUsagePurpose::ServerAuth))
    }

    /// One of a client, with a common name and URIs.
    pub fn client(&self, common_name: &str, uris: &[&str]) -> Issued {
        let mut params = params(&[], ExtendedKeyUsagePurpose::ClientAuth);
        params.distinguished_name.push(DnType::CommonName, common_name);
        let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().expect("ASCII")));
        params.subject_alt_names.extend(uris);
        self.issue(params)
    }

    /// As these parameters say, but by this authority.
    pub fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().expect("a key");
        let cert = params.signed_by(&key, &self.issuer).expect("a certificate");
        Issued { cert: cert.pem(), key: key.serialize_pem() }
    }
}

/// A certificate's parameters, to be changed and issued.
pub fn params(names: &[&str], usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.extended_key_usages = vec![usage];
    params
}

/// A certificate that its time is over for, or has not come.
pub fn out_of_time(mut params: CertificateParams, from: i32, to: i32) -> CertificateParams {
    params.not_before = rcgen::date_time_ymd(from, 1, 1);
    params.not_after = rcgen::date_time_ymd(to, 1, 1);
    params
}

/// Files of a test.
#[derive(Debug)]
pub struct Files {
    path: PathBuf,
    _own: Option<TempDir>,
}

impl Files {
    /// An empty directory.
    pub fn new() -> Self {
        let own = TempDir::new().expect("a directory");
        Self { path: own.path().into(), _own: Some(own) }
    }

    /// Those of a server's own directory, which goes with it.
    fn of(cluster: &Cluster) -> Self {
        Self { path: cluster.postgres.socket_dir().into(), _own: None }
    }

    /// Writes a file, all at once, and gives its path.
    pub fn write(&self, name: &str, text: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let (path, new) = (self.path.join(name), self.path.join(format!(".{name}")));
        std::fs::write(&new, text).expect("written");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o600)).expect("permissions");
        std::fs::rename(&new, &path).expect("renamed");
        path.display().to_string()
    }
}

impl Default for Files {
    fn default() -> Self {
        Self::new()
    }
}

/// A server that speaks TLS, with what it takes to reach it and a proxy's own certificate.
#[derive(Debug)]
pub struct TlsSite {
    /// The server; its certificate is for `localhost` and 127.0.0.1.
    pub cluster: Cluster,
    /// Who has issued all certificates.
    pub authority: Authority,
    ca: String,
    cert: String,
    key: String,
}

/// The run's, started by whoever asks first.
pub async fn tls_site() -> &'static TlsSite {
    static SITE: OnceCell<TlsSite> = OnceCell::const_new();
    SITE.get_or_init(|| async {
        let (cluster, authority) = (Cluster::start().await, Authority::new("tests"));
        let files = Files::of(&cluster);
        secure(&cluster, &authority.server(&["localhost", "127.0.0.1"]), &authority).await;
        let own = authority.server(&["localhost", "127.0.0.1"]);
        let ca = files.write("ca.crt", &authority.pem);
        let (cert, key) = (files.write("proxy.crt", &own.cert), files.write("proxy.key", &own.key));
        TlsSite { cluster, authority, ca, cert, key }
    })
    .await
}

impl TlsSite {
    /// Options of TLS with clients.
    pub fn with_clients(&self) -> [(&str, &str); 2] {
        [("tls_cert", &self.cert), ("tls_key", &self.key)]
    }

    /// Options of TLS with the server.
    pub fn with_upstream(&self) -> [(&str, &str); 2] {
        [("upstream_tls", "true"), ("upstream_tls_ca", &self.ca)]
    }

    /// The authority's certificate.
    pub fn ca(&self) -> &str {
        &self.ca
    }
}

/// Has a server speak TLS with this certificate, and ask clients for one of this authority where its rules say so.
pub async fn secure(cluster: &Cluster, own: &Issued, authority: &Authority) {
    let admin = cluster.admin().await;
    for (name, text) in [("server.crt", &own.cert), ("server.key", &own.key), ("root.crt", &authority.pem)] {
        // By the server itself, so that the files are its user's.
        let lines = text.replace('\r', "");
        let sql = format!(
            "COPY (SELECT unnest(string_to_array('{lines}', E'\\n'))) TO PROGRAM 'umask 077; cat > {name}.new; mv {name}.new {name}'"
        );
        admin.batch_execute(&sql).await.expect("written");
    }
    for sql in ["ALTER SYSTEM SET ssl_ca_file = 'root.crt'", "ALTER SYSTEM SET ssl = on"] {
        admin.batch_execute(sql).await.expect("set");
    }
    cluster.postgres.reload().await.expect("reloaded");
    eventually("the server speaks TLS", async || {
        let row = cluster.admin().await.query_one("SHOW ssl", &[]).await.expect("asked");
        row.get::<_, &str>(0) == "on"
    })
    .await;
}

/// What a client of rustls's trusts and shows.
pub fn client_config(authority: &Authority, shown: Option<&Issued>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.pem.as_bytes()).expect("PEM")).expect("a root");
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let builder = builder.with_safe_default_protocol_versions().expect("versions").with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(Issued { cert, key }) => {
            let chain = vec![CertificateDer::from_pem_slice(cert.as_bytes()).expect("PEM")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("PEM");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    config
}

/// Logs in over TLS with tokio-postgres.
pub async fn log_in_over_tls(config: &Config, tls: ClientConfig) -> Result<Client, Error> {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Require);
    let (client, connection) = within("login", config.connect(MakeRustlsConnect::new(tls))).await?;
    tokio::spawn(connection);
    Ok(client)
}

impl TestProxy {
    /// Logs in over TLS as this user, trusting the site's authority.
    pub async fn log_in_secured(&self, site: &TlsSite, user: &str) -> Result<Client, Error> {
        log_in_over_tls(&self.config(user), client_config(&site.authority, None)).await
    }
}
