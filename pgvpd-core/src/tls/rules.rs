//! What is asked of TLS, with clients and with PostgreSQL.

use std::sync::Arc;

use super::{ClientTls, UpstreamTls};
use crate::tenant::CertMap;

/// How TLS is spoken with clients.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TlsRules {
    /// With which certificate; `None` where it is not spoken.
    pub clients: Option<ClientTls>,
    /// Whether it is spoken on `port`.
    pub mode: ClientTlsMode,
    /// What a client's certificate is for.
    pub client_cert: ClientCert,
}

/// Whether TLS is spoken on `port`. On `tls_port` nothing else is, on Unix sockets never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientTlsMode {
    /// No.
    Disable,
    /// With clients that ask for it.
    Allow,
    /// With all clients; others are refused.
    Require,
}

/// What a client's certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCert {
    /// It is not asked for.
    None,
    /// A client has to have one of an authority in `tls_client_ca`.
    Verify,
    /// It has to have one, and what that names decides which tenants it may claim.
    Tenant(Arc<CertMap>),
}

/// TLS configurations of a program's own, which count instead of what options name.
#[derive(Debug, Clone, Default)]
pub struct TlsConfigs {
    /// With clients.
    pub clients: Option<ClientTls>,
    /// With PostgreSQL.
    pub upstream: Option<UpstreamTls>,
}
