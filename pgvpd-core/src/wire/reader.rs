//! A bounded reader over a slice: every step says whether the bytes were there.

/// Takes fields off the front of a byte slice; each method gives `None` where the slice ends too early.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Reads from the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True at the end of the slice.
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `n` bytes.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(n)?;
        self.rest = rest;
        Some(taken)
    }

    /// `N` bytes as an array.
    pub fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk::<N>()?;
        self.rest = rest;
        Some(*taken)
    }

    /// An Int16 in network byte order.
    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    /// An Int32 in network byte order.
    pub fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    /// A String: the bytes before the next NUL, which is taken too.
    pub fn string(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == 0)?;
        let taken = self.bytes(end)?;
        self.rest = self.rest.get(1..)?;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_fields_in_order_and_none_past_the_end() {
        let mut reader = Reader::new(b"\x00\x00\x00\x05ab\0\x7f\x00\x02");
        assert_eq!(reader.i32(), Some(5));
        assert_eq!(reader.string(), Some(&b"ab"[..]));
        assert_eq!(reader.u8(), Some(0x7f));
        assert_eq!(reader.i32(), None);
        assert_eq!(reader.i16(), Some(2));
        assert!(reader.is_empty());
        assert_eq!(reader.string(), None);
    }

    #[test]
    fn string_without_a_nul_is_none_and_takes_nothing() {
        let mut reader = Reader::new(b"abc");
        assert_eq!(reader.string(), None);
        assert_eq!(reader.rest(), b"abc");
    }
}
