//! The password of `app_user`, from a file or into one.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use pgvpd_core::is_password_of;
use zeroize::Zeroizing;

use crate::config_file::{create, is_readable_by_all};
use crate::database::{Database, Target, explained};
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

    /// Decides before anything changes. A role and its password belong to the whole server: an application of another
    /// database may be logging in with the present one.
    pub(super) async fn plan(self, database: &Database, target: &Target, force: bool) -> anyhow::Result<PasswordPlan> {
        let shown = self.path.display();
        match self.standing(database, target).await? {
            Standing::New => Ok(PasswordPlan { password: self, is_set: false }),
            Standing::Same => Ok(PasswordPlan { password: self, is_set: true }),
            _ if force => Ok(PasswordPlan { password: self, is_set: false }),
            Standing::Other => Err(anyhow!(
                "role app_user has a password already, and {}; roles belong to the whole server, and every application that logs in \
                 with the present one would be shut out. Name the file that holds it, leave --app-password-file out, or give it a \
                 new one with --force",
                if self.is_new {
                    format!("there is no {shown} that holds it")
                } else {
                    format!("{shown} holds another one")
                }
            )),
            Standing::Unknown => Err(anyhow!(
                "role app_user was there before, and whether it has a password cannot be seen as role {}; roles belong to the whole \
                 server, and every application that logs in with a password of its would be shut out. Leave --app-password-file out, \
                 or give it a new one with --force",
                database.user
            )),
        }
    }

    async fn standing(&self, database: &Database, target: &Target) -> anyhow::Result<Standing> {
        let there = "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'app_user'), has_table_privilege('pg_authid', 'SELECT')";
        let row = database.client().query_one(there, &[]).await.map_err(|error| explained(&error))?;
        match (row.get(0), row.get(1)) {
            (false, _) => Ok(Standing::New),
            (true, true) => {
                let verifier = "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'";
                let row = database.client().query_one(verifier, &[]).await.map_err(|error| explained(&error))?;
                Ok(match row.get::<_, Option<&str>>(0) {
                    None => Standing::New,
                    Some(kept) if !self.is_new && is_password_of(kept, "app_user", &self.text) => Standing::Same,
                    Some(_) => Standing::Other,
                })
            }
            // To try it says more than nothing, where the server asks for a password at all.
            (true, false) if !self.is_new => Ok(match target.logs_in("app_user", &self.text, &database.name).await {
                true if !target.logs_in("app_user", NOBODYS, &database.name).await => Standing::Same,
                _ => Standing::Unknown,
            }),
            (true, false) => Ok(Standing::Unknown),
        }
    }
}

/// Nobody's password, to see whether the server asks for one.
const NOBODYS: &str = "pgvpd-init-is-nobodys-password";

/// What is known of the role's password.
enum Standing {
    /// There is none.
    New,
    /// It is this one.
    Same,
    /// It is another one.
    Other,
    Unknown,
}

/// What becomes of the password.
pub(super) struct PasswordPlan {
    password: AppPassword,
    /// The role has it already.
    is_set: bool,
}

impl PasswordPlan {
    /// Gives it to the role. The server is sent a verifier of it, as by psql's \password: the password is in no log.
    pub(super) async fn carry_out(&self, database: &Database, is_dry: bool) -> anyhow::Result<()> {
        let AppPassword { path, text, is_new } = &self.password;
        let shown = path.display();
        if is_readable_by_all(path) {
            anstream::eprintln!("WARNING:  {shown} can be read by everybody, and holds a password: chmod 600 {shown}");
        }
        if self.is_set {
            done(
                is_dry,
                &format!(
                    "{} the password of app_user, which is the one in {shown}",
                    if is_dry { "keep" } else { "kept" }
                ),
            );
            return Ok(());
        }
        if !is_dry {
            if *is_new {
                create(path, &format!("{}\n", **text))?;
            }
            let verifier = postgres_protocol::password::scram_sha_256(text.as_bytes());
            let set = format!("ALTER ROLE app_user PASSWORD '{verifier}'");
            let set = database.client().batch_execute(&set).await;
            set.map_err(|error| explained(&error)).context("cannot set the password of app_user")?;
        }
        match (is_dry, is_new) {
            (true, true) => done(true, &format!("make a password for app_user and write it to {shown}, mode 0600")),
            (true, false) => done(true, &format!("give app_user the password in {shown}")),
            (false, true) => done(false, &format!("app_user has a new password, which is in {shown}, mode 0600")),
            (false, false) => done(false, &format!("app_user has the password in {shown}")),
        }
        Ok(())
    }
}
