//! Leaves NotificationResponse messages out of a stream of the server's.

use super::{ParameterStatus, Reader, WireError, tag};

const HEADER: usize = 5;

/// The longest notification: a channel has at most 63 bytes, a payload 7,999 (manual, "NOTIFY").
const MAX_NOTIFICATION: usize = 16 * 1024;

/// How many bytes of notifications may wait until their encoding is known.
const MAX_WAITING: usize = 64 * 1024;

/// A decision about a notification, by its channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It passes where the server sends UTF-8: in another encoding these bytes are another name.
    PassInUtf8,
    /// It is left out.
    Drop,
}

/// Takes out the notifications of channels that are not to be heard, over any chunking.
///
/// What may still become one is held back, at most a header or one notification; all else passes at once.
///
/// The server sends in the encoding that it has set, and reports it only with the next ReadyForQuery (`postgres.c`,
/// `ReportChangedGUCOptions`). So between a request and its ReadyForQuery the encoding is not known. Notifications are sent
/// between transactions, mostly right before that message; those for which the encoding matters wait for it:
///
/// ```text
/// ReadyForQuery ─► notification: decided by the encoding reported last
/// any answer    ─► notification: waits ─┬─► ParameterStatus* ReadyForQuery: decided by what is reported then
///                                       └─► any other message: left out, a statement may have changed the encoding back
/// ```
///
/// ```
/// use pgvpd_core::wire::{NotificationFilter, Verdict};
///
/// let mut filter = NotificationFilter::default();
/// let stream = b"Z\0\0\0\x05IA\0\0\0\x0e\0\0\0\x01acme\0\0Z\0\0\0\x05I";
/// let passed = filter.pass(stream, |_| Verdict::Drop)?;
/// assert_eq!(passed.as_deref(), Some(&b"Z\0\0\0\x05IZ\0\0\0\x05I"[..]));
/// assert_eq!(filter.pass(stream, |_| Verdict::Pass)?, None, "all of it passes as it is");
/// # Ok::<(), pgvpd_core::wire::WireError>(())
/// ```
#[derive(Debug, Clone)]
pub struct NotificationFilter {
    /// The beginning of a message that is not decided on.
    held: Vec<u8>,
    /// Bytes of a body that passes and are still to come.
    body: usize,
    /// Whole notifications that wait for the encoding.
    waiting: Vec<u8>,
    /// The encoding that was reported last is UTF-8.
    is_utf8: bool,
    /// Nothing has come since ReadyForQuery that a statement has caused: that encoding is in force.
    is_known: bool,
}

impl Default for NotificationFilter {
    /// For a server that is ready for a query, and whose encoding is not known.
    fn default() -> Self {
        Self::new(b"")
    }
}

impl NotificationFilter {
    /// For a server that is ready for a query and has reported this `client_encoding`.
    pub fn new(client_encoding: &[u8]) -> Self {
        let (held, waiting) = (Vec::new(), Vec::new());
        Self { held, body: 0, waiting, is_utf8: is_utf8(client_encoding), is_known: true }
    }

    /// True if the encoding that was reported last is UTF-8.
    pub fn is_utf8(&self) -> bool {
        self.is_utf8
    }

    /// Gives what of the next bytes passes, behind what was held back before; `None` where that is just these bytes.
    /// `judge` is asked for each notification's channel.
    ///
    /// # Errors
    /// [`WireError`] for a length that no message has, or no notification.
    pub fn pass(&mut self, chunk: &[u8], judge: impl Fn(&[u8]) -> Verdict) -> Result<Option<Vec<u8>>, WireError> {
        let held = std::mem::take(&mut self.held);
        let joined;
        let stream = match held.is_empty() {
            true => chunk,
            false => {
                joined = [held.as_slice(), chunk].concat();
                joined.as_slice()
            }
        };
        // Bytes up to `kept` are in `out`, where anything has been left out or put in.
        let (mut out, mut kept, mut position) = (Vec::new(), 0, 0);
        let mut is_changed = !held.is_empty();
        loop {
            let skipped = self.body.min(stream.len() - position);
            position += skipped;
            self.body -= skipped;
            let rest = stream.get(position..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Some(size) = whole_size(rest)? else { break };
            match rest.first() {
                Some(&tag::NOTIFICATION_RESPONSE) => {
                    if size > MAX_NOTIFICATION {
                        let length = i32::try_from(size - 1).unwrap_or(i32::MAX);
                        return Err(WireError::MessageLength { tag: char::from(tag::NOTIFICATION_RESPONSE), length });
                    }
                    let Some(message) = rest.get(..size) else { break };
                    if !self.takes(message, channel(message).map_or(Verdict::Drop, &judge)) {
                        out.extend_from_slice(stream.get(kept..position).unwrap_or_default());
                        kept = position + size;
                        is_changed = true;
                    }
                    position += size;
                    continue;
                }
                // A long one is not read, and so the encoding is in doubt.
                Some(&tag::PARAMETER_STATUS) if size > MAX_NOTIFICATION => self.is_utf8 = false,
                Some(&tag::PARAMETER_STATUS) => match rest.get(HEADER..size) {
                    Some(body) => self.note(body),
                    None => break,
                },
                Some(&tag::READY_FOR_QUERY) => {
                    let waiting = std::mem::take(&mut self.waiting);
                    if self.is_utf8 && !waiting.is_empty() {
                        out.extend_from_slice(stream.get(kept..position).unwrap_or_default());
                        out.extend(waiting);
                        kept = position;
                        is_changed = true;
                    }
                    self.is_known = true;
                }
                Some(&tag::NOTICE_RESPONSE) => {}
                _ => {
                    self.is_known = false;
                    self.waiting = Vec::new();
                }
            }
            self.body = size - HEADER;
            position += HEADER;
        }
        self.held = stream.get(position..).unwrap_or_default().to_vec();
        if !is_changed && self.held.is_empty() {
            return Ok(None);
        }
        out.extend_from_slice(stream.get(kept..position).unwrap_or_default());
        Ok(Some(out))
    }

    /// Whether a notification passes now. One that may pass later is kept.
    fn takes(&mut self, message: &[u8], verdict: Verdict) -> bool {
        match verdict {
            Verdict::Pass => true,
            Verdict::PassInUtf8 if self.is_known => self.is_utf8,
            Verdict::PassInUtf8 => {
                if self.waiting.len() + message.len() <= MAX_WAITING {
                    self.waiting.extend_from_slice(message);
                }
                false
            }
            Verdict::Drop => false,
        }
    }

    /// The server reports a setting.
    fn note(&mut self, body: &[u8]) {
        match ParameterStatus::parse(body) {
            Ok(status) if status.name == b"client_encoding" => self.is_utf8 = is_utf8(status.value),
            Ok(_) => {}
            Err(_) => self.is_utf8 = false,
        }
    }
}

fn is_utf8(encoding: &[u8]) -> bool {
    encoding.eq_ignore_ascii_case(b"UTF8")
}

/// The size of the message that begins here, header and all; `None` where too little of it has come to tell.
fn whole_size(bytes: &[u8]) -> Result<Option<usize>, WireError> {
    let Some([tag, a, b, c, d]) = bytes.first_chunk() else { return Ok(None) };
    let length = i32::from_be_bytes([*a, *b, *c, *d]);
    let size = usize::try_from(length).ok().filter(|length| *length >= 4).map(|length| length + 1);
    size.map(Some).ok_or(WireError::MessageLength { tag: char::from(*tag), length })
}

/// The channel of a whole NotificationResponse.
fn channel(message: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(message.get(HEADER..)?);
    reader.i32()?;
    let rest = reader.rest();
    rest.iter().position(|&byte| byte == 0).and_then(|end| rest.get(..end))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::test_message as message;

    fn notification(channel: &str) -> Vec<u8> {
        message(b'A', &[&[0, 0, 0, 1], channel.as_bytes(), b"\0payload\0"].concat())
    }

    fn encoding(name: &str) -> Vec<u8> {
        message(b'S', &[b"client_encoding\0", name.as_bytes(), b"\0"].concat())
    }

    /// What passes of messages that come in pieces of this size, where every notification depends on the encoding.
    fn pass_in_utf8(messages: &[Vec<u8>], size: usize) -> Vec<u8> {
        let (mut filter, mut passed) = (NotificationFilter::new(b"UTF8"), Vec::new());
        for chunk in messages.concat().chunks(size) {
            let given = filter.pass(chunk, |_| Verdict::PassInUtf8).expect("valid");
            passed.extend(given.unwrap_or_else(|| chunk.to_vec()));
        }
        passed
    }

    type Messages<'m> = &'m [&'m [u8]];

    #[test]
    fn a_notification_waits_until_its_encoding_is_known() {
        let [ready, done, heard] = [message(b'Z', b"I"), message(b'C', b"SET\0"), notification("ü")];
        let notice = message(b'N', b"\0");
        let [latin, utf8] = [encoding("LATIN1"), encoding("UTF8")];
        let other = message(b'S', b"TimeZone\0UTC\0");
        let cases: [(Messages<'_>, Messages<'_>); 10] = [
            // The server is idle.
            (&[&heard], &[&heard]),
            (&[&done, &ready, &heard, &heard, &done], &[&done, &ready, &heard, &heard, &done]),
            // Its encoding is reported behind it, or has not changed.
            (&[&done, &heard, &ready], &[&done, &heard, &ready]),
            (&[&done, &heard, &notice, &other, &heard, &ready], &[&done, &notice, &other, &heard, &heard, &ready]),
            (&[&done, &heard, &latin, &ready], &[&done, &latin, &ready]),
            (&[&done, &latin, &heard, &ready, &heard], &[&done, &latin, &ready]),
            (
                &[&done, &latin, &ready, &done, &heard, &utf8, &ready, &heard],
                &[&done, &latin, &ready, &done, &utf8, &heard, &ready, &heard],
            ),
            // A statement behind it may have set the encoding back.
            (&[&done, &heard, &done, &ready], &[&done, &done, &ready]),
            (&[&done, &heard, &message(b'E', b"\0"), &ready], &[&done, &message(b'E', b"\0"), &ready]),
            // A report that is nonsense.
            (
                &[&done, &message(b'S', b"client_encoding"), &heard, &ready],
                &[&done, &message(b'S', b"client_encoding"), &ready],
            ),
        ];
        for (messages, expected) in cases {
            let messages: Vec<_> = messages.iter().map(|message| message.to_vec()).collect();
            for size in 1..200 {
                assert_eq!(pass_in_utf8(&messages, size), expected.concat(), "in pieces of {size}");
            }
        }
        // Without end nothing is kept without end.
        let mut filter = NotificationFilter::new(b"UTF8");
        filter.pass(&done, |_| Verdict::PassInUtf8).expect("valid");
        for _ in 0..10_000 {
            assert_eq!(filter.pass(&heard, |_| Verdict::PassInUtf8), Ok(Some(vec![])));
        }
        assert!(filter.waiting.len() <= MAX_WAITING);
    }

    #[test]
    fn a_notification_without_a_channel_is_not_heard_and_an_endless_one_is_an_error() {
        let mut filter = NotificationFilter::default();
        let broken = message(b'A', &[0, 0, 0, 1, b'x']);
        assert_eq!(filter.pass(&broken, |_| Verdict::Pass), Ok(Some(vec![])));
        assert!(filter.pass(b"A\0\x01\0\0", |_| Verdict::Pass).is_err());
        assert!(NotificationFilter::default().pass(b"Z\0\0\0\x03", |_| Verdict::Pass).is_err());
    }

    proptest! {
        #[test]
        fn in_any_pieces_all_passes_but_what_is_not_heard(
            messages in prop::collection::vec((prop_oneof![Just(b'A'), any::<u8>()], "[a-c]{1,3}"), 0..8),
            sizes in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let hears = |channel: &[u8]| if channel.starts_with(b"a") { Verdict::Pass } else { Verdict::Drop };
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (tag, text) in &messages {
                let bytes = if *tag == b'A' { notification(text) } else { message(*tag, text.as_bytes()) };
                stream.extend(&bytes);
                if *tag != b'A' || hears(text.as_bytes()) == Verdict::Pass {
                    expected.extend(bytes);
                }
            }
            let (mut filter, mut passed, mut rest) = (NotificationFilter::default(), Vec::new(), stream.as_slice());
            for size in sizes.iter().cycle() {
                let (chunk, after) = rest.split_at(rest.len().min(*size));
                passed.extend(filter.pass(chunk, hears).expect("valid").unwrap_or_else(|| chunk.to_vec()));
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(passed, expected);
            prop_assert!(filter.held.is_empty());
        }
    }
}
