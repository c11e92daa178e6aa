//! Resolvers, by the worked example of `docs/resolvers.md`: who created a document, who was granted it, whose team has it, and
//! who administers its organisation may see it.

use std::collections::BTreeMap;

use support::resolving::{INSTALL, KEY, file, file_of, site};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Cluster, Mode, SHOP, TestProxy, TestResult, auth_file, eventually, mode, proxy_for};

/// Who sees which documents: the user name's tenant and user, and the documents' ids.
const SEEN: &[(&str, &[i32])] = &[
    // The creator of 1, of team red.
    ("acme:1", &[1, 2]),
    // Was granted 3.
    ("acme:2", &[3]),
    // Administers acme.
    ("acme:3", &[1, 2, 3]),
    // A member, and that is all.
    ("acme:4", &[]),
    ("globex:5", &[9]),
];

/// Whose context is signed, and who asks.
fn variants() -> Vec<Vec<(&'static str, &'static str)>> {
    let own: &[(&str, &str)] = &[];
    let account: &[(&str, &str)] = &[("resolver_user", "resolver"), ("resolver_password", "secret")];
    let signed: &[(&str, &str)] = &[("context_signing_key", KEY)];
    vec![own.to_vec(), account.to_vec(), signed.to_vec(), [signed, account].concat()]
}

async fn proxy(own: &Cluster, resolvers: &str, options: &[(&str, &str)]) -> TestProxy {
    let path = resolvers.to_owned();
    let all = [&[("context_variables", "app.current_tenant_id,app.user_id"), ("resolvers", &path)], options].concat();
    proxy_for(&own.postgres, &all).await.expect("the proxy starts")
}

async fn documents(client: &Client) -> Vec<i32> {
    let rows = client.query("SELECT id FROM docs ORDER BY id", &[]).await.expect("documents");
    rows.iter().map(|row| row.get(0)).collect()
}

/// A login of a member with these options.
async fn connect(proxy: &TestProxy, options: &str) -> Result<Client, tokio_postgres::Error> {
    let mut config = proxy.config("app_user.acme:4");
    let (client, connection) = config.options(options).connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn each_user_sees_what_a_path_leads_to() -> TestResult {
    let (own, admin) = site().await;
    let resolvers = file("");
    for options in variants() {
        if options.contains(&("context_signing_key", KEY)) {
            admin.batch_execute(INSTALL).await?;
        }
        let proxy = proxy(&own, resolvers.path(), &options).await;
        for (user, seen) in SEEN {
            let client = proxy.log_in(&format!("app_user.{user}")).await;
            assert_eq!(documents(&client).await, *seen, "{user} {options:?}");
            // What has been found outlives a reset, as the tenant does, where messages are seen.
            if mode() != Mode::Raw {
                client.batch_execute("RESET ALL").await?;
                assert_eq!(documents(&client).await, *seen, "{user} {options:?}, after RESET ALL");
            }
        }
        let error = proxy.try_log_in("app_user.acme:5").await.map(drop).expect_err("of another organisation");
        let error = error.as_db_error().expect("the proxy's");
        assert_eq!(error.code(), &SqlState::INVALID_AUTHORIZATION_SPECIFICATION);
        assert_eq!(error.message(), "pgvpd: the resolver \"org_membership\" found nothing for this login");
        let error = proxy.try_log_in("app_user.acme:").await.map(drop).expect_err("without a user");
        assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
        // No trace of it on a connection of a pool.
        let blank = proxy.log_in("app_user.acme:4").await;
        assert_eq!(documents(&blank).await, [0; 0]);
    }
    Ok(())
}

#[tokio::test]
async fn a_client_can_neither_set_what_resolvers_give_nor_redirect_them() -> TestResult {
    let (own, admin) = site().await;
    admin
        .batch_execute(
            "CREATE SCHEMA evil AUTHORIZATION app_user;
             CREATE TABLE evil.members (LIKE members); INSERT INTO evil.members VALUES ('acme', 4, true);
             CREATE TABLE evil.team_members (LIKE team_members); GRANT SELECT ON ALL TABLES IN SCHEMA evil TO app_user, resolver;
             ALTER ROLE app_user SET search_path = evil, public; ALTER ROLE app_user SET app.admin_of = 'acme'",
        )
        .await?;
    let resolvers = file("");
    for options in variants() {
        if options.contains(&("context_signing_key", KEY)) {
            admin.batch_execute(INSTALL).await?;
        }
        let proxy = proxy(&own, resolvers.path(), &options).await;
        for startup in ["-c search_path=evil,public", "-c client_encoding=LATIN1 -c DateStyle=German"] {
            let client = connect(&proxy, startup).await.expect("it logs in");
            assert_eq!(documents(&client).await, [0; 0], "{startup} {options:?}");
        }
        // A signed context has what was found, and no setting says anything beside it.
        let client = proxy.log_in("app_user.acme:4").await;
        client.batch_execute("SET app.admin_of = 'acme'; SET app.team_ids = '{red}'").await?;
        let is_signed = options.contains(&("context_signing_key", KEY));
        assert_eq!(documents(&client).await.is_empty(), is_signed, "{options:?}");
        for startup in ["-c app.admin_of=acme", "-c App.Team-Ids={red}"] {
            let error = connect(&proxy, startup).await.map(drop).expect_err("refused");
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{startup}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn hostile_values_are_bound_and_come_through_as_they_are() -> TestResult {
    let (own, admin) = site().await;
    admin
        .batch_execute("CREATE TABLE echoes (word text, said text); GRANT SELECT ON echoes TO app_user, resolver")
        .await?;
    let resolvers = file(
        "[[resolver]]\nname = \"echo\"\nquery = \"SELECT $1 || '' AS said, (SELECT said FROM echoes WHERE word = $1::text) AS more\"\n\
         params = [\"app.user_id\"]\ninject = { \"app.said\" = \"said\", \"app.more\" = \"more\" }\n",
    );
    let words = ["'; DROP TABLE docs; --", "$$", "$1", "\\", "\\x27", "a\"b", "%s{}", "ünïcode ☃", "NULL", "\u{feff}"];
    for (word, more) in words.iter().zip(words.iter().cycle().skip(3)) {
        admin.execute("INSERT INTO members VALUES ('acme', $1, false)", &[word]).await?;
        admin.execute("INSERT INTO echoes VALUES ($1, $2)", &[word, more]).await?;
    }
    admin.execute("INSERT INTO members VALUES ('acme', 'long', false)", &[]).await?;
    for options in variants() {
        let proxy = proxy(&own, resolvers.path(), &options).await;
        if options.contains(&("context_signing_key", KEY)) {
            admin.batch_execute(INSTALL).await?;
        }
        for (word, more) in words.iter().zip(words.iter().cycle().skip(3)) {
            let client = proxy.log_in(&format!("app_user.acme:{word}")).await;
            let row = client.query_one("SELECT pgvpd_context('app.said'), pgvpd_context('app.more')", &[]).await?;
            assert_eq!((row.get(0), row.get(1)), (Some(*word), Some(*more)), "{options:?}");
        }
        for (bytes, is_let_in) in [(60_000, true), (70_000, false), (1 << 20, false)] {
            admin.batch_execute("DELETE FROM echoes WHERE word = 'long'").await?;
            admin.execute("INSERT INTO echoes VALUES ('long', repeat('x', $1))", &[&bytes]).await?;
            let logged_in = proxy.try_log_in("app_user.acme:long").await;
            match logged_in {
                Ok(client) if is_let_in => {
                    let row = client.query_one("SELECT length(pgvpd_context('app.more'))", &[]).await?;
                    assert_eq!(row.get::<_, Option<i32>>(0), Some(bytes));
                }
                Err(error) if !is_let_in => {
                    let error = error.as_db_error().expect("the proxy's");
                    assert_eq!(error.message(), "pgvpd: the resolver \"echo\" failed", "{bytes} {options:?}");
                }
                other => panic!("{bytes} bytes, {options:?}: {:?}", other.map(drop)),
            }
        }
    }
    assert_eq!(admin.query("SELECT FROM docs", &[]).await?.len(), 4);
    Ok(())
}

/// Only a database of bytes has any: PostgreSQL converts nothing there.
#[tokio::test]
async fn bytes_that_are_no_text_are_no_context() -> TestResult {
    let (own, admin) = site().await;
    admin
        .batch_execute("CREATE DATABASE bytes ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
        .await?;
    let bytes = own.postgres.connect("bytes").await?;
    bytes.batch_execute(pgvpd_core::sql::SETUP).await?;
    bytes
        .batch_execute(
            "CREATE TABLE words (id text, word text); GRANT SELECT ON words TO app_user, resolver;
             INSERT INTO words VALUES ('1', E'\\xff\\xfe'), ('2', 'fine')",
        )
        .await?;
    let file = file_of(
        "[[resolver]]\nname = \"word\"\nquery = \"SELECT word FROM words WHERE id = $1\"\nparams = [\"app.user_id\"]\n\
         inject = { \"app.word\" = \"word\" }\n",
    );
    for options in variants().into_iter().take(2) {
        let proxy = proxy(&own, file.path(), &options).await;
        let log_in = async |user: &str| {
            let mut config = proxy.config(&format!("app_user.acme:{user}"));
            let (client, connection) = config.dbname("bytes").connect(tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            client.query_one("SELECT pgvpd_context('app.word')", &[]).await.map(|row| row.get::<_, String>(0))
        };
        let error = log_in("1").await.expect_err("no text");
        let error = error.as_db_error().expect("the proxy's");
        assert_eq!(error.message(), "pgvpd: the resolver \"word\" failed");
        assert_eq!(log_in("2").await?, "fine");
    }
    Ok(())
}

/// What is found, or the code and some words of the refusal.
type Expected = Result<Option<&'static str>, (SqlState, &'static str)>;

/// Each row of the contract's table, and what else can go wrong with a query.
#[tokio::test]
async fn what_cannot_be_resolved_ends_the_login_and_says_so() -> TestResult {
    let (own, admin) = site().await;
    admin
        .batch_execute(
            "CREATE TABLE gone (x text); GRANT SELECT ON gone TO app_user, resolver;
             CREATE TABLE many (x text); INSERT INTO many SELECT i::text FROM generate_series(1, 10000) i;
             GRANT SELECT ON many TO app_user, resolver",
        )
        .await?;
    let of = |query: &str, more: &str| {
        file(&format!(
            "[[resolver]]\nname = \"more\"\nquery = \"\"\"{query}\"\"\"\nparams = [\"app.user_id\"]\n\
             inject = {{ \"app.more\" = \"x\" }}\n{more}\n"
        ))
    };
    let cases: BTreeMap<&str, (_, Expected)> = [
        ("no row", of("SELECT 'v' AS x WHERE $1 = ''", ""), Ok(None)),
        ("NULL", of("SELECT NULL AS x WHERE $1 <> ''", ""), Ok(None)),
        ("10,000 rows", of("SELECT x FROM many WHERE $1 <> '' ORDER BY x::int", ""), Ok(Some("1"))),
        (
            "no row, required",
            of("SELECT 'v' AS x WHERE $1 = ''", "required = true"),
            Err((SqlState::INVALID_AUTHORIZATION_SPECIFICATION, "found nothing")),
        ),
        ("an error", of("SELECT 1 / (length($1) - 1) AS x", ""), Err((SqlState::CONNECTION_FAILURE, "failed"))),
        ("no such column", of("SELECT $1 || 'x' AS y", ""), Err((SqlState::CONNECTION_FAILURE, "failed"))),
        (
            "no such table",
            of("SELECT x FROM nowhere WHERE $1 <> ''", ""),
            Err((SqlState::CONNECTION_FAILURE, "failed")),
        ),
        ("a type", of("SELECT $1::uuid AS x", ""), Err((SqlState::CONNECTION_FAILURE, "failed"))),
        ("two statements", of("SELECT $1 AS x; SELECT 1", ""), Err((SqlState::CONNECTION_FAILURE, "failed"))),
        ("hangs", of("SELECT pg_sleep(60)::text AS x WHERE $1 <> ''", ""), Err((SqlState::QUERY_CANCELED, "in time"))),
    ]
    .into_iter()
    .map(|(name, file, expected)| (name, (file, expected)))
    .collect();
    for options in variants() {
        if options.contains(&("context_signing_key", KEY)) {
            admin.batch_execute(INSTALL).await?;
        }
        for (name, (file, expected)) in &cases {
            let options = [&options[..], &[("resolver_timeout", if *name == "hangs" { "0.2" } else { "5" })]].concat();
            let proxy = proxy(&own, file.path(), &options).await;
            let logged_in = proxy.try_log_in("app_user.acme:1").await;
            match (logged_in, expected) {
                (Ok(client), Ok(expected)) => {
                    let row = client.query_one("SELECT pgvpd_context('app.more')", &[]).await?;
                    assert_eq!(row.get::<_, Option<&str>>(0), *expected, "{name} {options:?}");
                    assert_eq!(documents(&client).await, [1, 2], "{name} {options:?}");
                }
                (Err(error), Err((code, words))) => {
                    let error = error.as_db_error().expect("the proxy's");
                    assert_eq!(error.code(), code, "{name} {options:?}: {error:?}");
                    let message = error.message();
                    assert!(message.contains("the resolver \"more\"") && message.contains(words), "{name}: {message}");
                    assert!(!format!("{error:?}").contains("SELECT"), "the query is nobody's business: {error:?}");
                }
                (logged_in, expected) => panic!("{name} {options:?}: {:?}, {expected:?}", logged_in.map(drop)),
            }
        }
        // A table that vanishes while the proxy runs, and comes back.
        let file = of("SELECT x FROM gone WHERE $1 <> ''", "");
        let proxy = proxy(&own, file.path(), &options).await;
        drop(proxy.log_in("app_user.acme:1").await);
        admin.batch_execute("ALTER TABLE gone RENAME TO away").await?;
        let error = proxy.try_log_in("app_user.acme:1").await.map(drop).expect_err("no table");
        assert_eq!(error.code(), Some(&SqlState::CONNECTION_FAILURE));
        admin.batch_execute("ALTER TABLE away RENAME TO gone").await?;
        assert_eq!(documents(&proxy.log_in("app_user.acme:1").await).await, [1, 2]);
    }
    Ok(())
}

#[tokio::test]
async fn a_database_that_does_not_exist_is_the_servers_to_name() -> TestResult {
    let (own, _admin) = site().await;
    let resolvers = file("");
    let proxy = proxy(&own, resolvers.path(), &[("resolver_user", "resolver"), ("resolver_password", "secret")]).await;
    let mut config = proxy.config("app_user.acme:1");
    let error = config.dbname("nowhere").connect(tokio_postgres::NoTls).await.map(drop).expect_err("no such database");
    assert_eq!(error.code(), Some(&SqlState::INVALID_CATALOG_NAME), "{error:?}");
    Ok(())
}

/// Who is refused again and again does not keep a pool making connections.
#[tokio::test]
async fn a_refused_login_leaves_its_connection_to_others() -> TestResult {
    let (own, admin) = site().await;
    let resolvers = file("");
    let mine = "SELECT pid FROM pg_stat_activity WHERE usename = 'app_user' ORDER BY pid";
    for signed in [false, true] {
        if signed {
            admin.batch_execute(INSTALL).await?;
        }
        let key: &[(&str, &str)] = if signed { &[("context_signing_key", KEY)] } else { &[] };
        let auth_file = auth_file().display().to_string();
        let pool = [("pool_mode", "session"), ("auth_file", &auth_file), ("pool_size", "1")];
        let proxy = proxy(&own, resolvers.path(), &[&pool, key].concat()).await;
        assert_eq!(documents(&proxy.log_in("app_user.acme:1").await).await, [1, 2]);
        let pids = async || {
            let rows = admin.query(mine, &[]).await.expect("asked");
            rows.iter().map(|row| row.get(0)).collect::<Vec<i32>>()
        };
        let before = pids().await;
        for _ in 0..5 {
            let error = proxy.try_log_in("app_user.acme:5").await.map(drop).expect_err("no member");
            assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
        }
        assert_eq!(documents(&proxy.log_in("app_user.acme:2").await).await, [3]);
        assert_eq!(pids().await, before);
        proxy.handle.shutdown(std::time::Duration::from_secs(5)).await;
        eventually("the pool is closed", async || pids().await.is_empty()).await;
    }
    Ok(())
}

#[tokio::test]
async fn membership_can_be_closed_to_tenants() -> TestResult {
    let (own, admin) = site().await;
    admin.batch_execute("REVOKE ALL ON members, team_members, doc_grants FROM app_user").await?;
    let resolvers = file("");
    let options = [("resolver_user", "resolver"), ("resolver_password", "secret")];
    let proxy = proxy(&own, resolvers.path(), &options).await;
    let client = proxy.log_in("app_user.acme:1").await;
    assert_eq!(documents(&client).await, [1, 2]);
    let refused = client.query("SELECT FROM members", &[]).await.expect_err("closed");
    assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE));
    assert_eq!(client.query_one("SELECT current_database()", &[]).await?.get::<_, &str>(0), SHOP);
    Ok(())
}
