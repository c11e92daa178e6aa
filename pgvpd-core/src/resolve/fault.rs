//! Why a tenant's context could not be worked out. The client learns the resolver's name, the log the cause.

use std::sync::Arc;
use std::time::Duration;

use super::definition::Resolver;
use crate::context::InjectionError;
use crate::upstream::UpstreamError;
use crate::wire::ErrorFields;

/// The most bytes that one row may have, and all values that resolvers give.
pub(super) const MAX_VALUES: usize = 64 * 1024;

/// What went wrong, and where.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", Self::words(resolver.as_deref(), fault))]
pub struct ResolveError {
    /// The resolver, where it is one's.
    pub(crate) resolver: Option<String>,
    pub(crate) fault: Fault,
}

/// What went wrong.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Fault {
    /// It is required, and has no result.
    #[error("found nothing, and is required")]
    Nothing,
    /// It is required, and there is nothing to ask with.
    #[error("is required, and its parameter {0} is empty")]
    NoParameter(String),
    /// PostgreSQL says this, or the code.
    #[error("failed: {0}")]
    Failed(Arc<str>),
    /// PostgreSQL cannot answer now: too many connections, a lock that is not free, a shutdown.
    #[error("was not answered: {0}")]
    Unavailable(Arc<str>),
    /// `resolver_timeout`
    #[error("did not answer within {} s (resolver_timeout)", .0.as_secs_f64())]
    Slow(Duration),
    #[error("has no column {0:?} in its result")]
    NoColumn(String),
    #[error("has several columns {0:?} in its result")]
    TwoColumns(String),
    #[error("gave {0} values, and not {1}")]
    Count(usize, usize),
    #[error("gave more than {MAX_VALUES} bytes")]
    TooLong,
    #[error("gave a value for {0} that is not UTF-8, or has a NUL character")]
    NotText(String),
    /// The connection is of no more use.
    #[error("got no answer: {0}")]
    Gone(Arc<str>),
    /// The proxy's own login for it has failed.
    #[error("could not be asked: {}", .0.for_log())]
    Login(Arc<UpstreamError>),
    /// All connections of the pool are busy.
    #[error("had to wait longer than {} s for a connection", .0.as_secs_f64())]
    Busy(Duration),
    /// The context that it runs under could not be set.
    #[error("could not be given the tenant's context: {0:?}")]
    Context(InjectionError),
    /// The proxy stops.
    #[error("was given up: the proxy is shutting down")]
    Stopped,
}

/// True for errors that say nothing about what was asked: no connection, no room, a conflict, a lock, a shutdown (manual,
/// "PostgreSQL Error Codes").
pub(super) fn is_unavailable(code: Option<&str>) -> bool {
    const CLASSES: [&str; 5] = ["08", "40", "53", "57", "58"];
    const LOCK_NOT_AVAILABLE: &str = "55P03";
    code.is_none_or(|code| code == LOCK_NOT_AVAILABLE || CLASSES.iter().any(|class| code.starts_with(class)))
}

impl Fault {
    pub(super) fn of(self, resolver: &Resolver) -> ResolveError {
        ResolveError { resolver: Some(resolver.name.clone()), fault: self }
    }

    /// True where another connection could have an answer.
    pub(super) fn is_of_the_connection(&self) -> bool {
        matches!(self, Self::Gone(_))
    }

    /// True where something has been found out, be it that it cannot be. A session does not outlive that; where it is false
    /// nothing is known yet, and anybody who may lock a table could bring it about for all.
    pub(super) fn is_an_answer(&self) -> bool {
        match self {
            Self::Slow(_) | Self::Busy(_) | Self::Gone(_) | Self::Unavailable(_) | Self::Stopped => false,
            Self::Login(error) => match &**error {
                UpstreamError::Refused { body, .. } => !is_unavailable(ErrorFields::new(body).code().as_deref()),
                UpstreamError::Connect(_)
                | UpstreamError::Unanswered
                | UpstreamError::Closed
                | UpstreamError::Protocol(_)
                | UpstreamError::Unread => false,
                _ => true,
            },
            _ => true,
        }
    }

    /// True for a result that says no, rather than for a failure to have one.
    pub(crate) fn is_a_refusal(&self) -> bool {
        matches!(self, Self::Nothing | Self::NoParameter(_))
    }
}

impl ResolveError {
    fn words(resolver: Option<&str>, fault: &Fault) -> String {
        match resolver {
            Some(name) => format!("the resolver {name:?} {fault}"),
            None => format!("resolving the context {fault}"),
        }
    }

    /// True where another connection could have an answer.
    pub(crate) fn is_of_the_connection(&self) -> bool {
        self.fault.is_of_the_connection()
    }

    /// The body of the server's error about the connection on which it was to be asked.
    pub(crate) fn login_refused(&self) -> Option<&[u8]> {
        match &self.fault {
            Fault::Login(error) => match &**error {
                UpstreamError::Refused { body, .. } => Some(body),
                _ => None,
            },
            _ => None,
        }
    }

    /// True where the database has answered, and the connection is as good as before.
    pub(crate) fn is_an_answer(&self) -> bool {
        self.fault.is_a_refusal()
            || matches!(
                self.fault,
                Fault::Failed(_) | Fault::Unavailable(_) | Fault::NoColumn(_) | Fault::TwoColumns(_)
            )
    }

    /// What a client may read: which resolver it was, and of what kind the trouble is.
    pub(crate) fn for_client(&self) -> String {
        let name = self.resolver.as_deref().unwrap_or("");
        match &self.fault {
            Fault::Nothing | Fault::NoParameter(_) => format!("the resolver {name:?} found nothing for this login"),
            Fault::Slow(_) | Fault::Busy(_) => format!("the resolver {name:?} did not answer in time"),
            _ => format!("the resolver {name:?} failed"),
        }
    }
}
