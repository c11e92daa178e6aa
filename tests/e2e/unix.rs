//! Unix sockets on both sides.

use crate::support::{APP_PASSWORD, TestResult, cluster, proxy};

#[tokio::test]
async fn a_client_and_a_server_on_unix_sockets_meet() -> TestResult {
    let directory = tempfile::tempdir()?;
    let listen = directory.path().to_str().unwrap();
    let postgres = &cluster().await.postgres;
    let upstream = postgres.socket_dir().to_str().unwrap();
    let proxy = proxy(&[("listen_unix_dir", listen), ("upstream_host", upstream)]).await;
    let socket = directory.path().join(format!(".s.PGSQL.{}", proxy.port()));
    assert!(socket.exists());

    let mut config = tokio_postgres::Config::new();
    config.host_path(directory.path()).port(proxy.port()).user("app_user.acme").password(APP_PASSWORD).dbname("shop");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    let row = client.query_one("SELECT count(*), inet_server_addr() IS NULL FROM notes", &[]).await?;
    assert_eq!((row.get(0), row.get(1)), (3_i64, true), "the server is reached over its socket");
    proxy.assert_serves().await;
    drop(client);

    proxy.handle.shutdown(std::time::Duration::ZERO).await;
    assert!(!socket.exists(), "the socket file is removed");
    Ok(())
}

#[tokio::test]
async fn a_socket_file_left_behind_is_replaced_and_one_in_use_is_not() -> TestResult {
    let directory = tempfile::tempdir()?;
    let listen = directory.path().to_str().unwrap();
    let first = proxy(&[("listen_unix_dir", listen)]).await;
    let port = first.port();
    let socket = directory.path().join(format!(".s.PGSQL.{port}"));
    // The same name on another address of loopback: the file is in use.
    let taken =
        pgvpd_core::Proxy::builder().listen_host("127.0.0.2").port(port).set("listen_unix_dir", listen).start().await;
    assert!(matches!(taken, Err(pgvpd_core::StartError::Bind(pgvpd_core::BindError::Unix { .. }))), "{taken:?}");
    first.handle.shutdown(std::time::Duration::ZERO).await;

    drop(std::os::unix::net::UnixListener::bind(&socket)?);
    assert!(socket.exists(), "nobody listens on it");
    let second =
        pgvpd_core::Proxy::builder().listen_host("127.0.0.2").port(port).set("listen_unix_dir", listen).start().await?;
    assert!(std::os::unix::net::UnixStream::connect(&socket).is_ok());
    drop(second);
    Ok(())
}
