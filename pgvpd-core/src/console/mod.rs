//! The console: a database that is not there, `pgvpd`, in which administrators see and change what the proxy does, with psql or any
//! other client of PostgreSQL's. As in PgBouncer's console, what is said is not SQL.
//!
//! `session/console.rs` lets them in. Here: `words` and `statement` read what is said, `exchange` speaks the protocol, `show` makes
//! tables, `commands` does the rest.

mod commands;
mod exchange;
mod parameters;
mod show;
mod show_connections;
mod show_stats;
mod statement;
mod table;
mod words;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use tracing::info;

use self::commands::Commands;
use self::exchange::{Exchange, Flow};
use self::parameters::Parameters;
use crate::address::ClientAddress;
use crate::cancel::CancelEntry;
use crate::error::Refusal;
use crate::limits::Slot;
use crate::net::{Conn, Socket};
use crate::sessions::SessionId;
use crate::shared::Shared;
use crate::wire::{Frame, TransactionStatus, backend_key_data, ready_for_query};

/// The name of the database.
pub(crate) const DATABASE: &str = "pgvpd";

/// Its names: agents that watch PgBouncer know its console's alone.
pub(crate) const DATABASES: [&str; 2] = [DATABASE, "pgbouncer"];

/// The longest message of an administrator's.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long an administrator may take to read an answer; then its place is another's.
const DEAF_AFTER: Duration = Duration::from_secs(30);

/// Bytes of a cancel key's secret, as every version of the protocol takes them.
const SECRET: usize = 4;

/// Who is at the console: it has proved who it is.
#[derive(Debug)]
pub(crate) struct Administrator {
    pub(crate) id: SessionId,
    pub(crate) user: Box<str>,
    pub(crate) address: ClientAddress,
    pub(crate) is_tls: bool,
    pub(crate) application_name: Box<str>,
}

/// A session that is ready: ReadyForQuery is queued for the client.
pub(crate) struct Console {
    who: Administrator,
    parameters: Parameters,
    cancelled: Arc<Notify>,
    _slot: Slot,
    /// As long as the session lasts, its key is valid.
    _cancel: CancelEntry,
}

impl Console {
    /// Queues what stands between AuthenticationOk and the first query.
    pub(crate) fn open(client: &mut Conn<Socket>, who: Administrator, slot: Slot, shared: &Shared) -> Self {
        let cancelled = Arc::default();
        let cancel = shared.cancels.issue_here(SECRET, &cancelled);
        let parameters = Parameters::new(&who.user, &who.application_name);
        let mut out = Vec::new();
        parameters.report(&mut out);
        backend_key_data(&mut out, cancel.key());
        ready_for_query(&mut out, TransactionStatus::Idle);
        client.queue(&out);
        Self { who, parameters, cancelled, _slot: slot, _cancel: cancel }
    }

    /// Who is at it.
    pub(crate) fn who(&self) -> &Administrator {
        &self.who
    }
}

/// Serves an administrator until it leaves, or the proxy has stopped: what drains can be watched.
pub(crate) async fn run(mut client: Conn<Socket>, console: Console, shared: Arc<Shared>) {
    let Administrator { user, address, .. } = &console.who;
    let is_logged = shared.config.load().log_sessions;
    if is_logged {
        info!(%user, client = %address, "console session started");
    }
    if let Some(refusal) = converse(&mut client, &console, &shared).await {
        let mut out = Vec::new();
        refusal.encode(&mut out);
        client.queue(&out);
    }
    if is_logged {
        info!(%user, client = %address, "console session ended");
    }
    client.finish().await;
}

/// Takes message after message. Gives what the client is to be told at the end, if it is not gone.
async fn converse(client: &mut Conn<Socket>, console: &Console, shared: &Arc<Shared>) -> Option<Refusal> {
    let (mut exchange, mut out) = (Exchange::default(), Vec::new());
    loop {
        // Whoever does not read its answers must not keep a place, nor the proxy from stopping.
        let next = async {
            timeout(DEAF_AFTER, client.flush()).await.ok()?.ok()?;
            Some(client.next_message(MAX_MESSAGE).await)
        };
        let message = tokio::select! {
            biased;
            () = shared.stopped.cancelled() => return Some(Refusal::shutting_down()),
            message = next => message?,
        };
        let taken = match message {
            Ok(None) => return None,
            Ok(Some((tag, body))) => {
                let mut commands = Commands {
                    who: &console.who,
                    shared,
                    parameters: &console.parameters,
                    cancelled: &console.cancelled,
                    client,
                };
                exchange.take(Frame { tag, body: &body }, &mut commands, &mut out).await
            }
            Err(error) => Err(error),
        };
        client.queue(&out);
        out.clear();
        match taken {
            Ok(Flow::GoesOn) => {}
            Ok(Flow::Ends) => return None,
            Err(error) => return Some(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::task::JoinHandle;

    use super::*;
    use crate::config::Config;

    /// An administrator's end, and the session.
    fn session(shared: &Arc<Shared>) -> (UnixStream, JoinHandle<()>) {
        let (administrator, stream) = UnixStream::pair().expect("a pair");
        let mut client = Conn::new(Socket::Unix(stream));
        let who = Administrator {
            id: SessionId(1),
            user: "ops".into(),
            address: ClientAddress::Unix,
            is_tls: false,
            application_name: Box::default(),
        };
        let slot = shared.consoles.enter(1).expect("a place");
        let console = Console::open(&mut client, who, slot, shared);
        (administrator, tokio::spawn(run(client, console, Arc::clone(shared))))
    }

    const SHOW: &[u8] = b"Q\0\0\0\x10SHOW CONFIG\0";

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_loses_its_place_after_a_moment() {
        let shared = Arc::new(Shared::new(Config::default()));
        let (mut deaf, session) = session(&shared);
        // More than the kernel keeps for who does not read.
        deaf.write_all(&SHOW.repeat(1000)).await.expect("sent");
        timeout(DEAF_AFTER * 2, session).await.expect("in time").expect("ended");
        assert_eq!(shared.consoles.taken(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_stays_though_it_asks_for_nothing_for_days() {
        let shared = Arc::new(Shared::new(Config::default()));
        let (mut administrator, session) = session(&shared);
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_secs(3 * 24 * 3600)).await;
            administrator.write_all(SHOW).await.expect("sent");
        }
        administrator.write_all(b"X\0\0\0\x04").await.expect("sent");
        let mut answers = Vec::new();
        administrator.read_to_end(&mut answers).await.expect("read");
        let (rows, command) = (b"D\0\0".as_slice(), b"SHOW\0".as_slice());
        assert!(answers.windows(rows.len()).any(|bytes| bytes == rows));
        assert_eq!(answers.windows(command.len()).filter(|bytes| bytes == &command).count(), 2);
        session.await.expect("ended");
        assert_eq!(shared.consoles.taken(), 0);
    }
}
