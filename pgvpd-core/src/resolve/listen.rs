//! Listens to `NOTIFY pgvpd_invalidate`, on a connection of the proxy's own in each database that has sessions.
//!
//! What was said while nobody listened is lost: with each connection everything that was found in its database is void, and
//! while there is none, nothing is used again.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::engine::Resolving;
use super::fault::Fault;
use super::sites::{Access, Place};
use crate::pool::{Answers, ExchangeError, send};
use crate::shared::Shared;
use crate::upstream::UpstreamSession;
use crate::wire::{NotificationResponse, query, sync, tag};

/// The channel.
const CHANNEL: &str = "pgvpd_invalidate";

/// The longest message that is taken: a payload has 8000 bytes at most, an error quotes what is wrong.
const MAX_MESSAGE: usize = 64 * 1024;

/// How often the server is asked whether it is still there, and how long it may take to answer.
const PING: Duration = Duration::from_secs(5);

/// Between two attempts to connect: the first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// One for each database.
#[derive(Default)]
pub(super) struct Listeners {
    ears: Mutex<HashMap<Place, Arc<Ear>>>,
}

/// Where it is listened, and as whom.
struct Ear {
    /// As the newest login has it: a reload may have brought another password.
    access: Mutex<Access>,
    is_listening: AtomicBool,
}

/// A connection that is to be made and kept.
pub(super) struct Listening {
    ear: Arc<Ear>,
    resolving: Weak<Resolving>,
}

/// What a notification says.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Said {
    resolver: String,
    /// All where there are none.
    params: Option<Vec<String>>,
}

impl Listeners {
    /// What is to run in the background, where nobody listens there yet.
    pub(super) fn listen(&self, access: &Access, resolving: Weak<Resolving>) -> Option<Listening> {
        let mut ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        match ears.entry(access.place()) {
            Entry::Vacant(vacant) => {
                let ear = Ear { access: Mutex::new(access.clone()), is_listening: AtomicBool::new(false) };
                let ear = Arc::clone(vacant.insert(Arc::new(ear)));
                Some(Listening { ear, resolving })
            }
            Entry::Occupied(occupied) => {
                let ear = occupied.get();
                if !ear.is_listening.load(Ordering::SeqCst) {
                    *ear.access.lock().unwrap_or_else(PoisonError::into_inner) = access.clone();
                }
                None
            }
        }
    }

    /// True while nothing that is said there can be missed.
    pub(super) fn is_listening(&self, access: &Access) -> bool {
        let ears = self.ears.lock().unwrap_or_else(PoisonError::into_inner);
        ears.get(&access.place()).is_some_and(|ear| ear.is_listening.load(Ordering::SeqCst))
    }
}

impl Listening {
    fn access(&self) -> Access {
        self.ear.access.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Listens until the proxy stops.
    pub(super) async fn run(self, shared: Weak<Shared>) {
        let database = self.access().database;
        let mut pause = PAUSES.0;
        let mut is_known = false;
        loop {
            let ended = self.listen(&shared).await;
            let was_listening = self.ear.is_listening.swap(false, Ordering::SeqCst);
            let Err(cause) = ended else { return };
            if was_listening {
                pause = PAUSES.0;
            }
            // Said once, not with each attempt.
            if was_listening || !std::mem::replace(&mut is_known, true) {
                warn!(%database, %cause, "cannot hear what makes resolvers' results void; nothing is used again until then");
            } else {
                debug!(%database, %cause, "cannot listen for changes of resolvers' results");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    /// `Ok` where the proxy is gone.
    async fn listen(&self, shared: &Weak<Shared>) -> Result<(), Fault> {
        let Some(resolving) = self.resolving.upgrade() else { return Ok(()) };
        let access = self.access();
        let UpstreamSession { mut conn, mut parameters, .. } = access.log_in(resolving.deriver()).await?;
        drop(resolving);
        let mut messages = Vec::new();
        query(&mut messages, &format!("LISTEN {CHANNEL}"));
        send(&mut conn, &messages).await.map_err(gone)?;
        let listened = timeout(PING, Answers::new(&mut conn, &mut parameters).expect_command(b"LISTEN")).await;
        listened.unwrap_or(Err(ExchangeError::Closed)).map_err(gone)?;
        let database = access.database;
        if self.invalidate(shared, &database, None).is_none() {
            return Ok(());
        }
        self.ear.is_listening.store(true, Ordering::SeqCst);
        info!(%database, "listening for changes of resolvers' results");
        let mut awaits_pong = false;
        loop {
            let Ok(message) = timeout(PING, conn.next_message(MAX_MESSAGE)).await else {
                if awaits_pong {
                    return Err(gone(ExchangeError::Closed));
                }
                let mut message = Vec::new();
                sync(&mut message);
                send(&mut conn, &message).await.map_err(gone)?;
                awaits_pong = true;
                continue;
            };
            let (found, body) =
                message.map_err(|error| gone(error.into()))?.ok_or_else(|| gone(ExchangeError::Closed))?;
            match found {
                tag::NOTIFICATION_RESPONSE => {
                    let said = NotificationResponse::parse(&body).map_err(|error| gone(error.into()))?;
                    match read(said.payload) {
                        Some(said) => debug!(%database, resolver = said.resolver, "a result is void"),
                        None => {
                            warn!(%database, "a notification of {CHANNEL} is none that makes a resolver's result void")
                        }
                    }
                    // What is not understood may have been about anything.
                    if self.invalidate(shared, &database, read(said.payload).as_ref()).is_none() {
                        return Ok(());
                    }
                }
                tag::READY_FOR_QUERY => awaits_pong = false,
                tag::NOTICE_RESPONSE | tag::PARAMETER_STATUS => {}
                other => return Err(gone(ExchangeError::Unexpected(char::from(other)))),
            }
        }
    }

    /// Makes void what was said to be; everything of the database where nothing particular was. `None` where the proxy is gone.
    fn invalidate(&self, shared: &Weak<Shared>, database: &str, said: Option<&Said>) -> Option<()> {
        let (resolving, shared) = (self.resolving.upgrade()?, shared.upgrade()?);
        let (resolver, params) = match said {
            Some(said) => (Some(said.resolver.as_str()), said.params.as_deref()),
            None => (None, None),
        };
        resolving.invalidate(Some(database), resolver, params, &shared);
        Some(())
    }
}

fn read(payload: &[u8]) -> Option<Said> {
    serde_json::from_slice(payload).ok()
}

fn gone(error: ExchangeError) -> Fault {
    Fault::Gone(error.to_string().into())
}
