//! The `options` startup parameter: command-line switches for the backend, split as PostgreSQL splits them.
//!
//! Follows `pg_split_opts` and `process_postgres_switches`. Only switches that set one named parameter are accepted;
//! everything else, bundled switches such as `-ec` included, could carry a setting past the filter of names.

/// One `name=value` from `options`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The name in the form of [`normalize_setting_name`].
    pub name: String,
    /// The value, un-escaped.
    pub value: String,
}

/// A switch that is not one of `-c name=value`, `-cname=value`, `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unsupported entry {0:?} in startup options: only -c name=value and --name=value are accepted")]
pub struct OptionsError(pub String);

/// The form in which setting names are compared: lower case, `-` as `_` (PostgreSQL's `ParseLongOption` and
/// `guc_name_compare`).
pub fn normalize_setting_name(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

/// The settings that an `options` value makes, in order.
///
/// ```
/// use pgvpd_core::wire::split_options;
///
/// let settings = split_options(r"-c search_path=my\ schema --work-mem=5MB").unwrap();
/// let pairs: Vec<_> = settings.iter().map(|setting| (&*setting.name, &*setting.value)).collect();
/// assert_eq!(pairs, [("search_path", "my schema"), ("work_mem", "5MB")]);
/// assert!(split_options("-ec app.current_tenant_id=globex").is_err(), "bundled flags");
/// ```
///
/// # Errors
/// [`OptionsError`] names the first switch that is not accepted.
pub fn split_options(options: &str) -> Result<Vec<Setting>, OptionsError> {
    let mut settings = Vec::new();
    let mut words = split_words(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = if word == "-c" {
            words.next()
        } else {
            word.strip_prefix("--").or_else(|| word.strip_prefix("-c")).map(str::to_owned)
        };
        let setting = assignment.as_deref().and_then(setting);
        settings.push(setting.ok_or(OptionsError(word))?);
    }
    Ok(settings)
}

/// An `options` value that PostgreSQL splits into exactly these settings.
pub fn join_options(settings: &[Setting]) -> String {
    let mut joined = String::new();
    for Setting { name, value } in settings {
        if !joined.is_empty() {
            joined.push(' ');
        }
        joined.push_str("-c ");
        for c in name.chars().chain(['=']).chain(value.chars()) {
            if c.is_ascii_whitespace() || c == '\\' || c == '\x0b' {
                joined.push('\\');
            }
            joined.push(c);
        }
    }
    joined
}

/// A name must look like one: anything else is refused rather than guessed at.
fn setting(assignment: &str) -> Option<Setting> {
    let (name, value) = assignment.split_once('=')?;
    let mut bytes = name.bytes();
    let starts_well = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    let well_formed = starts_well && bytes.all(|b| b.is_ascii_alphanumeric() || b"_-.$".contains(&b));
    well_formed.then(|| Setting { name: normalize_setting_name(name), value: value.to_owned() })
}

/// `pg_split_opts`: white space separates, a backslash takes the next character as it is.
fn split_words(options: &str) -> Vec<String> {
    let is_space = |c: char| c.is_ascii_whitespace() || c == '\x0b';
    let mut words = Vec::new();
    let mut characters = options.chars().peekable();
    loop {
        while characters.next_if(|&c| is_space(c)).is_some() {}
        if characters.peek().is_none() {
            return words;
        }
        let mut word = String::new();
        while let Some(c) = characters.next_if(|&c| !is_space(c)) {
            match c {
                '\\' => word.extend(characters.next()),
                c => word.push(c),
            }
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn pairs(options: &str) -> Vec<(String, String)> {
        split_options(options).expect("valid options").into_iter().map(|s| (s.name, s.value)).collect()
    }

    #[test]
    fn the_three_accepted_spellings_give_the_same_setting() {
        for options in ["-c work_mem=1MB", "-cwork_mem=1MB", "--work_mem=1MB", "--Work-Mem=1MB", "  -c\tWORK_MEM=1MB "]
        {
            assert_eq!(pairs(options), [("work_mem".into(), "1MB".into())], "{options:?}");
        }
    }

    #[test]
    fn spellings_that_reach_postgresql_past_a_naive_filter_are_seen_for_what_they_set() {
        for options in [
            "--app.current-tenant-id=x",
            "-c App.Current_Tenant_Id=x",
            r"-c app.current\_tenant_id=x",
            r"-\c app.current_tenant_id=x",
            r"\-\-app.current_tenant_id=x",
            r"-c\app.current_tenant_id=x",
        ] {
            assert_eq!(pairs(options), [("app.current_tenant_id".into(), "x".into())], "{options:?}");
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for options in [
            "-ecapp.x=1",
            "-Pcapp.x=1",
            "-e",
            "-f s",
            "-c",
            "-c work_mem",
            "--",
            "--=1",
            "-c =1",
            "work_mem=1",
            "-W 5",
            "-c work_mem=1 -e",
            r"-c\ work_mem=1",
            "-- work_mem=1",
            "-c -c work_mem=1",
            "-c a\u{a0}b=1",
        ] {
            assert!(split_options(options).is_err(), "{options:?}");
        }
    }

    #[test]
    fn values_keep_escaped_spaces_backslashes_and_equal_signs() {
        assert_eq!(
            pairs(r"-c search_path=a,\ b -c x.y=1=2\\3"),
            [("search_path".into(), "a, b".into()), ("x.y".into(), r"1=2\3".into())]
        );
    }

    proptest! {
        #[test]
        fn any_text_is_split_without_panic(options in "\\PC*") {
            let _ = split_options(&options);
        }

        #[test]
        fn joining_then_splitting_gives_the_settings_back(
            settings in prop::collection::vec(("[a-z_][a-z0-9_.]{0,8}", "\\PC{0,12}"), 0..5)
        ) {
            let settings: Vec<_> = settings.into_iter().map(|(name, value)| Setting { name, value }).collect();
            prop_assert_eq!(split_options(&join_options(&settings)), Ok(settings));
        }
    }
}
