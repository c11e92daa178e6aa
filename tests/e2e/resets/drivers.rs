//! The bytes with which the pools of drivers give a connection back, or take it again.

use super::setups::assert_as_on_ones_own;
use super::simple::{INSERT, ROWS};
use crate::support::script::{bind, describe, execute, extended, flush, parse, query, sync, write};

/// Npgsql writes one of these ahead of the first command of a connection that is used again, in the same write.
const NPGSQL: [&str; 2] = [
    "DISCARD ALL",
    // Where statements are prepared, which DISCARD ALL would take away.
    "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD SEQUENCES;DISCARD TEMP",
];

/// asyncpg's `Connection.get_reset_query`, as its pool sends it on release; the second for one in a transaction.
const ASYNCPG: [&str; 2] = [
    "SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
    "ROLLBACK;\nSELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;",
];

/// deadpool-postgres, `RecyclingMethod::Clean`.
const DEADPOOL: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; SELECT pg_advisory_unlock_all(); \
                        DISCARD TEMP; DISCARD SEQUENCES;";

#[tokio::test]
async fn what_a_pool_sends_as_a_simple_query_loses_nothing() {
    let mut scripts = Vec::new();
    let resets = NPGSQL.iter().chain(&ASYNCPG).chain([
        &DEADPOOL,
        // ActiveRecord's `reset!`, after a ROLLBACK of its own where a transaction is open.
        &"DISCARD ALL",
        // What SQLAlchemy and psycopg2 send.
        &"ROLLBACK",
        &"CLOSE ALL; RESET ALL",
        // Odyssey, between an application and this proxy.
        &"SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();DISCARD PLANS;\
          DISCARD SEQUENCES;DISCARD TEMP;",
        &"RESET ALL; SET SESSION AUTHORIZATION DEFAULT",
    ]);
    for reset in resets {
        let next = [extended(ROWS), sync()].concat();
        for (name, follows) in [("a Query", query(ROWS)), ("an extended query", next)] {
            scripts.push((format!("{reset} and {name} in one write"), vec![write(&[query(reset), follows.clone()])]));
            scripts.push((format!("{reset}, then {name}"), vec![write(&[query(reset)]), write(&[follows])]));
        }
        let transaction = [query(reset), query("BEGIN ISOLATION LEVEL REPEATABLE READ"), query(INSERT), query(ROWS)];
        scripts.push((
            format!("{reset} and a transaction"),
            vec![write(&transaction), write(&[query("ROLLBACK"), query(ROWS)])],
        ));
        let in_one = [query("BEGIN"), query(ROWS), query("ROLLBACK"), query(reset), query(ROWS)];
        scripts.push((format!("ROLLBACK, {reset}"), vec![write(&in_one)]));
    }
    assert_as_on_ones_own(&scripts).await;
}

/// Npgsql's second command of a batch is behind the first one's Sync, or before it.
#[tokio::test]
async fn npgsqls_batches_after_a_reset_see_the_tenants_rows() {
    let mut scripts = Vec::new();
    for reset in NPGSQL {
        let command = |sql: &str| [parse("", sql), bind("", ""), describe(""), execute("")].concat();
        let batch = [query(reset), command(ROWS), command(ROWS), sync()];
        scripts.push((format!("{reset}, a batch"), vec![write(&batch), write(&batch)]));
        // A transaction's BEGIN is prepended to its first command, behind the reset.
        let begin = [query(reset), query("BEGIN TRANSACTION ISOLATION LEVEL SERIALIZABLE"), command(INSERT), sync()];
        scripts
            .push((format!("{reset}, a transaction"), vec![write(&begin), write(&[query("ROLLBACK")]), write(&batch)]));
        let prepare = write(&[parse("_p1", ROWS), describe_statement("_p1"), sync()]);
        if !reset.starts_with("DISCARD") {
            let run = [query(reset), bind("", "_p1"), execute(""), sync()];
            scripts.push((format!("{reset}, a prepared statement"), vec![prepare, write(&run), write(&run)]));
        }
    }
    assert_as_on_ones_own(&scripts).await;
}

fn describe_statement(name: &str) -> Vec<u8> {
    let size = u32::try_from(name.len() + 6).expect("short");
    [b"D", &size.to_be_bytes()[..], b"S", name.as_bytes(), b"\0"].concat()
}

/// pgjdbc, which HikariCP gives connections back through, and psycopg 3 send all of them by the extended protocol.
#[tokio::test]
async fn what_a_pool_sends_by_the_extended_protocol_loses_nothing() {
    let mut scripts = Vec::new();
    for reset in ["DISCARD ALL", "RESET ALL", "DISCARD SEQUENCES", "SET SESSION AUTHORIZATION DEFAULT", "SET ROLE NONE"]
    {
        // pgjdbc: the Describe between; BEGIN and the first statement in one write.
        let begin = [parse("S_1", "BEGIN"), bind("", "S_1"), execute("")].concat();
        let first = [begin, extended(INSERT), sync()].concat();
        scripts.push((
            format!("pgjdbc, {reset}"),
            vec![
                write(&[extended(reset), sync()]),
                write(&[first, extended(ROWS), sync()]),
                write(&[extended("ROLLBACK"), sync()]),
                write(&[
                    extended("SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE"),
                    sync(),
                    extended(ROWS),
                    sync(),
                ]),
            ],
        ));
        // psycopg 3: a pipeline is `Sync, Flush` at its end, its pool's `reset` a statement of its own.
        scripts.push((
            format!("psycopg, {reset}"),
            vec![
                write(&[extended("BEGIN"), extended(INSERT), extended(ROWS), extended("ROLLBACK"), sync(), flush()]),
                write(&[extended(reset), sync()]),
                write(&[extended(ROWS), sync()]),
                write(&[extended("BEGIN"), sync(), extended(ROWS), sync(), extended("COMMIT"), sync(), flush()]),
                write(&[query(reset)]),
                write(&[query(ROWS)]),
            ],
        ));
    }
    assert_as_on_ones_own(&scripts).await;
}
