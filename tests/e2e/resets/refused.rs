//! Statements after a reset in the same query, where nothing can stand between.

use super::setups::setups;
use super::simple::{INSERT, ROWS};
use crate::support::script::{extended, flush, query, sync, write};
use crate::support::{Mode, PgError, WireClient, mode};

/// The next answers up to ReadyForQuery: the error, and the status.
async fn refusal(client: &mut WireClient) -> (PgError, Vec<u8>) {
    let error = client.error().await;
    let (tag, status) = client.message().await.expect("ReadyForQuery");
    assert_eq!(tag, b'Z', "nothing more of the query");
    (error, status)
}

fn assert_refused((error, status): (PgError, Vec<u8>), expected: &[u8], sql: &str) {
    assert_eq!((&*error.severity, &*error.code), ("ERROR", "0A000"), "{sql}: {error:?}");
    assert!(error.message.starts_with("pgvpd: ") && error.hint.contains("on its own"), "{sql}: {error:?}");
    assert_eq!(status, expected, "{sql}");
}

/// In the raw relay, and where the context is what settings fall back to, PostgreSQL itself does what is right.
#[tokio::test]
async fn what_would_see_no_rows_is_refused_before_anything_runs() {
    for setup in setups(&[]).await.iter().filter(|setup| !matches!(setup.name, "raw" | "framed")) {
        let mut client = setup.log_in().await;
        let setting = if setup.name.contains("signed") { "pgvpd.context" } else { "app.current_tenant_id" };
        for sql in [
            format!("RESET ALL; {ROWS}"),
            format!("SET work_mem = '1MB'; reset all;{INSERT};"),
            format!("CREATE TEMP TABLE t(); RESET {setting}; {ROWS}"),
            format!("BEGIN; RESET ALL; COMMIT; {ROWS}"),
            format!("SET SESSION AUTHORIZATION DEFAULT;RESET ALL;SELECT pg_advisory_unlock_all(); {ROWS}"),
        ] {
            client.query(&sql).await;
            assert_refused(refusal(&mut client).await, b"I", &format!("{sql}, {}", setup.name));
        }
        assert_eq!(client.value("SELECT to_regclass('pg_temp.t') IS NULL").await, "t", "nothing has run");
        assert_eq!(client.value("SELECT count(*) FROM notes").await, "3");
    }
}

#[tokio::test]
async fn a_refusal_aborts_the_transaction_and_keeps_its_place() {
    for setup in setups(&[]).await.iter().filter(|setup| !matches!(setup.name, "raw" | "framed")) {
        let mut client = setup.log_in().await;
        let sql = format!("RESET ALL; {ROWS}");
        client.query("BEGIN").await;
        client.until(b'Z').await;
        client.query(&sql).await;
        assert_refused(refusal(&mut client).await, b"E", setup.name);
        client.query(ROWS).await;
        assert_eq!(client.error().await.code, "25P02");
        client.until(b'Z').await;
        client.query("ROLLBACK").await;
        client.until(b'Z').await;

        // Before it and after it in one write, by both protocols.
        let answers = client
            .play(&[
                write(&[query(ROWS), query(&sql), query(ROWS)]),
                write(&[extended(ROWS), sync(), flush(), query(&sql), extended(ROWS), sync()]),
                write(&[query("BEGIN"), query(&sql), query("ROLLBACK"), query(ROWS)]),
            ])
            .await;
        let kinds: String = answers.iter().filter_map(|answer| answer.chars().next()).collect();
        assert_eq!(kinds, "TDCZEZTDCZ12TDCZEZ12TDCZCZEZCZTDCZ", "{}: {answers:#?}", setup.name);
        let rows: Vec<_> = answers.iter().filter(|answer| answer.starts_with('D')).collect();
        assert!(rows.windows(2).all(|pair| pair[0] == pair[1]), "{}: {rows:?}", setup.name);
        let status: Vec<_> = answers.iter().filter_map(|answer| answer.strip_prefix("Z ")).collect();
        assert_eq!(status.concat(), "IIIIIITEII", "{}", setup.name);

        // Unsynced before it: PostgreSQL takes back what the query's error comes after.
        let answers = client.play(&[write(&[extended(INSERT), query(&sql), query(ROWS)])]).await;
        assert!(answers.concat().contains("0A000"), "{answers:?}");
        assert_eq!(answers.iter().rfind(|answer| answer.starts_with('D')), rows.last().copied(), "{}", setup.name);
    }
}

/// A reset that no text shows is not put back before what follows it in the same write: there are no rows then, and never
/// another tenant's.
#[tokio::test]
async fn a_reset_that_nothing_shows_leaves_no_rows_until_the_next() {
    if mode() == Mode::Raw {
        return;
    }
    for setup in setups(&[]).await.iter().filter(|setup| setup.name != "framed") {
        let mut client = setup.log_in().await;
        let hidden = "DO $$ BEGIN EXECUTE 'RESET ALL'; END $$";
        let answers = client.play(&[write(&[query(hidden), query("SELECT tenant_id FROM notes")])]).await;
        assert!(!answers.iter().any(|answer| answer.starts_with('D')), "{}: {answers:?}", setup.name);
        let answers = client.play(&[write(&[query("RESET ALL"), query("SELECT tenant_id FROM notes")])]).await;
        assert_eq!(answers.iter().filter(|answer| answer.starts_with("D ")).count(), 3, "{}: {answers:?}", setup.name);
    }
}
