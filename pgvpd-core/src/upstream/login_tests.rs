use tokio::io::{DuplexStream, duplex};

use super::*;
use crate::auth::{Challenge, Offer, Verifier};
use crate::wire::{FirstPacket, Parsed, first_packet, frame};

const SALT: &[u8] = b"0123456789abcdef";
const ITERATIONS: u32 = 16;

/// A server that says what its script says.
struct Server(Conn<DuplexStream>);

impl Server {
    /// The client's next packet or message, by what `size` finds at the front.
    async fn receive(&mut self, size: impl Fn(&[u8]) -> Option<usize>) -> Vec<u8> {
        loop {
            if let Some(size) = size(self.0.received()) {
                let message = self.0.received()[..size].to_vec();
                self.0.consume(size);
                return message;
            }
            assert_ne!(self.0.fill().await.expect("open"), 0, "the proxy closed the connection");
        }
    }

    async fn startup(&mut self) -> StartupMessage {
        let size = |bytes: &[u8]| match first_packet(bytes).expect("valid") {
            Parsed::Complete(_, size) => Some(size),
            Parsed::Incomplete => None,
        };
        match first_packet(&self.receive(size).await) {
            Ok(Parsed::Complete(FirstPacket::Startup(message), _)) => message,
            other => panic!("{other:?}"),
        }
    }

    /// The body of the client's next message, a password or SASL message.
    async fn reply(&mut self) -> Vec<u8> {
        let message = self
            .receive(|bytes| match frame(bytes, 10_000).expect("valid") {
                Parsed::Complete(_, size) => Some(size),
                Parsed::Incomplete => None,
            })
            .await;
        assert_eq!(message[0], tag::PASSWORD);
        message[5..].to_vec()
    }

    async fn send(&mut self, tag: u8, body: &[u8]) {
        self.0.queue(&[tag]);
        self.0.queue(&u32::try_from(body.len() + 4).expect("short").to_be_bytes());
        self.0.queue(body);
        self.0.flush().await.expect("sent");
    }

    async fn auth(&mut self, code: i32, rest: &[u8]) {
        self.send(tag::AUTHENTICATION, &[&code.to_be_bytes()[..], rest].concat()).await;
    }

    /// From AuthenticationOk to ReadyForQuery.
    async fn let_in(&mut self) {
        self.auth(0, b"").await;
        self.send(tag::PARAMETER_STATUS, b"is_superuser\0off\0").await;
        self.send(tag::BACKEND_KEY_DATA, b"\0\0\0\x07abcd").await;
        self.send(tag::READY_FOR_QUERY, b"I").await;
    }

    /// SCRAM up to the message that would be SASLFinal's.
    async fn scram(&mut self, verifier: Verifier) -> String {
        self.auth(10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").await;
        let initial = self.reply().await;
        let first = initial.strip_prefix(b"SCRAM-SHA-256\0").expect("never -PLUS");
        let nonce = Nonce::random();
        let challenge = Challenge::new(&first[4..], verifier, &nonce, &Offer::Plain).expect("client-first");
        self.auth(11, challenge.message().as_bytes()).await;
        challenge.judge(&self.reply().await).expect("right proof").message
    }
}

fn plain(password: &str) -> Credentials {
    Credentials { password: Secret::of(password), recovered: None }
}

fn keys(password: &str) -> Keys {
    Keys::derive(password.as_bytes(), SALT, ITERATIONS)
}

fn verifier(password: &str) -> Verifier {
    Verifier::of(&keys(password), SALT.into(), ITERATIONS)
}

/// A verifier that a client has proved, and what its proof gave away.
fn recovered(password: &str) -> Credentials {
    let first = ClientFirst::new(Nonce::random(), Binding::None);
    let challenge = Challenge::new(first.message().as_bytes(), verifier(password), &Nonce::random(), &Offer::Plain);
    let challenge = challenge.expect("client-first");
    let challenged = first.challenged(challenge.message().as_bytes()).expect("server-first");
    let proof = challenged.prove(&keys(password));
    let client_key = challenge.judge(proof.message.as_bytes()).expect("proof").client_key;
    Credentials { password: None, recovered: Some((verifier(password), client_key)) }
}

/// Logs in as `app_user` on a server with this script, which ends by closing the connection.
async fn login(credentials: Credentials, script: impl AsyncFnOnce(&mut Server)) -> Result<Reported, UpstreamError> {
    login_over(true, credentials, script).await
}

async fn login_over(
    may_send_cleartext: bool,
    credentials: Credentials,
    script: impl AsyncFnOnce(&mut Server),
) -> Result<Reported, UpstreamError> {
    let (ours, theirs) = duplex(64 * 1024);
    let startup = [("application_name".to_owned(), "pgvpd".to_owned())];
    let proof = Proof { role: "app_user", credentials: &credentials, may_send_cleartext, channel: Channel::Plain };
    let account = Account { database: "mydb", startup: &startup, proof };
    let deriver = Deriver::new();
    let mut conn = Conn::new(ours);
    let serve = async move {
        let mut server = Server(Conn::new(theirs));
        let message = server.startup().await;
        assert_eq!(message.version, ProtocolVersion::V3_0);
        let expected = [("user", "app_user"), ("database", "mydb"), ("application_name", "pgvpd")];
        assert_eq!(message.parameters, expected.map(|(name, value)| (name.into(), value.into())));
        script(&mut server).await;
    };
    let log_in = async {
        let result = log_in(&mut conn, &account, &deriver).await;
        // So that a script that waits for more does not wait for ever.
        drop(conn);
        result
    };
    tokio::join!(log_in, serve).0
}

fn is_in(result: Result<Reported, UpstreamError>) -> Reported {
    result.unwrap_or_else(|error| panic!("{error}"))
}

#[tokio::test]
async fn a_trusting_server_is_logged_in_to_and_what_it_reports_is_kept() {
    let reported = is_in(
        login(Credentials::default(), async |server| {
            server.send(tag::NOTICE_RESPONSE, b"Mhello\0\0").await;
            server.send(tag::NEGOTIATE_PROTOCOL_VERSION, b"\0\x03\0\0\0\0\0\0").await;
            server.let_in().await;
        })
        .await,
    );
    assert_eq!(reported.parameters.get(b"is_superuser"), Some(&b"off"[..]));
    assert_eq!(reported.cancel_key.expect("key").pid, 7);
}

#[tokio::test]
async fn passwords_are_sent_as_the_server_asks_for_them() {
    is_in(
        login(plain("secret"), async |server| {
            server.auth(3, b"").await;
            assert_eq!(server.reply().await, b"secret\0");
            server.let_in().await;
        })
        .await,
    );
    for secret in ["secret", "md53c9b7d4ddf4ff91c9b0b4e2e8d8e2f6f"] {
        is_in(
            login(plain(secret), async |server| {
                server.auth(5, &[1, 2, 3, 4]).await;
                let expected = match Secret::of(secret) {
                    Some(Secret::Md5(stored)) => md5_answer(&stored, [1, 2, 3, 4]),
                    _ => md5_password("app_user", b"secret", [1, 2, 3, 4]),
                };
                assert_eq!(server.reply().await, [expected.as_bytes(), b"\0"].concat());
                server.let_in().await;
            })
            .await,
        );
    }
}

#[tokio::test]
async fn a_password_crosses_a_network_in_the_clear_only_if_that_is_allowed() {
    let asked = login_over(false, plain("secret"), async |server| {
        server.auth(3, b"").await;
        assert_eq!(server.0.fill().await.expect("closed"), 0, "nothing may be sent");
    });
    assert!(matches!(asked.await, Err(UpstreamError::Cleartext)));
}

#[tokio::test]
async fn scram_logs_in_with_a_password_and_with_a_recovered_key() {
    let both = Credentials { password: Secret::of("secret"), ..recovered("old") };
    let digest = Credentials { password: Secret::of("md5d41d8cd98f00b204e9800998ecf8427e"), ..recovered("secret") };
    for credentials in [plain("secret"), recovered("secret"), both, digest] {
        is_in(
            login(credentials, async |server| {
                let last = server.scram(verifier("secret")).await;
                server.auth(12, last.as_bytes()).await;
                server.let_in().await;
            })
            .await,
        );
    }
}

#[tokio::test]
async fn a_server_that_has_not_proved_itself_is_not_believed() {
    let wrong_signature = login(plain("secret"), async |server| {
        let last = server.scram(verifier("secret")).await;
        let flipped = if last.starts_with("v=A") { "v=B" } else { "v=A" };
        server.auth(12, [flipped, &last[3..]].concat().as_bytes()).await;
        server.let_in().await;
    });
    assert!(matches!(wrong_signature.await, Err(UpstreamError::Impostor)));
    let no_signature = login(plain("secret"), async |server| {
        server.scram(verifier("secret")).await;
        server.let_in().await;
    });
    assert!(matches!(no_signature.await, Err(UpstreamError::Impostor)));
    let no_challenge = login(plain("secret"), async |server| {
        server.auth(10, b"SCRAM-SHA-256\0\0").await;
        server.let_in().await;
    });
    assert!(matches!(no_challenge.await, Err(UpstreamError::Impostor)));
    let refusal_in_scram = login(plain("secret"), async |server| {
        server.scram(verifier("secret")).await;
        server.auth(12, b"e=other-error").await;
    });
    assert!(matches!(refusal_in_scram.await, Err(UpstreamError::Scram(_))));
}

#[tokio::test]
async fn where_no_secret_answers_the_method_is_named() {
    for (credentials, code, rest, named) in [
        (Credentials::default(), 3, &b""[..], "a password"),
        (plain("md5d41d8cd98f00b204e9800998ecf8427e"), 3, b"", "a password"),
        (recovered("secret"), 5, b"salt", "a password hashed with MD5"),
        (Credentials::default(), 10, b"SCRAM-SHA-256\0\0", "SCRAM-SHA-256"),
        (plain("md5d41d8cd98f00b204e9800998ecf8427e"), 10, b"SCRAM-SHA-256\0\0", "SCRAM-SHA-256"),
    ] {
        match login(credentials, async |server| server.auth(code, rest).await).await {
            Err(UpstreamError::NoSecret(method)) => assert_eq!(method, named),
            other => panic!("{other:?}"),
        }
    }
    let other_salt = login(recovered("secret"), async |server| {
        server.auth(10, b"SCRAM-SHA-256\0\0").await;
        let first = server.reply().await;
        let challenge = Challenge::new(
            &first[18..],
            Verifier::of(&keys("secret"), b"other".into(), ITERATIONS),
            &Nonce::random(),
            &Offer::Plain,
        );
        server.auth(11, challenge.expect("client-first").message().as_bytes()).await;
    });
    assert!(matches!(other_salt.await, Err(UpstreamError::NoSecret(_))));
}

#[tokio::test]
async fn methods_that_the_proxy_does_not_have_are_named() {
    for (code, rest, named) in [
        (7, &b""[..], "GSSAPI"),
        (10, b"SCRAM-SHA-256-PLUS\0OAUTHBEARER\0\0", "SCRAM-SHA-256-PLUS, OAUTHBEARER"),
        (99, b"", "method 99"),
    ] {
        match login(plain("secret"), async |server| server.auth(code, rest).await).await {
            Err(UpstreamError::Method(method)) => assert_eq!(method, named),
            other => panic!("{other:?}"),
        }
    }
}

/// Stages of a login by SCRAM at which a server can go another way.
async fn up_to(stage: usize, server: &mut Server) {
    if stage == 1 {
        server.auth(10, b"SCRAM-SHA-256\0\0").await;
        server.reply().await;
    }
    if stage >= 2 {
        let last = server.scram(verifier("secret")).await;
        if stage >= 3 {
            server.auth(12, last.as_bytes()).await;
        }
    }
    if stage >= 4 {
        server.auth(0, b"").await;
    }
    if stage >= 5 {
        server.send(tag::PARAMETER_STATUS, b"server_version\x0018\0").await;
    }
}

#[tokio::test]
async fn an_end_at_any_stage_is_an_error_and_never_a_session() {
    for stage in 0..6 {
        let ended = login(plain("secret"), async |server| up_to(stage, server).await).await;
        assert!(matches!(ended, Err(UpstreamError::Closed)), "{stage}: {ended:?}");
        let half = login(plain("secret"), async |server| {
            up_to(stage, server).await;
            server.0.queue(b"R\0\0\0\x08\0");
            server.0.flush().await.expect("sent");
        });
        assert!(matches!(half.await, Err(UpstreamError::Closed)), "{stage}");
    }
}

#[tokio::test]
async fn an_error_at_any_stage_is_kept_as_the_server_wrote_it() {
    let body = b"SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed\0\0";
    for stage in 0..6 {
        let refused = login(plain("secret"), async |server| {
            up_to(stage, server).await;
            server.send(tag::ERROR_RESPONSE, body).await;
        });
        match refused.await {
            Err(error @ UpstreamError::Refused { .. }) => {
                assert!(error.is_fatal());
                assert!(!error.to_string().contains("28P01"), "clients read no more than they may");
                let UpstreamError::Refused { body: kept, summary } = error else { unreachable!() };
                assert_eq!((&kept[..], &*summary), (&body[..], "28P01 password authentication failed"));
            }
            other => panic!("{stage}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn junk_at_any_stage_is_an_error() {
    for stage in 0..6 {
        for junk in
            [&b"HTTP/1.1 400 Bad Request\r\n"[..], b"Q\0\0\0\x04", b"Z\0\0\0\x03", b"Z\0\0\0\x05T", b"D\0\0\0\x04"]
        {
            let answer = login(plain("secret"), async |server| {
                up_to(stage, server).await;
                server.0.queue(junk);
                server.0.flush().await.expect("sent");
            });
            let answer = answer.await;
            assert!(matches!(answer, Err(UpstreamError::Protocol(_))), "{stage} {junk:?}: {answer:?}");
        }
    }
    let endless = login(plain("secret"), async |server| {
        server.auth(0, b"").await;
        for _ in 0..MAX_REPORTS {
            server.send(tag::PARAMETER_STATUS, b"a\0b\0").await;
        }
    });
    assert!(matches!(endless.await, Err(UpstreamError::Unread)));
}

#[tokio::test]
async fn neither_a_superuser_nor_unread_bytes_are_let_through() {
    let superuser = login(Credentials::default(), async |server| {
        server.auth(0, b"").await;
        server.send(tag::PARAMETER_STATUS, b"is_superuser\0on\0").await;
        server.send(tag::READY_FOR_QUERY, b"I").await;
    });
    assert!(matches!(superuser.await, Err(UpstreamError::Superuser)));
    let unread = login(Credentials::default(), async |server| {
        server.0.queue(b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05IZ");
        server.0.flush().await.expect("sent");
    });
    assert!(matches!(unread.await, Err(UpstreamError::Unread)));
}

#[tokio::test]
async fn a_startup_packet_over_postgresqls_limit_is_not_sent() {
    let (ours, _theirs) = duplex(10);
    let startup = [("application_name".to_owned(), "x".repeat(10_000))];
    let credentials = Credentials::default();
    let proof = Proof { role: "r", credentials: &credentials, may_send_cleartext: true, channel: Channel::Plain };
    let account = Account { database: "d", startup: &startup, proof };
    let result = log_in(&mut Conn::new(ours), &account, &Deriver::new()).await;
    assert!(matches!(result, Err(UpstreamError::StartupTooLong)));
}

#[test]
fn the_mechanism_is_bound_to_the_channel_wherever_that_can_be() {
    let (plus, plain) = (SCRAM_SHA_256_PLUS, SCRAM_SHA_256);
    let hash: Arc<[u8]> = Arc::from([7; 32]);
    let bound = Channel::EndPoint(Arc::clone(&hash));
    assert_eq!(bound.choose(&[plus, plain]), Some((plus, Binding::EndPoint(hash))));
    // By the flag, a server that had offered it finds out.
    assert_eq!(bound.choose(&[plain]), Some((plain, Binding::NotOffered)));
    for channel in [Channel::Plain, Channel::Unbindable] {
        assert_eq!(channel.choose(&[plus, plain]), Some((plain, Binding::None)), "{channel:?}");
        assert_eq!(channel.choose(&[plus]), None, "{channel:?}");
    }
}
