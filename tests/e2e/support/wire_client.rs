//! A client that sends exactly the bytes it is told to.

use bytes::BytesMut;
use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::{APP_PASSWORD, SHOP, within};

/// A TCP connection to a proxy.
#[derive(Debug)]
pub struct WireClient {
    stream: TcpStream,
}

/// The fields of an ErrorResponse that tests look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PgError {
    /// Severity, `FATAL` for what the proxy says.
    pub severity: String,
    /// SQLSTATE.
    pub code: String,
    /// Primary message.
    pub message: String,
    /// Hint, empty if none.
    pub hint: String,
}

/// A startup packet of this version with these parameters, valid or not.
pub fn startup_packet(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut packet = vec![0; 4];
    packet.extend(version.to_be_bytes());
    for (name, value) in parameters {
        packet.extend(format!("{name}\0{value}\0").into_bytes());
    }
    packet.push(0);
    let size = u32::try_from(packet.len()).expect("small");
    packet.splice(..4, size.to_be_bytes());
    packet
}

impl WireClient {
    /// Connects to a port on loopback.
    pub async fn connect(port: u16) -> Self {
        let stream = within("connect", TcpStream::connect(("127.0.0.1", port))).await.expect("connected");
        stream.set_nodelay(true).expect("socket option");
        Self { stream }
    }

    /// Sends bytes.
    pub async fn send(&mut self, bytes: &[u8]) {
        // A proxy that has refused already may have closed: what it said is still to be read.
        let _ = within("send", self.stream.write_all(bytes)).await;
    }

    /// Ends this side's stream, and leaves the other open.
    pub async fn half_close(&mut self) {
        self.stream.shutdown().await.expect("half-closed");
    }

    /// Closes with a reset, as the kernel does for a process that is killed with bytes unread.
    pub fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(std::time::Duration::ZERO)).expect("socket option");
    }

    /// One byte, such as the answer to SSLRequest.
    pub async fn byte(&mut self) -> u8 {
        within("a byte", self.stream.read_u8()).await.expect("a byte")
    }

    /// The next message, or `None` when the stream has ended.
    pub async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        within("a message", async {
            let tag = self.stream.read_u8().await.ok()?;
            let size = self.stream.read_u32().await.expect("a whole message");
            let mut body = vec![0; usize::try_from(size).expect("small") - 4];
            self.stream.read_exact(&mut body).await.expect("a whole message");
            Some((tag, body))
        })
        .await
    }

    /// The next message of this type; the others are skipped.
    pub async fn until(&mut self, tag: u8) -> Vec<u8> {
        loop {
            match self.message().await {
                Some((found, body)) if found == tag => return body,
                Some((b'E', body)) => panic!("{:?}", PgError::parse(&body)),
                Some(_) => {}
                None => panic!("the stream ended before {:?}", char::from(tag)),
            }
        }
    }

    /// As [`Self::refusal`]; requests for a proof that come before it are answered.
    pub async fn refusal_after_proof(&mut self) -> PgError {
        let mut scram = ScramSha256::new(APP_PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            match self.message().await.expect("an error before the end of the stream") {
                (b'E', body) => return self.last(PgError::parse(&body)).await,
                (b'R', body) => drop(self.answer(&body, &mut scram).await),
                (b'S' | b'K' | b'N' | b'v', _) => {}
                (tag, _) => panic!("{:?} instead of an error", char::from(tag)),
            }
        }
    }

    /// The stream must end behind the error.
    async fn last(&mut self, error: PgError) -> PgError {
        assert_eq!(self.message().await, None, "the connection ends after {error:?}");
        error
    }

    /// The error that must come next, after which the stream must end.
    pub async fn refusal(&mut self) -> PgError {
        let error = loop {
            match self.message().await.expect("an error before the end of the stream") {
                (b'E', body) => break PgError::parse(&body),
                (b'R' | b'S' | b'K' | b'N' | b'v', _) => {}
                (tag, _) => panic!("{:?} instead of an error", char::from(tag)),
            }
        };
        self.last(error).await
    }

    /// The server's next error; other messages are skipped.
    pub async fn error(&mut self) -> PgError {
        loop {
            match self.message().await.expect("an error before the end of the stream") {
                (b'E', body) => return PgError::parse(&body),
                (b'Z', _) => panic!("the query succeeded"),
                _ => {}
            }
        }
    }

    /// Sends a startup packet of protocol 3.0 for a user and the tests' database.
    pub async fn start(&mut self, user: &str, parameters: &[(&str, &str)]) {
        let all = [&[("user", user), ("database", SHOP)], parameters].concat();
        self.send(&startup_packet(0x3_0000, &all)).await;
    }

    /// Answers authentication requests with the tests' password until ReadyForQuery. Gives the BackendKeyData.
    pub async fn log_in(&mut self, user: &str, parameters: &[(&str, &str)]) -> Vec<u8> {
        self.start(user, parameters).await;
        self.authenticate().await;
        let mut key = Vec::new();
        loop {
            match self.message().await.expect("ReadyForQuery") {
                (b'Z', _) => return key,
                (b'K', body) => key = body,
                (b'E', body) => panic!("{:?}", PgError::parse(&body)),
                _ => {}
            }
        }
    }

    /// As [`Self::log_in`], in another database.
    pub async fn log_in_to(&mut self, database: &str, user: &str) {
        self.send(&startup_packet(0x3_0000, &[("user", user), ("database", database)])).await;
        self.authenticate().await;
        self.until(b'Z').await;
    }

    /// As [`Self::log_in`]. Gives what ParameterStatus said.
    pub async fn log_in_reporting(&mut self, user: &str, parameters: &[(&str, &str)]) -> Vec<(String, String)> {
        self.start(user, parameters).await;
        self.authenticate().await;
        let mut reported = Vec::new();
        loop {
            match self.message().await.expect("ReadyForQuery") {
                (b'Z', _) => return reported,
                (b'S', body) => {
                    let text = String::from_utf8(body).expect("UTF-8");
                    let (name, value) = text.trim_end_matches('\0').split_once('\0').expect("a name and a value");
                    reported.push((name.into(), value.into()));
                }
                (b'E', body) => panic!("{:?}", PgError::parse(&body)),
                _ => {}
            }
        }
    }

    /// Sends a cancel request with the contents of a BackendKeyData message, and waits until it is taken.
    pub async fn cancel(port: u16, key: &[u8]) {
        let mut packet = u32::try_from(key.len() + 8).expect("short").to_be_bytes().to_vec();
        packet.extend(80_877_102_u32.to_be_bytes());
        packet.extend(key);
        let mut client = Self::connect(port).await;
        client.send(&packet).await;
        assert_eq!(client.message().await, None, "a cancel request is answered with nothing");
    }

    /// Skips everything up to ReadyForQuery, errors too.
    pub async fn until_ready(&mut self) {
        while self.message().await.expect("ReadyForQuery").0 != b'Z' {}
    }

    /// Answers one SCRAM exchange or cleartext request, up to AuthenticationOk.
    pub async fn authenticate(&mut self) {
        let mut scram = ScramSha256::new(APP_PASSWORD.as_bytes(), ChannelBinding::unsupported());
        loop {
            let body = self.until(b'R').await;
            if !self.answer(&body, &mut scram).await {
                return;
            }
        }
    }

    /// Answers an authentication request. False if there was nothing to answer any more.
    async fn answer(&mut self, body: &[u8], scram: &mut ScramSha256) -> bool {
        let (code, data) = body.split_at(4);
        let mut out = BytesMut::new();
        match code {
            [0, 0, 0, 0] => return false,
            [0, 0, 0, 3] => frontend::password_message(APP_PASSWORD.as_bytes(), &mut out).expect("password"),
            [0, 0, 0, 10] => frontend::sasl_initial_response(SCRAM_SHA_256, scram.message(), &mut out).expect("scram"),
            [0, 0, 0, 11] => {
                scram.update(data).expect("scram");
                frontend::sasl_response(scram.message(), &mut out).expect("scram");
            }
            [0, 0, 0, 12] => scram.finish(data).expect("the server's signature"),
            other => panic!("authentication request {other:?}"),
        }
        self.send(&out).await;
        true
    }

    /// Sends a simple query.
    pub async fn query(&mut self, sql: &str) {
        let mut out = BytesMut::new();
        frontend::query(sql, &mut out).expect("query");
        self.send(&out).await;
    }

    /// Runs a simple query and gives the first column of its only row.
    pub async fn value(&mut self, sql: &str) -> String {
        self.query(sql).await;
        let row = self.until(b'D').await;
        let value = String::from_utf8_lossy(row.get(6..).expect("a column")).into_owned();
        self.until(b'Z').await;
        value
    }
}

impl PgError {
    /// Reads the body of an ErrorResponse.
    pub fn parse(body: &[u8]) -> Self {
        let field = |kind: u8| {
            body.split(|&byte| byte == 0)
                .find_map(|field| field.strip_prefix(&[kind]))
                .map(|value| String::from_utf8_lossy(value).into_owned())
                .unwrap_or_default()
        };
        Self { severity: field(b'S'), code: field(b'C'), message: field(b'M'), hint: field(b'H') }
    }

    /// Checks what every error of the proxy has.
    pub fn assert_is(&self, code: &str) {
        assert_eq!((self.code.as_str(), self.severity.as_str()), (code, "FATAL"), "{self:?}");
        assert!(self.message.starts_with("pgvpd: "), "{self:?}");
    }
}
