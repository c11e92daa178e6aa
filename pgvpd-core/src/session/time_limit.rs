//! `tenant_query_timeout`: how long a session may be idle, and a request outstanding.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::error::Refusal;
use crate::wire::{ErrorFields, ErrorReplacement, Severity, WireError};

/// `tenant_query_timeout` for one session.
pub(super) struct TimeLimit {
    timeout: Duration,
    /// Since when the session has been idle, or its oldest request outstanding.
    since: Instant,
    stage: Stage,
    /// Fires at `since + timeout` or before: it is set anew only when it fires, not with every byte.
    timer: Pin<Box<Sleep>>,
    /// Asks the server to cancel the session's query.
    cancel: Box<dyn Fn() -> Option<Cancelling> + Send>,
    /// Such a request that the server may still act on.
    cancelling: Option<Cancelling>,
    /// Looks for the server's answer to that, from where its stream was when it was asked.
    answer: Option<Box<ErrorReplacement>>,
}

/// A cancel request that is under way. It is over when its sender is dropped.
pub(super) type Cancelling = oneshot::Receiver<std::convert::Infallible>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// The outstanding request has been cancelled, and has a second `timeout` to end.
    Cancelled,
}

impl TimeLimit {
    /// A limit from now on. `cancel` is called when a request has been outstanding for `timeout`; `None` where it has asked nobody.
    pub(super) fn new(timeout: Duration, cancel: impl Fn() -> Option<Cancelling> + Send + 'static) -> Self {
        let since = Instant::now();
        Self {
            timeout,
            since,
            stage: Stage::Waiting,
            timer: Box::pin(sleep_until(since + timeout)),
            cancel: Box::new(cancel),
            cancelling: None,
            answer: None,
        }
    }

    /// Where the server's next bytes begin, if they are to be looked at: the request has been cancelled. `rest_of_body`: bytes of a
    /// message that are still to come, `None` inside a header.
    pub(super) fn expects_answer(&mut self, rest_of_body: Option<usize>) {
        if self.stage == Stage::Cancelled && self.answer.is_none() {
            self.answer = rest_of_body.map(|rest| Box::new(ErrorReplacement::behind(rest)));
        }
    }

    /// What the client is given of these bytes, `None` for just these: the server knows nothing of the limit, and would say that
    /// the user has cancelled the request.
    pub(super) fn explain(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let Some(answer) = &mut self.answer else { return Ok(None) };
        let timeout = self.timeout;
        let passed = answer.pass(chunk, |body| {
            /// `query_canceled`
            const CANCELED: &str = "57014";
            (ErrorFields::new(body).code().as_deref() == Some(CANCELED)).then(|| {
                let mut message = Vec::new();
                Refusal::request_cancelled(timeout).encode_as(Severity::Error, &mut message);
                message
            })
        });
        // A request that ended by itself.
        let is_over = self.stage == Stage::Waiting && answer.is_between_messages();
        if answer.is_done() || is_over {
            self.answer = None;
        }
        passed
    }

    /// Pending while the server may still act on a cancel request. PostgreSQL signals the backend and then its process group
    /// (`signal_child` in postmaster.c), and closes the connection of the request behind that: a client that had its answer before
    /// would have its next statement cancelled as well.
    pub(super) fn poll_cancelled(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(cancelling) = &mut self.cancelling {
            let _over = ready!(Pin::new(cancelling).poll(cx));
            self.cancelling = None;
        }
        Poll::Ready(())
    }

    /// A request, or a time without one, begins.
    pub(super) fn restart(&mut self) {
        self.since = Instant::now();
        self.stage = Stage::Waiting;
    }

    /// Ready when the session is to end. A request that has taken too long is cancelled first.
    pub(super) fn poll_expired(
        &mut self,
        cx: &mut Context<'_>,
        is_outstanding: bool,
        undelivered: bool,
    ) -> Poll<Refusal> {
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= self.since + self.timeout {
                match (is_outstanding, self.stage) {
                    (true, Stage::Waiting) => {
                        self.cancelling = (self.cancel)();
                        self.stage = Stage::Cancelled;
                    }
                    (true, Stage::Cancelled) => return Poll::Ready(Refusal::query_timeout(self.timeout)),
                    // Rows that the client has yet to read are as good as outstanding.
                    (false, _) if undelivered => {}
                    (false, _) => return Poll::Ready(Refusal::idle_session(self.timeout)),
                }
                self.since = now;
            }
            self.timer.as_mut().reset(self.since + self.timeout);
        }
    }
}
