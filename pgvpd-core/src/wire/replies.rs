//! Reads the answers to one request of the proxy's own: a statement with one row, or calls of functions.
//!
//! ```text
//! statement:  ParseComplete  BindComplete  DataRow  CommandComplete  ReadyForQuery
//! named:      the same with two CloseComplete before ReadyForQuery, which is missing if the request ends with Flush
//! calls:      FunctionCallResponse  ReadyForQuery, for each call
//! ```

use super::{DataRow, Frame, FunctionCallResponse, TransactionStatus, WireError, tag};

/// The answers to one request, as far as they have come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Replies {
    due: Due,
    /// How many of the due messages have come; of calls, how many are answered.
    step: usize,
    row: Vec<Option<Vec<u8>>>,
    /// Body of the first ErrorResponse.
    error: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The messages of a statement.
    Statement(&'static [u8]),
    /// The answers to so many calls.
    Calls(usize),
}

/// What a request led to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The columns of the statement's row, or the results of the calls.
    Row(Vec<Option<Vec<u8>>>),
    /// Body of the server's ErrorResponse.
    Error(Vec<u8>),
}

/// Why a message is no answer to the request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ReplyError {
    /// Another type of message was due.
    Unexpected(char),
    Malformed(WireError),
}

impl From<WireError> for ReplyError {
    fn from(error: WireError) -> Self {
        Self::Malformed(error)
    }
}

const STATEMENT: [u8; 5] =
    [tag::PARSE_COMPLETE, tag::BIND_COMPLETE, tag::DATA_ROW, tag::COMMAND_COMPLETE, tag::READY_FOR_QUERY];

const NAMED: [u8; 7] = [
    tag::PARSE_COMPLETE,
    tag::BIND_COMPLETE,
    tag::DATA_ROW,
    tag::COMMAND_COMPLETE,
    tag::CLOSE_COMPLETE,
    tag::CLOSE_COMPLETE,
    tag::READY_FOR_QUERY,
];

/// The same without the last, which answers a Sync.
const NAMED_UNSYNCED: &[u8] = match NAMED.split_last() {
    Some((_, answers)) => answers,
    None => &[],
};

impl Replies {
    fn new(due: Due) -> Self {
        Self { due, step: 0, row: Vec::new(), error: None }
    }

    /// Expects the answers to [`bind_and_run`](super::bind_and_run), outside of a transaction.
    pub(crate) fn statement() -> Self {
        Self::new(Due::Statement(&STATEMENT))
    }

    /// Expects the answers to [`bind_and_run_named`](super::bind_and_run_named), with a Sync or a Flush at its end, in whatever
    /// transaction.
    pub(crate) fn named(is_synced: bool) -> Self {
        Self::new(Due::Statement(if is_synced { &NAMED } else { NAMED_UNSYNCED }))
    }

    /// Expects the answers to so many FunctionCall messages, at least one, outside of a transaction.
    pub(crate) fn calls(count: usize) -> Self {
        Self::new(Due::Calls(2 * count))
    }

    /// Takes the next message that is an answer. Returns what the request led to with its last one.
    ///
    /// # Errors
    /// [`ReplyError`] if another message was due, or this one is malformed.
    pub(crate) fn on(&mut self, message: Frame<'_>) -> Result<Option<Answer>, ReplyError> {
        let unexpected = || ReplyError::Unexpected(char::from(message.tag));
        let is_done = match self.due {
            Due::Calls(due) => {
                match (self.step % 2, message.tag) {
                    (0, tag::FUNCTION_CALL_RESPONSE) => {
                        self.row.push(FunctionCallResponse::parse(message.body)?.map(<[u8]>::to_vec));
                    }
                    (0, tag::ERROR_RESPONSE) => self.failed(message),
                    (1, tag::READY_FOR_QUERY) => idle(message)?,
                    _ => return Err(unexpected()),
                }
                self.step += 1;
                self.step >= due
            }
            Due::Statement(due) => {
                let is_last = self.step + 1 == due.len();
                let awaited = due.get(self.step).copied().ok_or_else(unexpected)?;
                match message.tag {
                    tag::ERROR_RESPONSE if self.error.is_none() && !is_last => {
                        self.failed(message);
                        // Nothing but the ReadyForQuery comes now, if there was a Sync.
                        let ends_with_ready = due.last() == Some(&tag::READY_FOR_QUERY);
                        self.step = due.len() - usize::from(ends_with_ready);
                    }
                    found if found != awaited => return Err(unexpected()),
                    found => {
                        if found == tag::DATA_ROW {
                            self.row = DataRow::parse(message.body)?
                                .into_iter()
                                .map(|column| column.map(<[u8]>::to_vec))
                                .collect();
                        }
                        if found == tag::READY_FOR_QUERY && due == STATEMENT {
                            idle(message)?;
                        }
                        self.step += 1;
                    }
                }
                self.step >= due.len()
            }
        };
        Ok(is_done.then(|| match self.error.take() {
            Some(body) => Answer::Error(body),
            None => Answer::Row(std::mem::take(&mut self.row)),
        }))
    }

    /// How many calls have been answered, for notices that come with the next one.
    pub(crate) fn calls_answered(&self) -> usize {
        self.step / 2
    }

    fn failed(&mut self, error: Frame<'_>) {
        if self.error.is_none() {
            self.error = Some(error.body.to_vec());
        }
    }
}

/// Checks that a ReadyForQuery says that no transaction is open.
fn idle(ready: Frame<'_>) -> Result<(), ReplyError> {
    match TransactionStatus::parse(ready.body)? {
        TransactionStatus::Idle => Ok(()),
        _ => Err(ReplyError::Unexpected(char::from(tag::READY_FOR_QUERY))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(values: &[&[u8]]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).expect("few").to_be_bytes().to_vec();
        for value in values {
            body.extend(u32::try_from(value.len()).expect("short").to_be_bytes());
            body.extend(*value);
        }
        body
    }

    /// Feeds messages; gives the answer and how many messages it took.
    fn feed(mut replies: Replies, messages: &[(u8, &[u8])]) -> Result<(usize, Answer), ReplyError> {
        for (index, (tag, body)) in messages.iter().enumerate() {
            if let Some(answer) = replies.on(Frame { tag: *tag, body })? {
                return Ok((index + 1, answer));
            }
        }
        panic!("no end");
    }

    #[test]
    fn a_statement_gives_its_row_or_its_error() {
        let data = row(&[b"a"]);
        let whole: &[(u8, &[u8])] = &[(b'1', b""), (b'2', b""), (b'D', &data), (b'C', b"SELECT 1\0"), (b'Z', b"I")];
        let expected = Answer::Row(vec![Some(b"a".to_vec())]);
        assert_eq!(feed(Replies::statement(), whole), Ok((5, expected)));
        for at in 0..4 {
            let failed: Vec<_> = whole[..at].iter().copied().chain([(b'E', &b"x"[..]), (b'Z', b"I")]).collect();
            assert_eq!(feed(Replies::statement(), &failed), Ok((at + 2, Answer::Error(b"x".to_vec()))));
        }
        for (tag, body) in [(b'D', &data[..]), (b'Z', b"I"), (b'T', b""), (b'V', b"")] {
            assert!(Replies::statement().on(Frame { tag, body }).is_err(), "{tag}");
        }
        let open: Vec<_> = whole[..4].iter().copied().chain([(b'Z', &b"T"[..])]).collect();
        assert!(feed(Replies::statement(), &open).is_err(), "a transaction is open");
    }

    #[test]
    fn a_named_statement_ends_with_ready_for_query_only_if_it_is_synced() {
        let data = row(&[b"a"]);
        let whole: &[(u8, &[u8])] =
            &[(b'1', b""), (b'2', b""), (b'D', &data), (b'C', b"SELECT 1\0"), (b'3', b""), (b'3', b""), (b'Z', b"T")];
        let expected = || Answer::Row(vec![Some(b"a".to_vec())]);
        assert_eq!(feed(Replies::named(true), whole), Ok((7, expected())));
        assert_eq!(feed(Replies::named(false), whole), Ok((6, expected())));
        let failed: &[(u8, &[u8])] = &[(b'1', b""), (b'E', b"x"), (b'Z', b"E")];
        assert_eq!(feed(Replies::named(true), failed), Ok((3, Answer::Error(b"x".to_vec()))));
        assert_eq!(feed(Replies::named(false), failed), Ok((2, Answer::Error(b"x".to_vec()))));
    }

    #[test]
    fn calls_give_their_results_or_the_first_error() {
        let (result, ready) = ((b'V', &b"\0\0\0\x01a"[..]), (b'Z', &b"I"[..]));
        let answer = feed(Replies::calls(2), &[result, ready, (b'V', b"\xff\xff\xff\xff"), ready]);
        assert_eq!(answer, Ok((4, Answer::Row(vec![Some(b"a".to_vec()), None]))));
        let failed = feed(Replies::calls(3), &[(b'E', b"x"), ready, result, ready, (b'E', b"y"), ready]);
        assert_eq!(failed, Ok((6, Answer::Error(b"x".to_vec()))));
        for messages in [&[ready][..], &[result, result], &[result, (b'Z', b"T")]] {
            assert!(feed(Replies::calls(2), messages).is_err(), "{messages:?}");
        }
    }
}
