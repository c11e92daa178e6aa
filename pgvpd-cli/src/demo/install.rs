//! Installing PostgreSQL's server with Debian's package manager, for `pgvpd demo --install`.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

use crate::print::note;

/// Runs `apt-get install postgresql`, through `sudo` where the user is not root.
pub(super) async fn install() -> Result<()> {
    note("No PostgreSQL found; installing Debian's package postgresql with apt-get ...");
    let apt =
        "apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends postgresql";
    // `id -u` and not $USER: the latter is only a habit.
    let script = format!("if [ \"$(id -u)\" = 0 ]; then {apt}; else sudo sh -c '{apt}'; fi");
    let status = Command::new("sh")
        .args(["-c", &script])
        // sudo may ask for a password; what goes wrong is on standard error.
        .stdin(Stdio::inherit())
        .stdout(Stdio::null())
        .status()
        .await
        .context("cannot run sh")?;
    if !status.success() {
        bail!("apt-get failed ({status}); install PostgreSQL's server by hand and name its directory with --pg-bindir");
    }
    Ok(())
}
