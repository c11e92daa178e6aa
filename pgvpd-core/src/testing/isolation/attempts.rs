//! What a session tries to do with rows that are not its own.

use tokio_postgres::IsolationLevel;
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;

use super::IsolationError;
use super::report::{Attempt, Outcome};
use super::rows::insert_statement;
use super::session::{Relation, Session, Target};

/// What a statement did, in a transaction that was rolled back.
enum Effect {
    /// Rows read or changed.
    Rows(u64),
    Refused(Box<tokio_postgres::error::DbError>),
}

/// Makes every attempt: each tenant on the other, then the session without context on both.
pub(super) async fn try_all(
    target: &Target,
    first: &mut Session,
    second: &mut Session,
    without_context: Option<&mut Session>,
) -> Result<Vec<Attempt>, IsolationError> {
    let names = [first.name.clone(), second.name.clone()];
    let mut attempts = Vec::new();
    for (session, other) in [(&mut *first, &names[1]), (second, &names[0])] {
        for relation in target.relations(session).await? {
            read_as_tenant(target, &relation, session, other, &mut attempts).await?;
            change(target, &relation, session, other, &mut attempts).await?;
        }
        blindly(target, session, &mut attempts).await?;
        give_away(target, session, other, &mut attempts).await?;
        insert(target, session, other, &mut attempts).await?;
    }
    rights(target, first, &mut attempts).await?;
    if let Some(session) = without_context {
        for relation in target.relations(session).await? {
            read_without_context(&relation, session, &mut attempts).await?;
            for name in &names {
                change(target, &relation, session, name, &mut attempts).await?;
            }
        }
        blindly(target, session, &mut attempts).await?;
    }
    Ok(attempts)
}

/// Reads rows of the other tenant, and of any other.
async fn read_as_tenant(
    target: &Target,
    relation: &Relation,
    session: &mut Session,
    other: &str,
    attempts: &mut Vec<Attempt>,
) -> Result<(), IsolationError> {
    let Relation { name, kind, .. } = relation;
    let (me, column) = (session.name.clone(), &target.column);
    let theirs = format!("SELECT FROM {name} WHERE {}", target.is_tenant(1));
    let effect = tried(session, &theirs, &[&other]).await?;
    attempts.push(verdict(format!("{me} reads rows of {other} from {kind} {name}"), &effect, "rows were read"));
    // A NULL belongs to nobody: tables with rows for everybody have them so.
    let anybody = format!("SELECT FROM {name} WHERE NOT {}", target.is_tenant(1));
    let effect = tried(session, &anybody, &[&me]).await?;
    attempts.push(verdict(
        format!("{me} reads rows of any other tenant from {kind} {name}, whose {column} differs"),
        &effect,
        "rows were read",
    ));
    Ok(())
}

async fn read_without_context(
    relation: &Relation,
    session: &mut Session,
    attempts: &mut Vec<Attempt>,
) -> Result<(), IsolationError> {
    let Relation { name, kind, .. } = relation;
    let effect = tried(session, &format!("SELECT FROM {name}"), &[]).await?;
    attempts.push(verdict(format!("{} reads {kind} {name}", session.name), &effect, "rows were read"));
    Ok(())
}

/// Changes rows of the other tenant, where the role has the right at all.
async fn change(
    target: &Target,
    relation: &Relation,
    session: &mut Session,
    other: &str,
    attempts: &mut Vec<Attempt>,
) -> Result<(), IsolationError> {
    let Relation { name, kind, may_update, may_delete } = relation;
    let theirs = target.is_tenant(1);
    if let Some(column) = may_update {
        let update = format!("UPDATE {name} SET {column} = {column} WHERE {theirs}");
        let effect = tried(session, &update, &[&other]).await?;
        attempts.push(verdict(
            format!("{} updates rows of {other} in {kind} {name}", session.name),
            &effect,
            "rows were changed",
        ));
    }
    if *may_delete {
        let effect = tried(session, &format!("DELETE FROM {name} WHERE {theirs}"), &[&other]).await?;
        attempts.push(verdict(
            format!("{} deletes rows of {other} from {kind} {name}", session.name),
            &effect,
            "rows were deleted",
        ));
    }
    Ok(())
}

/// Changes rows without looking at them. A statement that reads no column needs no right to SELECT, so that PostgreSQL
/// applies only the policies for UPDATE or DELETE to it (CREATE POLICY, "Policies Applied by Command Type").
async fn blindly(target: &Target, session: &mut Session, attempts: &mut Vec<Attempt>) -> Result<(), IsolationError> {
    let Target { table, column, column_type, .. } = target;
    let me = session.name.clone();
    let take =
        (format!("UPDATE {table} SET {column} = $1::text::{column_type}"), "takes over rows (UPDATE without WHERE)");
    // The parameter is there for the form; no column is read.
    let delete = (format!("DELETE FROM {table} WHERE $1::text IS NULL OR true"), "deletes rows (DELETE without WHERE)");
    for (statement, what) in [take, delete] {
        let what = format!("{me} {what}");
        let outcome = match tried_blindly(target, session, &statement).await? {
            // Rows that are in use by others, or by rows that refer to them, may be its own as well as not.
            (_, Effect::Refused(error)) if ["23", "40"].iter().any(|class| error.code().code().starts_with(class)) => {
                Outcome::NotTried(error.message().into())
            }
            (_, Effect::Refused(error)) => Outcome::Held(error.message().into()),
            (own, Effect::Rows(rows)) if rows > own => {
                Outcome::Leaked(format!("{rows} rows, of which {own} are its own"))
            }
            (_, Effect::Rows(_)) => Outcome::Held("its own rows only".into()),
        };
        attempts.push(Attempt { what, outcome });
    }
    Ok(())
}

/// As [`tried`], with the number of the session's own rows at that time.
async fn tried_blindly(target: &Target, session: &mut Session, sql: &str) -> Result<(u64, Effect), IsolationError> {
    let failed = |doing: &str| IsolationError::sql(format!("{doing} as {}", session.name));
    let (begin, count, run, end) = (
        failed("beginning a transaction"),
        failed("counting rows"),
        failed("trying a statement"),
        failed("rolling back"),
    );
    let own = format!("SELECT FROM {} WHERE {}", target.table, target.is_tenant(1));
    // A session without context has no rows, and a name that need not fit the column's type.
    let name = session.is_tenant.then(|| session.name.clone());
    // One snapshot for both, whatever other tests do meanwhile.
    let transaction = session.client.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
    let transaction = transaction.start().await.map_err(begin)?;
    let own = transaction.execute(&own, &[&name]).await.map_err(count)?;
    let result = transaction.execute(sql, &[&name]).await;
    transaction.rollback().await.map_err(end)?;
    Ok((own, effect(result, run)?))
}

/// Makes its own rows the other tenant's; without looking at them, since the policies for SELECT would stop it otherwise.
async fn give_away(
    target: &Target,
    session: &mut Session,
    other: &str,
    attempts: &mut Vec<Attempt>,
) -> Result<(), IsolationError> {
    let Target { table, column, column_type, .. } = target;
    let update = format!("UPDATE {table} SET {column} = $1::text::{column_type}");
    let effect = tried(session, &update, &[&other]).await?;
    let what = format!("{} turns rows into rows of {other}", session.name);
    attempts.push(verdict(what, &effect, "rows were given away"));
    Ok(())
}

/// Inserts a row of the other tenant.
async fn insert(
    target: &Target,
    session: &mut Session,
    other: &str,
    attempts: &mut Vec<Attempt>,
) -> Result<(), IsolationError> {
    let what = format!("{} inserts a row of {other}", session.name);
    let outcome = match insert_statement(session, target).await? {
        Err(reason) => Outcome::NotTried(reason),
        Ok(statement) => match tried(session, &statement, &[&other]).await? {
            // A row has to find its partition before any policy looks at it.
            Effect::Refused(error) if target.is_partitioned && *error.code() == SqlState::CHECK_VIOLATION => {
                Outcome::NotTried(error.message().into())
            }
            effect => verdict(String::new(), &effect, "the row was inserted").outcome,
        },
    };
    attempts.push(Attempt { what, outcome });
    Ok(())
}

/// Rights that reach past row-level security.
async fn rights(target: &Target, session: &Session, attempts: &mut Vec<Attempt>) -> Result<(), IsolationError> {
    for (right, harm) in [
        ("TRUNCATE", "TRUNCATE removes every tenant's rows, whatever the policies say"),
        ("TRIGGER", "a trigger runs in every tenant's sessions and sees their rows"),
    ] {
        let doing = IsolationError::sql(format!("looking up rights on {}", target.table));
        let row =
            session.client.query_one("SELECT has_table_privilege($1::text, $2::text)", &[&target.table, &right]).await;
        let outcome = if row.map_err(doing)?.get(0) {
            Outcome::Leaked(format!("{harm}; REVOKE {right} ON {} FROM {}", target.table, target.role))
        } else {
            Outcome::Held("no right to".into())
        };
        attempts.push(Attempt { what: format!("role {} has the right {right}", target.role), outcome });
    }
    Ok(())
}

/// Nothing reached, or refused: held.
fn verdict(what: String, effect: &Effect, harm: &str) -> Attempt {
    let outcome = match effect {
        Effect::Rows(0) => Outcome::Held("no row".into()),
        Effect::Rows(rows) => Outcome::Leaked(format!("{harm} ({rows})")),
        // Class 23, integrity constraint violation: constraints are looked at after the policies let the row pass
        // (ExecInsert, ExecUpdate), and foreign keys when it has been written.
        Effect::Refused(error) if error.code().code().starts_with("23") => {
            Outcome::Leaked(format!("the policies let it pass, only a constraint stopped it: {}", error.message()))
        }
        Effect::Refused(error) => Outcome::Held(error.message().into()),
    };
    Attempt { what, outcome }
}

/// Runs a statement and takes it back.
async fn tried(session: &mut Session, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Effect, IsolationError> {
    let failed = |doing: &str| IsolationError::sql(format!("{doing} as {}", session.name));
    let (begin, run, end) = (failed("beginning a transaction"), failed("trying a statement"), failed("rolling back"));
    let transaction = session.client.transaction().await.map_err(begin)?;
    let result = transaction.execute(sql, parameters).await;
    transaction.rollback().await.map_err(end)?;
    effect(result, run)
}

fn effect(
    result: Result<u64, tokio_postgres::Error>,
    failed: impl FnOnce(tokio_postgres::Error) -> IsolationError,
) -> Result<Effect, IsolationError> {
    match result {
        Ok(rows) => Ok(Effect::Rows(rows)),
        Err(error) => match error.as_db_error() {
            Some(said) => Ok(Effect::Refused(Box::new(said.clone()))),
            None => Err(failed(error)),
        },
    }
}
