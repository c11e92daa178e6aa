//! Refused logins and requests of one address: the first are written one by one, further ones of the same few seconds as one line with
//! their number. What takes effect is always written; what is refused must not fill the disk.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use super::Event;
use crate::address::ClientAddress;
use crate::logins::Origin;
use crate::shared::Shared;

/// Refusals of one address that are written one by one in a period.
const MOST_OF_ONE: u64 = 10;

/// Addresses that are counted apart.
const MOST: usize = 256;

/// Refusals of one period.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    state: Mutex<State>,
    begun: Notify,
}

#[derive(Debug, Default)]
struct State {
    origins: HashMap<Origin, u64>,
    /// Those of further addresses.
    beyond: u64,
}

impl Refusals {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True if a refusal of a client at this address is to be written by itself; else it is counted.
    pub(crate) fn is_written(&self, address: ClientAddress) -> bool {
        let state = &mut *self.state();
        if state.is_empty() {
            self.begun.notify_one();
        }
        let origin = Origin::from(address);
        if state.origins.len() >= MOST && !state.origins.contains_key(&origin) {
            state.beyond += 1;
            return false;
        }
        let refused = state.origins.entry(origin).or_default();
        *refused += 1;
        *refused <= MOST_OF_ONE
    }

    /// True if nothing was refused.
    pub(crate) fn is_empty(&self) -> bool {
        self.state().is_empty()
    }

    /// Resolves when something is refused.
    pub(crate) async fn begun(&self) {
        self.begun.notified().await;
    }

    /// Addresses, each with the number of refusals that were not written; the last without an address. A new period begins.
    fn take(&self) -> Vec<(Option<Origin>, u64)> {
        let State { origins, beyond } = std::mem::take(&mut *self.state());
        let unwritten =
            origins.into_iter().map(|(origin, refused)| (Some(origin), refused.saturating_sub(MOST_OF_ONE)));
        unwritten.chain([(None, beyond)]).filter(|(_, refused)| *refused > 0).collect()
    }
}

impl State {
    fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.beyond == 0
    }
}

impl Shared {
    /// Writes what was refused in the period that is over, and not written.
    pub(crate) async fn audit_summaries(&self, period: Duration) {
        for (origin, refused) in self.refusals.take() {
            let client = origin.map(|origin| origin.to_string());
            let event = Event::Refusals { client: client.as_deref(), refused, period: period.as_secs() };
            self.audit_past(&event).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_refusals_of_an_address_are_written_and_the_rest_counted() {
        let refusals = Refusals::default();
        let address = |last: u8| ClientAddress::Ip([192, 0, 2, last].into());
        let written = (0..1000).filter(|_| refusals.is_written(address(1))).count();
        assert_eq!(written as u64, MOST_OF_ONE);
        assert!(refusals.is_written(address(2)), "another address");
        assert_eq!(refusals.take(), [(Some(address(1).into()), 1000 - MOST_OF_ONE)]);
        assert!(refusals.is_empty() && refusals.is_written(address(1)), "a new period");
    }

    #[test]
    fn addresses_beyond_a_number_are_counted_together() {
        let refusals = Refusals::default();
        for number in 0..1000_u32 {
            refusals.is_written(ClientAddress::Ip(number.to_be_bytes().into()));
        }
        assert_eq!(refusals.take(), [(None, 1000 - MOST as u64)]);
    }
}
