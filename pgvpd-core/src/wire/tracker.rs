//! Which of a client's requests the server has not answered, from the types of the messages alone.
//!
//! Simple queries, function calls and Syncs are each answered by one ReadyForQuery. An extended query is answered message
//! by message, until an error makes the server skip to the next Sync (PostgreSQL manual, "Message Flow").
//!
//! Two things depend on what a statement does, and the client's messages do not say it: a COPY FROM STDIN ignores the Syncs
//! up to its end, and CopyDone or CopyFail means something only where such a COPY has begun. So requests wait in a queue until
//! the server's answers tell:
//!
//! ```text
//! client ─► [ Ready(n) ][ Steps ][ Syncs ][ CopyEnd ][ Syncs ] ─► answers
//!             n Zs owed   │ G: copy mode begins
//!                         ├ C: it ends, with the Syncs and the CopyEnd after it
//!                         └ E: it ends; whether it had read those Syncs nobody can tell: so many Zs may come
//! ```
//!
//! Requests that no COPY can concern any more become a number, so that the queue stays at three entries however deep a client
//! pipelines. The client is never believed: in doubt, more counts as outstanding than is.

use std::collections::VecDeque;

use super::{WireError, tag};

/// The most entries of the queue. Only requests that wait behind the end of a COPY take more than three.
const MAX_ENTRIES: usize = 4096;

/// What is outstanding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracker {
    /// Oldest first, never with a CopyEnd at the front.
    queue: VecDeque<Due>,
    /// ReadyForQuery messages that may come besides: for Syncs that a failed COPY may have ignored.
    spare: u32,
    /// The request at the front has begun a COPY FROM STDIN that has not ended.
    is_copying_in: bool,
    /// The server skips to the next Sync, and none is on its way.
    is_skipping: bool,
    /// It may: one that a failed COPY may have ignored is the last.
    may_be_skipping: bool,
    /// What is outstanding can no longer be known.
    is_lost: bool,
    /// Extended-query messages have been sent, and nothing that ends their transaction.
    is_unsynced: bool,
    is_terminated: bool,
    last_answer: u8,
}

/// Requests and what is owed for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// So many ReadyForQuery messages, whatever comes before each.
    Ready(u32),
    /// So many answers to extended-query messages.
    Steps {
        count: u32,
        /// The last of them is Execute.
        may_copy: bool,
    },
    /// A simple query or a function call.
    Query,
    /// Syncs that a COPY of the request before them would ignore.
    Syncs(u32),
    /// CopyDone or CopyFail; nothing where the request before it does not copy.
    CopyEnd,
}

impl Tracker {
    /// A message from the client begins.
    pub fn request(&mut self, message: u8) {
        match message {
            tag::SYNC if !self.is_lost => {
                (self.is_skipping, self.may_be_skipping, self.is_unsynced) = (false, false, false);
                match self.queue.back_mut() {
                    Some(Due::Syncs(count) | Due::Ready(count)) => *count = count.saturating_add(1),
                    _ => self.queue.push_back(Due::Syncs(1)),
                }
            }
            tag::TERMINATE => self.is_terminated = true,
            _ if self.is_lost => {}
            // What the server skips it does not answer.
            _ if self.is_skipping => {}
            // Whether it is answered nobody can tell.
            tag::QUERY | tag::FUNCTION_CALL | tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE | tag::EXECUTE
                if self.may_be_skipping =>
            {
                self.lose_count();
            }
            tag::QUERY | tag::FUNCTION_CALL => {
                self.is_unsynced = false;
                self.fold();
                self.queue.push_back(Due::Query);
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE | tag::EXECUTE => {
                self.is_unsynced = true;
                let is_execute = message == tag::EXECUTE;
                if let Some(Due::Steps { count, may_copy }) = self.queue.back_mut() {
                    (*count, *may_copy) = (count.saturating_add(1), is_execute);
                } else {
                    self.fold();
                    self.queue.push_back(Due::Steps { count: 1, may_copy: is_execute });
                }
            }
            tag::COPY_DONE | tag::COPY_FAIL if self.may_end_a_copy() => self.queue.push_back(Due::CopyEnd),
            _ => {}
        }
        if self.queue.len() > MAX_ENTRIES {
            self.lose_count();
        }
    }

    /// A message from the server begins.
    ///
    /// # Errors
    /// [`WireError::Unasked`] for an answer that no request has: from there on nothing is known of the connection.
    pub fn answer(&mut self, message: u8) -> Result<(), WireError> {
        self.last_answer = message;
        if matches!(message, tag::NOTICE_RESPONSE | tag::NOTIFICATION_RESPONSE | tag::PARAMETER_STATUS) {
            return Ok(());
        }
        if self.is_lost {
            return Ok(());
        }
        if self.spare > 0 && matches!(self.queue.front(), Some(Due::Steps { .. } | Due::Query)) {
            match message {
                tag::READY_FOR_QUERY => {}
                // Its own, or that of a Sync before it.
                tag::ERROR_RESPONSE => {
                    self.lose_count();
                    return Ok(());
                }
                // This request is being answered, so every earlier one has been.
                _ => self.spare = 0,
            }
        }
        let is_expected = match message {
            tag::READY_FOR_QUERY => self.on_ready(),
            tag::ERROR_RESPONSE => {
                self.on_error();
                true
            }
            tag::COPY_IN_RESPONSE => self.on_copy_in(),
            tag::COMMAND_COMPLETE if self.is_copying_in => self.on_copied(),
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::ROW_DESCRIPTION
            | tag::NO_DATA
            | tag::COMMAND_COMPLETE
            | tag::EMPTY_QUERY_RESPONSE
            | tag::PORTAL_SUSPENDED => self.on_step(),
            _ => true,
        };
        while self.queue.front() == Some(&Due::CopyEnd) {
            self.queue.pop_front();
        }
        if is_expected { Ok(()) } else { Err(WireError::Unasked(char::from(message))) }
    }

    /// True while the server owes an answer, or may.
    pub fn is_outstanding(&self) -> bool {
        self.owes_answer() || self.spare > 0
    }

    /// True while the server certainly owes an answer: it is at work, or waits for a COPY's data. For good where the count is
    /// lost.
    pub fn owes_answer(&self) -> bool {
        self.is_lost || !self.queue.is_empty()
    }

    /// True where nobody can know any more what is outstanding: the client broke off a COPY with other requests, or had more of
    /// them wait behind COPYs than are kept.
    pub fn has_lost_count(&self) -> bool {
        self.is_lost
    }

    /// How many ReadyForQuery messages may come that nobody can know of: for Syncs sent to a COPY that has failed since, which
    /// it may have ignored. They come ahead of the answers to any later request.
    pub fn spare_ready(&self) -> u32 {
        self.spare
    }

    /// True while the server waits for the client's data.
    pub fn is_copying_in(&self) -> bool {
        self.is_copying_in
    }

    /// True if what the client has sent leaves the server ready for a query, once everything is answered, without a Sync.
    pub fn is_synced(&self) -> bool {
        !self.is_unsynced && !self.is_skipping && !self.is_lost
    }

    /// True while the server certainly drops what it is sent, up to a Sync.
    pub fn is_skipping(&self) -> bool {
        self.is_skipping
    }

    /// True once the client has said that it leaves.
    pub fn is_terminated(&self) -> bool {
        self.is_terminated
    }

    /// True where the server's last message was an error, as it is before it closes a connection on purpose.
    pub fn ended_with_error(&self) -> bool {
        self.last_answer == tag::ERROR_RESPONSE
    }

    /// True if CopyDone or CopyFail, sent now, may end a COPY of a request that is in the queue.
    fn may_end_a_copy(&self) -> bool {
        let mut entries = self.queue.iter().rev();
        let mut has_end = false;
        loop {
            match entries.next() {
                Some(Due::Syncs(_)) => {}
                Some(Due::CopyEnd) => has_end = true,
                // Of several statements, each may copy.
                Some(Due::Query) => return true,
                Some(Due::Steps { may_copy, .. }) => return *may_copy && !has_end,
                Some(Due::Ready(_)) | None => return false,
            }
        }
    }

    /// Another request comes: those in the queue can no longer become a COPY that completes, and are counted.
    fn fold(&mut self) {
        // Where Syncs are in doubt, each request has to be told from the next by its answers.
        if self.spare > 0 || self.is_copying_in || self.queue.contains(&Due::CopyEnd) {
            return;
        }
        let mut ready = 0_u32;
        loop {
            let (owed, entries) = match (self.queue.front(), self.queue.get(1)) {
                (Some(&(Due::Ready(count) | Due::Syncs(count))), _) => (count, 1),
                (Some(Due::Query), Some(&Due::Syncs(count))) => (count.saturating_add(1), 2),
                (Some(Due::Query), _) => (1, 1),
                // An error in one of them skips to the first of these Syncs.
                (Some(Due::Steps { .. }), Some(&Due::Syncs(count))) => (count, 2),
                // An error in one of them skips what follows, too.
                _ => break,
            };
            ready = ready.saturating_add(owed);
            self.queue.drain(..entries);
        }
        if ready > 0 {
            self.queue.push_front(Due::Ready(ready));
        }
    }

    fn lose_count(&mut self) {
        self.is_lost = true;
        self.queue = VecDeque::new();
    }

    fn on_ready(&mut self) -> bool {
        match self.queue.front_mut() {
            _ if self.is_copying_in => false,
            // None of these is answered by ReadyForQuery alone.
            None | Some(Due::Steps { .. } | Due::Query) if self.spare > 0 => {
                self.spare -= 1;
                self.may_be_skipping = false;
                true
            }
            Some(Due::Ready(count) | Due::Syncs(count)) if *count > 1 => {
                *count -= 1;
                true
            }
            Some(Due::Ready(_) | Due::Syncs(_) | Due::Query) => {
                self.queue.pop_front();
                true
            }
            None | Some(Due::Steps { .. } | Due::CopyEnd) => false,
        }
    }

    fn on_error(&mut self) {
        let was_copying_in = std::mem::take(&mut self.is_copying_in);
        let is_extended = match self.queue.front_mut() {
            Some(Due::Steps { .. }) => {
                self.queue.pop_front();
                true
            }
            Some(query @ Due::Query) if was_copying_in => {
                *query = Due::Ready(1);
                false
            }
            // Which Syncs it may have ignored has not been kept.
            Some(Due::Ready(_)) if was_copying_in => return self.lose_count(),
            _ => return,
        };
        // The COPY has read none, some or all of the Syncs up to its end.
        let next = usize::from(!is_extended);
        let doubtful = match self.queue.get(next) {
            Some(&Due::Syncs(count)) if was_copying_in => {
                self.queue.remove(next);
                count
            }
            _ => 0,
        };
        if was_copying_in && self.queue.get(next) == Some(&Due::CopyEnd) {
            self.queue.remove(next);
        }
        self.spare = self.spare.saturating_add(doubtful);
        if is_extended && doubtful == 0 {
            while matches!(self.queue.front(), Some(Due::Steps { .. } | Due::Query | Due::CopyEnd)) {
                self.queue.pop_front();
            }
            self.is_skipping = self.queue.is_empty();
        } else if is_extended {
            match self.queue.front() {
                None => (self.may_be_skipping, self.is_unsynced) = (true, true),
                Some(Due::Syncs(_) | Due::Ready(_)) => {}
                Some(Due::Steps { .. } | Due::Query | Due::CopyEnd) => self.lose_count(),
            }
        }
    }

    fn on_copy_in(&mut self) -> bool {
        let is_expected =
            !self.is_copying_in && matches!(self.queue.front(), Some(Due::Steps { .. } | Due::Query | Due::Ready(_)));
        self.is_copying_in = true;
        is_expected
    }

    /// A COPY FROM STDIN is complete: it has read up to its CopyDone, which so has to be there.
    fn on_copied(&mut self) -> bool {
        self.is_copying_in = false;
        let is_extended = match self.queue.front() {
            Some(Due::Steps { count: 1, .. }) => true,
            Some(Due::Query) => false,
            _ => return false,
        };
        if matches!(self.queue.get(1), Some(Due::Syncs(_))) {
            self.queue.remove(1);
        }
        if self.queue.get(1) != Some(&Due::CopyEnd) {
            return false;
        }
        self.queue.remove(1);
        if is_extended {
            self.queue.pop_front();
            self.needs_sync_unless_queued();
        }
        true
    }

    /// The Syncs that were sent may have been ignored.
    fn needs_sync_unless_queued(&mut self) {
        let is_queued = self.queue.iter().any(|due| matches!(due, Due::Syncs(_) | Due::Ready(_) | Due::Query));
        self.is_unsynced |= !is_queued;
    }

    fn on_step(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(Due::Steps { count, .. }) if *count > 1 => {
                *count -= 1;
                true
            }
            Some(Due::Steps { .. }) => {
                self.queue.pop_front();
                true
            }
            Some(Due::Query | Due::Ready(_)) => true,
            Some(Due::Syncs(_) | Due::CopyEnd) | None => false,
        }
    }
}

#[cfg(test)]
#[path = "tracker_tests.rs"]
mod tests;
