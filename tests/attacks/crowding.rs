//! What all sessions of a server share, and one of them can fill, hold or watch.

use support::eventually;

use crate::attack::Attack;
use crate::limits::{LOCK_TABLE, NOTIFICATION_QUEUE, SERIALIZABLE, TRANSACTION_NUMBERS};
use crate::stage::Stage;

/// Fills the server's one table of locks, and keeps it full.
const FILL: &str = "SELECT count(pg_advisory_lock(n)) FROM generate_series(1, 300000) n";

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = vec![Attack::by("the lock table, filled", |stage| Box::pin(fill(stage))).within(LOCK_TABLE)];
    attacks.push(
        Attack::by("the notification queue, kept from being emptied", |stage| Box::pin(keep_queue(stage)))
            .within(NOTIFICATION_QUEUE),
    );
    attacks.push(
        Attack::by("a serializable transaction of the victim's, failed", |stage| Box::pin(conflict(stage)))
            .within(SERIALIZABLE),
    );
    attacks.push(
        Attack::by("how much the victim writes", |stage| Box::pin(count_transactions(stage)))
            .within(TRANSACTION_NUMBERS),
    );
    attacks
}

async fn fill(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run(FILL).await;
    stage.check_victim().await;
    attacker.leave().await;
    let locks = "SELECT count(*) FROM pg_locks";
    eventually("the locks are released", async || {
        stage.admin.query_one(locks, &[]).await.is_ok_and(|row| row.get::<_, i64>(0) < 500)
    })
    .await;
    // The victim's transaction has failed; it begins another.
    stage.check_victim().await;
    Ok(())
}

/// A session that listens and stays in its transaction has not read what was sent since: it is kept for it, up to 8 GB for all.
async fn keep_queue(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run("LISTEN acme;;BEGIN").await;
    let mut sender = stage.attacker().await;
    sender.query("SELECT pg_notify('acme', n || repeat('x', 7900)) FROM generate_series(1, 40) n").await;
    sender.leave().await;
    // A page or a few of it are there at any time.
    let usage = stage.admin.query_one("SELECT pg_notification_queue_usage() > 0.00001", &[]).await.expect("usage");
    if usage.get(0) {
        stage.reached("what nobody else waits for stays in the queue");
    }
    attacker.query("ROLLBACK").await;
    attacker.leave().await;
    Ok(())
}

/// The conflict is one of pages and tables: no row is in common.
async fn conflict(stage: &Stage) -> Result<(), &'static str> {
    let (mut attacker, mut victim) = (stage.attacker().await, stage.victim_at(&stage.proxy).await);
    let read = "BEGIN ISOLATION LEVEL SERIALIZABLE; SELECT count(*) FROM vault";
    attacker.query(read).await;
    victim.query(read).await;
    attacker.run("UPDATE vault SET amount = amount").await;
    victim.query("UPDATE vault SET amount = amount").await;
    attacker.run("COMMIT").await;
    let committed = victim.query("COMMIT").await;
    if committed.code().is_some_and(|code| code == "40001") {
        stage.reached("the victim's transaction fails");
    }
    victim.query("ROLLBACK").await;
    victim.leave().await;
    attacker.leave().await;
    Ok(())
}

async fn count_transactions(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    let next = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint";
    let before = attacker.query(next).await.value();
    let mut victim = stage.victim_at(&stage.proxy).await;
    for _ in 0..7 {
        victim.query("UPDATE vault SET amount = amount WHERE false; SELECT pg_current_xact_id()").await;
    }
    victim.leave().await;
    let after = attacker.query(next).await.value();
    let number = |text: Option<String>| text.and_then(|text| text.parse::<i64>().ok());
    if let (Some(before), Some(after)) = (number(before), number(after))
        && after - before >= 7
    {
        stage.reached("the victim's transactions can be counted");
    }
    attacker.leave().await;
    Ok(())
}
