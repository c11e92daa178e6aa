//! Cancel requests: from the key a client holds to the backend that it holds now.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{Notify, OwnedRwLockReadGuard, RwLock, Semaphore};
use tokio::time::{Instant, timeout};
use tracing::{debug, warn};

use crate::net::UpstreamAddress;
use crate::net::connect;
use crate::random::random_bytes;
use crate::wire::{CancelKey, CancelRequest};

/// The keys of the sessions that are live now. A request with any other key goes nowhere, so that a late one cannot
/// reach whoever has the backend's process id next.
#[derive(Debug)]
pub(crate) struct CancelRegistry {
    live: Mutex<Live>,
    /// For requests of the proxy's own: many sessions may end at once.
    own: Semaphore,
}

/// Requests of the proxy's own that are under way at one time.
const OWN_REQUESTS: usize = 32;

/// How long one may take.
const OWN_REQUEST_TIMEOUT: Duration = Duration::from_secs(2);

impl Default for CancelRegistry {
    fn default() -> Self {
        Self { live: Mutex::default(), own: Semaphore::new(OWN_REQUESTS) }
    }
}

#[derive(Debug, Default)]
struct Live {
    next_entry: u64,
    keys: HashMap<CancelKey, Target>,
    /// Requests with the wrong secret for a process id that some key has.
    guesses: HashMap<i32, Guesses>,
}

/// What is known of a process id that keys have.
#[derive(Debug, Default)]
struct Guesses {
    keys: usize,
    wrong: u32,
    /// When the next request is looked at, once there were too many wrong ones.
    next: Option<Instant>,
}

/// Wrong secrets for one process id after which its requests are looked at one by one. A secret of protocol 3.0 has 32 bits, and
/// process ids are no secret.
const FREE_GUESSES: u32 = 100;

/// How far apart they are then: 2^31 guesses take seven years.
const GUESS_INTERVAL: Duration = Duration::from_millis(100);

impl Guesses {
    /// True where another request may be looked at now.
    fn admit(&mut self, now: Instant) -> bool {
        let is_due = self.wrong < FREE_GUESSES || self.next.is_none_or(|next| now >= next);
        if is_due && self.wrong >= FREE_GUESSES {
            self.next = Some(now + GUESS_INTERVAL);
        }
        is_due
    }
}

impl Live {
    /// The target of a key, unless there were too many recent guesses at it.
    fn target(&mut self, key: &CancelKey) -> Option<&Target> {
        let guesses = self.guesses.get_mut(&key.pid)?;
        if !guesses.admit(Instant::now()) {
            return None;
        }
        let target = self.keys.get(key);
        if target.is_none() {
            guesses.wrong = guesses.wrong.saturating_add(1);
            if guesses.wrong == FREE_GUESSES {
                warn!(
                    pid = key.pid,
                    "many cancel requests with a wrong secret; those for this process are slowed down"
                );
            }
        }
        target
    }

    fn insert(&mut self, key: CancelKey, target: Target) {
        let pid = key.pid;
        // A server may give a key again: its entry is replaced.
        if self.keys.insert(key, target).is_none() {
            self.guesses.entry(pid).or_default().keys += 1;
        }
    }

    fn remove(&mut self, key: &CancelKey) {
        if self.keys.remove(key).is_none() {
            return;
        }
        if let Entry::Occupied(mut guesses) = self.guesses.entry(key.pid) {
            guesses.get_mut().keys -= 1;
            if guesses.get().keys == 0 {
                guesses.remove();
            }
        }
    }
}

/// Where a key leads.
#[derive(Debug, Clone)]
struct Target {
    entry: u64,
    to: To,
    /// Held while a request is on its way.
    under_way: Arc<RwLock<()>>,
}

/// Who is told.
#[derive(Debug, Clone)]
enum To {
    /// A server; it knows the backend by this key.
    Backend(CancelKey, UpstreamAddress),
    /// Somebody in this proxy.
    Console(Arc<Notify>),
}

/// A registered key; dropping it makes the key void.
#[derive(Debug)]
pub(crate) struct CancelEntry {
    registry: Arc<CancelRegistry>,
    key: CancelKey,
    entry: u64,
    under_way: Arc<RwLock<()>>,
}

impl CancelRegistry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the server's own key valid until the entry is dropped.
    pub(crate) fn register(self: &Arc<Self>, key: CancelKey, upstream: UpstreamAddress) -> CancelEntry {
        self.enter(key.clone(), To::Backend(key, upstream))
    }

    /// Makes a new key for a backend, with its process id and a secret of so many random bytes, at most 32, valid until the
    /// entry is dropped.
    pub(crate) fn issue(
        self: &Arc<Self>,
        secret_bytes: usize,
        backend: CancelKey,
        upstream: UpstreamAddress,
    ) -> CancelEntry {
        let pid = backend.pid;
        self.enter_new(|| key_of(pid, secret_bytes), To::Backend(backend, upstream))
    }

    /// The same for who is told here, in this proxy, with a random number for a process id.
    pub(crate) fn issue_here(self: &Arc<Self>, secret_bytes: usize, told: &Arc<Notify>) -> CancelEntry {
        // Process ids are positive; clients show them.
        let key = || key_of(i32::from_ne_bytes(random_bytes()) & i32::MAX, secret_bytes);
        self.enter_new(key, To::Console(Arc::clone(told)))
    }

    /// Enters a key that nobody has.
    fn enter_new(self: &Arc<Self>, make: impl Fn() -> CancelKey, to: To) -> CancelEntry {
        let mut key = make();
        while self.live().keys.contains_key(&key) {
            key = make();
        }
        self.enter(key, to)
    }

    fn enter(self: &Arc<Self>, key: CancelKey, to: To) -> CancelEntry {
        let under_way = Arc::default();
        let mut live = self.live();
        live.next_entry += 1;
        let entry = live.next_entry;
        let target = Target { entry, to, under_way: Arc::clone(&under_way) };
        live.insert(key.clone(), target);
        CancelEntry { registry: Arc::clone(self), key, entry, under_way }
    }

    /// The target of a key, and what keeps its backend from going to another session meanwhile.
    fn target(&self, key: &CancelKey) -> Option<(Target, OwnedRwLockReadGuard<()>)> {
        // Under the lock of the keys: once a key is void, nobody can begin who saw it before.
        let mut live = self.live();
        let target = live.target(key)?;
        let guard = Arc::clone(&target.under_way).try_read_owned().ok()?;
        Some((target.clone(), guard))
    }

    /// Forwards a request to the server that the key belongs to, and waits until that server has taken it: it closes
    /// the connection then. PostgreSQL answers a cancel request with nothing, and so does this, whatever happened.
    pub(crate) async fn forward(&self, request: CancelRequest) -> Forwarded {
        let Some((target, _guard)) = self.target(&request.key) else {
            debug!(pid = request.key.pid, "cancel request for no live session");
            return Forwarded::Unknown;
        };
        let pid = request.key.pid;
        let (backend, upstream) = match target.to {
            To::Backend(backend, upstream) => (backend, upstream),
            To::Console(told) => {
                told.notify_waiters();
                return Forwarded::Sent;
            }
        };
        match send(&CancelRequest { key: backend }, &upstream).await {
            Ok(()) => {
                debug!(pid, "cancel request forwarded");
                Forwarded::Sent
            }
            Err(error) => {
                warn!(pid, error, "cancel request could not be forwarded");
                Forwarded::Failed
            }
        }
    }

    /// Cancels what a backend does, for a session that is over, and waits until it is taken, within a limit.
    pub(crate) async fn cancel_backend(&self, backend: &CancelKey, upstream: &UpstreamAddress) {
        let Ok(_permit) = self.own.acquire().await else { return };
        let request = CancelRequest { key: backend.clone() };
        match timeout(OWN_REQUEST_TIMEOUT, send(&request, upstream)).await {
            Ok(Ok(())) => debug!(pid = backend.pid, "cancelled what a session left running"),
            Ok(Err(error)) => debug!(pid = backend.pid, error, "a cancel request did not reach the upstream server"),
            Err(_) => debug!(pid = backend.pid, "the upstream server did not take a cancel request in time"),
        }
    }
}

/// A key with a secret of so many random bytes, at most 32.
fn key_of(pid: i32, secret_bytes: usize) -> CancelKey {
    let random: [u8; 32] = random_bytes();
    CancelKey { pid, secret: random.get(..secret_bytes).unwrap_or(&random).into() }
}

/// Sends a request, and waits until the server has taken it: it closes the connection then.
async fn send(request: &CancelRequest, upstream: &UpstreamAddress) -> Result<(), String> {
    let mut socket = connect(upstream).await.map_err(|error| format!("{}: {}", error.target, error.cause))?;
    let mut packet = Vec::new();
    request.encode(&mut packet);
    socket.write_all(&packet).await.map_err(|error| error.to_string())?;
    socket.flush().await.map_err(|error| error.to_string())?;
    while matches!(socket.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
    Ok(())
}

/// What became of a cancel request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// The server has it.
    Sent,
    /// No live session has this key.
    Unknown,
    /// The server could not be reached.
    Failed,
}

impl CancelEntry {
    /// A request to cancel this session's query.
    pub(crate) fn request(&self) -> CancelRequest {
        CancelRequest { key: self.key.clone() }
    }

    /// The key that the client is given.
    pub(crate) fn key(&self) -> &CancelKey {
        &self.key
    }

    /// Makes the key void and waits until no request for it is under way any more: only then may the backend be another
    /// session's.
    pub(crate) async fn retire(self) {
        let under_way = Arc::clone(&self.under_way);
        drop(self);
        let _last = under_way.write_owned().await;
    }
}

impl Drop for CancelEntry {
    fn drop(&mut self) {
        let mut live = self.registry.live();
        if live.keys.get(&self.key).is_some_and(|target| target.entry == self.entry) {
            live.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: i32) -> CancelKey {
        CancelKey { pid, secret: Box::new([1, 2, 3, 4]) }
    }

    /// Where nobody listens.
    fn nowhere() -> UpstreamAddress {
        UpstreamAddress { host: "/nonexistent".into(), port: 1, tls: None, tcp: crate::net::TcpTimes::default() }
    }

    #[tokio::test]
    async fn a_key_is_valid_while_its_entry_lives_and_a_later_owner_keeps_it() {
        let registry = Arc::new(CancelRegistry::default());
        let request = || CancelRequest { key: key(7) };
        assert_eq!(registry.forward(request()).await, Forwarded::Unknown);
        let first = registry.register(key(7), nowhere());
        assert_eq!(registry.forward(request()).await, Forwarded::Failed);
        let second = registry.register(key(7), nowhere());
        drop(first);
        assert_eq!(registry.forward(request()).await, Forwarded::Failed);
        drop(second);
        assert_eq!(registry.forward(request()).await, Forwarded::Unknown);
    }

    #[tokio::test]
    async fn issued_keys_have_the_backends_number_and_a_secret_of_their_own() {
        let registry = Arc::new(CancelRegistry::default());
        let issued: Vec<_> = (0..100).map(|_| registry.issue(32, key(7), nowhere())).collect();
        let distinct: std::collections::HashSet<_> = issued.iter().map(|entry| entry.key().clone()).collect();
        assert!(distinct.len() == 100 && distinct.iter().all(|key| key.secret.len() == 32 && key.pid == 7));
        let (target, _) = registry.target(issued[0].key()).expect("live");
        assert!(matches!(target.to, To::Backend(backend, _) if backend == key(7)));
        assert_eq!(registry.forward(CancelRequest { key: key(7) }).await, Forwarded::Unknown, "the backend's own key");
    }

    #[tokio::test(start_paused = true)]
    async fn guessing_a_secret_is_slow_and_the_right_key_still_works() {
        let registry = Arc::new(CancelRegistry::default());
        let entries = [registry.issue(4, key(7), nowhere()), registry.issue(4, key(8), nowhere())];
        let is_found = |key: &CancelKey| registry.target(key).is_some();
        for guess in 0..1_000_u32 {
            let wrong = CancelKey { pid: 7, secret: guess.to_ne_bytes().into() };
            assert!(wrong == *entries[0].key() || !is_found(&wrong));
        }
        assert!(is_found(entries[1].key()), "another backend's");
        assert!(!is_found(entries[0].key()), "not looked at");
        tokio::time::advance(GUESS_INTERVAL).await;
        assert!(is_found(entries[0].key()));
        drop(entries);
        assert!(registry.live().guesses.is_empty());
    }

    #[tokio::test]
    async fn a_request_for_somebody_here_tells_those_who_wait_and_is_not_kept() {
        let registry = Arc::new(CancelRegistry::default());
        let told = Arc::new(Notify::new());
        let entry = registry.issue_here(4, &told);
        assert_eq!(registry.forward(entry.request()).await, Forwarded::Sent, "nobody waits");
        let mut waiting = std::pin::pin!(told.notified());
        assert!(!waiting.as_mut().enable());
        assert_eq!(registry.forward(entry.request()).await, Forwarded::Sent);
        waiting.await;
        let request = entry.request();
        drop(entry);
        assert_eq!(registry.forward(request).await, Forwarded::Unknown);
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_is_retired_only_when_its_last_request_is_through() {
        let registry = Arc::new(CancelRegistry::default());
        let entry = registry.issue(4, key(7), nowhere());
        let request = entry.request();
        let under_way = registry.target(&request.key).expect("live");
        let mut retired = Box::pin(entry.retire());
        let waiting = timeout(Duration::from_secs(60), &mut retired).await;
        assert!(waiting.is_err(), "a request is under way");
        assert!(registry.target(&request.key).is_none(), "and no other one begins");
        drop(under_way);
        retired.await;
    }
}
