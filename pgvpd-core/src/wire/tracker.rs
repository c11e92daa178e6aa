//! Which requests of a client's the server has not answered, from the types of the messages alone.
//!
//! Simple queries, function calls and Syncs are each answered by one ReadyForQuery. What an extended query has
//! asked since the last Sync is answered message by message, until an error makes the server skip to the next Sync
//! (PostgreSQL manual, "Message Flow").
//!
//! ```text
//!             Q F S                       last Z
//!   idle ───────────────► answers due ────────────────► idle
//!    │  P B D E C                                         ▲
//!    └──────────────► steps due ── 1 2 3 T n C I s, E ────┘
//! ```
//!
//! A client that breaks these rules, such as one that goes on after an error without a Sync, is counted as having
//! more outstanding than it has; never less.

use super::tag;

/// Counts of what is outstanding.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tracker {
    /// ReadyForQuery messages that the server owes.
    ready_due: u32,
    /// Answers owed to extended-query messages behind the last Sync.
    steps_due: u32,
    /// The server skips to the next Sync.
    skipping: bool,
    /// The last request was Execute, and this many Syncs followed it. Copy mode ignores them.
    syncs_since_execute: Option<u32>,
    terminated: bool,
    last_answer: u8,
}

impl Tracker {
    /// A message from the client begins.
    pub fn request(&mut self, message: u8) {
        match message {
            tag::QUERY | tag::FUNCTION_CALL => {
                self.ready_due = self.ready_due.saturating_add(1);
                self.syncs_since_execute = None;
            }
            tag::SYNC => {
                self.ready_due = self.ready_due.saturating_add(1);
                self.syncs_since_execute = self.syncs_since_execute.map(|syncs| syncs.saturating_add(1));
                self.steps_due = 0;
                self.skipping = false;
            }
            tag::PARSE | tag::BIND | tag::DESCRIBE | tag::CLOSE | tag::EXECUTE => {
                if !self.skipping {
                    self.steps_due = self.steps_due.saturating_add(1);
                }
                self.syncs_since_execute = (message == tag::EXECUTE).then_some(0);
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                // A client sends Sync right behind Execute; where that began a COPY FROM STDIN, the server has ignored it.
                if let Some(syncs @ 1..) = self.syncs_since_execute {
                    self.ready_due = self.ready_due.saturating_sub(syncs);
                    self.steps_due = 1;
                    self.syncs_since_execute = Some(0);
                }
            }
            tag::TERMINATE => self.terminated = true,
            _ => {}
        }
    }

    /// A message from the server begins.
    pub fn answer(&mut self, message: u8) {
        self.last_answer = message;
        match message {
            tag::READY_FOR_QUERY => self.ready_due = self.ready_due.saturating_sub(1),
            // Earlier requests are answered first.
            _ if self.ready_due > 0 => {}
            tag::ERROR_RESPONSE => {
                self.skipping = self.steps_due > 0;
                self.steps_due = 0;
            }
            tag::PARSE_COMPLETE
            | tag::BIND_COMPLETE
            | tag::CLOSE_COMPLETE
            | tag::ROW_DESCRIPTION
            | tag::NO_DATA
            | tag::COMMAND_COMPLETE
            | tag::EMPTY_QUERY_RESPONSE
            | tag::PORTAL_SUSPENDED => self.steps_due = self.steps_due.saturating_sub(1),
            _ => {}
        }
    }

    /// True while the server owes an answer.
    pub fn is_outstanding(&self) -> bool {
        self.ready_due > 0 || self.steps_due > 0
    }

    /// True once the client has said that it leaves.
    pub fn is_terminated(&self) -> bool {
        self.terminated
    }

    /// True where the server's last message was an error, as it is before it closes a connection on purpose.
    pub fn ended_with_error(&self) -> bool {
        self.last_answer == tag::ERROR_RESPONSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Plays a conversation: upper part of a step is what the client sends, lower what the server answers, and after
    /// it whether anything is outstanding.
    fn play(steps: &[(&[u8], &[u8], bool)]) {
        let mut tracker = Tracker::default();
        for (number, (requests, answers, outstanding)) in steps.iter().enumerate() {
            requests.iter().for_each(|&message| tracker.request(message));
            answers.iter().for_each(|&message| tracker.answer(message));
            assert_eq!(tracker.is_outstanding(), *outstanding, "step {number}: {tracker:?}");
        }
    }

    #[test]
    fn simple_queries_are_outstanding_until_their_last_ready_for_query() {
        play(&[(b"Q", b"", true), (b"", b"TDDC", true), (b"", b"Z", false)]);
        play(&[(b"QQQ", b"TDCZTDCZ", true), (b"", b"EZ", false)]);
        play(&[(b"F", b"VZ", false), (b"", b"AAN", false)]);
    }

    #[test]
    fn extended_queries_are_outstanding_until_each_message_or_the_sync_is_answered() {
        play(&[(b"PBDES", b"12TDDC", true), (b"", b"Z", false)]);
        play(&[
            (b"PDH", b"1", true),
            (b"", b"tT", false),
            (b"BEH", b"2Ds", false),
            (b"ES", b"C", true),
            (b"", b"Z", false),
        ]);
        play(&[(b"PBESPBESPBES", b"12CZ12CZ", true), (b"", b"E", true), (b"", b"Z", false)]);
        // Flushed behind a Sync: the answers to what came before do not count for it.
        play(&[(b"PBESPBEH", b"12C", true), (b"", b"Z", true), (b"", b"12C", false), (b"S", b"Z", false)]);
    }

    #[test]
    fn after_an_error_the_server_skips_to_the_sync() {
        play(&[(b"PBEH", b"E", false), (b"PBE", b"", false), (b"S", b"", true), (b"", b"Z", false)]);
        play(&[(b"PBEH", b"E", false), (b"S", b"Z", false), (b"PBEH", b"12", true), (b"", b"C", false)]);
    }

    #[test]
    fn a_sync_that_copy_mode_ignores_does_not_stay_outstanding() {
        play(&[(b"PBES", b"12G", true), (b"dddcS", b"C", true), (b"", b"Z", false)]);
        play(&[(b"PBES", b"12G", true), (b"dfS", b"E", true), (b"", b"Z", false)]);
        play(&[(b"PBES", b"12G", true), (b"d", b"E", true), (b"cS", b"Z", false)]);
        play(&[(b"Q", b"G", true), (b"ddc", b"C", true), (b"", b"Z", false)]);
        play(&[(b"Q", b"G", true), (b"df", b"E", true), (b"", b"Z", false)]);
        play(&[(b"PBES", b"12HdddcC", true), (b"", b"Z", false)]);
    }

    #[test]
    fn terminate_and_a_closing_error_are_remembered() {
        let mut tracker = Tracker::default();
        tracker.answer(b'E');
        assert!(tracker.ended_with_error() && !tracker.is_terminated());
        tracker.answer(b'Z');
        tracker.request(b'X');
        assert!(!tracker.ended_with_error() && tracker.is_terminated());
    }
}
