//! What an attacker can do all the same, what closes it, and the page that says so.

use std::path::Path;

use crate::mode::Mode;

/// What closes a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// `sql/hardening.sql`.
    Hardening,
    /// `isolation = role`.
    Roles,
}
use Remedy::{Hardening, Roles};

/// The limits, as the list in docs/security.md begins each of them, in lower case.
pub(crate) const LIMITS: &[(&str, &[Remedy])] = &[
    (TABLE_SIZES, &[]),
    (SEQUENCES, &[]),
    (STATISTICS, &[]),
    (ACTIVITY, &[Hardening, Roles]),
    (CANCEL, &[Hardening, Roles]),
    (LOCKS, &[]),
    (ADVISORY, &[Hardening]),
    (NOTIFY, &[]),
    (LARGE_OBJECTS, &[Hardening, Roles]),
    (PREPARED, &[Roles]),
    (PASSWORD, &[Roles]),
    (SETTINGS, &[Roles]),
    (TABLES, &[]),
    (LOCK_TABLE, &[]),
    (NOTIFICATION_QUEUE, &[]),
    (SERIALIZABLE, &[]),
    (TRANSACTION_NUMBERS, &[]),
];

/// Limits that an attack shows on a busy server alone: the first login after a change of the role's settings may be ended by them.
pub(crate) const RARE: &[&str] = &[SETTINGS];

pub(crate) const TABLE_SIZES: &str = "table sizes";
pub(crate) const SEQUENCES: &str = "sequence positions";
pub(crate) const STATISTICS: &str = "planner statistics";
pub(crate) const ACTIVITY: &str = "pg_stat_activity text";
pub(crate) const CANCEL: &str = "cancel and terminate";
pub(crate) const LOCKS: &str = "table locks";
pub(crate) const ADVISORY: &str = "advisory locks";
pub(crate) const NOTIFY: &str = "notify onto a foreign channel";
pub(crate) const LARGE_OBJECTS: &str = "large objects";
pub(crate) const PREPARED: &str = "prepared transactions";
pub(crate) const PASSWORD: &str = "the role's own password";
pub(crate) const SETTINGS: &str = "own role settings";
pub(crate) const TABLES: &str = "tables of the role's own";
pub(crate) const LOCK_TABLE: &str = "the lock table";
pub(crate) const NOTIFICATION_QUEUE: &str = "the notification queue";
pub(crate) const SERIALIZABLE: &str = "serializable transactions";
pub(crate) const TRANSACTION_NUMBERS: &str = "transaction numbers and wal positions";

/// True if this mode has what closes the limit.
pub(crate) fn is_closed(limit: &str, mode: Mode) -> bool {
    let remedies = LIMITS.iter().find(|(name, _)| *name == limit).map_or(&[][..], |(_, remedies)| *remedies);
    remedies.iter().any(|remedy| match remedy {
        Hardening => mode == Mode::Hardened,
        Roles => mode.has_own_roles(),
    })
}

/// The limits that the page lists: items of the section "Limits" that begin in bold, and what follows "Closed by".
fn documented(page: &str) -> Vec<(String, Vec<Remedy>)> {
    let section = page.lines().skip_while(|line| !line.starts_with("## Limits")).skip(1);
    let section: Vec<_> = section.take_while(|line| !line.starts_with("## ")).collect();
    let text = section.join("\n");
    // An item ends where the next one begins, or with a blank line.
    let items = text.split("\n\n").flat_map(|part| part.split("\n- ")).filter_map(|item| {
        let item = item.split_whitespace().collect::<Vec<_>>().join(" ");
        let (bold, rest) = item.trim_start_matches("- ").strip_prefix("**")?.split_once("**")?;
        let remedies = rest.split_once("Closed by").map_or("", |(_, remedies)| remedies);
        let remedies = [("`sql/hardening.sql`", Hardening), ("a role for each tenant", Roles)]
            .into_iter()
            .filter(|(words, _)| remedies.contains(words))
            .map(|(_, remedy)| remedy);
        Some((bold.trim_end_matches(['.', ':']).replace('`', "").to_lowercase(), remedies.collect()))
    });
    items.collect()
}

/// The page says no more and no less than the list.
pub(crate) fn check_page() -> Result<(), String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/security.md");
    let page = std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let found = documented(&page);
    let missing: Vec<_> = LIMITS
        .iter()
        .filter(|(limit, remedies)| !found.iter().any(|(name, found)| name == limit && found == remedies))
        .collect();
    let unknown: Vec<_> = found.iter().filter(|(name, _)| !LIMITS.iter().any(|(limit, _)| limit == name)).collect();
    if missing.is_empty() && unknown.is_empty() {
        Ok(())
    } else {
        Err(format!(
            "docs/security.md, Limits: missing or closed by something else {missing:?}, not in the suite {unknown:?}"
        ))
    }
}
