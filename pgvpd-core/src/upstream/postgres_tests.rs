//! The login and `auth_query` against PostgreSQL itself.

use super::*;
use crate::auth::{Binding, Challenge, ClientFirst, Nonce, Offer, Secret};
use crate::config::{Config, Settings};
use crate::secrets::Secrets;
use crate::testing::Postgres;

const ROLES: &str = "
    SET password_encryption = 'scram-sha-256';
    CREATE ROLE by_scram LOGIN PASSWORD 'pässword';
    CREATE ROLE in_clear LOGIN PASSWORD 'pässword';
    CREATE ROLE trusted LOGIN;
    CREATE ROLE asker LOGIN PASSWORD 'asks';
    GRANT SELECT ON pg_authid TO asker;
    SET password_encryption = 'md5';
    CREATE ROLE by_md5 LOGIN PASSWORD 'pässword';
";

async fn server() -> Postgres {
    let postgres = Postgres::builder().start().await.expect("started");
    postgres.execute("postgres", ROLES).await.expect("roles");
    let lines = ["by_scram scram-sha-256", "by_md5 md5", "in_clear password", "trusted trust", "asker scram-sha-256"];
    let lines = lines.map(|line| format!("host all {}", line.replacen(' ', " 127.0.0.1/32 ", 1)));
    let superuser = "host all postgres 127.0.0.1/32 scram-sha-256".to_owned();
    postgres.set_hba(lines.into_iter().chain([superuser])).await.expect("accepted");
    postgres
}

async fn log_in_as(
    postgres: &Postgres,
    role: &str,
    credentials: Credentials,
) -> Result<UpstreamSession, UpstreamError> {
    let address = UpstreamAddress {
        host: postgres.host().into(),
        port: postgres.port(),
        tls: None,
        tcp: crate::net::TcpTimes::default(),
    };
    let startup = [("application_name".to_owned(), "pgvpd".to_owned())];
    let login = UpstreamLogin {
        address: &address,
        allow_cleartext: false,
        role,
        database: "postgres",
        startup: &startup,
        credentials,
    };
    login.run(&Deriver::new()).await
}

fn with(secret: &str) -> Credentials {
    Credentials { password: Secret::of(secret), recovered: None }
}

#[tokio::test]
async fn postgresql_lets_the_proxy_in_by_every_method_and_keeps_it_out_with_a_wrong_password() {
    let postgres = server().await;
    for (role, secret) in [("by_scram", "pässword"), ("by_md5", "pässword"), ("in_clear", "pässword"), ("trusted", "")]
    {
        let session = log_in_as(&postgres, role, with(secret)).await.unwrap_or_else(|error| panic!("{role}: {error}"));
        assert_eq!(session.parameters.get(b"session_authorization"), Some(role.as_bytes()));
        assert_eq!(session.parameters.get(b"application_name"), Some(&b"pgvpd"[..]));
        assert!(session.cancel_key.is_some());
        if secret.is_empty() {
            continue;
        }
        match log_in_as(&postgres, role, with("wrong")).await.err() {
            Some(UpstreamError::Refused { summary, .. }) => assert!(summary.starts_with("28P01 "), "{summary}"),
            other => panic!("{role}: {other:?}"),
        }
    }
    let stored = postgres.connect("postgres").await.expect("connected");
    let stored = stored.query_one("SELECT rolpassword FROM pg_authid WHERE rolname = 'by_md5'", &[]).await;
    let stored: String = stored.expect("asked").get(0);
    assert!(log_in_as(&postgres, "by_md5", with(&stored)).await.is_ok());
    let superuser = log_in_as(&postgres, "postgres", with(postgres.password())).await;
    assert!(matches!(superuser.err(), Some(UpstreamError::Superuser)));
}

#[tokio::test]
async fn a_client_that_proves_the_verifier_of_auth_query_lets_the_proxy_in_without_a_password() {
    let postgres = server().await;
    let config = {
        let mut settings = Settings::new();
        let port = postgres.port().to_string();
        for (option, value) in [
            ("upstream_port", &*port),
            ("pool_mode", "session"),
            ("auth_user", "asker"),
            ("auth_dbname", "postgres"),
            ("auth_query", "SELECT rolname, rolpassword FROM pg_authid WHERE rolname = $1"),
            ("upstream_password", "asks"),
        ] {
            settings.set(option, value).expect("known");
        }
        Config::from_settings(settings).expect("valid")
    };
    let (secrets, deriver) = (Secrets::new(), Deriver::new());
    let nobody = secrets.of_client("nobody", &config, &deriver).await;
    assert!(matches!(nobody, Ok(None)), "{nobody:?}");
    let Ok(Some(Secret::Scram(verifier))) = secrets.of_client("by_scram", &config, &deriver).await else {
        panic!("no verifier")
    };

    let first = ClientFirst::new(Nonce::random(), Binding::None);
    let challenge = Challenge::new(first.message().as_bytes(), verifier.clone(), &Nonce::random(), &Offer::Plain);
    let challenge = challenge.expect("client-first");
    let challenged = first.challenged(challenge.message().as_bytes()).expect("server-first");
    let keys = deriver.keys("pässword".as_bytes(), &challenged.salt, challenged.iterations).await;
    let proved = challenge.judge(challenged.prove(&keys).message.as_bytes()).expect("proof");
    secrets.learn("by_scram", &verifier, proved.client_key);

    let credentials = Credentials { password: None, ..secrets.for_upstream("by_scram", &config) };
    assert!(log_in_as(&postgres, "by_scram", credentials.clone()).await.is_ok());
    postgres.execute("postgres", "ALTER ROLE by_scram PASSWORD 'new'").await.expect("changed");
    let changed = log_in_as(&postgres, "by_scram", credentials).await;
    assert!(matches!(changed.err(), Some(UpstreamError::NoSecret(_))), "another salt");
}
