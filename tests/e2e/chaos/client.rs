//! A client that speaks the protocol itself, and tells its own replies from those of others.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use support::{APP_PASSWORD, PgError, SHOP, startup_packet};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::dice::Dice;

/// Why a session is over before its time.
#[derive(Debug)]
pub(crate) enum Over {
    /// The client leaves it there.
    Left,
    /// It was taken away: there has to be a killed backend for it.
    Lost,
    /// No connection of the pool became free in time.
    Exhausted,
}

/// Codes with which the proxy or the server ends a session whose backend was killed.
const KILLED: &[&str] = &["57P01", "08006"];

/// What nobody may find: all of it in one row, so that one reply says it.
const LEFT_OVER: &str =
    "SELECT concat_ws('|', current_tenant_id(), (SELECT string_agg(tenant_id || '=' || body, ',') FROM notes),
    current_user, session_user,
    (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_cursors),
    (SELECT count(*) FROM pg_listening_channels()),
    (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()),
    (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),
    current_setting('application_name'), current_setting('search_path'), current_setting('statement_timeout'),
    current_setting('default_transaction_read_only'), current_setting('default_transaction_isolation'),
    current_setting('client_encoding'), nullif(current_setting('my.own', true), ''),
    nullif(current_setting('app.other', true), ''))";

/// A connection that is logged in, and what this client has done on it that explains what comes back.
pub(crate) struct Session {
    stream: TcpStream,
    tenant: String,
    requests: u64,
    pub(crate) key: Vec<u8>,
    /// What was reported at login.
    pub(crate) parameters: BTreeMap<String, String>,
    /// As the last ReadyForQuery says.
    pub(crate) status: u8,
    /// It has asked to be cancelled: the request may arrive at any time.
    pub(crate) cancels: bool,
    pub(crate) listens: bool,
    /// It has named another tenant.
    pub(crate) strays: bool,
}

impl Session {
    /// A connection that has sent its startup packet.
    async fn open(port: u16, tenant: &str) -> Result<Self, Over> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.map_err(|_| Over::Lost)?;
        stream.set_nodelay(true).map_err(|_| Over::Lost)?;
        let mut session = Self {
            stream,
            tenant: tenant.to_owned(),
            requests: 0,
            key: Vec::new(),
            parameters: BTreeMap::new(),
            status: 0,
            cancels: false,
            listens: false,
            strays: false,
        };
        session.send(&startup(tenant)).await?;
        Ok(session)
    }

    /// Logs in. An empty tenant is for a login at the server itself.
    pub(crate) async fn log_in(port: u16, tenant: &str) -> Result<Self, Over> {
        let mut session = Self::open(port, tenant).await?;
        let mut scram = ScramSha256::new(APP_PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = session.message().await?;
            let mut out = BytesMut::new();
            match (tag, body.first_chunk()) {
                (b'R', Some([0, 0, 0, 10])) => {
                    frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out).expect("scram");
                }
                (b'R', Some([0, 0, 0, 11])) => {
                    scram.update(&body[4..]).expect("scram");
                    frontend::sasl_response(scram.message(), &mut out).expect("scram");
                }
                (b'R', Some([0, 0, 0, 12])) => scram.finish(&body[4..]).expect("the server's signature"),
                (b'R', Some([0, 0, 0, 0])) => {}
                (b'S', _) => {
                    let text = String::from_utf8(body).expect("UTF-8");
                    let (name, value) = text.trim_end_matches('\0').split_once('\0').unwrap_or((&text, ""));
                    session.parameters.insert(name.trim_end_matches('\0').to_owned(), value.to_owned());
                }
                (b'K', _) => session.key = body,
                (b'Z', _) => {
                    assert_eq!(session.status, b'I', "{tenant} begins in a transaction");
                    return Ok(session);
                }
                (b'E', _) => return Err(ended(&PgError::parse(&body))),
                _ => panic!("{tenant}: {:?} in a login: {body:?}", char::from(tag)),
            }
            session.send(&out).await?;
        }
    }

    /// Leaves at some byte of the login's first messages, or when it waits for a place.
    pub(crate) async fn give_up_login(port: u16, tenant: &str, dice: &mut Dice) {
        if dice.below(2) == 0 {
            // However far it comes.
            let patience = Duration::from_millis(dice.below(300));
            let _ = tokio::time::timeout(patience, Self::log_in(port, tenant)).await;
            return;
        }
        let Ok(stream) = TcpStream::connect(("127.0.0.1", port)).await else { return };
        let mut bytes = startup(tenant);
        bytes.extend(b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx");
        let mut stream = stream;
        let _ = stream.write_all(dice.cut(&bytes)).await;
    }

    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), Over> {
        self.stream.write_all(bytes).await.map_err(|_| Over::Lost)
    }

    /// The next message.
    pub(crate) async fn message(&mut self) -> Result<(u8, Vec<u8>), Over> {
        let tag = self.stream.read_u8().await.map_err(|_| Over::Lost)?;
        let size = self.stream.read_u32().await.map_err(|_| Over::Lost)?;
        let mut body = vec![0; usize::try_from(size).expect("small").checked_sub(4).expect("a length")];
        self.stream.read_exact(&mut body).await.map_err(|_| Over::Lost)?;
        match tag {
            b'A' => assert!(self.listens, "{}: a notification, and it has never listened", self.tenant),
            b'Z' => self.status = *body.first().expect("a status"),
            b'E' => {
                let error = PgError::parse(&body);
                assert!(error.code != "57014" || self.cancels, "{}: cancelled by another: {error:?}", self.tenant);
            }
            _ => {}
        }
        Ok((tag, body))
    }

    pub(crate) async fn query(&mut self, sql: &str) -> Result<(), Over> {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).expect("query");
        self.send(&out).await
    }

    /// Reads up to ReadyForQuery: the first columns of all rows, and the SQLSTATE of an error.
    pub(crate) async fn replies(&mut self) -> Result<(Vec<String>, Option<String>), Over> {
        let (mut rows, mut code) = (Vec::new(), None);
        loop {
            let (tag, body) = self.message().await?;
            match tag {
                b'D' => rows.push(String::from_utf8_lossy(body.get(6..).unwrap_or_default()).into_owned()),
                b'E' => {
                    let error = PgError::parse(&body);
                    if error.severity == "FATAL" {
                        return Err(ended(&error));
                    }
                    code = Some(error.code);
                }
                b'Z' => return Ok((rows, code)),
                _ => {}
            }
        }
    }

    /// Runs statements. An error has to be one of these, or what was to be expected anyway.
    pub(crate) async fn run(&mut self, sql: &str, codes: &[&str]) -> Result<Vec<String>, Over> {
        let was_failed = self.status == b'E';
        self.query(sql).await?;
        let (rows, code) = self.replies().await?;
        self.expect(sql, code.as_deref(), was_failed, codes);
        Ok(rows)
    }

    /// An error has to have a cause in what this client has done.
    pub(crate) fn expect(&self, what: &str, code: Option<&str>, was_failed: bool, codes: &[&str]) {
        let explained = match code {
            None => true,
            Some("25P02") => was_failed,
            Some("57014") => self.cancels,
            Some(code) => codes.contains(&code),
        };
        assert!(explained, "{}, {what}: {code:?}", self.tenant);
    }

    /// Nothing of anybody else's is here. `seeded` is what random() gives first after setseed(0.5).
    pub(crate) async fn assert_clean(&mut self, defaults: &BTreeMap<String, String>, seeded: &str) -> Result<(), Over> {
        let tenant = self.tenant.clone();
        assert_eq!(&self.parameters, defaults, "{tenant}: what the login reports");
        let found = self.run(LEFT_OVER, &[]).await?;
        let expected = format!(
            "{tenant}|{tenant}={tenant}|app_user|app_user|0|0|0|0|0||\"$user\", public|0|off|read committed|UTF8"
        );
        assert_eq!(found, [expected]);
        let found = self.run("SELECT random()", &[]).await?;
        assert_ne!(found, [seeded], "{tenant}: another's random numbers");
        self.query("SELECT currval('ticket')").await?;
        let (_, code) = self.replies().await?;
        assert_eq!(code.as_deref(), Some("55000"), "{tenant}: another's sequence");
        self.assert_mine().await
    }

    /// A reply is the one to this request, of this client.
    pub(crate) async fn assert_mine(&mut self) -> Result<(), Over> {
        let marker = self.marker();
        let was_failed = self.status == b'E';
        self.query(&format!("SELECT '{marker}'")).await?;
        let (rows, code) = self.replies().await?;
        self.expect("a marker", code.as_deref(), was_failed, &[]);
        // A cancel request may come between the row and the end of the command.
        assert!(rows == [marker] || (code.is_some() && rows.is_empty()), "another's reply: {rows:?}, {code:?}");
        Ok(())
    }

    /// A text that no other request of any client has: the connection's port is its own.
    pub(crate) fn marker(&mut self) -> String {
        self.requests += 1;
        let port = self.stream.local_addr().expect("connected").port();
        format!("{} {port} {}", self.tenant, self.requests)
    }

    /// Leaves in one of the ways there are.
    pub(crate) async fn leave(mut self, dice: &mut Dice) {
        match dice.below(5) {
            0 => drop(self.send(b"X\0\0\0\x04").await),
            1 => drop(self.send(dice.cut(b"Q\0\0\0\x20SELECT 'another', pg_sleep(1)\0")).await),
            2 => drop(socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))),
            3 => {
                let _ = self.stream.shutdown().await;
                while self.message().await.is_ok() {}
            }
            _ => {}
        }
    }
}

fn startup(tenant: &str) -> Vec<u8> {
    let user = if tenant.is_empty() { "app_user".to_owned() } else { format!("app_user.{tenant}") };
    startup_packet(0x3_0000, &[("user", &user), ("database", SHOP)])
}

/// What an error that ends a session says of it.
fn ended(error: &PgError) -> Over {
    match &*error.code {
        "53300" => Over::Exhausted,
        code => {
            assert!(KILLED.contains(&code), "{error:?}");
            Over::Lost
        }
    }
}
