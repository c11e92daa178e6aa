//! What must hold for every input of pgvpd's parsers. Each target takes any bytes and panics where a property breaks.
//!
//! `tests/fuzz/run.sh` has libFuzzer look for such bytes; the test `corpus` runs the files of `tests/fuzz/corpus/`, one
//! directory a target, on any toolchain.

pub mod backend;
mod chunks;
pub mod config;
pub mod frontend;
pub mod headers;
pub mod notifications;
pub mod options;
pub mod resets;
pub mod resolvers;
pub mod seeds;
pub mod startup;
pub mod tenants;
pub mod token;

/// A target: its name, which is that of its corpus, and what it runs.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 11] = [
    ("backend", backend::run),
    ("config", config::run),
    ("frontend", frontend::run),
    ("headers", headers::run),
    ("notifications", notifications::run),
    ("options", options::run),
    ("resets", resets::run),
    ("resolvers", resolvers::run),
    ("startup", startup::run),
    ("tenants", tenants::run),
    ("token", token::run),
];
