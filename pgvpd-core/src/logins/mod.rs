//! Connections that are not sessions yet: how many may log in at one time, over all and of one address, and which of them give way.
//!
//! A login has a slot from its startup packet until the client is authenticated. One that finds none waits, so that a burst of
//! connections of an application is served one after the other. While others wait, a client that is slow to answer loses its slot: in
//! passthrough, where the login holds a connection of the server, it has to leave; elsewhere it goes on without. Connections that say
//! nothing give way to new ones.

mod ledger;
mod penalties;

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::ledger::{Bounds, Origin};
use self::ledger::{Held, Hurried, Id, Ledger, Step};
pub(crate) use self::penalties::{Attempt, Penalties};
use crate::address::ClientAddress;
use crate::config::Config;
use crate::sessions::SessionId;

/// How long a client may take for an answer while others wait for the slot that it has.
const PATIENCE: Duration = Duration::from_millis(500);

/// The same where a connection of the server is held, and it would have to begin again.
const PATIENCE_WITH_SERVER: Duration = Duration::from_secs(3);

/// How often those who wait look whether one of them keeps a slot for longer.
const LOOK: Duration = Duration::from_millis(250);

/// Connections that are not sessions yet, at least, whatever `max_client_connections` is: a multiple of `max_logins`.
const CONNECTIONS: usize = 10;

impl Bounds {
    /// For clients.
    pub(crate) fn of(config: &Config) -> Self {
        Self {
            running: config.max_logins,
            running_per_origin: config.max_logins_per_address,
            connections: config.max_client_connections.max(config.max_logins.saturating_mul(CONNECTIONS)),
        }
    }

    /// For administrators: they have slots of their own, since they must get in where clients cannot.
    pub(crate) const CONSOLE: Self = Self { running: 20, running_per_origin: 10, connections: 200 };
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Logins {
    ledger: Mutex<Ledger<Arc<Signal>>>,
    last: AtomicU64,
}

/// What a connection learns from others, and they from it.
#[derive(Debug)]
pub(crate) struct Signal {
    session: SessionId,
    address: ClientAddress,
    notify: Notify,
    news: AtomicU8,
    since: Instant,
    /// Since when its client is asked for something, in milliseconds from `since`, plus one; 0 where it is not.
    asked: AtomicU64,
    holds_server: AtomicBool,
}

const NO_NEWS: u8 = 0;
const GRANTED: u8 = 1;
const DISPLACED: u8 = 2;

impl Signal {
    fn new(session: SessionId, address: ClientAddress) -> Self {
        Self {
            session,
            address,
            notify: Notify::new(),
            news: AtomicU8::new(NO_NEWS),
            since: Instant::now(),
            asked: AtomicU64::new(0),
            holds_server: AtomicBool::new(false),
        }
    }

    fn tell(&self, news: u8) {
        self.news.fetch_max(news, Ordering::AcqRel);
        self.notify.notify_waiters();
        // The permit is kept for who comes later.
        self.notify.notify_one();
    }

    async fn has_news(&self, least: u8) -> u8 {
        loop {
            let notified = self.notify.notified();
            let news = self.news.load(Ordering::Acquire);
            if news >= least {
                return news;
            }
            notified.await;
        }
    }

    /// How long its client has been asked for something.
    fn waits(&self) -> Duration {
        match self.asked.load(Ordering::Relaxed).checked_sub(1) {
            None => Duration::ZERO,
            Some(asked) => self.since.elapsed().saturating_sub(Duration::from_millis(asked)),
        }
    }
}

/// It has to leave, so that others get in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Displaced;

/// A connection that is not a session yet. Dropping it gives back what it has.
#[derive(Debug)]
pub(crate) struct Login {
    logins: Arc<Logins>,
    id: Id,
    origin: Origin,
    bounds: Bounds,
    signal: Arc<Signal>,
}

/// A connection that is not a session yet, at one moment: what is known of it without anything that its client says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LoginInProgress {
    pub(crate) session: SessionId,
    pub(crate) address: ClientAddress,
    pub(crate) lasts: Duration,
}

/// Connections that are not sessions yet, at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LoginsStatus {
    /// All of them.
    pub total: usize,
    /// They have not said yet who they are.
    pub greeting: usize,
    /// They wait until fewer are in progress: `max_logins`, `max_logins_per_address`.
    pub queued: usize,
    /// They are in progress: the client is asked for its proof, or its proof is being verified.
    pub authenticating: usize,
    /// Their proof was wrong, and they are told so after a delay.
    pub delayed: usize,
    /// Addresses that they come from; those of administrators at the console count once more.
    pub addresses: usize,
}

impl LoginsStatus {
    /// These and others.
    pub(crate) fn and(self, other: Self) -> Self {
        Self {
            total: self.total + other.total,
            greeting: self.greeting + other.greeting,
            queued: self.queued + other.queued,
            authenticating: self.authenticating + other.authenticating,
            delayed: self.delayed + other.delayed,
            addresses: self.addresses + other.addresses,
        }
    }

    /// Each state with its name and number.
    pub fn by_state(&self) -> [(&'static str, usize); 4] {
        let Self { greeting, queued, authenticating, delayed, .. } = *self;
        [("greeting", greeting), ("queued", queued), ("authenticating", authenticating), ("delayed", delayed)]
    }
}

impl Logins {
    fn ledger(&self) -> MutexGuard<'_, Ledger<Arc<Signal>>> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection of this number has come from this address. One that says nothing may have to leave for it.
    ///
    /// # Errors
    /// [`Displaced`] where this one has to leave: there are too many, and all are at work.
    pub(crate) fn enter(
        self: &Arc<Self>,
        session: SessionId,
        address: ClientAddress,
        bounds: Bounds,
    ) -> Result<Login, Displaced> {
        let (id, origin) = (self.last.fetch_add(1, Ordering::Relaxed), Origin::from(address));
        let signal = Arc::new(Signal::new(session, address));
        let displaced = self.ledger().enter(id, origin, Arc::clone(&signal), bounds).map_err(|()| Displaced)?;
        if let Some(displaced) = displaced {
            displaced.tell(DISPLACED);
        }
        Ok(Login { logins: Arc::clone(self), id, origin, bounds, signal })
    }

    /// The process is out of file descriptors: has one that says nothing leave.
    pub(crate) fn make_room(&self) {
        let displaced = self.ledger().displace_one();
        if let Some(displaced) = displaced {
            displaced.tell(DISPLACED);
        }
    }

    /// All of them, in no order.
    pub(crate) fn all(&self) -> Vec<LoginInProgress> {
        let of = |signal: &Arc<Signal>| {
            let Signal { session, address, since, .. } = &**signal;
            LoginInProgress { session: *session, address: *address, lasts: since.elapsed() }
        };
        self.ledger().signals().map(of).collect()
    }

    /// How many there are.
    pub(crate) fn status(&self) -> LoginsStatus {
        let [greeting, queued, authenticating, delayed, addresses] = self.ledger().counts();
        let total = greeting + queued + authenticating + delayed;
        LoginsStatus { total, greeting, queued, authenticating, delayed, addresses }
    }
}

impl Login {
    /// Waits for a slot. Safe to cancel.
    ///
    /// # Errors
    /// [`Displaced`] where later ones have taken its place in the queue.
    pub(crate) async fn start(&self) -> Result<(), Displaced> {
        if self.logins.ledger().start(self.id, self.origin, self.bounds) {
            return Ok(());
        }
        loop {
            match tokio::time::timeout(LOOK, self.signal.has_news(GRANTED)).await {
                Ok(GRANTED) => return Ok(()),
                Ok(_) => return Err(Displaced),
                Err(_) => self.hurry(),
            }
        }
    }

    /// Has a login give its slot up whose client keeps others waiting.
    fn hurry(&self) {
        let slowness = |signal: &Arc<Signal>| {
            let (held, patience) = match signal.holds_server.load(Ordering::Relaxed) {
                true => (Held::Server, PATIENCE_WITH_SERVER),
                false => (Held::Nothing, PATIENCE),
            };
            Some((signal.waits(), held)).filter(|(time, _)| *time >= patience)
        };
        let hurried = self.logins.ledger().hurry(self.origin, self.bounds, slowness);
        match hurried {
            Some(Hurried::Leaves(slow)) => slow.tell(DISPLACED),
            Some(Hurried::Granted(granted)) => granted.iter().for_each(|signal| signal.tell(GRANTED)),
            None => {}
        }
    }

    /// Does this, unless the connection has to leave for others before it is done.
    pub(crate) async fn unless_displaced<T>(&self, work: impl Future<Output = T>) -> Result<T, Displaced> {
        tokio::select! {
            biased;
            done = work => Ok(done),
            _ = self.signal.has_news(DISPLACED) => Err(Displaced),
        }
    }

    /// It holds a connection of the server from now on.
    pub(crate) fn holds_server(&self) {
        self.signal.holds_server.store(true, Ordering::Relaxed);
    }

    /// Its client is asked for something, and the rest is the client's to do.
    pub(crate) fn client_is_asked(&self) {
        let milliseconds = u64::try_from(self.signal.since.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.signal.asked.store(milliseconds + 1, Ordering::Relaxed);
    }

    /// It has answered.
    pub(crate) fn client_has_answered(&self) {
        self.signal.asked.store(0, Ordering::Relaxed);
    }

    /// True while it waits for a slot.
    pub(crate) fn is_queued(&self) -> bool {
        self.logins.ledger().step(self.id, self.origin) == Some(Step::Queued)
    }

    /// The proof was wrong, and the client is told so later. Until then this is held, whether the client waits for it or not.
    pub(crate) fn is_delayed(&self) {
        self.client_has_answered();
        let granted = self.logins.ledger().refuse(self.id, self.origin, self.bounds);
        granted.iter().for_each(|signal| signal.tell(GRANTED));
    }

    /// The client has proved who it is: this is a session from now on.
    pub(crate) fn is_authenticated(&self) {
        let granted = self.logins.ledger().leave(self.id, self.origin, self.bounds);
        granted.iter().for_each(|signal| signal.tell(GRANTED));
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        self.is_authenticated();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { running: 4, running_per_origin: 2, connections: 5000 };

    fn address(last: u8) -> ClientAddress {
        ClientAddress::Ip([192, 0, 2, last].into())
    }

    async fn log_in(logins: Arc<Logins>, last: u8, takes: Duration) -> Result<(), Displaced> {
        let login =
            logins.enter(SessionId(1), address(last), Bounds { running_per_origin: 20, running: 40, ..BOUNDS })?;
        login.start().await?;
        login.unless_displaced(tokio::time::sleep(takes)).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_of_a_thousand_logins_from_one_address_is_served() {
        let logins = Arc::new(Logins::default());
        let since = Instant::now();
        let storm: Vec<_> =
            (0..1000).map(|_| tokio::spawn(log_in(Arc::clone(&logins), 1, Duration::from_millis(20)))).collect();
        for login in storm {
            assert_eq!(login.await.expect("no panic"), Ok(()));
        }
        assert!(since.elapsed() < Duration::from_secs(3), "one batch after the other, without a pause between them");
        assert_eq!(logins.status(), LoginsStatus::default());
    }

    #[tokio::test(start_paused = true)]
    async fn silent_clients_give_way_to_those_that_wait_and_to_nobody_else() {
        let logins = Arc::new(Logins::default());
        let silent = async |last: u8| {
            let login = logins.enter(SessionId(1), address(last), BOUNDS).expect("room");
            login.start().await.expect("a slot");
            login.holds_server();
            login.client_is_asked();
            login
        };
        let (first, second, busy) = (silent(1).await, silent(1).await, silent(2).await);
        busy.client_has_answered();
        let stays = tokio::time::timeout(Duration::from_secs(20), first.unless_displaced(std::future::pending::<()>()));
        assert!(stays.await.is_err(), "nobody waits");
        let newcomer = logins.enter(SessionId(1), address(1), BOUNDS).expect("room");
        let leaves = async {
            assert_eq!(first.unless_displaced(std::future::pending::<()>()).await, Err(Displaced));
            drop(first);
        };
        let (started, ()) = tokio::join!(newcomer.start(), leaves);
        assert_eq!(started, Ok(()));
        let stays = tokio::time::timeout(PATIENCE_WITH_SERVER, second.unless_displaced(std::future::pending::<()>()));
        assert!(stays.await.is_err(), "one slot was enough");
        assert_eq!(logins.status().authenticating, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn slow_clients_that_hold_no_server_connection_keep_nobody_waiting_and_stay() {
        let logins = Arc::new(Logins::default());
        let mut slow = Vec::new();
        let since = Instant::now();
        for _ in 0..100 {
            let login = logins.enter(SessionId(1), address(1), BOUNDS).expect("room");
            login.start().await.expect("a slot");
            login.client_is_asked();
            slow.push(login);
        }
        assert!(since.elapsed() < Duration::from_secs(60));
        assert_eq!((logins.status().authenticating, logins.status().queued), (100, 0));
        for login in &slow {
            let stays = login.unless_displaced(tokio::time::sleep(Duration::from_millis(1)));
            assert_eq!(stays.await, Ok(()));
        }
        drop(slow);
        assert_eq!(logins.status(), LoginsStatus::default());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_that_is_delayed_does_not_keep_the_next_login_waiting() {
        let logins = Arc::new(Logins::default());
        let mut wrong = Vec::new();
        for _ in 0..10 {
            let login = logins.enter(SessionId(1), address(1), BOUNDS).expect("room");
            login.start().await.expect("a slot at once");
            login.is_delayed();
            wrong.push(login);
        }
        assert_eq!((logins.status().delayed, logins.status().authenticating), (10, 0));
        drop(wrong);
        assert_eq!(logins.status(), LoginsStatus::default());
    }
}
