//! The prepared statements and portals of a session that take settings back, by name. Most sessions have none.

/// What a statement does, as far as it is known.
pub(super) use crate::resets::Summary as Kind;

/// The most names of a kind that are kept.
const MAX_NAMES: usize = 32;

/// A name as the server knows it: no more than these bytes of it (`NAMEDATALEN`).
const MAX_NAME: usize = 63;

impl Kind {
    fn is_worth_a_name(self) -> bool {
        self.resets || self.is_neutral
    }

    /// Whichever of the two it is.
    fn either(self, other: Self) -> Self {
        Self {
            resets: self.resets || other.resets,
            is_silent: self.is_silent || other.is_silent,
            is_cut_off: false,
            is_neutral: self.is_neutral && other.is_neutral,
        }
    }
}

/// Names and what they stand for. The names of all others are not kept.
#[derive(Debug, Default)]
struct Names {
    kinds: Vec<(Box<[u8]>, Kind)>,
    /// There were more: any name may be one of them.
    is_full: bool,
}

impl Names {
    fn get(&self, name: Option<&[u8]>) -> Kind {
        let found = name.and_then(|name| {
            let name = shortened(name);
            self.kinds.iter().find(|(known, _)| **known == *name).map(|(_, kind)| *kind)
        });
        match found {
            Some(kind) => kind,
            // Too long to be read, or one that was not kept.
            None if name.is_none() || self.is_full => Kind::UNREAD,
            None => Kind::PLAIN,
        }
    }

    /// The unnamed one is replaced. A name that is in use keeps its statement, and the server says so.
    fn set(&mut self, name: &[u8], kind: Kind) {
        let name = shortened(name);
        let place = self.kinds.iter().position(|(known, _)| **known == *name);
        match place {
            Some(place) if name.is_empty() && !kind.is_worth_a_name() => {
                self.kinds.swap_remove(place);
            }
            Some(place) => {
                if let Some((_, known)) = self.kinds.get_mut(place) {
                    *known = if name.is_empty() { kind } else { known.either(kind) };
                }
            }
            None if !kind.is_worth_a_name() => {}
            None if self.kinds.len() < MAX_NAMES => self.kinds.push((name.into(), kind)),
            None => self.is_full |= kind.resets,
        }
    }

    fn remove(&mut self, name: &[u8]) {
        let name = shortened(name);
        self.kinds.retain(|(known, _)| **known != *name);
    }

    fn is_empty(&self) -> bool {
        self.kinds.is_empty() && !self.is_full
    }
}

fn shortened(name: &[u8]) -> &[u8] {
    name.get(..MAX_NAME).unwrap_or(name)
}

/// What a session has prepared. Holds nothing where no statement of it was a reset.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    names: Option<Box<Both>>,
}

#[derive(Debug, Default)]
struct Both {
    statements: Names,
    portals: Names,
}

impl Prepared {
    /// True where names say something.
    pub(super) fn is_in_use(&self) -> bool {
        self.names.is_some()
    }

    /// A statement of this name; `None` for one that is too long.
    pub(super) fn statement(&self, name: Option<&[u8]>) -> Kind {
        self.names.as_ref().map_or(Kind::PLAIN, |names| names.statements.get(name))
    }

    /// A portal of this name; `None` for one that is too long.
    pub(super) fn portal(&self, name: Option<&[u8]>) -> Kind {
        self.names.as_ref().map_or(Kind::PLAIN, |names| names.portals.get(name))
    }

    /// A statement gets this name.
    pub(super) fn parse(&mut self, name: &[u8], kind: Kind) {
        if self.names.is_some() || kind.is_worth_a_name() {
            self.names.get_or_insert_default().statements.set(name, kind);
            self.forget_where_empty();
        }
    }

    /// A portal of this kind gets this name; `None` for one that is too long.
    pub(super) fn bind(&mut self, portal: Option<&[u8]>, kind: Kind) {
        let Some(names) = &mut self.names else { return };
        match portal {
            Some(portal) => names.portals.set(portal, kind),
            None => names.portals.is_full |= kind.resets,
        }
        self.forget_where_empty();
    }

    /// A statement (`S`) or a portal (`P`) is closed.
    pub(super) fn close(&mut self, what: u8, name: Option<&[u8]>) {
        if let (Some(names), Some(name)) = (&mut self.names, name) {
            if what == b'S' { names.statements.remove(name) } else { names.portals.remove(name) }
        }
        self.forget_where_empty();
    }

    /// Portals end with their transaction.
    pub(super) fn end_transaction(&mut self) {
        if let Some(names) = &mut self.names {
            names.portals = Names::default();
        }
        self.forget_where_empty();
    }

    fn forget_where_empty(&mut self) {
        if self.names.as_ref().is_some_and(|names| names.statements.is_empty() && names.portals.is_empty()) {
            self.names = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESET: Kind = Kind { resets: true, is_silent: false, is_cut_off: false, is_neutral: true };

    #[test]
    fn a_name_stands_for_a_reset_until_it_is_closed() {
        let mut prepared = Prepared::default();
        prepared.parse(b"", Kind::PLAIN);
        assert!(!prepared.is_in_use());
        prepared.parse(b"clean", RESET);
        prepared.parse(b"clean", Kind::PLAIN);
        prepared.parse(b"", RESET);
        prepared.bind(Some(b""), prepared.statement(Some(b"clean")));
        assert!(prepared.portal(Some(b"")).resets && prepared.statement(Some(b"clean")).resets);
        assert!(!prepared.statement(Some(b"other")).resets && prepared.statement(None).resets);
        prepared.bind(Some(b""), prepared.statement(Some(b"other")));
        assert!(!prepared.portal(Some(b"")).resets);
        prepared.parse(b"", Kind::PLAIN);
        assert!(!prepared.statement(Some(b"")).resets);
        prepared.close(b'S', Some(b"clean"));
        assert!(!prepared.is_in_use());
    }

    #[test]
    fn names_that_are_not_kept_may_be_resets() {
        let mut prepared = Prepared::default();
        for number in 0..=MAX_NAMES {
            prepared.parse(format!("reset {number}").as_bytes(), RESET);
        }
        assert!(prepared.statement(Some(b"reset 32")).resets && prepared.statement(Some(b"other")).resets);
        // The server knows no more of a name.
        let (long, longer) = ([b'x'; MAX_NAME], [b'x'; MAX_NAME + 1]);
        let mut prepared = Prepared::default();
        prepared.parse(&longer, RESET);
        assert!(prepared.statement(Some(&long)).resets);
    }

    #[test]
    fn portals_end_with_the_transaction() {
        let mut prepared = Prepared::default();
        prepared.parse(b"", RESET);
        prepared.bind(Some(b"p"), RESET);
        prepared.parse(b"", Kind::PLAIN);
        assert!(prepared.portal(Some(b"p")).resets);
        prepared.end_transaction();
        assert!(!prepared.is_in_use());
    }
}
