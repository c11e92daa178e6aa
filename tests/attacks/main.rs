//! Attacks on the isolation of tenants: whoever runs any SQL in a session of acme's, sends any bytes and chooses his startup
//! packet tries to read, change or disturb what is globex's. So do clients that have no password at all. Each prints one line:
//!
//! ```text
//! BLOCKED  name (SQLSTATEs that refused it)
//! LEAKED   name: what was reached
//! LIMIT    name: documented as "..." in docs/security.md
//! SKIPPED  name: why it cannot be tried here
//! BROKEN   name: a mistake in the attack itself
//! ```
//!
//! Facts decide, not the attack's own word: did the victim's secret come back in any byte, are its rows and all that protects
//! them as they were, does its session go on. A LEAKED or BROKEN one fails, except that in the plain mode, where anybody can set
//! the context, the forgeries have to leak: a suite that finds nothing there is broken. A limit counts where the page does not
//! say that the mode closes it; there the attack has leaked.
//!
//! Where each tenant has a role, an attack that names the role is tried with each of three: the attacker's, the victim's, and
//! `app_user`, of which all are members.
//!
//! | variable | meaning |
//! |---|---|
//! | `PGVPD_PG_BINDIR` | the server's programs |
//! | `PGVPD_TEST_ATTACK` | tries only attacks whose name has this in it |
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails where it cannot go on")]
#![expect(clippy::print_stdout, reason = "one line an attack")]

mod aliases;
mod attack;
mod channels;
mod context;
mod counts;
mod crowding;
mod endings;
mod facts;
mod limits;
mod mode;
mod objects;
mod pool;
mod roles;
mod schema;
mod session;
mod shop;
mod stage;
mod startup;
mod strangers;
mod system;
mod token;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::{Arc, Mutex};

use libtest_mimic::{Arguments, Failed, Trial};

use crate::attack::{Attack, OLDER, Verdict};
use crate::mode::{MODES, Mode};
use crate::stage::Stage;

fn attacks(mode: Mode) -> Vec<Attack> {
    let wanted = std::env::var("PGVPD_TEST_ATTACK").unwrap_or_default();
    let parts = [
        context::attacks(),
        schema::attacks(),
        objects::attacks(),
        aliases::attacks(),
        system::attacks(),
        startup::attacks(),
        strangers::attacks(),
        pool::attacks(),
        counts::attacks(),
        channels::attacks(),
        crowding::attacks(),
        endings::attacks(),
        token::attacks(),
        roles::attacks(),
    ];
    let mut all: Vec<_> = parts.into_iter().flatten().collect();
    let mut names = BTreeSet::new();
    for attack in &all {
        assert!(names.insert(attack.name), "two attacks are called {:?}", attack.name);
    }
    all.retain(|attack| attack.name.contains(&wanted) && (mode != Mode::Bare || attack.is_held_by_policies()));
    all
}

fn main() {
    // Limits that some mode has shown.
    let shown: Arc<Mutex<BTreeSet<&'static str>>> = Arc::default();
    let mut trials =
        vec![Trial::test("the limits are those of docs/security.md", || limits::check_page().map_err(Failed::from))];
    for &(name, mode) in MODES {
        let shown = Arc::clone(&shown);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(run(name, mode, &shown))
        };
        trials.push(Trial::test(format!("attacks, {name}"), run));
    }
    let arguments = Arguments::from_args();
    let conclusion = libtest_mimic::run(&arguments, trials);
    let is_all = conclusion.num_filtered_out == 0 && std::env::var("PGVPD_TEST_ATTACK").is_err();
    let is_missing = |limit: &&str| !limits::RARE.contains(limit) && !shown.lock().unwrap().contains(*limit);
    let unshown: Vec<_> = limits::LIMITS.iter().map(|&(limit, _)| limit).filter(is_missing).collect();
    if is_all && !unshown.is_empty() {
        println!("no attack shows these limits any more: {unshown:?}");
        std::process::exit(101);
    }
    conclusion.exit();
}

async fn run(title: &str, mode: Mode, shown: &Mutex<BTreeSet<&'static str>>) -> Result<(), Failed> {
    let stage = Stage::set(mode).await;
    let (mut lines, mut failures, mut counts) = (String::new(), Vec::new(), [0; 5]);
    let attacks = attacks(mode);
    let tries = attacks.iter().flat_map(|attack| attack.roles(mode).iter().map(move |&whose| (attack, whose)));
    for (attack, whose) in tries {
        let name = format!("{}{}", attack.name, whose.suffix());
        let verdict = attack.verdict(&stage, &name, whose).await;
        let has_to_leak = attack.has_to_leak(mode);
        let (index, line, is_good) = match verdict {
            Verdict::Blocked(codes) => (0, format!("BLOCKED  {name} ({codes})"), !has_to_leak),
            Verdict::Leaked(what) => (1, format!("LEAKED   {name}: {what}"), has_to_leak),
            Verdict::Limit(limit) => {
                shown.lock().unwrap().insert(limit);
                (2, format!("LIMIT    {name}: documented as {limit:?}"), true)
            }
            Verdict::Skipped(reason) => (3, format!("SKIPPED  {name}: {reason}"), !has_to_leak || reason == OLDER),
            Verdict::Broken(what) => (4, format!("BROKEN   {name}: {what}"), false),
        };
        counts[index] += 1;
        writeln!(lines, "{line}").unwrap();
        if !is_good {
            failures.push(line);
        }
    }
    let [blocked, leaked, limit, skipped, broken] = counts;
    let (_, version) = stage.postgres.version();
    println!(
        "--- PostgreSQL {version}, {title}: {blocked} blocked, {leaked} leaked, {limit} limit, {skipped} skipped, {broken} broken\n{lines}"
    );
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}
