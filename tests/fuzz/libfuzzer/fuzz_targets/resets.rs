#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| pgvpd_fuzz::resets::run(bytes));
