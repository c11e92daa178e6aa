//! A configuration file: read, then checked.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::os::fd::AsRawFd;

use pgvpd_core::config::OPTIONS;
use pgvpd_core::{Config, ConfigError, Origin, Settings};

/// Reads the bytes as a configuration file.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else {
        assert!(read(bytes).is_err(), "not UTF-8, and read");
        return;
    };
    let settings = read(bytes).unwrap_or_else(|error| panic!("text is not read: {error}"));
    let values = values(&settings);
    match Config::from_settings(settings) {
        Ok(config) => {
            assert_eq!(self::values(config.settings()), values);
            let again = Config::from_settings(config.settings().clone()).map(|again| format!("{again:?}"));
            assert_eq!(again, Ok(format!("{config:?}")), "checked twice");
            rewritten(&values, &config);
        }
        Err(error) => problems(&error, text.lines().count()),
    }
}

/// Every problem says which line is to blame, and takes one line itself.
fn problems(error: &ConfigError, lines: usize) {
    assert!(!error.problems.is_empty(), "refused without a reason");
    for problem in &error.problems {
        let Some(Origin::File { line, .. }) = problem.origin else { panic!("no line: {problem}") };
        assert!((1..=lines).contains(&line), "line {line} of {lines}: {problem}");
        assert!(!problem.message.is_empty() && !problem.to_string().contains('\n'), "{problem:?}");
    }
}

/// The same values written with quotes are the same values, and the same configuration.
fn rewritten(values: &[(&str, String)], config: &Config) {
    let mut text = String::new();
    for (name, value) in values {
        let _ = writeln!(text, "{name}=\"{value}\"");
    }
    let settings = read(text.as_bytes()).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(self::values(&settings), values, "{text:?}");
    let again = Config::from_settings(settings).unwrap_or_else(|error| panic!("{text:?}: {error}"));
    assert_eq!(self::values(again.settings()), self::values(config.settings()));
}

fn values(settings: &Settings) -> Vec<(&'static str, String)> {
    let value = |name| settings.value(name).map(str::to_owned);
    OPTIONS.iter().filter_map(|option| Some((option.name, value(option.name)?))).collect()
}

/// What the reader makes of a file with these bytes. The file has no name, so that a crash leaves none behind.
fn read(bytes: &[u8]) -> Result<Settings, ConfigError> {
    thread_local! {
        static FILE: RefCell<Option<File>> = const { RefCell::new(None) };
    }
    FILE.with_borrow_mut(|slot| {
        let file = match slot {
            Some(file) => file,
            None => slot.insert(tempfile::tempfile().unwrap_or_else(|error| panic!("a file: {error}"))),
        };
        let written = file.set_len(0).and_then(|()| file.rewind());
        let written = written.and_then(|()| file.write_all(bytes)).and_then(|()| file.rewind());
        written.unwrap_or_else(|error| panic!("written: {error}"));
        Settings::from_file(format!("/dev/fd/{}", file.as_raw_fd()))
    })
}
