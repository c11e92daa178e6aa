//! The database that a command works on: where it is, as `psql` finds it, and a connection to it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow};
use clap::{Arg, ArgMatches, ValueHint};
use pgvpd_core::config::{TcpTimes, UpstreamAddress};
use tokio::sync::mpsc;
use tokio_postgres::config::Host;
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::database_tls::Parameters;
use crate::exit::Exit;

/// What a connection over TLS, or one that could have been, is to the library.
type TlsStream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// How long the server may take to answer, where `connect_timeout` does not say.
const PATIENCE: Duration = Duration::from_secs(10);

/// The oldest release that the SQL works on.
const OLDEST: i32 = 14;

/// Where servers of this machine have their socket.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// `--database`, for every command that works on one.
pub(crate) fn argument() -> Arg {
    Arg::new("database").long("database").short('d').value_name("CONNINFO").value_hint(ValueHint::Other).help(
        "The database, as psql takes it: a name, a URL or key=value pairs. What it leaves out comes from PGHOST, \
             PGPORT, PGUSER, PGPASSWORD and PGDATABASE; best the password, which other users could see here",
    )
}

/// A database that is not connected to yet.
pub(crate) struct Target {
    config: Config,
    tls: MakeRustlsConnect,
    /// The command line named nothing but the database, if that.
    is_name: bool,
}

/// What a variable of the environment holds; a function, so that tests have an environment of their own.
type Variables<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Target {
    /// What the command line names, completed from the environment.
    ///
    /// # Errors
    /// [`Exit::Usage`] where that cannot be understood.
    pub(crate) fn new(matches: &ArgMatches) -> Result<Self, Exit> {
        let conninfo = matches.get_one::<String>("database").map_or("", String::as_str);
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self::read(conninfo, &variable).map_err(Exit::Usage)
    }

    fn read(conninfo: &str, variable: Variables<'_>) -> anyhow::Result<Self> {
        let is_name = !conninfo.contains('=') && !is_url(conninfo) && !conninfo.is_empty();
        let (mut config, parameters) = if is_name {
            let mut config = Config::new();
            config.dbname(conninfo);
            (config, Parameters::default())
        } else {
            let (rest, parameters) = Parameters::take(conninfo, is_url(conninfo))?;
            (rest.parse::<Config>().map_err(|error| unreadable(&error))?, parameters)
        };
        complete(&mut config, variable)?;
        if config.get_hosts().is_empty() {
            // A certificate is for a name, or for the address where nothing else is known.
            for address in config.get_hostaddrs().to_vec() {
                config.host(address.to_string());
            }
        }
        let (ssl_mode, tls) = parameters.completed(variable).connector(config.get_hosts().first())?;
        config.ssl_mode(ssl_mode);
        Ok(Self { config, tls, is_name: is_name || conninfo.is_empty() })
    }

    /// The parameters of the connection, with the password.
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    /// For connections with these parameters, or some that differ in whose they are.
    pub(crate) fn tls(&self) -> MakeRustlsConnect {
        self.tls.clone()
    }

    /// Returns true if a role can log in with this password.
    pub(crate) async fn logs_in(&self, user: &str, password: &str, name: &str) -> bool {
        let mut config = self.config.clone();
        config.user(user).password(password).dbname(name).options("");
        matches!(tokio::time::timeout(PATIENCE, config.connect(self.tls())).await, Ok(Ok(_)))
    }

    /// Connects, and finds out whether the server is one that the SQL works on.
    ///
    /// # Errors
    /// [`Exit::Failed`], with what to change.
    pub(crate) async fn connect(&self) -> Result<Database, Exit> {
        Ok(self.connected().await?)
    }

    async fn connected(&self) -> anyhow::Result<Database> {
        let limit = self.config.get_connect_timeout().copied().unwrap_or(PATIENCE);
        // The library's own limit is only that of the socket, and of one address.
        let connected = tokio::time::timeout(limit, self.config.connect(self.tls())).await;
        let (client, connection) = match connected {
            Ok(connected) => connected.map_err(|error| self.refused(&error))?,
            Err(_) => {
                let seconds = limit.as_secs();
                return Err(anyhow!(
                    "{} does not answer within {seconds} s; name another with --database",
                    self.place()
                ));
            }
        };
        let notices = driven(connection);
        let facts = "SELECT current_setting('server_version_num')::int, current_setting('server_version'),
                            current_user::text, current_database()::text, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user)";
        let row = client.query_one(facts, &[]).await.map_err(|error| explained(&error))?;
        let version: i32 = row.get(0);
        if version / 10_000 < OLDEST {
            let release: &str = row.get(1);
            return Err(anyhow!("{} is PostgreSQL {release}; pgvpd needs {OLDEST} or later", self.place()));
        }
        Ok(Database {
            client,
            notices,
            major: version / 10_000,
            user: row.get(2),
            name: row.get(3),
            is_superuser: row.get(4),
            address: self.address(),
            conninfo: self.conninfo(row.get(2), row.get(3)),
        })
    }

    /// For a command line, without the password.
    fn conninfo(&self, user: &str, name: &str) -> String {
        let value = |text: &str| match text.contains([' ', '\'', '\\']) || text.is_empty() {
            true => format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'")),
            false => text.to_owned(),
        };
        // A name that would be read as something else is given as what it is.
        match self.is_name {
            true if name.contains('=') || name.starts_with('-') || is_url(name) => {
                return quoted(&format!("dbname={}", value(name)));
            }
            true => return quoted(name),
            false => {}
        }
        let UpstreamAddress { host, port, .. } = self.address();
        quoted(&format!("host={} port={port} user={} dbname={}", value(&host), value(user), value(name)))
    }

    /// Where the proxy would find this server: the first one that is named.
    fn address(&self) -> UpstreamAddress {
        let host = match (self.config.get_hostaddrs().first(), self.config.get_hosts().first()) {
            (Some(address), None) => address.to_string(),
            (_, Some(Host::Tcp(name))) => name.clone(),
            #[cfg(unix)]
            (_, Some(Host::Unix(directory))) => directory.display().to_string(),
            (None, None) => "127.0.0.1".into(),
        };
        let port = self.config.get_ports().first().copied().unwrap_or(5432);
        UpstreamAddress { host, port, tls: None, tcp: TcpTimes::default() }
    }

    /// The server, for messages.
    fn place(&self) -> String {
        let UpstreamAddress { host, port, .. } = self.address();
        format!("the server at {host}, port {port},")
    }

    /// Why there is no connection, and what to change.
    fn refused(&self, error: &tokio_postgres::Error) -> anyhow::Error {
        let place = self.place();
        let user = self.config.get_user().unwrap_or("the user of this process");
        let Some(refusal) = error.as_db_error() else {
            let cause = causes(error);
            return match () {
                () if cause.contains("password missing") => {
                    anyhow!("{place} asks for the password of {user}; set PGPASSWORD")
                }
                () if io_kind(error).is_some() => anyhow!(
                    "cannot reach {place} {}; start it, or name another with --database, or PGHOST and PGPORT",
                    io_text(error)
                ),
                () => anyhow!("cannot connect to {place} {cause}"),
            };
        };
        let advice = match refusal.code() {
            code if *code == SqlState::INVALID_PASSWORD => "set PGPASSWORD to the right one, or name another user",
            code if *code == SqlState::INVALID_CATALOG_NAME => {
                "name one that exists with --database, or create it (createdb)"
            }
            code if *code == SqlState::INVALID_AUTHORIZATION_SPECIFICATION => {
                "name another user, or allow it in pg_hba.conf"
            }
            code if *code == SqlState::CANNOT_CONNECT_NOW => "try again in a moment",
            _ => return explained(error).context(format!("{place} refuses the connection")),
        };
        anyhow!("{place} refuses the connection: {}; {advice}", refusal.message())
    }
}

/// A connection, and what the server said beside its answers.
pub(crate) struct Database {
    client: Client,
    notices: mpsc::UnboundedReceiver<DbError>,
    /// Of the server's release.
    pub(crate) major: i32,
    pub(crate) user: String,
    pub(crate) name: String,
    pub(crate) is_superuser: bool,
    /// Where a proxy on this machine finds the server.
    pub(crate) address: UpstreamAddress,
    conninfo: String,
}

impl Database {
    /// For queries.
    pub(crate) fn client(&self) -> &Client {
        &self.client
    }

    /// For transactions.
    pub(crate) fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// What leads another command to the same database, for a shell; without the password.
    pub(crate) fn conninfo(&self) -> &str {
        &self.conninfo
    }

    /// Notices and warnings since the last call. Those that belong to a query are there when it is answered.
    pub(crate) fn notices(&mut self) -> Vec<DbError> {
        std::iter::from_fn(|| self.notices.try_recv().ok()).collect()
    }
}

/// Runs a command that talks to a database.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T, Exit>>) -> Result<T, Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start")?;
    runtime.block_on(work)
}

/// A word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+,=".contains(c);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.to_owned(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

/// What the server says of a failure, as `psql` shows it.
pub(crate) fn explained(error: &tokio_postgres::Error) -> anyhow::Error {
    match error.as_db_error() {
        Some(refusal) => anyhow!(told(refusal)),
        None => anyhow!("the connection to the database failed: {}", causes(error)),
    }
}

/// Message, detail and hint, each on its line.
pub(crate) fn told(said: &DbError) -> String {
    let mut text = said.message().to_owned();
    for (label, part) in [("detail", said.detail()), ("hint", said.hint())] {
        if let Some(part) = part {
            text.push_str(&format!("\n  {label}: {part}"));
        }
    }
    text
}

/// What the command line does not say, from the environment, and then from what is there.
fn complete(config: &mut Config, variable: Variables<'_>) -> anyhow::Result<()> {
    let number = |name: &'static str| match variable(name).map(|value| value.parse()) {
        Some(Ok(number)) => Ok(Some(number)),
        Some(Err(_)) => Err(anyhow!("{name} is not a number that can be used")),
        None => Ok(None),
    };
    if config.get_ports().is_empty() {
        config.port(number("PGPORT")?.unwrap_or(5432));
    }
    if config.get_connect_timeout().is_none()
        && let Some(seconds) = number("PGCONNECT_TIMEOUT")?.filter(|seconds| *seconds > 0)
    {
        config.connect_timeout(Duration::from_secs(seconds.into()));
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let host = variable("PGHOST").unwrap_or_else(|| nearest(&SOCKET_DIRECTORIES, port));
        for host in host.split(',') {
            config.host(host);
        }
    }
    if config.get_user().is_none()
        && let Some(user) = variable("PGUSER")
    {
        config.user(user);
    }
    if config.get_password().is_none()
        && let Some(password) = variable("PGPASSWORD")
    {
        config.password(password);
    }
    if config.get_dbname().is_none()
        && let Some(name) = variable("PGDATABASE")
    {
        config.dbname(name);
    }
    if config.get_options().is_none()
        && let Some(options) = variable("PGOPTIONS")
    {
        config.options(options);
    }
    if config.get_application_name().is_none() {
        config.application_name("pgvpd");
    }
    Ok(())
}

/// The directory with the socket of a server on this port, or else this machine's address.
fn nearest(directories: &[&str], port: u16) -> String {
    let has_socket = |directory: &&&str| Path::new(directory).join(format!(".s.PGSQL.{port}")).exists();
    directories.iter().find(has_socket).map_or("127.0.0.1", |directory| directory).to_owned()
}

fn is_url(conninfo: &str) -> bool {
    conninfo.starts_with("postgres://") || conninfo.starts_with("postgresql://")
}

/// Nothing of what was given is shown: a password that is not quoted shows up in the library's error.
fn unreadable(error: &tokio_postgres::Error) -> anyhow::Error {
    let cause = causes(error);
    let known = [
        "sslnegotiation",
        "gssencmode",
        "passfile",
        "service",
        "port",
        "hostaddr",
        "connect_timeout",
        "target_session_attrs",
        "channel_binding",
        "client_encoding",
        "fallback_application_name",
    ];
    let named = known.into_iter().find(|name| cause.contains(&format!("`{name}`")));
    match named {
        Some(name) => anyhow!("--database: {name} cannot be used, or its value is not valid"),
        None => anyhow!(
            "--database is not understood; give a name, a URL such as postgresql://user@host:5432/name, or pairs such as \
             'host=db port=5432 user=admin dbname=name', values with blanks between single quotes"
        ),
    }
}

/// Lets the connection work, and collects what the server says without being asked.
fn driven(mut connection: Connection<Socket, TlsStream>) -> mpsc::UnboundedReceiver<DbError> {
    let (sender, notices) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        // An error ends the queries that are under way, which report it.
        while let Some(Ok(message)) = std::future::poll_fn(|context| connection.poll_message(context)).await {
            if let AsyncMessage::Notice(notice) = message {
                let _ = sender.send(notice);
            }
        }
    });
    notices
}

fn io_kind(error: &tokio_postgres::Error) -> Option<ErrorKind> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind)
}

fn io_text(error: &tokio_postgres::Error) -> String {
    std::error::Error::source(error).map(ToString::to_string).unwrap_or_default()
}

/// The whole chain: the library says only "db error" at the top.
fn causes(error: &tokio_postgres::Error) -> String {
    let chain = std::iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
    chain.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use tokio_postgres::config::SslMode;

    use super::*;

    fn read(conninfo: &str, variables: &[(&str, &str)]) -> anyhow::Result<Config> {
        let variable = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        Target::read(conninfo, &variable).map(|target| target.config)
    }

    #[test]
    fn the_place_is_told_again_without_the_password() -> anyhow::Result<()> {
        let told = |conninfo: &str| Ok::<_, anyhow::Error>(Target::read(conninfo, &|_| None)?.conninfo("o'x", "shop"));
        assert_eq!(told("shop")?, "shop");
        let named = |name: &str| Ok::<_, anyhow::Error>(Target::read("", &|_| None)?.conninfo("ulla", name));
        assert_eq!(named("a=b")?, "dbname=a=b");
        assert_eq!(named("-xy")?, "dbname=-xy");
        assert_eq!(told("postgresql://u:secret@db:2/shop")?, r"'host=db port=2 user='\''o\'\''x'\'' dbname=shop'");
        Ok(())
    }

    #[test]
    fn the_command_line_wins_over_the_environment_setting_by_setting() -> anyhow::Result<()> {
        let variables = [
            ("PGHOST", "/run/a"),
            ("PGPORT", "7000"),
            ("PGUSER", "ulla"),
            ("PGPASSWORD", "secret"),
            ("PGDATABASE", "shop"),
        ];
        let of = |config: &Config| {
            let text = |text: Option<&str>| text.unwrap_or("-").to_owned();
            let password = config.get_password().map(|password| String::from_utf8_lossy(password).into_owned());
            (
                config.get_hosts().to_vec(),
                config.get_ports().to_vec(),
                text(config.get_user()),
                text(password.as_deref()),
                text(config.get_dbname()),
            )
        };
        let expected = |host, port, user: &str, password: &str, name: &str| {
            (vec![host], vec![port], user.to_owned(), password.to_owned(), name.to_owned())
        };
        let here = Host::Unix("/run/a".into());
        assert_eq!(of(&read("", &variables)?), expected(here.clone(), 7000, "ulla", "secret", "shop"));
        assert_eq!(of(&read("books", &variables)?), expected(here.clone(), 7000, "ulla", "secret", "books"));
        let pairs = "user=otto dbname='b c' password=x port=1";
        assert_eq!(of(&read(pairs, &variables)?), expected(here, 1, "otto", "x", "b c"));
        let url = "postgresql://otto@db:2/books";
        assert_eq!(of(&read(url, &variables)?), expected(Host::Tcp("db".into()), 2, "otto", "secret", "books"));
        Ok(())
    }

    #[test]
    fn without_a_host_the_socket_of_the_port_is_taken_where_there_is_one() -> anyhow::Result<()> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().to_str().unwrap_or_default();
        std::fs::write(directory.path().join(".s.PGSQL.7000"), "")?;
        assert_eq!(nearest(&["/nowhere", path], 7000), path);
        assert_eq!(nearest(&["/nowhere", path], 7001), "127.0.0.1");
        Ok(())
    }

    #[test]
    fn what_is_not_understood_is_refused_and_nothing_that_was_given_is_shown() {
        assert!(read("sslmode=require host=db", &[]).is_ok_and(|config| config.get_ssl_mode() == SslMode::Require));
        assert!(read("host=db", &[("PGSSLMODE", "require")]).is_ok_and(|it| it.get_ssl_mode() == SslMode::Require));
        assert!(read("host=db", &[("PGSSLMODE", "secret")]).is_err_and(|error| !error.to_string().contains("cret")));
        for conninfo in ["password=se cret=x", "password='secret", "postgresql://a:secret@h:port/d", "secret = "] {
            let error = read(conninfo, &[]).err().map(|error| format!("{error:?}")).unwrap_or_default();
            assert!(error.contains("--database") && !error.contains("cret"), "{conninfo}: {error}");
        }
        assert!(read("", &[("PGPORT", "x")]).is_err());
    }
}
