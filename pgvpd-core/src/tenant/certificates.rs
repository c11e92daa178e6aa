//! Which tenants a client's certificate may claim (`cert_map`). Pure.
//!
//! ```toml
//! [[identity]]
//! uri = "spiffe://example.org/tenant/*"
//! role = "app_user"
//! tenant = "$1"
//! ```
//!
//! A name has parts, between `.` (DNS) or `/` (URI); a common name is one part. A `*` stands for characters of one part, at least
//! one, and a part has at most one, so that there is one way for a name to fit.

use std::collections::BTreeSet;

use serde::Deserialize;

/// Whom a certificate names. It has been verified.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CertificateNames {
    /// The subject's, where it has exactly one.
    pub(crate) common_name: Option<String>,
    /// Subject alternative names.
    pub(crate) dns: Vec<String>,
    pub(crate) uris: Vec<String>,
}

impl std::fmt::Display for CertificateNames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let common_name = self.common_name.iter().map(|name| ("CN", name));
        let dns = self.dns.iter().map(|name| ("DNS", name));
        let uris = self.uris.iter().map(|name| ("URI", name));
        let names: Vec<String> =
            common_name.chain(dns).chain(uris).map(|(kind, name)| format!("{kind} {name:?}")).collect();
        f.write_str(if names.is_empty() { "no name" } else { "" })?;
        f.write_str(&names.join(", "))
    }
}

/// The map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertMap {
    rules: Vec<Rule>,
}

/// A name, and what it may claim.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    kind: Kind,
    name: NamePattern,
    role: Claim,
    tenant: Claim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    CommonName,
    Dns,
    Uri,
}

/// A pattern of a certificate's names.
#[derive(Debug, Clone, PartialEq, Eq)]
struct NamePattern {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Exact(String),
    Star { before: String, after: String },
}

/// What may be claimed: text in which `$1` stands for what the first `*` of the name stood for, and at most one `*`, which
/// stands for anything.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Claim {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Captured(usize),
    Star,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    #[serde(default)]
    identity: Vec<RawRule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    cn: Option<String>,
    dns: Option<String>,
    uri: Option<String>,
    role: String,
    tenant: String,
}

impl CertMap {
    /// Reads the map.
    ///
    /// # Errors
    /// What is wrong with the text, with the line where TOML has one, or the number of the block.
    pub fn parse(text: &str) -> Result<Self, String> {
        let raw: RawMap = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        if raw.identity.is_empty() {
            return Err("has no [[identity]] block, so that no certificate could claim anything".into());
        }
        let rules = raw.identity.into_iter().enumerate();
        let rules = rules
            .map(|(index, raw)| Rule::new(&raw).map_err(|error| format!("[[identity]] block {}: {error}", index + 1)));
        Ok(Self { rules: rules.collect::<Result<_, _>>()? })
    }

    /// True if a certificate with these names may log in as this role for this tenant.
    pub(crate) fn permits(&self, names: &CertificateNames, role: &str, tenant: &str) -> bool {
        self.claims(names)
            .any(|(rule, captured)| rule.role.fits(&captured, role) && rule.tenant.fits(&captured, tenant))
    }

    /// The tenant that a certificate stands for, where it may claim exactly one as this role.
    pub(crate) fn only_tenant(&self, names: &CertificateNames, role: &str) -> Option<String> {
        let claims = self.claims(names).filter(|(rule, captured)| rule.role.fits(captured, role));
        let tenants: Option<BTreeSet<String>> = claims.map(|(rule, captured)| rule.tenant.only(&captured)).collect();
        let mut tenants = tenants?.into_iter();
        tenants.next().filter(|_| tenants.next().is_none())
    }

    /// The rules that are for these names, with what their stars stand for.
    fn claims<'a>(&'a self, names: &'a CertificateNames) -> impl Iterator<Item = (&'a Rule, Vec<&'a str>)> {
        self.rules.iter().flat_map(move |rule| {
            let of_kind: Vec<&str> = match rule.kind {
                Kind::CommonName => names.common_name.iter().map(String::as_str).collect(),
                Kind::Dns => names.dns.iter().map(String::as_str).collect(),
                Kind::Uri => names.uris.iter().map(String::as_str).collect(),
            };
            of_kind.into_iter().filter_map(move |name| Some((rule, rule.name.captures(name, rule.kind)?)))
        })
    }
}

impl Rule {
    fn new(raw: &RawRule) -> Result<Self, String> {
        let (kind, pattern) = match (&raw.cn, &raw.dns, &raw.uri) {
            (Some(pattern), None, None) => (Kind::CommonName, pattern),
            (None, Some(pattern), None) => (Kind::Dns, pattern),
            (None, None, Some(pattern)) => (Kind::Uri, pattern),
            _ => return Err("needs one of cn, dns and uri, and not more".into()),
        };
        let name = NamePattern::new(pattern, kind)?;
        let stars = name.parts.iter().filter(|part| matches!(part, Part::Star { .. })).count();
        let claim = |what: &str, text: &str| Claim::new(text, stars).map_err(|error| format!("{what} {error}"));
        Ok(Self { kind, name, role: claim("role", &raw.role)?, tenant: claim("tenant", &raw.tenant)? })
    }
}

impl Kind {
    /// What stands between the parts of a name.
    fn parts(self, name: &str) -> Vec<&str> {
        match self {
            Self::CommonName => vec![name],
            Self::Dns => name.split('.').collect(),
            Self::Uri => name.split('/').collect(),
        }
    }
}

impl NamePattern {
    fn new(text: &str, kind: Kind) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(format!("{text:?} is not a name that a certificate can have"));
        }
        // Names of hosts know no case (RFC 4343).
        let text = if kind == Kind::Dns { text.to_ascii_lowercase() } else { text.to_owned() };
        let parts = kind.parts(&text).into_iter().map(|part| match part.split_once('*') {
            None => Ok(Part::Exact(part.into())),
            Some((_, after)) if after.contains('*') => {
                Err(format!("{part:?} has two * in one part, so that names could fit in two ways"))
            }
            Some((before, after)) => Ok(Part::Star { before: before.into(), after: after.into() }),
        });
        Ok(Self { parts: parts.collect::<Result<_, _>>()? })
    }

    /// What the stars stand for, if the name fits.
    fn captures<'n>(&self, name: &'n str, kind: Kind) -> Option<Vec<&'n str>> {
        let parts = kind.parts(name);
        if parts.len() != self.parts.len() {
            return None;
        }
        let mut captured = Vec::new();
        for (pattern, part) in self.parts.iter().zip(parts) {
            let is_equal = |expected: &str, found: &str| match kind {
                Kind::Dns => expected.eq_ignore_ascii_case(found),
                _ => expected == found,
            };
            match pattern {
                Part::Exact(text) => is_equal(text, part).then_some(())?,
                Part::Star { before, after } => {
                    let end = part.len().checked_sub(after.len())?;
                    let middle = part.get(before.len()..end).filter(|middle| !middle.is_empty())?;
                    let fits = is_equal(before, part.get(..before.len())?) && is_equal(after, part.get(end..)?);
                    captured.push(fits.then_some(middle)?);
                }
            }
        }
        Some(captured)
    }
}

impl Claim {
    fn new(text: &str, stars: usize) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(format!("{text:?} can never be claimed"));
        }
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            let digit = characters.peek().and_then(|next| next.to_digit(10)).filter(|_| character == '$');
            let piece = match (character, digit) {
                ('$', Some(digit)) => {
                    characters.next();
                    let index = (digit as usize).checked_sub(1).filter(|index| *index < stars);
                    Piece::Captured(index.ok_or_else(|| format!("has ${digit}, and the name has {stars} *"))?)
                }
                ('*', _) => Piece::Star,
                _ => {
                    literal.push(character);
                    continue;
                }
            };
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(piece);
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        if pieces.iter().filter(|piece| **piece == Piece::Star).count() > 1 {
            return Err(format!("{text:?} has more than one *"));
        }
        Ok(Self { pieces })
    }

    /// What is before the star, and after it, if there is one. A `*` in what was captured is none.
    fn around(&self, captured: &[&str]) -> (String, Option<String>) {
        let (mut before, mut after) = (String::new(), None);
        for piece in &self.pieces {
            let text = match piece {
                Piece::Text(text) => text.as_str(),
                Piece::Captured(index) => captured.get(*index).copied().unwrap_or_default(),
                Piece::Star => {
                    after = Some(String::new());
                    continue;
                }
            };
            after.as_mut().unwrap_or(&mut before).push_str(text);
        }
        (before, after)
    }

    fn fits(&self, captured: &[&str], claimed: &str) -> bool {
        match self.around(captured) {
            (exact, None) => exact == claimed,
            (before, Some(after)) => claimed
                .strip_prefix(before.as_str())
                .and_then(|rest| rest.strip_suffix(after.as_str()))
                .is_some_and(|middle| !middle.is_empty()),
        }
    }

    /// The one text that fits; `None` where there are many.
    fn only(&self, captured: &[&str]) -> Option<String> {
        match self.around(captured) {
            (exact, None) => Some(exact),
            (_, Some(_)) => None,
        }
    }
}

#[cfg(test)]
#[path = "certificates_tests.rs"]
mod tests;
