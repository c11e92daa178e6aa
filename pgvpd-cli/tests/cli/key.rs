//! `pgvpd key`: rotation with no moment in which a signature does not count.

use rustix::process::Signal;

use crate::support::{Program, Site, TestResult, bare_command, eventually, write_private};

const COMMENTED: &str = "\
# at the top
port = 7000

  # the key
context_signing_key=KEY
context_signing = require
# at the end";

/// A database with a key that a file with comments holds.
async fn commented(name: &str) -> Site {
    let site = Site::new(name).await;
    site.done(&["init"]);
    std::fs::write(site.path("pgvpd.conf"), COMMENTED.replace("KEY", &site.key().1)).expect("written");
    site
}

/// The key that the file says signed before.
fn previous(site: &Site) -> (String, String) {
    let option = |name: &str| site.option(name).expect("set");
    (option("context_previous_key_id"), option("context_previous_signing_key"))
}

#[tokio::test]
async fn rotation_keeps_every_line_and_both_keys_verify() {
    let site = commented("key_rotate").await;
    let text = site.read("pgvpd.conf");
    let old = (
        "1".to_owned(),
        text.lines().find_map(|line| line.strip_prefix("context_signing_key=")).expect("a key").to_owned(),
    );
    let said = site.done(&["key", "rotate", "--config", "pgvpd.conf", "--keep", "1h"]);
    let written = site.read("pgvpd.conf");
    let new = (
        "2".to_owned(),
        written.lines().find_map(|line| line.strip_prefix("context_signing_key=")).expect("a key").to_owned(),
    );
    assert_eq!(
        written,
        format!(
            "# at the top\nport = 7000\n\n  # the key\ncontext_signing_key={}\ncontext_key_id = 2\ncontext_previous_signing_key = {}\n\
             context_previous_key_id = 1\ncontext_signing = require\n# at the end",
            new.1, old.1
        )
    );
    assert!(!said.contains(&new.1) && !said.contains(&old.1) && said.contains("SIGHUP"), "{said}");
    for key in [&old, &new] {
        assert_eq!(site.verified(key).await.as_deref(), Some("acme"), "{}", key.0);
    }
    let expires = "SELECT (not_after BETWEEN now() + interval '59 min' AND now() + interval '1 h')::text FROM pgvpd.signing_key WHERE kid = '1'";
    assert_eq!(site.column(expires).await, ["true"]);
    assert_eq!(site.files(), ["pgvpd.conf"]);
    let said = site.done(&["key", "list", "--config", "pgvpd.conf"]);
    assert!(said.contains("| 1   | valid until ") && said.contains("| 2   | valid "), "{said}");
    assert_eq!((said.matches("signs").count(), said.matches("signed before").count()), (1, 1), "{said}");
}

#[tokio::test]
async fn what_has_expired_verifies_nothing_and_goes_with_the_rotation_after_the_next() {
    let site = Site::new("key_expired").await;
    site.done(&["init"]);
    let first = site.key();
    site.done(&["key", "rotate", "--config", "pgvpd.conf", "--keep", "0s"]);
    assert_eq!(site.verified(&first).await, None);
    assert_eq!(site.known_keys().await, ["1", "2"], "a file still names it");
    let second = site.key();
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert_eq!(site.known_keys().await, ["2", "3"]);
    assert_eq!(previous(&site), second);
    assert_eq!(site.verified(&second).await.as_deref(), Some("acme"));
    assert_eq!(site.verified(&site.key()).await.as_deref(), Some("acme"));
}

#[tokio::test]
async fn an_end_before_the_old_key_is_retired_leaves_both_valid_and_the_next_rotation_retires_it() {
    let site = Site::new("key_crash").await;
    site.done(&["init"]);
    let first = site.key();
    let blocker = site.client().await;
    blocker.batch_execute("BEGIN; SELECT FROM pgvpd.signing_key WHERE kid = '1' FOR UPDATE").await.expect("locked");
    let mut command = bare_command();
    command.args(["key", "rotate", "--config", "pgvpd.conf"]);
    let mut program = Program::start(site.command(&command));
    eventually("the new file", async || site.key().0 == "2").await;
    let is_waiting = "SELECT pid::text FROM pg_stat_activity WHERE datname = 'key_crash' AND wait_event_type = 'Lock'";
    eventually("waiting for the row", async || !site.column(is_waiting).await.is_empty()).await;
    program.signal(Signal::KILL);
    assert_eq!(program.exit_code().await, None);
    blocker.batch_execute("ROLLBACK").await.expect("unlocked");
    drop(blocker);

    let second = site.key();
    for key in [&first, &second] {
        assert_eq!(site.verified(key).await.as_deref(), Some("acme"), "{}", key.0);
    }
    site.done(&["key", "rotate", "--config", "pgvpd.conf", "--keep", "0s"]);
    assert_eq!((site.verified(&first).await, site.verified(&second).await), (None, None));
    assert_eq!(site.verified(&site.key()).await.as_deref(), Some("acme"));
}

#[tokio::test]
async fn a_file_that_cannot_be_replaced_leaves_the_database_as_it_was() -> TestResult {
    let site = Site::new("key_unwritable").await;
    site.done(&["init"]);
    std::fs::create_dir(site.path("sealed"))?;
    std::fs::rename(site.path("pgvpd.conf"), site.path("sealed/pgvpd.conf"))?;
    let link = site.path("pgvpd.conf");
    std::os::unix::fs::symlink(site.path("sealed/pgvpd.conf"), &link)?;
    let mut shell = std::process::Command::new("sh");
    // No file may be longer than nothing: also root cannot write then.
    shell
        .args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" key rotate --config pgvpd.conf"])
        .arg(bare_command().get_program());
    let output = site.command(&shell).output()?;
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(site.known_keys().await, ["1"]);
    assert_eq!(site.key().0, "1");
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert!(std::fs::symlink_metadata(&link)?.is_symlink(), "the file behind the link is replaced");
    assert_eq!(site.mode("sealed/pgvpd.conf"), 0o600);
    Ok(())
}

#[tokio::test]
async fn a_key_in_a_file_of_its_own_is_followed_by_another_such_file() -> TestResult {
    let site = Site::new("key_file").await;
    site.done(&["init"]);
    let (_, first) = site.key();
    write_private(site.path("signing.key"), &first);
    let at = |name: &str| site.path(name).display().to_string();
    std::fs::write(site.path("pgvpd.conf"), format!("context_signing_key_file = {}\n", at("signing.key")))?;
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    let expected = |new: &str, old: &str, (id, old_id): (&str, &str)| {
        format!(
            "context_signing_key_file = {}\ncontext_key_id = {id}\ncontext_previous_signing_key_file = {}\ncontext_previous_key_id = {old_id}\n",
            at(new),
            at(old)
        )
    };
    assert_eq!(site.read("pgvpd.conf"), expected("signing.key.2", "signing.key", ("2", "1")));
    assert_eq!((site.mode("signing.key.2"), site.read("signing.key")), (0o600, first.clone()));
    let second = site.read("signing.key.2").trim().to_owned();
    for key in [("1".to_owned(), first), ("2".to_owned(), second)] {
        assert_eq!(site.verified(&key).await.as_deref(), Some("acme"));
    }
    let said = site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert_eq!(site.read("pgvpd.conf"), expected("signing.key.3", "signing.key.2", ("3", "2")));
    assert!(said.contains("signing.key is not used any more"), "{said}");
    Ok(())
}

#[tokio::test]
async fn a_further_database_gets_the_new_key_and_is_told_of_the_old_one() {
    let (site, second) = (Site::new("key_one").await, Site::new("key_two").await);
    site.done(&["init"]);
    site.done(&["init", "-d", "key_two"]);
    site.done(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert_eq!(second.verified(&previous(&site)).await.as_deref(), Some("acme"));
    let said = site.done(&["key", "install", "--config", "pgvpd.conf", "-d", "key_two"]);
    assert_eq!(second.verified(&site.key()).await.as_deref(), Some("acme"));
    let (_, retire) = said.split_once("To let it expire: ").expect("a remedy");
    second.execute(retire.trim()).await;
    assert_eq!(second.column("SELECT kid FROM pgvpd.signing_key WHERE not_after < 'infinity'").await, ["1"]);
    let again = site.done(&["key", "install", "--config", "pgvpd.conf", "-d", "key_two"]);
    assert!(!again.contains("still valid"), "{again}");
}

#[tokio::test]
async fn a_dry_run_of_a_rotation_changes_nothing() {
    let site = Site::new("key_dry").await;
    site.done(&["init"]);
    let text = site.read("pgvpd.conf");
    let said = site.done(&["key", "rotate", "--config", "pgvpd.conf", "--dry-run"]);
    assert!(said.contains("would install key \"2\"") && said.contains("would let key \"1\" expire at "), "{said}");
    assert_eq!((site.read("pgvpd.conf"), site.files()), (text, vec!["pgvpd.conf".to_owned()]));
    assert_eq!(site.column("SELECT kid FROM pgvpd.signing_key WHERE not_after = 'infinity'").await, ["1"]);
}

#[tokio::test]
async fn keys_that_do_not_belong_together_are_refused() -> TestResult {
    let (site, other) = (Site::new("key_refused").await, Site::new("key_other").await);
    let said = site.refused(&["key", "install", "--config", "pgvpd.conf"]);
    assert!(said.contains("there is no pgvpd.conf; `pgvpd init` makes one"), "{said}");
    std::fs::write(site.path("pgvpd.conf"), "port = 7000\n")?;
    let said = site.refused(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert!(said.contains("holds no context_signing_key"), "{said}");

    other.done(&["init"]);
    std::fs::copy(other.path("pgvpd.conf"), site.path("pgvpd.conf"))?;
    let said = site.refused(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert!(said.contains("pgvpd is not installed in database key_refused"), "{said}");
    site.done(&["init", "--config", "own.conf"]);
    for command in ["rotate", "install"] {
        let said = site.refused(&["key", command, "--config", "pgvpd.conf"]);
        assert!(said.contains("knows another key by the id \"1\""), "{said}");
    }
    let renamed = site.read("pgvpd.conf").replace("context_key_id = 1", "context_key_id = blue");
    std::fs::write(site.path("pgvpd.conf"), renamed)?;
    let said = site.refused(&["key", "rotate", "--config", "pgvpd.conf"]);
    assert!(said.contains("does not know key \"blue\"") && said.contains("pgvpd key install"), "{said}");
    site.pgvpd(&["key", "rotate", "--config", "pgvpd.conf", "--keep", "1w"]).code(2);
    site.pgvpd(&["key", "rotate"]).code(2);
    site.pgvpd(&["key"]).code(2);
    Ok(())
}
