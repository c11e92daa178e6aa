//! What a private server shall be like, and how it is made so.

use std::{
    ffi::OsString,
    fs, io,
    net::{Ipv4Addr, TcpListener},
    path::PathBuf,
};

use tokio::sync::Mutex;

use super::{
    Fetch, PostgresError,
    account::Account,
    fetch::{self, blocking},
    postgres::{Postgres, START_LIMIT, SUPERUSER, file_of},
    private_dir::remove_if_there,
    random::random_hex,
    supervise::Cluster,
    tail,
};

/// What a [`Postgres`] shall be like. Made by [`Postgres::builder`].
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::{Fetch, Postgres, discover};
///
/// let newest = discover().into_iter().max_by_key(|found| found.major).ok_or("no PostgreSQL is installed")?;
/// let postgres = Postgres::builder()
///     .bin_dir(newest.bin_dir)
///     .fetch(Fetch::Never)
///     .setting("log_statement", "all")
///     .hba(["host all all 127.0.0.1/32 scram-sha-256"])
///     .start()
///     .await?;
/// assert_eq!(postgres.version().0, newest.major);
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Default)]
pub struct PostgresBuilder {
    bin_dir: Option<PathBuf>,
    fetch: Fetch,
    settings: Vec<(String, String)>,
    hba: Option<Vec<String>>,
}

impl PostgresBuilder {
    /// The directory that holds `initdb` and `postgres`. Without it: `PGVPD_PG_BINDIR`, else what
    /// [`discover`](super::discover()) finds first, else a copy that is fetched. A directory that cannot be used is an
    /// error; no other is tried.
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// Whether a copy may be fetched if none is found; allowed unless told otherwise.
    pub fn fetch(mut self, fetch: Fetch) -> Self {
        self.fetch = fetch;
        self
    }

    /// A setting of `postgresql.conf`, any number of them; the last of a name wins. `ALTER SYSTEM` overrides it.
    ///
    /// `port` and `unix_socket_directories` are the launcher's; setting them has no effect.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// The lines of `pg_hba.conf`, instead of those that ask everybody for a SCRAM password.
    ///
    /// [`Postgres::connect`] needs one that lets user `postgres` in from 127.0.0.1.
    pub fn hba<L: Into<String>>(mut self, lines: impl IntoIterator<Item = L>) -> Self {
        self.hba = Some(lines.into_iter().map(Into::into).collect());
        self
    }

    /// Makes a cluster and starts its server, which takes about a second; more if PostgreSQL has to be fetched first.
    ///
    /// As root the server runs as user `postgres`, else `nobody`. Cancelling this leaves nothing behind.
    ///
    /// # Errors
    ///
    /// [`PostgresError`]: no usable programs, no place for the data, or the server does not start within 30 s.
    pub async fn start(self) -> Result<Postgres, PostgresError> {
        let account = Account::for_servers()?;
        let installation = fetch::locate_or_fetch(self.bin_dir, self.fetch, account.clone()).await?;
        let cluster = blocking(move || Cluster::create(account)).await?;
        let mut postgres = Postgres {
            dir: cluster.dir.path.clone(),
            data_dir: cluster.dir.path.join("data"),
            password: random_hex()?,
            app_password: random_hex()?,
            port: 0,
            installation,
            settings: self.settings,
            cluster: Mutex::new(cluster),
        };
        tracing::debug!(version = postgres.installation.version, dir = %postgres.dir.display(), "starting PostgreSQL");
        postgres.initdb().await?;
        if let Some(lines) = self.hba {
            postgres.cluster.get_mut().dir.write("data/pg_hba.conf", &file_of(lines))?;
        }
        postgres.first_start().await?;
        Ok(postgres)
    }
}

impl Postgres {
    async fn initdb(&mut self) -> Result<(), PostgresError> {
        let mut command: Vec<OsString> = vec![self.installation.bin_dir.join("initdb").into(), "-D".into()];
        command.push(self.data_dir.clone().into());
        command.extend(["-U", SUPERUSER, "-A", "scram-sha-256", "-E", "UTF8"].map(OsString::from));
        command.extend(["--locale=C", "--no-sync", "--pwfile=password"].map(OsString::from));
        let cluster = self.cluster.get_mut();
        cluster.dir.write("password", &self.password)?;
        cluster.run(&command).await?;
        let status = cluster.wait(START_LIMIT).await;
        let forgotten = remove_if_there(&self.dir.join("password"));
        if status != Some(0) {
            return Err(PostgresError::Initdb { output: tail(&self.dir.join("log"), 0) });
        }
        let config = self.data_dir.join("postgresql.conf");
        let mut text =
            fs::read_to_string(&config).map_err(PostgresError::io(format!("reading {}", config.display())))?;
        text.push_str("\ninclude 'launcher.conf'\n");
        cluster.dir.write("data/postgresql.conf", &text)?;
        forgotten.map_err(PostgresError::io("removing the password file"))
    }

    /// Starts on a port that is free, another one if somebody else takes it meanwhile.
    async fn first_start(&mut self) -> Result<(), PostgresError> {
        for attempt in 1.. {
            self.port = free_port().map_err(PostgresError::io("looking for a free port"))?;
            let mut cluster = self.cluster.lock().await;
            cluster.dir.write("data/launcher.conf", &self.configuration())?;
            match self.launch(&mut cluster).await {
                Err(PostgresError::Start { log, .. }) if attempt < PORT_ATTEMPTS && log.contains("could not bind") => {
                    tracing::debug!(port = self.port, "the port was taken; trying another");
                }
                result => return result,
            }
        }
        Ok(())
    }

    fn configuration(&self) -> String {
        let defaults = DEFAULTS.into_iter();
        let asked = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let (port, dir) = (self.port.to_string(), self.dir.to_string_lossy());
        let fixed = [("port", port.as_str()), ("unix_socket_directories", &dir)];
        file_of(defaults.chain(asked).chain(fixed).map(|(name, value)| format!("{name} = {}", quoted(value))))
    }
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A value of a configuration file, as the manual's chapter "Setting Parameters" has it.
fn quoted(value: &str) -> String {
    let escaped = value.replace('\\', "\\\\").replace('\'', "''").replace('\n', "\\n");
    format!("'{escaped}'")
}

/// Overridable; the data is thrown away, so nothing has to survive a power failure.
const DEFAULTS: [(&str, &str); 4] =
    [("listen_addresses", "127.0.0.1"), ("max_connections", "200"), ("fsync", "off"), ("full_page_writes", "off")];

/// How often another port is tried when somebody took the one that was free a moment ago.
const PORT_ATTEMPTS: u32 = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn setting_value_cannot_end_its_quotes() {
        assert_eq!(quoted(r"it's C:\"), r"'it''s C:\\'");
        assert_eq!(quoted("a\nport = 1"), r"'a\nport = 1'");
    }
}
