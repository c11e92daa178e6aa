//! The keys of passwords, derived once and kept.

use std::sync::Arc;

use hmac::{Hmac, KeyInit, Mac};
use moka::future::Cache;
use sha2::Sha256;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::scram::Keys;
use crate::random::random_bytes;

/// Keys that are kept. The cache prefers those that are asked for again, so that guessed passwords do not drive out
/// the right ones.
const MAX_KEYS: u64 = 1000;

/// Derives SCRAM keys from passwords: each once, one at a time, and never on a thread that serves sessions.
pub(crate) struct Deriver {
    /// By a digest under `digest_key`, so that no password is kept.
    keys: Cache<[u8; 32], Keys>,
    digest_key: Zeroizing<[u8; 32]>,
    /// Hands out turns in the order of arrival. One core is as much as logins may take from live sessions.
    turn: Arc<Semaphore>,
}

impl std::fmt::Debug for Deriver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Deriver(…)")
    }
}

impl Deriver {
    pub(crate) fn new() -> Self {
        Self {
            keys: Cache::new(MAX_KEYS),
            digest_key: Zeroizing::new(random_bytes()),
            turn: Arc::new(Semaphore::new(1)),
        }
    }

    /// The keys of a password, for one salt and one number of iterations. Safe to cancel: another that waits for the
    /// same keys goes on.
    pub(crate) async fn keys(&self, password: &[u8], salt: &[u8], iterations: u32) -> Keys {
        let digest = self.digest(password, salt, iterations);
        Box::pin(self.keys.get_with(digest, self.derive(password, salt, iterations))).await
    }

    async fn derive(&self, password: &[u8], salt: &[u8], iterations: u32) -> Keys {
        let turn = Arc::clone(&self.turn).acquire_owned().await;
        let (password, salt) = (Zeroizing::new(password.to_vec()), salt.to_vec());
        let derive = move || {
            let keys = Keys::derive(&password, &salt, iterations);
            // Not before: a caller that goes away leaves the thread at work.
            drop(turn);
            keys
        };
        match tokio::task::spawn_blocking(derive).await {
            Ok(keys) => keys,
            // The runtime is stopping, and so is whoever asked.
            Err(_) => std::future::pending().await,
        }
    }

    fn digest(&self, password: &[u8], salt: &[u8], iterations: u32) -> [u8; 32] {
        let mut mac = match Hmac::<Sha256>::new_from_slice(&*self.digest_key) {
            Ok(mac) => mac,
            Err(_) => unreachable!("HMAC takes a key of any length"),
        };
        for part in [password, salt] {
            mac.update(&part.len().to_be_bytes());
            mac.update(part);
        }
        mac.update(&iterations.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use super::*;
    use crate::auth::Verifier;

    fn text(keys: &Keys) -> String {
        Verifier::of(keys, b"salt".to_vec(), 10).to_text().to_string()
    }

    #[tokio::test]
    async fn keys_are_those_of_the_password_salt_and_iterations_and_are_kept_by_all_three() {
        let deriver = Deriver::new();
        for (password, salt, iterations) in [("a", "bc", 10), ("ab", "c", 10), ("a", "bc", 11), ("a", "bc", 10)] {
            let keys = deriver.keys(password.as_bytes(), salt.as_bytes(), iterations).await;
            assert_eq!(text(&keys), text(&Keys::derive(password.as_bytes(), salt.as_bytes(), iterations)));
        }
        deriver.keys.run_pending_tasks().await;
        assert_eq!(deriver.keys.entry_count(), 3);
        assert!(!format!("{deriver:?}{:?}", deriver.keys(b"s3cret", b"salt", 1).await).contains("s3cret"));
    }

    #[tokio::test]
    async fn keys_that_are_known_need_no_turn() {
        let deriver = Deriver::new();
        deriver.keys(b"a", b"salt", 10).await;
        let _taken = deriver.turn.acquire().await.expect("open");
        deriver.keys(b"a", b"salt", 10).await;
        let other = tokio::time::timeout(Duration::from_millis(1), deriver.keys(b"b", b"salt", 10));
        assert!(other.await.is_err(), "one that is not known waits for its turn");
    }

    #[tokio::test]
    async fn a_thread_that_derives_keeps_its_turn_when_nobody_waits_for_it_any_more() {
        let deriver = Deriver::new();
        let mut asking = Box::pin(deriver.keys(b"a", b"salt", 100_000));
        assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(asking);
        assert_eq!(deriver.turn.available_permits(), 0);
        assert!(deriver.turn.acquire().await.is_ok(), "it ends");
    }

    #[tokio::test]
    async fn one_that_waited_goes_on_where_the_first_gave_up() {
        let deriver = Arc::new(Deriver::new());
        let taken = Arc::clone(&deriver.turn).acquire_owned().await.expect("open");
        let asks = |deriver: Arc<Deriver>| async move { deriver.keys(b"a", b"salt", 10).await };
        let first = tokio::spawn(asks(Arc::clone(&deriver)));
        tokio::task::yield_now().await;
        let second = tokio::spawn(asks(Arc::clone(&deriver)));
        tokio::task::yield_now().await;
        first.abort();
        drop(taken);
        assert_eq!(text(&second.await.expect("derived")), text(&Keys::derive(b"a", b"salt", 10)));
        assert!(first.await.is_err_and(|error| error.is_cancelled()));
    }
}
