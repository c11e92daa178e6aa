//! What the rules of `pg_hba.conf` let in, read as the manual's chapter "The pg_hba.conf File" says: the first rule that matches a
//! connection decides.

use std::fmt;
use std::net::IpAddr;

use super::finding::{Finding, Severity};
use super::rules;

/// A rule, as the view `pg_hba_file_rules` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HbaRule {
    /// File and line.
    pub(super) place: String,
    /// `local`, `host`, `hostssl` and so on.
    pub(super) kind: String,
    pub(super) databases: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) range: Range,
    pub(super) method: String,
}

/// Where connections come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Range {
    /// A Unix socket.
    Socket,
    Network {
        address: IpAddr,
        bits: u8,
    },
    /// `all`, `samehost`, `samenet`, a host's name, or a domain's with a dot before it.
    Named(String),
}

impl Range {
    pub(super) fn new(address: Option<&str>, netmask: Option<&str>) -> Self {
        let Some(address) = address else { return Self::Socket };
        match (address.parse(), netmask.map(str::parse)) {
            (Ok(ip), Some(Ok(mask))) => Self::Network { address: ip, bits: bits(mask) },
            _ => Self::Named(address.to_owned()),
        }
    }

    /// True where only this machine is in it.
    fn is_local(&self) -> bool {
        match self {
            Self::Socket => true,
            Self::Network { address: IpAddr::V4(address), bits } => address.is_loopback() && *bits >= 8,
            Self::Network { address: IpAddr::V6(address), bits } => address.is_loopback() && *bits == 128,
            Self::Named(name) => name == "samehost" || name == "localhost",
        }
    }

    /// True where it is one machine, which may be the proxy's.
    fn is_one_machine(&self) -> bool {
        match self {
            Self::Socket => true,
            Self::Network { address, bits } => self.is_local() || *bits == width(*address),
            Self::Named(name) => name != "all" && name != "samenet" && !name.starts_with('.'),
        }
    }

    fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Socket, Self::Socket) => true,
            (Self::Named(all), other) if all == "all" => *other != Self::Socket,
            (Self::Network { address: a, bits }, Self::Network { address: b, bits: others }) => {
                width(*a) == width(*b) && bits <= others && prefix(*a, *bits) == prefix(*b, *bits)
            }
            // What a name stands for is not known here.
            (a, b) => a == b,
        }
    }
}

/// Whose rights are asked about.
#[derive(Debug)]
pub(super) struct Login<'a> {
    pub(super) database: &'a str,
    pub(super) role: &'a str,
    /// The roles that it is a member of, itself included.
    pub(super) groups: &'a [String],
}

impl HbaRule {
    /// True where every connection that `later` is for matches this rule before.
    fn shadows(&self, later: &Self) -> bool {
        (self.kind == later.kind || (self.kind == "host" && later.kind.starts_with("host")))
            && self.range.contains(&later.range)
            && has_all(&self.databases, &later.databases, |name| name != "replication")
            && has_all(&self.users, &later.users, |_| true)
    }

    /// This rule as it is for one login; `None` where it is not.
    fn narrowed(&self, login: &Login<'_>) -> Option<Self> {
        let narrow = |names: &[String], wanted: &str, may_be: &dyn Fn(&str) -> bool| {
            if names.iter().any(|name| name == "all" || name == wanted) {
                return Some(vec![wanted.to_owned()]);
            }
            names.iter().any(|name| may_be(name)).then(|| names.to_vec())
        };
        let same = |name: &str| {
            name.starts_with('/')
                || (name == "sameuser" && login.role == login.database)
                || (["samerole", "samegroup"].contains(&name)
                    && login.groups.iter().any(|group| group == login.database))
        };
        let member = |name: &str| {
            name.starts_with('/')
                || name.strip_prefix('+').is_some_and(|group| login.groups.iter().any(|own| own == group))
        };
        Some(Self {
            databases: narrow(&self.databases, login.database, &same)?,
            users: narrow(&self.users, login.role, &member)?,
            ..self.clone()
        })
    }

    fn is_for_database(&self, database: &str) -> bool {
        let one = |name: &String| {
            ["all", "replication", "sameuser", "samerole", "samegroup", database].contains(&name.as_str())
                || name.starts_with('/')
        };
        self.databases.iter().any(one)
    }
}

impl fmt::Display for HbaRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {} ", self.kind, self.databases.join(","), self.users.join(","))?;
        match &self.range {
            Range::Socket => {}
            Range::Network { address, bits } => write!(f, "{address}/{bits} ")?,
            Range::Named(name) => write!(f, "{name} ")?,
        }
        f.write_str(&self.method)
    }
}

/// Rules that ask for no password.
pub(super) fn trusting(rules: &[HbaRule], database: &str) -> Vec<Finding> {
    let counts = |(index, rule): &(usize, &HbaRule)| {
        rule.method == "trust"
            && rule.is_for_database(database)
            && !rules.iter().take(*index).any(|earlier| earlier.shadows(rule))
    };
    let finding = |(_, rule): (usize, &HbaRule)| {
        let (severity, who) = if rule.range.is_local() {
            (Severity::Warning, "whoever gets onto this machine, or past a proxy on it,")
        } else {
            (Severity::Critical, "whoever can reach the server")
        };
        let finding = format!("{who} logs in without a password ({})", rule.place);
        Finding::new(rules::TRUST, severity, rule.to_string(), finding, fix(rule, "scram-sha-256 in place of trust"))
    };
    rules.iter().enumerate().filter(counts).map(finding).collect()
}

/// Rules by which a role can log in from more machines than one, which cannot all be the proxy's.
pub(super) fn reachable(rules: &[HbaRule], login: &Login<'_>, severity: Severity) -> Vec<Finding> {
    let mut earlier: Vec<HbaRule> = Vec::new();
    let mut findings = Vec::new();
    for rule in rules.iter().filter_map(|rule| rule.narrowed(login)) {
        if earlier.iter().any(|earlier| earlier.shadows(&rule)) {
            continue;
        }
        if rule.method != "reject" && !rule.range.is_one_machine() {
            let whole = rules.iter().find(|whole| whole.place == rule.place).unwrap_or(&rule);
            let finding =
                format!("role {} can log in from elsewhere than the proxy by this rule ({})", login.role, rule.place);
            let fix = fix(whole, "the proxy's own address in place of the network, or reject");
            findings.push(Finding::new(rules::REACHABLE, severity, whole.to_string(), finding, fix));
        }
        earlier.push(rule);
    }
    findings
}

fn fix(rule: &HbaRule, change: &str) -> String {
    format!("-- {}: {change}; then: SELECT pg_reload_conf();", rule.place)
}

/// Every one of `later` is one of `names`. A pattern or a group may be anything, and covers only itself.
fn has_all(names: &[String], later: &[String], all_has: impl Fn(&str) -> bool) -> bool {
    let all = names.iter().any(|name| name == "all");
    later.iter().all(|name| (all && all_has(name)) || names.contains(name))
}

fn width(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    }
}

fn prefix(address: IpAddr, bits: u8) -> u128 {
    number(address).checked_shr(u32::from(width(address).saturating_sub(bits))).unwrap_or(0)
}

fn bits(mask: IpAddr) -> u8 {
    u8::try_from(number(mask).count_ones()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rules as in the file, the network with its bits.
    fn rules(lines: &[&str]) -> Vec<HbaRule> {
        let rule = |(index, line): (usize, &&str)| {
            let fields: Vec<&str> = line.split(' ').collect();
            let list = |field: &str| field.split(',').map(str::to_owned).collect();
            let range = match fields.as_slice() {
                [_, _, _, address, _] => match address.split_once('/') {
                    Some((address, bits)) => Range::Network {
                        address: address.parse().expect("an address"),
                        bits: bits.parse().expect("bits"),
                    },
                    None => Range::Named((*address).to_owned()),
                },
                _ => Range::Socket,
            };
            HbaRule {
                place: format!("pg_hba.conf, line {}", index + 1),
                kind: fields[0].to_owned(),
                databases: list(fields[1]),
                users: list(fields[2]),
                range,
                method: (*fields.last().expect("a method")).to_owned(),
            }
        };
        lines.iter().enumerate().map(rule).collect()
    }

    fn reachable_by(lines: &[&str]) -> Vec<String> {
        let groups = ["app_user".to_owned(), "apps".to_owned()];
        let login = Login { database: "shop", role: "app_user", groups: &groups };
        reachable(&rules(lines), &login, Severity::High).into_iter().map(|finding| finding.object).collect()
    }

    #[test]
    fn masks_are_read_as_bits() {
        let range = Range::new(Some("10.1.0.0"), Some("255.255.0.0"));
        assert_eq!(range, Range::Network { address: "10.1.0.0".parse().expect("an address"), bits: 16 });
        assert_eq!(Range::new(None, None), Range::Socket);
        assert_eq!(Range::new(Some("all"), None), Range::Named("all".into()));
    }

    #[test]
    fn a_role_is_reachable_by_rules_for_more_machines_than_one() {
        for line in [
            "host all all all scram-sha-256",
            "host all all 0.0.0.0/0 md5",
            "hostssl shop app_user 10.0.0.0/8 scram-sha-256",
            "host shop +apps samenet scram-sha-256",
            "host sameuser,shop all .internal cert",
            "host /^sh /^app ::/0 scram-sha-256",
        ] {
            assert_eq!(reachable_by(&[line]), [line]);
        }
        for line in [
            "local all all trust",
            "host all all 127.0.0.0/8 scram-sha-256",
            "host all all ::1/128 scram-sha-256",
            "host shop app_user 10.0.0.7/32 scram-sha-256",
            "host all all proxy.internal scram-sha-256",
            "host replication all 0.0.0.0/0 scram-sha-256",
            "host shop +others 0.0.0.0/0 scram-sha-256",
            "host books all 0.0.0.0/0 scram-sha-256",
            "host all all 0.0.0.0/0 reject",
        ] {
            assert_eq!(reachable_by(&[line]), [""; 0], "{line}");
        }
    }

    #[test]
    fn the_first_rule_that_matches_decides() {
        let open = "host all all 0.0.0.0/0 scram-sha-256";
        assert_eq!(reachable_by(&["host all app_user 0.0.0.0/0 reject", open]), [""; 0]);
        assert_eq!(reachable_by(&["host all app_user all reject", open, "host all all ::/0 md5"]), [""; 0]);
        // Neither is for every connection that the open one is for.
        assert_eq!(reachable_by(&["hostssl all app_user 0.0.0.0/0 reject", open]), [open]);
        assert_eq!(reachable_by(&["host all /app 0.0.0.0/0 reject", open]), [open]);
        assert_eq!(reachable_by(&["host all app_user 10.0.0.0/8 reject", open]), [open]);
    }

    #[test]
    fn trust_is_worse_the_farther_it_reaches() {
        let found = |lines: &[&str]| {
            let findings = trusting(&rules(lines), "shop");
            findings.into_iter().map(|finding| (finding.severity, finding.object)).collect::<Vec<_>>()
        };
        let found_one = |line: &str, severity| assert_eq!(found(&[line]), [(severity, line.to_owned())]);
        found_one("local all all trust", Severity::Warning);
        found_one("host all postgres 127.0.0.1/32 trust", Severity::Warning);
        found_one("host all all 10.0.0.7/32 trust", Severity::Critical);
        found_one("host replication all 0.0.0.0/0 trust", Severity::Critical);
        assert_eq!(found(&["host books all 0.0.0.0/0 trust"]), []);
        assert_eq!(found(&["host all all all md5", "host shop all 10.0.0.0/8 trust"]), []);
        let replication = "host replication all 10.0.0.0/8 trust";
        assert_eq!(found(&["host all all all md5", replication]), [(Severity::Critical, replication.to_owned())]);
    }
}
