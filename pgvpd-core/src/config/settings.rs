//! Raw settings: option names and values as text, each with where it came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use super::exposure::{Exposure, exposure};
use super::options::{OPTIONS, OptionSpec};

/// Option values as given, not yet checked. [`Config::from_settings`](super::Config::from_settings) checks them.
///
/// Deserializes from a map whose keys are option names and whose values are texts, numbers, booleans or lists;
/// an unknown key is an error.
///
/// ```
/// use pgvpd_core::{Config, Settings};
///
/// let mut settings = Settings::new();
/// settings.set("port", "64x32")?;
/// settings.set("allow_trust", "maybe")?;
/// assert_eq!(settings.value("port"), Some("64x32"));
/// // Nothing is checked before, and then everything at once.
/// let error = Config::from_settings(settings).unwrap_err();
/// assert_eq!(error.problems.len(), 2);
/// # Ok::<(), pgvpd_core::ConfigError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    values: BTreeMap<&'static str, Value>,
    /// What was wrong where they were gathered, kept so that the check reports everything in one go.
    problems: Vec<Problem>,
    /// What the operator should know of where they were gathered.
    notices: Vec<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Value {
    pub(super) text: String,
    pub(super) origin: Origin,
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_secret = |name| OptionSpec::named(name).is_some_and(|option| option.secret);
        let shown = |(name, value): (&&'static str, &Value)| {
            (*name, if is_secret(name) { "…".to_owned() } else { value.text.clone() }, value.origin.clone())
        };
        f.debug_struct("Settings")
            .field("values", &self.values.iter().map(shown).collect::<Vec<_>>())
            .field("problems", &self.problems)
            .finish()
    }
}

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A line of a configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: usize,
    },
    /// An environment variable.
    Environment(String),
    /// A command-line flag.
    Flag(String),
    /// A call of this library.
    Code,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, line } => write!(f, "{}, line {line}", path.display()),
            Self::Environment(name) => write!(f, "environment variable {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
            Self::Code => f.write_str("set in code"),
        }
    }
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The option or key, where one is to blame.
    pub option: Option<String>,
    /// Where the value came from.
    pub origin: Option<Origin>,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(option) = &self.option {
            // A misspelt key is whatever stands in the file, and goes to a terminal.
            write!(f, "{}: ", option.escape_debug())?;
        }
        f.write_str(&self.message)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// Everything that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The problems, at least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid configuration")?;
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self { problems: vec![problem] }
    }
}

impl Settings {
    /// No option set: all defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets an option, replacing an earlier value.
    ///
    /// # Errors
    /// [`ConfigError`] for a name that is no option, with the nearest that is.
    pub fn set(&mut self, name: &str, value: impl fmt::Display) -> Result<(), ConfigError> {
        self.set_from(name, value.to_string(), Origin::Code).map_err(ConfigError::from)
    }

    /// Sets an option and records where the value came from, for messages.
    ///
    /// # Errors
    /// A [`Problem`] for a name that is no option, with the nearest that is.
    pub fn set_from(&mut self, name: &str, text: String, origin: Origin) -> Result<(), Problem> {
        match OptionSpec::named(name) {
            Some(spec) => {
                self.values.insert(spec.name, Value { text, origin });
                Ok(())
            }
            None => Err(Problem { option: Some(name.into()), origin: Some(origin), message: unknown(name) }),
        }
    }

    /// Notes what was wrong where settings were gathered; [`Config::from_settings`](super::Config::from_settings)
    /// reports it together with what the check finds.
    pub fn reject(&mut self, problem: Problem) {
        self.problems.push(problem);
    }

    /// As [`Settings::set_from`], with a problem noted rather than returned.
    pub(crate) fn gather(&mut self, name: &str, text: String, origin: Origin) {
        let problem = self.set_from(name, text, origin).err();
        self.problems.extend(problem);
    }

    pub(super) fn problems(&self) -> &[Problem] {
        &self.problems
    }

    pub(super) fn notices(&self) -> &[String] {
        &self.notices
    }

    /// The text of an option, if it is set.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(|value| value.text.as_str())
    }

    pub(super) fn entry(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Where the value of an option came from, if it is set.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        self.values.get(name).map(|value| &value.origin)
    }

    /// Takes every option that `over` sets; the others stay.
    #[must_use]
    pub fn overlaid_by(mut self, over: Self) -> Self {
        self.values.extend(over.values);
        self.problems.extend(over.problems);
        self.notices.extend(over.notices);
        self
    }

    /// Reads a configuration file. Relative paths in it begin at its own folder. Lines that are not `key = value` with a known key,
    /// and secrets in a file that others can read, are problems that [`Config::from_settings`](super::Config::from_settings) reports.
    ///
    /// # Errors
    /// [`ConfigError`] where the file cannot be read.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ConfigError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path).map_err(|error| Problem {
            option: None,
            origin: None,
            message: format!("cannot read configuration file {}: {error}", path.display()),
        })?;
        let mut settings = super::file::parse(&text, path);
        settings.look_at_mode(path);
        Ok(settings)
    }

    /// Notes where others can read the secrets that the file holds.
    fn look_at_mode(&mut self, path: &Path) {
        let is_secret = |name: &str| OptionSpec::named(name).is_some_and(|option| option.secret);
        let secret = self.values.iter().find(|(name, value)| is_secret(name) && !value.text.is_empty());
        let Some((&name, Value { origin, .. })) = secret else { return };
        let problem = |message| Problem { option: Some(name.into()), origin: Some(origin.clone()), message };
        match exposure(path, name) {
            Exposure::Private => {}
            Exposure::Mounted(notice) => self.notices.push(notice),
            Exposure::Open(message) => {
                let problem = problem(message);
                self.problems.push(problem);
            }
        }
    }

    /// Takes the options from the `PGVPD_*` environment variables.
    ///
    /// A value that is not UTF-8, a variable of an option that this release does not have, and one that looks like a
    /// misspelt option are problems that [`Config::from_settings`](super::Config::from_settings) reports. Other
    /// unknown names are left alone, since they may be somebody else's: Kubernetes sets `PGVPD_SERVICE_HOST` for a
    /// service `pgvpd`.
    pub fn from_env() -> Self {
        Self::from_variables(std::env::vars_os())
    }

    fn from_variables(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut settings = Self::new();
        for (variable, value) in variables {
            let Some(variable) = variable.to_str().filter(|name| name.starts_with("PGVPD_")) else { continue };
            let Some(option) = OPTIONS.iter().find(|option| option.env == variable) else {
                settings.problems.extend(refused_variable(variable));
                continue;
            };
            settings.gather_os(option.name, value, Origin::Environment(variable.into()));
        }
        settings
    }

    /// Sets an option to a value that the system gave, which is a problem where it is not UTF-8.
    pub fn gather_os(&mut self, name: &str, value: OsString, origin: Origin) {
        match value.into_string() {
            Ok(text) => self.gather(name, text, origin),
            Err(_) => self.reject(Problem {
                option: Some(name.into()),
                origin: Some(origin),
                message: "the value is not valid UTF-8".into(),
            }),
        }
    }
}

/// Names that programs around the proxy read.
const OTHER_VARIABLES: &[&str] = &["PGVPD_CONFIG", "PGVPD_PG_BINDIR", "PGVPD_CACHE_DIR"];

/// What is wrong with a variable of no option: to ignore one that somebody meant, such as a limit, would fail open.
fn refused_variable(variable: &str) -> Option<Problem> {
    let name = variable.strip_prefix("PGVPD_").unwrap_or(variable).to_lowercase();
    (nearest_option(&name).is_some() && !OTHER_VARIABLES.contains(&variable)).then(|| Problem {
        message: unknown(&name),
        option: Some(name),
        origin: Some(Origin::Environment(variable.into())),
    })
}

/// Says what an unknown key might have meant.
fn unknown(name: &str) -> String {
    match nearest_option(name) {
        Some(option) => format!("unknown option; did you mean {option}?"),
        None => "unknown option; `pgvpd --help` lists them all".into(),
    }
}

/// The option that a misspelt name most likely means.
fn nearest_option(name: &str) -> Option<&'static str> {
    // What is much longer than any option is no misspelling of one, and comparing takes time that grows with it.
    if name.len() > 100 {
        return None;
    }
    let key = name.to_lowercase().replace('-', "_");
    let distances = OPTIONS.iter().map(|option| (strsim::damerau_levenshtein(&key, option.name), option.name));
    let (distance, option) = distances.min()?;
    (distance <= 1 + option.len() / 4).then_some(option)
}

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Options;

        impl<'de> Visitor<'de> for Options {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of option names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Settings::new();
                while let Some((name, Scalar(text))) = map.next_entry::<String, Scalar>()? {
                    if settings.values.contains_key(name.as_str()) {
                        return Err(de::Error::custom(format_args!("{name}: set twice")));
                    }
                    settings.set_from(&name, text, Origin::Code).map_err(de::Error::custom)?;
                }
                Ok(settings)
            }
        }

        deserializer.deserialize_map(Options)
    }
}

/// A value as text, from whatever type another language has for it.
struct Scalar(String);

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyScalar;

        impl<'de> Visitor<'de> for AnyScalar {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, a boolean or a list of them")
            }

            fn visit_str<E>(self, value: &str) -> Result<Scalar, E> {
                Ok(Scalar(value.into()))
            }

            fn visit_bool<E>(self, value: bool) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_i64<E>(self, value: i64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_u64<E>(self, value: u64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_f64<E>(self, value: f64) -> Result<Scalar, E> {
                Ok(Scalar(value.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Scalar, A::Error> {
                let mut items = Vec::new();
                while let Some(Scalar(item)) = seq.next_element::<Scalar>()? {
                    // It would become two, and a deny list miss what it names.
                    if item.contains(',') {
                        return Err(de::Error::custom("an item of a list cannot hold a comma"));
                    }
                    items.push(item);
                }
                Ok(Scalar(items.join(",")))
            }
        }

        deserializer.deserialize_any(AnyScalar)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_sources_win_option_by_option() {
        let mut file = Settings::new();
        file.set("port", 1).expect("known");
        file.set("listen_host", "::1").expect("known");
        let mut flags = Settings::new();
        flags.set("port", 2).expect("known");
        let merged = file.overlaid_by(flags);
        assert_eq!((merged.value("port"), merged.value("listen_host")), (Some("2"), Some("::1")));
    }

    #[test]
    fn a_misspelt_name_is_refused_with_the_nearest_one() {
        let error = Settings::new().set("tenant_dney", "acme").expect_err("misspelt");
        assert!(error.to_string().contains("did you mean tenant_deny?"), "{error}");
        let error = Settings::new().set(&"tenant_deny".repeat(100_000), "acme").expect_err("no option");
        assert!(!error.to_string().contains("did you mean"));
    }

    #[test]
    fn a_key_that_could_write_to_the_terminal_is_shown_escaped() {
        let error = Settings::new().set("\u{1b}[2Jport\r", 1).expect_err("no option");
        assert!(!error.to_string().contains(['\u{1b}', '\r']), "{error:?}");
        assert!(error.to_string().contains(r"\u{1b}[2Jport\r: "), "{error}");
    }

    #[test]
    fn variables_that_somebody_meant_are_never_ignored() {
        use std::os::unix::ffi::OsStringExt;

        let read = |variables: &[(&str, &str)]| {
            Settings::from_variables(variables.iter().map(|(name, value)| (name.into(), value.into())))
        };
        let foreign =
            [("PGVPD_SERVICE_HOST", "x"), ("PGVPD_PORT_6432_TCP", "x"), ("PGVPD_PG_BINDIR", "x"), ("HOME", "x")];
        let settings = read(&[&[("PGVPD_HOST", "::1"), ("PGVPD_PORT", "1")], &foreign[..]].concat());
        assert_eq!((settings.value("listen_host"), settings.value("port")), (Some("::1"), Some("1")));
        assert_eq!(settings.problems(), []);
        for meant in ["PGVPD_TENANT_DNEY", "PGVPD_ADMIN_TOKN"] {
            let settings = read(&[(meant, "x")]);
            let [problem] = settings.problems() else { panic!("{meant}") };
            assert!(problem.to_string().contains(&format!("environment variable {meant}")), "{problem}");
        }
        let not_utf8 = ("PGVPD_SET_ROLE".into(), OsString::from_vec(vec![0xff]));
        assert_eq!(Settings::from_variables([not_utf8].into_iter()).problems().len(), 1);
    }

    #[test]
    fn other_languages_values_become_the_same_text() {
        let settings: Settings = serde_json::from_str(
            r#"{"port": 0, "allow_trust": true, "tenant_deny": ["a", "b"], "handshake_timeout": 0.5}"#,
        )
        .expect("valid");
        assert_eq!(settings.value("port"), Some("0"));
        assert_eq!(settings.value("allow_trust"), Some("true"));
        assert_eq!(settings.value("tenant_deny"), Some("a,b"));
        assert_eq!(settings.value("handshake_timeout"), Some("0.5"));
        assert!(serde_json::from_str::<Settings>(r#"{"prot": 1}"#).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"port": null}"#).is_err());
        assert!(serde_json::from_str::<Settings>(r#"{"tenant_deny": ["a,b"]}"#).is_err());
    }
}
