//! What was found, how bad it is, and what not to report.

use std::fmt;
use std::str::FromStr;

use super::rules;

/// How bad a finding is; the worst comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Severity {
    Critical,
    High,
    Warning,
    Info,
}

impl Severity {
    pub(crate) const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Warning, Self::Info];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|severity| severity.name() == name)
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One thing that is not as it should be. Its texts hold names from the database as they are: whoever prints them escapes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) id: String,
    pub(crate) severity: Severity,
    pub(crate) object: String,
    pub(crate) finding: String,
    /// SQL, or an instruction behind `--`; empty where there is nothing to be done.
    pub(crate) fix: String,
}

impl Finding {
    pub(crate) fn new(
        id: &str,
        severity: Severity,
        object: impl Into<String>,
        finding: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { id: id.to_owned(), severity, object: object.into(), finding: finding.into(), fix: fix.into() }
    }
}

/// `ID` or `ID:OBJECT`: what is known and not to be reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ignored {
    id: String,
    object: Option<String>,
}

impl Ignored {
    pub(crate) fn covers(&self, finding: &Finding) -> bool {
        self.id == finding.id && self.object.as_ref().is_none_or(|object| *object == finding.object)
    }

    /// True where no finding with this id is wanted at all.
    pub(crate) fn covers_all_of(&self, id: &str) -> bool {
        self.id == id && self.object.is_none()
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)?;
        self.object.iter().try_for_each(|object| write!(f, ":{object}"))
    }
}

impl FromStr for Ignored {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (id, object) = text.split_once(':').map_or((text, None), |(id, object)| (id, Some(object.to_owned())));
        let id = id.to_ascii_uppercase();
        // A misspelt one would hide nothing, or the wrong thing.
        if rules::named(&id).is_none() {
            return Err(format!("there is no finding {id:?}; docs/check.md lists them"));
        }
        Ok(Self { id, object })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered_from_the_worst() {
        assert!(Severity::ALL.is_sorted());
        assert_eq!(Severity::ALL.map(|severity| Severity::named(severity.name())), Severity::ALL.map(Some));
    }

    #[test]
    fn ignored_is_an_id_or_one_object_of_it() {
        let finding = Finding::new("A01", Severity::High, "public.a:b", "", "");
        for (text, covers) in [("A01", true), ("a01:public.a:b", true), ("A01:public.a", false), ("A02", false)] {
            assert_eq!(text.parse::<Ignored>().expect(text).covers(&finding), covers, "{text}");
        }
        assert!("A99".parse::<Ignored>().is_err());
    }
}
