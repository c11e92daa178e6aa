//! Makes a pool's connections: in a session that is given back, `DISCARD ALL` brings back what it began with, so that it has to begin
//! without anything that the role has set for itself.

use std::sync::Arc;

use tracing::{debug, warn};

use super::{ExchangeError, PoolKey, run_statement};
use crate::config::Config;
use crate::context::{NOTE, SessionSettings, SettingsKey, survey_settings};
use crate::shared::Shared;
use crate::upstream::{UpstreamError, UpstreamLogin, UpstreamSession};
use crate::wire::{Answer, ErrorFields, bind_values};

/// How often a connection is made before the next attempt to make one: each finds what the role has set since the one before.
const MAX_ATTEMPTS: usize = 6;

/// Connects and logs in. The caller sets the deadline.
pub(super) async fn make(
    key: &PoolKey,
    shared: &Arc<Shared>,
    config: &Config,
) -> Result<UpstreamSession, UpstreamError> {
    let blank = blank_context(config);
    for attempt in 1.. {
        let settings_key =
            SettingsKey { upstream: key.upstream.clone(), database: key.database.clone(), role: key.role.clone() };
        let chosen = blank.iter().map(|(name, _)| name.as_str());
        let mut settings = SessionSettings::new(&shared.role_settings, settings_key, chosen);
        let startup = [blank.as_slice(), settings.pins()].concat();
        let login = UpstreamLogin {
            address: &key.upstream,
            allow_cleartext: config.allow_cleartext,
            role: &key.role,
            database: &key.database,
            startup: if config.context_in_startup { &startup } else { &blank },
            credentials: shared.secrets.for_upstream(&key.role, config),
        };
        let mut session = match login.run(&shared.deriver).await {
            Ok(session) if !config.context_in_startup => return Ok(session),
            Ok(session) => session,
            Err(UpstreamError::Refused { body, summary }) => {
                let code = ErrorFields::new(&body).code().unwrap_or_default().into_owned();
                if attempt < MAX_ATTEMPTS && settings.ended_by(&code) {
                    continue;
                }
                return Err(UpstreamError::Refused { body, summary });
            }
            // With what it was asked for came the end of the session.
            Err(UpstreamError::Unread) if attempt < MAX_ATTEMPTS => {
                settings.ended_by("57P05");
                continue;
            }
            Err(error) => return Err(error),
        };
        match settle(&mut session, &mut settings).await {
            Ok(true) => return Ok(session),
            Ok(false) if attempt < MAX_ATTEMPTS => debug!(pool = %key, "the role has settings of its own"),
            Ok(false) => {
                warn!(pool = %key, "the role goes on making settings of its own");
                return Err(UpstreamError::Unanswered);
            }
            Err(error) => {
                debug!(pool = %key, %error, "a new upstream connection could not be asked for the role's settings");
                if attempt >= MAX_ATTEMPTS {
                    return Err(UpstreamError::Closed);
                }
            }
        }
    }
    Err(UpstreamError::Unanswered)
}

/// True if the session has begun without anything of the role's own.
async fn settle(session: &mut UpstreamSession, settings: &mut SessionSettings) -> Result<bool, ExchangeError> {
    let note = match ask(session, NOTE).await {
        Ok(Ok(note)) => note,
        // Such as a server on which not everybody may read what is set for roles.
        Ok(Err(body)) if !settings.ended_by(&ErrorFields::new(&body).code().unwrap_or_default()) => {
            warn!(error = ErrorFields::new(&body).summary(), "cannot ask for what roles have set for themselves");
            return Ok(true);
        }
        Ok(Err(_)) => return Ok(false),
        Err(error) => {
            // Which limit it was, if it was one, nobody has said.
            settings.ended_by("57P05");
            settings.ended_by("57014");
            if crate::context::has_transaction_timeout(session.parameters.get(b"server_version")) {
                settings.ended_by("25P04");
            }
            return Err(error);
        }
    };
    if !settings.noted(&note) {
        return Ok(true);
    }
    let survey = survey_settings(session.parameters.get(b"server_version"));
    match ask(session, &survey).await? {
        Ok(answer) => Ok(settings.surveyed(&answer).is_some_and(|undone| undone.is_empty())),
        Err(body) if settings.ended_by(&ErrorFields::new(&body).code().unwrap_or_default()) => Ok(false),
        Err(body) => Err(ExchangeError::Failed(ErrorFields::new(&body).summary())),
    }
}

/// The one value that a statement gives, or the body of the server's error.
async fn ask(session: &mut UpstreamSession, sql: &str) -> Result<Result<String, Vec<u8>>, ExchangeError> {
    let mut messages = Vec::new();
    bind_values(&mut messages, sql, &[]);
    Ok(match run_statement(&mut session.conn, &mut session.parameters, &messages).await? {
        Answer::Row(row) => {
            let value = row.into_iter().next().flatten().unwrap_or_default();
            Ok(String::from_utf8_lossy(&value).into_owned())
        }
        Answer::Error(body) => Err(body),
    })
}

/// The settings that sessions begin with, and startup parameters that make "no context" what one falls back to: a default that the role has for one of these would
/// be a context that nobody set (`ALTER ROLE … SET`).
fn blank_context(config: &Config) -> Vec<(String, String)> {
    if !config.context_in_startup {
        return Vec::new();
    }
    let pinned = config.pin_settings.iter().cloned();
    let variables = config.identity.variables.iter().chain(config.identity.resolved.iter());
    let variables = variables.map(|name| (name.as_str().to_owned(), String::new()));
    variables.chain([("role".to_owned(), "none".to_owned())]).chain(pinned).collect()
}
