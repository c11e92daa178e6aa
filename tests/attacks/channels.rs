//! What sessions can do to each other without a row: notifications, cancel requests, locks, objects of the role they share.

use std::sync::Arc;

use support::{WireClient, eventually};

use crate::attack::Attack;
use crate::limits::{ADVISORY, CANCEL, LOCKS, NOTIFY, PREPARED};
use crate::session::{Session, startup};
use crate::stage::Stage;

/// What the attacker listens on, and what the victim then says, with its secret.
const HEARD: &[(&str, &str, &str)] = &[
    ("hear the victim's channel", "LISTEN globex", "NOTIFY globex, '@'"),
    ("hear a channel of the victim's", "LISTEN \"globex:orders\"", "NOTIFY \"globex:orders\", '@'"),
    ("hear a channel of everybody's", "LISTEN orders", "NOTIFY orders, '@'"),
    (
        "hear a channel that begins alike",
        "LISTEN acmeglobex; LISTEN \"acme.globex\"; LISTEN \"acme globex\"",
        "NOTIFY acmeglobex, '@'; NOTIFY \"acme.globex\", '@'; NOTIFY \"acme globex\", '@'",
    ),
    (
        "hear a channel in capitals",
        "LISTEN \"ACME\"; LISTEN \"GLOBEX\"",
        "NOTIFY \"GLOBEX\", '@'; NOTIFY \"ACME\", '@'",
    ),
    (
        "hear a channel with an empty prefix",
        "LISTEN \":orders\"; LISTEN \" acme\"",
        "NOTIFY \":orders\", '@'; NOTIFY \" acme\", '@'",
    ),
    (
        "hear every channel",
        "DO $$ BEGIN FOR n IN 1..50 LOOP EXECUTE format('LISTEN globex%s', n); END LOOP; END $$",
        "NOTIFY globex7, '@'",
    ),
    ("hear in a transaction", "BEGIN; LISTEN globex; COMMIT; LISTEN globex", "NOTIFY globex, '@'"),
];

/// What holds the victim up, or takes something of the role's away from it.
const HOLDS: &[(&str, &str)] = &[
    ("LOCK TABLE", "BEGIN;;LOCK TABLE vault IN ACCESS EXCLUSIVE MODE"),
    ("LOCK TABLE, SHARE", "BEGIN;;LOCK TABLE vault IN SHARE MODE"),
    ("LOCK TABLE of a partition", "BEGIN;;LOCK TABLE events_1, things_old, vault IN EXCLUSIVE MODE"),
];

const KILLS: &[(&str, &str)] = &[
    (
        "pg_terminate_backend",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user' AND pid <> pg_backend_pid()",
    ),
    (
        "pg_cancel_backend",
        "SELECT pg_cancel_backend(pid) FROM pg_stat_activity WHERE usename = 'app_user' AND pid <> pg_backend_pid();;SELECT pg_sleep(0.01)",
    ),
];

/// As above, where the attacker knows the victim's process somehow, which is `@`.
const KILLS_BY_NUMBER: &[(&str, &str)] = &[
    ("pg_terminate_backend by number", "SELECT pg_terminate_backend(@, 2000)"),
    (
        "pg_cancel_backend by number",
        "DO $$ BEGIN FOR n IN 1..50 LOOP PERFORM pg_cancel_backend(@), pg_sleep(0.002); END LOOP; END $$",
    ),
];

/// Ways to take an advisory lock, for as long as the session or its transaction lasts.
const ADVISORIES: &[(&str, &str)] = &[
    ("an advisory lock that the victim wants", "SELECT pg_advisory_lock(4711)"),
    ("an advisory lock that the victim wants, shared", "SELECT pg_try_advisory_lock_shared(4711)"),
    ("an advisory lock that the victim wants, in a transaction", "BEGIN;;SELECT pg_advisory_xact_lock(4711)"),
];

/// Cancel keys: of nobody, of process numbers that are known, with secrets that are guessed.
const GUESSES: &[(&str, &[u8])] = &[
    ("cancel with secret 0", &[0; 4]),
    ("cancel with secret 1", &[0, 0, 0, 1]),
    ("cancel with an empty secret", &[]),
    ("cancel with a long secret", &[0; 32]),
    ("cancel with a secret that is too long", &[0xff; 300]),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<_> = HEARD
        .iter()
        .map(|&(name, listen, say)| Attack::by(name, move |stage| Box::pin(hear(stage, listen, say))))
        .collect();
    attacks.push(Attack::by("hear a channel in another encoding", |stage| Box::pin(hear_in_latin1(stage))));
    attacks.extend(HOLDS.iter().map(|row| Attack::sql(row).within(LOCKS)));
    attacks.extend(KILLS.iter().map(|row| Attack::sql(row).within(CANCEL)));
    attacks.extend(
        KILLS_BY_NUMBER
            .iter()
            .map(|&(name, sql)| Attack::by(name, move |stage| Box::pin(kill(stage, sql))).within(CANCEL)),
    );
    attacks.extend(
        GUESSES.iter().map(|&(name, secret)| Attack::by(name, move |stage| Box::pin(guess_key(stage, secret)))),
    );
    attacks.push(Attack::by("cancel of a running query", |stage| Box::pin(cancel_running(stage))).within(CANCEL));
    attacks.push(Attack::by("cancel with a key of a session that is over", |stage| Box::pin(old_key(stage))));
    attacks.push(Attack::by("NOTIFY onto the victim's channel", |stage| Box::pin(notify(stage))).within(NOTIFY));
    attacks.extend(
        ADVISORIES
            .iter()
            .map(|&(name, sql)| Attack::by(name, move |stage| Box::pin(advisory(stage, sql))).within(ADVISORY)),
    );
    attacks.push(Attack::by("a prepared transaction that holds a lock", |stage| Box::pin(held(stage))).within(LOCKS));
    attacks.push(Attack::by("the victim's prepared transaction", |stage| Box::pin(prepared(stage))).within(PREPARED));
    attacks.push(Attack::by("the victim's temporary table, read", |stage| {
        Box::pin(temporary(stage, "TABLE @.t;;SELECT * FROM @.t WHERE ctid = '(0,1)';;COPY @.t TO STDOUT;;CREATE TEMP TABLE u (LIKE @.t INCLUDING ALL);;SELECT currtid2('@.t', '(0,1)')"))
    }));
    attacks.push(Attack::by("the victim's temporary table, changed", |stage| {
        Box::pin(temporary(stage, "INSERT INTO @.t VALUES ('x');;TRUNCATE @.t;;ALTER TABLE @.t ADD b int;;DELETE FROM @.t;;CREATE INDEX ON @.t (secret);;ALTER TABLE @.t RENAME TO gone;;COMMENT ON TABLE @.t IS 'x'"))
    }));
    attacks.push(
        Attack::by("the victim's temporary table, locked", |stage| Box::pin(temporary(stage, "BEGIN;;LOCK TABLE @.t")))
            .within(LOCKS),
    );
    attacks.push(Attack::by("the victim's temporary table, dropped", |stage| {
        Box::pin(temporary(stage, "DROP TABLE @.t"))
    }));
    attacks.push(Attack::by("the victim's temporary function", |stage| {
        Box::pin(temporary(stage, "SELECT @.f();;SELECT prosrc FROM pg_proc WHERE proname = 'f';;DROP FUNCTION @.f()"))
    }));
    attacks.push(Attack::by("a function in the victim's pg_temp", |stage| {
        Box::pin(temporary(stage, "CREATE FUNCTION @.lower(text) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;;CREATE TABLE @.vault (a int);;CREATE VIEW @.t2 AS SELECT 1"))
    }));
    attacks
}

async fn hear(stage: &Stage, listen: &str, say: &str) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.query(listen).await;
    let mut victim = stage.victim_at(&stage.proxy).await;
    victim.query(&say.replace('@', &stage.marker)).await;
    victim.leave().await;
    // A notification comes before the answer that follows it.
    attacker.query("SELECT 1").await;
    attacker.query("SELECT pg_listening_channels()").await;
    attacker.leave().await;
    Ok(())
}

/// `Ã¼` is, in LATIN1, the bytes that `ü` is in UTF-8. The server writes in the new encoding before it says that it does.
async fn hear_in_latin1(stage: &Stage) -> Result<(), &'static str> {
    if stage.mode.has_own_roles() {
        return Err("there is no role of this tenant");
    }
    let heard = Some(Arc::clone(&stage.heard));
    let opened = Session::open(stage.proxy.port(), &startup("app_user.ü", &[]), heard).await;
    let mut attacker = opened.expect("a tenant logs in");
    attacker.query("LISTEN \"Ã¼\"").await;
    let sleep = "SET client_encoding = 'LATIN1'; SELECT pg_sleep(0.5) /* listens */";
    let sleeps = "SELECT FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%/* listens */'";
    let say = async {
        eventually("it sleeps", async || !stage.admin.query(sleeps, &[]).await.expect("activity").is_empty()).await;
        // More than is read at one time: the end of it says which encoding it is in.
        let say = "SELECT pg_notify('Ã¼', concat(n, $1::text, repeat('x', 7800))) FROM generate_series(1, 40) n";
        stage.admin.query(say, &[&stage.marker]).await.expect("notified");
    };
    tokio::join!(attacker.query(sleep), say);
    attacker.query("SELECT 1").await;
    attacker.leave().await;
    Ok(())
}

async fn notify(stage: &Stage) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    victim.query("LISTEN globex").await;
    let mut attacker = stage.attacker().await;
    attacker.query("NOTIFY globex, 'forged'").await;
    attacker.leave().await;
    if victim.query("SELECT 1").await.messages.iter().any(|(tag, _)| *tag == b'A') {
        stage.reached("the victim has heard it");
    }
    victim.leave().await;
    Ok(())
}

/// The superuser wants it, as whatever may take one for the victim: such locks are the database's, and no role's.
async fn advisory(stage: &Stage, sql: &str) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run(sql).await;
    let wanted = stage.admin.query_one("SELECT pg_try_advisory_xact_lock(4711)", &[]).await.expect("an answer");
    if !wanted.get::<_, bool>(0) {
        stage.reached("the victim does not get it");
    }
    attacker.leave().await;
    Ok(())
}

async fn held(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.query("BEGIN; LOCK TABLE vault; PREPARE TRANSACTION 'hold'").await;
    attacker.leave().await;
    Ok(())
}

async fn prepared(stage: &Stage) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    let made = victim.query("BEGIN; UPDATE vault SET amount = 2; PREPARE TRANSACTION 'globex'").await;
    if made.code().is_some() {
        return Err("there are no prepared transactions here");
    }
    let mut attacker = stage.attacker().await;
    attacker.run("COMMIT PREPARED 'globex';;ROLLBACK PREPARED 'globex'").await;
    attacker.leave().await;
    if victim.query("ROLLBACK PREPARED 'globex'").await.code().is_some() {
        stage.reached("the victim's transaction is gone");
    }
    victim.leave().await;
    Ok(())
}

/// The victim's query must come to its end while the attacker does something.
async fn undisturbed(stage: &Stage, victim: &mut Session, attempt: impl Future<Output = ()>) {
    let (reply, ()) = tokio::join!(victim.query("SELECT pg_sleep(0.2)"), attempt);
    if reply.code().is_some() || reply.is_cut_short {
        stage.reached(format!("the victim's query was ended: {:?}", reply.code()));
    }
}

async fn kill(stage: &Stage, sql: &str) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    let pid = victim.query("SELECT pg_backend_pid()").await.value().expect("a process");
    let mut attacker = stage.attacker().await;
    undisturbed(stage, &mut victim, async {
        attacker.query(&sql.replace('@', &pid)).await;
    })
    .await;
    victim.leave().await;
    attacker.leave().await;
    Ok(())
}

async fn cancel_running(stage: &Stage) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    let mut attacker = stage.attacker().await;
    let found = "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE query ~ '^SELECT pg_sleep.0.2'";
    let cancel = async {
        for _ in 0..50 {
            if attacker.query(found).await.value().is_some_and(|count| count != "0") {
                break;
            }
        }
    };
    undisturbed(stage, &mut victim, cancel).await;
    victim.leave().await;
    attacker.leave().await;
    Ok(())
}

/// Sends a cancel request with this key, right or wrong, and waits until it is taken.
async fn cancel(port: u16, key: &[u8]) {
    let size = u32::try_from(key.len() + 8).expect("short");
    let packet = [&size.to_be_bytes(), &80_877_102_u32.to_be_bytes(), key].concat();
    let mut client = WireClient::connect(port).await;
    client.send(&packet).await;
    client.message().await;
}

/// With each process number that the attacker can see, and each number that the proxy gave out before and after his own.
async fn guess_key(stage: &Stage, secret: &'static [u8]) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    let mut attacker = stage.attacker().await;
    let pids =
        attacker.query("SELECT string_agg(pid::text, ',') FROM pg_stat_activity").await.value().unwrap_or_default();
    let mut numbers: Vec<u32> = pids.split(',').filter_map(|pid| pid.parse().ok()).collect();
    let own = attacker.key.first_chunk().map(|number| u32::from_be_bytes(*number)).unwrap_or_default();
    numbers.extend((1..=5).flat_map(|n| [own.wrapping_sub(n), own.wrapping_add(n)]));
    let port = stage.proxy.port();
    undisturbed(stage, &mut victim, async {
        for number in numbers {
            cancel(port, &[&number.to_be_bytes(), secret].concat()).await;
        }
    })
    .await;
    victim.leave().await;
    attacker.leave().await;
    Ok(())
}

async fn old_key(stage: &Stage) -> Result<(), &'static str> {
    let attacker = stage.attacker_at(&stage.narrow).await;
    let key = attacker.key.clone();
    attacker.leave().await;
    let mut victim = stage.victim_at(&stage.narrow).await;
    undisturbed(stage, &mut victim, async {
        for _ in 0..3 {
            cancel(stage.narrow.port(), &key).await;
        }
    })
    .await;
    victim.leave().await;
    Ok(())
}

/// What the attacker does to temporary objects of the victim's, whose schema is `@`.
async fn temporary(stage: &Stage, sql: &str) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.proxy).await;
    let made = "CREATE TEMP TABLE t AS SELECT secret FROM vault; CREATE FUNCTION pg_temp.f() RETURNS int LANGUAGE sql AS 'SELECT 1';
        SELECT pg_my_temp_schema()::regnamespace::text";
    let made = victim.query(made).await;
    if made.code().as_deref() == Some("42501") {
        return Err("nobody may make temporary objects in this mode");
    }
    let schema = made.value().unwrap_or_default();
    assert!(schema.starts_with("pg_temp_"), "{schema:?}");
    let mut attacker = stage.attacker().await;
    attacker.run(&sql.replace('@', &schema)).await;
    let work = "SET lock_timeout = '200ms'; SELECT count(*), lower('A'), pg_temp.f() FROM t";
    let reply = victim.query(work).await;
    if reply.code().is_some() || reply.value().as_deref() != Some("10") {
        stage.reached(format!("the victim's temporary objects are not as they were: {:?}", reply.code()));
    }
    attacker.leave().await;
    victim.leave().await;
    Ok(())
}
