//! The report in the Static Analysis Results Interchange Format (OASIS SARIF 2.1.0).

use serde_json::{Value, json};

use super::finding::{Finding, Severity};
use super::rules::{self, RULES};
use super::{Report, escape};

const SCHEMA: &str = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

pub(super) fn render(report: &Report) -> String {
    let rules: Vec<Value> = RULES
        .iter()
        .map(|rule| json!({ "id": rule.id, "shortDescription": { "text": message(rule.title) } }))
        .collect();
    let value = json!({
        "$schema": SCHEMA,
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": { "name": "pgvpd", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules } },
            "invocations": [{ "executionSuccessful": true }],
            "results": report.findings.iter().map(|finding| result(finding, &report.database)).collect::<Vec<_>>(),
            "properties": { "database": report.database, "serverVersion": report.server_version },
        }],
    });
    escape::json(&format!("{value:#}\n"))
}

fn result(finding: &Finding, database: &str) -> Value {
    let mut result = json!({
        "ruleId": finding.id,
        "level": level(finding.severity),
        "message": { "text": message(&format!("{}: {}", finding.object, finding.finding)) },
        "locations": [{ "logicalLocations": [{
            "name": finding.object,
            "fullyQualifiedName": format!("{database}/{}", finding.object),
            "kind": "resource",
        }] }],
        // The same finding of another run has the same one, whatever stands around it.
        "partialFingerprints": { "pgvpdFinding/v1": format!("{}:{}", finding.id, finding.object) },
        "properties": { "severity": finding.severity.name() },
    });
    // Only a rule that the driver lists has an index.
    if let Some(index) = RULES.iter().position(|rule| rule.id == finding.id) {
        result["ruleIndex"] = index.into();
    }
    if !finding.fix.is_empty() {
        result["properties"]["fix"] = escape::sql(&finding.fix).into();
    }
    debug_assert!(rules::named(&finding.id).is_some() == result.get("ruleIndex").is_some());
    result
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Critical | Severity::High => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

/// Plain text, in which braces stand for arguments unless they are doubled (section 3.11.5).
fn message(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}
