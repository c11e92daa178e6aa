//! What an attack is, the shapes that most of them have, and the verdict.

use std::pin::Pin;

use crate::limits;
use crate::mode::{Mode, Whose};
use crate::session::Session;
use crate::stage::{NOBODYS_PIN, PIN, Stage};

/// Why an attack cannot be tried here.
pub(crate) type Skipped = &'static str;

/// The server lacks what the attack is about.
pub(crate) const OLDER: Skipped = "this server is older";

/// What it is about is there with `isolation = role` only.
const SHARED: Skipped = "tenants share their role in this mode";

type Attempt<'a> = Pin<Box<dyn Future<Output = Result<(), Skipped>> + 'a>>;

/// One way to another tenant.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// The limit by which it is documented, if it may succeed.
    limit: Option<&'static str>,
    /// Where it has to succeed.
    must: Must,
    /// PostgreSQL must not refuse it by one of [`MISTAKES`].
    has_to_be_right: bool,
    /// It says `app_user`.
    names_role: bool,
    attempt: Box<dyn for<'a> Fn(&'a Stage) -> Attempt<'a>>,
}

/// Where an attack succeeds, which shows that it is one.
#[derive(Clone, Copy)]
enum Must {
    Nowhere,
    WithoutKey,
    WithKey,
    WithoutPolicies,
}

/// What has become of an attack.
pub(crate) enum Verdict {
    /// It came to nothing; the SQLSTATEs with which it was refused.
    Blocked(String),
    Leaked(String),
    /// It succeeded, as the documentation says.
    Limit(&'static str),
    Skipped(Skipped),
    /// It was not tried, because of a mistake of its own.
    Broken(String),
}

/// SQLSTATEs of statements that say nothing, since PostgreSQL could not make sense of them: syntax error, undefined table,
/// function, column, object, schema, wrong types, a duplicate of what the attack itself has made.
const MISTAKES: &[&str] =
    &["42601", "42P01", "42883", "42703", "42704", "3F000", "42804", "42P07", "42723", "22P02", "0A000"];

/// The SQLSTATE of what is not permitted.
const REFUSED: &str = "42501";

impl Attack {
    /// An attack by whatever code.
    pub(crate) fn by<F>(name: &'static str, attempt: F) -> Self
    where
        F: for<'a> Fn(&'a Stage) -> Attempt<'a> + 'static,
    {
        Self {
            name,
            limit: None,
            must: Must::Nowhere,
            has_to_be_right: false,
            names_role: false,
            attempt: Box::new(attempt),
        }
    }

    /// As documented under this limit.
    pub(crate) fn within(self, limit: &'static str) -> Self {
        assert!(limits::LIMITS.iter().any(|(name, _)| *name == limit), "{}: no limit {limit:?}", self.name);
        Self { limit: Some(limit), ..self }
    }

    /// Says this to [`Stage::spell`], with `app_user` in it or not.
    pub(crate) fn saying(self, script: &str) -> Self {
        Self { names_role: script.contains("app_user"), ..self }
    }

    /// The roles that it is to be tried with.
    pub(crate) fn roles(&self, mode: Mode) -> &'static [Whose] {
        if self.names_role { Whose::all(mode) } else { &[Whose::AsSaid] }
    }

    /// Works in the plain mode.
    pub(crate) fn forging(self) -> Self {
        Self { must: Must::WithoutKey, ..self }
    }

    /// Shows that what is like it would work, but for one thing.
    pub(crate) fn controlling(self) -> Self {
        Self { must: Must::WithKey, ..self }
    }

    /// Works where policies are off.
    pub(crate) fn held_by_policies(self) -> Self {
        Self { must: Must::WithoutPolicies, ..self }
    }

    /// True if policies are all that stops it.
    pub(crate) fn is_held_by_policies(&self) -> bool {
        matches!(self.must, Must::WithoutPolicies)
    }

    /// Queries of the attacker's, with `;;` between those that are sent one by one. Then everything is read that can be.
    pub(crate) fn sql(row: &(&'static str, &'static str)) -> Self {
        Self::sql_behind("", row)
    }

    /// As [`Self::sql`], with something to run before.
    pub(crate) fn sql_behind(before: &'static str, &(name, script): &(&'static str, &'static str)) -> Self {
        let attack = Self::by(name, move |stage| {
            Box::pin(async move {
                let mut attacker = stage.attacker().await;
                attacker.run(&stage.spell(&format!("{before}{script}"))).await;
                stage.loot(&mut attacker).await;
                stage.check_victim().await;
                attacker.leave().await;
                Ok(())
            })
        });
        Self { has_to_be_right: true, ..attack }.saying(script)
    }

    /// Skips it where tenants share their role. It names each role as it is.
    pub(crate) fn with_own_roles(self) -> Self {
        let attempt = self.attempt;
        let attempt: Box<dyn for<'a> Fn(&'a Stage) -> Attempt<'a>> =
            Box::new(
                move |stage| {
                    if stage.mode.has_own_roles() { attempt(stage) } else { Box::pin(async { Err(SHARED) }) }
                },
            );
        Self { attempt, names_role: false, ..self }
    }

    /// Skips it on servers before this major version.
    pub(crate) fn since(self, major: u32) -> Self {
        let attempt = self.attempt;
        let attempt: Box<dyn for<'a> Fn(&'a Stage) -> Attempt<'a>> =
            Box::new(
                move |stage| {
                    if stage.is_at_least(major) { attempt(stage) } else { Box::pin(async { Err(OLDER) }) }
                },
            );
        Self { attempt, ..self }
    }

    /// A statement with `{guess}` in it, whose answer must not tell whether a victim's row has it.
    pub(crate) fn oracle(&(name, sql): &(&'static str, &'static str)) -> Self {
        Self::by(name, move |stage| {
            Box::pin(async move {
                let right = guess(stage, sql, PIN).await;
                let wrong = guess(stage, sql, NOBODYS_PIN).await;
                if right != wrong {
                    stage.reached(format!("a right guess answers {:?}, a wrong one {:?}", right.last(), wrong.last()));
                }
                Ok(())
            })
        })
    }

    /// A query whose value must not depend on how much the victim does.
    pub(crate) fn volume(&(name, sql, limit): &(&'static str, &'static str, &'static str)) -> Self {
        let attack = Self::by(name, move |stage| {
            Box::pin(async move {
                let mut attacker = stage.attacker().await;
                let first = attacker.run(sql).await.messages;
                let before = attacker.run(sql).await;
                stage.execute(BUSY).await;
                let after = attacker.run(sql).await;
                stage.execute("DELETE FROM vault WHERE amount = 4711").await;
                stage.execute("VACUUM (FULL, ANALYZE) vault").await;
                let number = |value: Option<String>| value.and_then(|value| value.parse::<i64>().ok());
                let told = match (number(before.value()), number(after.value())) {
                    // A sequence moves a little by being looked at.
                    (Some(before), Some(after)) => (after - before).abs() > 100,
                    _ => first == before.messages && before.messages != after.messages,
                };
                if told {
                    stage.reached("the answer tells how much the victim does");
                }
                attacker.leave().await;
                Ok(())
            })
        });
        if limit.is_empty() { attack } else { attack.within(limit) }
    }

    /// Tries it by this name, with this role where it names one.
    pub(crate) async fn verdict(&self, stage: &Stage, name: &str, whose: Whose) -> Verdict {
        name.clone_into(&mut stage.trying.lock().unwrap());
        *stage.whose.lock().unwrap() = whose;
        stage.heard.lock().unwrap().codes.clear();
        let skipped = (self.attempt)(stage).await.err();
        let codes = std::mem::take(&mut stage.heard.lock().unwrap().codes);
        let reasons = stage.reckon().await;
        if let Some(reason) = skipped {
            return Verdict::Skipped(reason);
        }
        if !reasons.is_empty() {
            return match self.limit {
                Some(limit) if !limits::is_closed(limit, stage.mode) => Verdict::Limit(limit),
                _ => Verdict::Leaked(reasons.join("; ")),
            };
        }
        // Where temporary objects are refused, what would use them finds none.
        let said = codes.iter().take_while(|code| stage.mode != Mode::Hardened || *code != REFUSED);
        let mistakes: Vec<_> = said.filter(|code| MISTAKES.contains(&code.as_str())).collect();
        if self.has_to_be_right && !mistakes.is_empty() && !MAY_MISS.contains(&self.name) {
            return Verdict::Broken(format!("{mistakes:?}"));
        }
        Verdict::Blocked(codes.join(" "))
    }

    /// True if it has to succeed in this mode: a suite that does not find these finds nothing.
    pub(crate) fn has_to_leak(&self, mode: Mode) -> bool {
        match self.must {
            Must::Nowhere => false,
            Must::WithoutKey => mode == Mode::Plain,
            // A token says nothing of a role that is the tenant's own.
            Must::WithKey => mode.is_signed() && !mode.has_own_roles(),
            Must::WithoutPolicies => mode == Mode::Bare,
        }
    }
}

/// Attacks that meet one of [`MISTAKES`] for a reason that holds.
const MAY_MISS: &[&str] = &[
    // PostgreSQL has no COPY FROM into a table with row-level security.
    "COPY FROM",
    "COPY FROM a partition",
    // The session's own role cannot be renamed.
    "a role renamed",
    // The proxy refuses what needs the context behind a reset in one query, before anything runs.
    "DISCARD SEQUENCES and TEMP in one query",
];

/// A busy victim.
const BUSY: &str = "INSERT INTO vault (tenant_id, secret, amount) SELECT 'globex', repeat('x', 300), 4711 FROM generate_series(1, 500);
    UPDATE vault SET amount = amount WHERE id = 735511; ANALYZE vault";

/// What an observer sees of a statement with this guess. All is rolled back.
async fn guess(stage: &Stage, sql: &str, guess: &str) -> Vec<(u8, String)> {
    let mut attacker: Session = stage.attacker().await;
    attacker.query("BEGIN").await;
    let mut seen = Vec::new();
    for part in sql.replace("{guess}", guess).split(";;") {
        seen.extend(attacker.query(part).await.without(guess));
    }
    attacker.query("ROLLBACK").await;
    attacker.leave().await;
    seen
}
