//! Resets by the extended query protocol, with and without a Sync after them.

use super::setups::assert_as_on_ones_own;
use super::simple::{INSERT, ROWS};
use crate::support::script::{Write, bind, close, execute, extended, flush, parse, query, sync, write};

fn named(name: &str, messages: &[Vec<u8>]) -> (String, Vec<Write>) {
    (name.to_owned(), vec![write(messages)])
}

#[tokio::test]
async fn the_next_statement_runs_under_the_context_synced_or_not() {
    let mut scripts = Vec::new();
    for reset in
        ["RESET ALL", "RESET app.current_tenant_id", "DISCARD SEQUENCES", "SET app.current_tenant_id TO DEFAULT"]
    {
        let reset = extended(reset);
        scripts.extend([
            named("a Sync between", &[reset.clone(), sync(), extended(ROWS), sync()]),
            named("a Flush between", &[reset.clone(), flush(), extended(ROWS), sync()]),
            named("a Sync and a Flush", &[reset.clone(), sync(), flush(), extended(ROWS), sync(), flush()]),
            named(
                "nothing between",
                &[reset.clone(), extended(ROWS), extended(INSERT), extended("SELECT 1/0"), sync(), query(ROWS)],
            ),
            named("a Query after it", &[reset.clone(), query(ROWS), query(ROWS)]),
            named(
                "in the middle",
                &[extended(ROWS), reset.clone(), reset.clone(), extended(ROWS), sync(), extended(ROWS), sync()],
            ),
            named(
                "after an error",
                &[extended("SELECT 1/0"), reset.clone(), extended(ROWS), sync(), extended(ROWS), sync()],
            ),
            named(
                "an error after it",
                &[reset.clone(), extended("SELECT 1/0"), extended(ROWS), sync(), extended(ROWS), sync()],
            ),
            ("one write each".into(), vec![write(&[reset.clone(), sync()]), write(&[extended(ROWS), sync()])]),
            (
                "the Sync later".into(),
                vec![write(std::slice::from_ref(&reset)), write(&[sync()]), write(&[query(ROWS)])],
            ),
            ("the Flush later".into(), vec![write(&[reset.clone(), flush()]), write(&[extended(ROWS), sync()])]),
        ]);
    }
    assert_as_on_ones_own(&scripts).await;
}

#[tokio::test]
async fn a_prepared_reset_is_one_when_it_is_executed() {
    let mut scripts = Vec::new();
    for reset in ["RESET ALL", "DISCARD ALL", "RESET app.current_tenant_id"] {
        let run = [bind("", "clean"), execute(""), sync()].concat();
        let prepared = write(&[parse("clean", reset), parse("other", "SELECT 1"), sync()]);
        scripts.push((reset.to_owned(), vec![prepared.clone(), write(&[run.clone(), query(ROWS)])]));
        scripts.push((
            reset.to_owned(),
            vec![prepared.clone(), write(&[run.clone(), extended(ROWS), sync()]), write(&[query(ROWS)])],
        ));
        let portal = [query("BEGIN"), bind("p", "clean"), sync(), query(ROWS), execute("p"), sync()].concat();
        scripts.push((
            reset.to_owned(),
            vec![prepared.clone(), write(&[portal, query(ROWS), query("COMMIT"), query(ROWS)])],
        ));
        let closed = [close("clean"), parse("clean", ROWS), bind("", "clean"), execute(""), sync()].concat();
        scripts.push((reset.to_owned(), vec![prepared, write(&[closed, extended(ROWS), sync()])]));
    }
    assert_as_on_ones_own(&scripts).await;
}

#[tokio::test]
async fn a_pipelined_transaction_keeps_its_isolation_level() {
    let mut scripts = Vec::new();
    for reset in ["RESET ALL", "DISCARD SEQUENCES"] {
        for between in [vec![], sync(), flush(), [sync(), flush()].concat()] {
            let serializable = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
            let statements =
                ["BEGIN", reset, serializable, INSERT, ROWS, "SHOW transaction_isolation", "ROLLBACK", ROWS];
            let messages: Vec<_> = statements.iter().map(|sql| [extended(sql), between.clone()].concat()).collect();
            scripts.push(named(reset, &[messages.concat(), sync()]));
        }
    }
    assert_as_on_ones_own(&scripts).await;
}

/// A Flush asks for nothing. psycopg's pipelines end with one after the Sync.
#[tokio::test]
async fn a_flush_after_the_last_sync_leaves_nothing_outstanding() {
    let mut scripts = Vec::new();
    for reset in ["RESET ALL", "DISCARD ALL", "DISCARD SEQUENCES"] {
        let waited_for =
            |first: Write| vec![first, write(&[query(reset)]), write(&[query(ROWS)]), write(&[query(ROWS)])];
        scripts.push((format!("Sync, Flush, {reset}"), waited_for(write(&[extended(ROWS), sync(), flush()]))));
        scripts.push((format!("Flush, {reset}"), waited_for(write(&[flush()]))));
        scripts.push((format!("unsynced, {reset}"), waited_for(write(&[extended(ROWS), query(ROWS)]))));
        scripts
            .push((format!("flushed, {reset}"), waited_for(write(&[extended(ROWS), flush(), query(ROWS), flush()]))));
    }
    assert_as_on_ones_own(&scripts).await;
}
