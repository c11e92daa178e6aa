//! What of a client's bytes may go on to the server, and what waits: a request that would miss the context stays here until it
//! has been put back.
//!
//! ```text
//!                       a request that may be a reset has gone on      its answers have come, nothing is lost
//! Open ──────────────────────────────────────────────────────► Closed ────────────────────────────────► Open
//!                                                                │                                        ▲
//!                                                                │ the context is lost, and               │ confirmed
//!                                                                ▼ the next request needs it              │
//!                                                              the proxy's own exchange ──────────────────┘
//! ```
//!
//! Only texts are read (Query and Parse), and of other messages the names, where a statement that resets has been prepared. A
//! text that is longer than 64 KiB is only looked through for the words that a reset has; all others are seen whole before they go
//! on. Where a client does not wait for the answers to a reset, so much of what follows is kept, and then no more is read.

use super::hearing::{Hearing, listens};
use super::keeper::Keeper;
use super::prepared::{Kind, Prepared};
use super::server::Server;
use crate::resets::{Finder, Summary, may_reset, summarize};
use crate::wire::{TransactionStatus, WireError, flush, tag};

/// The longest text that is read, and about as much as is kept of what waits.
const MAX_KEPT: usize = 64 * 1024;

/// Bytes of a message within which its names end.
const FRONT: usize = 256;

/// Where the client's stream stands.
#[derive(Debug, Default)]
pub(super) struct Gate {
    /// What has not gone on: the front of a message, or what waits.
    held: Vec<u8>,
    /// It waits for the server.
    is_waiting: bool,
    /// Bytes still to come of a message whose front has gone on.
    body: usize,
    /// Such a message, where it is a text.
    text: Option<Box<LongText>>,
    /// A request is being answered that may be a reset.
    pending: Option<Pending>,
    prepared: Prepared,
    /// The server may keep answers to itself until a Flush or a Sync.
    needs_flush: bool,
    /// Extended queries have gone on since the last Sync. From PostgreSQL 18 on a Query does not end their transaction.
    is_unsynced: bool,
    /// Ends of COPYs that have gone on since nothing was outstanding.
    copy_ends: usize,
}

/// A text that is not kept.
#[derive(Debug)]
struct LongText {
    finder: Finder,
    /// Of a Parse, the statement's name.
    statement: Option<Vec<u8>>,
}

#[derive(Debug, Clone, Copy)]
struct Pending {
    /// Its answers do not show it.
    is_silent: bool,
}

/// Both ends, as far as they decide what goes on.
pub(super) struct Ends<'e, 's> {
    pub(super) server: &'e mut Server<'s>,
    pub(super) keeper: &'e mut Keeper,
    pub(super) hearing: Option<&'e mut Hearing>,
    /// The context may be put back inside a transaction too.
    pub(super) may_put_back_inside: bool,
    /// The client's Terminate is not for the server.
    pub(super) is_pooled: bool,
}

/// What has become of a client's bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Walked {
    /// So many of the bytes that were given go on, where `instead` is `None`.
    pub(super) front: usize,
    /// These go on instead.
    pub(super) instead: Option<Vec<u8>>,
    /// Queries, executions and function calls among them.
    pub(super) requests: usize,
    /// The client has said that it leaves.
    pub(super) has_left: bool,
}

/// What becomes of one message.
enum Verdict {
    Pass,
    /// More of it has to be there.
    Incomplete,
    /// It waits for the server's answers.
    Wait,
    /// It waits for the answers to these.
    PutIn(Vec<u8>),
    /// These go on in its place, and what follows waits.
    Replace(Vec<u8>),
}

/// A message, and what of its body is there.
struct Message<'m> {
    tag: u8,
    size: usize,
    rest: &'m [u8],
}

const HEADER: usize = 5;

impl<'m> Message<'m> {
    /// `None` where its header is not whole.
    fn read(bytes: &'m [u8]) -> Result<Option<Self>, WireError> {
        let Some((&[tag, a, b, c, d], rest)) = bytes.split_first_chunk::<HEADER>() else { return Ok(None) };
        let length = i32::from_be_bytes([a, b, c, d]);
        match usize::try_from(length).ok().and_then(|length| length.checked_sub(4)) {
            Some(size) => Ok(Some(Self { tag, size, rest })),
            None => Err(WireError::MessageLength { tag: char::from(tag), length }),
        }
    }

    fn is_long(&self) -> bool {
        self.size > MAX_KEPT
    }

    fn body(&self) -> Option<&'m [u8]> {
        self.rest.get(..self.size)
    }

    /// As much of the body as has its names.
    fn front(&self) -> Option<&'m [u8]> {
        self.rest.get(..self.size.min(FRONT))
    }
}

/// The texts at the front of a body. One that has no end there is `None`.
fn texts(body: &[u8]) -> impl Iterator<Item = Option<&[u8]>> {
    let mut rest = Some(body);
    std::iter::from_fn(move || {
        let current = rest?;
        let end = current.iter().position(|&byte| byte == 0);
        rest = end.and_then(|end| current.get(end + 1..));
        Some(end.and_then(|end| current.get(..end)))
    })
}

impl Gate {
    /// Takes the client's next bytes.
    pub(super) fn walk(&mut self, chunk: &[u8], mut ends: Ends<'_, '_>) -> Result<Walked, WireError> {
        let held = std::mem::take(&mut self.held);
        let joined = (!held.is_empty()).then(|| [&held, chunk].concat());
        let bytes = joined.as_deref().unwrap_or(chunk);
        self.is_waiting = false;
        let (mut walked, mut at, mut put_in, mut next) = (Walked::default(), 0, Vec::new(), None);
        while let Some(rest @ [_, ..]) = bytes.get(at..) {
            if self.body > 0 {
                at += self.pass_body(rest);
                continue;
            }
            let Some(message) = Message::read(rest)? else { break };
            if message.tag == tag::TERMINATE && ends.is_pooled {
                walked.has_left = true;
                break;
            }
            match self.verdict(&message, &mut ends) {
                Verdict::Pass => {
                    let is_request = matches!(message.tag, tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL);
                    walked.requests += usize::from(is_request);
                    ends.server.request(message.tag);
                    if let (Some(hearing), tag::QUERY | tag::PARSE) = (ends.hearing.as_deref_mut(), message.tag) {
                        listens(hearing, rest);
                    }
                    self.body = message.size;
                    at += HEADER;
                    self.end_text();
                    continue;
                }
                Verdict::Incomplete => {}
                Verdict::Wait => {
                    self.is_waiting = true;
                    if std::mem::take(&mut self.needs_flush) {
                        flush(&mut put_in);
                    }
                }
                Verdict::PutIn(messages) => (self.is_waiting, put_in) = (true, messages),
                Verdict::Replace(messages) => {
                    (self.is_waiting, put_in) = (true, messages);
                    ends.server.request(tag::QUERY);
                    next = Some(at + HEADER + message.size);
                }
            }
            break;
        }
        if !walked.has_left {
            self.held = bytes.get(next.unwrap_or(at)..).unwrap_or_default().to_vec();
        }
        walked.front = at;
        if joined.is_some() || !put_in.is_empty() {
            let passed = bytes.get(..at).unwrap_or_default();
            walked.instead = Some([passed, &put_in].concat());
        }
        Ok(walked)
    }

    /// True where the client's next bytes need not be read: enough of them wait.
    pub(super) fn is_full(&self) -> bool {
        self.is_waiting && self.held.len() >= MAX_KEPT
    }

    /// True while requests of the client's wait.
    pub(super) fn holds_requests(&self) -> bool {
        self.is_waiting && !self.held.is_empty()
    }

    /// True where what waits is to be looked at again.
    pub(super) fn may_open(&self, server: &Server<'_>, keeper: &Keeper) -> bool {
        let wants_data = server.is_copying_in() && self.copy_ends == 0;
        self.holds_requests() && !keeper.is_busy() && (server.has_answered() || wants_data)
    }

    /// True where the server has been given whole messages.
    pub(super) fn is_between_messages(&self) -> bool {
        self.body == 0
    }

    /// Takes bytes of a message that goes on.
    fn pass_body(&mut self, rest: &[u8]) -> usize {
        let count = self.body.min(rest.len());
        self.body -= count;
        if let (Some(text), Some(piece)) = (&mut self.text, rest.get(..count)) {
            text.finder.look(piece);
        }
        self.end_text();
        count
    }

    /// What a long text turns out to be at its end.
    fn end_text(&mut self) {
        if self.body > 0 {
            return;
        }
        match self.text.take().filter(|text| text.finder.has_found()).map(|text| text.statement) {
            None => {}
            Some(None) => self.pending = Some(Pending { is_silent: true }),
            Some(Some(statement)) => self.prepared.parse(&statement, Kind::UNREAD),
        }
    }

    fn verdict(&mut self, message: &Message<'_>, ends: &mut Ends<'_, '_>) -> Verdict {
        let Ends { server, keeper, may_put_back_inside, .. } = ends;
        if keeper.is_busy() {
            return Verdict::Wait;
        }
        let is_answered = server.has_answered();
        if is_answered {
            self.copy_ends = 0;
        }
        match message.tag {
            tag::SYNC | tag::FLUSH => {
                self.needs_flush = false;
                self.is_unsynced &= message.tag != tag::SYNC;
                // It may end the transaction.
                if message.tag == tag::SYNC && keeper.is_put_back_inside() {
                    self.pending.get_or_insert(Pending { is_silent: false });
                }
                return Verdict::Pass;
            }
            tag::COPY_DONE | tag::COPY_FAIL => {
                self.copy_ends += 1;
                return Verdict::Pass;
            }
            tag::COPY_DATA | tag::TERMINATE => return Verdict::Pass,
            // Else the server would wait for data that the client does not send before it has its answers.
            _ if server.is_copying_in() && self.copy_ends == 0 => return Verdict::Pass,
            // Nothing is known of its answers any more, so that nothing can be put back.
            _ if server.tracker.has_lost_count() => return Verdict::Pass,
            // It drops what it skips.
            _ if server.is_skipping() && self.pending.is_none() => return Verdict::Pass,
            _ => {}
        }
        if let Some(Pending { is_silent }) = self.pending {
            if !is_answered {
                return Verdict::Wait;
            }
            self.pending = None;
            if is_silent {
                keeper.lose();
            }
            if server.status == TransactionStatus::Idle && server.is_synced() {
                self.prepared.end_transaction();
            }
            if server.is_skipping() {
                return Verdict::Pass;
            }
        }
        let Some(kind) = self.kind(message, keeper) else { return Verdict::Incomplete };
        let is_idle = server.status == TransactionStatus::Idle && server.is_synced();
        if keeper.is_lost()
            && (is_idle || *may_put_back_inside)
            && (!kind.is_neutral || (is_idle && is_answered && !kind.resets))
        {
            if !is_answered {
                return Verdict::Wait;
            }
            // Nothing runs in a failed transaction; and where answers may come that are nobody's, nothing can be confirmed.
            let can_put_back = server.status != TransactionStatus::Failed && server.is_settled();
            if can_put_back
                && let Some(messages) = keeper.restoration(is_idle || (server.is_synced() && !self.is_unsynced))
            {
                return Verdict::PutIn(messages);
            }
            self.pending = Some(Pending { is_silent: false });
        } else if kind.is_cut_off {
            if !is_answered {
                return Verdict::Wait;
            }
            if server.is_settled() {
                return Verdict::Replace(keeper.refuse());
            }
        }
        self.pass(message, kind, keeper.is_put_back_inside());
        Verdict::Pass
    }

    /// What a message does, where it is seen; `None` where too little of it is there.
    fn kind(&self, message: &Message<'_>, keeper: &Keeper) -> Option<Kind> {
        let is_lost = keeper.is_lost();
        Some(match message.tag {
            tag::QUERY | tag::PARSE if message.is_long() => {
                message.front()?;
                Kind::PLAIN
            }
            tag::QUERY => Kind::of(texts(message.body()?).next().flatten().unwrap_or_default(), is_lost, keeper),
            tag::PARSE => {
                let kind = Kind::of(texts(message.body()?).nth(1).flatten().unwrap_or_default(), is_lost, keeper);
                // What stands in one Parse is one statement.
                Kind { is_cut_off: false, ..kind }
            }
            tag::BIND if self.prepared.is_in_use() => self.prepared.statement(texts(message.front()?).nth(1).flatten()),
            tag::EXECUTE if self.prepared.is_in_use() => self.prepared.portal(texts(message.front()?).next().flatten()),
            tag::DESCRIBE if self.prepared.is_in_use() => match message.front()?.split_first() {
                Some((b'S', name)) => self.prepared.statement(texts(name).next().flatten()),
                Some((_, name)) => self.prepared.portal(texts(name).next().flatten()),
                None => Kind::PLAIN,
            },
            tag::CLOSE => {
                if self.prepared.is_in_use() {
                    message.front()?;
                }
                Kind { is_neutral: true, ..Kind::PLAIN }
            }
            _ => Kind::PLAIN,
        })
    }

    /// Notes what goes on.
    fn pass(&mut self, message: &Message<'_>, kind: Kind, is_put_back_inside: bool) {
        self.needs_flush = matches!(message.tag, tag::PARSE | tag::BIND | tag::DESCRIBE | tag::EXECUTE | tag::CLOSE);
        self.is_unsynced |= self.needs_flush;
        let mut names = texts(message.rest);
        match message.tag {
            tag::QUERY | tag::PARSE if message.is_long() => {
                let name = (message.tag == tag::PARSE).then(|| names.next().flatten().unwrap_or_default().to_vec());
                self.text = Some(Box::new(LongText { finder: Finder::default(), statement: name }));
            }
            tag::PARSE => self.prepared.parse(names.next().flatten().unwrap_or_default(), kind),
            tag::BIND if self.prepared.is_in_use() => self.prepared.bind(names.next().flatten(), kind),
            tag::CLOSE if self.prepared.is_in_use() => {
                if let Some((&what, name)) = message.rest.split_first() {
                    self.prepared.close(what, texts(name).next().flatten());
                }
            }
            _ => {}
        }
        // What a rollback would take away again is looked after request by request.
        let runs = matches!(message.tag, tag::QUERY | tag::EXECUTE | tag::FUNCTION_CALL);
        let may_reset = kind.resets && matches!(message.tag, tag::QUERY | tag::EXECUTE);
        if may_reset || (runs && is_put_back_inside) {
            self.pending = Some(Pending { is_silent: kind.is_silent });
        }
    }
}

impl Kind {
    /// What a text does, and, where the context is lost, whether it can do without.
    fn of(text: &[u8], is_lost: bool, keeper: &Keeper) -> Self {
        if !is_lost && !may_reset(text) {
            return Self::PLAIN;
        }
        let Summary { resets, is_silent, is_cut_off, is_neutral } = summarize(text, |reset| keeper.loss(reset));
        Self { resets, is_silent, is_cut_off, is_neutral }
    }
}

#[cfg(test)]
#[path = "gate_tests.rs"]
mod tests;
