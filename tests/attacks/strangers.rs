//! Clients without a password, and tenants that guess other tenants' passwords: what they fill, delay, keep busy or find out.
//!
//! The victim logs in and works while the attack is in force, which `/status` shows. Whether it gets in decides, not how long it takes.

use std::io::Write;
use std::time::Duration;

use support::{ADMIN_TOKEN, PgError, TestProxy, WireClient, eventually};
use tokio_util::task::AbortOnDropHandle;

use crate::attack::Attack;
use crate::session::{Session, startup};
use crate::stage::Stage;

/// The victim's user name, under which strangers begin logins too.
const VICTIM: &str = "app_user.globex";

/// Sessions that a tenant may have in these attacks.
const SLOTS: usize = 3;
const TENANT_SLOTS: (&str, &str) = ("tenant_max_connections", "3");
const CLIENT_SLOTS: (&str, &str) = ("max_client_connections", "3");

/// Every client says where it comes from.
const ADDRESSES: &[(&str, &str)] = &[("proxy_protocol", "require"), ("proxy_protocol_from", "loopback")];

/// Failures after which the next one by the same address, whatever its name, is told so after the longest delay.
const FAILURES: usize = 20;

/// What a stranger's connection to the admin port says.
const PROBE: &[u8] = b"GET /health HTTP/1.1\r\nhost: localhost\r\n\r\n";

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, option) in [
        ("silent logins in place of the victim's sessions", TENANT_SLOTS),
        ("silent logins in place of all sessions", CLIENT_SLOTS),
    ] {
        attacks.push(Attack::by(name, move |stage| Box::pin(fall_silent(stage, option))));
    }
    for (name, option) in [
        ("wrong passwords in place of the victim's sessions", TENANT_SLOTS),
        ("wrong passwords in place of all sessions", CLIENT_SLOTS),
    ] {
        attacks.push(Attack::by(name, move |stage| Box::pin(fail(stage, option))));
    }
    attacks.push(Attack::by("failed logins in place of the victim's rate", |stage| Box::pin(use_up_rate(stage))));
    attacks.push(Attack::by("silent logins of one address in every slot", |stage| Box::pin(fill_logins(stage))));
    attacks
        .push(Attack::by("silent logins in place of the server's connections", |stage| Box::pin(fill_server(stage))));
    for (name, user) in [
        ("wrong passwords ahead of the right one", VICTIM),
        ("wrong passwords of another tenant's ahead of the right one", "app_user.acme"),
        ("wrong passwords of made-up tenants ahead of the right one", "app_user.{n}"),
    ] {
        attacks.push(Attack::by(name, move |stage| Box::pin(get_ahead(stage, user))));
    }
    attacks.push(Attack::by("guesses under ever new tenants", |stage| Box::pin(guess(stage, "app_user.{n}"))));
    attacks.push(Attack::by("guesses under ever new roles", |stage| Box::pin(guess(stage, "role_{n}.globex"))));
    attacks.push(Attack::by("startup packets of thousands of parameters", |stage| Box::pin(send_parameters(stage))));
    attacks.push(Attack::by("connections in place of all probes", |stage| Box::pin(fill_admin_port(stage))));
    attacks.push(Attack::by("the number of a verifier's iterations", |stage| Box::pin(count_iterations(stage))));
    attacks.push(Attack::by("refused logins in every line of the audit stream", |stage| Box::pin(fill_audit(stage))));
    attacks
}

/// A proxy of an attack's own, which says at `/status` who holds what.
async fn watched(stage: &Stage, options: &[(&'static str, &str)]) -> TestProxy {
    stage.proxy_with(&[&[("admin_port", "0"), ("admin_token", ADMIN_TOKEN)], options].concat()).await
}

/// Connections that are in this state of a login, as /status counts them.
async fn logins(proxy: &TestProxy, state: &str) -> u64 {
    proxy.get("/status").await.json()["logins"][state].as_u64().expect("a number")
}

/// Clients that send these bytes, begin a login, and then send nothing more.
async fn begin(proxy: &TestProxy, header: impl Fn(usize) -> String, count: usize) -> Vec<WireClient> {
    let mut clients = Vec::new();
    for number in 0..count {
        let mut client = proxy.connect().await;
        client.send(header(number).as_bytes()).await;
        client.start(VICTIM, &[]).await;
        clients.push(client);
    }
    clients
}

/// A PROXY header of this address.
fn from(address: &str) -> String {
    format!("PROXY TCP4 {address} 192.0.2.1 4660 5432\r\n")
}

/// A login with a password that is not right; `{n}` in the name is its number.
fn wrong(proxy: &TestProxy, user: &str, number: usize) -> AbortOnDropHandle<String> {
    let mut config = proxy.config(&user.replace("{n}", &number.to_string()));
    config.password("guess");
    AbortOnDropHandle::new(tokio::spawn(async move {
        let refused = config.connect(tokio_postgres::NoTls).await.map(|_| ()).expect_err("a wrong password");
        refused.code().map_or_else(|| refused.to_string(), |code| code.code().to_owned())
    }))
}

/// Clients that try one wrong password after the other.
fn guess_on(proxy: &TestProxy, count: usize) -> Vec<AbortOnDropHandle<()>> {
    let mut config = proxy.config(VICTIM);
    config.password("guess");
    let work = |config: tokio_postgres::Config| async move {
        loop {
            let refused = config.connect(tokio_postgres::NoTls).await.map(|_| ());
            assert!(refused.is_err(), "a wrong password");
        }
    };
    (0..count).map(|_| AbortOnDropHandle::new(tokio::spawn(work(config.clone())))).collect()
}

/// Adds so many of them, sent at one time. All have been verified; the first ones have been refused, the others wait for it.
async fn go_wrong(proxy: &TestProxy, user: &str, count: usize, guesses: &mut Vec<AbortOnDropHandle<String>>) {
    let first = guesses.len();
    guesses.extend((first..first + count).map(|number| wrong(proxy, user, number)));
    eventually("they are verified", async || {
        let delayed = logins(proxy, "delayed").await;
        let told = guesses.iter().filter(|guess| guess.is_finished()).count();
        delayed + told as u64 >= guesses.len() as u64
    })
    .await;
}

/// The victim opens all the sessions that it may have, works in each, and no other connections are shown as its sessions.
async fn take_slots(stage: &Stage, proxy: &TestProxy) {
    let mut sessions = Vec::new();
    for number in 1..=SLOTS {
        match stage.victim_after(proxy, "").await {
            Ok(session) => sessions.push(session),
            Err(PgError { code, .. }) => return stage.reached(format!("session {number} of the victim: {code}")),
        }
    }
    let status = proxy.get("/status").await.json();
    let shown = [&status["sessions"]["total"], &status["tenants"]["busiest"][0]["sessions_active"]];
    if shown.iter().any(|number| number.as_u64() != Some(SLOTS as u64)) {
        stage.reached(format!("strangers are shown as the victim's sessions: {shown:?}"));
    }
    for session in sessions {
        session.leave().await;
    }
}

async fn fall_silent(stage: &Stage, option: (&'static str, &str)) -> Result<(), &'static str> {
    let proxy = watched(stage, &[option]).await;
    let strangers = begin(&proxy, |_| String::new(), 3 * SLOTS).await;
    eventually("they are asked", async || logins(&proxy, "authenticating").await == strangers.len() as u64).await;
    take_slots(stage, &proxy).await;
    assert_eq!(logins(&proxy, "authenticating").await, strangers.len() as u64, "the attack is in force");
    Ok(())
}

async fn fail(stage: &Stage, option: (&'static str, &str)) -> Result<(), &'static str> {
    let proxy = watched(stage, &[option]).await;
    let _guessers = guess_on(&proxy, 4 * SLOTS);
    eventually("they are delayed", async || logins(&proxy, "delayed").await > SLOTS as u64).await;
    take_slots(stage, &proxy).await;
    Ok(())
}

async fn use_up_rate(stage: &Stage) -> Result<(), &'static str> {
    let proxy = watched(stage, &[("tenant_rate_limit", "1")]).await;
    let _guessers = guess_on(&proxy, 5);
    let _strangers = begin(&proxy, |_| String::new(), 5).await;
    eventually("they are asked", async || logins(&proxy, "authenticating").await >= 5).await;
    stage.has_to_get_in(&proxy, "").await;
    Ok(())
}

async fn fill_logins(stage: &Stage) -> Result<(), &'static str> {
    let proxy = watched(stage, &[&[("max_logins_per_address", "3")], ADDRESSES].concat()).await;
    let _strangers = begin(&proxy, |_| from("192.0.2.7"), 50).await;
    eventually("its slots are taken", async || {
        logins(&proxy, "authenticating").await >= 3 && logins(&proxy, "queued").await > 0
    })
    .await;
    stage.has_to_get_in(&proxy, &from("198.51.100.7")).await;
    Ok(())
}

/// In passthrough each login in progress holds a connection of the server's, which has 200.
async fn fill_server(stage: &Stage) -> Result<(), &'static str> {
    let proxy = watched(stage, ADDRESSES).await;
    let _strangers = begin(&proxy, |number| from(&format!("192.0.2.{}", number % 4)), 320).await;
    eventually("they are asked", async || logins(&proxy, "authenticating").await >= 30).await;
    let left = "SELECT current_setting('max_connections')::bigint - count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'";
    match stage.admin.query_one(left, &[]).await.map(|row| row.get::<_, i64>(0)) {
        Ok(30..) => {}
        left => stage.reached(format!("what is left of the server's connections: {left:?}")),
    }
    // A silent login gives its slot up after 3 s, where others wait: the victim may have to try again.
    for _ in 0..3 {
        if let Ok(victim) = stage.victim_after(&proxy, &from("198.51.100.7")).await {
            victim.leave().await;
            return Ok(());
        }
    }
    stage.reached("the victim cannot log in");
    Ok(())
}

/// The last wrong passwords are refused after 5 s, and were there before the right one.
async fn get_ahead(stage: &Stage, user: &str) -> Result<(), &'static str> {
    let proxy = watched(stage, &[]).await;
    let mut guesses = Vec::new();
    go_wrong(&proxy, user, FAILURES, &mut guesses).await;
    go_wrong(&proxy, user, 3, &mut guesses).await;
    stage.has_to_get_in(&proxy, "").await;
    Ok(())
}

/// Guesses under names that have not been used before have to wait for their refusal, so that they are few. The victim comes after them
/// and does not wait: it has to be done before any of them is refused.
async fn guess(stage: &Stage, user: &str) -> Result<(), &'static str> {
    let proxy = watched(stage, &[]).await;
    let mut guesses = Vec::new();
    go_wrong(&proxy, user, FAILURES, &mut guesses).await;
    go_wrong(&proxy, user, 3, &mut guesses).await;
    stage.has_to_get_in(&proxy, "").await;
    let answered = guesses.iter().skip(FAILURES).filter(|guess| guess.is_finished()).count();
    if answered > 0 {
        stage.reached(format!("{answered} of 3 guesses after {FAILURES} wrong ones are answered at once"));
    }
    Ok(())
}

/// They have to be refused before anything else is done for them.
async fn send_parameters(stage: &Stage) -> Result<(), &'static str> {
    let proxy = watched(stage, &[]).await;
    let names: Vec<String> =
        (b'!'..=b'Z').flat_map(|a| (b'a'..=b'z').map(move |b| format!("{}{}", char::from(a), char::from(b)))).collect();
    let twice: Vec<_> = names.iter().map(|name| format!("{name}.")).collect();
    let parameters: Vec<_> = names.iter().chain(&twice).take(2000).map(|name| (name.as_str(), "")).collect();
    let packet = startup(VICTIM, &parameters);
    assert!(packet.len() < 10_000, "PostgreSQL takes a packet of this length");
    let mut strangers = Vec::new();
    for _ in 0..20 {
        let mut stranger = proxy.connect().await;
        stranger.send(&packet).await;
        strangers.push(stranger);
    }
    stage.has_to_get_in(&proxy, "").await;
    for mut stranger in strangers {
        match stranger.message().await {
            Some((b'E', body)) if PgError::parse(&body).code == "08P01" => {}
            other => stage.reached(format!("it is not refused: {:?}", other.map(|(tag, _)| char::from(tag)))),
        }
    }
    Ok(())
}

/// Half of them send nothing; the others send a request and keep their connection.
async fn fill_admin_port(stage: &Stage) -> Result<(), &'static str> {
    let proxy = watched(stage, &[]).await;
    let mut held = Vec::new();
    for number in 0..100 {
        let mut client = WireClient::connect(proxy.admin().port()).await;
        if number % 2 == 0 {
            client.send(PROBE).await;
        }
        held.push(client);
    }
    for path in ["/health", "/ready"] {
        let answer = tokio::time::timeout(Duration::from_secs(10), proxy.get(path)).await;
        if !answer.is_ok_and(|answer| answer.status == 200) {
            stage.reached(format!("{path} answers nobody else"));
        }
    }
    Ok(())
}

/// A name that nobody has is asked for as many as one whose verifier the proxy has, and one whose password.
async fn count_iterations(stage: &Stage) -> Result<(), &'static str> {
    if !stage.mode.is_pooled() {
        return Err("PostgreSQL itself answers such a login");
    }
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    let keys = "wN56iZgRmJc8bLR+mwOwuVJuCvu3CIrVguKdgdp7J6s=:ywJYVz0nm/y3tcyI3qXB89hBjaX1PJEJLUzrN3+/5aM=";
    let (known, named) = (stage.victims_role(), if stage.mode.has_own_roles() { "b.globex" } else { "b" });
    writeln!(file, "\"{known}\" \"SCRAM-SHA-256$10000:c2FsdA==${keys}\"\n\"{named}\" \"secret\"").expect("written");
    let path = file.path().display().to_string();
    let proxy = watched(stage, &[("auth_file", &path)]).await;
    let mut asked = Vec::new();
    for user in [VICTIM, "b.globex", "nobody_of_this_name.globex"] {
        let mut client = proxy.connect().await;
        client.start(user, &[]).await;
        client.until(b'R').await;
        client.send(b"p\0\0\0\x36SCRAM-SHA-256\0\0\0\0\x20n,,n=,r=abcdefghijklmnopqrstuvwx").await;
        let text = String::from_utf8_lossy(&client.until(b'R').await).into_owned();
        asked.push(text.rsplit_once("i=").map(|(_, iterations)| iterations.to_owned()));
    }
    if asked.iter().any(|iterations| iterations.as_deref() != Some("10000")) {
        stage.reached(format!("names are told apart by {asked:?}"));
    }
    Ok(())
}

/// Each is counted; there are only a few lines, and one for the login that succeeds.
async fn fill_audit(stage: &Stage) -> Result<(), &'static str> {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("audit.log");
    let options = [("audit_log", path.to_str().expect("UTF-8")), ("tenant_allow", "globex")];
    let proxy = watched(stage, &options).await;
    for number in 0..200 {
        let refused = Session::open(proxy.port(), &startup(&format!("app_user.{number}"), &[]), None).await;
        assert!(refused.is_err(), "the attack is in force");
    }
    stage.has_to_get_in(&proxy, "").await;
    proxy.handle.shutdown(Duration::ZERO).await;
    let text = std::fs::read_to_string(&path).expect("the audit stream");
    let lines = |event: &str| text.lines().filter(|line| line.contains(event)).count();
    if lines("\"login_refused\"") > 40 {
        stage.reached(format!("{} lines of refused logins", lines("\"login_refused\"")));
    }
    if lines("\"login_accepted\"") != 1 {
        stage.reached("the victim's login has no line");
    }
    Ok(())
}
