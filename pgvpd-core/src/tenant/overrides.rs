//! Limits of single tenants, or of tenants whose names fit a pattern (`tenants`). Pure.
//!
//! ```toml
//! [[tenant]]
//! name = "acme"
//! max_connections = 50
//! query_timeout = "none"
//!
//! [[tenant]]
//! name = "trial-*"
//! max_connections = 2
//!
//! [[tenant]]
//! name = "mallory"
//! deny = true
//! ```
//!
//! The exact name counts before any pattern, and of several patterns the first. One block counts; what it does not say is as for
//! every tenant.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use glob::Pattern;
use serde::Deserialize;
use toml::Value;

use super::TenantFormat;

/// The file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantOverrides {
    exact: HashMap<String, TenantOverride>,
    patterns: Vec<(Pattern, TenantOverride)>,
}

/// What one block says. The outer `None`: nothing; the inner: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TenantOverride {
    /// Instead of `tenant_max_connections`.
    pub max_connections: Option<Option<usize>>,
    /// Instead of `tenant_rate_limit`.
    pub rate_limit: Option<Option<NonZeroU32>>,
    /// Instead of `tenant_query_timeout`.
    pub query_timeout: Option<Option<Duration>>,
    /// It may not log in.
    pub deny: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    tenant: Vec<RawTenant>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTenant {
    name: String,
    max_connections: Option<Value>,
    rate_limit: Option<Value>,
    query_timeout: Option<Value>,
    deny: Option<bool>,
}

impl TenantOverrides {
    /// Reads the file.
    ///
    /// # Errors
    /// Everything that is wrong with it, each with the block.
    pub fn parse(text: &str, format: TenantFormat) -> Result<Self, Vec<String>> {
        let raw: RawFile = toml::from_str(text).map_err(|error| vec![error.to_string().trim_end().to_owned()])?;
        let mut overrides = Self::default();
        let mut problems = Vec::new();
        for block in raw.tenant {
            if let Err(more) = overrides.add(&block, format) {
                problems.extend(more.into_iter().map(|problem| format!("tenant {:?}: {problem}", block.name)));
            }
        }
        if problems.is_empty() { Ok(overrides) } else { Err(problems) }
    }

    fn add(&mut self, block: &RawTenant, format: TenantFormat) -> Result<(), Vec<String>> {
        let mut problems = Vec::new();
        let said = TenantOverride {
            max_connections: read(&mut problems, "max_connections", block.max_connections.as_ref(), connections),
            rate_limit: read(&mut problems, "rate_limit", block.rate_limit.as_ref(), rate),
            query_timeout: read(&mut problems, "query_timeout", block.query_timeout.as_ref(), seconds),
            deny: block.deny.unwrap_or(false),
        };
        let says_a_limit =
            block.max_connections.is_some() || block.rate_limit.is_some() || block.query_timeout.is_some();
        match block.deny {
            None if !says_a_limit => problems.push("the block says nothing; give it a limit, or deny = true".into()),
            Some(true) if says_a_limit => problems.push("deny = true leaves nothing to limit; keep one".into()),
            _ => {}
        }
        let name = &block.name;
        if name.contains(['*', '?', '[']) {
            match Pattern::new(name) {
                // The library would read them as folders.
                _ if name.contains("**") => problems.push("is not a pattern: write one *".into()),
                Err(error) => problems.push(format!("is not a pattern: {}", error.msg)),
                Ok(pattern) if self.patterns.iter().any(|(other, _)| *other == pattern) => {
                    problems.push("has another block above".into());
                }
                Ok(pattern) => self.patterns.push((pattern, said)),
            }
        } else if name.is_empty() {
            problems.push("no tenant has an empty name".into());
        } else if !format.is_canonical(name) {
            problems.push(format!("can never match: it is not {}", format.describe()));
        } else if self.exact.insert(name.clone(), said).is_some() {
            problems.push("has another block above".into());
        }
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The block that counts for this tenant, if there is one.
    pub fn of(&self, tenant: &str) -> Option<&TenantOverride> {
        let fitting = || self.patterns.iter().find(|(pattern, _)| pattern.matches(tenant));
        self.exact.get(tenant).or_else(|| fitting().map(|(_, said)| said))
    }

    /// True if a block limits the time of sessions or requests.
    pub(crate) fn limits_time(&self) -> bool {
        self.all().any(|said| said.query_timeout.is_some_and(|limit| limit.is_some()))
    }

    /// Every rate of new connections that a block has.
    pub(crate) fn rates(&self) -> impl Iterator<Item = NonZeroU32> {
        self.all().filter_map(|said| said.rate_limit.flatten())
    }

    fn all(&self) -> impl Iterator<Item = &TenantOverride> {
        self.exact.values().chain(self.patterns.iter().map(|(_, said)| said))
    }
}

/// A limit, or `"none"`.
fn read<T>(
    problems: &mut Vec<String>,
    key: &str,
    value: Option<&Value>,
    check: impl FnOnce(&Value) -> Result<T, &'static str>,
) -> Option<Option<T>> {
    match value? {
        Value::String(text) if text == "none" => Some(None),
        value => match check(value) {
            Ok(limit) => Some(Some(limit)),
            Err(valid) => {
                problems.push(format!("{key} = {} is not valid; give {valid}, or \"none\"", shown(value)));
                None
            }
        },
    }
}

fn shown(value: &Value) -> String {
    match value {
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(it) => it.to_string(),
        Value::String(text) => format!("{text:?}"),
        other => other.type_str().to_owned(),
    }
}

fn connections(value: &Value) -> Result<usize, &'static str> {
    let number = value.as_integer().and_then(|number| usize::try_from(number).ok());
    number.filter(|number| (1..=10_000_000).contains(number)).ok_or("a number from 1 to 10000000")
}

fn rate(value: &Value) -> Result<NonZeroU32, &'static str> {
    let number = value.as_integer().and_then(|number| u32::try_from(number).ok()).and_then(NonZeroU32::new);
    number.filter(|number| number.get() <= 1_000_000).ok_or("a number from 1 to 1000000")
}

fn seconds(value: &Value) -> Result<Duration, &'static str> {
    let whole = value.as_integer().and_then(|number| u32::try_from(number).ok()).map(f64::from);
    let seconds = value.as_float().or(whole).filter(|seconds| (0.001..=86_400.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or("a time in seconds from 0.001 to 86400")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = r#"
        [[tenant]]
        name = "trial-acme"
        max_connections = 50
        query_timeout = "none"
        [[tenant]]
        name = "trial-*"
        max_connections = 2
        rate_limit = 5
        query_timeout = 1.5
        [[tenant]]
        name = "*-?"
        rate_limit = "none"
        [[tenant]]
        name = "mallory"
        deny = true
    "#;

    fn parse(text: &str) -> Result<TenantOverrides, Vec<String>> {
        TenantOverrides::parse(text, TenantFormat::Text)
    }

    #[test]
    fn the_exact_name_counts_then_the_first_pattern_that_fits() {
        let overrides = parse(FILE).expect("valid");
        let connections = |tenant: &str| overrides.of(tenant).and_then(|said| said.max_connections);
        assert_eq!((connections("trial-acme"), connections("trial-x")), (Some(Some(50)), Some(Some(2))));
        assert_eq!(overrides.of("trial-x").and_then(|said| said.rate_limit), Some(NonZeroU32::new(5)));
        assert_eq!(overrides.of("other-x").and_then(|said| said.rate_limit), Some(None), "the second pattern");
        assert_eq!(overrides.of("trial-acme").and_then(|said| said.rate_limit), None, "one block counts");
        assert!(overrides.of("mallory").is_some_and(|said| said.deny));
        assert!(overrides.of("Mallory").is_none() && overrides.of("trial").is_none());
        assert_eq!(overrides.of("trial-acme").and_then(|said| said.query_timeout), Some(None));
        assert!(overrides.limits_time());
        assert_eq!(overrides.rates().collect::<Vec<_>>(), [NonZeroU32::new(5).expect("not zero")]);
    }

    #[test]
    fn the_example_is_valid() {
        let example = parse(include_str!("../../../docs/tenants.toml.example")).expect("valid");
        assert!(example.of("acme").is_some() && example.of("trial-x").is_some());
    }

    #[test]
    fn what_is_wrong_is_told_all_at_once() {
        let bad = r#"
            [[tenant]]
            name = "a"
            max_connections = 0
            rate_limit = "many"
            [[tenant]]
            name = "b"
            [[tenant]]
            name = "c"
            deny = true
            query_timeout = 1
            [[tenant]]
            name = "[x"
            deny = true
            [[tenant]]
            name = "x-**"
            deny = true
            [[tenant]]
            name = ""
            deny = true
            [[tenant]]
            name = "d"
            deny = true
            [[tenant]]
            name = "d"
            deny = true
        "#;
        let problems = parse(bad).expect_err("bad");
        for part in [
            "tenant \"a\": max_connections = 0 is not valid; give a number from 1 to 10000000, or \"none\"",
            "tenant \"a\": rate_limit = \"many\" is not valid",
            "tenant \"b\": the block says nothing",
            "tenant \"c\": deny = true leaves nothing to limit",
            "tenant \"[x\": is not a pattern",
            "tenant \"x-**\": is not a pattern: write one *",
            "tenant \"\": no tenant has an empty name",
            "tenant \"d\": has another block above",
        ] {
            assert!(problems.iter().any(|problem| problem.starts_with(part)), "{part} is not in {problems:#?}");
        }
        assert_eq!(problems.len(), 8, "{problems:#?}");
        assert!(parse("[[tenant]]\nname = 'a'\nmax_conections = 1").is_err(), "an unknown key");
        assert!(parse("[[tenants]]\nname = 'a'\ndeny = true").is_err(), "an unknown block");
        let never = TenantOverrides::parse("[[tenant]]\nname = '07'\ndeny = true", TenantFormat::Integer);
        assert!(never.is_err_and(|problems| problems.iter().any(|problem| problem.contains("can never match"))));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,200}", tenant in "\\PC{0,20}") {
            if let Ok(overrides) = parse(&text) {
                overrides.of(&tenant);
            }
        }

        #[test]
        fn any_name_is_a_name_or_a_pattern_or_refused(name in "[a*?\\[\\]!-]{1,12}", tenant in "[a\\]!-]{0,12}") {
            let text = format!("[[tenant]]\nname = '{name}'\ndeny = true");
            if let Ok(overrides) = parse(&text) && !name.contains(['*', '?', '[']) {
                prop_assert_eq!(overrides.of(&tenant).is_some(), name == tenant);
            }
        }
    }
}
