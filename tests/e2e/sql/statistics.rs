//! What EXPLAIN tells of other tenants' rows by the planner's statistics, and what takes that away.

use pgvpd_core::sql::SETUP;
use tokio_postgres::{Client, error::SqlState};

use crate::support::{TestDatabase, TestResult, count, database_with, refusal, session};

type Read<T> = Result<T, Box<dyn std::error::Error>>;

const SECRET: &str = "TANGERINE";

/// One value of globex's stands in every second row, as a status, a plan or a country would.
const CUSTOMERS: &str = "
    CREATE TABLE customers (tenant_id text, secret text, born int);
    CREATE INDEX ON customers (tenant_id);
    INSERT INTO customers SELECT 'globex', 'TANGERINE', n FROM generate_series(1, 5000) n;
    INSERT INTO customers SELECT 'acme', md5(n::text), n FROM generate_series(1, 5000) n;
    ANALYZE customers;";

async fn installed() -> Read<(TestDatabase, Client)> {
    let (db, admin) = database_with(&[SETUP]).await;
    admin.batch_execute(CUSTOMERS).await?;
    Ok((db, admin))
}

/// How many rows the planner expects, whoever's they are.
async fn estimate(client: &Client, condition: &str) -> Read<u64> {
    let rows = client.query(&format!("EXPLAIN SELECT FROM customers WHERE {condition}"), &[]).await?;
    let plan: &str = rows[0].get(0);
    let rows = plan.split_once(" rows=").ok_or("no estimate")?.1;
    Ok(rows.split(' ').next().unwrap_or_default().parse()?)
}

/// The value that stands in most rows, letter by letter, by comparisons that are leakproof.
async fn read_by_estimates(client: &Client) -> Read<String> {
    let mut found = String::new();
    while found.len() < SECRET.len() {
        let below = |letter: u8| format!("secret COLLATE \"C\" < '{found}{}'", char::from(letter));
        let (mut low, mut high) = (b'A', b'Z');
        let base = estimate(client, &below(b'A')).await?;
        if estimate(client, &below(b'[')).await? <= base + 500 {
            break;
        }
        while low < high {
            let middle = low + (high - low) / 2;
            // Is it in the first half?
            if estimate(client, &below(middle + 1)).await? > base + 500 { high = middle } else { low = middle + 1 }
        }
        found.push(char::from(low));
    }
    Ok(found)
}

#[tokio::test]
async fn explain_reads_a_value_until_the_statistics_are_gone() -> TestResult {
    let (db, admin) = installed().await?;
    admin.batch_execute("SELECT pgvpd_protect('customers')").await?;
    let acme = session(&db, "acme").await?;
    assert_eq!(count(&acme, "customers WHERE secret = 'TANGERINE'").await?, 0);
    assert_eq!(read_by_estimates(&acme).await?, SECRET, "the limit that docs/security.md states");

    admin.batch_execute("SELECT pgvpd_hide_statistics('customers', 'secret'); ANALYZE customers").await?;
    let acme = session(&db, "acme").await?;
    assert_eq!(read_by_estimates(&acme).await?, "");
    let one = estimate(&acme, "secret < 'T'").await?;
    assert_eq!(estimate(&acme, "secret < 'U'").await?, one);
    Ok(())
}

#[tokio::test]
async fn protect_can_leave_only_the_tenants_column_its_statistics() -> TestResult {
    let (db, admin) = installed().await?;
    admin
        .batch_execute(
            "CREATE INDEX by_letter ON customers (lower(secret)); CREATE STATISTICS together ON secret, born FROM customers;
             CREATE TABLE parts (tenant_id text, born int) PARTITION BY LIST (tenant_id); CREATE TABLE part PARTITION OF parts DEFAULT;
             INSERT INTO parts SELECT 'globex', 7 FROM generate_series(1, 100); ANALYZE customers, parts",
        )
        .await?;
    let kept = "SELECT string_agg(concat_ws(' ', s.starelid::regclass, s.staattnum), ', ' ORDER BY s.starelid, s.staattnum) FROM pg_statistic s
                WHERE s.starelid IN ('customers'::regclass, 'by_letter'::regclass, 'parts'::regclass, 'part'::regclass)";
    let kept = async || -> Read<String> { Ok(admin.query_one(kept, &[]).await?.get(0)) };
    assert_eq!(kept().await?.split(", ").count(), 8);
    admin
        .batch_execute(
            "SELECT pgvpd_protect('customers', statistics => 'tenant'), pgvpd_protect('parts', statistics => 'tenant')",
        )
        .await?;
    assert_eq!(kept().await?, "customers 1, parts 1, part 1");
    assert_eq!(count(&admin, "pg_statistic_ext").await?, 0);
    admin.batch_execute("ANALYZE customers, parts").await?;
    assert_eq!(kept().await?, "customers 1, parts 1, part 1", "ANALYZE brings none back");
    let acme = session(&db, "acme").await?;
    assert_eq!(read_by_estimates(&acme).await?, "");
    Ok(())
}

#[tokio::test]
async fn columns_to_hide_have_to_be_there_and_the_caller_the_owner() -> TestResult {
    let (db, admin) = installed().await?;
    for (arguments, expected) in [
        ("'customers', 'nothing'", SqlState::UNDEFINED_COLUMN),
        ("'customers', 'ctid'", SqlState::UNDEFINED_COLUMN),
        ("'customers', NULL", SqlState::NULL_VALUE_NOT_ALLOWED),
        ("NULL, 'secret'", SqlState::NULL_VALUE_NOT_ALLOWED),
    ] {
        let refused = refusal(&admin, &format!("SELECT pgvpd_hide_statistics({arguments})")).await;
        assert_eq!(refused, Some(expected), "{arguments}");
    }
    let acme = session(&db, "acme").await?;
    let refused = refusal(&acme, "SELECT pgvpd_hide_statistics('customers', 'secret')").await;
    assert_eq!(refused, Some(SqlState::INSUFFICIENT_PRIVILEGE));
    Ok(())
}
