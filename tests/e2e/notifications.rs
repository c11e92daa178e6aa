//! Which notifications reach a session.

use std::sync::{Arc, Mutex};

use bytes::BytesMut;
use futures_util::{StreamExt, stream};
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use tokio_postgres::{AsyncMessage, Client, NoTls};

use crate::support::{Cluster, PgError, TestProxy, TestResult, WireClient, auth_file, eventually, proxy_for};

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

/// Ways to run in which messages are seen.
fn seen() -> [Vec<(&'static str, &'static str)>; 2] {
    let passwords = auth_file().to_str().expect("UTF-8");
    [vec![("relay", "framed")], vec![("pool_mode", "session"), ("auth_file", passwords)]]
}

/// The channels that a client is told of up to the next ReadyForQuery.
async fn channels(client: &mut WireClient) -> Vec<String> {
    let mut channels = Vec::new();
    loop {
        match client.message().await.expect("an answer") {
            (b'A', body) => {
                let text = body[4..].split(|byte| *byte == 0).next().unwrap_or_default();
                channels.push(String::from_utf8_lossy(text).into_owned());
            }
            (b'E', body) => panic!("{:?}", PgError::parse(&body)),
            (b'Z', _) => return channels,
            _ => {}
        }
    }
}

/// What a session of this tenant hears while it runs these statements, the last of which waits until `says` have been sent.
async fn heard_within(
    (own, proxy): (&Cluster, &TestProxy),
    (user, listen): (&str, &str),
    before: &str,
    says: &[&str],
) -> Result<Vec<String>, tokio_postgres::Error> {
    let admin = own.admin().await;
    admin.batch_execute("SELECT pg_advisory_lock(815)").await?;
    let mut client = proxy.connect().await;
    client.log_in(user, &[("client_encoding", "UTF8")]).await;
    client.query(listen).await;
    assert_eq!(channels(&mut client).await, [""; 0]);
    client.query(&format!("{before}; SELECT pg_advisory_xact_lock_shared(815)")).await;
    let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
    eventually("it waits", async || admin.query_one(waits, &[]).await.expect("query").get::<_, i64>(0) == 1).await;
    for channel in says {
        admin.execute("SELECT pg_notify($1, '')", &[channel]).await?;
    }
    admin.batch_execute("SELECT pg_advisory_unlock(815)").await?;
    let mut heard = channels(&mut client).await;
    // And in its next transaction.
    client.query("SELECT 1").await;
    heard.extend(channels(&mut client).await);
    Ok(heard)
}

/// PostgreSQL sends what has come during a query in the encoding that the query has set, and only then says which it is.
#[tokio::test]
async fn an_encoding_set_in_the_same_query_makes_no_channel_another_one() -> TestResult {
    let own = Cluster::start().await;
    for options in seen() {
        let proxy = proxy_for(&own.postgres, &options).await?;
        let on = (&own, &proxy);
        for (tenant, other, encoding) in
            [("ü", "Ã¼", "LATIN1"), ("a\\b", "a¥b", "SJIS"), ("a~", "a‾", "SHIFT_JIS_2004")]
        {
            let (user, listen) = (format!("app_user.{tenant}"), format!("LISTEN \"{tenant}\"; LISTEN \"{other}\""));
            let set = format!("SET client_encoding = '{encoding}'");
            let heard = heard_within(on, (&user, &listen), &set, &[other]).await?;
            assert_eq!(heard, [""; 0], "{tenant} {options:?}");
            // Its own it hears, where the encoding is known in the end.
            for before in ["SELECT 1", "SET client_encoding = 'UTF8'"] {
                let heard = heard_within(on, (&user, &listen), before, &[other, tenant]).await?;
                assert_eq!(heard, [tenant], "{before} {options:?}");
            }
        }
        let listen = "LISTEN acme; LISTEN \"Ã¼\"";
        let set = "SET client_encoding = 'LATIN1'";
        let heard = heard_within(on, ("app_user.acme", listen), set, &["Ã¼", "acme"]).await?;
        assert_eq!(heard, ["acme"], "an ASCII name is the same in every encoding");
    }
    Ok(())
}

/// Between two transactions, and no ReadyForQuery between: the encoding is not reported, and set back before it is.
#[tokio::test]
async fn an_encoding_that_is_never_reported_makes_no_channel_another_one() -> TestResult {
    let own = Cluster::start().await;
    let proxy = proxy_for(&own.postgres, &[("relay", "framed")]).await?;
    let mut client = proxy.connect().await;
    client.log_in("app_user.ü", &[("client_encoding", "UTF8")]).await;
    client.query("LISTEN \"Ã¼\"; LISTEN \"ü\"").await;
    channels(&mut client).await;
    let run = |statements: &[&str]| {
        let mut out = BytesMut::new();
        for sql in statements {
            frontend::parse("", sql, [], &mut out).expect("short");
            let nothing = |(): (), _: &mut BytesMut| Ok(IsNull::No);
            frontend::bind("", "", [], [], nothing, [], &mut out).map_err(|_| "bind").expect("bound");
            frontend::execute("", 0, &mut out).expect("short");
        }
        frontend::flush(&mut out);
        out
    };
    client.send(&run(&["BEGIN", "SET client_encoding = 'LATIN1'", "COMMIT"])).await;
    for _ in 0..3 {
        client.until(b'C').await;
    }
    // The server is between transactions, and passes on at once what it is sent.
    own.admin().await.batch_execute("NOTIFY \"Ã¼\"; NOTIFY x").await?;
    let sent = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientRead' AND usename = 'app_user'
        AND query = 'COMMIT' AND pg_notification_queue_usage() = 0";
    let admin = own.admin().await;
    eventually("it is sent", async || admin.query_one(sent, &[]).await.expect("query").get::<_, i64>(0) == 1).await;
    let mut out = run(&["SET client_encoding = 'UTF8'"]);
    frontend::sync(&mut out);
    client.send(&out).await;
    assert_eq!(channels(&mut client).await, [""; 0]);
    Ok(())
}
