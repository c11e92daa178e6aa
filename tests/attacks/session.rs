//! A client that reads every byte it is sent, and keeps those of the attacker for the verdict.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use support::{APP_PASSWORD, PgError, SHOP, startup_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long an answer may take. Whoever waits longer is stuck behind a lock.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the attacker was sent.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) bytes: Vec<u8>,
    /// SQLSTATEs of what was refused, but for what follows [`Session::loot`].
    pub(crate) codes: Vec<String>,
}

/// A connection to a proxy.
pub(crate) struct Session {
    stream: TcpStream,
    heard: Option<Arc<Mutex<Heard>>>,
    is_looting: bool,
    /// The body of BackendKeyData.
    pub(crate) key: Vec<u8>,
    /// What was reported at login.
    pub(crate) parameters: BTreeMap<String, String>,
}

/// Everything that came back for a request.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) messages: Vec<(u8, Vec<u8>)>,
    /// No ReadyForQuery: the stream ended, or nothing came in time.
    pub(crate) is_cut_short: bool,
}

/// Reads every table, in a failed transaction too.
const LOOT: &[&str] =
    &["SELECT * FROM public.vault", "TABLE public.events", "TABLE public.things", "TABLE public.notes"];

impl Session {
    /// Sends these bytes as the first, and answers requests for a proof until ReadyForQuery.
    pub(crate) async fn open(port: u16, first: &[u8], heard: Option<Arc<Mutex<Heard>>>) -> Result<Self, PgError> {
        Self::open_with(APP_PASSWORD, port, first, heard).await
    }

    /// As [`Self::open`], with another password.
    pub(crate) async fn open_with(
        password: &str,
        port: u16,
        first: &[u8],
        heard: Option<Arc<Mutex<Heard>>>,
    ) -> Result<Self, PgError> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| cut())?;
        stream.set_nodelay(true).map_err(|_| cut())?;
        let mut session = Self { stream, heard, is_looting: false, key: Vec::new(), parameters: BTreeMap::new() };
        session.send(first).await;
        session.authenticate(password).await.map(|()| session)
    }

    async fn authenticate(&mut self, password: &str) -> Result<(), PgError> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = self.message().await.ok_or_else(cut)?;
            let mut out = BytesMut::new();
            match (tag, body.first_chunk()) {
                (b'R', Some([0, 0, 0, 10])) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out).expect("scram");
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    scram.update(&body[4..]).map_err(|_| cut())?;
                    frontend::sasl_response(scram.message(), &mut out).expect("scram");
                }
                (b'S', _) => {
                    let text = String::from_utf8_lossy(&body).into_owned();
                    let mut parts = text.split('\0');
                    let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                    self.parameters.insert(name.to_owned(), value.to_owned());
                }
                (b'K', _) => self.key = body,
                (b'Z', _) => return Ok(()),
                (b'E', _) => return Err(PgError::parse(&body)),
                _ => {}
            }
            self.send(&out).await;
        }
    }

    /// Sends bytes. Whether they arrive shows in what comes back.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The next message; `None` when there is none any more, or none in time.
    pub(crate) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let tag = self.stream.read_u8().await.ok()?;
            let size = self.stream.read_u32().await.ok()?;
            let mut body = vec![0; usize::try_from(size).ok()?.checked_sub(4)?];
            self.stream.read_exact(&mut body).await.ok()?;
            Some((tag, body))
        };
        let message = tokio::time::timeout(PATIENCE, read).await.ok().flatten()?;
        if let Some(heard) = &self.heard {
            let mut heard = heard.lock().unwrap();
            heard.bytes.extend(&message.1);
            if message.0 == b'E' && !self.is_looting {
                heard.codes.push(PgError::parse(&message.1).code);
            }
        }
        Some(message)
    }

    /// The next message, where one comes so soon.
    pub(crate) async fn message_within(&mut self, time: Duration) -> Option<(u8, Vec<u8>)> {
        // A message that has begun is read to its end: the stream is of use afterwards.
        let mut first = [0];
        match tokio::time::timeout(time, self.stream.peek(&mut first)).await {
            Ok(Ok(1..)) => self.message().await,
            _ => None,
        }
    }

    /// Everything up to the next ReadyForQuery.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut messages = Vec::new();
        loop {
            match self.message().await {
                Some((b'G', _)) => {
                    // COPY FROM STDIN: a row for each tenant.
                    let mut out = BytesMut::new();
                    frontend::CopyData::new(&b"globex\t1\tcopied\n"[..]).expect("short").write(&mut out);
                    frontend::copy_done(&mut out);
                    self.send(&out).await;
                }
                Some((b'Z', _)) => return Reply { messages, is_cut_short: false },
                Some(message) => messages.push(message),
                None => return Reply { messages, is_cut_short: true },
            }
        }
    }

    /// Sends a simple query and reads what comes back.
    pub(crate) async fn query(&mut self, sql: &str) -> Reply {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).expect("query");
        self.send(&out).await;
        self.reply().await
    }

    /// Runs what is between `;;`, each as a query of its own. Gives the last reply.
    pub(crate) async fn run(&mut self, script: &str) -> Reply {
        let mut last = Reply::default();
        for sql in script.split(";;") {
            last = self.query(sql).await;
            if last.is_cut_short {
                break;
            }
        }
        last
    }

    /// Reads all that can be read; once more behind the end of a transaction that has failed.
    pub(crate) async fn loot(&mut self) {
        self.is_looting = true;
        for sql in LOOT {
            if self.query(sql).await.is_cut_short {
                return;
            }
        }
        if self.query("SELECT 1").await.code().is_some_and(|code| code == "25P02") {
            self.query("ROLLBACK").await;
            for sql in LOOT {
                self.query(sql).await;
            }
        }
        self.is_looting = false;
    }

    /// Ends the session as a client should, and waits until the proxy has closed it.
    pub(crate) async fn leave(mut self) {
        self.send(b"X\0\0\0\x04").await;
        while self.message().await.is_some() {}
    }

    /// Ends it with a reset.
    pub(crate) fn break_off(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

impl Reply {
    /// The first error's SQLSTATE.
    pub(crate) fn code(&self) -> Option<String> {
        self.messages.iter().find(|(tag, _)| *tag == b'E').map(|(_, body)| PgError::parse(body).code)
    }

    /// The first column of the last row, if it is not NULL.
    pub(crate) fn value(&self) -> Option<String> {
        let (_, row) = self.messages.iter().rev().find(|(tag, _)| *tag == b'D')?;
        let size = u32::from_be_bytes(*row.get(2..6)?.first_chunk()?);
        let text = row.get(6..6 + usize::try_from(i32::try_from(size).ok()?).ok()?)?;
        Some(String::from_utf8_lossy(text).into_owned())
    }

    /// What an observer sees of it, whatever was guessed.
    pub(crate) fn without(&self, guess: &str) -> Vec<(u8, String)> {
        let blank = |(tag, body): &(u8, Vec<u8>)| (*tag, String::from_utf8_lossy(body).replace(guess, "?"));
        self.messages.iter().map(blank).collect()
    }
}

/// A startup packet for a user of the shop.
pub(crate) fn startup(user: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_packet(0x3_0000, &[&[("user", user), ("database", SHOP)], parameters].concat())
}

fn cut() -> PgError {
    PgError { severity: String::new(), code: "cut".into(), message: "the stream ended".into(), hint: String::new() }
}
