//! Leaves NotificationResponse messages out of a stream of the server's.

use super::{Reader, WireError, tag};

const HEADER: usize = 5;

/// The longest notification: a channel has at most 63 bytes, a payload 7,999 (manual, "NOTIFY").
const MAX_NOTIFICATION: usize = 16 * 1024;

/// Takes out the notifications of channels that are not to be heard, over any chunking.
///
/// What may still become one is held back, at most a header or one notification; all else passes at once.
///
/// ```
/// use pgvpd_core::wire::NotificationFilter;
///
/// let mut filter = NotificationFilter::default();
/// let stream = b"Z\0\0\0\x05IA\0\0\0\x0e\0\0\0\x01acme\0\0Z\0\0\0\x05I";
/// let passed = filter.pass(stream, |channel| channel == b"globex")?;
/// assert_eq!(passed.as_deref(), Some(&b"Z\0\0\0\x05IZ\0\0\0\x05I"[..]));
/// assert_eq!(filter.pass(stream, |channel| channel == b"acme")?, None, "all of it passes as it is");
/// # Ok::<(), pgvpd_core::wire::WireError>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct NotificationFilter {
    /// The beginning of a message that is not decided on.
    held: Vec<u8>,
    /// Bytes of a body that passes and are still to come.
    body: usize,
}

impl NotificationFilter {
    /// Gives what of the next bytes passes, behind what was held back before; `None` where that is just these bytes.
    /// `hears` is asked for each notification's channel.
    ///
    /// # Errors
    /// [`WireError`] for a length that no message has, or no notification.
    pub fn pass(&mut self, chunk: &[u8], hears: impl Fn(&[u8]) -> bool) -> Result<Option<Vec<u8>>, WireError> {
        let held = std::mem::take(&mut self.held);
        let joined;
        let stream = match held.is_empty() {
            true => chunk,
            false => {
                joined = [held.as_slice(), chunk].concat();
                joined.as_slice()
            }
        };
        // Bytes up to `kept` are in `out`, where anything has been left out.
        let (mut out, mut kept, mut position) = (Vec::new(), 0, 0);
        loop {
            let skipped = self.body.min(stream.len() - position);
            position += skipped;
            self.body -= skipped;
            let rest = stream.get(position..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            let Some(size) = whole_size(rest)? else { break };
            if rest.first() != Some(&tag::NOTIFICATION_RESPONSE) {
                self.body = size - HEADER;
                position += HEADER;
                continue;
            }
            if size > MAX_NOTIFICATION {
                let length = i32::try_from(size - 1).unwrap_or(i32::MAX);
                return Err(WireError::MessageLength { tag: char::from(tag::NOTIFICATION_RESPONSE), length });
            }
            let Some(message) = rest.get(..size) else { break };
            let is_heard = channel(message).is_some_and(&hears);
            if !is_heard {
                out.extend_from_slice(stream.get(kept..position).unwrap_or_default());
                kept = position + size;
            }
            position += size;
        }
        self.held = stream.get(position..).unwrap_or_default().to_vec();
        if held.is_empty() && kept == 0 && self.held.is_empty() {
            return Ok(None);
        }
        out.extend_from_slice(stream.get(kept..position).unwrap_or_default());
        Ok(Some(out))
    }
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

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn notification(channel: &str) -> Vec<u8> {
        message(b'A', &[&[0, 0, 0, 1], channel.as_bytes(), b"\0payload\0"].concat())
    }

    #[test]
    fn a_notification_without_a_channel_is_not_heard_and_an_endless_one_is_an_error() {
        let mut filter = NotificationFilter::default();
        let broken = message(b'A', &[0, 0, 0, 1, b'x']);
        assert_eq!(filter.pass(&broken, |_| true), Ok(Some(vec![])));
        assert!(filter.pass(b"A\0\x01\0\0", |_| true).is_err());
        assert!(NotificationFilter::default().pass(b"Z\0\0\0\x03", |_| true).is_err());
    }

    proptest! {
        #[test]
        fn in_any_pieces_all_passes_but_what_is_not_heard(
            messages in prop::collection::vec((prop_oneof![Just(b'A'), any::<u8>()], "[a-c]{1,3}"), 0..8),
            sizes in prop::collection::vec(1_usize..20, 1..6),
        ) {
            let hears = |channel: &[u8]| channel.starts_with(b"a");
            let (mut stream, mut expected) = (Vec::new(), Vec::new());
            for (tag, text) in &messages {
                let bytes = if *tag == b'A' { notification(text) } else { message(*tag, text.as_bytes()) };
                stream.extend(&bytes);
                if *tag != b'A' || hears(text.as_bytes()) {
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
