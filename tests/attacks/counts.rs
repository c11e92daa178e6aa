//! Requests that look answered and are not: whoever makes the proxy miscount has his own answers read as answers to it.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::attack::Attack;
use crate::session::Session;
use crate::stage::Stage;

/// PostgreSQL's `setseed`, `current_setting` and `textin`.
const SET_SEED: u32 = 1599;
const CURRENT_SETTING: u32 = 3294;
const TEXT_IN: u32 = 46;

/// A statement that takes its time, these Syncs, and the end of a COPY that has not begun: a proxy that believes it takes the
/// Syncs for ignored.
fn with_syncs(syncs: usize) -> Vec<u8> {
    let mut out = BytesMut::new();
    frontend::parse("", "SELECT pg_sleep(0.3)", [], &mut out).expect("parse");
    let values: [&[u8]; 0] = [];
    super::context::bind("", "", &values, &mut out);
    frontend::execute("", 0, &mut out).expect("execute");
    (0..syncs).for_each(|_| frontend::sync(&mut out));
    frontend::copy_done(&mut out);
    out.to_vec()
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
fn reset(with_echoes: bool, with_facts: bool) -> Vec<Vec<u8>> {
    let echo = with_echoes.then(|| call(TEXT_IN, &["00000000000000000000000000000000"]));
    let facts = with_facts.then(|| query("SELECT pgvpd.attach()"));
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
            Box::pin(async move {
                let answers = reset(with_echoes, with_facts);
                for syncs in answers.len()..answers.len() + 3 {
                    let mut attacker = stage.attacker_at(&stage.narrow).await;
                    attacker.send(&[with_syncs(syncs), answers.concat(), b"X\0\0\0\x04".to_vec()].concat()).await;
                    attacker.break_off();
                    stage.check_new_victim(&stage.narrow).await;
                }
                Ok(())
            })
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

/// Rows of the attacker's own come where those of the restore are due: with another tenant's name, and with facts.
async fn restore(stage: &Stage, reset: &str) -> Result<(), &'static str> {
    let rows = [
        "SELECT 'off'::bytea, 'globex'::bytea, 'none'::bytea, 'off'::bytea",
        "SELECT 'off'::bytea, convert_to(pgvpd.attach()::text, 'UTF8'), 'off'::bytea",
    ];
    for row in rows {
        for syncs in 1..4 {
            let mut attacker = stage.attacker().await;
            let mut forged = BytesMut::new();
            frontend::parse("own", row, [], &mut forged).expect("parse");
            let values: [&[u8]; 0] = [];
            super::context::bind("own", "own", &values, &mut forged);
            frontend::execute("own", 0, &mut forged).expect("execute");
            frontend::close(b'P', "own", &mut forged).expect("close");
            frontend::close(b'S', "own", &mut forged).expect("close");
            frontend::sync(&mut forged);
            attacker.send(&[with_syncs(syncs), query(reset), forged.to_vec().repeat(syncs)].concat()).await;
            // The next request goes out once what is counted has been answered, if not all has.
            while attacker.message_within(Duration::from_millis(600)).await.is_some() {}
            attacker.query("SELECT 1").await;
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
