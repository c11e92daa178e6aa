//! Running psql.

use std::process::Stdio;

use tokio::process::Command;

use crate::{APP_PASSWORD, within};

/// What psql left.
#[derive(Debug)]
pub struct Psql {
    /// Its exit code, 0 for success.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

/// Runs `psql -XAt` with these arguments; `input` goes to its standard input.
pub async fn psql(arguments: &[&str], input: &str) -> Psql {
    use tokio::io::AsyncWriteExt;

    let mut child = Command::new("psql")
        .args(["-X", "-A", "-t", "-q"])
        .args(arguments)
        .env("PGPASSWORD", APP_PASSWORD)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("psql is installed");
    let mut stdin = child.stdin.take().expect("piped");
    // psql may refuse the login and leave before it reads.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = within("psql", child.wait_with_output()).await.expect("psql ends");
    Psql {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).trim_end().to_owned(),
        err: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
    }
}
