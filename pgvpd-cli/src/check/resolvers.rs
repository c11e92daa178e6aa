//! Whether the resolvers' queries fit the database.

use pgvpd_core::{Config, Resolver, Source};
use tokio_postgres::types::{Kind, Type};

use super::finding::{Finding, Severity};
use super::rules;
use crate::database::{Database, told};

/// Prepares each query as the proxy has it run. A finding of [`RESOLVER`](rules::RESOLVER) for each that PostgreSQL does not take,
/// or whose columns and types are not what the resolver says.
pub(super) async fn findings(database: &Database, proxy: &Config) -> Result<Vec<Finding>, tokio_postgres::Error> {
    let client = database.client();
    let mut findings = Vec::new();
    for resolver in proxy.resolvers.all() {
        let Source::Sql(query) = &resolver.source else { continue };
        // Where the proxy looks for unqualified names.
        client.batch_execute("BEGIN; SET LOCAL search_path = public, pg_temp").await?;
        let prepared = client.prepare(query).await;
        client.batch_execute("ROLLBACK").await?;
        let finding = |severity, text: String, fix: &str| {
            Finding::new(rules::RESOLVER, severity, format!("resolver {}", resolver.name), text, fix)
        };
        match prepared {
            Err(error) => {
                let cause = error.as_db_error().map_or_else(|| error.to_string(), told);
                findings.push(finding(
                    Severity::Critical,
                    format!("every login fails: PostgreSQL does not take its query: {cause}"),
                    "-- correct its query in the file of resolvers; names outside of public need their schema",
                ));
            }
            Ok(statement) => {
                for text in contradictions(resolver, &statement) {
                    findings.push(finding(Severity::Critical, text, "-- correct it in the file of resolvers"));
                }
                for text in doubts(resolver, &statement) {
                    findings.push(finding(Severity::Warning, text, "-- cast it to text in the query"));
                }
            }
        }
    }
    Ok(findings)
}

/// What makes every login fail.
fn contradictions(resolver: &Resolver, statement: &tokio_postgres::Statement) -> Vec<String> {
    let mut texts = Vec::new();
    let (has, given) = (statement.params().len(), resolver.params.len());
    if has != given {
        texts.push(format!("every login fails: its query has {has} parameters, and params gives {given}"));
    }
    let names: Vec<&str> = statement.columns().iter().map(tokio_postgres::Column::name).collect();
    for (variable, column) in &resolver.inject {
        match names.iter().filter(|name| *name == column).count() {
            1 => {}
            0 => texts.push(format!(
                "every login fails: its query returns no column {column}, for {variable}; it returns {}",
                names.join(", ")
            )),
            _ => texts.push(format!("every login fails: its query returns several columns {column}, for {variable}")),
        }
    }
    texts
}

/// Types of which a policy can hardly mean the text form.
fn doubts(resolver: &Resolver, statement: &tokio_postgres::Statement) -> Vec<String> {
    let is_odd = |kind: &Type| {
        *kind == Type::BYTEA || *kind == Type::VOID || matches!(kind.kind(), Kind::Composite(_) | Kind::Pseudo)
    };
    let columns = statement.columns().iter().filter(|column| is_odd(column.type_()));
    let used = columns.filter(|column| resolver.inject.iter().any(|(_, name)| name == column.name()));
    used.map(|column| {
        format!("its column {} is of type {}, whose text form no policy compares with", column.name(), column.type_())
    })
    .collect()
}
