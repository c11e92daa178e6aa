//! After the start: do the options permit more than the server has? Asked where the proxy has a login of its own, as `auth_user`.

use std::sync::Arc;

use tracing::{debug, warn};

use crate::config::Config;
use crate::pool::PoolMode;
use crate::pool::run_statement;
use crate::probe::log_in;
use crate::shared::Shared;
use crate::wire::{Answer, bind_values};

/// How many connections a server has for roles that are no superusers.
const ASK: &str = "SELECT (pg_catalog.current_setting('max_connections')::int \
    - pg_catalog.current_setting('superuser_reserved_connections')::int \
    - coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0))::text";

/// An option that permits more than there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TooMany {
    option: &'static str,
    value: usize,
}

/// Asks the server, and warns of options that exceed what it has.
pub(crate) async fn check(shared: Arc<Shared>) {
    let config = shared.config.load_full();
    let asked = tokio::time::timeout(config.handshake_timeout, connections(&shared, &config));
    let Some(Ok(Some(connections))) = shared.stopped.run_until_cancelled(asked).await else { return };
    for TooMany { option, value } in too_many(&config, connections) {
        warn!(
            option,
            value,
            connections,
            "the option permits more than the server has connections for: clients will read \"too many clients already\"; lower it, or \
             raise max_connections of the server"
        );
    }
}

/// `None` where it cannot be asked, or does not say.
async fn connections(shared: &Shared, config: &Config) -> Option<usize> {
    let query = config.secrets.query.as_ref()?;
    let logged_in = log_in(query, shared, config).await;
    let mut session =
        logged_in.inspect_err(|error| debug!(cause = error.for_log(), "cannot ask for max_connections")).ok()?;
    let mut messages = Vec::new();
    bind_values(&mut messages, ASK, &[]);
    let answer = run_statement(&mut session.conn, &mut session.parameters, &messages).await.ok()?;
    let Answer::Row(row) = answer else { return None };
    std::str::from_utf8(row.first()?.as_deref()?).ok()?.parse().ok()
}

fn too_many(config: &Config, connections: usize) -> Vec<TooMany> {
    let options = match config.pool_mode {
        // A login in progress has a connection too; half of them are to be left to sessions.
        PoolMode::None => vec![
            ("max_client_connections", config.max_client_connections, connections),
            ("max_logins", config.max_logins, connections / 2),
        ],
        PoolMode::Session => vec![("max_upstream_connections", config.pool.max_upstream_connections, connections)],
    };
    let exceeds = options.into_iter().filter(|(_, value, most)| value > most);
    exceeds.map(|(option, value, _)| TooMany { option, value }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Settings;

    fn config(options: &[(&str, &str)]) -> Config {
        let mut settings = Settings::new();
        for (name, value) in options {
            settings.set(name, *value).expect("known");
        }
        Config::from_settings(settings).expect("valid")
    }

    #[test]
    fn options_that_exceed_the_server_are_named() {
        let too_many = |options: &[(&str, &str)]| {
            too_many(&config(options), 97).into_iter().map(|one| (one.option, one.value)).collect::<Vec<_>>()
        };
        assert_eq!(too_many(&[]), [("max_client_connections", 10_000)]);
        assert_eq!(too_many(&[("max_client_connections", "97")]), []);
        assert_eq!(too_many(&[("max_client_connections", "97"), ("max_logins", "49")]), [("max_logins", 49)]);
        let pool = [("pool_mode", "session"), ("pool_password", "x")];
        assert_eq!(too_many(&pool), [("max_upstream_connections", 100)]);
        assert_eq!(too_many(&[&pool[..], &[("max_upstream_connections", "90")]].concat()), []);
    }
}
