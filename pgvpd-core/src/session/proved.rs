//! Clients that prove themselves to the proxy, and the proxy that proves itself to the server for them: those of a pool, and in
//! passthrough those on TLS, whose proof is for the proxy's certificate and cannot be relayed.

use super::Ended;
use super::admit::AdmittedClient;
use super::authenticate::{Claim, authenticate};
use super::passthrough::client_leaves;
use crate::auth::AuthFile;
use crate::config::Config;
use crate::error::Refusal;
use crate::net::{Conn, Socket};
use crate::shared::Shared;
use crate::upstream::{UpstreamError, prove};
use crate::wire::{ErrorFields, fatal_error_response};

/// The role of a client of passthrough that has proved itself to the proxy.
pub(super) struct ProvedRole(Box<str>);

/// Authenticates a tenant's client of passthrough, if the client is on TLS and the proxy knows secrets of roles: only then its proof can
/// be verified, and only here. Returns `None` if the server is to authenticate it.
pub(super) async fn prove_client(
    client: &mut Conn<Socket>,
    admitted: &AdmittedClient,
    shared: &Shared,
    config: &Config,
) -> Result<Option<ProvedRole>, Ended> {
    // A file that has nobody but those who use the console says nothing of tenants' roles.
    let has_roles = |file: &AuthFile| file.roles().any(|role| config.admin_users.secret(role).is_none());
    let knows = config.secrets.file.as_deref().is_some_and(has_roles) || config.secrets.query.is_some();
    if !admitted.leg.is_tls || !knows {
        return Ok(None);
    }
    authenticate(client, Claim::of(admitted), shared, config).await?;
    Ok(Some(ProvedRole(admitted.info().role.clone())))
}

impl ProvedRole {
    /// Answers a server that has been sent the client's startup packet, until AuthenticationOk.
    pub(super) async fn prove_upstream(
        &self,
        client: &mut Conn<Socket>,
        upstream: &mut Conn<Socket>,
        shared: &Shared,
        config: &Config,
    ) -> Result<(), Ended> {
        let credentials = shared.secrets.for_upstream(&self.0, config);
        let proved = tokio::select! {
            proved = prove(upstream, &self.0, &credentials, config.allow_cleartext, &shared.deriver) => proved,
            ended = client_leaves(client) => return Err(ended),
        };
        proved.map_err(|error| end(client, &error))
    }
}

/// What becomes of a client whose server refuses the proxy.
pub(super) fn end(client: &mut Conn<Socket>, error: &UpstreamError) -> Ended {
    match error {
        // What PostgreSQL says of the client's request; what it says of the proxy's own login is not for the client.
        UpstreamError::Refused { body, .. } if !is_about_the_proxy(body) => pass_on(client, body),
        error => Ended::Refused { refusal: Refusal::from(error), detail: Some(error.for_log()) },
    }
}

/// Class 28 is about a login, and the login was the proxy's.
pub(super) fn is_about_the_proxy(body: &[u8]) -> bool {
    ErrorFields::new(body).code().is_some_and(|code| code.starts_with("28"))
}

/// PostgreSQL's own error, unchanged but for its severity: the session ends with it.
pub(super) fn pass_on(client: &mut Conn<Socket>, body: &[u8]) -> Ended {
    let mut message = Vec::new();
    fatal_error_response(&mut message, body);
    client.queue(&message);
    Ended::PassedOn(ErrorFields::new(body).summary())
}
