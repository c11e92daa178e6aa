//! Reads options from raw [`Settings`] and collects what is wrong with them.

use std::cell::RefCell;
use std::path::Path;

use super::OptionSpec;
use super::exposure::{Exposure, exposure};
use super::settings::{Problem, Settings};

/// A checked value, or what is wrong and what would be valid.
pub(super) type Checked<T> = Result<T, String>;

/// Reads options one by one and collects what is wrong with them.
pub(super) struct Reader<'a> {
    pub(super) settings: &'a Settings,
    problems: RefCell<Vec<Problem>>,
    notices: RefCell<Vec<String>>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(settings: &'a Settings) -> Self {
        let (problems, notices) = (settings.problems().to_vec(), settings.notices().to_vec());
        Self { settings, problems: RefCell::new(problems), notices: RefCell::new(notices) }
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// The checked value of an option; `None` where it is not set, or wrong (which is then recorded).
    pub(super) fn read<T>(&self, name: &str, check: impl FnOnce(&str) -> Checked<T>) -> Option<T> {
        debug_assert!(OptionSpec::named(name).is_some(), "{name} is not in the table");
        let entry = self.settings.entry(name)?;
        check(&entry.text).map_err(|message| self.problem(name, message)).ok()
    }

    /// True if something is wrong with this option.
    pub(super) fn is_problem(&self, name: &str) -> bool {
        self.problems.borrow().iter().any(|problem| problem.option.as_deref() == Some(name))
    }

    /// Refuses a file that holds `what` and that others can read.
    pub(super) fn secret_file(&self, path: &Path, what: &str) -> Checked<()> {
        match exposure(path, what) {
            Exposure::Private => Ok(()),
            Exposure::Mounted(notice) => {
                self.notices.borrow_mut().push(notice);
                Ok(())
            }
            Exposure::Open(message) => Err(message),
        }
    }

    /// What the operator should know of the files that were read.
    pub(super) fn take_notices(&self) -> Vec<String> {
        self.notices.take()
    }

    pub(super) fn problem(&self, name: &str, message: String) {
        let origin = self.settings.origin(name).cloned();
        self.problems.borrow_mut().push(Problem { option: Some(name.into()), origin, message });
    }
}
