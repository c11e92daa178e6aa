//! What the proxy takes for a reset is what PostgreSQL runs as one.

use pgvpd_core::resets::{Loss, summarize};

use super::setups::own_connection;
use crate::support::script::{query, write};

/// Pieces of queries: what begins, ends and hides statements, in all spellings.
const PIECES: &[&str] = &[
    "RESET ALL",
    "SELECT 1",
    "SELECT ",
    ";",
    ";",
    "'",
    "''",
    "E'",
    "\\'",
    "\\",
    "$$",
    "$a$",
    "$a",
    "--",
    "\n",
    "\r",
    "/*",
    "*/",
    "/",
    "*",
    "-",
    "\"",
    "\"\"",
    " ",
    "x",
    "U&'",
    "U&\"",
    "B'",
    "N'",
    "1",
    "$1",
    "_",
    ",",
    " AS ",
    "é",
    "reset all;",
    "/**/",
    "e'",
];

/// A generator whose numbers are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(limit).expect("small")).expect("small")
    }
}

#[tokio::test]
async fn a_reset_is_found_where_postgresql_runs_one() {
    let mut client = own_connection().await;
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let (mut succeeded, mut reset) = (0, 0);
    for _ in 0..4000 {
        let count = 2 + dice.below(9);
        let mut sql: String = (0..count).map(|_| PIECES[dice.below(PIECES.len())]).collect();
        // Half of them are closed by force, so that more of them run.
        if dice.below(2) == 0 {
            sql = format!("SELECT '{}'; {sql}; SELECT 1", ["a", "''", "\\"][dice.below(3)]);
        }
        let answers = client.play(&[write(&[query(&sql)])]).await;
        let has_failed = answers.iter().any(|answer| answer.starts_with("E "));
        let has_reset = answers.iter().any(|answer| answer.starts_with("C RESET"));
        let found = summarize(sql.as_bytes(), |_| Loss::UntilRollback);
        assert!(found.resets || !has_reset, "not found: {sql:?}, {answers:?}");
        assert!(has_failed || found.resets == has_reset, "taken for one: {sql:?}, {answers:?}");
        succeeded += usize::from(!has_failed);
        reset += usize::from(has_reset && !has_failed);
    }
    assert!(succeeded > 100 && reset > 15, "{succeeded} ran, {reset} with a reset");
}
