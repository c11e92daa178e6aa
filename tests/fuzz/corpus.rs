//! Every file of the corpus through its target, seeds also with small changes; no fuzzer needed.

use std::collections::BTreeSet;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use pgvpd_fuzz::{TARGETS, Target, seeds};

/// A file of the corpus.
struct Input {
    path: PathBuf,
    bytes: Vec<u8>,
}

fn directory(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

fn corpus(target: &str) -> Vec<Input> {
    let files = std::fs::read_dir(directory(target)).unwrap_or_else(|error| panic!("{target}: {error}"));
    let mut inputs: Vec<_> = files
        .map(|file| {
            let path = file.unwrap_or_else(|error| panic!("{target}: {error}")).path();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            Input { path, bytes }
        })
        .collect();
    inputs.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(inputs.len() >= 10, "{target}: {} files", inputs.len());
    inputs
}

/// The inputs that somebody wrote. Those of a fuzzer are changes of these.
fn written(target: &str) -> impl Iterator<Item = Input> {
    corpus(target).into_iter().filter(|input| !is_found(input))
}

fn is_found(input: &Input) -> bool {
    name(input).starts_with("found-")
}

fn name(input: &Input) -> &str {
    input.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Runs the target; a broken property is told with the file, and with the bytes that can be put into one.
fn run((name, target): Target, input: &Input, bytes: &[u8]) {
    let path = input.path.display();
    assert!(catch_unwind(|| target(bytes)).is_ok(), "{name} breaks at {path} as \"{}\"", bytes.escape_ascii());
}

#[test]
fn every_input_of_the_corpus_keeps_the_properties() {
    for target in TARGETS {
        for input in corpus(target.0) {
            run(target, &input, &input.bytes);
        }
    }
}

#[test]
fn every_seed_cut_off_anywhere_keeps_the_properties() {
    for target in TARGETS {
        for input in written(target.0) {
            for end in 0..input.bytes.len() {
                run(target, &input, &input.bytes[..end]);
            }
        }
    }
}

#[test]
fn every_seed_with_any_one_byte_changed_keeps_the_properties() {
    for target in TARGETS {
        for input in written(target.0) {
            for index in 0..input.bytes.len() {
                for change in [0x01, 0x20, 0x80, 0xff] {
                    let mut bytes = input.bytes.clone();
                    bytes[index] ^= change;
                    run(target, &input, &bytes);
                }
            }
        }
    }
}

#[test]
fn the_corpus_has_every_seed_as_it_is_made_and_nothing_that_nobody_knows() {
    let names: Vec<_> = seeds::all().iter().map(|(name, _)| *name).collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
    for (target, seeds) in seeds::all() {
        let names: BTreeSet<_> = seeds.iter().map(|(name, _)| *name).collect();
        assert_eq!(names.len(), seeds.len(), "{target}: a name twice");
        for (name, bytes) in &seeds {
            let written = std::fs::read(directory(target).join(name)).ok();
            assert_eq!(written.as_ref(), Some(bytes), "{target}/{name}: cargo run -p pgvpd-fuzz --bin seeds");
        }
        for input in corpus(target) {
            let name = name(&input);
            assert!(names.contains(name) || is_found(&input), "{target}/{name} is no seed");
            assert!(input.bytes.len() <= 1024, "{target}/{name} is longer than 1 KiB");
        }
    }
}
