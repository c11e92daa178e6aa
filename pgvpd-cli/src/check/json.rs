//! The report as JSON. docs/check.md describes it; members are added, and not changed, within one `version`.

use serde_json::{Map, Value, json};

use super::audit::Source;
use super::escape;
use super::finding::{Finding, Severity};
use super::{Report, rules};

/// Of the members and what they mean.
const VERSION: u32 = 1;

pub(super) fn render(report: &Report) -> String {
    let mut summary: Map<String, Value> =
        Severity::ALL.into_iter().map(|severity| (severity.name().to_owned(), report.count(severity).into())).collect();
    summary.insert("ignored".into(), report.ignored.into());
    let value = json!({
        "version": VERSION,
        "pgvpd": env!("CARGO_PKG_VERSION"),
        "database": report.database,
        "server_version": report.server_version,
        "app_roles": report.app_roles,
        "tenant_columns": report.tenant_columns,
        "audit": match report.audit {
            Source::Installed => "installed",
            Source::Program => "program",
        },
        "fail_on": report.fail_on.map_or("never", Severity::name),
        "failed": report.fails(),
        "summary": summary,
        "findings": report.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    escape::json(&format!("{value:#}\n"))
}

fn finding(finding: &Finding) -> Value {
    json!({
        "id": finding.id,
        "severity": finding.severity.name(),
        "title": rules::named(&finding.id).map(|rule| rule.title),
        "object": finding.object,
        "finding": finding.finding,
        "fix": (!finding.fix.is_empty()).then(|| escape::sql(&finding.fix)),
    })
}
