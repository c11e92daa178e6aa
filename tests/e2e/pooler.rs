//! PgBouncer as the upstream: it refuses startup parameters that it does not know.

use std::process::Stdio;

use pgvpd_core::{Proxy, ProxyHandle};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{TestResult, cluster, within};

struct PgBouncer {
    _process: Child,
    _directory: tempfile::TempDir,
    port: u16,
}

impl PgBouncer {
    async fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = cluster().await.postgres.port();
        let path = |name: &str| directory.path().join(name);
        std::fs::write(path("users.txt"), "\"app_user\" \"secret\"\n").unwrap();
        let users = path("users.txt").display().to_string();
        let config = format!(
            "[databases]\n* = host=127.0.0.1 port={server}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\n"
        );
        std::fs::write(path("pgbouncer.ini"), config).unwrap();
        // It refuses to run as root.
        let mut command = Command::new("/usr/sbin/pgbouncer");
        if rustix::process::geteuid().is_root() {
            command.args(["-u", "nobody"]);
            use std::os::unix::fs::PermissionsExt;
            std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        command.arg(path("pgbouncer.ini")).stderr(Stdio::piped()).stdin(Stdio::null()).kill_on_drop(true);
        let mut process = command.spawn().expect("pgbouncer is installed (Debian package pgbouncer)");
        let mut log = BufReader::new(process.stderr.take().unwrap()).lines();
        within("pgbouncer starts", async {
            loop {
                let line = log.next_line().await.unwrap().expect("pgbouncer runs");
                if line.contains("process up") {
                    break;
                }
            }
        })
        .await;
        tokio::spawn(async move { while let Ok(Some(_)) = log.next_line().await {} });
        Self { _process: process, _directory: directory, port }
    }

    async fn proxy(&self, context_in_startup: bool) -> ProxyHandle {
        let builder = Proxy::builder().port(0).upstream_port(self.port).set("context_in_startup", context_in_startup);
        builder.start().await.expect("the proxy starts")
    }
}

async fn log_in(proxy: &ProxyHandle, user: &str) -> Result<tokio_postgres::Client, tokio_postgres::Error> {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(proxy.local_addr().port()).user(user).password("secret").dbname("shop");
    let (client, connection) = config.connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

#[tokio::test]
async fn a_pooler_that_refuses_the_parameter_is_named_with_its_remedy_which_works() -> TestResult {
    let pooler = PgBouncer::start().await;
    let proxy = pooler.proxy(true).await;
    let error = log_in(&proxy, "app_user.acme").await.map(drop).unwrap_err();
    let error = error.as_db_error().expect("an error of the proxy's");
    assert_eq!(error.code().code(), "08P01");
    assert!(error.message().contains("app.current_tenant_id"), "{error}");
    assert_eq!(error.hint(), Some("If the upstream is a connection pooler, set context_in_startup = false."));

    let proxy = pooler.proxy(false).await;
    for (user, rows) in [("app_user.acme", 3_i64), ("app_user.globex", 2)] {
        let client = log_in(&proxy, user).await?;
        let count: i64 = client.query_one("SELECT count(*) FROM notes", &[]).await?.get(0);
        assert_eq!(count, rows, "{user}");
    }
    Ok(())
}
