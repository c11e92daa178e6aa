//! Who may see, and who may change something.
//!
//! | | loopback | elsewhere |
//! |---|---|---|
//! | `/health`, `/ready` | anybody | anybody |
//! | what is read | anybody, by an address or `localhost` | with the token |
//! | what changes something | with the token | with the token |
//!
//! By an address: a page in a browser on the same machine can give its own name the address 127.0.0.1 and would then read the
//! names of tenants (DNS rebinding). It cannot send an `Authorization` header to another name without being asked first.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use tracing::{Level, info};

use super::Admin;
use super::server::Peer;
use crate::address::ClientAddress;
use crate::administrators::AdminToken;
use crate::audit::{AdminOutcome, Event, shortened};
use crate::repeats::Failure;

/// How long a client waits that may not: with few connections at a time nobody guesses a token, nor fills the audit stream.
const DENIED_DELAY: Duration = Duration::from_millis(500);

/// A request that may read.
pub(super) struct MayRead;

/// A request that may change something; it is in the audit stream.
pub(super) struct MayChange;

/// Why a request may not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Denied {
    NoTokenSet,
    NoToken,
    WrongToken,
    OtherHost,
    NotAudited,
}

impl Denied {
    fn reason(self) -> &'static str {
        match self {
            Self::NoTokenSet => "this needs admin_token, and none is set",
            Self::NoToken => "this needs the token: Authorization: Bearer <admin_token>",
            Self::WrongToken => "the token is not that of admin_token",
            Self::OtherHost => "ask by an address or as localhost, or with the token",
            Self::NotAudited => "the audit stream cannot be written; see the log, or set audit_on_error = continue",
        }
    }
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let status = match self {
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NoTokenSet | Self::OtherHost => StatusCode::FORBIDDEN,
            Self::NotAudited => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = (status, Json(json!({ "error": self.reason() }))).into_response();
        if status == StatusCode::UNAUTHORIZED {
            let challenge = header::HeaderValue::from_static("Bearer realm=\"pgvpd\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

/// Whether a request shows the token.
fn check_token(headers: &HeaderMap, token: Option<&AdminToken>) -> Result<(), Denied> {
    let token = token.ok_or(Denied::NoTokenSet)?;
    let shown = headers.get(header::AUTHORIZATION).ok_or(Denied::NoToken)?.as_bytes();
    let shown = match shown.split_at_checked(7) {
        Some((scheme, shown)) if scheme.eq_ignore_ascii_case(b"bearer ") => shown,
        _ => return Err(Denied::NoToken),
    };
    if token.is(shown.trim_ascii()) { Ok(()) } else { Err(Denied::WrongToken) }
}

/// True if a request names no host, or one that only this machine can be meant by.
fn is_own_name(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST) else { return true };
    let host = host.to_str().unwrap_or("?");
    let name = host
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
        .map_or_else(|| host.rsplit_once(':').map_or(host, |(name, _)| name), |(name, _)| name);
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok()
}

/// Whether a request may read.
fn check_read(headers: &HeaderMap, is_loopback: bool, token: Option<&AdminToken>) -> Result<(), Denied> {
    match (is_loopback, headers.contains_key(header::AUTHORIZATION)) {
        (true, false) if is_own_name(headers) => Ok(()),
        (true, false) => Err(Denied::OtherHost),
        // Whoever shows a token means it, also where none is needed.
        (true, true) if token.is_none() => Ok(()),
        _ => check_token(headers, token),
    }
}

impl FromRequestParts<Arc<Admin>> for MayRead {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Denied> {
        let config = admin.shared.config.load_full();
        let checked = check_read(&parts.headers, admin.is_loopback, config.admin.token.as_ref());
        match checked {
            Ok(()) => Ok(Self),
            Err(denied) => Err(admin.deny(parts, denied, denied == Denied::WrongToken).await),
        }
    }
}

impl FromRequestParts<Arc<Admin>> for MayChange {
    type Rejection = Denied;

    async fn from_request_parts(parts: &mut Parts, admin: &Arc<Admin>) -> Result<Self, Denied> {
        let config = admin.shared.config.load_full();
        if let Err(denied) = check_token(&parts.headers, config.admin.token.as_ref()) {
            return Err(admin.deny(parts, denied, true).await);
        }
        let (action, client) = (parts.uri.path().to_owned(), client_of(parts));
        let outcome = AdminOutcome::Accepted;
        let event = Event::AdminAction { action: &action, client: &client, user: None, outcome, reason: None };
        admin.shared.audit(&event).await.map_err(|_| Denied::NotAudited)?;
        info!(action, client, "an administrator's request");
        Ok(Self)
    }
}

impl Admin {
    /// Tells of a request that may not, in the audit stream too where it `is_event`, and keeps its sender waiting.
    async fn deny(&self, parts: &Parts, denied: Denied, is_event: bool) -> Denied {
        let (action, client) = (shortened(parts.uri.path()).to_owned(), client_of(parts));
        let reason = denied.reason();
        let peer = parts.extensions.get::<Peer>();
        let address = peer.map_or(ClientAddress::Unix, |peer| ClientAddress::Ip(peer.ip()));
        if is_event && self.shared.refusals.is_written(address) {
            let (outcome, reason) = (AdminOutcome::Refused, Some(reason));
            let event = Event::AdminAction { action: &action, client: &client, user: None, outcome, reason };
            self.shared.audit_past(&event).await;
        }
        if self.shared.repeats.is_new(Level::INFO, Failure::new(&client, reason)) {
            info!(action, client, error = reason, "an administrator's request is refused");
        }
        // It may give way to others as long as that.
        peer.inspect(|peer| peer.is_waiting(true));
        tokio::time::sleep(DENIED_DELAY).await;
        denied
    }
}

fn client_of(parts: &Parts) -> String {
    let peer = parts.extensions.get::<Peer>();
    peer.map_or_else(|| "?".into(), |peer| peer.ip().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Settings};

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.clone(), value.parse().expect("a value"))).collect()
    }

    fn token() -> AdminToken {
        let mut settings = Settings::new();
        settings.set("admin_port", 0).expect("known");
        settings.set("admin_token", "s3cret").expect("known");
        Config::from_settings(settings).expect("valid").admin.token.expect("set")
    }

    #[test]
    fn only_the_whole_token_as_a_bearer_may_change_something() {
        let token = token();
        let check = |value: &str| check_token(&headers(&[(header::AUTHORIZATION, value)]), Some(&token));
        assert_eq!((check("Bearer s3cret"), check("bearer  s3cret ")), (Ok(()), Ok(())));
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer S3CRET", "Bearer "] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
        for none in ["s3cret", "Basic s3cret", "Bearers3cret", ""] {
            assert_eq!(check(none), Err(Denied::NoToken), "{none}");
        }
        assert_eq!(check_token(&headers(&[]), Some(&token)), Err(Denied::NoToken));
        assert_eq!(check_token(&headers(&[(header::AUTHORIZATION, "Bearer ")]), None), Err(Denied::NoTokenSet));
    }

    #[test]
    fn on_loopback_a_name_that_a_web_page_may_have_made_up_reads_nothing() {
        let token = token();
        let read = |host: &str| check_read(&headers(&[(header::HOST, host)]), true, Some(&token));
        for own in ["localhost", "LOCALHOST:9090", "127.0.0.1", "127.0.0.1:9090", "[::1]:9090", "[::1]"] {
            assert_eq!(read(own), Ok(()), "{own}");
        }
        for other in ["evil.example", "evil.example:9090", "127.0.0.1.evil.example", "", "localhost.evil.example"] {
            assert_eq!(read(other), Err(Denied::OtherHost), "{other}");
        }
        let with_token = headers(&[(header::HOST, "pgvpd.internal"), (header::AUTHORIZATION, "Bearer s3cret")]);
        assert_eq!(check_read(&with_token, true, Some(&token)), Ok(()));
        let wrong = headers(&[(header::AUTHORIZATION, "Bearer other")]);
        assert_eq!(check_read(&wrong, true, Some(&token)), Err(Denied::WrongToken));
    }

    #[test]
    fn off_loopback_nothing_is_read_without_the_token() {
        let token = token();
        let none = headers(&[(header::HOST, "127.0.0.1")]);
        assert_eq!(check_read(&none, false, Some(&token)), Err(Denied::NoToken));
        assert_eq!(check_read(&none, false, None), Err(Denied::NoTokenSet));
        let with_token = headers(&[(header::AUTHORIZATION, "Bearer s3cret")]);
        assert_eq!(check_read(&with_token, false, Some(&token)), Ok(()));
    }
}
