//! Open sessions when what resolvers have found is true no more: whoever is removed from an organisation loses access now.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pgvpd_core::{OnChange, Proxy, Resolver};
use support::resolving::{INSTALL, KEY, ResolverFile, file_of, site};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Cluster, Mode, PgError, TestProxy, TestResult, WireClient, eventually, mode, proxy_for};

/// Two resolvers, whose results are kept for long: membership, without which there is no session, and teams.
fn resolvers(on_change: &str) -> ResolverFile {
    file_of(&format!(
        "[[resolver]]\nname = \"member\"\nquery = \"SELECT CASE WHEN is_admin THEN org END AS admin_of FROM members WHERE org = $1 AND user_id = $2\"\n\
         params = [\"app.current_tenant_id\", \"app.user_id\"]\ninject = {{ \"app.admin_of\" = \"admin_of\" }}\nrequired = true\n\
         cache_ttl = 3600\non_change = \"{on_change}\"\n\
         [[resolver]]\nname = \"teams\"\nquery = \"SELECT array_agg(team_id)::text AS ids FROM team_members WHERE org = $1 AND user_id = $2\"\n\
         params = [\"app.current_tenant_id\", \"app.user_id\"]\ninject = {{ \"app.team_ids\" = \"ids\" }}\n\
         cache_ttl = 3600\non_change = \"{on_change}\"\n"
    ))
}

/// Options of a proxy that resolves as `resolver`, and does not listen.
fn options(path: &str) -> [(&str, &str); 4] {
    [
        ("context_variables", "app.current_tenant_id,app.user_id"),
        ("resolvers", path),
        ("resolver_user", "resolver"),
        ("resolver_password", "secret"),
    ]
}

async fn proxy(own: &Cluster, path: &str, is_signed: bool) -> TestProxy {
    let options = [&options(path)[..], &[("resolver_notify", "true")]].concat();
    let key: &[(&str, &str)] = if is_signed { &[("context_signing_key", KEY)] } else { &[] };
    proxy_for(&own.postgres, &[&options, key].concat()).await.expect("the proxy starts")
}

async fn documents(client: &Client) -> Result<Vec<i32>, tokio_postgres::Error> {
    let rows = client.query("SELECT id FROM docs ORDER BY id", &[]).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Takes rows away, and says so.
async fn revoke(admin: &Client, table: &str, user: &str, resolver: &str) {
    let sql = format!(
        "DELETE FROM {table} WHERE org = 'acme' AND user_id = '{user}';
         SELECT pg_notify('pgvpd_invalidate', '{{\"resolver\":\"{resolver}\",\"params\":[\"acme\",\"{user}\"]}}')"
    );
    admin.batch_execute(&sql).await.expect("revoked");
}

/// Waits until a notification reaches the proxy: nobody listens before the first login.
async fn listens(admin: &Client) {
    let listening = "SELECT FROM pg_stat_activity WHERE application_name = 'pgvpd resolvers' AND query ILIKE 'LISTEN%' AND state = 'idle'";
    eventually("the proxy listens", async || !admin.query(listening, &[]).await.expect("asked").is_empty()).await;
}

/// The code with which a session ends that does nothing; `None` where it is only closed, as where no messages are seen.
async fn end(client: &mut WireClient) -> Option<String> {
    let mut code = None;
    while let Some((tag, body)) = client.message().await {
        if tag == b'E' {
            code = Some(PgError::parse(&body).code);
        }
    }
    code
}

#[tokio::test]
async fn who_is_a_member_no_more_reads_no_more() -> TestResult {
    let (own, admin) = site().await;
    admin.execute("SELECT pgvpd_notify_on_change('members', 'member', '{org,user_id}')", &[]).await?;
    for is_signed in [false, true] {
        if is_signed {
            admin.batch_execute(INSTALL).await?;
        }
        for on_change in ["refresh", "terminate"] {
            admin.batch_execute("INSERT INTO members VALUES ('acme', '1', false) ON CONFLICT DO NOTHING").await?;
            let file = resolvers(on_change);
            let proxy = proxy(&own, file.path(), is_signed).await;
            let (one, two) = (proxy.log_in("app_user.acme:1").await, proxy.log_in("app_user.acme:2").await);
            listens(&admin).await;
            assert_eq!(documents(&one).await?, [1, 2]);
            admin.batch_execute("DELETE FROM members WHERE org = 'acme' AND user_id = '1'").await?;
            eventually("the session of a member no more ends", async || documents(&one).await.is_err()).await;
            assert!(documents(&two).await.is_ok(), "{on_change}: others go on");
            let error = proxy.try_log_in("app_user.acme:1").await.map(drop).expect_err("no member");
            assert_eq!(error.code(), Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION));
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_session_of_a_pool_goes_on_with_what_is_true_now_and_others_end() -> TestResult {
    let (own, admin) = site().await;
    for is_signed in [false, true] {
        if is_signed {
            admin.batch_execute(INSTALL).await?;
        }
        admin.batch_execute("INSERT INTO team_members VALUES ('acme', 'red', '1') ON CONFLICT DO NOTHING").await?;
        let file = resolvers("refresh");
        let proxy = proxy(&own, file.path(), is_signed).await;
        let client = proxy.log_in("app_user.acme:1").await;
        listens(&admin).await;
        assert_eq!(documents(&client).await?, [1, 2]);
        let token: String =
            client.query_one("SELECT COALESCE(current_setting('pgvpd.context', true), '')", &[]).await?.get(0);
        client.batch_execute("CREATE TEMP TABLE mine (x int)").await?;
        revoke(&admin, "team_members", "1", "teams").await;
        if mode() != Mode::Session {
            eventually("the session ends", async || documents(&client).await.is_err()).await;
            assert_eq!(documents(&proxy.log_in("app_user.acme:1").await).await?, [1]);
            continue;
        }
        eventually("the team's document is gone", async || documents(&client).await.expect("it goes on") == [1]).await;
        client.batch_execute("INSERT INTO mine VALUES (1)").await?;
        if is_signed {
            // What was signed before is void.
            client.execute("SELECT set_config('pgvpd.context', $1, false)", &[&token]).await?;
            assert_eq!(documents(&client).await?, [0; 0]);
            client.batch_execute("RESET ALL").await?;
            assert_eq!(documents(&client).await?, [1], "put back is what is true now");
        }
        admin.batch_execute("INSERT INTO team_members VALUES ('acme', 'red', '1')").await?;
        admin.batch_execute(r#"NOTIFY pgvpd_invalidate, '{"resolver":"teams"}'"#).await?;
        eventually("the team's document is back", async || documents(&client).await.expect("it goes on") == [1, 2])
            .await;
    }
    Ok(())
}

/// A cursor goes by the context that it was opened under: the transaction must not go on.
#[tokio::test]
async fn a_session_that_does_not_come_to_the_end_of_its_transaction_ends() -> TestResult {
    let (own, admin) = site().await;
    if mode() != Mode::Raw {
        admin.batch_execute(INSTALL).await?;
    }
    for busy in [&["BEGIN", "DECLARE c CURSOR FOR SELECT id FROM docs"][..], &["SELECT pg_sleep(120)"], &["BEGIN", "x"]]
    {
        admin.batch_execute("INSERT INTO team_members VALUES ('acme', 'red', '1') ON CONFLICT DO NOTHING").await?;
        let file = resolvers("refresh");
        // With a key messages are seen.
        let proxy = proxy(&own, file.path(), mode() != Mode::Raw).await;
        let mut client = proxy.connect().await;
        client.log_in("app_user.acme:1", &[]).await;
        listens(&admin).await;
        for (index, sql) in busy.iter().enumerate() {
            client.query(sql).await;
            if index + 1 < busy.len() || !sql.contains("sleep") {
                client.until_ready().await;
            }
        }
        revoke(&admin, "team_members", "1", "teams").await;
        let code = end(&mut client).await;
        // Between two messages there is room for a reason, where messages are seen.
        let expected = if mode() == Mode::Raw { None } else { Some("57P01".to_owned()) };
        assert_eq!(code, expected, "{busy:?}");
        let asleep = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = 'SELECT pg_sleep(120)'";
        let query = async || admin.query_one(asleep, &[]).await.expect("query").get::<_, i64>(0);
        eventually("what it runs has ended", async || query().await == 0).await;
    }
    Ok(())
}

#[tokio::test]
async fn a_forged_notification_ends_no_session() -> TestResult {
    let (own, admin) = site().await;
    let file = resolvers("terminate");
    let proxy = proxy(&own, file.path(), false).await;
    let (victim, attacker) = (proxy.log_in("app_user.acme:1").await, proxy.log_in("app_user.globex:5").await);
    listens(&admin).await;
    let executions = || proxy.handle.resolver_stats().iter().map(|stats| stats.executions).sum::<u64>();
    let before = executions();
    for payload in [r#"{"resolver":"member","params":["acme","1"]}"#, r#"{"resolver":"teams"}"#, "x", ""] {
        attacker.execute("SELECT pg_notify('pgvpd_invalidate', $1)", &[&payload]).await?;
    }
    eventually("it is heard", async || executions() > before).await;
    // Nor do many of them keep the proxy from resolving in time.
    for _ in 0..300 {
        attacker.batch_execute(r#"NOTIFY pgvpd_invalidate, '{"resolver":"teams"}'"#).await?;
    }
    // A login after it is resolved after it.
    drop(proxy.log_in("app_user.acme:1").await);
    assert_eq!(documents(&victim).await?, [1, 2]);
    Ok(())
}

#[tokio::test]
async fn a_program_can_say_so_itself() -> TestResult {
    let (own, admin) = site().await;
    let file = resolvers("terminate");
    // A proxy that listens resolves everything again when it begins to, and would find out by that too.
    let proxy = proxy_for(&own.postgres, &options(file.path())).await?;
    let client = proxy.log_in("app_user.acme:1").await;
    admin.batch_execute("DELETE FROM members").await?;
    assert_eq!(documents(&client).await?, [1, 2]);
    proxy.handle.invalidate_resolver("member", Some(&["acme".to_owned(), "1".to_owned()]));
    eventually("the session ends", async || documents(&client).await.is_err()).await;
    Ok(())
}

/// Code may panic: the session that it was run again for ends, and others are told of what changes later.
#[tokio::test]
async fn code_that_panics_ends_the_session_and_no_more() -> TestResult {
    let (own, _admin) = site().await;
    let (panics, level) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(1)));
    let resolver = Resolver::from_fn("level", &["app.user_id"], &["app.level"], {
        let (panics, level) = (Arc::clone(&panics), Arc::clone(&level));
        move |_, _| {
            let (panics, level) = (Arc::clone(&panics), Arc::clone(&level));
            async move {
                assert!(!panics.load(Ordering::SeqCst), "a mistake in somebody's code");
                Ok(Some(vec![Some(level.load(Ordering::SeqCst).to_string())]))
            }
        }
    })?;
    let resolver = Resolver { on_change: OnChange::Terminate, ..resolver };
    let builder = Proxy::builder().port(0).upstream_port(own.postgres.port());
    let builder = builder.set("context_variables", "app.current_tenant_id,app.user_id").resolver(resolver);
    let proxy = TestProxy { handle: builder.start().await? };
    // More than there are workers.
    for _ in 0..20 {
        let client = proxy.log_in("app_user.acme:1").await;
        panics.store(true, Ordering::SeqCst);
        proxy.handle.invalidate_resolver("level", None);
        eventually("the session ends", async || documents(&client).await.is_err()).await;
        panics.store(false, Ordering::SeqCst);
    }
    let client = proxy.log_in("app_user.acme:1").await;
    proxy.handle.invalidate_resolver("level", None);
    assert!(documents(&client).await.is_ok());
    level.store(2, Ordering::SeqCst);
    proxy.handle.invalidate_resolver("level", None);
    eventually("the session of another level ends", async || documents(&client).await.is_err()).await;
    Ok(())
}

/// Whoever may lock a table that resolvers read, and notify, must not be able to end everybody's sessions.
#[tokio::test]
async fn a_lock_on_what_a_resolver_reads_ends_no_session() -> TestResult {
    let (own, admin) = site().await;
    let file = resolvers("terminate");
    let options = [&options(file.path())[..], &[("resolver_notify", "true"), ("resolver_timeout", "0.2")]].concat();
    let proxy = proxy_for(&own.postgres, &options).await?;
    let client = proxy.log_in("app_user.acme:1").await;
    listens(&admin).await;
    let mut locking = own.admin().await;
    let lock = locking.transaction().await?;
    lock.batch_execute("LOCK members").await?;
    let errors = || proxy.handle.resolver_stats().iter().map(|stats| stats.errors).sum::<u64>();
    let before = errors();
    admin.batch_execute(r#"NOTIFY pgvpd_invalidate, '{"resolver":"member"}'"#).await?;
    eventually("it is asked again and again", async || errors() >= before + 2).await;
    assert_eq!(documents(&client).await?, [1, 2], "the session goes on");
    assert!(proxy.try_log_in("app_user.acme:1").await.is_err(), "a login needs an answer");
    lock.batch_execute("DELETE FROM members WHERE org = 'acme' AND user_id = '1'").await?;
    lock.commit().await?;
    eventually("the answer ends it", async || documents(&client).await.is_err()).await;
    Ok(())
}

#[tokio::test]
async fn a_resolver_that_cannot_log_in_for_now_ends_no_session() -> TestResult {
    let (own, admin) = site().await;
    let file = resolvers("terminate");
    let proxy = proxy_for(&own.postgres, &options(file.path())).await?;
    let client = proxy.log_in("app_user.acme:1").await;
    let errors = || proxy.handle.resolver_stats().iter().map(|stats| stats.errors).sum::<u64>();
    let before = errors();
    admin
        .batch_execute(
            "ALTER ROLE resolver CONNECTION LIMIT 0;
             SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'resolver'",
        )
        .await?;
    proxy.handle.invalidate_resolver("member", None);
    eventually("it is asked again", async || errors() > before).await;
    assert_eq!(documents(&client).await?, [1, 2], "the session goes on");
    admin.batch_execute("DELETE FROM members; ALTER ROLE resolver CONNECTION LIMIT -1").await?;
    eventually("the answer ends it", async || documents(&client).await.is_err()).await;
    Ok(())
}

#[tokio::test]
async fn a_session_whose_context_cannot_be_worked_out_any_more_ends() -> TestResult {
    let (own, admin) = site().await;
    let file = resolvers("refresh");
    let proxy = proxy(&own, file.path(), false).await;
    let client = proxy.log_in("app_user.acme:1").await;
    listens(&admin).await;
    admin
        .batch_execute(r#"REVOKE SELECT ON members FROM resolver; NOTIFY pgvpd_invalidate, '{"resolver":"member"}'"#)
        .await?;
    eventually("the session ends", async || documents(&client).await.is_err()).await;
    Ok(())
}
