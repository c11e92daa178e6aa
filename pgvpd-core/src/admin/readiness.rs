//! Whether clients should be sent here: the proxy takes them, and the server answers.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::Config;
use crate::net::{Conn, connect};
use crate::shared::Shared;
use crate::wire::{ErrorFields, Parsed, ProtocolVersion, StartupMessage, frame, tag};

/// How long an answer is good for: whoever asks often does not knock at the server as often.
const GOOD_FOR: Duration = Duration::from_secs(1);

/// How long the server may take.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// What the server was found to be, and when.
#[derive(Debug, Default)]
pub(super) struct Readiness {
    // Held while the server is asked: one asks, and all have its answer.
    found: Mutex<Option<(Instant, Result<(), String>)>>,
}

impl Readiness {
    /// `Ok`, or why not.
    pub(super) async fn check(&self, shared: &Shared) -> Result<(), String> {
        if shared.draining.is_cancelled() {
            return Err("draining".into());
        }
        if shared.pools.is_paused() {
            return Err("the pools are paused".into());
        }
        let config = shared.config.load_full();
        let mut found = self.found.lock().await;
        if let Some((at, result)) = &*found
            && at.elapsed() < GOOD_FOR
        {
            return result.clone();
        }
        let asked = timeout(TIMEOUT, ask(&config)).await;
        let result = asked.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        let result = result.map_err(|cause| format!("the upstream server is not reachable: {cause}"));
        *found = Some((Instant::now(), result.clone()));
        result
    }
}

/// Begins a login, as `pg_isready` does, and leaves when the server asks for a proof: it takes connections then.
async fn ask(config: &Arc<Config>) -> Result<(), String> {
    let socket = connect(&config.upstream).await.map_err(|error| error.to_string())?;
    let mut server = Conn::new(socket);
    let rules = &config.identity;
    let asker = config.secrets.query.as_ref().map(|query| (query.user.as_str(), query.database.as_str()));
    let role = rules.login_roles.iter().flatten().next().map_or("app_user", String::as_str);
    let (user, database) = asker.unwrap_or((role, role));
    let parameters = vec![("user".to_owned(), user.to_owned()), ("database".to_owned(), database.to_owned())];
    let packet = StartupMessage { version: ProtocolVersion::V3_0, parameters }.encode();
    server.queue(&packet.ok_or("the role's name is too long")?);
    server.flush().await.map_err(|error| error.kind().to_string())?;
    loop {
        match frame(server.received(), MAX_ANSWER).map_err(|error| error.to_string())? {
            Parsed::Complete(answer, _) if answer.tag == tag::ERROR_RESPONSE => {
                let fields = ErrorFields::new(answer.body);
                // cannot_connect_now: it starts, stops, or recovers. Any other refusal is a server that works.
                return match fields.code().as_deref() {
                    Some("57P03") => Err(fields.message().unwrap_or_default().into_owned()),
                    _ => Ok(()),
                };
            }
            Parsed::Complete(..) => return Ok(()),
            Parsed::Incomplete => {
                if !matches!(server.fill().await, Ok(1..)) {
                    return Err("it closed the connection".into());
                }
            }
        }
    }
}
