//! The facts about a session that do not change while it lasts. Logs, metrics, the audit stream and `/status` read them here.

use std::sync::Arc;

use tracing::Span;

use crate::address::ClientAddress;

/// Number of a client connection, unique within one proxy. Every log line about the connection has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
pub struct SessionId(pub u64);

impl std::fmt::Display for SessionId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl SessionId {
    /// Returns the span for the log lines of this connection. Each line gets a new one: a span that is kept takes as much memory as an idle
    /// session.
    pub(crate) fn span(self) -> Span {
        // Its level is that of errors so that it is there whatever is filtered out.
        tracing::error_span!(target: "pgvpd_core::session::span", "session", session = self.0)
    }

    /// Returns the span for a line of level info; `Span::none()`, which costs less, if that level is not logged.
    pub(crate) fn span_of_info(self) -> Span {
        if tracing::enabled!(target: "pgvpd_core::session", tracing::Level::INFO) { self.span() } else { Span::none() }
    }
}

/// The facts about a session, known when its login is admitted.
#[derive(Debug)]
pub(crate) struct SessionInfo {
    pub(crate) id: SessionId,
    pub(crate) address: ClientAddress,
    pub(crate) is_tls: bool,
    /// User name as the client sent it.
    pub(crate) user: Box<str>,
    /// Role that logs in upstream.
    pub(crate) role: Box<str>,
    /// Database that the session is in, also if the client named none.
    pub(crate) database: Box<str>,
    /// `None` for a bypass user.
    pub(crate) tenant: Option<Arc<str>>,
}
