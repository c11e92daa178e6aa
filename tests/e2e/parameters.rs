//! Startup parameters that a client may not set, in every spelling that PostgreSQL accepts.

use crate::support::{TestResult, cluster, proxy, psql};

const FORBIDDEN: &[&str] = &[
    "app.current_tenant_id",
    "APP.Current_Tenant_ID",
    "pgvpd.context",
    "pgvpd.anything",
    "PgVpd.Context",
    "role",
    "ROLE",
    "session_authorization",
    "row_security",
    "standard_conforming_strings",
];

#[tokio::test]
async fn forbidden_parameters_are_refused_by_name() {
    let proxy = proxy(&[]).await;
    for name in FORBIDDEN {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[(name, "globex")]).await;
        let error = client.refusal().await;
        error.assert_is("42501");
        assert!(error.message.contains(name), "{error:?}");
    }
    proxy.assert_serves().await;
}

#[tokio::test]
async fn forbidden_names_in_options_are_refused_in_every_spelling() {
    let proxy = proxy(&[]).await;
    let mut spellings: Vec<String> = Vec::new();
    for name in FORBIDDEN {
        let dashed = name.replace('_', "-");
        let escaped = name.replace('_', r"\_");
        for name in [*name, &dashed, &escaped] {
            spellings.extend([
                format!("-c {name}=x"),
                format!("-c{name}=x"),
                format!("--{name}=x"),
                format!("-c a.b=1  -c {name}=x"),
            ]);
        }
    }
    // Switches that are not plain settings, some of which would carry one past a filter of names.
    for other in [
        "-ecapp.current_tenant_id=x",
        "-Pcapp.current_tenant_id=x",
        "-e",
        "-c",
        "-c x",
        "--",
        "x",
        "-W 0",
        "-fs",
        "-- role=x",
        r"-c\ role=x",
    ] {
        spellings.push(other.into());
    }
    for options in spellings {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[("options", &options)]).await;
        client.refusal().await.assert_is("42501");
    }
    proxy.assert_serves().await;
}

#[tokio::test]
async fn permitted_parameters_and_options_arrive() {
    let proxy = proxy(&[]).await;
    let mut client = proxy.connect().await;
    let parameters = [
        ("application_name", "e2e"),
        ("DateStyle", "German"),
        ("options", r"-c search_path=a,\ b --work-mem=3MB -cgeqo=off -c my.note=x\\y"),
    ];
    client.log_in("app_user.acme", &parameters).await;
    for (setting, value) in [
        ("application_name", "e2e"),
        ("DateStyle", "German, DMY"),
        ("search_path", "a, b"),
        ("work_mem", "3MB"),
        ("geqo", "off"),
        ("my.note", r"x\y"),
    ] {
        assert_eq!(client.value(&format!("SHOW {setting}")).await, value, "{setting}");
    }
}

#[tokio::test]
async fn a_replication_connection_is_refused_for_a_tenant_and_open_to_a_bypass_user() -> TestResult {
    let proxy = proxy(&[]).await;
    for mode in ["database", "true", "false"] {
        let mut client = proxy.connect().await;
        client.start("app_user.acme", &[("replication", mode)]).await;
        client.refusal().await.assert_is("0A000");
    }
    let postgres = &cluster().await.postgres;
    let target = format!(
        "host=127.0.0.1 port={} user=postgres dbname=shop replication=database sslmode=disable password={}",
        proxy.port(),
        postgres.password()
    );
    let psql = psql(&[&target, "-c", "IDENTIFY_SYSTEM"], "").await;
    assert_eq!(psql.code, 0, "{}", psql.err);
    Ok(())
}
