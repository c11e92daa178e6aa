//! Which connections are not sessions yet, by address, and whose login goes on next. Pure: no clock, no I/O.
//!
//! ```text
//! Greeting ─start─► Queued ─a slot is free─► Running ─┬─ authenticated: it leaves
//!     │               │                        │      ├─ refuse ─► Refusing (its refusal is delayed)
//!     │               │                        │      └─ hurry ──► Parked (its client is slow, and others wait: it goes on without
//!     └───────────────┴── displaced by others ─┘                           a slot) ─► authenticated, refuse, or displaced
//! ```

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::Ipv6Addr;

use crate::address::ClientAddress;

/// Where a connection comes from, as far as it is counted. A network gives each of its IPv6 customers a /64 at least; all clients
/// of the Unix socket are one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Origin(ClientAddress);

impl From<ClientAddress> for Origin {
    fn from(address: ClientAddress) -> Self {
        Self(match address {
            ClientAddress::Unix => ClientAddress::Unix,
            ClientAddress::Ip(ip) => ClientAddress::Ip(match ip.to_canonical() {
                std::net::IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) & !u128::from(u64::MAX)).into(),
                v4 @ std::net::IpAddr::V4(_) => v4,
            }),
        })
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)?;
        match self.0 {
            ClientAddress::Ip(std::net::IpAddr::V6(_)) => f.write_str("/64"),
            _ => Ok(()),
        }
    }
}

/// How many there may be. Given at each step, so that a reload can change it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Logins in progress.
    pub(crate) running: usize,
    /// Of one origin.
    pub(crate) running_per_origin: usize,
    /// Connections that are not sessions yet, of all origins.
    pub(crate) connections: usize,
}

/// Connections of one origin that wait for their login, as a multiple of those whose login may be in progress.
const WAITING: usize = 100;

/// The same for refusals that are delayed.
const REFUSING: usize = 5;

impl Bounds {
    fn waiting_per_origin(self) -> usize {
        self.running_per_origin.saturating_mul(WAITING)
    }

    fn refusing_per_origin(self) -> usize {
        self.running_per_origin.saturating_mul(REFUSING)
    }
}

/// What a login in progress holds beside its slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// Nothing: it may go on without a slot.
    Nothing,
    /// A connection to the server.
    Server,
}

/// What became of a slow login.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hurried<S> {
    /// It has to leave, by this signal.
    Leaves(S),
    /// It goes on without its slot, which these have.
    Granted(Vec<S>),
}

/// A connection's number.
pub(super) type Id = u64;

/// What a connection that is not a session does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// It has not said yet what it wants.
    Greeting,
    /// It wants to log in, and waits for a slot.
    Queued,
    /// It logs in.
    Running,
    /// It logs in, and has given its slot to another while its client is asked for something.
    Parked,
    /// It was told to leave.
    Leaving,
    /// It has given a wrong proof, and is told so later.
    Refusing,
}

/// One of them, with what it is told by.
#[derive(Debug)]
struct Entry<S> {
    step: Step,
    signal: S,
}

#[derive(Debug)]
struct Group<S> {
    entries: BTreeMap<Id, Entry<S>>,
    running: usize,
    refusing: usize,
    parked: usize,
    /// The latest is the next: those that have waited long are the likeliest to have given up.
    queued: Vec<Id>,
}

impl<S> Default for Group<S> {
    fn default() -> Self {
        Self { entries: BTreeMap::new(), running: 0, refusing: 0, parked: 0, queued: Vec::new() }
    }
}

impl<S> Group<S> {
    /// Connections without a slot.
    fn waiting(&self) -> usize {
        self.entries.len() - self.running - self.refusing
    }

    /// The oldest connection that waits, or has said nothing.
    fn displaceable(&self) -> Option<Id> {
        let waits = |entry: &Entry<S>| matches!(entry.step, Step::Greeting | Step::Queued | Step::Parked);
        self.entries.iter().find(|(_, entry)| waits(entry)).map(|(id, _)| *id)
    }
}

/// All of them.
#[derive(Debug)]
pub(super) struct Ledger<S> {
    groups: HashMap<Origin, Group<S>>,
    /// Origins with a queue, in turns.
    turns: VecDeque<Origin>,
    connections: usize,
    /// Those with a slot.
    running: BTreeMap<Id, Origin>,
}

impl<S> Default for Ledger<S> {
    fn default() -> Self {
        Self { groups: HashMap::new(), turns: VecDeque::new(), connections: 0, running: BTreeMap::new() }
    }
}

impl<S: Clone> Ledger<S> {
    /// A connection has come. Gives the signal of one that has to leave for it, or an error where this one has to.
    pub(super) fn enter(&mut self, id: Id, origin: Origin, signal: S, bounds: Bounds) -> Result<Option<S>, ()> {
        let waiting = self.groups.get(&origin).map_or(0, Group::waiting);
        let displaced = if waiting >= bounds.waiting_per_origin() {
            Some(self.displace_in(origin).ok_or(())?)
        } else if self.connections >= bounds.connections {
            Some(self.displace_one().ok_or(())?)
        } else {
            None
        };
        let group = self.groups.entry(origin).or_default();
        group.entries.insert(id, Entry { step: Step::Greeting, signal });
        self.connections += 1;
        Ok(displaced)
    }

    /// Has the oldest connection that waits leave, of the origin that has the most.
    pub(super) fn displace_one(&mut self) -> Option<S> {
        let (origin, _) = self.groups.iter().max_by_key(|(_, group)| group.waiting())?;
        self.displace_in(*origin)
    }

    fn displace_in(&mut self, origin: Origin) -> Option<S> {
        let group = self.groups.get_mut(&origin)?;
        let id = group.displaceable()?;
        self.leave_with(id, origin)
    }

    /// It is gone, as far as this counts.
    fn leave_with(&mut self, id: Id, origin: Origin) -> Option<S> {
        let group = self.groups.get_mut(&origin)?;
        let entry = group.entries.remove(&id)?;
        self.connections -= 1;
        match entry.step {
            Step::Running | Step::Leaving => {
                group.running -= 1;
                self.running.remove(&id);
            }
            Step::Refusing => group.refusing -= 1,
            Step::Parked => group.parked -= 1,
            Step::Queued => {
                group.queued.retain(|queued| *queued != id);
                if group.queued.is_empty() {
                    self.turns.retain(|turn| *turn != origin);
                }
            }
            Step::Greeting => {}
        }
        if group.entries.is_empty() {
            self.groups.remove(&origin);
            if self.groups.len() < self.groups.capacity() / 8 {
                self.groups.shrink_to_fit();
            }
        }
        Some(entry.signal)
    }

    /// A connection leaves, or has become a session. Gives those that have a slot now.
    pub(super) fn leave(&mut self, id: Id, origin: Origin, bounds: Bounds) -> Vec<S> {
        match self.leave_with(id, origin) {
            Some(_) => self.grant(bounds),
            None => Vec::new(),
        }
    }

    /// A connection wants to log in. True if it has a slot; else it is queued.
    pub(super) fn start(&mut self, id: Id, origin: Origin, bounds: Bounds) -> bool {
        let has_room = self.running.len() < bounds.running;
        let Some(group) = self.groups.get_mut(&origin) else { return false };
        let has_room = has_room && group.running < bounds.running_per_origin;
        let Some(entry) = group.entries.get_mut(&id).filter(|entry| entry.step == Step::Greeting) else {
            return false;
        };
        if has_room {
            entry.step = Step::Running;
            group.running += 1;
            self.running.insert(id, origin);
            return true;
        }
        entry.step = Step::Queued;
        if group.queued.is_empty() {
            self.turns.push_back(origin);
        }
        group.queued.push(id);
        false
    }

    /// Gives free slots to those that wait: one of each origin in turn, its latest.
    fn grant(&mut self, bounds: Bounds) -> Vec<S> {
        let mut granted = Vec::new();
        let mut passed_over = 0;
        while self.running.len() < bounds.running && passed_over < self.turns.len() {
            let Some(origin) = self.turns.pop_front() else { break };
            let Some(group) = self.groups.get_mut(&origin) else { continue };
            if group.running >= bounds.running_per_origin {
                passed_over += 1;
                self.turns.push_back(origin);
                continue;
            }
            let next = group.queued.pop();
            if let Some((id, entry)) = next.and_then(|id| Some((id, group.entries.get_mut(&id)?))) {
                entry.step = Step::Running;
                group.running += 1;
                self.running.insert(id, origin);
                granted.push(entry.signal.clone());
                passed_over = 0;
            }
            if !group.queued.is_empty() {
                self.turns.push_back(origin);
            }
        }
        granted
    }

    /// A login has failed, and is told later. It gives its slot back, unless so many are told later that this one has to go on
    /// holding it. Gives those that have a slot now.
    pub(super) fn refuse(&mut self, id: Id, origin: Origin, bounds: Bounds) -> Vec<S> {
        let Some(group) = self.groups.get_mut(&origin) else { return Vec::new() };
        let has_room = group.refusing < bounds.refusing_per_origin();
        match group.entries.get_mut(&id) {
            Some(entry) if matches!(entry.step, Step::Running | Step::Leaving) && has_room => {
                entry.step = Step::Refusing;
                group.running -= 1;
                group.refusing += 1;
                self.running.remove(&id);
                self.grant(bounds)
            }
            Some(entry) if entry.step == Step::Parked && has_room => {
                entry.step = Step::Refusing;
                group.parked -= 1;
                group.refusing += 1;
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Has a login in progress give its slot up so that this origin's next finds one: the slowest.
    pub(super) fn hurry<K: Ord>(
        &mut self,
        origin: Origin,
        bounds: Bounds,
        slowness: impl Fn(&S) -> Option<(K, Held)>,
    ) -> Option<Hurried<S>> {
        let is_own = self.groups.get(&origin)?.running >= bounds.running_per_origin;
        // Those with a slot alone: as few as there are slots, however many wait, and from wherever.
        let running = self.running.iter().filter(|(_, other)| !is_own || **other == origin);
        let mut slowest: Option<(K, Held, Origin, Id)> = None;
        for (id, origin) in running {
            let Some(entry) = self.groups.get(origin).and_then(|group| group.entries.get(id)) else { continue };
            // One slot is about to be free.
            if entry.step == Step::Leaving {
                return None;
            }
            if let Some((key, held)) = slowness(&entry.signal)
                && slowest.as_ref().is_none_or(|(most, ..)| key > *most)
            {
                slowest = Some((key, held, *origin, *id));
            }
        }
        let (_, held, origin, id) = slowest?;
        let group = self.groups.get_mut(&origin)?;
        let entry = group.entries.get_mut(&id)?;
        match held {
            Held::Server => {
                entry.step = Step::Leaving;
                Some(Hurried::Leaves(entry.signal.clone()))
            }
            Held::Nothing => {
                entry.step = Step::Parked;
                group.running -= 1;
                group.parked += 1;
                self.running.remove(&id);
                Some(Hurried::Granted(self.grant(bounds)))
            }
        }
    }

    /// What this connection does; `None` where it has left.
    pub(super) fn step(&self, id: Id, origin: Origin) -> Option<Step> {
        self.groups.get(&origin)?.entries.get(&id).map(|entry| entry.step)
    }

    /// The signals of all connections, in no order.
    pub(super) fn signals(&self) -> impl Iterator<Item = &S> {
        self.groups.values().flat_map(|group| group.entries.values()).map(|entry| &entry.signal)
    }

    /// How many connections there are of each kind, and of how many origins: greeting, queued, running, refusing, origins.
    pub(super) fn counts(&self) -> [usize; 5] {
        let all = || self.groups.values();
        let queued = all().map(|group| group.queued.len()).sum();
        let refusing = all().map(|group| group.refusing).sum();
        let running = self.running.len() + all().map(|group| group.parked).sum::<usize>();
        let greeting = self.connections - queued - running - refusing;
        [greeting, queued, running, refusing, self.groups.len()]
    }
}

#[cfg(test)]
#[path = "ledger_tests.rs"]
mod tests;
