//! What may be said to the console, read from a statement's text. Pure.

use super::words::{Word, statements};
use crate::config::OptionSpec;
use crate::error::Refusal;
use crate::wire::SqlState;

/// A statement.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// SHOW of a table.
    Show(Topic),
    /// SHOW of an option's value.
    ShowOption(&'static OptionSpec),
    /// SHOW of what a session's drivers ask for.
    ShowParameter(&'static str),
    /// Reads the configuration again.
    Reload,
    /// Has pools give no connections, and waits until there are none.
    Pause,
    /// Goes on.
    Resume,
    /// Closes the server connections to a database, or all: idle ones now, others when they are released.
    Reconnect(Option<Operand>),
    /// The same for a database that is to be left alone.
    CloseDatabase(Operand),
    /// No more clients; sessions may finish.
    Drain,
    /// Ends the sessions of a tenant.
    DisconnectTenant(Operand),
    /// Ends one session.
    DisconnectSession(Operand),
    /// Sets, or puts back, what only drivers care for; without effect, and with this tag.
    Setting(&'static str),
    /// Begins a transaction, which has no effect either.
    Begin,
    /// Ends it.
    Commit,
    /// The same.
    Rollback,
    /// Forgets prepared statements: this one, or all.
    Deallocate(Option<String>),
    /// The same for all, as part of what a session starts with.
    DiscardAll,
    /// `SELECT 1`, by which a connection is tried.
    SelectNumber(i64),
    /// `SELECT version()`
    SelectVersion,
    /// `SELECT pg_advisory_unlock_all()`, by which drivers give a session back to their pool: there are no locks.
    SelectNothing,
}

/// A table that can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    Pools,
    Clients,
    Servers,
    Databases,
    Lists,
    Tenants,
    Stats,
    StatsTotals,
    StatsAverages,
    Totals,
    Users,
    Mem,
    Resolvers,
    Config,
    Version,
    Help,
}

impl Topic {
    /// The names, as they stand behind SHOW.
    pub(super) const ALL: [(&'static str, Self); 16] = [
        ("POOLS", Self::Pools),
        ("CLIENTS", Self::Clients),
        ("SERVERS", Self::Servers),
        ("DATABASES", Self::Databases),
        ("LISTS", Self::Lists),
        ("TENANTS", Self::Tenants),
        ("STATS", Self::Stats),
        ("STATS_TOTALS", Self::StatsTotals),
        ("STATS_AVERAGES", Self::StatsAverages),
        ("TOTALS", Self::Totals),
        ("USERS", Self::Users),
        ("MEM", Self::Mem),
        ("RESOLVERS", Self::Resolvers),
        ("CONFIG", Self::Config),
        ("VERSION", Self::Version),
        ("HELP", Self::Help),
    ];
}

/// Whom a statement names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Operand {
    /// In its text.
    Given(String),
    /// By its one parameter, `$1`.
    Parameter,
}

/// What SHOW says of a session, for drivers and tools that ask: the parameters that are reported at its start, and one more.
pub(super) const PARAMETERS: &[&str] = &[
    "server_version",
    "server_encoding",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "integer_datetimes",
    "standard_conforming_strings",
    "is_superuser",
    "session_authorization",
    "application_name",
    "transaction_isolation",
];

/// Settings that drivers and pools set when they connect; none of them means anything here.
const OF_DRIVERS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_min_messages",
    "datestyle",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
    "timezone",
];

/// Commands of PgBouncer's console that are not here, and what is instead.
const ELSEWHERE: &[(&str, &str)] = &[
    (
        "KILL",
        "DISCONNECT TENANT ends sessions, CLOSE DATABASE closes server connections; tenant_deny keeps a tenant out.",
    ),
    ("KILL_CLIENT", "DISCONNECT SESSION ends one, by its number in SHOW CLIENTS."),
    ("DISABLE", "tenant_deny keeps tenants out; RELOAD has it take effect."),
    ("ENABLE", "tenant_deny keeps tenants out; RELOAD has it take effect."),
    ("SUSPEND", "With reuse_port a new process takes over from this one."),
    ("SHUTDOWN", "DRAIN lets sessions finish, then ends the proxy."),
    ("WAIT_CLOSE", "SHOW SERVERS has what is not closed yet, as close_needed."),
];

/// All statements of a text, in order; an empty one is `None`.
///
/// # Errors
/// The first thing that is wrong, and nothing of the text has been done then.
pub(super) fn parse(text: &str) -> Result<Vec<Option<Command>>, Refusal> {
    let statements = statements(text).map_err(|error| Refusal::new(SqlState::SYNTAX_ERROR, error))?;
    statements.iter().map(|words| if words.is_empty() { Ok(None) } else { command(words).map(Some) }).collect()
}

fn command(words: &[Word]) -> Result<Command, Refusal> {
    let keys: Vec<String> = words.iter().map(Word::keyword).collect();
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    match (keys.as_slice(), words) {
        (["SHOW", "TRANSACTION", "ISOLATION", "LEVEL"], _) => Ok(Command::ShowParameter("transaction_isolation")),
        (["SHOW", _], [_, what]) => show(&what.text),
        (["RELOAD"], _) => Ok(Command::Reload),
        (["PAUSE"], _) => Ok(Command::Pause),
        (["RESUME"], _) => Ok(Command::Resume),
        (["PAUSE" | "RESUME", _], _) => Err(all_pools()),
        (["RECONNECT"], _) => Ok(Command::Reconnect(None)),
        (["RECONNECT", _], [_, database]) => Ok(Command::Reconnect(Some(operand(database)))),
        (["CLOSE", "DATABASE", _], [_, _, database]) => Ok(Command::CloseDatabase(operand(database))),
        (["CLOSE", "DATABASE", ..], _) => Err(syntax(words).hint("CLOSE DATABASE 'name'.")),
        (["DRAIN"], _) => Ok(Command::Drain),
        (["DISCONNECT", "TENANT", _], [_, _, tenant]) => Ok(Command::DisconnectTenant(operand(tenant))),
        (["DISCONNECT", "SESSION", _], [_, _, session]) => Ok(Command::DisconnectSession(operand(session))),
        (["DISCONNECT", ..], _) => Err(syntax(words).hint("DISCONNECT TENANT 'name', or DISCONNECT SESSION number.")),
        (["SET", rest @ ..], [_, words @ ..]) => set(rest, words),
        (["BEGIN", ..] | ["START", "TRANSACTION", ..], _) => Ok(Command::Begin),
        (["COMMIT" | "END"] | ["COMMIT" | "END", "TRANSACTION" | "WORK"], _) => Ok(Command::Commit),
        (["ROLLBACK" | "ABORT"] | ["ROLLBACK" | "ABORT", "TRANSACTION" | "WORK"], _) => Ok(Command::Rollback),
        (["DEALLOCATE", "ALL"] | ["DEALLOCATE", "PREPARE", "ALL"], _) => Ok(Command::Deallocate(None)),
        (["DISCARD", "ALL"], _) => Ok(Command::DiscardAll),
        (["DISCARD", "PLANS"], _) => Ok(Command::Setting("DISCARD PLANS")),
        (["DISCARD", "SEQUENCES"], _) => Ok(Command::Setting("DISCARD SEQUENCES")),
        (["DISCARD", "TEMP" | "TEMPORARY"], _) => Ok(Command::Setting("DISCARD TEMP")),
        (["CLOSE", "ALL"], _) => Ok(Command::Setting("CLOSE CURSOR ALL")),
        (["UNLISTEN", "*"], _) => Ok(Command::Setting("UNLISTEN")),
        (["DEALLOCATE", _] | ["DEALLOCATE", "PREPARE", _], [.., name]) => {
            Ok(Command::Deallocate(Some(name.text.clone())))
        }
        (["RESET", _] | ["RESET", "SESSION", "AUTHORIZATION"], _) => Ok(Command::Setting("RESET")),
        (["SELECT", "PG_ADVISORY_UNLOCK_ALL" | "PG_CATALOG.PG_ADVISORY_UNLOCK_ALL", "(", ")"], _) => {
            Ok(Command::SelectNothing)
        }
        (["SELECT", "VERSION" | "PG_CATALOG.VERSION", "(", ")"], _) => Ok(Command::SelectVersion),
        (["SELECT", number], _) if number.parse::<i64>().is_ok() => {
            Ok(Command::SelectNumber(number.parse().unwrap_or_default()))
        }
        ([first, ..], _) => Err(match ELSEWHERE.iter().find(|(name, _)| name == first) {
            Some((name, instead)) => {
                Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, format_args!("there is no {name} here")).hint(*instead)
            }
            None => syntax(words).hint("SHOW HELP lists what there is."),
        }),
        ([], _) => Err(syntax(words)),
    }
}

fn operand(word: &Word) -> Operand {
    if word.is_parameter() { Operand::Parameter } else { Operand::Given(word.text.clone()) }
}

fn show(what: &str) -> Result<Command, Refusal> {
    let topic = Topic::ALL.iter().find(|(name, _)| name.eq_ignore_ascii_case(what));
    if let Some((_, topic)) = topic {
        return Ok(Command::Show(*topic));
    }
    if let Some(option) = OptionSpec::named(&what.to_ascii_lowercase()) {
        return Ok(Command::ShowOption(option));
    }
    match PARAMETERS.iter().find(|name| name.eq_ignore_ascii_case(what)) {
        Some(name) => Ok(Command::ShowParameter(name)),
        None => Err(Refusal::new(SqlState::UNDEFINED_OBJECT, format_args!("there is no SHOW {what}"))
            .hint("SHOW HELP lists what there is; SHOW CONFIG the options.")),
    }
}

const SET: Command = Command::Setting("SET");

/// What is set, by the words behind SET.
fn set(keys: &[&str], words: &[Word]) -> Result<Command, Refusal> {
    let (keys, words) = match keys {
        ["SESSION", "CHARACTERISTICS", ..] | ["TRANSACTION", ..] => return Ok(SET),
        ["SESSION", "AUTHORIZATION", "DEFAULT"] | ["ROLE", "NONE"] => return Ok(SET),
        ["SESSION" | "LOCAL", rest @ ..] => (rest, words.get(1..).unwrap_or_default()),
        all => (all, words),
    };
    let (name, value) = match (keys, words) {
        (["TIME", "ZONE", ..], _) => return Ok(SET),
        (["NAMES", _], [_, value]) => ("client_encoding", value),
        ([_, "=" | "TO", _, ..], [name, _, value, ..]) => (&*name.text, value),
        _ => return Err(syntax(words)),
    };
    if OptionSpec::named(&name.to_ascii_lowercase()).is_some() {
        let message = format_args!("the option {name} cannot be set here");
        return Err(Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, message)
            .hint("Change the configuration file; RELOAD reads it again."));
    }
    let is = |other: &str| name.eq_ignore_ascii_case(other);
    let is_utf8 = ["utf8", "utf-8", "unicode"].iter().any(|encoding| value.text.eq_ignore_ascii_case(encoding));
    match () {
        () if is("client_encoding") && is_utf8 => Ok(SET),
        () if is("client_encoding") => {
            Err(Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, "the console speaks UTF8 alone"))
        }
        () if OF_DRIVERS.iter().any(|known| is(known)) => Ok(SET),
        () => Err(Refusal::new(SqlState::UNDEFINED_OBJECT, format_args!("there is no setting {name:?}"))),
    }
}

fn all_pools() -> Refusal {
    Refusal::new(SqlState::FEATURE_NOT_SUPPORTED, "PAUSE and RESUME are for all pools").hint("Name no database.")
}

fn syntax(words: &[Word]) -> Refusal {
    let shown: Vec<String> = words.iter().take(4).map(Word::shown).collect();
    let more = if words.len() > shown.len() { " ..." } else { "" };
    Refusal::new(SqlState::SYNTAX_ERROR, format_args!("the console has no command {}{more}", shown.join(" ")))
}

impl Command {
    /// How many parameters it takes.
    pub(super) fn parameters(&self) -> usize {
        let operand = match self {
            Self::DisconnectTenant(operand) | Self::DisconnectSession(operand) | Self::CloseDatabase(operand) => {
                operand
            }
            Self::Reconnect(Some(operand)) => operand,
            _ => return 0,
        };
        usize::from(*operand == Operand::Parameter)
    }

    /// With the value of its parameter.
    pub(super) fn with(self, value: &str) -> Self {
        let given = || Operand::Given(value.to_owned());
        match self {
            Self::DisconnectTenant(Operand::Parameter) => Self::DisconnectTenant(given()),
            Self::DisconnectSession(Operand::Parameter) => Self::DisconnectSession(given()),
            Self::Reconnect(Some(Operand::Parameter)) => Self::Reconnect(Some(given())),
            Self::CloseDatabase(Operand::Parameter) => Self::CloseDatabase(given()),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(text: &str) -> Command {
        let mut all = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(all.len(), 1, "{text}");
        all.remove(0).expect("not empty")
    }

    fn code(text: &str) -> &'static str {
        parse(text).expect_err(text).code.as_str()
    }

    fn tenant(name: &str) -> Command {
        Command::DisconnectTenant(Operand::Given(name.into()))
    }

    #[test]
    fn commands_are_read_in_any_case_with_comments_and_a_semicolon() {
        for (name, topic) in Topic::ALL {
            assert_eq!(one(&format!("SHOW {name};")), Command::Show(topic));
            assert_eq!(
                one(&format!("  show /* a /* nested */ one */ {} -- why", name.to_lowercase())),
                Command::Show(topic)
            );
        }
        assert_eq!(
            (one("Reload"), one("pause;"), one("RESUME"), one("drain")),
            (Command::Reload, Command::Pause, Command::Resume, Command::Drain)
        );
        let all = parse("SHOW POOLS; ; show lists;").expect("three");
        assert_eq!(all, [Some(Command::Show(Topic::Pools)), None, Some(Command::Show(Topic::Lists))]);
        assert_eq!(parse(" -- nothing\n"), Ok(vec![None]));
    }

    #[test]
    fn a_tenant_is_named_as_it_is_with_quotes_or_without() {
        for (text, name) in [
            ("DISCONNECT TENANT acme", "acme"),
            ("disconnect tenant Acme;", "Acme"),
            ("DISCONNECT TENANT 'acme corp; it''s'", "acme corp; it's"),
            ("DISCONNECT TENANT \"a\"\"b\"", "a\"b"),
            ("DISCONNECT TENANT a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"),
            ("DISCONNECT TENANT eu:42", "eu:42"),
            ("DISCONNECT TENANT '$1'", "$1"),
        ] {
            assert_eq!(one(text), tenant(name), "{text}");
        }
        let prepared = one("DISCONNECT TENANT $1");
        assert_eq!((prepared.parameters(), prepared.with("x")), (1, tenant("x")));
        assert_eq!(one("DISCONNECT SESSION 17"), Command::DisconnectSession(Operand::Given("17".into())));
    }

    #[test]
    fn a_database_is_named_in_the_same_way_or_not_at_all() {
        let given = |name: &str| Operand::Given(name.into());
        assert_eq!(one("reconnect;"), Command::Reconnect(None));
        for (text, name) in [("RECONNECT shop", "shop"), ("reconnect \"my shop\"", "my shop"), ("RECONNECT '$1'", "$1")]
        {
            assert_eq!(one(text), Command::Reconnect(Some(given(name))), "{text}");
        }
        for (text, name) in [("CLOSE DATABASE Shop", "Shop"), ("close database 'it''s'", "it's")] {
            assert_eq!(one(text), Command::CloseDatabase(given(name)), "{text}");
        }
        for (text, expected) in [
            ("RECONNECT $1", Command::Reconnect(Some(given("x")))),
            ("CLOSE DATABASE $1", Command::CloseDatabase(given("x"))),
        ] {
            let prepared = one(text);
            assert_eq!((prepared.parameters(), prepared.with("x")), (1, expected));
        }
        assert_eq!(one("RECONNECT").parameters() + one("RECONNECT shop").parameters(), 0);
    }

    #[test]
    fn what_drivers_say_when_they_connect_is_taken() {
        for text in [
            "SET extra_float_digits = 3",
            "SET application_name = 'PostgreSQL JDBC Driver'",
            "SET client_encoding TO 'UTF8'",
            "set names utf8",
            "SET SESSION statement_timeout TO 0",
            "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
            "SET datestyle TO 'ISO, MDY'",
            "SET search_path = a, b",
            "SET SESSION AUTHORIZATION DEFAULT",
        ] {
            assert_eq!(one(text), SET, "{text}");
        }
        assert_eq!(
            (one("BEGIN READ ONLY"), one("start transaction"), one("END")),
            (Command::Begin, Command::Begin, Command::Commit)
        );
        assert_eq!(
            (one("select 1"), one("SELECT pg_catalog.version()")),
            (Command::SelectNumber(1), Command::SelectVersion)
        );
        assert_eq!(one("SHOW standard_conforming_strings"), Command::ShowParameter("standard_conforming_strings"));
        assert!(matches!(one("SHOW pool_size"), Command::ShowOption(option) if option.name == "pool_size"));
    }

    #[test]
    fn what_drivers_say_when_they_give_a_session_back_is_taken() {
        for (text, tag) in [
            ("RESET ALL", "RESET"),
            ("RESET SESSION AUTHORIZATION", "RESET"),
            ("CLOSE ALL", "CLOSE CURSOR ALL"),
            ("UNLISTEN *", "UNLISTEN"),
            ("DISCARD TEMP", "DISCARD TEMP"),
            ("DISCARD SEQUENCES", "DISCARD SEQUENCES"),
        ] {
            assert_eq!(one(text), Command::Setting(tag), "{text}");
        }
        assert_eq!((one("DISCARD ALL"), one("DEALLOCATE ALL")), (Command::DiscardAll, Command::Deallocate(None)));
        assert_eq!(one("SELECT pg_advisory_unlock_all();"), Command::SelectNothing);
    }

    #[test]
    fn what_cannot_be_done_says_what_can() {
        for (text, expected) in [
            ("SET pool_size = 5", "0A000"),
            ("SET nonsense = 5", "42704"),
            ("SET client_encoding = latin1", "0A000"),
            ("SHUTDOWN", "0A000"),
            ("KILL shop", "0A000"),
            ("PAUSE shop", "0A000"),
            ("WAIT_CLOSE", "0A000"),
            ("RECONNECT a b", "42601"),
            ("CLOSE DATABASE", "42601"),
            ("CLOSE DATABASE a b", "42601"),
            ("CLOSE shop", "42601"),
            ("SHOW FDS", "42704"),
            ("DISCONNECT acme", "42601"),
            ("DISCONNECT TENANT", "42601"),
            ("DISCONNECT TENANT a b", "42601"),
            ("DISCONNECT TENANT 'a", "42601"),
            ("DROP TABLE orders", "42601"),
            ("SELECT * FROM orders", "42601"),
            ("SHOW POOLS; nonsense", "42601"),
            ("/* open", "42601"),
        ] {
            assert_eq!(code(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_a_quoted_name_is_always_that_name(text in ".*", name in "[^\0]*") {
            let _ = parse(&text);
            let quoted = format!("DISCONNECT TENANT '{}'", name.replace('\'', "''"));
            prop_assert_eq!(parse(&quoted), Ok(vec![Some(tenant(&name))]));
        }
    }
}
