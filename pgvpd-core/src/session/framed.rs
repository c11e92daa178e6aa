//! The `framed` relay's watch: walks message headers, knows what is outstanding, keeps `tenant_query_timeout`, and says
//! why a session ends where that does not cut a message in two.
//!
//! No body is kept: the watch holds the same few bytes whatever the messages' sizes are.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

use super::relay::{RelayEnd, Watch};
use crate::error::Refusal;
use crate::wire::{Scanner, Tracker, WireError};

/// The state of a framed session.
pub(super) struct Framed {
    client: Scanner,
    server: Scanner,
    tracker: Tracker,
    limit: Option<TimeLimit>,
}

/// `tenant_query_timeout` for one session.
pub(super) struct TimeLimit {
    timeout: Duration,
    /// Since when the session has been idle, or its oldest request outstanding.
    since: Instant,
    stage: Stage,
    /// Fires at `since + timeout` or before: it is set anew only when it fires, not with every byte.
    timer: Pin<Box<Sleep>>,
    /// Asks the server to cancel the session's query.
    cancel: Box<dyn Fn() + Send>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    /// The outstanding request has been cancelled, and has a second `timeout` to end.
    Cancelled,
}

impl Framed {
    /// Watches a session whose server has nothing outstanding.
    pub(super) fn new(limit: Option<TimeLimit>) -> Self {
        Self { client: Scanner::default(), server: Scanner::default(), tracker: Tracker::default(), limit }
    }
}

impl TimeLimit {
    /// A limit from now on. `cancel` is called when a request has been outstanding for `timeout`.
    pub(super) fn new(timeout: Duration, cancel: impl Fn() + Send + 'static) -> Self {
        let since = Instant::now();
        Self {
            timeout,
            since,
            stage: Stage::Waiting,
            timer: Box::pin(sleep_until(since + timeout)),
            cancel: Box::new(cancel),
        }
    }

    fn restart(&mut self) {
        self.since = Instant::now();
        self.stage = Stage::Waiting;
    }
}

impl Watch for Framed {
    fn requests(&mut self, chunk: &[u8]) -> Result<(), WireError> {
        let was_idle = !self.tracker.is_outstanding();
        self.client.scan(chunk, |message| self.tracker.request(message))?;
        if let Some(limit) = self.limit.as_mut().filter(|_| was_idle) {
            limit.restart();
        }
        Ok(())
    }

    fn answers(&mut self, chunk: &[u8]) -> Result<(), WireError> {
        let mut ready = false;
        self.server.scan(chunk, |message| {
            self.tracker.answer(message);
            ready |= message == crate::wire::tag::READY_FOR_QUERY;
        })?;
        // With ReadyForQuery the next of several requests begins.
        if let Some(limit) = self.limit.as_mut().filter(|_| ready || !self.tracker.is_outstanding()) {
            limit.restart();
        }
        Ok(())
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>, undelivered: bool) -> Poll<Refusal> {
        let Some(limit) = &mut self.limit else { return Poll::Pending };
        loop {
            ready!(limit.timer.as_mut().poll(cx));
            let now = Instant::now();
            if now >= limit.since + limit.timeout {
                match (self.tracker.is_outstanding(), limit.stage) {
                    (true, Stage::Waiting) => {
                        (limit.cancel)();
                        limit.stage = Stage::Cancelled;
                    }
                    (true, Stage::Cancelled) => return Poll::Ready(Refusal::query_timeout(limit.timeout)),
                    // Rows that the client has yet to read are as good as outstanding.
                    (false, _) if undelivered => {}
                    (false, _) => return Poll::Ready(Refusal::idle_session(limit.timeout)),
                }
                limit.since = now;
            }
            limit.timer.as_mut().reset(limit.since + limit.timeout);
        }
    }

    fn last_words(&self, end: &RelayEnd) -> Option<Refusal> {
        if !self.server.is_between_messages() {
            return None;
        }
        match end {
            RelayEnd::Refused(refusal) => Some(refusal.clone()),
            RelayEnd::Stopped => Some(Refusal::shutting_down()),
            RelayEnd::Upstream if !self.tracker.is_terminated() && !self.tracker.ended_with_error() => {
                Some(Refusal::upstream_closed())
            }
            RelayEnd::Upstream | RelayEnd::Client | RelayEnd::UpstreamProtocol(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "framed_tests.rs"]
mod tests;
