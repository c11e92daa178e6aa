//! The password of `app_user`, from a file or into one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use zeroize::Zeroizing;

use crate::config_file::create;
use crate::database::{Database, explained};
use crate::print::done;
use crate::signing_key::SigningKey;

pub(super) struct AppPassword {
    path: PathBuf,
    text: Zeroizing<String>,
    is_new: bool,
}

impl AppPassword {
    /// Reads it, or makes a new one where there is no file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let (text, is_new) = match fs::read_to_string(path) {
            Ok(text) => (Zeroizing::new(text), false),
            Err(error) if error.kind() == ErrorKind::NotFound => (SigningKey::random(String::new())?.digits(), true),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let line = text.trim_end_matches(['\r', '\n']);
        if line.is_empty() || line.contains(['\n', '\r', '\0']) {
            return Err(anyhow!("{} does not hold one line with a password", path.display()));
        }
        Ok(Self { path: path.into(), text: Zeroizing::new(line.to_owned()), is_new })
    }

    /// Gives it to the role. The server is sent a verifier of it, as by psql's \password: the password is in no log.
    pub(super) async fn set(&self, database: &Database, is_dry: bool) -> anyhow::Result<()> {
        let shown = self.path.display();
        if !is_dry {
            if self.is_new {
                create(&self.path, &format!("{}\n", *self.text))?;
            }
            let verifier = postgres_protocol::password::scram_sha_256(self.text.as_bytes());
            let set = format!("ALTER ROLE app_user PASSWORD '{verifier}'");
            let set = database.client().batch_execute(&set).await;
            set.map_err(|error| explained(&error)).context("cannot set the password of app_user")?;
        }
        match (is_dry, self.is_new) {
            (true, true) => done(true, &format!("make a password for app_user and write it to {shown}, mode 0600")),
            (true, false) => done(true, &format!("give app_user the password in {shown}")),
            (false, true) => done(false, &format!("app_user has a new password, which is in {shown}, mode 0600")),
            (false, false) => done(false, &format!("app_user has the password in {shown}")),
        }
        Ok(())
    }
}
