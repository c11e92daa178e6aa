//! What commands that work on a database say when they do not get there.

use std::net::TcpListener;

use crate::support::{Site, TestResult, logging};

fn conninfo(site: &Site, rest: &str) -> String {
    format!("host=127.0.0.1 port={} {rest}", site.postgres.port())
}

#[tokio::test]
async fn each_way_of_not_getting_there_says_what_to_change() -> TestResult {
    let site = Site::new("connect").await;
    let closed = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    for (database, parts) in [
        ("nowhere".to_owned(), &["database \"nowhere\" does not exist", "createdb"][..]),
        (conninfo(&site, "user=nobody_there dbname=connect"), &["password authentication failed", "PGPASSWORD"]),
        (
            conninfo(&site, "password=wrong-4711"),
            &["password authentication failed for user \"postgres\"", "PGPASSWORD"],
        ),
        (format!("port={closed}"), &["cannot reach the server at 127.0.0.1", "Connection refused", "PGPORT"]),
        ("host=/nowhere".to_owned(), &["cannot reach the server at /nowhere", "--database"]),
    ] {
        let said = site.refused(&["protect", "-d", &database, "orders"]);
        for part in parts {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        assert!(!said.contains("4711"), "{said}");
    }
    for (database, part) in [
        ("host=a b", "is not understood"),
        ("sslmode=verify-full", "without TLS"),
        ("password='s3cret", "is not understood"),
    ] {
        let said = site.pgvpd(&["init", "-d", database]).code(2);
        let said = String::from_utf8_lossy(&said.get_output().stderr).into_owned();
        assert!(said.contains(part) && !said.contains("s3cret"), "{said}");
    }
    Ok(())
}

#[tokio::test]
async fn a_password_that_is_not_given_is_asked_for_and_a_socket_is_found() {
    let site = Site::new("connect_socket").await;
    let mut command = crate::support::bare_command();
    command.args(["protect"]);
    let mut command = site.command(&command);
    command.env_remove("PGPASSWORD").env("PGHOST", site.postgres.socket_dir());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("asks for the password of postgres; set PGPASSWORD"), "{said}");
}

#[tokio::test]
async fn where_only_tls_is_let_in_it_is_said_that_this_release_has_none() -> TestResult {
    let postgres: &'static _ = Box::leak(Box::new(logging().start().await?));
    let site = Site::of(postgres, "postgres", "postgres", postgres.password());
    postgres.set_hba(["hostssl all all 127.0.0.1/32 scram-sha-256", "local all all scram-sha-256"]).await?;
    let said = site.refused(&["init"]);
    assert!(said.contains("no pg_hba.conf entry") && said.contains("this release connects without TLS"), "{said}");
    postgres.stop().await?;
    Ok(())
}
