//! Who may use the console: names of `admin_users`, with their own secret of `auth_file`, from `bypass_from`.

use std::io::Write;

use tempfile::NamedTempFile;
use tokio_postgres::NoTls;

use crate::support::{
    ADMINISTRATOR, APP_PASSWORD, Mode, PgError, TestDatabase, TestProxy, TestResult, WireClient, auth_file, cluster,
    mode, proxy, startup_packet, within,
};

fn file_with(lines: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    // The roles that tenants log in as, in a pool.
    write!(file, "{}{lines}", std::fs::read_to_string(auth_file()).expect("readable")).expect("written");
    file
}

async fn with_console(file: &NamedTempFile, options: &[(&str, &str)]) -> TestProxy {
    let path = file.path().display().to_string();
    proxy(&[&[("auth_file", &*path)], options].concat()).await
}

/// What becomes of a login: nothing, or the code and the message.
async fn login(proxy: &TestProxy, database: &str, user: &str, password: &str) -> Option<(String, String)> {
    let mut config = proxy.config(user);
    let error = within("login", config.dbname(database).password(password).connect(NoTls)).await.err()?;
    let error = error.as_db_error().unwrap_or_else(|| panic!("{error:?}"));
    Some((error.code().code().to_owned(), error.message().to_owned()))
}

async fn refused(proxy: &TestProxy, user: &str, password: &str) -> String {
    login(proxy, "pgvpd", user, password).await.unwrap_or_else(|| panic!("{user} is let in")).0
}

/// What a client is asked for first.
async fn request(proxy: &TestProxy, user: &str) -> (u8, Vec<u8>) {
    let mut client = WireClient::connect(proxy.port()).await;
    client.send(&startup_packet(0x3_0000, &[("user", user), ("database", "pgvpd")])).await;
    client.message().await.expect("an answer")
}

#[tokio::test]
async fn administrators_come_in_with_their_own_secret_and_nobody_else_does() {
    let file = file_with("\"root\" \"root's own\"\n\"shut\" \"\"\n\"outside\" \"outside's own\"\n");
    let mut options = vec![("admin_users", "root, admin")];
    if mode() == Mode::Session {
        options.push(("pool_password", "everybody's"));
    }
    let proxy = with_console(&file, &options).await;
    assert_eq!(login(&proxy, "pgvpd", "root", "root's own").await, None);
    assert_eq!(login(&proxy, "pgvpd", ADMINISTRATOR, APP_PASSWORD).await, None);
    for (user, password) in [
        ("root", APP_PASSWORD),
        ("root", ""),
        ("root", "everybody's"),
        ("Root", "root's own"),
        ("root.acme", "root's own"),
        // In the file, and not among them.
        ("outside", "outside's own"),
        ("shut", ""),
        ("app_user", APP_PASSWORD),
        ("app_user.acme", APP_PASSWORD),
        // In the database, and not among them.
        ("postgres", APP_PASSWORD),
        ("nobody", "everybody's"),
    ] {
        assert_eq!(refused(&proxy, user, password).await, "28P01", "{user} {password}");
    }
    // A tenant's database may have any other name.
    assert_ne!(login(&proxy, "pgvpd2", "root", "root's own").await, None);
    proxy.assert_serves().await;
}

#[tokio::test]
async fn whoever_is_not_an_administrator_is_asked_the_same_and_told_the_same() {
    let file = file_with("");
    let proxy = with_console(&file, &[("admin_users", ADMINISTRATOR)]).await;
    let (known, unknown) = (request(&proxy, ADMINISTRATOR).await, request(&proxy, "stranger").await);
    assert_eq!(known, unknown);
    assert_eq!((known.0, &known.1[..4]), (b'R', &[0, 0, 0, 10][..]), "SCRAM");
    let said = async |user: &str| {
        let (code, message) = login(&proxy, "pgvpd", user, "wrong").await.expect("refused");
        (code, message.replace(user, "…"))
    };
    assert_eq!(said(ADMINISTRATOR).await, said("stranger").await);
}

#[tokio::test]
async fn it_is_scram_whatever_clients_of_the_database_are_asked_for() {
    if mode() != Mode::Session {
        return;
    }
    let file = file_with("");
    for client_auth in ["md5", "cleartext"] {
        let proxy = with_console(&file, &[("admin_users", ADMINISTRATOR), ("client_auth", client_auth)]).await;
        assert_eq!(&request(&proxy, ADMINISTRATOR).await.1[..4], &[0, 0, 0, 10], "{client_auth}");
    }
}

#[tokio::test]
async fn a_verifier_as_postgresql_has_it_is_enough() -> TestResult {
    let sql = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'";
    let verifier: String = TestDatabase::create().await.admin().await.query_one(sql, &[]).await?.get(0);
    assert!(verifier.starts_with("SCRAM-SHA-256$"), "{verifier}");
    let file = file_with(&format!("\"root\" \"{verifier}\"\n"));
    let proxy = with_console(&file, &[("admin_users", "root")]).await;
    assert_eq!(login(&proxy, "pgvpd", "root", APP_PASSWORD).await, None);
    assert_eq!(refused(&proxy, "root", "secre").await, "28P01");
    Ok(())
}

#[tokio::test]
async fn from_elsewhere_nobody_is_asked_for_anything() {
    let file = file_with("");
    let options = [("admin_users", ADMINISTRATOR), ("bypass_from", "192.0.2.0/24")];
    let proxy = with_console(&file, &options).await;
    for user in [ADMINISTRATOR, "stranger"] {
        let (tag, body) = request(&proxy, user).await;
        let error = PgError::parse(&body);
        assert_eq!((tag, &*error.code), (b'E', "28000"), "{user} {error:?}");
    }
    proxy.assert_serves().await;
}

#[tokio::test]
async fn without_admin_users_there_is_no_console_and_the_refusal_says_so() {
    let proxy = proxy(&[]).await;
    let mut client = WireClient::connect(proxy.port()).await;
    client.send(&startup_packet(0x3_0000, &[("user", "root"), ("database", "pgvpd")])).await;
    let error = client.refusal().await;
    error.assert_is("28000");
    assert!(error.hint.contains("admin_users"), "{error:?}");
    // With a tenant it is a database like any other: the server says that there is none.
    let (code, _) = login(&proxy, "pgvpd", "app_user.acme", APP_PASSWORD).await.expect("there is none");
    assert_eq!(code, "3D000");
}

#[tokio::test]
async fn an_administrator_gets_in_where_clients_cannot() -> TestResult {
    let file = file_with("");
    let options = [("admin_users", ADMINISTRATOR), ("max_client_connections", "1")];
    let proxy = with_console(&file, &options).await;
    let _only = proxy.log_in("app_user.acme").await;
    let (code, _) = login(&proxy, "shop", "app_user.globex", APP_PASSWORD).await.ok_or("it is full")?;
    assert_eq!(code, "53300");
    assert_eq!(login(&proxy, "pgvpd", ADMINISTRATOR, APP_PASSWORD).await, None);
    // With its server gone, too.
    let nobody = tokio::net::TcpSocket::new_v4()?;
    nobody.bind("127.0.0.1:0".parse()?)?;
    let port = nobody.local_addr()?.port().to_string();
    let proxy = with_console(&file, &[("admin_users", ADMINISTRATOR), ("upstream_port", &port)]).await;
    assert_eq!(login(&proxy, "pgvpd", ADMINISTRATOR, APP_PASSWORD).await, None);
    Ok(())
}

#[tokio::test]
async fn a_name_that_is_also_a_bypass_users_opens_the_console_by_its_own_secret() {
    let file = file_with("\"postgres\" \"of the console\"\n");
    let proxy = with_console(&file, &[("admin_users", "postgres")]).await;
    assert_eq!(login(&proxy, "pgvpd", "postgres", "of the console").await, None);
    let password = cluster().await.postgres.password();
    assert_eq!(refused(&proxy, "postgres", password).await, "28P01");
    assert_eq!(login(&proxy, "shop", "postgres", password).await, None, "elsewhere it is passed through");
}
