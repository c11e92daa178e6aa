//! Does `sql/hardening.sql` close what sessions of one role can see of each other, and leave what they need?

use pgvpd_core::sql::{HARDENING, SETUP};
use tokio_postgres::error::SqlState;

use crate::support::{TestDatabase, TestResult, catalog, database_with, refusal, session};

/// What a session of a tenant's could do to another one's, or learn of it.
const CHANNELS: &[&str] = &[
    "SELECT query FROM pg_stat_activity",
    "SELECT pg_stat_get_activity(NULL)",
    "SELECT pg_stat_get_backend_activity(1)",
    "SELECT pg_stat_get_backend_pid(1)",
    "SELECT pg_stat_get_backend_xact_start(1)",
    "SELECT pg_stat_get_backend_wait_event(1)",
    "SELECT pg_stat_get_backend_client_addr(1)",
    "SELECT pg_current_wal_lsn()",
    "SELECT pg_current_wal_insert_lsn()",
    "SELECT wal_bytes FROM pg_stat_wal",
    "SELECT * FROM pg_replication_slots",
    "SELECT pg_cancel_backend(0)",
    "SELECT pg_terminate_backend(0)",
    "SELECT * FROM pg_locks",
    "SELECT * FROM pg_prepared_xacts",
    "SELECT pg_advisory_lock(1)",
    "SELECT pg_try_advisory_xact_lock(1)",
    "SELECT lo_create(0)",
    "SELECT lo_get(1)",
    "SELECT * FROM pg_largeobject_metadata",
    "CREATE TEMP TABLE t ()",
];

#[tokio::test]
async fn a_hardened_database_closes_the_channels_that_are_open_before() -> TestResult {
    let (db, admin) = database_with(&[SETUP]).await;
    let before = session(&db, "acme").await?;
    let mut open = 0;
    for channel in CHANNELS {
        open += usize::from(refusal(&before, channel).await != Some(SqlState::INSUFFICIENT_PRIVILEGE));
    }
    assert_eq!(open, CHANNELS.len(), "each is open without it");
    drop(before);
    admin.batch_execute(HARDENING).await?;
    let after = session(&db, "acme").await?;
    for channel in CHANNELS {
        assert_eq!(refusal(&after, channel).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{channel}");
    }
    // What clients' pools send, and what the verifier needs.
    after.batch_execute("SELECT pg_advisory_unlock_all(); DISCARD ALL").await.expect_err("not in one transaction");
    after.batch_execute("SELECT pg_advisory_unlock_all()").await?;
    after.batch_execute("DISCARD ALL").await?;
    let start: i64 = after.query_one("SELECT (pgvpd.attach()).backend_start_us", &[]).await?.get(0);
    assert!(start > 0, "the verifier still sees when the session began");
    Ok(())
}

#[tokio::test]
async fn no_function_by_backend_number_is_left_to_tenants() -> TestResult {
    let (_db, admin) = database_with(&[SETUP, HARDENING]).await;
    let open = "SELECT coalesce(string_agg(oid::regprocedure::text, ', '), '') FROM pg_proc
        WHERE proname LIKE 'pg_stat_get_backend_%' AND has_function_privilege('app_user', oid, 'EXECUTE')";
    assert_eq!(admin.query_one(open, &[]).await?.get::<_, &str>(0), "");
    Ok(())
}

#[tokio::test]
async fn pg_stat_statements_is_closed_where_it_is_installed() -> TestResult {
    let (db, admin) = database_with(&[SETUP]).await;
    // A build without contrib does not have it.
    if admin
        .batch_execute(
            "CREATE SCHEMA ext; CREATE EXTENSION pg_stat_statements SCHEMA ext; GRANT USAGE ON SCHEMA ext TO PUBLIC",
        )
        .await
        .is_err()
    {
        return Ok(());
    }
    let tenant = session(&db, "acme").await?;
    let channels = ["SELECT * FROM ext.pg_stat_statements", "SELECT * FROM ext.pg_stat_statements(true)"];
    for channel in channels {
        assert_ne!(refusal(&tenant, channel).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "open before: {channel}");
    }
    admin.batch_execute(HARDENING).await?;
    for channel in channels {
        assert_eq!(refusal(&tenant, channel).await, Some(SqlState::INSUFFICIENT_PRIVILEGE), "{channel}");
    }
    Ok(())
}

#[tokio::test]
async fn it_can_run_again_and_says_what_it_needs() -> TestResult {
    let (_db, admin) = database_with(&[SETUP]).await;
    admin.batch_execute(HARDENING).await?;
    let before = catalog(&admin).await?;
    admin.batch_execute(HARDENING).await?;
    assert_eq!(catalog(&admin).await?, before);
    let bare = TestDatabase::create().await;
    assert_eq!(refusal(&bare.admin().await, HARDENING).await, Some(SqlState::UNDEFINED_FUNCTION));
    admin.batch_execute("ROLLBACK; SET SESSION AUTHORIZATION app_user").await?;
    assert_eq!(refusal(&admin, HARDENING).await, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}
