//! The pieces in which bytes may arrive, chosen by the input itself, so that a fuzzer can choose them.

/// How a stream is cut: the sizes of the chunks, over and over, each at least 1.
pub(crate) struct Cuts<'a>(&'a [u8]);

impl<'a> Cuts<'a> {
    /// Takes the cuts off the front of an input, and gives what is behind them: a byte that counts them, and a byte each.
    pub(crate) fn split_off(input: &'a [u8]) -> (Self, &'a [u8]) {
        let Some((&count, rest)) = input.split_first() else {
            return (Self(&[]), input);
        };
        let (cuts, rest) = rest.split_at(usize::from(count % 8).min(rest.len()));
        (Self(cuts), rest)
    }

    /// The ends of the chunks of a stream of this length, the last being its own end.
    pub(crate) fn ends(&self, length: usize) -> Vec<usize> {
        let sizes = self.0.iter().cycle().map(|&size| usize::from(size).max(1));
        let ends = sizes.scan(0, |end, size| {
            *end += size;
            Some(*end)
        });
        ends.take_while(|&end| end < length).chain([length]).collect()
    }
}

/// Prefixes to look at: all of a short input, of a long one those near its ends and some between.
pub(crate) fn prefixes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let length = bytes.len();
    let ends = (0..=length).filter(move |end| *end <= 64 || *end + 8 >= length || end % 61 == 0);
    ends.filter_map(|end| bytes.get(..end))
}
