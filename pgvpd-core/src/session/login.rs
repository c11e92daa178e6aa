//! The login of passthrough as a state machine over whole messages: the client's proof is relayed to the server, the
//! server's answer is checked, the context is set, and only then is ReadyForQuery passed on. No I/O.
//!
//! ```text
//!                AuthenticationOk            ReadyForQuery                  confirmed, ReadyForQuery
//! Authenticating ────────────────► Starting ──┬────────────► Setting ─────────────────────────────────► Ready
//!   ▲        │ request                        └ bypass user ──────────────────────────────────────────► Ready
//!   │        ▼
//!   └─ one client reply
//!
//! Checking, before Setting, if the role has not been asked about recently: policies must be able to hold it.
//! Resolving, before Setting, if resolvers work out a part of the context.
//! Setting is the matter of ContextSetup.
//!
//! in every state: ErrorResponse ─► passed on, end.  Anything unexpected ─► refusal, end.
//! ```

#[path = "login_context.rs"]
mod context;
#[path = "login_settings.rs"]
mod settings;

use std::sync::Arc;

use zeroize::Zeroizing;

use self::settings::Settings;
use super::login_error::{LoginEnd, LoginError};
use super::login_terms::Reply;
pub(super) use super::login_terms::{Legs, LoggedIn, Negotiation, Permit, Who, warn_of_role};
use crate::auth::{SCRAM_SHA_256, md5_password};
use crate::context::{ContextSetup, Facts, Injection, RoleCheck};
use crate::tenant::VariableName;
use crate::wire::{
    Authentication, BackendKeyData, CancelKey, ErrorFields, Frame, ParameterStatus, ProtocolVersion, Replies,
    TransactionStatus, authentication_cleartext_password, authentication_sasl, negotiate_protocol_version,
    password_message, tag,
};

/// Server encodings under which the bytes of a startup parameter are the characters that the proxy means.
const UTF8_ENCODINGS: &[&[u8]] = &[b"UTF8", b"SQL_ASCII"];

#[derive(Debug)]
enum State {
    Authenticating,
    Starting,
    /// The limits that its statements would run under are lifted.
    Lifting,
    /// Others work out what is to be set.
    Resolving,
    /// Whether policies hold the role.
    Checking(Replies),
    /// The context is being set.
    Setting(Box<ContextSetup>),
    Ended,
}

/// The state machine. Bytes for either side are appended to `to_client` and `to_upstream`.
pub(super) struct Login {
    who: Who,
    legs: Legs,
    negotiation: Option<Negotiation>,
    state: State,
    expected: Option<Reply>,
    proof_given: bool,
    pub(super) cancel_key: Option<CancelKey>,
    /// The role is to be asked about, and what a fault leads to.
    role_check: Option<RoleCheck>,
    /// The context is yet to be worked out.
    resolves: bool,
    server_encoding_is_utf8: bool,
    client_encoding: Vec<u8>,
    /// `None` where settings are left as they are.
    settings: Option<Box<Settings>>,
    pub(super) to_client: Zeroizing<Vec<u8>>,
    pub(super) to_upstream: Zeroizing<Vec<u8>>,
}

impl Login {
    pub(super) fn new(who: Who, legs: Legs, negotiation: Negotiation) -> Self {
        Self {
            who,
            legs,
            negotiation: Some(negotiation),
            state: State::Authenticating,
            expected: None,
            proof_given: false,
            cancel_key: None,
            role_check: None,
            resolves: false,
            server_encoding_is_utf8: false,
            client_encoding: Vec::new(),
            settings: None,
            to_client: Zeroizing::new(Vec::new()),
            to_upstream: Zeroizing::new(Vec::new()),
        }
    }

    /// Has the role asked about before the context is set.
    pub(super) fn checking(self, role_check: Option<RoleCheck>) -> Self {
        Self { role_check, ..self }
    }

    /// Has it wait for what resolvers find.
    pub(super) fn resolving(self, resolves: bool) -> Self {
        Self { resolves, ..self }
    }

    /// Has it begin behind AuthenticationOk: the client has proved itself to the proxy, and the proxy to the server.
    pub(super) fn authenticated(self) -> Self {
        Self { negotiation: None, proof_given: true, state: State::Starting, ..self }
    }

    /// True behind AuthenticationOk.
    pub(super) fn is_authenticated(&self) -> bool {
        !matches!(self.state, State::Authenticating)
    }

    /// True while it waits for that. Nothing is outstanding on the server's connection, which may be used for it.
    pub(super) fn awaits_context(&self) -> bool {
        matches!(self.state, State::Resolving) && !self.is_settling()
    }

    /// Goes on with what resolvers have found; `facts`: what the context is to be signed for, where that is known.
    pub(super) fn resolved(&mut self, found: &[(VariableName, String)], facts: Option<Facts>) {
        if let Who::Tenant { identity, injection } = &self.who {
            let injection = Arc::new(Injection::clone(injection).with_found(found));
            self.who = Who::Tenant { identity: identity.clone(), injection };
        }
        self.resolves = false;
        self.set_context(|injection| ContextSetup::at_login_with(injection, facts));
    }

    /// True while the server waits for the client's reply; every other byte of the client's is held back.
    pub(super) fn awaits_client(&self) -> bool {
        self.expected.is_some()
    }

    /// Takes the client's reply.
    pub(super) fn on_client(&mut self, message: Frame<'_>) -> Result<(), LoginError> {
        let Some(reply) = self.expected.take().filter(|_| message.tag == tag::PASSWORD) else {
            return Err(LoginError::UnexpectedReply(char::from(message.tag)));
        };
        match (reply, &self.who) {
            // The server, which has offered channel binding, would take its absence from the offer for an attack.
            (Reply::RelayFirst, _) if self.legs.upstream_is_tls && Reply::says_not_offered(message.body) => {
                return Err(LoginError::ChannelBinding);
            }
            (Reply::HashMd5 { salt }, Who::Tenant { identity, .. }) => {
                let password = message.body.split(|&byte| byte == 0).next().unwrap_or_default();
                let hashed = md5_password(identity.role(), password, salt);
                password_message(&mut self.to_upstream, hashed.as_bytes());
            }
            _ => append(&mut self.to_upstream, message),
        }
        if !matches!(reply, Reply::RelayFirst) {
            self.lift();
        }
        self.proof_given = true;
        Ok(())
    }

    /// Takes a message of the server's. Gives the finished login at its end.
    pub(super) fn on_upstream(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        let is_aside = matches!(message.tag, tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS);
        if !is_aside && let Some(settled) = self.on_settings(message) {
            return settled;
        }
        match message.tag {
            tag::ERROR_RESPONSE if self.tolerates(message) => return self.on_setting(message),
            tag::ERROR_RESPONSE => return Err(self.on_error(message)),
            tag::NOTICE_RESPONSE => {
                append(&mut self.to_client, message);
                return Ok(None);
            }
            tag::PARAMETER_STATUS => {
                self.on_parameter_status(message)?;
                return Ok(None);
            }
            _ => {}
        }
        match &self.state {
            State::Authenticating => self.on_authentication(message).map(|()| None),
            State::Starting => self.on_starting(message),
            State::Checking(_) => self.on_checking(message),
            State::Setting(_) => self.on_setting(message),
            State::Lifting | State::Resolving | State::Ended => Err(unexpected(message).into()),
        }
    }

    fn on_error(&mut self, message: Frame<'_>) -> LoginEnd {
        let fields = ErrorFields::new(message.body);
        let text = fields.message().unwrap_or_default();
        self.note_end(&fields);
        if let (State::Setting(setup), Who::Tenant { injection, .. }) = (&self.state, &self.who)
            && setup.is_setting()
            && injection.is_not_installed(&fields)
        {
            return LoginError::NotInstalled.into();
        }
        if let Who::Tenant { injection, .. } = &self.who
            && text.contains("startup parameter")
            && let Some((name, _)) = injection.startup_parameters().into_iter().find(|(name, _)| text.contains(name))
        {
            return LoginError::StartupParameterRefused(name).into();
        }
        self.state = State::Ended;
        append(&mut self.to_client, message);
        LoginEnd::PassedOn(fields.summary())
    }

    fn on_parameter_status(&mut self, message: Frame<'_>) -> Result<(), LoginError> {
        let status = ParameterStatus::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
        match status.name {
            b"is_superuser" if status.value == b"on" && matches!(self.who, Who::Tenant { .. }) => {
                return Err(LoginError::Superuser);
            }
            b"client_encoding" => self.client_encoding = status.value.to_vec(),
            b"server_version" => self.settings.iter_mut().for_each(|settings| settings.set_version(status.value)),
            b"server_encoding" => self.server_encoding_is_utf8 = UTF8_ENCODINGS.contains(&status.value),
            _ => {}
        }
        append(&mut self.to_client, message);
        Ok(())
    }

    fn on_authentication(&mut self, message: Frame<'_>) -> Result<(), LoginEnd> {
        // A server that speaks an older version, or does not know an option, says so before anything else.
        if message.tag == tag::NEGOTIATE_PROTOCOL_VERSION {
            let negotiation = self.negotiation.take().ok_or_else(|| unexpected(message))?;
            let version = message.body.first_chunk().ok_or_else(|| unexpected(message))?;
            let version = ProtocolVersion::from_bytes(*version).min(ProtocolVersion::LATEST);
            negotiate_protocol_version(&mut self.to_client, version, &negotiation.unknown_options);
            return Ok(());
        }
        if message.tag != tag::AUTHENTICATION || self.expected.is_some() {
            return Err(unexpected(message).into());
        }
        if let Some(negotiation) = self.negotiation.take() {
            negotiation.answer(&mut self.to_client);
        }
        match Authentication::parse(message.body).map_err(LoginError::UpstreamProtocol)? {
            Authentication::Ok => self.on_authenticated(message)?,
            Authentication::SaslFinal(_) => append(&mut self.to_client, message),
            Authentication::SaslContinue(_) => self.relay_request(message),
            Authentication::CleartextPassword => {
                self.permit_cleartext(self.legs.upstream_is_local || self.legs.upstream_is_tls)?;
                self.relay_request(message);
            }
            Authentication::Sasl { mechanisms } => {
                if !mechanisms.contains(&SCRAM_SHA_256) {
                    return Err(LoginError::Method(mechanisms.join(", ")).into());
                }
                // Never with channel binding: libpq refuses that on a plain connection, and on TLS it would be to the proxy's
                // certificate, which is not the server's.
                authentication_sasl(&mut self.to_client, &[SCRAM_SHA_256]);
                self.expected = Some(Reply::RelayFirst);
            }
            Authentication::Md5Password { salt } => match self.who {
                Who::Bypass => self.relay_request(message),
                // The client would hash the name it typed, and the server hashes the role.
                Who::Tenant { .. } => {
                    self.permit_cleartext(true)?;
                    authentication_cleartext_password(&mut self.to_client);
                    self.expected = Some(Reply::HashMd5 { salt });
                }
            },
            Authentication::Other(method) => return Err(LoginError::Method(Authentication::method_name(method)).into()),
        }
        Ok(())
    }

    fn relay_request(&mut self, message: Frame<'_>) {
        append(&mut self.to_client, message);
        self.expected = Some(Reply::Relay);
    }

    /// A password may cross the client's leg, and the server's where it does, only unseen.
    fn permit_cleartext(&self, upstream_leg_is_safe: bool) -> Result<(), LoginError> {
        let safe = (self.legs.client_is_local || self.legs.client_is_tls) && upstream_leg_is_safe;
        if safe || self.legs.allow_cleartext { Ok(()) } else { Err(LoginError::Cleartext) }
    }

    fn on_authenticated(&mut self, message: Frame<'_>) -> Result<(), LoginError> {
        // Without proof, the server has let the proxy in for where the proxy is; a remote client is elsewhere.
        if !self.proof_given && !self.legs.client_is_local && !self.legs.allow_trust {
            return Err(LoginError::Trust);
        }
        append(&mut self.to_client, message);
        self.state = State::Starting;
        Ok(())
    }

    fn on_starting(&mut self, message: Frame<'_>) -> Result<Option<LoggedIn>, LoginEnd> {
        match message.tag {
            tag::BACKEND_KEY_DATA => {
                let key = BackendKeyData::parse(message.body).map_err(LoginError::UpstreamProtocol)?;
                self.cancel_key = Some(key);
                append(&mut self.to_client, message);
                Ok(None)
            }
            tag::READY_FOR_QUERY => {
                self.require_idle(message)?;
                match &self.who {
                    Who::Bypass => Ok(Some(self.finish(Permit::Bypass, message))),
                    Who::Tenant { injection, .. } => {
                        let sent = injection.startup_parameters();
                        let foreign = sent.into_iter().find(|(_, value)| !value.is_ascii());
                        if let Some((name, _)) = foreign.filter(|_| !self.server_encoding_is_utf8) {
                            return Err(LoginError::Encoding(name).into());
                        }
                        self.begin();
                        Ok(None)
                    }
                }
            }
            _ => Err(unexpected(message).into()),
        }
    }

    fn require_idle(&self, message: Frame<'_>) -> Result<(), LoginError> {
        match TransactionStatus::parse(message.body) {
            Ok(TransactionStatus::Idle) => Ok(()),
            _ => Err(unexpected(message)),
        }
    }

    /// With the settings that were undone, which a RESET would bring back.
    fn with_undone(&mut self, injection: Arc<Injection>) -> Arc<Injection> {
        let undone = self.take_undone();
        if undone.is_empty() { injection } else { Arc::new(Arc::unwrap_or_clone(injection).preferring(undone)) }
    }

    fn finish(&mut self, permit: Permit, ready: Frame<'_>) -> LoggedIn {
        append(&mut self.to_client, ready);
        self.state = State::Ended;
        LoggedIn {
            permit,
            cancel_key: self.cancel_key.take(),
            client_encoding: std::mem::take(&mut self.client_encoding),
            injection: match std::mem::replace(&mut self.who, Who::Bypass) {
                Who::Tenant { injection, .. } => Some(self.with_undone(injection)),
                Who::Bypass => None,
            },
        }
    }
}

/// Appends a message as it came.
fn append(out: &mut Vec<u8>, message: Frame<'_>) {
    out.push(message.tag);
    out.extend(u32::try_from(message.body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(message.body);
}

fn unexpected(message: Frame<'_>) -> LoginError {
    LoginError::UpstreamProtocol(crate::wire::WireError::Malformed(char::from(message.tag)))
}

#[cfg(test)]
#[path = "login_tests.rs"]
mod tests;
