//! Records on their way to Python: what writes them never waits, and one thread hands them over. Where there is no room they are counted.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

/// Records that wait, at most.
const QUEUE: usize = 4096;

/// A record, as it is when nobody holds what it tells of any more.
pub(crate) struct Entry {
    pub(crate) level: Level,
    /// The logger's name.
    pub(crate) target: String,
    pub(crate) text: String,
    pub(crate) file: Option<String>,
    pub(crate) line: Option<u32>,
}

/// What the thread does next.
pub(crate) enum Next {
    HandOver(Entry),
    /// So many records found no room since this was said last, and now there is some.
    ReportLost(u64),
}

pub(crate) struct LogQueue {
    state: Mutex<State>,
    /// Something is there to do, has been done, or it is closed.
    changed: Condvar,
}

struct State {
    waiting: VecDeque<Entry>,
    /// Records that were taken in, and those of them that Python has.
    taken: u64,
    done: u64,
    lost: u64,
    is_handing_over: bool,
    /// Somebody has waited in vain, and nothing was done since.
    is_stuck: bool,
    is_closed: bool,
}

impl LogQueue {
    pub(crate) const fn new() -> Self {
        let state = State {
            waiting: VecDeque::new(),
            taken: 0,
            done: 0,
            lost: 0,
            is_handing_over: false,
            is_stuck: false,
            is_closed: false,
        };
        Self { state: Mutex::new(state), changed: Condvar::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a record in, if there is room.
    pub(crate) fn push(&self, entry: Entry) {
        let state = &mut *self.state();
        if state.is_closed {
            return;
        }
        if state.waiting.len() >= QUEUE {
            state.lost += 1;
            return;
        }
        state.waiting.push_back(entry);
        state.taken += 1;
        self.changed.notify_all();
    }

    /// Hands over what comes, until it is closed.
    pub(crate) fn run(&self, mut hand_over: impl FnMut(Next)) {
        while let Some(next) = self.next() {
            let is_record = matches!(next, Next::HandOver(_));
            hand_over(next);
            let state = &mut *self.state();
            state.done += u64::from(is_record);
            state.is_handing_over = false;
            state.is_stuck = false;
            self.changed.notify_all();
        }
    }

    fn next(&self) -> Option<Next> {
        let nothing = |state: &mut State| !state.is_closed && state.waiting.is_empty() && state.lost == 0;
        let mut state = self.changed.wait_while(self.state(), nothing).unwrap_or_else(PoisonError::into_inner);
        if state.is_closed {
            return None;
        }
        state.is_handing_over = true;
        let next = state.waiting.pop_front().map(Next::HandOver);
        Some(next.unwrap_or_else(|| Next::ReportLost(std::mem::take(&mut state.lost))))
    }

    /// Waits until Python has what was taken in before, for so long at most, and not at all where somebody has done so in vain and nothing
    /// has moved since.
    pub(crate) fn flush(&self, timeout: Duration) {
        let state = self.state();
        if state.is_stuck {
            return;
        }
        let taken = state.taken;
        let is_due = |state: &mut State| !state.is_closed && state.done < taken;
        let waited = self.changed.wait_timeout_while(state, timeout, is_due);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        state.is_stuck = waited.timed_out();
    }

    /// Ends it for good, and waits for a record that is being handed over, for so long at most.
    pub(crate) fn close(&self, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        self.flush(timeout);
        let mut state = self.state();
        state.is_closed = true;
        state.waiting = VecDeque::new();
        self.changed.notify_all();
        // Less where it was stuck already.
        let left = deadline.saturating_duration_since(Instant::now());
        let _ = self.changed.wait_timeout_while(state, left, |state| state.is_handing_over);
    }
}
