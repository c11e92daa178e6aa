//! A database and a directory, for commands that work on one and write into the other.

use std::path::PathBuf;

use hmac::{Hmac, KeyInit, Mac};
use pgvpd_core::testing::Postgres;
use sha2::Sha256;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::{PATIENCE, bare_command, within};

/// What an administrator has.
pub(crate) struct Site {
    pub(crate) postgres: &'static Postgres,
    pub(crate) name: String,
    pub(crate) directory: tempfile::TempDir,
    user: String,
    password: String,
}

/// A server that logs every statement in both ways, started by whoever asks first.
async fn logging_postgres() -> &'static Postgres {
    static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
    let start = || async { logging().start().await.expect("PostgreSQL starts") };
    POSTGRES.get_or_init(start).await
}

/// Such a server, for tests that need one of their own.
pub(crate) fn logging() -> pgvpd_core::testing::PostgresBuilder {
    Postgres::builder().setting("log_statement", "all").setting("log_min_duration_statement", "0")
}

impl Site {
    /// A new database, and its superuser.
    pub(crate) async fn new(name: &str) -> Self {
        let postgres = logging_postgres().await;
        postgres.create_database(name).await.expect("database");
        Self::of(postgres, name, postgres.superuser(), postgres.password())
    }

    /// A database that is there.
    pub(crate) fn of(postgres: &'static Postgres, name: &str, user: &str, password: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self { postgres, name: name.into(), directory, user: user.into(), password: password.into() }
    }

    /// Another one of the same database's, with a directory of its own.
    pub(crate) fn again(&self) -> Self {
        Self::of(self.postgres, &self.name, &self.user, &self.password)
    }

    /// The program, in the directory, with the environment that leads to the database.
    pub(crate) fn command(&self, program: &std::process::Command) -> std::process::Command {
        let mut command = std::process::Command::new(program.get_program());
        command.args(program.get_args()).current_dir(self.directory.path());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        for name in ["PGOPTIONS", "PGSSLMODE", "PGCONNECT_TIMEOUT", "PGHOSTADDR"] {
            command.env_remove(name);
        }
        command.env("PGHOST", self.postgres.host()).env("PGPORT", self.postgres.port().to_string());
        command.env("PGUSER", &self.user).env("PGPASSWORD", &self.password).env("PGDATABASE", &self.name);
        command
    }

    pub(crate) fn pgvpd(&self, arguments: &[&str]) -> assert_cmd::assert::Assert {
        let mut command = bare_command();
        command.args(arguments);
        assert_cmd::Command::from_std(self.command(&command)).timeout(PATIENCE).assert()
    }

    /// What it writes to both streams, as it has to end well.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let done = self.pgvpd(arguments).code(0);
        [&done.get_output().stdout, &done.get_output().stderr]
            .map(|text| String::from_utf8_lossy(text).into_owned())
            .concat()
    }

    /// What it complains of, as it has to fail.
    pub(crate) fn refused(&self, arguments: &[&str]) -> String {
        let refused = self.pgvpd(arguments).code(1);
        String::from_utf8_lossy(&refused.get_output().stderr).into_owned()
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub(crate) fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
    }

    pub(crate) fn mode(&self, file: &str) -> u32 {
        use std::os::unix::fs::MetadataExt;
        std::fs::metadata(self.path(file)).expect("a file").mode() & 0o7777
    }

    /// Names of the files in the directory.
    pub(crate) fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// The value of an option in `pgvpd.conf`.
    pub(crate) fn option(&self, name: &str) -> Option<String> {
        let text = self.read("pgvpd.conf");
        text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(" = ")?.to_owned()))
    }

    /// The key that signs, by its id.
    pub(crate) fn key(&self) -> (String, String) {
        let option =
            |name: &str| self.option(name).unwrap_or_else(|| panic!("no {name} in\n{}", self.read("pgvpd.conf")));
        (option("context_key_id"), option("context_signing_key"))
    }

    /// A connection of the database's superuser.
    pub(crate) async fn client(&self) -> Client {
        self.postgres.connect(&self.name).await.expect("a connection")
    }

    pub(crate) async fn execute(&self, sql: &str) {
        self.postgres.execute(&self.name, sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    /// The first column of every row.
    pub(crate) async fn column(&self, sql: &str) -> Vec<String> {
        let rows = within(sql, async { self.client().await.query(sql, &[]).await }).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error:?}")).iter().map(|row| row.get(0)).collect()
    }

    /// The ids of the keys that the database knows.
    pub(crate) async fn known_keys(&self) -> Vec<String> {
        self.column("SELECT kid FROM pgvpd.signing_key ORDER BY kid").await
    }

    /// The tenant that the database reads from a context that is signed with this key.
    pub(crate) async fn verified(&self, (id, digits): &(String, String)) -> Option<String> {
        let client = self.client().await;
        let facts = "SELECT pg_backend_pid(), current_database()::text, session_user::text";
        let facts = client.query_one(facts, &[]).await.expect("facts");
        let (pid, name, user): (i32, String, String) = (facts.get(0), facts.get(1), facts.get(2));
        let context = r#"{"app.current_tenant_id":"acme"}"#;
        let mut token = format!(
            "v1.{id}.{pid}.0.0.0.{}.{}.{}",
            hex(name.as_bytes()),
            hex(user.as_bytes()),
            hex(context.as_bytes())
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(&unhex(digits)).expect("a key");
        mac.update(token.as_bytes());
        token.push_str(&format!(".{}", hex(&mac.finalize().into_bytes())));
        client.execute("SELECT set_config('pgvpd.context', $1, false)", &[&token]).await.expect("set");
        client.query_one("SELECT public.current_tenant_id()", &[]).await.expect("read").get(0)
    }

    /// The tenant that the database reads from a plain setting.
    pub(crate) async fn plain(&self) -> Option<String> {
        let client = self.client().await;
        client.batch_execute("SET app.current_tenant_id = 'acme'").await.expect("set");
        client.query_one("SELECT public.current_tenant_id()", &[]).await.expect("read").get(0)
    }

    /// All that the server has logged.
    pub(crate) fn log(&self) -> String {
        let log = std::fs::read(self.postgres.socket_dir().join("log")).expect("the log");
        String::from_utf8_lossy(&log).into_owned()
    }

    /// A connection as somebody else.
    pub(crate) async fn log_in(&self, user: &str, password: &str) -> Result<Client, tokio_postgres::Error> {
        let mut config = tokio_postgres::Config::new();
        config.host(self.postgres.host()).port(self.postgres.port()).user(user).password(password).dbname(&self.name);
        let (client, connection) = within("login", config.connect(NoTls)).await?;
        tokio::spawn(connection);
        Ok(client)
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn unhex(digits: &str) -> Vec<u8> {
    let pair = |pair: &[u8]| std::str::from_utf8(pair).ok().and_then(|pair| u8::from_str_radix(pair, 16).ok());
    digits.as_bytes().chunks(2).map(|digits| pair(digits).expect("hexadecimal digits")).collect()
}
