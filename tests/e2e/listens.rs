//! What is said of a LISTEN whose notifications do not reach the session.

use crate::support::{Cluster, PgError, TestResult, WireClient, auth_file, proxy_for};

/// Ways to run in which messages are seen.
fn seen() -> [Vec<(&'static str, &'static str)>; 2] {
    let passwords = auth_file().to_str().expect("UTF-8");
    [vec![("relay", "framed")], vec![("pool_mode", "session"), ("auth_file", passwords)]]
}

/// What the server's notices say before the next ReadyForQuery, and their hints.
async fn notices(client: &mut WireClient) -> Vec<(String, String)> {
    let mut notices = Vec::new();
    loop {
        match client.message().await.expect("an answer") {
            (b'N', body) => {
                let notice = PgError::parse(&body);
                assert_eq!((notice.severity.as_str(), notice.code.as_str()), ("NOTICE", "00000"), "{notice:?}");
                notices.push((notice.message, notice.hint));
            }
            (b'E', body) => panic!("{:?}", PgError::parse(&body)),
            (b'Z', _) => return notices,
            _ => {}
        }
    }
}

#[tokio::test]
async fn a_listen_that_can_hear_nothing_says_so_once() -> TestResult {
    let own = Cluster::start().await;
    for options in seen() {
        let proxy = proxy_for(&own.postgres, &options).await?;
        for (user, wanted, sql, channel) in [
            ("app_user.acme", "tenant", "LISTEN jobs", "jobs"),
            ("app_user.acme", "tenant", "  -- mine\n/* and */ listen \"ACME\"", "ACME"),
            ("app_user.acme", "tenant", "LISTEN acme; LISTEN jobs;", "jobs"),
            ("app_user.a:b", "tenant", "LISTEN \"a:b\"", "a:b"),
            ("app_user.acme", "off", "LISTEN acme", "acme"),
        ] {
            let proxy = match wanted {
                "off" => &proxy_for(&own.postgres, &[&options[..], &[("notifications", "off")]].concat()).await?,
                _ => &proxy,
            };
            let mut client = proxy.connect().await;
            client.log_in(user, &[]).await;
            client.query("SELECT 1").await;
            assert_eq!(notices(&mut client).await, []);
            let before = proxy.handle.stats().unheard_listens_total;
            client.query(sql).await;
            let said = notices(&mut client).await;
            let [(message, hint)] = &said[..] else { panic!("{sql}: {said:?}") };
            assert_eq!(message, &format!("pgvpd: notifications of channel \"{channel}\" do not reach this session"));
            assert!(hint.contains("notifications"), "{hint}");
            if channel == "jobs" {
                assert!(hint.contains("\"acme:jobs\""), "{hint}");
            }
            client.query(sql).await;
            assert_eq!(notices(&mut client).await, [], "once a session");
            assert_eq!(proxy.handle.stats().unheard_listens_total, before + 2, "and counted each time");
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_listen_that_hears_something_is_left_alone() -> TestResult {
    let own = Cluster::start().await;
    for options in seen() {
        let proxy = proxy_for(&own.postgres, &options).await?;
        let mut client = proxy.connect().await;
        client.log_in("app_user.acme", &[]).await;
        for sql in [
            "LISTEN acme",
            "LISTEN ACME",
            "LISTEN \"acme:jobs\"",
            "LISTEN \"acme:with \"\" in it\"; LISTEN acme;",
            "UNLISTEN jobs",
            "SELECT 'LISTEN jobs'",
            "BEGIN",
            "COMMIT",
        ] {
            client.query(sql).await;
            assert_eq!(notices(&mut client).await, [], "{sql}");
        }
        // One that fails says nothing, then or later.
        client.query("BEGIN; SELECT 1/0").await;
        client.until_ready().await;
        client.query("LISTEN jobs").await;
        client.until_ready().await;
        client.query("ROLLBACK").await;
        assert_eq!(notices(&mut client).await, []);
        client.query("LISTEN acme").await;
        assert_eq!(notices(&mut client).await, []);
        assert_eq!(proxy.handle.stats().unheard_listens_total, 0);
        let all = proxy_for(&own.postgres, &[&options[..], &[("notifications", "all")]].concat()).await?;
        let mut client = all.connect().await;
        client.log_in("app_user.acme", &[]).await;
        client.query("LISTEN jobs").await;
        assert_eq!(notices(&mut client).await, []);
    }
    Ok(())
}

/// As drivers send it that prepare everything, with the answers awaited one by one and in a pipeline.
#[tokio::test]
async fn a_prepared_listen_says_so_too() -> TestResult {
    let own = Cluster::start().await;
    for options in seen() {
        let proxy = proxy_for(&own.postgres, &options).await?;
        let client = proxy.log_in("app_user.acme").await;
        client.execute("LISTEN jobs", &[]).await?;
        assert_eq!(proxy.handle.stats().unheard_listens_total, 1, "{options:?}");
        let (one, listen, two) = tokio::join!(
            client.query("SELECT 1", &[]),
            client.execute("LISTEN others", &[]),
            client.query("SELECT 2", &[])
        );
        assert_eq!((one?.len(), listen?, two?.len()), (1, 0, 1));
        assert_eq!(proxy.handle.stats().unheard_listens_total, 2, "{options:?}");
    }
    Ok(())
}
