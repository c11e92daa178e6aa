use tokio::time::advance;

use super::fake::{FakeServer, Reply, answer};
use super::*;
use crate::auth::{Binding, Challenge, ClientFirst, Keys, Nonce, Offer};

const FIRST: &str = "md5d41d8cd98f00b204e9800998ecf8427e";
const SECOND: &str = "md5900150983cd24fb0d6963f7d28e17f72";

struct Proxy {
    secrets: Secrets,
    deriver: Deriver,
}

impl Proxy {
    fn new() -> Self {
        Self { secrets: Secrets::new(), deriver: Deriver::new() }
    }

    async fn of_client(&self, role: &str, config: &Config) -> Option<String> {
        let secret = self.secrets.of_client(role, config, &self.deriver).await.expect("asked");
        secret.as_ref().map(shown)
    }
}

fn shown(secret: &Secret) -> String {
    match secret {
        Secret::Plain(text) | Secret::Md5(text) => text.to_string(),
        Secret::Scram(verifier) => verifier.to_text().to_string(),
    }
}

/// Answers with this verifier from now on.
fn turn_to(server: &FakeServer, verifier: &'static str) {
    server.answer_with(move |role| answer(&[&[Some(role), Some(verifier)]]));
}

/// A file with these entries. It is read when the configuration is made, and not kept.
fn auth_file(text: &str) -> String {
    let name = format!("pgvpd-secrets-{}.txt", u64::from_ne_bytes(crate::random::random_bytes()));
    let path = std::env::temp_dir().join(name);
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("permissions");
    path.display().to_string()
}

fn with_file(server: &FakeServer, text: &str, options: &[(&str, &str)]) -> Config {
    let path = auth_file(text);
    let config = server.config(&[&[("auth_file", &*path)], options].concat());
    std::fs::remove_file(path).expect("removed");
    config
}

#[tokio::test]
async fn a_client_proves_what_the_file_says_else_the_database_else_the_shared_password() {
    let server = FakeServer::with(&[("in_both", FIRST), ("in_database", FIRST)]).await;
    let shared = [("pool_password", "shared")];
    let config = with_file(&server, "\"in_both\" \"from file\"\n\"in_database\" \"\"", &shared);
    let proxy = Proxy::new();
    assert_eq!(proxy.of_client("in_database", &config).await, None, "the file shuts it out");
    let config = with_file(&server, "\"in_both\" \"from file\"", &shared);
    assert_eq!(proxy.of_client("in_both", &config).await.as_deref(), Some("from file"));
    assert!(server.questions().is_empty());
    assert_eq!(proxy.of_client("in_database", &config).await.as_deref(), Some(FIRST));
    assert_eq!(proxy.of_client("nowhere", &config).await.as_deref(), Some("shared"));
    assert_eq!(proxy.of_client("nowhere", &server.config(&[])).await, None);
}

#[tokio::test(start_paused = true)]
async fn answers_are_good_for_their_time_and_so_is_that_there_is_none() {
    let server = FakeServer::with(&[("r", FIRST)]).await;
    let config = server.config(&[("auth_query_ttl", "30")]);
    let proxy = Proxy::new();
    for _ in 0..3 {
        assert_eq!(proxy.of_client("r", &config).await.as_deref(), Some(FIRST));
        assert_eq!(proxy.of_client("nobody", &config).await, None);
    }
    assert_eq!(server.questions().len(), 2);
    turn_to(&server, SECOND);
    advance(Duration::from_millis(29_999)).await;
    assert_eq!(proxy.of_client("r", &config).await.as_deref(), Some(FIRST));
    advance(Duration::from_millis(1)).await;
    assert_eq!(proxy.of_client("r", &config).await.as_deref(), Some(SECOND));
    assert_eq!(proxy.of_client("nobody", &config).await.as_deref(), Some(SECOND));
    assert_eq!(server.startups().len(), 1);
}

#[tokio::test]
async fn with_a_time_of_zero_every_login_asks() {
    let server = FakeServer::with(&[("r", FIRST)]).await;
    let config = server.config(&[("auth_query_ttl", "0")]);
    let proxy = Proxy::new();
    for _ in 0..3 {
        proxy.of_client("r", &config).await;
    }
    assert_eq!(server.questions().len(), 3);
}

#[tokio::test]
async fn logins_at_one_time_ask_once() {
    let server = FakeServer::with(&[("r", FIRST)]).await;
    let config = server.config(&[]);
    let proxy = Proxy::new();
    let logins: [_; 8] = std::array::from_fn(|_| proxy.of_client("r", &config));
    let [a, b, c, d, e, f, g, h] = logins;
    let all = tokio::join!(a, b, c, d, e, f, g, h);
    assert_eq!(all.7.as_deref(), Some(FIRST));
    assert_eq!(server.questions().len(), 1);
}

#[tokio::test]
async fn a_reload_that_changes_the_question_asks_anew() {
    let server = FakeServer::with(&[("r", FIRST)]).await;
    let proxy = Proxy::new();
    for options in [("auth_query", "SELECT $1"), ("auth_query", "SELECT $1, 2"), ("auth_dbname", "b")] {
        for _ in 0..2 {
            proxy.of_client("r", &server.config(&[options])).await;
        }
    }
    assert_eq!(server.questions().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_doubted_answer_is_asked_for_again_at_most_once_a_second_and_only_for_its_role() {
    let server = FakeServer::with(&[("r", FIRST), ("s", FIRST)]).await;
    let config = server.config(&[("auth_query_ttl", "3600")]);
    let proxy = Proxy::new();
    proxy.of_client("r", &config).await;
    proxy.of_client("s", &config).await;
    turn_to(&server, SECOND);
    proxy.secrets.doubt("r");
    assert_eq!(proxy.of_client("s", &config).await.as_deref(), Some(FIRST));
    advance(Duration::from_millis(1)).await;
    for _ in 0..3 {
        assert_eq!(proxy.of_client("r", &config).await.as_deref(), Some(SECOND));
        advance(Duration::from_millis(300)).await;
        proxy.secrets.doubt("r");
    }
    assert_eq!(server.questions().len(), 3, "two at first, one for the first doubt");
    advance(Duration::from_millis(100)).await;
    proxy.secrets.doubt("r");
    proxy.of_client("r", &config).await;
    assert_eq!(server.questions().len(), 4);
}

#[tokio::test]
async fn an_error_is_told_without_its_cause_and_the_next_login_asks_again() {
    let server = FakeServer::start(|_| Reply::Close).await;
    let config = server.config(&[("pool_password", "shared")]);
    let proxy = Proxy::new();
    let error = proxy.secrets.of_client("r", &config, &proxy.deriver).await.expect_err("closed");
    let refusal = crate::error::Refusal::from(&error).to_string();
    assert_eq!(refusal, "08006 pgvpd: cannot ask the database for the role's verifier");
    turn_to(&server, FIRST);
    assert_eq!(proxy.of_client("r", &config).await.as_deref(), Some(FIRST));
}

#[tokio::test]
async fn the_proxy_proves_the_files_password_else_its_own_and_what_it_learned_from_clients() {
    let server = FakeServer::with(&[]).await;
    let keys = Keys::derive(b"secret", b"salt", 16);
    let verifier = Verifier::of(&keys, b"salt".into(), 16);
    let file = format!("\"plain\" \"from file\"\n\"scram\" \"{}\"", *verifier.to_text());
    let config = with_file(&server, &file, &[("upstream_password", "own")]);
    let secrets = Secrets::new();
    let password = |role| secrets.for_upstream(role, &config).password.as_ref().map(shown);
    assert_eq!(password("plain").as_deref(), Some("from file"));
    assert_eq!(password("scram").as_deref(), Some("own"), "a verifier proves nothing");
    assert_eq!(password("nowhere").as_deref(), Some("own"));
    assert!(secrets.for_upstream("scram", &config).recovered.is_none());

    let first = ClientFirst::new(Nonce::new([1; 18]), Binding::None);
    let challenge = Challenge::new(first.message().as_bytes(), verifier.clone(), &Nonce::new([2; 18]), &Offer::Plain);
    let challenge = challenge.expect("client-first");
    let proof = first.challenged(challenge.message().as_bytes()).expect("server-first").prove(&keys).message;
    secrets.learn("scram", &verifier, challenge.judge(proof.as_bytes()).expect("proof").client_key);
    let credentials = secrets.for_upstream("scram", &config);
    assert!(credentials.recovered.as_ref().is_some_and(|(proved, _)| proved.is_twin_of(b"salt", 16)));
    assert!(secrets.for_upstream("plain", &config).recovered.is_none());
    let shown = format!("{secrets:?}{credentials:?}");
    assert!(!shown.contains("own") && !shown.contains("SCRAM-SHA-256$"), "{shown}");
}
