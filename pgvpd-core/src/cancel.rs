//! Cancel requests: from the key a client holds to the server that its backend is on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing::{debug, warn};

use crate::config::UpstreamAddress;
use crate::net::connect;
use crate::wire::{CancelKey, CancelRequest};

/// The keys of the sessions that are live now. A request with any other key goes nowhere, so that a late one cannot
/// reach whoever has the backend's process id next.
#[derive(Debug, Default)]
pub(crate) struct CancelRegistry {
    live: Mutex<Live>,
}

#[derive(Debug, Default)]
struct Live {
    next_entry: u64,
    keys: HashMap<CancelKey, (u64, UpstreamAddress)>,
}

/// A registered key; dropping it makes the key void.
#[derive(Debug)]
pub(crate) struct CancelEntry {
    registry: Arc<CancelRegistry>,
    key: CancelKey,
    entry: u64,
}

impl CancelRegistry {
    fn live(&self) -> MutexGuard<'_, Live> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a key valid until the entry is dropped.
    pub(crate) fn register(self: &Arc<Self>, key: CancelKey, upstream: UpstreamAddress) -> CancelEntry {
        let mut live = self.live();
        live.next_entry += 1;
        let entry = live.next_entry;
        live.keys.insert(key.clone(), (entry, upstream));
        CancelEntry { registry: Arc::clone(self), key, entry }
    }

    /// Forwards a request to the server that the key belongs to, and waits until that server has taken it: it closes
    /// the connection then. PostgreSQL answers a cancel request with nothing, and so does this, whatever happened.
    pub(crate) async fn forward(&self, request: CancelRequest) -> Forwarded {
        let Some(upstream) = self.live().keys.get(&request.key).map(|(_, upstream)| upstream.clone()) else {
            debug!(pid = request.key.pid, "cancel request for no live session");
            return Forwarded::Unknown;
        };
        let sent = async {
            let mut socket = connect(&upstream).await.map_err(|error| format!("{}: {}", error.target, error.cause))?;
            let mut packet = Vec::new();
            request.encode(&mut packet);
            socket.write_all(&packet).await.map_err(|error| error.to_string())?;
            while matches!(socket.read(&mut [0; 64]).await, Ok(n) if n > 0) {}
            Ok::<(), String>(())
        };
        match sent.await {
            Ok(()) => {
                debug!(pid = request.key.pid, "cancel request forwarded");
                Forwarded::Sent
            }
            Err(error) => {
                warn!(pid = request.key.pid, error, "cancel request could not be forwarded");
                Forwarded::Failed
            }
        }
    }
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
}

impl Drop for CancelEntry {
    fn drop(&mut self) {
        let mut live = self.registry.live();
        if live.keys.get(&self.key).is_some_and(|(entry, _)| *entry == self.entry) {
            live.keys.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(pid: i32) -> CancelKey {
        CancelKey { pid, secret: Box::new([1, 2, 3, 4]) }
    }

    #[tokio::test]
    async fn a_key_is_valid_while_its_entry_lives_and_a_later_owner_keeps_it() {
        let registry = Arc::new(CancelRegistry::default());
        let nowhere = UpstreamAddress { host: "/nonexistent".into(), port: 1 };
        let request = || CancelRequest { key: key(7) };
        assert_eq!(registry.forward(request()).await, Forwarded::Unknown);
        let first = registry.register(key(7), nowhere.clone());
        assert_eq!(registry.forward(request()).await, Forwarded::Failed);
        let second = registry.register(key(7), nowhere);
        drop(first);
        assert_eq!(registry.forward(request()).await, Forwarded::Failed);
        drop(second);
        assert_eq!(registry.forward(request()).await, Forwarded::Unknown);
    }
}
