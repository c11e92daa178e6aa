//! What resolvers have found is used again only where it is the same question, and no longer than it is true.

use std::sync::Arc;

use pgvpd_core::{Config, Proxy, Resolver, ResolverStats, Settings};
use support::resolving::file_of;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{APP_PASSWORD, Cluster, SHOP, TestProxy, TestResult, eventually, proxy_for};

/// Beside the example: a sequence that counts how often it was asked.
const COUNTED: &str = "
    CREATE SEQUENCE asked; GRANT USAGE ON SEQUENCE asked TO app_user, resolver;
    CREATE TABLE plans (tenant_id text NOT NULL, plan text); INSERT INTO plans VALUES ('acme', 'gold'), ('globex', 'free');
    SELECT pgvpd_protect('plans'); GRANT SELECT ON plans TO app_user, resolver;";

async fn site() -> (Cluster, Client) {
    let (own, admin) = support::resolving::site().await;
    admin.batch_execute(COUNTED).await.expect("the counter");
    (own, admin)
}

const ACCOUNT: &[(&str, &str)] = &[("resolver_user", "resolver"), ("resolver_password", "secret")];
const NOTIFIED: &[(&str, &str)] =
    &[("resolver_user", "resolver"), ("resolver_password", "secret"), ("resolver_notify", "true")];

async fn proxy(own: &Cluster, path: &str, options: &[(&str, &str)]) -> TestProxy {
    let all = [&[("context_variables", "app.current_tenant_id,app.user_id"), ("resolvers", path)], options].concat();
    proxy_for(&own.postgres, &all).await.expect("the proxy starts")
}

/// A resolver that counts how often it is asked, and what is behind SELECT in it.
fn counted(select: &str, more: &str) -> String {
    format!(
        "[[resolver]]\nname = \"counted\"\nquery = \"SELECT nextval('asked') AS asked, {select}\"\nparams = [\"app.user_id\"]\n\
         inject = {{ \"app.found\" = \"found\" }}\n{more}\n"
    )
}

async fn asked(admin: &Client) -> i64 {
    let row = admin.query_one("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM asked", &[]).await;
    row.expect("a number").get(0)
}

async fn found(client: &Client) -> Option<String> {
    client.query_one("SELECT pgvpd_context('app.found')", &[]).await.expect("the context").get(0)
}

fn stats(proxy: &TestProxy) -> ResolverStats {
    proxy.handle.resolver_stats().into_iter().find(|stats| stats.name == "counted").expect("it has run")
}

#[tokio::test]
async fn a_login_whose_resolvers_are_known_asks_nothing() -> TestResult {
    let (own, admin) = site().await;
    for (options, file) in [
        (&[][..], counted("'v' AS found WHERE $1 <> ''", "cache_ttl = 60")),
        (ACCOUNT, counted("'v' AS found WHERE $1 <> ''", "cache_ttl = 60")),
    ] {
        let file = file_of(&file);
        let proxy = proxy(&own, file.path(), options).await;
        let before = asked(&admin).await;
        for _ in 0..3 {
            assert_eq!(found(&proxy.log_in("app_user.acme:1").await).await.as_deref(), Some("v"));
        }
        assert_eq!(asked(&admin).await - before, 1, "{options:?}");
        let stats = stats(&proxy);
        assert_eq!((stats.executions, stats.hits, stats.misses, stats.errors), (1, 2, 1, 0));
        assert_eq!(stats.latency.iter().sum::<u64>(), 1);
        // Another user is another question.
        drop(proxy.log_in("app_user.acme:2").await);
        assert_eq!(asked(&admin).await - before, 2, "{options:?}");
    }
    Ok(())
}

#[tokio::test]
async fn a_thousand_logins_of_one_user_ask_once() -> TestResult {
    let (own, admin) = site().await;
    let file = file_of(&counted("(SELECT 'v' FROM pg_sleep(1)) AS found WHERE $1 <> ''", "cache_ttl = 60"));
    // Many clients before a small pool: what they find is found before they wait for a connection.
    let options = [
        ("pool_mode", "session"),
        ("pool_password", APP_PASSWORD),
        ("client_auth", "cleartext"),
        ("upstream_password", APP_PASSWORD),
        ("pool_size", "5"),
        ("pool_checkout_timeout", "60"),
        ("handshake_timeout", "90"),
    ];
    let proxy = Arc::new(proxy(&own, file.path(), &[&options, ACCOUNT].concat()).await);
    let logins = (0..1000).map(|_| {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move { drop(proxy.log_in("app_user.acme:1").await) })
    });
    let logins: Vec<_> = logins.collect();
    for login in logins {
        login.await?;
    }
    assert_eq!(asked(&admin).await, 1);
    let stats = stats(&proxy);
    assert_eq!((stats.executions, stats.hits), (1, 999));
    Ok(())
}

#[tokio::test]
async fn what_one_tenant_may_know_is_nothing_to_another() -> TestResult {
    let (own, _admin) = site().await;
    // Row-level security alone says whose plan it is; the parameter is the same.
    let file = file_of(&counted("(SELECT plan FROM plans) AS found WHERE $1 <> ''", "cache_ttl = 60"));
    for options in [&[][..], ACCOUNT] {
        let proxy = proxy(&own, file.path(), options).await;
        for (user, plan) in [("acme:1", "gold"), ("globex:1", "free"), ("acme:1", "gold"), ("globex:1", "free")] {
            let client = proxy.log_in(&format!("app_user.{user}")).await;
            assert_eq!(found(&client).await.as_deref(), Some(plan), "{user} {options:?}");
        }
        assert_eq!(stats(&proxy).executions, 2);
    }
    Ok(())
}

#[tokio::test]
async fn nothing_found_is_used_again_only_by_option_and_a_failure_never() -> TestResult {
    let (own, admin) = site().await;
    let none = "'v' AS found FROM members WHERE user_id = $1 AND org = 'none'";
    for (select, more, times) in [
        (none, "cache_ttl = 60", 3),
        (none, "cache_ttl = 60\ncache_negative = true", 1),
        ("1 / (length($1) - 1) AS found", "cache_ttl = 60\ncache_negative = true", 3),
        ("'v' AS found WHERE $1 <> ''", "", 3),
    ] {
        let file = file_of(&counted(select, more));
        let proxy = proxy(&own, file.path(), ACCOUNT).await;
        for _ in 0..3 {
            let _ = proxy.try_log_in("app_user.acme:1").await;
        }
        assert_eq!(stats(&proxy).executions, times, "{select} {more}");
    }
    drop(admin);
    Ok(())
}

/// Only a member is let in, and that is remembered for long.
const MEMBER: &str = "[[resolver]]\nname = \"member\"\nquery = \"SELECT is_admin FROM members WHERE org = $1 AND user_id = $2\"\n\
    params = [\"app.current_tenant_id\", \"app.user_id\"]\ninject = { \"app.is_admin\" = \"is_admin\" }\nrequired = true\ncache_ttl = 3600\n";

async fn is_let_in(proxy: &TestProxy, user: &str) -> bool {
    match proxy.try_log_in(&format!("app_user.{user}")).await {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION), "{error:?}");
            false
        }
    }
}

/// Has a login's result kept: nothing is while nobody listens.
async fn keep(proxy: &TestProxy, user: &str) {
    eventually("results are used again", async || {
        let hits = || proxy.handle.resolver_stats().iter().map(|stats| stats.hits).sum::<u64>();
        let before = hits();
        is_let_in(proxy, user).await && hits() > before
    })
    .await;
}

#[tokio::test]
async fn a_notification_makes_void_what_it_names_and_no_more() -> TestResult {
    let (own, admin) = site().await;
    let file = file_of(MEMBER);
    let proxy = proxy(&own, file.path(), NOTIFIED).await;
    for user in ["acme:1", "acme:2", "acme:3", "globex:5"] {
        keep(&proxy, user).await;
    }
    admin.batch_execute("DELETE FROM members").await?;
    for user in ["acme:1", "acme:2", "acme:3", "globex:5"] {
        assert!(is_let_in(&proxy, user).await, "{user}: nobody has said anything");
    }
    let notify = async |payload: &str| {
        admin.execute("SELECT pg_notify('pgvpd_invalidate', $1)", &[&payload]).await.expect("notified");
    };
    notify(r#"{"resolver":"member","params":["acme","1"]}"#).await;
    notify(r#"{"resolver":"other","params":["acme","2"]}"#).await;
    notify(r#"{"resolver":"member","params":["acme"]}"#).await;
    eventually("acme:1 is gone", async || !is_let_in(&proxy, "acme:1").await).await;
    assert!(is_let_in(&proxy, "acme:2").await);
    notify(r#"{"resolver":"member"}"#).await;
    eventually("acme:2 is gone", async || !is_let_in(&proxy, "acme:2").await).await;
    assert!(!is_let_in(&proxy, "globex:5").await);
    admin.batch_execute("INSERT INTO members VALUES ('acme', '3', true)").await?;
    keep(&proxy, "acme:3").await;
    admin.batch_execute("DELETE FROM members").await?;
    assert!(is_let_in(&proxy, "acme:3").await);
    // What nobody understands may have been about anything.
    notify("what?").await;
    eventually("acme:3 is gone", async || !is_let_in(&proxy, "acme:3").await).await;
    Ok(())
}

#[tokio::test]
async fn what_was_said_while_nobody_listened_is_not_missed() -> TestResult {
    let (own, admin) = site().await;
    let file = file_of(MEMBER);
    let proxy = proxy(&own, file.path(), NOTIFIED).await;
    keep(&proxy, "acme:1").await;
    let listening =
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'pgvpd resolvers' AND query ILIKE 'LISTEN%'";
    let pid: i32 = admin.query_one(listening, &[]).await?.get(0);
    admin.batch_execute("DELETE FROM members").await?;
    assert!(is_let_in(&proxy, "acme:1").await);
    admin.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await?;
    eventually("acme:1 is gone", async || !is_let_in(&proxy, "acme:1").await).await;
    eventually("it listens again", async || {
        admin.query_opt(listening, &[]).await.expect("asked").is_some_and(|row| row.get::<_, i32>(0) != pid)
    })
    .await;
    admin.batch_execute("INSERT INTO members VALUES ('acme', '1', false)").await?;
    keep(&proxy, "acme:1").await;
    Ok(())
}

#[tokio::test]
async fn code_resolves_beside_queries_and_by_what_they_have_found() -> TestResult {
    let (own, _admin) = site().await;
    let file = file_of(MEMBER);
    let level =
        Resolver::from_fn("level", &["app.is_admin"], &["app.level", "app.database"], |database, params| async move {
            let level = if params.first().map(String::as_str) == Some("t") { "high" } else { "low" };
            Ok(Some(vec![Some(level.to_owned()), Some(database)]))
        })?;
    let failing = Resolver::from_fn("failing", &["app.user_id"], &["app.none"], |_, params| async move {
        match params.first().map(String::as_str) {
            Some("2") => Err("the directory is down".into()),
            _ => Ok(None),
        }
    })?;
    let builder = Proxy::builder().port(0).upstream_port(own.postgres.port());
    let builder = builder.set("context_variables", "app.current_tenant_id,app.user_id").set("resolvers", file.path());
    let proxy = TestProxy { handle: builder.resolver(level.clone()).resolver(failing).start().await? };
    for (user, level) in [("1", "low"), ("3", "high")] {
        let client = proxy.log_in(&format!("app_user.acme:{user}")).await;
        let row = client.query_one("SELECT pgvpd_context('app.level'), pgvpd_context('app.database')", &[]).await?;
        assert_eq!((row.get(0), row.get(1)), (Some(level), Some(SHOP)));
    }
    let error = proxy.try_log_in("app_user.acme:2").await.map(drop).expect_err("the directory is down");
    let error = error.as_db_error().expect("the proxy's");
    assert_eq!(error.message(), "pgvpd: the resolver \"failing\" failed", "what it said is for the log");
    let twice = Proxy::builder().port(0).resolver(level.clone()).resolver(level).start().await;
    let error = twice.map(drop).expect_err("two of one name");
    assert!(error.to_string().contains("another one has this name"), "{error}");
    Ok(())
}

#[tokio::test]
async fn a_reload_brings_other_resolvers_for_sessions_to_come() -> TestResult {
    let (own, _admin) = site().await;
    let mut file = file_of(&counted("'old' AS found WHERE $1 <> ''", "cache_ttl = 60"));
    let mut settings = Settings::new();
    settings.set("port", 0)?;
    settings.set("upstream_port", own.postgres.port())?;
    settings.set("context_variables", "app.current_tenant_id,app.user_id")?;
    settings.set("resolvers", file.path())?;
    let proxy = TestProxy { handle: Proxy::builder().settings(settings.clone()).start().await? };
    let before = proxy.log_in("app_user.acme:1").await;
    file.rewrite(&counted("'new' AS found WHERE $1 <> ''", "cache_ttl = 60"));
    proxy.handle.reload(Config::from_settings(settings)?)?;
    let after = proxy.log_in("app_user.acme:1").await;
    assert_eq!((found(&before).await.as_deref(), found(&after).await.as_deref()), (Some("old"), Some("new")));
    Ok(())
}
