//! A private, throw-away PostgreSQL server.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rustix::process::{Signal, kill_process};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::{Mutex, MutexGuard},
    time::timeout,
};
use tokio_postgres::{Client, NoTls};

use super::{
    Installation, PostgresBuilder, PostgresError, length,
    private_dir::{read_plain, remove_if_there},
    supervise::{Cluster, POLL},
    tail,
};

/// A private PostgreSQL server with a new cluster. It ends, and its directory is removed, when this is dropped or when
/// the process ends, in whatever way; Ctrl-C does not reach it.
///
/// It can be used from any tokio runtime, also after the one that started it is gone.
///
/// ```
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use pgvpd_core::testing::Postgres;
///
/// let postgres = Postgres::builder().start().await?;
/// let client = postgres.connect("postgres").await?;
/// let one: i32 = client.query_one("SELECT 1", &[]).await?.get(0);
/// assert_eq!(one, 1);
/// # Ok(())
/// # }
/// # tokio::runtime::Runtime::new()?.block_on(example())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Postgres {
    pub(super) dir: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) password: String,
    pub(super) app_password: String,
    pub(super) port: u16,
    pub(super) installation: Installation,
    pub(super) settings: Vec<(String, String)>,
    /// Held while the server is started or ended, so that those who do it wait for each other.
    pub(super) cluster: Mutex<Cluster>,
}

impl std::fmt::Debug for Postgres {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Postgres { dir, port, installation, .. } = self;
        f.debug_struct("Postgres")
            .field("dir", dir)
            .field("port", port)
            .field("installation", installation)
            .finish_non_exhaustive()
    }
}

impl Postgres {
    /// Describes a server; [`PostgresBuilder::start`] starts it.
    pub fn builder() -> PostgresBuilder {
        PostgresBuilder::default()
    }

    /// The TCP port, which stays the same over [`restart`](Postgres::restart).
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address it listens on: `127.0.0.1`.
    pub fn host(&self) -> &'static str {
        "127.0.0.1"
    }

    /// The directory of its UNIX socket, which only the server's user may enter.
    pub fn socket_dir(&self) -> &Path {
        &self.dir
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The superuser's name: `postgres`.
    pub fn superuser(&self) -> &'static str {
        SUPERUSER
    }

    /// The superuser's password, random.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The major version, and the number without the packager's additions, such as `(15, "15.18")`.
    pub fn version(&self) -> (u32, &str) {
        (self.installation.major, &self.installation.version)
    }

    /// The directory of the programs that are used.
    pub fn bin_dir(&self) -> &Path {
        &self.installation.bin_dir
    }

    /// A URL to a database as superuser, with the password.
    ///
    /// For the application's role there is [`app_url`](Postgres::app_url).
    pub fn url(&self, dbname: &str) -> String {
        self.url_as(SUPERUSER, &self.password, dbname)
    }

    /// The role and the password have nothing that a URL would not hold.
    pub(super) fn url_as(&self, role: &str, password: &str, dbname: &str) -> String {
        let dbname = utf8_percent_encode(dbname, IN_URL);
        format!("postgresql://{role}:{password}@{}:{}/{dbname}", self.host(), self.port)
    }

    /// A superuser connection, driven by a task of the current runtime until the client is dropped.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Sql`] if there is no such database, or the server does not answer within 10 s.
    pub async fn connect(&self, dbname: &str) -> Result<Client, PostgresError> {
        let mut config = tokio_postgres::Config::new();
        config.host(self.host()).port(self.port).user(SUPERUSER).password(&self.password).dbname(dbname);
        config.application_name("pgvpd_core::testing").connect_timeout(ANSWER_LIMIT);
        let (client, connection) = config.connect(NoTls).await.map_err(sql_error("connecting", dbname))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a superuser connection ended");
            }
        });
        Ok(client)
    }

    /// Runs statements separated by semicolons as superuser, in one transaction unless they say otherwise.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Sql`] with what PostgreSQL says.
    pub async fn execute(&self, dbname: &str, sql: &str) -> Result<(), PostgresError> {
        let client = self.connect(dbname).await?;
        client.batch_execute(sql).await.map_err(sql_error("running a statement", dbname))
    }

    /// Makes an empty database; the name is taken literally.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Sql`], for instance if it exists.
    pub async fn create_database(&self, name: &str) -> Result<(), PostgresError> {
        self.execute("postgres", &format!("CREATE DATABASE \"{}\"", name.replace('"', "\"\""))).await
    }

    /// Replaces the lines of `pg_hba.conf`; connections made after this returns are subject to the new ones.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Reload`] if PostgreSQL refuses the lines, and then keeps the old ones.
    pub async fn set_hba<L: Into<String>>(&self, lines: impl IntoIterator<Item = L>) -> Result<(), PostgresError> {
        let content = file_of(lines);
        let cluster = self.cluster.lock().await;
        cluster.dir.write("data/pg_hba.conf", &content)?;
        self.reload_locked(cluster).await
    }

    /// Makes the server read its configuration files again, and waits until it did.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Reload`] if PostgreSQL refuses something in them, or does not say so in its log within 10 s.
    pub async fn reload(&self) -> Result<(), PostgresError> {
        let cluster = self.cluster.lock().await;
        self.reload_locked(cluster).await
    }

    /// Kills the server and its children by SIGKILL, as a crash would, and waits until they are gone. The data stays,
    /// with everything that was committed, unless a setting is `synchronous_commit = off`.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Stop`] if a process does not end. None if the server does not run.
    pub async fn kill(&self) -> Result<(), PostgresError> {
        self.cluster.lock().await.crash().await
    }

    /// Starts the server again on the same port and data, after a stop if it runs.
    ///
    /// # Errors
    ///
    /// [`PostgresError::Start`], for instance if somebody else took the port meanwhile.
    pub async fn restart(&self) -> Result<(), PostgresError> {
        let mut cluster = self.cluster.lock().await;
        cluster.stop().await?;
        // After a kill these name processes that are known to be dead; their numbers may soon be somebody else's.
        for stale in [self.data_dir.join("postmaster.pid"), self.dir.join(format!(".s.PGSQL.{}.lock", self.port))] {
            remove_if_there(&stale).map_err(PostgresError::io(format!("removing {}", stale.display())))?;
        }
        self.launch(&mut cluster).await
    }

    /// Ends the server in good order (a fast shutdown), and waits for it. The data stays until this value is dropped,
    /// which then removes it within milliseconds.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgvpd_core::testing::Postgres;
    ///
    /// let postgres = Postgres::builder().start().await?;
    /// postgres.execute("postgres", "CREATE TABLE kept (id int)").await?;
    /// postgres.stop().await?;
    /// assert!(postgres.connect("postgres").await.is_err());
    /// postgres.restart().await?;
    /// postgres.execute("postgres", "TABLE kept").await?;
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new()?.block_on(example())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PostgresError::Stop`] if it still runs after being killed. None if the server does not run.
    pub async fn stop(&self) -> Result<(), PostgresError> {
        self.cluster.lock().await.stop().await
    }

    /// Starts the server and waits until it accepts connections.
    pub(super) async fn launch(&self, cluster: &mut Cluster) -> Result<(), PostgresError> {
        let log = self.dir.join("log");
        let from = length(&log);
        let command = [self.installation.bin_dir.join("postgres").into(), "-D".into(), self.data_dir.clone().into()];
        cluster.run(&command).await?;
        let deadline = Instant::now() + START_LIMIT;
        let reason = loop {
            if cluster.exited().is_some() {
                break "ended before it accepted connections".to_owned();
            }
            if is_ready(&self.data_dir.join("postmaster.pid")) && self.knock().await.is_ok() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                break format!("did not accept connections within {} s", START_LIMIT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        };
        cluster.stop().await?;
        Err(PostgresError::Start { reason, log: tail(&log, from) })
    }

    /// Takes the guard, so that nobody ends the server meanwhile.
    async fn reload_locked(&self, mut cluster: MutexGuard<'_, Cluster>) -> Result<(), PostgresError> {
        let log = self.dir.join("log");
        let from = length(&log);
        let (true, Some(postmaster)) = (cluster.running(), cluster.postmaster()) else {
            return Err(PostgresError::Reload { log: "the server does not run".to_owned() });
        };
        kill_process(postmaster, Signal::HUP)
            .map_err(io::Error::from)
            .map_err(PostgresError::io("signalling the server"))?;
        let deadline = Instant::now() + ANSWER_LIMIT;
        let mut said = tail(&log, from);
        while !said.contains("received SIGHUP") && Instant::now() < deadline {
            tokio::time::sleep(POLL).await;
            said = tail(&log, from);
        }
        // The postmaster does one thing after the other: when it answers, it has read the files.
        let answers = self.knock().await;
        said = tail(&log, from);
        let refused = said.contains("was not reloaded") || said.contains("contains errors");
        if answers.is_err() || refused || !said.contains("received SIGHUP") {
            return Err(PostgresError::Reload { log: said });
        }
        Ok(())
    }

    /// Asks for TLS (the manual's SSLRequest) to get an answer of one byte without logging in.
    async fn knock(&self) -> io::Result<()> {
        let knock = async {
            let mut stream = TcpStream::connect((self.host(), self.port)).await?;
            stream.write_all(&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f]).await?;
            stream.read_u8().await.map(drop)
        };
        timeout(ANSWER_LIMIT, knock).await?
    }
}

fn sql_error(doing: &'static str, dbname: &str) -> impl FnOnce(tokio_postgres::Error) -> PostgresError {
    let dbname = dbname.to_owned();
    move |source| PostgresError::Sql { doing, dbname, source }
}

/// Line 8 of `postmaster.pid` (LOCK_FILE_LINE_PM_STATUS in PostgreSQL's `pidfile.h`), padded with spaces.
fn is_ready(postmaster_pid: &Path) -> bool {
    let text = read_plain(postmaster_pid).unwrap_or_default();
    text.lines().nth(7).is_some_and(|status| status.trim_end() == "ready")
}

pub(super) fn file_of<L: Into<String>>(lines: impl IntoIterator<Item = L>) -> String {
    lines.into_iter().map(|line| line.into() + "\n").collect()
}

/// How long the server may take to accept connections, and `initdb` to end.
pub(super) const START_LIMIT: Duration = Duration::from_secs(30);
/// How long a connection or a reload may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
pub(super) const SUPERUSER: &str = "postgres";
const IN_URL: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn server_is_ready_by_line_eight_only() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let file = dir.path().join("postmaster.pid");
        for (status, expected) in [("ready   ", true), ("starting", false), ("stopping", false)] {
            fs::write(&file, format!("1\n/d\n2\n5432\n/s\n127.0.0.1\n 3 4\n{status}\n"))?;
            assert_eq!(is_ready(&file), expected, "{status}");
        }
        fs::write(&file, "ready\n")?;
        assert!(!is_ready(&file));
        Ok(())
    }
}
