//! What commands that work on a database say when they do not get there.

use std::net::TcpListener;

use crate::support::{Site, TestResult, eventually, logging};

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
        ("sslmode=verifyful", "sslmode is none of disable"),
        ("host=db sslmode=verify-full sslrootcert=/nowhere", "cannot read /nowhere"),
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

/// A certificate for 127.0.0.1, which is its own authority, in a server that takes no other connections than over TLS.
async fn secured(site: &Site) -> Result<String, Box<dyn std::error::Error>> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()])?;
    for (name, text) in [("server.crt", made.cert.pem()), ("server.key", made.signing_key.serialize_pem())] {
        // By the server itself, so that the files are its user's.
        let lines = text.replace('\r', "");
        let sql =
            format!("COPY (SELECT unnest(string_to_array('{lines}', E'\\n'))) TO PROGRAM 'umask 077; cat > {name}'");
        site.execute(&sql).await;
    }
    site.execute("ALTER SYSTEM SET ssl = on").await;
    site.postgres.set_hba(["hostssl all all 127.0.0.1/32 scram-sha-256", "local all all scram-sha-256"]).await?;
    Ok(made.cert.pem())
}

#[tokio::test]
async fn tls_is_spoken_and_verified_as_psql_does_it() -> TestResult {
    let postgres: &'static _ = Box::leak(Box::new(logging().start().await?));
    let site = Site::of(postgres, "postgres", "postgres", postgres.password());
    let trusted = secured(&site).await?;
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?.cert.pem();
    let (trusted, other) = (write(&site, "trusted.crt", &trusted)?, write(&site, "other.crt", &other)?);
    // libpq's default asks for it, too.
    let said = |more: &str| {
        let ended = site.pgvpd(&["key", "list", "-d", &conninfo(&site, more)]);
        let output = ended.get_output();
        [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned()).concat()
    };
    eventually("the server speaks TLS", async || said("").contains("is not installed")).await;
    for (mode, root, expected) in [
        ("prefer", None, "is not installed"),
        ("require", None, "is not installed"),
        ("verify-full", Some(&trusted), "is not installed"),
        ("verify-ca", Some(&trusted), "is not installed"),
        ("disable", None, "no pg_hba.conf entry"),
        ("verify-full", Some(&other), "certificate"),
        ("require", Some(&other), "certificate"),
    ] {
        let root = root.map(|root| format!("sslrootcert='{root}'")).unwrap_or_default();
        let said = said(&format!("sslmode={mode} {root}"));
        assert!(said.contains(expected), "{mode} {root}: {said}");
    }
    postgres.stop().await?;
    Ok(())
}

fn write(site: &Site, name: &str, text: &str) -> Result<String, Box<dyn std::error::Error>> {
    let path = site.path(name);
    std::fs::write(&path, text)?;
    Ok(path.display().to_string())
}
