//! Tests of the program `pgvpd` as a user has it: its arguments, files, signals, logs and exit codes.
#![cfg(unix)]
#![expect(clippy::expect_used, reason = "a test that cannot go on fails with the reason")]

mod check;
mod check_around;
mod check_config;
mod check_formats;
mod command_line;
mod connect;
mod demo;
mod docs;
mod handover;
mod init;
mod init_others;
mod key;
mod log_readers;
mod logs;
mod manual_page;
mod operations;
mod protect;
mod reload;
mod resolve;
mod restart;
mod secret_files;
mod serve;
mod shells;
mod shutdown;
mod support;
mod systemd;
mod top;
