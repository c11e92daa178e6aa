//! The shop through a real proxy, before a real PostgreSQL.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode};
use pgvpd_core::testing::TestProxy;
use pgvpd_example_sqlx::{Tenants, application, migrate};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};
use tower::ServiceExt;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// The proxy's URL for the role alone; the application adds the tenant.
fn role_url(proxy: &TestProxy) -> String {
    proxy.url("tenant").replacen(".tenant", "", 1)
}

/// A superuser's URL through the proxy: `superuser_bypass` lets `postgres` in, without a tenant.
fn administrator_url(proxy: &TestProxy) -> String {
    let password = proxy.postgres().password();
    format!("postgresql://postgres:{password}@{}/{}", proxy.proxy().local_addr(), proxy.database())
}

async fn shop() -> Result<(TestProxy, Router)> {
    let proxy = TestProxy::start().await?;
    let mut administrator = PgConnection::connect(&administrator_url(&proxy)).await?;
    migrate(&mut administrator).await?;
    // Again: there is nothing left to do.
    migrate(&mut administrator).await?;
    let tenants = Tenants::new(&role_url(&proxy))?;
    Ok((proxy, application(tenants)))
}

async fn get(shop: &Router, host: &str) -> Result<(StatusCode, Value)> {
    let request = Request::get("/orders").header("host", host).body(Body::empty())?;
    let response = shop.clone().oneshot(request).await?;
    let status = response.status();
    let body = to_bytes(response.into_body(), 1 << 20).await?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

async fn post(shop: &Router, host: &str, order: &Value) -> Result<StatusCode> {
    let request = Request::post("/orders").header("host", host).header("content-type", "application/json");
    Ok(shop.clone().oneshot(request.body(Body::from(order.to_string()))?).await?.status())
}

#[tokio::test]
async fn each_tenant_sees_its_own_orders() -> Result {
    let (proxy, shop) = shop().await?;
    let order = |customer: &str| json!({"customer": customer, "lines": [{"item": "anvil", "quantity": 2}]});
    assert_eq!(post(&shop, "acme.shop.example", &order("Road Runner")).await?, StatusCode::CREATED);
    assert_eq!(post(&shop, "globex.shop.example", &order("Scorpio")).await?, StatusCode::CREATED);

    let (status, acme) = get(&shop, "acme.shop.example").await?;
    assert_eq!((status, acme), (StatusCode::OK, json!([{"id": 1, "customer": "Road Runner", "items": 2}])));
    let (_, globex) = get(&shop, "globex.shop.example").await?;
    assert_eq!(globex, json!([{"id": 2, "customer": "Scorpio", "items": 2}]));
    for nobody in ["localhost", ".shop.example", "acme:user7.shop.example"] {
        assert_eq!(get(&shop, nobody).await?.0, StatusCode::NOT_FOUND, "{nobody}");
    }

    proxy.assert_isolated("orders").await?;
    proxy.assert_isolated("lines").await?;
    Ok(())
}

#[tokio::test]
async fn an_order_with_a_bad_line_leaves_nothing() -> Result {
    let (_proxy, shop) = shop().await?;
    let order = json!({"customer": "x", "lines": [{"item": "a", "quantity": 1}, {"item": "b", "quantity": 0}]});
    assert_eq!(post(&shop, "acme.shop.example", &order).await?, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(get(&shop, "acme.shop.example").await?, (StatusCode::OK, json!([])));
    Ok(())
}

#[tokio::test]
async fn a_tenant_that_may_not_log_in_is_forbidden() -> Result {
    let proxy = TestProxy::builder().set("tenant_deny", "mallory").start().await?;
    let shop = application(Tenants::new(&role_url(&proxy))?);
    assert_eq!(get(&shop, "mallory.shop.example").await?.0, StatusCode::FORBIDDEN);
    Ok(())
}

#[tokio::test]
async fn a_login_may_carry_several_values() -> Result {
    let proxy = TestProxy::builder()
        .set("context_variables", "app.list_id,app.user_id")
        .schema(include_str!("../../lists.sql"))
        .start()
        .await?;
    let tenants = Tenants::new(&role_url(&proxy))?;
    let (mine, hers) = (tenants.pool("list1:user7"), tenants.pool("list1:user8"));
    for (pool, title) in [(&mine, "paint"), (&hers, "sand")] {
        sqlx::query("INSERT INTO tasks (title) VALUES ($1)").bind(title).execute(pool).await?;
        sqlx::query("INSERT INTO drafts (body) VALUES ($1)").bind(title).execute(pool).await?;
    }
    let titles: Vec<String> = sqlx::query_scalar("SELECT title FROM tasks ORDER BY id").fetch_all(&mine).await?;
    assert_eq!(titles, ["paint", "sand"], "the list is shared");
    let drafts: Vec<String> = sqlx::query_scalar("SELECT body FROM drafts").fetch_all(&mine).await?;
    assert_eq!(drafts, ["paint"], "drafts are not");
    let elsewhere: i64 =
        sqlx::query_scalar("SELECT count(*) FROM tasks").fetch_one(&tenants.pool("list2:user7")).await?;
    assert_eq!(elsewhere, 0);
    Ok(())
}

#[tokio::test]
async fn an_application_that_used_set_moves_over_without_it() -> Result {
    let proxy = TestProxy::builder()
        .set("context_variables", "myapp.tenant")
        .schema(include_str!("../../legacy.sql"))
        .start()
        .await?;
    let tenants = Tenants::new(&role_url(&proxy))?;
    for tenant in ["acme", "globex"] {
        // Before: BEGIN; SET LOCAL myapp.tenant = …; INSERT …; COMMIT.
        sqlx::query("INSERT INTO invoices (number) VALUES ('1')").execute(&tenants.pool(tenant)).await?;
    }
    let seen: Vec<String> = sqlx::query_scalar("SELECT tenant FROM invoices").fetch_all(&tenants.pool("acme")).await?;
    assert_eq!(seen, ["acme"]);
    let report = proxy.isolation_of("invoices").column("tenant").run().await?;
    assert!(report.holds(), "{report}");
    Ok(())
}
