//! What a login is about: who logs in, over which legs, what was asked of the protocol; and what it yields.

use std::sync::Arc;

use crate::context::{Confirmed, Injection, RoleFault, Token};
use crate::tenant::Identity;
use crate::wire::{CancelKey, ProtocolVersion, negotiate_protocol_version, sasl_initial};

/// Who logs in.
#[derive(Debug)]
pub(super) enum Who {
    /// A tenant, with what is to be set.
    Tenant { identity: Identity, injection: Arc<Injection> },
    /// A user of `superuser_bypass`.
    Bypass,
}

impl Who {
    pub(super) fn role(&self) -> &str {
        match self {
            Self::Tenant { identity, .. } => identity.role(),
            Self::Bypass => "",
        }
    }
}

/// Writes to the log that policies do not hold a role.
pub(super) fn warn_of_role(role: &str, fault: &RoleFault) {
    tracing::warn!(role, %fault, "role_check: policies cannot hold this role");
}

/// What the rules about proofs and passwords need to know of the two legs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Legs {
    /// The client is on loopback or a Unix socket.
    pub(super) client_is_local: bool,
    /// So is the server.
    pub(super) upstream_is_local: bool,
    /// The client has come over TLS.
    pub(super) client_is_tls: bool,
    /// The server is reached over TLS.
    pub(super) upstream_is_tls: bool,
    pub(super) allow_trust: bool,
    pub(super) allow_cleartext: bool,
}

#[cfg(test)]
impl Legs {
    /// Everybody on loopback, without TLS, and nothing allowed beyond that.
    pub(super) const LOCAL: Self = Self {
        client_is_local: true,
        upstream_is_local: true,
        client_is_tls: false,
        upstream_is_tls: false,
        allow_trust: false,
        allow_cleartext: false,
    };
}

/// What the one reply that the server waits for is to be.
#[derive(Debug, Clone, Copy)]
pub(super) enum Reply {
    /// Passed on as it is.
    Relay,
    /// The first message of SCRAM, passed on as it is if that can work.
    RelayFirst,
    /// A password, hashed here for an MD5 request with this salt.
    HashMd5 { salt: [u8; 4] },
}

impl Reply {
    /// True if a client's first message of SCRAM says that it could bind to the channel, and believes that the server could not.
    pub(super) fn says_not_offered(body: &[u8]) -> bool {
        sasl_initial(body).is_some_and(|(_, data)| data.first() == Some(&b'y'))
    }
}

/// What the client asked of the protocol beyond 3.0.
#[derive(Debug, Clone)]
pub(super) struct Negotiation {
    /// The version it asked for.
    pub(super) version: ProtocolVersion,
    /// The `_pq_.` options that it asked for.
    pub(super) unknown_options: Vec<String>,
}

impl Negotiation {
    fn must_be_answered(&self) -> bool {
        self.version > ProtocolVersion::LATEST || !self.unknown_options.is_empty()
    }

    /// Appends NegotiateProtocolVersion to `out`, where the client asked for more than there is.
    pub(super) fn answer(&self, out: &mut Vec<u8>) {
        if self.must_be_answered() {
            negotiate_protocol_version(out, self.version.min(ProtocolVersion::LATEST), &self.unknown_options);
        }
    }
}

/// Proof that a session may be relayed: its context is confirmed, or its user needs none.
#[derive(Debug)]
pub(super) enum Permit {
    /// With the signed context that the database has verified, where contexts are signed.
    Context(Confirmed, Option<Token>),
    Bypass,
}

/// A finished login.
#[derive(Debug)]
pub(super) struct LoggedIn {
    pub(super) permit: Permit,
    /// What a CancelRequest must carry; poolers may not give one.
    pub(super) cancel_key: Option<CancelKey>,
    /// As the server reported it.
    pub(super) client_encoding: Vec<u8>,
    /// What is in force; `None` for a bypass user.
    pub(super) injection: Option<Arc<Injection>>,
}
