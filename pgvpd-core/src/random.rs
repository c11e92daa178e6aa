//! Bytes that nobody can foresee, and answers that have to bring some back.

/// `N` of them.
///
/// # Panics
/// Where the system has none to give: no proof of identity is worth anything then.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    if let Err(error) = getrandom::fill(&mut bytes) {
        panic!("the system gives no random bytes: {error}");
    }
    bytes
}

/// A value that one exchange with a server sends, and that its answer has to bring back: the answer to anything else does not have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Echo(String);

impl Echo {
    /// Another one for each exchange: 128 bits.
    pub(crate) fn new() -> Self {
        Self(random_bytes::<16>().iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// What is sent: hexadecimal digits, which mean the same in every encoding.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }

    /// True if this has come back.
    pub(crate) fn is(&self, value: &[u8]) -> bool {
        value == self.0.as_bytes()
    }

    /// What comes between the echoes with which a row begins and ends; `None` where they are not there.
    pub(crate) fn between<'r, 'v>(&self, row: &'r [Option<&'v [u8]>]) -> Option<&'r [Option<&'v [u8]>]> {
        match row {
            [Some(first), between @ .., Some(last)] if self.is(first) && self.is(last) => Some(between),
            _ => None,
        }
    }

    /// The name of a statement and a portal, which nobody else can have given to one.
    pub(crate) fn name(&self) -> String {
        format!("pgvpd_{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_echo_is_itself_alone() {
        let (one, other) = (Echo::new(), Echo::new());
        assert!(one != other && one.name() != other.name() && one.text().len() == 32);
        assert!(one.is(one.text().as_bytes()) && !one.is(other.text().as_bytes()) && !one.is(b""));
        let (mine, theirs) = (Some(one.text().as_bytes()), Some(other.text().as_bytes()));
        assert_eq!(one.between(&[mine, None, theirs, mine]), Some(&[None, theirs][..]));
        assert_eq!(one.between(&[mine, mine]), Some(&[][..]));
        for row in [&[][..], &[mine], &[mine, theirs], &[theirs, mine], &[None, mine], &[mine, None]] {
            assert_eq!(one.between(row), None);
        }
    }
}
