//! Tests of the program `pgvpd` as a user has it: its arguments, files, signals, logs and exit codes.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test that cannot go on fails with the reason")]

mod check_config;
mod command_line;
mod demo;
mod docs;
mod manual_page;
mod reload;
mod serve;
mod shells;
mod shutdown;
mod support;
