//! Limits of number.

use crate::support::{TestResult, cluster, eventually, proxy};

#[tokio::test]
async fn one_client_too_many_is_refused_and_a_place_that_is_freed_is_given_again() -> TestResult {
    let proxy = proxy(&[("max_client_connections", "2")]).await;
    let first = proxy.log_in("app_user.acme").await;
    let second = proxy.log_in("app_user.globex").await;
    let mut third = proxy.connect().await;
    third.start("app_user.acme", &[]).await;
    let error = third.refusal_after_proof().await;
    error.assert_is("53300");
    assert!(error.hint.contains("max_client_connections"), "{error:?}");
    // Refused logins hold no place either.
    for _ in 0..5 {
        assert!(proxy.try_log_in("app_user").await.is_err());
    }
    first.batch_execute("SELECT 1").await?;
    drop(first);
    eventually("a place is free", async || proxy.try_log_in("app_user.acme").await.is_ok()).await;
    second.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_its_own_limit_of_connections() -> TestResult {
    let proxy =
        proxy(&[("tenant_max_connections", "2"), ("context_variables", "app.current_tenant_id,app.user_id")]).await;
    let first = proxy.log_in("app_user.acme:1").await;
    // Of the same tenant, whatever the role and the other values are.
    let second = proxy.log_in("trust_user.acme:2").await;
    let mut third = proxy.connect().await;
    third.start("app_user.acme:3", &[]).await;
    let error = third.refusal_after_proof().await;
    error.assert_is("53300");
    assert!(error.hint.contains("tenant_max_connections"), "{error:?}");
    proxy.log_in("app_user.globex:1").await.batch_execute("SELECT 1").await?;
    // Who does not get in holds no place: a wrong password, a server's refusal.
    drop(first);
    for _ in 0..5 {
        let refused = proxy.config("app_user.acme:1").password("wrong").connect(tokio_postgres::NoTls).await;
        assert!(refused.is_err());
    }
    eventually("a place is free", async || proxy.try_log_in("app_user.acme:1").await.is_ok()).await;
    second.batch_execute("SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn a_tenant_has_its_own_rate_of_new_connections() {
    let proxy = proxy(&[("tenant_rate_limit", "1")]).await;
    // All at once: fewer seconds pass than there are logins.
    let logins = futures_util::future::join_all((0..20).map(|_| proxy.try_log_in("app_user.acme"))).await;
    let refused = logins.into_iter().filter_map(Result::err).inspect(|error| {
        assert_eq!(error.code().map(|code| code.code()), Some("53300"), "{error}");
    });
    assert!(refused.count() > 0);
    proxy.log_in("app_user.globex").await;
}

#[tokio::test]
async fn a_cancel_request_is_served_when_every_place_is_taken() -> TestResult {
    let proxy = proxy(&[("max_client_connections", "1")]).await;
    let client = proxy.log_in("app_user.acme").await;
    let token = client.cancel_token();
    let query = tokio::spawn(async move { client.batch_execute("SELECT pg_sleep(600)").await });
    let admin = cluster().await.admin().await;
    eventually("the query is cancelled", async || {
        let _ = token.cancel_query(tokio_postgres::NoTls).await;
        let _ = admin.batch_execute("SELECT 1").await;
        query.is_finished()
    })
    .await;
    assert_eq!(query.await?.unwrap_err().code().map(|code| code.code()), Some("57014"));
    Ok(())
}

#[tokio::test]
async fn statistics_count_what_happened() {
    let proxy = proxy(&[]).await;
    let client = proxy.log_in("app_user.acme").await;
    assert!(proxy.try_log_in("app_user").await.is_err());
    eventually("counted", async || {
        let stats = proxy.handle.stats();
        (stats.connections_total, stats.sessions_total, stats.refused_total, stats.sessions_active) == (2, 1, 1, 1)
    })
    .await;
    drop(client);
    eventually("freed", async || proxy.handle.stats().sessions_active == 0).await;
}
