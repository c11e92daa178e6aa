//! `pgvpd init`: from an empty database to a proxy that can start, in every state that it may find.

use rustix::process::Signal;

use crate::support::{Program, Site, TestResult, bare_command, eventually, hex, logging, unhex};

/// What `pgvpd init` has to leave, whoever ran it.
async fn assert_is_ready(site: &Site) {
    assert_eq!(site.known_keys().await, ["1"]);
    assert_eq!(site.verified(&site.key()).await.as_deref(), Some("acme"));
    assert_eq!(site.plain().await, None, "only signed contexts count");
    assert_eq!(site.option("context_signing").as_deref(), Some("require"));
    assert_eq!(site.option("upstream_host").as_deref(), Some("127.0.0.1"));
    assert_eq!(site.option("upstream_port"), Some(site.postgres.port().to_string()));
    let functions = "SELECT proname FROM pg_proc WHERE proname IN ('pgvpd_protect', 'pgvpd_protect_acl') ORDER BY 1";
    assert_eq!(
        site.column(&functions.replace("proname FROM", "proname::text FROM")).await,
        ["pgvpd_protect", "pgvpd_protect_acl"]
    );
}

#[tokio::test]
async fn an_empty_database_is_ready_and_a_second_run_changes_nothing() {
    let site = Site::new("init_empty").await;
    let said = site.done(&["init"]);
    for part in [
        "database init_empty",
        "pgvpd protect -d init_empty TABLE...",
        "pgvpd --config pgvpd.conf",
        "\\password app_user",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(!said.contains('\x1b') && !said.contains(&site.key().1), "{said}");
    assert_is_ready(&site).await;
    assert_eq!(site.files(), ["pgvpd.conf"], "nothing is left beside it");
    assert_eq!(site.mode("pgvpd.conf"), 0o600);

    let text = site.read("pgvpd.conf");
    let said = site.done(&["init"]);
    assert!(said.contains("kept pgvpd.conf, which holds key \"1\""), "{said}");
    assert_eq!(site.read("pgvpd.conf"), text);
    assert_is_ready(&site).await;
}

#[tokio::test]
async fn an_owner_with_createrole_needs_no_superuser() -> TestResult {
    // A server of its own, where no superuser has made the roles.
    let postgres: &'static _ = Box::leak(Box::new(logging().start().await?));
    postgres.execute("postgres", "CREATE ROLE owner LOGIN CREATEROLE PASSWORD 's3cret'").await?;
    postgres.execute("postgres", "CREATE DATABASE shop OWNER owner").await?;
    let site = Site::of(postgres, "shop", "owner", "s3cret");
    site.done(&["init", "--app-password-file", "password"]);
    assert_is_ready(&site).await;
    assert!(site.log_in("app_user", site.read("password").trim()).await.is_ok());
    let (_, digits) = site.key();
    assert!(!site.log().contains(&digits[..16]), "the key is in the server's log");

    std::fs::write(site.path("password"), "two words\n")?;
    let said = site.refused(&["init", "--app-password-file", "password"]);
    assert!(said.contains("whether it has a password cannot be seen as role owner"), "{said}");
    site.done(&["init", "--app-password-file", "password", "--force"]);
    assert!(site.log_in("app_user", "two words").await.is_ok());
    let said = site.done(&["init", "--app-password-file", "password"]);
    assert!(said.contains("kept the password of app_user, which is the one in password"), "{said}");
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert_eq!(site.known_keys().await, ["1", "2"]);
    let client = site.log_in("owner", "s3cret").await?;
    client.batch_execute("CREATE TABLE orders (tenant_id text PRIMARY KEY)").await?;
    site.done(&["protect", "orders"]);
    postgres.stop().await?;
    Ok(())
}

#[tokio::test]
async fn neither_the_key_nor_a_password_is_in_the_server_s_log() {
    let site = Site::new("init_log").await;
    site.done(&["init", "--app-password-file", "password", "--force"]);
    let (first, password) = (site.key(), site.read("password"));
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    let log = site.log();
    for call in ["pgvpd.install_key(kid, key)", "ALTER ROLE app_user PASSWORD 'SCRAM-SHA-256$"] {
        assert!(log.contains(call), "{call} was not logged, so that this shows nothing");
    }
    for (_, digits) in [first, site.key()] {
        let pad: Vec<u8> = unhex(&digits).iter().map(|byte| byte ^ 0x36).collect();
        let pad2: Vec<u8> = unhex(&digits).iter().map(|byte| byte ^ 0x5c).collect();
        for secret in [digits, hex(&pad), hex(&pad2)] {
            assert!(!log.contains(&secret[..12]), "the key is in the server's log");
        }
    }
    assert!(!log.contains(password.trim()));
}

#[tokio::test]
async fn files_with_secrets_are_for_their_owner_alone_whatever_the_umask() -> TestResult {
    for (umask, name) in [("000", "init_umask_0"), ("777", "init_umask_777")] {
        let site = Site::new(name).await;
        let mut shell = std::process::Command::new("sh");
        let script = format!("umask {umask}; exec \"$0\" init --app-password-file password --force");
        shell.args(["-c", &script]).arg(bare_command().get_program());
        let output = site.command(&shell).env_remove("PGVPD_CONFIG").output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!((site.mode("pgvpd.conf"), site.mode("password")), (0o600, 0o600));
    }
    Ok(())
}

#[tokio::test]
async fn a_file_that_is_there_is_never_overwritten() -> TestResult {
    let site = Site::new("init_file").await;
    std::fs::write(site.path("pgvpd.conf"), "# mine\nport = 7000")?;
    let said = site.refused(&["init"]);
    assert!(said.contains("pgvpd.conf exists and holds no key; --force adds one"), "{said}");
    assert_eq!(site.read("pgvpd.conf"), "# mine\nport = 7000");
    assert_eq!(
        site.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(),
        0,
        "refused before anything"
    );

    let said = site.refused(&["init", "--force"]);
    assert!(said.contains("pgvpd.conf can be read by everybody") && said.contains("chmod 600 pgvpd.conf"), "{said}");
    assert_eq!(site.read("pgvpd.conf"), "# mine\nport = 7000");
    std::fs::set_permissions(site.path("pgvpd.conf"), std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    site.done(&["init", "--force"]);
    assert!(site.read("pgvpd.conf").starts_with("# mine\nport = 7000\n\n"), "{}", site.read("pgvpd.conf"));
    assert_eq!(site.verified(&site.key()).await.as_deref(), Some("acme"));

    std::fs::write(site.path("broken.conf"), "context_signing_key = 12\n")?;
    let said = site.refused(&["init", "--config", "broken.conf"]);
    assert!(
        said.contains("broken.conf: context_signing_key: ") && said.contains("64 to 128 hexadecimal digits"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn a_key_that_no_file_here_holds_is_not_replaced_unasked() {
    let site = Site::new("init_elsewhere").await;
    site.done(&["init"]);
    let elsewhere = site.again();
    let said = elsewhere.refused(&["init"]);
    assert!(said.contains("this database already has key \"1\", and there is no pgvpd.conf that holds it"), "{said}");
    assert!(elsewhere.files().is_empty());
    elsewhere.done(&["init", "--force"]);
    assert_eq!(elsewhere.key().0, "2");
    for key in [site.key(), elsewhere.key()] {
        assert_eq!(site.verified(&key).await.as_deref(), Some("acme"));
    }
    let said = site.refused(&["init", "--no-signing", "--config", "other.conf"]);
    assert!(said.contains("verifies contexts with key \"1\", \"2\""), "{said}");
}

#[tokio::test]
async fn one_file_serves_several_databases_and_no_other_ones() {
    let (site, second, foreign) =
        (Site::new("init_one").await, Site::new("init_two").await, Site::new("init_three").await);
    site.done(&["init"]);
    site.done(&["init", "-d", "init_two"]);
    assert_eq!(second.verified(&site.key()).await.as_deref(), Some("acme"));
    foreign.done(&["init"]);
    let said = site.refused(&["init", "-d", "init_three"]);
    assert!(said.contains("knows another key by the id \"1\""), "{said}");
    assert_eq!(foreign.verified(&foreign.key()).await.as_deref(), Some("acme"), "its key is still its own");
}

#[tokio::test]
async fn a_running_plain_system_is_not_cut_off_and_comes_to_signed_contexts_step_by_step() {
    let site = Site::new("init_live").await;
    site.done(&["init", "--no-signing"]);
    assert_eq!(site.option("context_signing_key"), None);
    site.execute("CREATE TABLE orders (tenant_id text PRIMARY KEY); SELECT pgvpd_protect('orders')").await;
    std::fs::remove_file(site.path("pgvpd.conf")).expect("removed");

    let said = site.done(&["init"]);
    for part in [
        "no key is installed",
        "context_signing = prefer",
        "pgvpd key install -d init_live --config pgvpd.conf",
        "--install-key",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert_eq!(site.option("context_signing").as_deref(), Some("prefer"));
    assert_eq!(site.known_keys().await, [""; 0]);
    assert_eq!(site.plain().await.as_deref(), Some("acme"), "served as before");

    let said = site.done(&["key", "install", "--config", "pgvpd.conf"]);
    assert!(said.contains("set context_signing = require"), "{said}");
    assert_eq!(site.verified(&site.key()).await.as_deref(), Some("acme"));
    assert_eq!(site.plain().await, None);
    assert!(site.done(&["key", "install", "--config", "pgvpd.conf"]).contains("was installed before"));
}

#[tokio::test]
async fn install_key_says_that_nobody_is_being_served() {
    let site = Site::new("init_now").await;
    site.done(&["init", "--no-signing", "--config", "plain.conf"]);
    site.execute("CREATE TABLE orders (tenant_id text PRIMARY KEY); SELECT pgvpd_protect('orders')").await;
    site.done(&["init", "--install-key"]);
    assert_is_ready(&site).await;
}

#[tokio::test]
async fn an_end_between_file_and_key_leaves_a_database_as_it_was_and_a_second_run_completes_it() {
    let site = Site::new("init_crash").await;
    site.done(&["init", "--no-signing", "--config", "plain.conf"]);
    // Keeps a key from being installed, and nothing else.
    let blocker = site.client().await;
    blocker.batch_execute("BEGIN; LOCK TABLE pgvpd.signing_key IN ROW EXCLUSIVE MODE").await.expect("locked");
    let mut command = bare_command();
    command.arg("init");
    let mut program = Program::start(site.command(&command));
    let is_waiting = "SELECT pid::text FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = 'init_crash')";
    eventually("waiting for the lock", async || !site.column(is_waiting).await.is_empty()).await;
    program.signal(Signal::KILL);
    assert_eq!(program.exit_code().await, None);
    blocker.batch_execute("ROLLBACK").await.expect("unlocked");
    drop(blocker);

    let key = site.key();
    assert_eq!(site.plain().await.as_deref(), Some("acme"), "the database demands no key");
    site.done(&["init"]);
    assert_eq!(site.key(), key, "the file's own key");
    assert_is_ready(&site).await;
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let site = Site::new("init_dry").await;
    let said = site.done(&["init", "--dry-run"]);
    for part in [
        "would run setup.sql",
        "would write pgvpd.conf, mode 0600, with key \"1\"",
        "would install key \"1\"",
        "Nothing was changed.",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    assert!(site.files().is_empty(), "{:?}", site.files());
    assert_eq!(site.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(), 0);
    site.done(&["init"]);
    site.done(&["init", "--dry-run"]);
    assert_is_ready(&site).await;
}

#[tokio::test]
async fn who_may_not_install_is_told_who_may() {
    let site = Site::new("init_nobody").await;
    site.execute(
        "DO $$ BEGIN CREATE ROLE nobody LOGIN PASSWORD 's3cret'; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
    )
    .await;
    let nobody = Site::of(site.postgres, &site.name, "nobody", "s3cret");
    let said = nobody.refused(&["init"]);
    assert!(said.contains("setup.sql: ") && said.contains("owns the database and has CREATEROLE"), "{said}");
    assert!(nobody.files().is_empty());
    site.done(&["init"]);
    let said = nobody.refused(&["init", "--config", "other.conf"]);
    assert!(said.contains("permission denied") || said.contains("already installed"), "{said}");
}

#[tokio::test]
async fn a_directory_that_cannot_be_written_is_refused_before_the_database_changes() {
    let site = Site::new("init_directory").await;
    let said = site.refused(&["init", "--config", "nowhere/pgvpd.conf"]);
    assert!(said.contains("cannot write into nowhere"), "{said}");
    assert_eq!(site.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(), 0);
}
