//! Message headers in a stream that arrives in any chunks.

use pgvpd_core::wire::{Parsed, Scanner, TaggedFrames, WireError, frame};

use crate::chunks::{Cuts, prefixes};

/// Takes the cuts and the longest message off the front, and walks the rest.
pub fn run(bytes: &[u8]) {
    let (cuts, rest) = Cuts::split_off(bytes);
    let Some((max, stream)) = rest.split_first_chunk::<2>() else { return };
    let max = usize::from(u16::from_be_bytes(*max));

    one_message(stream, max);
    let walked = walk(stream, max);
    let tagged: Vec<_> = TaggedFrames::new(stream, max).map(|frame| (frame.tag, frame.body.len())).collect();
    assert_eq!(tagged, walked.messages);
    assert_eq!(walk_in_chunks(stream, max, &cuts), walked);
    assert_eq!(scan_in_chunks(stream, &cuts), headers(stream));
}

/// What a stream is made of. Every way to walk one gives the same.
#[derive(Debug, PartialEq, Eq)]
struct Walked {
    /// Type and size of the body of each whole message.
    messages: Vec<(u8, usize)>,
    /// What ends the walk: a header that is not valid, or too few bytes.
    end: Option<WireError>,
}

/// The message at the front.
fn one_message(stream: &[u8], max: usize) {
    let whole = frame(stream, max);
    for prefix in prefixes(stream) {
        let early = frame(prefix, max);
        assert!(early == Ok(Parsed::Incomplete) || early == whole, "decided by {} bytes: {early:?}", prefix.len());
    }
    match whole {
        Ok(Parsed::Complete(message, size)) => {
            assert!(size <= stream.len() && size <= max + 1);
            let mut written = vec![message.tag];
            written.extend(u32::try_from(message.body.len() + 4).unwrap_or(u32::MAX).to_be_bytes());
            written.extend(message.body);
            assert_eq!(stream.get(..size), Some(written.as_slice()), "a message is what its bytes say");
        }
        Ok(Parsed::Incomplete) => {
            assert!(stream.len() < max.saturating_add(1).max(5), "waits for more than is allowed")
        }
        Err(error) => {
            let length = stream.get(1..5).and_then(|bytes| bytes.try_into().ok()).map(i32::from_be_bytes);
            let is_valid = |length| (4..=i64::try_from(max).unwrap_or(i64::MAX)).contains(&i64::from(length));
            assert!(length.is_some_and(|length| !is_valid(length)), "refused without reason: {error:?}");
        }
    }
}

/// Walks all of it at once.
fn walk(mut stream: &[u8], max: usize) -> Walked {
    let mut messages = Vec::new();
    loop {
        match frame(stream, max) {
            Ok(Parsed::Complete(message, size)) => {
                messages.push((message.tag, message.body.len()));
                stream = stream.get(size..).unwrap_or_default();
            }
            Ok(Parsed::Incomplete) => return Walked { messages, end: None },
            Err(error) => return Walked { messages, end: Some(error) },
        }
    }
}

/// Walks it as a reader does that gets it in chunks and keeps what is not whole yet.
fn walk_in_chunks(stream: &[u8], max: usize, cuts: &Cuts<'_>) -> Walked {
    let mut walked = Walked { messages: Vec::new(), end: None };
    let (mut start, mut kept) = (0, Vec::new());
    for end in cuts.ends(stream.len()) {
        kept.extend_from_slice(stream.get(start..end).unwrap_or_default());
        start = end;
        let found = walk(&kept, max);
        let taken: usize = found.messages.iter().map(|(_, body)| body + 5).sum();
        kept.drain(..taken);
        walked.messages.extend(found.messages);
        walked.end = found.end;
        if walked.end.is_some() {
            break;
        }
    }
    walked
}

/// What a scanner knows of a stream: types, and whether it ends between two messages.
type Scanned = (Vec<u8>, Result<bool, WireError>);

/// Scans it chunk by chunk; nothing is kept.
fn scan_in_chunks(stream: &[u8], cuts: &Cuts<'_>) -> Scanned {
    let (mut scanner, mut tags, mut start) = (Scanner::default(), Vec::new(), 0);
    for end in cuts.ends(stream.len()) {
        if let Err(error) = scanner.scan(stream.get(start..end).unwrap_or_default(), |tag| tags.push(tag)) {
            return (tags, Err(error));
        }
        start = end;
    }
    (tags, Ok(scanner.is_between_messages()))
}

/// The same from whole messages, and the header of the one that is not whole.
fn headers(stream: &[u8]) -> Scanned {
    let Walked { messages, end } = walk(stream, usize::MAX);
    let whole: usize = messages.iter().map(|(_, body)| body + 5).sum();
    let rest = stream.get(whole..).unwrap_or_default();
    let begun = rest.first().filter(|_| rest.len() >= 5 && end.is_none());
    let tags = messages.iter().map(|(tag, _)| *tag).chain(begun.copied()).collect();
    (tags, end.map_or(Ok(rest.is_empty()), Err))
}
