//! Secrets in files that others can read, and where relative paths begin.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::support::{TestResult, bare_command, run};

const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

/// A folder with files of these modes.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn write(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("a mode");
        path
    }
}

/// What is said of a configuration, and whether it is taken.
fn checked(path: &Path) -> (bool, String) {
    let path = path.to_str().expect("UTF-8");
    let output = run(&["--check-config", "--config", path], &[]).get_output().clone();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).expect("UTF-8"))
}

#[test]
fn a_configuration_with_a_readable_secret_is_refused() {
    let folder = Folder::new();
    let text = format!("port = 0\ncontext_signing_key = {KEY}\n");
    for (mode, is_taken) in [(0o644, false), (0o604, false), (0o666, false), (0o640, true), (0o600, true)] {
        let path = folder.write("pgvpd.conf", &text, mode);
        let (taken, said) = checked(&path);
        assert_eq!(taken, is_taken, "{mode:o}: {said}");
        let complaint = format!(
            "context_signing_key: {path} can be read by everybody on this machine, and holds context_signing_key: chmod 600 {path}",
            path = path.display()
        );
        assert_eq!(said.contains(&complaint), !is_taken, "{mode:o}: {said}");
        assert!(!said.contains(KEY), "{said}");
    }
    // The start asks the same.
    let path = folder.write("pgvpd.conf", &text, 0o644);
    let refused = run(&["--config", path.to_str().expect("UTF-8")], &[]).code(2);
    assert!(String::from_utf8_lossy(&refused.get_output().stderr).contains("chmod 600"));
    // Nothing secret in it, and nothing to keep.
    let path = folder.write("pgvpd.conf", "port = 0\nset_role = a\n", 0o644);
    assert!(checked(&path).0);
}

#[test]
fn every_file_with_a_secret_is_looked_at() {
    let folder = Folder::new();
    let userlist = "\"app_user\" \"s3cret\"\n";
    let beside = |name: &str| match name {
        "admin_token_file" => "admin_port = 9090\n",
        "resolver_password_file" => "resolver_user = resolver\n",
        "context_signing_key_file" => "",
        "context_previous_signing_key_file" => "context_signing_key_file = other\n",
        "upstream_password_file" => "pool_mode = session\nauth_file = users\n",
        _ => "pool_mode = session\n",
    };
    folder.write("other", KEY, 0o600);
    folder.write("users", userlist, 0o600);
    for option in [
        "auth_file",
        "pool_password_file",
        "upstream_password_file",
        "admin_token_file",
        "resolver_password_file",
        "context_signing_key_file",
        "context_previous_signing_key_file",
    ] {
        let text = if option == "auth_file" { userlist } else { KEY };
        let config = folder.write("pgvpd.conf", &format!("{}{option} = secret\n", beside(option)), 0o644);
        let secret = folder.write("secret", text, 0o644);
        let (taken, said) = checked(&config);
        assert!(!taken, "{option}: {said}");
        assert!(said.contains(&format!("{option}: {} can be read by everybody", secret.display())), "{option}: {said}");
        folder.write("secret", text, 0o600);
        let (taken, said) = checked(&config);
        assert!(taken, "{option}: {said}");
    }
}

/// An orchestrator mounts secrets read-only, with a mode that the container cannot change.
#[test]
fn a_secret_on_a_read_only_mount_is_a_note() -> TestResult {
    let folder = Folder::new();
    let config = folder.write("pgvpd.conf", &format!("context_signing_key = {KEY}\n"), 0o644);
    let program = bare_command().get_program().to_owned();
    let script =
        "mount --bind \"$1\" \"$1\" && mount -o remount,bind,ro \"$1\" && exec \"$0\" --check-config --config \"$2\"";
    let mut shell = std::process::Command::new("unshare");
    shell.args(["--mount", "--map-root-user", "sh", "-c", script]).arg(program).arg(folder.0.path()).arg(&config);
    let output = shell.output()?;
    let said = String::from_utf8([output.stdout, output.stderr].concat())?;
    if !output.status.success() && !said.contains("pgvpd: ") {
        // No namespaces of one's own here: what mounts is what would have to be tried.
        return Ok(());
    }
    assert!(output.status.success(), "{said}");
    assert!(said.contains("note: ") && said.contains("mounted read-only, so give it mode 0440"), "{said}");
    Ok(())
}

#[test]
fn relative_paths_begin_at_the_folder_of_the_configuration() -> TestResult {
    let folder = Folder::new();
    folder.write("users.txt", "\"app_user\" \"s3cret\"\n", 0o600);
    folder.write("token", "s3cret\n", 0o600);
    folder.write("tenants.toml", "", 0o644);
    folder.write("resolvers.toml", "", 0o644);
    let config = folder.write(
        "pgvpd.conf",
        "pool_mode = session\nauth_file = users.txt\nadmin_port = 9090\nadmin_token_file = ./token\ntenants = tenants.toml\n\
         resolvers = resolvers.toml\naudit_log = audit.log\n",
        0o600,
    );
    let elsewhere = tempfile::tempdir()?;
    let name = config.file_name().ok_or("a name")?;
    for (directory, argument) in [(elsewhere.path(), config.as_path()), (folder.0.path(), Path::new(name))] {
        let output =
            bare_command().current_dir(directory).arg("--check-config").arg("--config").arg(argument).output()?;
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // A flag is what somebody types where he is.
    let output = bare_command()
        .current_dir(elsewhere.path())
        .args(["--check-config", "--pool-mode", "session", "--auth-file", "users.txt"])
        .output()?;
    assert!(String::from_utf8(output.stderr)?.contains("cannot read users.txt"));
    Ok(())
}
