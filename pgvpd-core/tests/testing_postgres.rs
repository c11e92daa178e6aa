//! The launcher of private PostgreSQL servers, against the PostgreSQL that it finds on this machine.
#![cfg(feature = "testing")]

use std::{
    env,
    error::Error,
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use pgvpd_core::testing::{Fetch, Postgres, PostgresError, discover};
use rustix::process::{Pid, getpgid, test_kill_process};

type Result<T = ()> = std::result::Result<T, Box<dyn Error>>;

/// Names the file by which the process that `helper_owns_a_server` runs in reports its server's directory.
const REPORT: &str = "PGVPD_TEST_OWNER_REPORT";

fn postmaster(data_dir: &Path) -> Result<Pid> {
    let text = fs::read_to_string(data_dir.join("postmaster.pid"))?;
    let pid = text.lines().next().and_then(|line| Pid::from_raw(line.parse().ok()?));
    pid.ok_or_else(|| "no pid".into())
}

/// Waits for a state that nobody signals.
async fn until(what: &str, mut reached: impl FnMut() -> bool) -> Result {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !reached() {
        if Instant::now() > deadline {
            return Err(format!("waited in vain for: {what}").into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

async fn count(postgres: &Postgres, dbname: &str) -> Result<i64> {
    Ok(postgres.connect(dbname).await?.query_one("SELECT count(*) FROM t", &[]).await?.get(0))
}

#[tokio::test]
async fn server_answers_as_described_and_leaves_nothing_when_dropped() -> Result {
    let postgres = Postgres::builder().setting("work_mem", "5MB").setting("max_connections", "17").start().await?;
    let client = postgres.connect("postgres").await?;
    let show =
        async |name: &str| -> Result<String> { Ok(client.query_one(&format!("SHOW {name}"), &[]).await?.get(0)) };
    assert_eq!(show("port").await?, postgres.port().to_string());
    assert_eq!(show("data_directory").await?, postgres.data_dir().to_string_lossy());
    assert_eq!(show("unix_socket_directories").await?, postgres.socket_dir().to_string_lossy());
    assert_eq!(show("server_encoding").await?, "UTF8");
    assert_eq!(show("fsync").await?, "off");
    assert_eq!((show("work_mem").await?.as_str(), show("max_connections").await?.as_str()), ("5MB", "17"));
    let (major, version) = postgres.version();
    // A packager may add its own version in parentheses.
    assert_eq!(show("server_version").await?.split(' ').next(), Some(version));
    assert!(version.starts_with(&major.to_string()));
    assert!(!postgres.socket_dir().join("password").exists());

    postgres.create_database("a \"b\"/c").await?;
    postgres.execute("a \"b\"/c", "CREATE TABLE t (id int); INSERT INTO t VALUES (1), (2)").await?;
    assert_eq!(count(&postgres, "a \"b\"/c").await?, 2);
    assert!(postgres.url("a b").ends_with(&format!("@127.0.0.1:{}/a%20b", postgres.port())));
    let (by_url, connection) = tokio_postgres::connect(&postgres.url("postgres"), tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    by_url.batch_execute("SELECT 1").await?;

    let (dir, pid) = (postgres.socket_dir().to_owned(), postmaster(postgres.data_dir())?);
    // Ctrl-C goes to the foreground process group, which is ours.
    assert_ne!(getpgid(Some(pid))?, getpgid(None)?);
    drop(postgres);
    until("the directory is removed", || !dir.exists()).await?;
    assert!(test_kill_process(pid).is_err());
    Ok(())
}

#[tokio::test]
async fn wrong_password_is_refused() -> Result {
    let postgres = Postgres::builder().start().await?;
    let url = postgres.url("postgres").replace(postgres.password(), "wrong");
    let Err(error) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await else {
        return Err("let in".into());
    };
    assert_eq!(error.code().map(|code| code.code()), Some("28P01"));
    Ok(())
}

#[tokio::test]
async fn refused_setting_is_an_error_with_the_server_log() -> Result {
    let error = Postgres::builder().setting("no_such_setting", "1").start().await.err().ok_or("started")?;
    assert!(matches!(&error, PostgresError::Start { log, .. } if log.contains("no_such_setting")), "{error}");
    Ok(())
}

#[tokio::test]
async fn explicit_directory_without_programs_is_an_error() -> Result {
    let error = Postgres::builder().bin_dir("/usr/share").fetch(Fetch::Never).start().await.err().ok_or("started")?;
    assert!(matches!(&error, PostgresError::BinDir { .. }), "{error}");
    assert!(error.to_string().contains("/usr/share") && error.to_string().contains("PGVPD_PG_BINDIR"), "{error}");
    Ok(())
}

#[tokio::test]
async fn discovered_programs_can_be_named() -> Result {
    for found in discover() {
        let postgres = Postgres::builder().bin_dir(&found.bin_dir).start().await?;
        assert_eq!(postgres.version(), (found.major, found.version.as_str()));
        assert_eq!(postgres.bin_dir(), found.bin_dir);
    }
    Ok(())
}

#[tokio::test]
async fn hba_lines_are_in_force_when_set_and_kept_when_refused() -> Result {
    let trust = "host all postgres 127.0.0.1/32 trust";
    let postgres = Postgres::builder().hba([trust, "host all all 127.0.0.1/32 reject"]).start().await?;
    postgres.execute("postgres", "CREATE ROLE guest LOGIN").await?;
    let guest = format!("postgresql://guest@127.0.0.1:{}/postgres", postgres.port());
    let enter = || tokio_postgres::connect(&guest, tokio_postgres::NoTls);
    assert!(enter().await.is_err());
    for _ in 0..5 {
        postgres.set_hba([trust, "host all guest 127.0.0.1/32 trust"]).await?;
        assert!(enter().await.is_ok());
        postgres.set_hba([trust]).await?;
        assert!(enter().await.is_err());
    }
    let error = postgres.set_hba(["nonsense all all"]).await.err().ok_or("accepted")?;
    assert!(matches!(&error, PostgresError::Reload { log } if log.contains("nonsense")), "{error}");
    postgres.execute("postgres", "ALTER SYSTEM SET work_mem = '7MB'").await?;
    postgres.set_hba([trust]).await?;
    postgres.reload().await?;
    let work_mem: String = postgres.connect("postgres").await?.query_one("SHOW work_mem", &[]).await?.get(0);
    assert_eq!(work_mem, "7MB");
    Ok(())
}

#[tokio::test]
async fn killed_or_stopped_server_comes_back_with_its_data_and_port() -> Result {
    let postgres = Postgres::builder().start().await?;
    postgres.execute("postgres", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)").await?;
    let port = postgres.port();
    for (rows, crash) in [(2, true), (3, false), (4, true)] {
        // A backend that is busy does not notice its postmaster's death by itself.
        let busy = postgres.connect("postgres").await?;
        let busy = tokio::spawn(async move { busy.batch_execute("SELECT pg_sleep(600)").await });
        let pid = postmaster(postgres.data_dir())?;
        // The last commit before the end.
        postgres.execute("postgres", "INSERT INTO t VALUES (1)").await?;
        if crash {
            postgres.kill().await?;
            postgres.kill().await?;
        } else {
            postgres.stop().await?;
            postgres.stop().await?;
        }
        assert!(test_kill_process(pid).is_err());
        assert!(busy.await?.is_err());
        assert!(postgres.connect("postgres").await.is_err());
        assert!(matches!(postgres.reload().await, Err(PostgresError::Reload { .. })));
        postgres.restart().await?;
        assert_eq!((postgres.port(), count(&postgres, "postgres").await?), (port, rows));
    }
    postgres.restart().await?;
    assert_eq!(count(&postgres, "postgres").await?, 4);
    postgres.kill().await?;
    let dir = postgres.socket_dir().to_owned();
    drop(postgres);
    assert!(!dir.exists());
    Ok(())
}

#[tokio::test]
async fn restart_on_a_taken_port_is_an_error_that_can_be_repaired() -> Result {
    let postgres = Postgres::builder().start().await?;
    postgres.stop().await?;
    let taken = std::net::TcpListener::bind((postgres.host(), postgres.port()))?;
    let error = postgres.restart().await.err().ok_or("started")?;
    // By these words the first start knows that it should try another port.
    assert!(matches!(&error, PostgresError::Start { log, .. } if log.contains("could not bind")), "{error}");
    drop(taken);
    postgres.restart().await?;
    postgres.execute("postgres", "SELECT 1").await?;
    Ok(())
}

#[tokio::test]
async fn ten_servers_start_at_once() -> Result {
    let starts: Vec<_> = (0..10).map(|_| tokio::spawn(Postgres::builder().start())).collect();
    let mut ports = Vec::new();
    let mut servers = Vec::new();
    for start in starts {
        let postgres = start.await??;
        ports.push(postgres.port());
        servers.push(postgres);
    }
    for postgres in &servers {
        postgres.execute("postgres", "SELECT 1").await?;
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 10);
    Ok(())
}

#[test]
fn server_outlives_the_runtime_that_started_it() -> Result {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build();
    let postgres = runtime()?.block_on(Postgres::builder().start())?;
    runtime()?.block_on(postgres.execute("postgres", "SELECT 1"))?;
    runtime()?.block_on(postgres.restart())?;
    Ok(runtime()?.block_on(postgres.stop())?)
}

/// Runs one test of this file in a process of its own.
fn alone(test: &str, report: &Path) -> Result<Child> {
    let mut command = Command::new(env::current_exe()?);
    command.args(["--exact", test, "--include-ignored"]).env(REPORT, report);
    Ok(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?)
}

#[tokio::test]
#[ignore = "a part of server_ends_with_an_owner_that_is_killed"]
async fn helper_owns_a_server() -> Result {
    let Some(report) = env::var_os(REPORT).map(PathBuf::from) else {
        return Ok(());
    };
    let postgres = Postgres::builder().start().await?;
    fs::write(report.with_extension("new"), postgres.data_dir().as_os_str().as_encoded_bytes())?;
    fs::rename(report.with_extension("new"), report)?;
    std::future::pending().await
}

#[tokio::test]
#[ignore = "a part of cancelled_start_leaves_nothing"]
async fn helper_cancels_starts() -> Result {
    let prefix = format!("pgvpd-pg-{}-", std::process::id());
    let directories = || {
        let entries = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&prefix)).count()
    };
    let mut seen = 0;
    for milliseconds in [20, 60, 150, 300, 600] {
        let start = Postgres::builder().start();
        let started = tokio::time::timeout(Duration::from_millis(milliseconds), start).await;
        seen += directories();
        drop(started);
        until("the directory is removed", || directories() == 0).await?;
    }
    assert_ne!(seen, 0, "always cancelled too early");
    Ok(())
}

#[tokio::test]
async fn cancelled_start_leaves_nothing() -> Result {
    let mut owner = alone("helper_cancels_starts", Path::new("unused"))?;
    let mut ended = false;
    until("the starts are cancelled", || {
        owner.try_wait().is_ok_and(|status| {
            ended = status.is_some_and(|status| status.success());
            status.is_some()
        })
    })
    .await?;
    assert!(ended);
    Ok(())
}

#[tokio::test]
async fn server_ends_with_an_owner_that_is_killed() -> Result {
    let place = tempfile::tempdir()?;
    let report = place.path().join("report");
    let mut owner = alone("helper_owns_a_server", &report)?;
    until("the owner has a server", || report.exists()).await?;
    let data_dir = PathBuf::from(fs::read_to_string(&report)?);
    let pid = postmaster(&data_dir)?;
    assert!(test_kill_process(pid).is_ok());
    owner.kill()?;
    owner.wait()?;
    until("the server ends and its directory is removed", || {
        test_kill_process(pid).is_err() && data_dir.parent().is_some_and(|dir| !dir.exists())
    })
    .await
}

#[tokio::test]
async fn start_sweeps_the_directories_of_dead_owners_only() -> Result {
    let postgres = Postgres::builder().start().await?;
    let mut dead = Command::new("true").spawn()?;
    dead.wait()?;
    let owner = fs::metadata(postgres.data_dir())?;
    let make = |pid: u32| -> Result<PathBuf> {
        let dir = env::temp_dir().join(format!("pgvpd-pg-{pid}-test"));
        fs::create_dir(&dir)?;
        chown(&dir, Some(owner.uid()), Some(owner.gid()))?;
        Ok(dir)
    };
    let (left, kept) = (make(dead.id())?, make(std::process::id())?);
    // The server of a dead owner still runs: here, ours.
    let mut other = Command::new("true").spawn()?;
    other.wait()?;
    let running = make(other.id())?;
    fs::create_dir(running.join("data"))?;
    fs::copy(postgres.data_dir().join("postmaster.pid"), running.join("data/postmaster.pid"))?;
    let another = Postgres::builder().start().await?;
    let after = (left.exists(), kept.exists(), running.exists(), postgres.data_dir().exists());
    fs::remove_dir_all(&kept)?;
    fs::remove_dir_all(&running)?;
    assert_eq!(after, (false, true, true, true));
    drop(another);
    Ok(())
}
