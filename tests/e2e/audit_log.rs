//! The audit stream: what is told, and what becomes of a login that cannot be.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use serde_json::Value;

use crate::support::{
    ADMIN_TOKEN, ADMINISTRATOR, APP_PASSWORD, Mode, TestResult, administered, auth_file, cluster, eventually, http,
    mode, proxy, proxy_for, within,
};

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("the audit stream");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

fn named<'e>(events: &'e [Value], name: &str) -> Vec<&'e Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

#[tokio::test]
async fn it_tells_who_was_let_in_who_was_not_and_what_administrators_did() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("audit.log");
    let proxy = administered(&[("audit_log", path.to_str().ok_or("UTF-8")?), ("tenant_deny", "mallory")]).await;
    let client = proxy.log_in("app_user.acme").await;
    // It stands there before the client is ready.
    let accepted = events(&path);
    let [accepted] = named(&accepted, "login_accepted")[..] else { panic!("{accepted:?}") };
    for (field, value) in [("tenant", "acme"), ("role", "app_user"), ("database", "shop"), ("client", "127.0.0.1")] {
        assert_eq!(accepted[field], value, "{accepted}");
    }
    assert!(accepted["session"].is_u64() && accepted["tls"] == false && accepted["time"].is_string(), "{accepted}");

    assert!(proxy.try_log_in("app_user.mallory").await.is_err());
    let mut bypass = proxy.config("postgres");
    let (bypass, connection) =
        bypass.password(cluster().await.postgres.password()).connect(tokio_postgres::NoTls).await?;
    tokio::spawn(connection);
    bypass.batch_execute("SELECT 1").await?;
    assert_eq!(http(proxy.admin(), "POST", "/drain", &[], "").await.status, 401);
    assert_eq!(proxy.post("/tenants/acme/disconnect").await.json()["sessions"], 1);
    eventually("the session is ended", async || client.is_closed()).await;
    eventually("and told of", async || !named(&events(&path), "revocation").is_empty()).await;

    let all = events(&path);
    let [refused] = named(&all, "login_refused")[..] else { panic!("{all:?}") };
    assert_eq!((&refused["user"], &refused["sqlstate"]), (&"app_user.mallory".into(), &"28000".into()));
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("not permitted")), "{refused}");
    let [by] = named(&all, "superuser_bypass")[..] else { panic!("{all:?}") };
    assert_eq!((&by["role"], by.get("tenant")), (&"postgres".into(), None));
    let actions: Vec<_> = named(&all, "admin_action").iter().map(|it| (&it["action"], &it["outcome"])).collect();
    let (drain, disconnect) = (Value::from("/drain"), Value::from("/tenants/acme/disconnect"));
    assert_eq!(actions, [(&drain, &"refused".into()), (&disconnect, &"accepted".into())]);
    let [revoked] = named(&all, "revocation")[..] else { panic!("{all:?}") };
    assert_eq!((&revoked["tenant"], &revoked["session"]), (&"acme".into(), &accepted["session"]));
    let text = std::fs::read_to_string(&path)?;
    assert!(!text.contains(ADMIN_TOKEN) && !text.contains(APP_PASSWORD));
    Ok(())
}

#[tokio::test]
async fn a_login_that_cannot_be_recorded_is_refused_unless_it_is_to_go_on() -> TestResult {
    // Every write to it fails: there is no space.
    let strict = proxy(&[("audit_log", "/dev/full")]).await;
    let error = strict.try_log_in("app_user.acme").await.expect_err("not recorded");
    let error = error.as_db_error().ok_or("an error of the proxy's")?;
    assert_eq!((error.code().code(), error.message()), ("58030", "pgvpd: the login cannot be recorded"));
    eventually("counted", async || strict.handle.stats().audit_errors_total >= 1).await;
    eventually("nothing is left behind", async || strict.handle.stats().sessions_active == 0).await;
    let lenient = proxy(&[("audit_log", "/dev/full"), ("audit_on_error", "continue")]).await;
    lenient.assert_serves().await;
    assert!(lenient.handle.stats().audit_errors_total >= 1, "it does not pass in silence");
    Ok(())
}

#[tokio::test]
async fn a_change_that_cannot_be_recorded_is_not_made() {
    let proxy = administered(&[("audit_log", "/dev/full")]).await;
    let answer = proxy.post("/drain").await;
    assert_eq!(answer.status, 503);
    assert!(answer.body.contains("the audit stream cannot be written"), "{}", answer.body);
    assert_eq!(proxy.get("/status").await.json()["state"], "running");
}

#[tokio::test]
async fn a_reload_opens_the_file_anew_and_keeps_all_where_that_fails() -> TestResult {
    let directory = tempfile::tempdir()?;
    let (path, moved) = (directory.path().join("audit.log"), directory.path().join("audit.log.1"));
    let settings = |path: &Path| {
        let mut settings = proxy_settings();
        settings.set("audit_log", path.display())?;
        pgvpd_core::Config::from_settings(settings)
    };
    let proxy = proxy_for(&cluster().await.postgres, &[("audit_log", path.to_str().ok_or("UTF-8")?)]).await?;
    drop(proxy.log_in("app_user.acme").await);
    std::fs::rename(&path, &moved)?;
    let config = settings(&path)?;
    proxy.handle.reload(config.clone())?;
    drop(proxy.log_in("app_user.globex").await);
    assert_eq!(named(&events(&moved), "login_accepted").len(), 1);
    assert_eq!(named(&events(&path), "login_accepted")[0]["tenant"], "globex");
    // It is there when the configuration is checked, and a directory when it is opened.
    let gone = directory.path().join("sub");
    let config = settings(&gone)?;
    std::fs::create_dir(&gone)?;
    assert!(proxy.handle.reload(config).is_err());
    drop(proxy.log_in("app_user.initech").await);
    assert_eq!(named(&events(&path), "login_accepted").len(), 2);
    Ok(())
}

/// Those of a proxy before the tests' server, in the mode of this run.
fn proxy_settings() -> pgvpd_core::Settings {
    let mut settings = pgvpd_core::Settings::new();
    let port = cluster_port();
    settings.set("upstream_port", port).expect("known");
    if mode() == Mode::Session {
        settings.set("pool_mode", "session").expect("known");
        settings.set("auth_file", auth_file().display()).expect("known");
    }
    settings
}

fn cluster_port() -> u16 {
    futures_util::FutureExt::now_or_never(cluster()).expect("it runs").postgres.port()
}

#[tokio::test]
async fn it_tells_who_came_to_the_console_and_what_they_did_and_nothing_is_done_that_it_cannot_tell() -> TestResult {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("audit.log");
    let file = auth_file().display().to_string();
    let options = [("auth_file", &*file), ("admin_users", ADMINISTRATOR)];
    let enter = async |audit: &str| -> Result<_, Box<dyn std::error::Error>> {
        let proxy = proxy(&[&options[..], &[("audit_log", audit)]].concat()).await;
        let mut config = proxy.config(ADMINISTRATOR);
        let (console, connection) = config.dbname("pgvpd").connect(tokio_postgres::NoTls).await?;
        tokio::spawn(connection);
        Ok((proxy, console))
    };
    let (proxy, console) = enter(path.to_str().ok_or("UTF-8")?).await?;
    console.batch_execute("SHOW CLIENTS; DISCONNECT TENANT 'a b'").await?;
    let mut wrong = proxy.config(ADMINISTRATOR);
    assert!(wrong.dbname("pgvpd").password("wrong").connect(tokio_postgres::NoTls).await.is_err());
    eventually("the refusal is told", async || named(&events(&path), "login_refused").len() == 1).await;
    let all = events(&path);
    let [login] = named(&all, "console_login")[..] else { panic!("{all:?}") };
    assert_eq!(
        (&login["user"], &login["database"], &login["client"]),
        (&ADMINISTRATOR.into(), &"pgvpd".into(), &"127.0.0.1".into())
    );
    let [action] = named(&all, "admin_action")[..] else { panic!("{all:?}") };
    assert_eq!((&action["action"], &action["user"]), (&"DISCONNECT TENANT a b".into(), &ADMINISTRATOR.into()));
    let [refused] = named(&all, "login_refused")[..] else { panic!("{all:?}") };
    assert_eq!((&refused["user"], &refused["sqlstate"]), (&ADMINISTRATOR.into(), &"28P01".into()));

    let refused = enter("/dev/full").await.err().ok_or("what cannot be told is not done")?;
    let refused = refused.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    assert_eq!(refused.map(tokio_postgres::error::SqlState::code), Some("58030"));
    Ok(())
}

/// A named pipe that is open for reading and has no room.
struct FullPipe {
    _directory: tempfile::TempDir,
    path: PathBuf,
    pipe: File,
}

impl FullPipe {
    fn new() -> std::io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("audit");
        assert!(std::process::Command::new("mkfifo").arg(&path).status()?.success());
        let flag = OFlags::NONBLOCK.bits().cast_signed();
        let mut pipe = OpenOptions::new().read(true).write(true).custom_flags(flag).open(&path)?;
        while pipe.write(b"\n").is_ok() {}
        Ok(Self { _directory: directory, path, pipe })
    }

    fn path(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    /// Takes out what is there.
    fn read(&mut self) -> String {
        let mut text = Vec::new();
        // It ends for want of more.
        let _ = self.pipe.read_to_end(&mut text);
        String::from_utf8(text).expect("UTF-8")
    }
}

#[tokio::test]
async fn a_target_that_nobody_reads_holds_up_no_session_that_may_go_on() -> TestResult {
    let mut pipe = FullPipe::new()?;
    let proxy = proxy(&[("audit_log", pipe.path()), ("audit_on_error", "continue"), ("tenant_deny", "mallory")]).await;
    // Each of them would have to wait for longer than anybody here does.
    within("logins", async {
        for _ in 0..20 {
            drop(proxy.try_log_in("app_user.acme").await?);
            assert!(proxy.try_log_in("app_user.mallory").await.is_err());
        }
        Ok::<_, tokio_postgres::Error>(())
    })
    .await?;
    assert!(proxy.handle.stats().audit_errors_total >= 30, "each of them is counted");
    // It goes on by itself.
    let mut text = String::new();
    within("events are written again", async {
        while !text.contains("globex") {
            text += &pipe.read();
            drop(proxy.log_in("app_user.globex").await);
        }
    })
    .await;
    let lost = proxy.handle.stats().audit_errors_total;
    drop(proxy.log_in("app_user.initech").await);
    assert_eq!(proxy.handle.stats().audit_errors_total, lost);
    Ok(())
}

#[tokio::test]
async fn a_login_that_a_stuck_target_refused_is_not_said_to_have_been_accepted() -> TestResult {
    let mut pipe = FullPipe::new()?;
    let proxy = proxy(&[("audit_log", pipe.path())]).await;
    // The first is the one that is being written from then on.
    let first = proxy.try_log_in("app_user.acme").await;
    let others = futures_util::future::join_all((0..3).map(|_| proxy.try_log_in("app_user.acme"))).await;
    for refused in [first].into_iter().chain(others) {
        let error = refused.err().ok_or("not recorded")?;
        assert_eq!(error.code().map(tokio_postgres::error::SqlState::code), Some("58030"));
    }
    let mut text = String::new();
    within("events are written again", async {
        text += &pipe.read();
        while proxy.try_log_in("app_user.globex").await.is_err() {
            text += &pipe.read();
        }
    })
    .await;
    text += &pipe.read();
    let accepted = text.lines().filter(|line| line.contains("login_accepted") && line.contains("acme")).count();
    assert!(accepted <= 1, "all but the one that was being written: {text}");
    Ok(())
}

#[tokio::test]
async fn a_pipe_that_nobody_has_open_is_refused_at_once() -> TestResult {
    let mut pipe = FullPipe::new()?;
    let path = pipe.path().to_owned();
    pipe.pipe = File::open("/dev/null")?;
    let refused = within("an answer", proxy_for(&cluster().await.postgres, &[("audit_log", &path)])).await;
    let error = refused.err().ok_or("nobody reads it")?.to_string();
    assert!(error.contains("nobody reads this pipe"), "{error}");
    Ok(())
}
