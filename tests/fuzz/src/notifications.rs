//! The filter of notifications, over any chunks.

use pgvpd_core::wire::{NotificationFilter, TaggedFrames, Verdict, WireError};

use crate::chunks::Cuts;

/// The longest message that is looked for.
const MAX: usize = 1 << 20;

/// Takes the cuts and a channel's first byte off the front, and filters the rest.
pub fn run(bytes: &[u8]) {
    let (cuts, rest) = Cuts::split_off(bytes);
    let Some((&heard, stream)) = rest.split_first() else { return };
    let hears = |channel: &[u8]| channel.first() == Some(&heard);

    let whole = filter(stream, &[stream.len()], hears);
    let pieces = filter(stream, &cuts.ends(stream.len()), hears);
    assert_eq!(pieces.1, whole.1, "an error in one piece and not in several");
    if whole.1.is_ok() {
        assert_eq!(pieces.0, whole.0, "pieces differ from the whole");
    }
    assert!(whole.0.len() <= stream.len());
    for message in TaggedFrames::new(&whole.0, MAX).filter(|message| message.tag == b'A') {
        let channel = message.body.get(4..).unwrap_or_default();
        assert!(channel.contains(&0) && hears(channel), "a notification that is not to be heard");
    }
    // What is not a notification passes.
    let others = |bytes: &[u8]| TaggedFrames::new(bytes, MAX).filter(|message| message.tag != b'A').count();
    if whole.1.is_ok() {
        assert_eq!(others(&whole.0), others(stream), "another message is missing");
    }
}

fn filter(stream: &[u8], ends: &[usize], hears: impl Fn(&[u8]) -> bool) -> (Vec<u8>, Result<(), WireError>) {
    let (mut filter, mut passed, mut start) = (NotificationFilter::default(), Vec::new(), 0);
    for &end in ends {
        let chunk = stream.get(start..end).unwrap_or_default();
        // Half of the channels depend on the encoding.
        let judge = |channel: &[u8]| match channel.get(1) {
            _ if !hears(channel) => Verdict::Drop,
            Some(second) if second % 2 == 1 => Verdict::PassInUtf8,
            _ => Verdict::Pass,
        };
        match filter.pass(chunk, judge) {
            Ok(None) => passed.extend(chunk),
            Ok(Some(bytes)) => passed.extend(bytes),
            Err(error) => return (passed, Err(error)),
        }
        start = end;
    }
    (passed, Ok(()))
}
