//! Clients that prove themselves, and some that do not.

use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::address::ClientAddress;
use crate::auth::md5_password;
use crate::config::Settings;
use crate::wire::{ProtocolVersion, password_message, sasl_initial_response, sasl_response};

const USER: &str = "app_user.acme";

/// A proxy whose one client secret is this.
fn shared(client_auth: &str, secret: &str) -> Shared {
    let mut settings = Settings::new();
    for (name, value) in [("pool_mode", "session"), ("client_auth", client_auth), ("pool_password", secret)] {
        settings.set(name, value).expect("an option");
    }
    Shared::new(Config::from_settings(settings).expect("valid"))
}

fn claim(address: ClientAddress) -> Claim {
    let attempt = Attempt { address, role: "app_user".into(), tenant: "acme".into() };
    let negotiation = Negotiation { version: ProtocolVersion::V3_0, unknown_options: vec![] };
    let logins = Arc::new(crate::logins::Logins::default());
    let login = logins.enter(crate::sessions::SessionId(1), address, crate::logins::Bounds::CONSOLE).expect("room");
    let (leg, purpose, login) = (Leg::default(), Purpose::Session, Arc::new(login));
    Claim { attempt, typed_user: USER.into(), negotiation, leg, purpose, login }
}

async fn judged(shared: &Shared, stream: DuplexStream) -> Result<(), Ended> {
    let mut conn = Conn::new(stream);
    let outcome = authenticate(&mut conn, claim(ClientAddress::Unix), shared, &shared.config.load()).await;
    // What a session would begin with.
    conn.flush().await.expect("the client reads");
    outcome
}

async fn request(client: &mut DuplexStream) -> (i32, Vec<u8>) {
    assert_eq!(client.read_u8().await.expect("a message"), b'R');
    let size = client.read_u32().await.expect("a length");
    let mut body = vec![0; usize::try_from(size).expect("small") - 4];
    client.read_exact(&mut body).await.expect("a body");
    let data = body.split_off(4);
    (i32::from_be_bytes(body.try_into().expect("four bytes")), data)
}

/// Answers with a password by whatever is asked. The codes of what was asked, AuthenticationOk included.
async fn answer(mut client: DuplexStream, password: &[u8]) -> Vec<i32> {
    let mut scram = ScramSha256::new(password, ChannelBinding::unsupported());
    let mut asked = Vec::new();
    loop {
        let mut out = Vec::new();
        let mut first = [0];
        // The end of the stream is how a failure looks from here.
        if client.read(&mut first).await.expect("read") == 0 {
            return asked;
        }
        let size = client.read_u32().await.expect("a length");
        let mut body = vec![0; usize::try_from(size).expect("small") - 4];
        client.read_exact(&mut body).await.expect("a body");
        let (code, data) = body.split_at(4);
        let code = i32::from_be_bytes(code.try_into().expect("four bytes"));
        asked.push(code);
        match code {
            0 => return asked,
            3 => password_message(&mut out, password),
            5 => {
                let answer = md5_password(USER, password, data.try_into().expect("a salt"));
                password_message(&mut out, answer.as_bytes());
            }
            10 => sasl_initial_response(&mut out, "SCRAM-SHA-256", scram.message()),
            11 => {
                scram.update(data).expect("a challenge");
                sasl_response(&mut out, scram.message());
            }
            12 => scram.finish(data).expect("the proxy's signature"),
            other => panic!("{other}"),
        }
        client.write_all(&out).await.expect("sent");
    }
}

async fn log_in(shared: &Shared, password: &[u8]) -> (Result<(), Ended>, Vec<i32>) {
    let (client, stream) = duplex(10_000);
    let (asked, outcome) = tokio::join!(answer(client, password), judged(shared, stream));
    (outcome, asked)
}

fn code(outcome: &Result<(), Ended>) -> Option<&'static str> {
    match outcome {
        Ok(()) => None,
        Err(Ended::Refused { refusal, .. }) => Some(refusal.code.as_str()),
        Err(Ended::WrongProof { told, .. }) => match &**told {
            Ended::Refused { refusal, .. } => Some(refusal.code.as_str()),
            other => panic!("{other:?}"),
        },
        Err(other) => panic!("{other:?}"),
    }
}

/// "pässwörd", by the rules of PostgreSQL's `pg_be_scram_build_secret`, with one iteration.
fn verifier(password: &[u8]) -> String {
    let keys = crate::auth::Keys::derive(password, b"salt", 1);
    Verifier::of(&keys, b"salt".to_vec(), 1).to_text().to_string()
}

#[tokio::test]
async fn every_form_of_secret_takes_its_password_and_no_other_by_every_method() {
    // SASLprep maps some, and PostgreSQL takes those as they are that it forbids.
    for password in ["secret", "pässwörd", "I\u{ad}X", "a\u{a0}b", "\u{2168}", "\u{7}bell", "日本語🦀"] {
        let secrets = [
            password.to_owned(),
            verifier(password.as_bytes()),
            crate::auth::md5_digest("app_user", password.as_bytes()).to_string(),
        ];
        for method in ["scram-sha-256", "md5", "cleartext"] {
            for secret in &secrets {
                let shared = shared(method, secret);
                let (outcome, asked) = log_in(&shared, password.as_bytes()).await;
                assert_eq!(code(&outcome), None, "{method} {password:?} {asked:?}");
                assert_eq!(asked.last(), Some(&0));
                let (outcome, asked) = log_in(&shared, b"wrong").await;
                assert_eq!(code(&outcome), Some("28P01"), "{method} {password:?}");
                assert!(!asked.contains(&0));
            }
        }
    }
}

#[tokio::test]
async fn a_role_that_nobody_knows_is_asked_the_same_and_fails_in_the_same_place() {
    for method in ["scram-sha-256", "md5", "cleartext"] {
        let known = shared(method, "secret");
        let (outcome, asked) = log_in(&known, b"wrong").await;
        let nobody = shared(method, "secret");
        let mut config = Config::clone(&nobody.config.load());
        config.secrets.pool_password = None;
        nobody.config.store(Arc::new(config));
        for password in [&b"wrong"[..], b"secret", b""] {
            let (refused, found) = log_in(&nobody, password).await;
            assert_eq!((code(&refused), &found), (code(&outcome), &asked), "{method} {password:?}");
        }
    }
}

#[tokio::test]
async fn an_empty_password_opens_nothing() {
    for method in ["scram-sha-256", "md5", "cleartext"] {
        let (outcome, _) = log_in(&shared(method, "secret"), b"").await;
        assert_eq!(code(&outcome), Some("28P01"), "{method}");
    }
}

#[tokio::test]
async fn a_proof_of_another_exchange_is_none() {
    let shared = shared("scram-sha-256", "secret");
    let exchange = async |replayed: Option<Vec<u8>>| {
        let (mut client, stream) = duplex(10_000);
        let client = async move {
            let mut scram = ScramSha256::new(b"secret", ChannelBinding::unsupported());
            let mut out = Vec::new();
            request(&mut client).await;
            sasl_initial_response(&mut out, "SCRAM-SHA-256", scram.message());
            client.write_all(&out).await.expect("sent");
            let (_, challenge) = request(&mut client).await;
            scram.update(&challenge).expect("a challenge");
            let mut own = Vec::new();
            sasl_response(&mut own, scram.message());
            client.write_all(replayed.as_ref().unwrap_or(&own)).await.expect("sent");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.expect("read");
            own
        };
        tokio::join!(client, judged(&shared, stream))
    };
    let (proof, outcome) = exchange(None).await;
    assert_eq!(code(&outcome), None);
    let (_, outcome) = exchange(Some(proof)).await;
    assert_eq!(code(&outcome), Some("08P01"), "the nonce is another one");
}

#[tokio::test(start_paused = true)]
async fn every_password_is_verified_at_once() {
    let shared = shared("md5", "secret");
    let start = tokio::time::Instant::now();
    for _ in 0..20 {
        let (outcome, _) = log_in(&shared, b"wrong").await;
        let Err(Ended::WrongProof { attempt, .. }) = outcome else { panic!("{outcome:?}") };
        // The refusal is what is delayed.
        shared.penalties.failed(&attempt);
    }
    assert_eq!(code(&log_in(&shared, b"secret").await.0), None);
    assert!(start.elapsed() < Duration::from_millis(100), "{:?}", start.elapsed());
    assert_eq!(shared.stats().failed_logins_total, 20);
}

#[tokio::test]
async fn a_client_elsewhere_is_not_asked_for_a_password_in_the_clear() {
    let shared = shared("cleartext", "secret");
    let (_client, stream) = duplex(10_000);
    let mut conn = Conn::new(stream);
    let elsewhere = claim(ClientAddress::Ip([192, 0, 2, 1].into()));
    let outcome = authenticate(&mut conn, elsewhere, &shared, &shared.config.load()).await;
    assert_eq!(code(&outcome), Some("28000"));
}

#[tokio::test]
async fn what_a_client_sends_ahead_of_its_time_stays_unread() {
    let shared = shared("cleartext", "secret");
    let (mut client, stream) = duplex(10_000);
    let mut sent = Vec::new();
    password_message(&mut sent, b"secret");
    sent.extend(b"Q\0\0\0\x0dSELECT 1\0");
    client.write_all(&sent).await.expect("sent");
    let mut conn = Conn::new(stream);
    let outcome = authenticate(&mut conn, claim(ClientAddress::Unix), &shared, &shared.config.load()).await;
    assert_eq!(code(&outcome), None);
    assert_eq!(conn.received(), b"Q\0\0\0\x0dSELECT 1\0");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_bytes_but_a_proof_make_a_session(
        method in prop_oneof![Just("scram-sha-256"), Just("md5"), Just("cleartext")],
        messages in prop::collection::vec(
            (prop_oneof![4 => Just(b'p'), 1 => any::<u8>()], prop::collection::vec(any::<u8>(), 0..60)),
            0..5,
        ),
        initial in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime");
        runtime.block_on(async {
            let shared = shared(method, "a secret that is not guessed");
            let (mut client, stream) = duplex(10_000);
            let mut sent = Vec::new();
            if initial {
                sasl_initial_response(&mut sent, "SCRAM-SHA-256", b"n,,n=,r=abcdefgh");
            }
            for (tag, body) in &messages {
                sent.push(*tag);
                sent.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
                sent.extend(body);
            }
            client.write_all(&sent).await.expect("sent");
            client.shutdown().await.expect("ended");
            prop_assert!(judged(&shared, stream).await.is_err());
            Ok(())
        })?;
    }
}
