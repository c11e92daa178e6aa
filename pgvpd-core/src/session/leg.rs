//! The client's way to the proxy: whether it is TLS, and what that says of the client.

use std::sync::Arc;

use crate::address::ClientAddress;
use crate::config::Config;
use crate::error::Refusal;
use crate::net::Socket;
use crate::tenant::{CertificateNames, Identity, IdentityError};
use crate::tls::ClientCert;
use crate::wire::SqlState;

/// What is known of the way when the client says who it is.
#[derive(Debug, Clone, Default)]
pub(super) struct Leg {
    pub(super) is_tls: bool,
    /// What a proof can be bound to: the data of `tls-server-end-point`.
    pub(super) end_point: Option<Arc<[u8]>>,
    /// What the client's certificate names; it has been verified.
    names: Option<CertificateNames>,
}

impl Leg {
    pub(super) fn of(socket: &Socket) -> Self {
        let Some(tls) = socket.tls() else { return Self::default() };
        Self { is_tls: true, end_point: tls.end_point().cloned(), names: tls.peer_names() }
    }

    /// Whether a bypass user may come this way.
    pub(super) fn admit_bypass(&self, address: ClientAddress, config: &Config) -> Result<(), Refusal> {
        // Over a Unix socket nobody has a certificate: it is how an administrator gets in when certificates are wrong.
        match (&config.tls.client_cert, &self.names) {
            (ClientCert::Verify | ClientCert::Tenant(_), None) if address != ClientAddress::Unix => {
                Err(Refusal::no_certificate())
            }
            _ => Ok(()),
        }
    }

    /// Who a tenant's client is, by its user name and its certificate.
    ///
    /// # Errors
    /// A refusal, and what the log says of it besides.
    pub(super) fn identify(&self, user: &str, config: &Config) -> Result<Identity, (Refusal, Option<String>)> {
        self.identified(user, config).map_err(|refusal| {
            // Which certificate it was is for the log alone.
            let certificate = self.names.as_ref().map(|names| format!("certificate {names}"));
            (refusal, certificate)
        })
    }

    fn identified(&self, user: &str, config: &Config) -> Result<Identity, Refusal> {
        let map = match &config.tls.client_cert {
            ClientCert::None => return Ok(config.identity.identify(user)?),
            ClientCert::Verify => None,
            ClientCert::Tenant(map) => Some(map),
        };
        let names = self.names.as_ref().ok_or_else(Refusal::no_certificate)?;
        let Some(map) = map else { return Ok(config.identity.identify(user)?) };
        let identity = match config.identity.identify(user) {
            // The certificate supplies the tenant, where it stands for one.
            Err(error @ IdentityError::NoTenant { .. }) if config.identity.variables.len() == 1 => {
                let tenant = map.only_tenant(names, user).filter(|tenant| !tenant.contains(char::is_control));
                let tenant = tenant.ok_or(error)?;
                config.identity.identify(&format!("{user}{}{tenant}", config.identity.separator))?
            }
            identified => identified?,
        };
        if map.permits(names, identity.named_role(), identity.tenant()) {
            return Ok(identity);
        }
        Err(Refusal::not_this_certificate(user))
    }
}

impl Refusal {
    /// `client_tls = require`, or `tls_port`.
    pub(super) fn no_tls() -> Self {
        Self::new(SqlState::INVALID_AUTHORIZATION, "the connection is not encrypted, and this server takes no other")
            .hint("Connect with sslmode=require, or better verify-full. (client_tls = require, or tls_port)")
    }

    fn no_certificate() -> Self {
        Self::new(SqlState::INVALID_AUTHORIZATION, "connection requires a valid client certificate").hint(
            "Connect over TLS with a certificate of an authority in tls_client_ca: sslcert and sslkey. (client_cert)",
        )
    }

    fn not_this_certificate(user: &str) -> Self {
        let message = format_args!("the client certificate does not permit a login as {user:?}");
        Self::new(SqlState::INVALID_AUTHORIZATION, message).hint("cert_map says what a certificate may claim.")
    }
}
