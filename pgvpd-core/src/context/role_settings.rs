//! What roles have set for themselves (`ALTER ROLE … SET`), which anybody who runs SQL as a role can do: found at login, and undone for
//! the session, so that what PostgreSQL says without it is in force: its configuration, and `ALTER DATABASE … SET`.
//!
//! ```text
//! login ─► note: when was the configuration read, what do the database and the role set? ─► as known ─► nothing to do
//!             └► something is new ─► survey: every setting that the role may make ─► undo, and pins for the next startup packet
//! ```
//!
//! Settings that no role has made are never touched, so that sessions follow the server's configuration and its reloads.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::warn;

use super::token::unhex;
use crate::net::UpstreamAddress;
use crate::wire::normalize_setting_name;

/// Whose settings: PostgreSQL keeps them for a role, and for a role in a database.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SettingsKey {
    pub(crate) upstream: UpstreamAddress,
    pub(crate) database: Box<str>,
    pub(crate) role: Box<str>,
}

/// What one proxy has learned.
#[derive(Debug, Default)]
pub(crate) struct RoleSettings(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// What servers report as their version.
    versions: HashMap<UpstreamAddress, Box<[u8]>>,
    servers: HashMap<(UpstreamAddress, Box<str>), Server>,
    /// Roles that have settings of their own.
    roles: HashMap<SettingsKey, Own>,
}

/// A server without any role's settings, as sessions in one database see it.
#[derive(Debug, Default)]
struct Server {
    /// When the configuration was read, and what is set for the database.
    stamp: Box<str>,
    values: HashMap<Box<str>, Learned>,
}

#[derive(Debug, Clone)]
struct Learned {
    value: String,
    is_of_database: bool,
}

/// A role that has settings of its own.
#[derive(Debug)]
struct Own {
    stamp: Box<str>,
    /// A hash of its settings.
    rows: Box<str>,
    /// What a startup packet must say for them not to count.
    pins: Vec<(String, String)>,
    /// There are more, which each session undoes.
    has_more: bool,
}

/// With it on, any error would end the session before a role's other settings are undone. No server has it on.
const ALWAYS_PINNED: (&str, &str) = ("exit_on_error", "off");

/// Roles with settings of their own that are kept in mind.
const MAX_ROLES: usize = 10_000;

/// Bytes of pins in a startup packet, of which PostgreSQL takes 10,000 in all.
const MAX_PINS: usize = 6_000;

/// The settings of one session.
#[derive(Debug)]
pub(crate) struct SessionSettings {
    known: Arc<RoleSettings>,
    key: SettingsKey,
    /// What the startup packet says for the role's settings not to count.
    pins: Vec<(String, String)>,
    /// What it says besides, in lower case: that wins over any role's setting.
    chosen: Vec<String>,
    note: Option<Note>,
}

#[derive(Debug)]
struct Note {
    stamp: Box<str>,
    rows: Box<str>,
}

impl RoleSettings {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server has ended a login by a time limit: the role may have set one that no login can keep. True if so.
    fn ended_by(&self, key: &SettingsKey, sqlstate: &str) -> bool {
        let name = match sqlstate {
            "25P04" => "transaction_timeout",
            "57P05" => "idle_session_timeout",
            "57014" => "statement_timeout",
            _ => return false,
        };
        let mut known = self.known();
        let value = known.value(key, name).unwrap_or_else(|| "0".into());
        let own = known.own(key);
        // Not what any role's settings hash to: the next login looks again.
        own.rows = Box::default();
        if own.pins.iter().all(|(pinned, _)| pinned != name) {
            own.pins.push((name.into(), value));
        }
        true
    }
}

impl Known {
    /// What a setting is without the role's, as far as that is known: in this database, or another one of this server.
    fn value(&self, key: &SettingsKey, name: &str) -> Option<String> {
        let here = self.servers.get(&(key.upstream.clone(), key.database.clone()));
        let here = here.and_then(|server| server.values.get(name));
        let elsewhere = self.servers.iter().filter(|((upstream, _), _)| *upstream == key.upstream);
        let mut all = here.into_iter().chain(elsewhere.filter_map(|(_, server)| server.values.get(name)));
        all.find(|learned| !learned.is_of_database).map(|learned| learned.value.clone())
    }

    fn own(&mut self, key: &SettingsKey) -> &mut Own {
        if self.roles.len() >= MAX_ROLES && !self.roles.contains_key(key) {
            self.roles.clear();
        }
        self.roles.entry(key.clone()).or_insert_with(|| Own {
            stamp: Box::default(),
            rows: Box::default(),
            pins: Vec::new(),
            has_more: false,
        })
    }
}

impl SessionSettings {
    /// For a session whose startup packet names these settings.
    pub(crate) fn new<'n>(
        known: &Arc<RoleSettings>,
        key: SettingsKey,
        chosen: impl Iterator<Item = &'n str>,
    ) -> SessionSettings {
        let chosen: Vec<String> = chosen.map(normalize_setting_name).collect();
        let mut pins = known.known().roles.get(&key).map(|own| own.pins.clone()).unwrap_or_default();
        if pins.iter().all(|(name, _)| name != ALWAYS_PINNED.0) {
            pins.push((ALWAYS_PINNED.0.into(), ALWAYS_PINNED.1.into()));
        }
        let is_free = |(name, _): &(String, String)| !chosen.contains(&name.to_ascii_lowercase());
        let pins = pins.into_iter().filter(is_free).collect();
        Self { known: Arc::clone(known), key, pins, chosen, note: None }
    }

    /// What the startup packet has to say besides.
    pub(crate) fn pins(&self) -> &[(String, String)] {
        &self.pins
    }

    /// The server has ended the login with this error. True where the next one is to begin with more pins for it.
    pub(crate) fn ended_by(&self, sqlstate: &str) -> bool {
        self.known.ended_by(&self.key, sqlstate)
    }

    /// What the server reported as its version last; empty where that is not known.
    pub(crate) fn server_version(&self) -> Box<[u8]> {
        self.known.known().versions.get(&self.key.upstream).cloned().unwrap_or_default()
    }

    pub(crate) fn set_server_version(&self, version: &[u8]) {
        let mut known = self.known.known();
        if known.versions.get(&self.key.upstream).is_none_or(|last| **last != *version) {
            known.versions.insert(self.key.upstream.clone(), version.into());
        }
    }

    fn is_chosen(&self, name: &str) -> bool {
        self.chosen.iter().any(|chosen| *chosen == name)
    }

    fn is_pinned(&self, name: &str) -> bool {
        self.pins.iter().any(|(pinned, _)| pinned.eq_ignore_ascii_case(name))
    }

    /// Takes the answer to [`NOTE`]. True if the session has to be surveyed.
    pub(crate) fn noted(&mut self, answer: &str) -> bool {
        let Some((stamp, rows)) = answer.split_once(SEPARATOR) else { return true };
        self.note = Some(Note { stamp: stamp.into(), rows: rows.into() });
        let mut known = self.known.known();
        let server = known.servers.get(&(self.key.upstream.clone(), self.key.database.clone()));
        let is_server_known = server.is_some_and(|server| *server.stamp == *stamp);
        if rows.is_empty() {
            known.roles.remove(&self.key);
            return !is_server_known;
        }
        let is_undone = known.roles.get(&self.key).is_some_and(|own| {
            let is_said =
                |(name, _): &(String, String)| self.is_pinned(name) || self.is_chosen(&name.to_ascii_lowercase());
            *own.rows == *rows && *own.stamp == *stamp && !own.has_more && own.pins.iter().all(is_said)
        });
        !(is_server_known && is_undone)
    }

    /// Takes the answer to [`survey`]: what has to be set for the role's own settings not to count. `None` where it is none.
    pub(crate) fn surveyed(&mut self, answer: &str) -> Option<Vec<(String, String)>> {
        let note = self.note.as_ref()?;
        let settings: Vec<Setting> = answer.split_ascii_whitespace().map(Setting::parse).collect::<Option<_>>()?;
        let (mut undone, mut pins, mut names) = (Vec::new(), Vec::new(), Vec::new());
        let (mut bytes, mut has_more) = (0, false);
        let mut known = self.known.known();
        for setting in settings {
            let normal = setting.name.to_ascii_lowercase();
            let Setting { name, value, default, lower, is_own, is_custom } = setting;
            match () {
                () if self.is_chosen(&normal) => {}
                () if is_own => {
                    let value = lower.or_else(|| known.value(&self.key, &name)).unwrap_or(default);
                    let is_said = self.pins.iter().any(|pin| pin.0 == name && pin.1 == value);
                    bytes += name.len() + value.len() + 2;
                    match bytes <= MAX_PINS {
                        true => pins.push((name.clone(), value.clone())),
                        false => has_more = true,
                    }
                    names.push(name.clone());
                    if !is_said {
                        undone.push((name, value));
                    }
                }
                () if self.is_pinned(&name) || is_custom => {}
                () => {
                    let learned = Learned { value, is_of_database: lower.is_some() };
                    let server = (self.key.upstream.clone(), self.key.database.clone());
                    known.servers.entry(server).or_default().values.insert(name.into(), learned);
                }
            }
        }
        let server = (self.key.upstream.clone(), self.key.database.clone());
        known.servers.entry(server).or_default().stamp = note.stamp.clone();
        if note.rows.is_empty() {
            known.roles.remove(&self.key);
            return Some(undone);
        }
        let own = known.own(&self.key);
        if own.rows != note.rows && !names.is_empty() {
            let (role, database, settings) = (&*self.key.role, &*self.key.database, names.join(", "));
            warn!(
                %role, %database, settings,
                "settings that were made for the role are not in force: it can make them itself; use ALTER DATABASE or pin_settings"
            );
        }
        *own = Own { stamp: note.stamp.clone(), rows: note.rows.clone(), pins, has_more };
        Some(undone)
    }
}

/// One setting of a survey.
struct Setting {
    name: String,
    /// What RESET would bring.
    value: String,
    default: String,
    /// What is set for the database.
    lower: Option<String>,
    is_own: bool,
    is_custom: bool,
}

impl Setting {
    fn parse(record: &str) -> Option<Self> {
        let text = |hex: &str| String::from_utf8(unhex(hex)?.to_vec()).ok();
        let mut fields = record.split(':');
        let setting = Self {
            name: text(fields.next()?)?,
            value: text(fields.next()?)?,
            default: text(fields.next()?)?,
            lower: match fields.next()? {
                "-" => None,
                hex => Some(text(hex)?),
            },
            is_own: fields.next()? == "own",
            is_custom: fields.next()? == "custom",
        };
        fields.next().is_none().then_some(setting)
    }
}

/// Between the two parts of a note.
const SEPARATOR: char = '/';

/// What has to be looked at again where it differs: when the configuration was read and what is set for databases; and what is set for
/// the login role. Hashed, since a role can set as much as it likes.
///
/// Qualified to the last operator: a `search_path` may be the first thing that the role has set.
pub(crate) const NOTE: &str = "SELECT pg_catalog.concat(\
     (pg_catalog.date_part('epoch', pg_catalog.pg_conf_load_time()) OPERATOR(pg_catalog.*) 1000000)::pg_catalog.int8, '-', \
     pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.string_agg(\
       pg_catalog.concat(s.setdatabase, s.setconfig), ' ') FILTER (WHERE s.setrole OPERATOR(pg_catalog.=) 0::pg_catalog.oid), \
       'UTF8')), 'hex'), '/', \
     pg_catalog.encode(pg_catalog.sha256(pg_catalog.convert_to(pg_catalog.string_agg(\
       pg_catalog.concat(s.setdatabase, s.setconfig), ' ') FILTER (WHERE s.setrole OPERATOR(pg_catalog.<>) 0::pg_catalog.oid), \
       'UTF8')), 'hex')) \
     FROM pg_catalog.pg_db_role_setting s WHERE s.setrole OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, \
       pg_catalog.quote_ident(session_user)::pg_catalog.regrole::pg_catalog.oid])";

/// Asks for every setting that the login role may make: its name, what RESET would bring, PostgreSQL's own default, what the database
/// says, whether the role has made it, and whether it is of an extension that is not loaded yet.
///
/// Those of a transaction do not outlive one. Only a superuser can give a role a setting that no module has (`app.x`): those are not
/// touched. Nor are those that only a superuser can make, unless the role has been granted that.
pub(crate) fn survey(server_version: Option<&[u8]>) -> String {
    // GRANT SET ON PARAMETER is new in 15.
    let granted = match major(server_version) {
        ..15 => "false",
        15.. => "pg_catalog.has_parameter_privilege(session_user, n.name, 'SET')",
    };
    let hex = |text: &str| format!("pg_catalog.encode(pg_catalog.convert_to({text}, 'UTF8'), 'hex')");
    let made_for = |role: &str| {
        format!(
            "(SELECT pg_catalog.substr(c, pg_catalog.length(n.name) OPERATOR(pg_catalog.+) 2) \
             FROM pg_catalog.pg_db_role_setting r CROSS JOIN LATERAL pg_catalog.unnest(r.setconfig) AS c \
             WHERE r.setrole OPERATOR(pg_catalog.=) {role} AND r.setdatabase OPERATOR(pg_catalog.=) ANY (ARRAY[0::pg_catalog.oid, \
               (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())]) \
             AND pg_catalog.lower(pg_catalog.split_part(c, '=', 1)) OPERATOR(pg_catalog.=) pg_catalog.lower(n.name) \
             ORDER BY r.setdatabase DESC LIMIT 1)"
        )
    };
    let role = "pg_catalog.quote_ident(session_user)::pg_catalog.regrole::pg_catalog.oid";
    let of_plpgsql = PLPGSQL.map(|(name, context, value)| format!("('{name}', '{context}', '{value}')"));
    let mut sql = String::from("SELECT pg_catalog.string_agg(pg_catalog.concat(");
    // That of a client which chooses none is the database's.
    let default = "CASE WHEN n.name OPERATOR(pg_catalog.=) 'client_encoding' \
         THEN pg_catalog.current_setting('server_encoding') ELSE COALESCE(n.boot_val, '') END";
    let _ = write!(
        sql,
        "{}, ':', {}, ':', {}, ':', COALESCE({}, '-'), ':', CASE WHEN {} IS NULL THEN '' ELSE 'own' END, ':', \
         CASE WHEN n.is_custom THEN 'custom' ELSE '' END), ' ') \
         FROM (SELECT s.name, s.context, s.reset_val, s.boot_val, false AS is_custom FROM pg_catalog.pg_settings s \
           WHERE s.category OPERATOR(pg_catalog.<>) 'Customized Options' \
         UNION ALL (SELECT s.name, s.context, s.reset_val, s.boot_val, true FROM pg_catalog.pg_settings s \
           WHERE s.category OPERATOR(pg_catalog.=) 'Customized Options' \
           AND pg_catalog.split_part(s.name, '.', 1) OPERATOR(pg_catalog.=) ANY (SELECT e.extname FROM pg_catalog.pg_extension e) \
           AND pg_catalog.length(s.name) OPERATOR(pg_catalog.<) 100 LIMIT 300) \
         UNION ALL (SELECT v.name, v.context, v.value, v.value, true FROM (VALUES {}) AS v (name, context, value) \
           WHERE v.name OPERATOR(pg_catalog.<>) ALL (SELECT s.name FROM pg_catalog.pg_settings s))) n \
         WHERE (n.context OPERATOR(pg_catalog.=) 'user' \
           OR n.context OPERATOR(pg_catalog.=) 'superuser' AND {granted}) \
         AND n.name OPERATOR(pg_catalog.<>) ALL (ARRAY['transaction_isolation', 'transaction_read_only', 'transaction_deferrable'])",
        hex("n.name"),
        hex("COALESCE(n.reset_val, '')"),
        hex(default),
        hex(&made_for("0::pg_catalog.oid")),
        made_for(role),
        of_plpgsql.join(", "),
    );
    sql
}

/// The settings of PL/pgSQL, which is loaded with the first function in it: until then `pg_settings` does not have them, and what a
/// role has set takes effect all the same. Name, context and default, as in `src/pl/plpgsql/src/pl_handler.c`.
const PLPGSQL: [(&str, &str, &str); 5] = [
    ("plpgsql.check_asserts", "user", "on"),
    ("plpgsql.extra_errors", "user", "none"),
    ("plpgsql.extra_warnings", "user", "none"),
    ("plpgsql.print_strict_params", "user", "off"),
    ("plpgsql.variable_conflict", "superuser", "error"),
];

/// True for a server that has `transaction_timeout`.
pub(crate) fn has_transaction_timeout(server_version: Option<&[u8]>) -> bool {
    major(server_version) >= 17
}

/// The major version that a server reports; 0 where it reports none.
fn major(server_version: Option<&[u8]>) -> u32 {
    let digits = server_version.unwrap_or_default().iter().take_while(|byte| byte.is_ascii_digit()).take(4);
    digits.fold(0, |number, byte| number * 10 + u32::from(byte - b'0'))
}

/// Appends the messages that set what a survey has found to be undone, to be answered with one row.
pub(crate) fn undo(settings: &[(String, String)], out: &mut Vec<u8>) {
    let pairs: Vec<(&str, &[u8])> = settings.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    let mut sql = String::from("SELECT true");
    for index in 0..pairs.len() {
        let (name, value) = (2 * index + 1, 2 * index + 2);
        let _ = write!(
            sql,
            ", pg_catalog.convert_to(pg_catalog.set_config(${name}, pg_catalog.convert_from(${value}, 'UTF8'), false), 'UTF8')"
        );
    }
    crate::wire::bind_and_run(out, &sql, &pairs);
}

#[cfg(test)]
#[path = "role_settings_tests.rs"]
mod tests;
