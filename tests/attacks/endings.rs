//! What goes on after the end of its session, and what ends the sessions of others.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use support::{ADMIN_TOKEN, eventually};

use crate::attack::Attack;
use crate::session::{Session, startup};
use crate::stage::Stage;

/// How a session ends in the middle of a statement.
#[derive(Clone, Copy)]
enum End {
    /// An administrator disconnects the tenant.
    Disconnected,
    /// The client resets its connection.
    Reset,
    /// The client closes it.
    Closed,
}

/// A statement that goes on for ten minutes, unless somebody ends it.
const LONG: &str = "SELECT pg_sleep(600) /* goes on */";

/// Whether it runs, and its end if it does.
const RUNS: &str = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* goes on */'";
const KILL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE '%/* goes on */' AND pid <> pg_backend_pid()";

/// How long a backend may take to be cancelled.
const PATIENCE: Duration = Duration::from_secs(5);

/// A resolver of every session's, which reads a table that tenants may lock.
const RESOLVER: &str = "[[resolver]]\nname = \"vaults\"\nquery = \"SELECT count(*)::text AS vaults FROM vault WHERE tenant_id = $1\"\n\
    params = [\"app.current_tenant_id\"]\ninject = { \"app.vaults\" = \"vaults\" }\ncache_ttl = 3600\non_change = \"terminate\"\n";

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for (name, end) in [
        ("a statement of a tenant that is disconnected", End::Disconnected),
        ("a statement of a client that resets", End::Reset),
        ("a statement of a client that closes", End::Closed),
    ] {
        attacks.push(Attack::by(name, move |stage| Box::pin(go_on(stage, end))));
    }
    attacks.push(Attack::by("a lock on what a resolver reads", |stage| Box::pin(lock_resolver(stage))));
    attacks
}

async fn go_on(stage: &Stage, end: End) -> Result<(), &'static str> {
    let proxy = stage.proxy_with(&[("admin_port", "0"), ("admin_token", ADMIN_TOKEN)]).await;
    let runs = async || !stage.admin.query(RUNS, &[]).await.expect("activity").is_empty();
    let mut attacker = stage.attacker_at(&proxy).await;
    let mut out = BytesMut::new();
    frontend::query(LONG, &mut out).expect("query");
    attacker.send(&out).await;
    eventually("the statement runs", runs).await;
    match end {
        End::Disconnected => {
            let answer = proxy.post("/tenants/acme/disconnect").await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        End::Reset => attacker.break_off(),
        End::Closed => drop(attacker),
    }
    if tokio::time::timeout(PATIENCE, eventually("it ends", async || !runs().await)).await.is_err() {
        stage.reached("the statement goes on");
        stage.execute(KILL).await;
    }
    Ok(())
}

/// Every session is resolved again, gets no answer, and has to go on.
async fn lock_resolver(stage: &Stage) -> Result<(), &'static str> {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(RESOLVER.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    let options = [
        ("resolvers", &*path),
        ("resolver_user", "resolver"),
        ("resolver_password", "secret"),
        ("resolver_notify", "true"),
        ("resolver_timeout", "0.2"),
    ];
    let proxy = stage.proxy_with(&options).await;
    let packet = startup("app_user.globex", &[]);
    let mut victim = Session::open(proxy.port(), &packet, None).await.expect("the victim logs in");
    let listening = "SELECT FROM pg_stat_activity WHERE application_name = 'pgvpd resolvers' AND query ILIKE 'LISTEN%' AND state = 'idle'";
    eventually("the proxy listens", async || !stage.admin.query(listening, &[]).await.expect("activity").is_empty())
        .await;
    let mut attacker = stage.attacker_at(&proxy).await;
    let mut other = Session::open(proxy.port(), &startup("app_user.acme", &[]), Some(Arc::clone(&stage.heard)))
        .await
        .expect("the attacker logs in");
    attacker.run("BEGIN;;LOCK TABLE vault IN ACCESS EXCLUSIVE MODE").await;
    let errors = || proxy.handle.resolver_stats().iter().map(|stats| stats.errors).sum::<u64>();
    let before = errors();
    other.query("NOTIFY pgvpd_invalidate").await;
    eventually("the resolver gets no answer", async || errors() >= before + 2).await;
    if victim.query("SELECT 1").await.value().as_deref() != Some("1") {
        stage.reached("the victim's session is ended");
    }
    for session in [attacker, other, victim] {
        session.break_off();
    }
    Ok(())
}
