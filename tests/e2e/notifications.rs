//! Which notifications reach a session.

use std::sync::{Arc, Mutex};

use futures_util::{StreamExt, stream};
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{Cluster, TestProxy, TestResult, proxy_for};

/// A session that keeps the channels it hears.
async fn listener(proxy: &TestProxy, user: &str) -> Result<(Client, Arc<Mutex<Vec<String>>>), tokio_postgres::Error> {
    let (client, mut connection) = proxy.config(user).connect(NoTls).await?;
    let heard: Arc<Mutex<Vec<String>>> = Arc::default();
    let ear = Arc::clone(&heard);
    tokio::spawn(async move {
        let mut messages = stream::poll_fn(move |cx| connection.poll_message(cx));
        while let Some(Ok(message)) = messages.next().await {
            if let AsyncMessage::Notification(notification) = message {
                ear.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).push(notification.channel().to_owned());
            }
        }
    });
    Ok((client, heard))
}

/// What a session of acme's hears of channels of its own, of others, and of its last, which everybody hears of who hears anything.
async fn heard(options: &[(&str, &str)]) -> Result<Vec<String>, Box<dyn std::error::Error>> {
    let own = Cluster::start().await;
    let proxy = proxy_for(&own.postgres, &[&[("relay", "framed")], options].concat()).await?;
    let (client, heard) = listener(&proxy, "app_user.acme").await?;
    client.batch_execute(r#"LISTEN acme; LISTEN "acme:jobs"; LISTEN acmecorp; LISTEN globex; LISTEN "ACME""#).await?;
    let sender = proxy.log_in("app_user.globex").await;
    for channel in ["globex", "acmecorp", "ACME", "acme", "acme:jobs"] {
        sender.execute("SELECT pg_notify($1, repeat('x', 5000))", &[&channel]).await?;
    }
    // With the answer to a query comes what was to be heard before it.
    for _ in 0..3 {
        let row = client.query_one("SELECT repeat('y', 100000)", &[]).await?;
        assert_eq!(row.get::<_, &str>(0).len(), 100_000);
    }
    let heard = heard.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).clone();
    Ok(heard)
}

#[tokio::test]
async fn a_session_hears_its_own_tenants_channels_and_no_others() -> TestResult {
    assert_eq!(heard(&[]).await?, ["acme", "acme:jobs"]);
    Ok(())
}

#[tokio::test]
async fn notifications_can_be_had_all_or_none() -> TestResult {
    assert_eq!(heard(&[("notifications", "all")]).await?, ["globex", "acmecorp", "ACME", "acme", "acme:jobs"]);
    assert_eq!(heard(&[("notifications", "off")]).await?, [""; 0]);
    Ok(())
}
