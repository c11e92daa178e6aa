//! The queue of a pool: tenants are served in turn.

use std::sync::Arc;

use tokio::sync::mpsc;

use crate::support::{TestResult, auth_file, eventually, proxy, within};

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_many_waiters_delays_another_ones_only_client_by_one_turn() -> TestResult {
    let file = auth_file().display().to_string();
    let own = [("pool_mode", "session"), ("auth_file", &*file), ("pool_size", "1"), ("pool_checkout_timeout", "600")];
    let proxy = Arc::new(proxy(&own).await);
    let holder = proxy.log_in("app_user.acme").await;
    let (served, mut order) = mpsc::unbounded_channel();
    let mut waiters = Vec::new();
    let tenants = std::iter::repeat_n("acme", 40).chain(["globex"]);
    for (number, tenant) in tenants.enumerate() {
        let (proxy_of_waiter, served) = (Arc::clone(&proxy), served.clone());
        waiters.push(tokio::spawn(async move {
            let client = proxy_of_waiter.log_in(&format!("app_user.{tenant}")).await;
            served.send(tenant).expect("the test listens");
            client.batch_execute("SELECT 1").await
        }));
        eventually("it waits", async || proxy.handle.stats().pool_waiting == number + 1).await;
    }
    drop(holder);
    drop(served);
    let mut turns = Vec::new();
    while let Some(tenant) = within("the next turn", order.recv()).await {
        turns.push(tenant);
    }
    assert_eq!(turns.len(), 41);
    assert_eq!(turns.iter().position(|tenant| *tenant == "globex"), Some(1), "{turns:?}");
    for waiter in waiters {
        within("a waiter", waiter).await??;
    }
    Ok(())
}
