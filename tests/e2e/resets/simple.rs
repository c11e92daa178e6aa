//! Resets by the simple query protocol.

use super::setups::{assert_as_on_ones_own, own_connection};
use crate::support::script::{Write, query, write};

/// What tells whose session this is, and what it sees.
pub(super) const ROWS: &str = "SELECT current_tenant_id(), count(*), min(tenant_id), max(tenant_id) FROM notes";

/// A write that the tenant's policy lets pass under its context alone.
pub(super) const INSERT: &str = "INSERT INTO notes (tenant_id, body) VALUES ('acme', 'new')";

const RESETS: &[&str] = &[
    "RESET ALL",
    "reset/* all */all;",
    "-- the pool's\nRESET ALL;",
    "RESET app.current_tenant_id",
    "RESET \"app.current_tenant_id\"",
    "SET app.current_tenant_id TO DEFAULT",
    "SET SESSION app.current_tenant_id = DEFAULT",
    "DISCARD ALL",
    "DISCARD SEQUENCES",
    "DISCARD TEMP",
    "RESET ROLE",
    "SET ROLE NONE",
    "RESET SESSION AUTHORIZATION",
    "SET SESSION AUTHORIZATION DEFAULT",
    "SELECT 1; RESET ALL",
    "BEGIN; RESET ALL; COMMIT",
    "BEGIN; RESET ALL; ROLLBACK",
    "SET work_mem = '1MB'; RESET ALL; SET work_mem = 'much'",
    "RESET work_mem",
];

#[tokio::test]
async fn the_tenants_rows_come_after_them_however_they_are_written() {
    assert!(own_connection().await.play(&[write(&[query(ROWS)])]).await.concat().contains("acme"), "it has rows");
    let mut scripts = Vec::new();
    for reset in RESETS {
        scripts.push((format!("{reset}, waited for"), vec![write(&[query(reset)]), write(&[query(ROWS)])]));
        scripts.push((format!("{reset}, in one write"), vec![write(&[query(reset), query(ROWS)])]));
        scripts.push((
            format!("{reset}, in the middle"),
            vec![write(&[query(ROWS), query(reset), query(ROWS), query(reset), query(reset), query(ROWS)])],
        ));
        let transaction = [query(reset), query("BEGIN"), query(INSERT), query(ROWS), query("ROLLBACK"), query(ROWS)];
        scripts.push((format!("{reset}, before a transaction"), vec![write(&transaction)]));
    }
    assert_as_on_ones_own(&scripts).await;
}

/// The same messages in one write, and each waited for.
fn both_ways(scripts: &mut Vec<(String, Vec<Write>)>, statements: &[&str]) {
    let messages: Vec<_> = statements.iter().map(|sql| query(sql)).collect();
    scripts.push((format!("{statements:?}, in one write"), vec![write(&messages)]));
    let waited_for = messages.iter().map(|message| write(std::slice::from_ref(message))).collect();
    scripts.push((format!("{statements:?}, each waited for"), waited_for));
}

#[tokio::test]
async fn a_transaction_goes_on_after_them_under_the_context() {
    const SERIALIZABLE: &str = "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE";
    let mut scripts = Vec::new();
    for reset in
        ["RESET ALL", "RESET app.current_tenant_id", "DISCARD SEQUENCES", "SET app.current_tenant_id TO DEFAULT"]
    {
        for statements in [
            &["BEGIN", reset, INSERT, ROWS, "ROLLBACK", ROWS][..],
            &["BEGIN", reset, SERIALIZABLE, INSERT, ROWS, "SHOW transaction_isolation", "ROLLBACK", ROWS],
            &[
                "BEGIN",
                reset,
                "SET LOCAL lock_timeout = '1s'",
                "SET TRANSACTION READ ONLY, DEFERRABLE",
                ROWS,
                "COMMIT",
                ROWS,
            ],
            &[
                "BEGIN",
                "SAVEPOINT a",
                reset,
                "SAVEPOINT b",
                ROWS,
                "ROLLBACK TO b",
                ROWS,
                "ROLLBACK TO a",
                ROWS,
                "COMMIT",
                ROWS,
            ],
            &[
                "BEGIN",
                reset,
                "SAVEPOINT a",
                ROWS,
                "SELECT 1/0",
                ROWS,
                "ROLLBACK TO a",
                ROWS,
                "RELEASE a",
                INSERT,
                "ABORT",
                ROWS,
            ],
            &["BEGIN", ROWS, reset, "SELECT 1/0", ROWS, "COMMIT", ROWS],
            &["BEGIN", reset, ROWS, "COMMIT AND CHAIN", reset, ROWS, "ROLLBACK AND CHAIN", ROWS, "COMMIT", ROWS],
            &["BEGIN", reset, reset, ROWS, reset, ROWS, "COMMIT", ROWS],
        ] {
            both_ways(&mut scripts, statements);
        }
    }
    both_ways(&mut scripts, &["BEGIN", ROWS, "DISCARD ALL", ROWS, "ROLLBACK", ROWS]);
    both_ways(&mut scripts, &["BEGIN; RESET ALL", SERIALIZABLE, INSERT, ROWS, "ROLLBACK", ROWS]);
    both_ways(
        &mut scripts,
        &["BEGIN; RESET ALL; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", INSERT, ROWS, "ROLLBACK"],
    );
    assert_as_on_ones_own(&scripts).await;
}

/// A COMMIT that fails takes the transaction back, and with it what was put back inside.
#[tokio::test]
async fn a_commit_that_fails_does_not_lose_it() {
    let mut scripts = Vec::new();
    for reset in ["RESET ALL", "DISCARD SEQUENCES"] {
        let deferred = "CREATE TEMP TABLE t (i int UNIQUE DEFERRABLE INITIALLY DEFERRED)";
        both_ways(&mut scripts, &[deferred, "BEGIN", reset, ROWS, "INSERT INTO t VALUES (1), (1)", "COMMIT", ROWS]);
    }
    assert_as_on_ones_own(&scripts).await;
}

/// What only looks like a reset changes nothing, whether or not the proxy waits for it.
#[tokio::test]
async fn the_word_alone_is_no_reset() {
    let mut scripts = Vec::new();
    for sql in [
        "SELECT 'RESET ALL; ' AS reset; SELECT body FROM notes ORDER BY id",
        "SELECT 1 AS discard; SELECT $$; DISCARD ALL;$$, $x$; RESET ALL; $x$ -- ; RESET ALL;\n; SELECT body FROM notes",
        "/* ; RESET ALL; /* ; */ RESET ALL; */ SELECT body FROM notes ORDER BY id",
        "SELECT E'\\'; RESET ALL; SELECT ' AS \"; RESET ALL;\", count(*) FROM notes",
        "RESET work_mem; SELECT count(*) FROM notes",
        "RESET \"work_mem\"; SELECT count(*) FROM notes",
        "SET work_mem TO DEFAULT; SELECT count(*) FROM notes",
        "RESET ALL; ROLLBACK; SELECT count(*) FROM notes",
        "BEGIN; RESET ALL; ROLLBACK; SELECT count(*) FROM notes",
        "RESET ALL; SELECT 'no end",
    ] {
        both_ways(&mut scripts, &[sql, ROWS]);
    }
    assert_as_on_ones_own(&scripts).await;
}

/// A statement that waits for the client's data is given it, whatever else stands in the query.
#[tokio::test]
async fn a_copy_before_one_in_the_same_query_gets_its_data() {
    let copy = |sql: &str| [query(sql), copy_data("reset\n"), copy_done()].concat();
    let scripts = [
        ("before", write(&[copy("COPY uploads FROM STDIN; RESET ALL"), query(ROWS)])),
        (
            "in a transaction",
            write(&[query("BEGIN"), copy("RESET work_mem; COPY uploads FROM STDIN"), query("ROLLBACK"), query(ROWS)]),
        ),
    ];
    let uploads = "CREATE TEMP TABLE uploads (body text)";
    let scripts = scripts.map(|(name, last)| (name.to_owned(), vec![write(&[query(uploads)]), last]));
    assert_as_on_ones_own(&scripts).await;
}

fn copy_data(text: &str) -> Vec<u8> {
    let size = u32::try_from(text.len() + 4).expect("short");
    [b"d", &size.to_be_bytes()[..], text.as_bytes()].concat()
}

fn copy_done() -> Vec<u8> {
    b"c\0\0\0\x04".to_vec()
}
