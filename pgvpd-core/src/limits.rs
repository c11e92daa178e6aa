//! Counted places, each held by a value whose drop gives it back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A number of places in use. The limit is given at each entry, so that a reload can change it.
#[derive(Debug, Default)]
pub(crate) struct Places {
    taken: AtomicUsize,
}

/// One place.
#[derive(Debug)]
pub(crate) struct Slot {
    places: Arc<Places>,
}

impl Places {
    /// Takes a place if fewer than `limit` are taken; counting and taking are one step.
    pub(crate) fn enter(self: &Arc<Self>, limit: usize) -> Option<Slot> {
        let one_more = |taken: usize| (taken < limit).then_some(taken + 1);
        self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).ok()?;
        Some(Slot { places: Arc::clone(self) })
    }

    /// Places in use.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.places.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_gives_its_place_back() {
        let places = Arc::new(Places::default());
        let (first, second) = (places.enter(2), places.enter(2));
        assert!(first.is_some() && second.is_some() && places.enter(2).is_none());
        drop(first);
        assert_eq!(places.taken(), 1);
        assert!(places.enter(2).is_some());
    }
}
