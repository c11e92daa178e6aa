//! The answers to one bound statement with one row.

use crate::wire::{Frame, tag};

/// How far they have come.
#[derive(Debug, Default)]
pub(super) struct Statement {
    step: usize,
}

/// What a message is among them.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// One that says nothing.
    Waits,
    /// The row.
    Row,
    /// The last.
    Ready,
}

const ANSWERS: [(u8, Progress); 5] = [
    (tag::PARSE_COMPLETE, Progress::Waits),
    (tag::BIND_COMPLETE, Progress::Waits),
    (tag::DATA_ROW, Progress::Row),
    (tag::COMMAND_COMPLETE, Progress::Waits),
    (tag::READY_FOR_QUERY, Progress::Ready),
];

impl Statement {
    /// Takes the next message; `None` where another one is due.
    pub(super) fn on(&mut self, message: Frame<'_>) -> Option<&'static Progress> {
        let (_, progress) = ANSWERS.get(self.step).filter(|(due, _)| *due == message.tag)?;
        self.step += 1;
        Some(progress)
    }
}
