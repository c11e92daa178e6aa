//! The `options` startup parameter, held against PostgreSQL's own way of splitting it.

use pgvpd_core::wire::{join_options, normalize_setting_name, split_options};

/// Splits the bytes, where they are text.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let name = normalize_setting_name(text);
    assert_eq!(normalize_setting_name(&name), name, "the normal form of a name has a normal form of its own");
    let Ok(settings) = split_options(text) else { return };

    let joined = join_options(&settings);
    assert_eq!(split_options(&joined).as_ref(), Ok(&settings), "{joined:?}");
    for setting in &settings {
        assert_eq!(normalize_setting_name(&setting.name), setting.name);
        assert!(!setting.name.is_empty() && setting.name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'='));
    }

    let ours: Vec<_> =
        settings.iter().map(|setting| (setting.name.clone(), setting.value.clone().into_bytes())).collect();
    for text in [text, &joined] {
        assert_eq!(Some(&ours), postgresql(text.as_bytes()).as_ref(), "PostgreSQL reads {text:?} otherwise");
    }
}

/// What a backend sets: `pg_split_opts` (postinit.c), then `process_postgres_switches` (postgres.c), which reads `-c`
/// with getopt and `--` itself, and `ParseLongOption` (guc.c). `None` where it sets something in another way.
fn postgresql(options: &[u8]) -> Option<Vec<(String, Vec<u8>)>> {
    let mut settings = Vec::new();
    let mut words = pg_split_opts(options).into_iter();
    while let Some(word) = words.next() {
        let assignment = match word.as_slice() {
            b"-c" => words.next()?,
            [b'-', b'-' | b'c', assignment @ ..] => assignment.to_vec(),
            _ => return None,
        };
        let equals = assignment.iter().position(|&byte| byte == b'=')?;
        let (name, value) = assignment.split_at(equals);
        let name = String::from_utf8_lossy(name).to_ascii_lowercase().replace('-', "_");
        settings.push((name, value.strip_prefix(b"=")?.to_vec()));
    }
    Some(settings)
}

fn pg_split_opts(options: &[u8]) -> Vec<Vec<u8>> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut last_was_escape = false;
    for &byte in options {
        let is_space = matches!(byte, b' ' | b'\t'..=b'\r');
        if is_space && !last_was_escape {
            words.extend(word.take());
            continue;
        }
        // A backslash begins a word even where nothing follows it.
        let word = word.get_or_insert_default();
        if !last_was_escape && byte == b'\\' {
            last_was_escape = true;
        } else {
            last_was_escape = false;
            word.push(byte);
        }
    }
    words.extend(word);
    words
}
