//! What the server reports of itself and of the session's settings.

/// What the server reported by ParameterStatus, each name once, in the server's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// A server reports some fifteen, so that a search from the front is as good as an index.
    values: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Parameters {
    /// Notes a report; a later one of the same name counts.
    pub(crate) fn set(&mut self, name: &[u8], value: &[u8]) {
        match self.values.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => *known = value.to_vec(),
            None => self.values.push((name.to_vec(), value.to_vec())),
        }
    }

    /// The value last reported.
    pub(crate) fn get(&self, name: &[u8]) -> Option<&[u8]> {
        self.iter().find_map(|(known, value)| (known == name).then_some(value))
    }

    /// Names and values.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.values.iter().map(|(name, value)| (name.as_slice(), value.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_report_of_a_name_counts_and_keeps_its_place() {
        let mut parameters = Parameters::default();
        for (name, value) in [("a", "1"), ("b", "2"), ("a", "3")] {
            parameters.set(name.as_bytes(), value.as_bytes());
        }
        assert_eq!(parameters.iter().collect::<Vec<_>>(), [(&b"a"[..], &b"3"[..]), (b"b", b"2")]);
        assert_eq!((parameters.get(b"b"), parameters.get(b"c")), (Some(&b"2"[..]), None));
    }
}
