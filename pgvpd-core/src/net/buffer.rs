//! A byte buffer that wipes what it held: passwords pass through the login.

use zeroize::Zeroize;

const FIRST_CAPACITY: usize = 2048;

/// Bytes in order; taken from the front, added at the back.
#[derive(Default)]
pub(crate) struct Buffer {
    bytes: Vec<u8>,
    taken: usize,
}

impl Buffer {
    /// What has been added and not taken.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.taken..).unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.bytes().is_empty()
    }

    /// Takes `n` bytes off the front.
    pub(crate) fn take(&mut self, n: usize) {
        self.taken = self.taken.saturating_add(n).min(self.bytes.len());
        if self.taken == self.bytes.len() {
            self.bytes.zeroize();
            self.taken = 0;
        }
    }

    /// Adds at the back.
    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.spare(bytes.len()).extend_from_slice(bytes);
    }

    /// The vector to append at most `n` bytes to, with room for them. `Vec` itself would leave unwiped copies behind
    /// when it grows.
    pub(crate) fn spare(&mut self, n: usize) -> &mut Vec<u8> {
        if self.bytes.capacity() - self.bytes.len() < n {
            let capacity = (self.bytes().len() + n).next_power_of_two().max(FIRST_CAPACITY);
            let mut grown = Vec::with_capacity(capacity);
            grown.extend_from_slice(self.bytes());
            self.bytes.zeroize();
            self.bytes = grown;
            self.taken = 0;
        }
        &mut self.bytes
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_the_order_they_went_in() {
        let mut buffer = Buffer::default();
        let mut expected = Vec::new();
        for round in 0..200_u8 {
            let piece = vec![round; 100];
            buffer.extend(&piece);
            expected.extend(piece);
            buffer.take(60);
            expected.drain(..60);
            assert_eq!(buffer.bytes(), expected);
        }
        buffer.take(usize::MAX);
        assert!(buffer.is_empty());
    }
}
