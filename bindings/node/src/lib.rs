//! The native half of the npm package `pgvpd`: life cycle and conversion, nothing else.
//!
//! What can fail gives a [`Failure`] as a value; the wrapper in `index.cjs` throws it as an error with a code. The
//! wrapper is the public interface and holds its documentation.

mod log;
mod proxy;
mod testing;

use std::fmt::Display;

use napi::Either;
use napi_derive::napi;
use pgvpd_core::{Config, ConfigError, Origin, Problem, Settings};

/// Why a call failed.
#[napi(object)]
pub struct Failure {
    /// What errors are told apart by, such as `ERR_PGVPD_CONFIG`.
    pub code: String,
    /// What is wrong and what to change.
    pub message: String,
    /// What is wrong with the settings, where they are to blame.
    pub problems: Option<Vec<SettingProblem>>,
}

/// One thing wrong with the settings.
#[napi(object)]
pub struct SettingProblem {
    /// The option's name in the configuration file, where one is to blame.
    pub option: Option<String>,
    /// What is wrong and what would be valid.
    pub message: String,
}

impl Failure {
    fn new(code: &str, error: impl Display) -> Self {
        Self { code: code.to_owned(), message: error.to_string(), problems: None }
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        let message = error.to_string();
        let problem = |Problem { option, message, .. }| SettingProblem { option, message };
        let problems = Some(error.problems.into_iter().map(problem).collect());
        Self { code: "ERR_PGVPD_CONFIG".to_owned(), message, problems }
    }
}

fn either<T>(result: Result<T, Failure>) -> Either<T, Failure> {
    match result {
        Ok(value) => Either::A(value),
        Err(failure) => Either::B(failure),
    }
}

/// One option as the wrapper hands it over, by its name in the configuration file.
#[napi(object)]
pub struct Setting {
    /// Its name in the configuration file.
    pub name: String,
    /// The value, or what is wrong with it where `refused`.
    pub text: String,
    /// Whether it has no text.
    pub refused: bool,
}

/// Checks everything at once, so that the error lists every problem.
fn config(given: Vec<Setting>) -> Result<Config, Failure> {
    let mut settings = Settings::new();
    for Setting { name, text, refused } in given {
        let problem = if refused {
            Some(Problem { option: Some(name), origin: Some(Origin::Code), message: text })
        } else {
            settings.set_from(&name, text, Origin::Code).err()
        };
        problem.into_iter().for_each(|problem| settings.reject(problem));
    }
    Ok(Config::from_settings(settings)?)
}
