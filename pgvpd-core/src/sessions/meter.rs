//! The traffic and the state of one session, written by its own task.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::stats::Relayed;

/// What a session's client does at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum SessionState {
    /// It has proved who it is; its context is being set.
    Login,
    /// It has proved who it is, and waits for a connection of a pool.
    Waiting,
    /// Its messages are not looked at (`relay = raw`, and bypass users).
    Open,
    /// Nothing is outstanding.
    Idle,
    /// It waits for the server.
    Active,
    /// Nothing is outstanding, in an open transaction.
    IdleInTransaction,
    /// The same, and the transaction has failed.
    IdleInTransactionAborted,
}

/// What a session moves. Its own task alone writes: a plain store for each chunk of bytes.
#[derive(Debug)]
pub(crate) struct Meter {
    from_client: AtomicU64,
    to_client: AtomicU64,
    requests: AtomicU64,
    /// How much of it has been counted elsewhere.
    counted: Mutex<Relayed>,
    state: AtomicU8,
}

const STATES: [SessionState; 7] = [
    SessionState::Login,
    SessionState::Waiting,
    SessionState::Open,
    SessionState::Idle,
    SessionState::Active,
    SessionState::IdleInTransaction,
    SessionState::IdleInTransactionAborted,
];

impl Default for Meter {
    fn default() -> Self {
        Self {
            from_client: AtomicU64::new(0),
            to_client: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            counted: Mutex::default(),
            state: AtomicU8::new(SessionState::Login as u8),
        }
    }
}

/// Adds without a locked instruction: nobody else writes.
fn add(counter: &AtomicU64, count: usize) {
    let sum = counter.load(Ordering::Relaxed).wrapping_add(count as u64);
    counter.store(sum, Ordering::Relaxed);
}

impl Meter {
    pub(crate) fn add_from_client(&self, bytes: usize) {
        add(&self.from_client, bytes);
    }

    pub(crate) fn add_to_client(&self, bytes: usize) {
        add(&self.to_client, bytes);
    }

    pub(crate) fn add_requests(&self, requests: usize) {
        add(&self.requests, requests);
    }

    pub(crate) fn set_state(&self, state: SessionState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    pub(crate) fn state(&self) -> SessionState {
        let state = usize::from(self.state.load(Ordering::Relaxed));
        STATES.get(state).copied().unwrap_or(SessionState::Open)
    }

    /// Everything that it has moved.
    pub(crate) fn relayed(&self) -> Relayed {
        Relayed {
            from_client: self.from_client.load(Ordering::Relaxed),
            to_client: self.to_client.load(Ordering::Relaxed),
            requests: self.requests.load(Ordering::Relaxed),
        }
    }

    /// What has come since this was asked last.
    pub(super) fn take_uncounted(&self) -> Relayed {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.relayed();
        let since = Relayed {
            from_client: now.from_client.wrapping_sub(counted.from_client),
            to_client: now.to_client.wrapping_sub(counted.to_client),
            requests: now.requests.wrapping_sub(counted.requests),
        };
        *counted = now;
        since
    }
}
