//! `pgvpd check`: its forms for machines, and names that try to be more than names.

use serde_json::Value;

use crate::check::{Checked, OPEN_TABLE};
use crate::support::TestResult;

const MANUAL: &str = include_str!("../../../docs/check.md");

/// Clears a terminal, ends a line, turns the direction of what follows, and ends a quoted name.
const HOSTILE: &str = "a\u{1b}[2J\u{9b}31m\n\\! b\u{202e}\"\"'{0}";

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = value.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn json_has_the_members_that_the_manual_describes() -> TestResult {
    let database = Checked::installed("check_json").await;
    database.execute(OPEN_TABLE).await;
    let said = database.check(&["--format", "json", "--ignore", "A25"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    let report: Value = serde_json::from_str(&said.out)?;
    let members = [
        "app_roles",
        "audit",
        "database",
        "fail_on",
        "failed",
        "findings",
        "pgvpd",
        "server_version",
        "summary",
        "tenant_columns",
        "version",
    ];
    assert_eq!(keys(&report), members);
    assert_eq!(keys(&report["summary"]), ["critical", "high", "ignored", "info", "warning"]);
    assert_eq!((&report["version"], &report["database"]), (&1.into(), &"check_json".into()));
    assert_eq!(
        (&report["audit"], &report["fail_on"], &report["failed"]),
        (&"installed".into(), &"high".into(), &true.into())
    );
    assert_eq!((&report["app_roles"][0], &report["tenant_columns"][0]), (&"app_user".into(), &"tenant_id".into()));
    assert_eq!(report["summary"]["ignored"], 4);
    let findings = report["findings"].as_array().ok_or("findings")?;
    for finding in findings {
        assert_eq!(keys(finding), ["finding", "fix", "id", "object", "severity", "title"]);
        let strings = ["finding", "id", "object", "severity", "title"];
        assert!(strings.iter().all(|key| finding[*key].is_string()), "{finding}");
        assert!(finding["fix"].is_string() || finding["fix"].is_null());
    }
    let count = |severity: &str| findings.iter().filter(|finding| finding["severity"] == severity).count();
    for severity in ["critical", "high", "warning", "info"] {
        assert_eq!(report["summary"][severity], count(severity), "{severity}");
    }
    let open = findings.iter().find(|finding| finding["id"] == "A01").ok_or("A01")?;
    assert_eq!((&open["object"], &open["severity"]), (&"public.orders".into(), &"critical".into()));
    for member in members.iter().chain(&["id", "severity", "title", "object", "finding", "fix", "ignored"]) {
        assert!(MANUAL.contains(&format!("`{member}`")), "the manual has no {member}");
    }
    Ok(())
}

#[tokio::test]
async fn sarif_has_what_its_standard_demands() -> TestResult {
    let database = Checked::installed("check_sarif").await;
    database.execute(OPEN_TABLE).await;
    let said = database.check(&["--format", "sarif", "--fail-on", "never", "--tenant-column", "tenant_id"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let log: Value = serde_json::from_str(&said.out)?;
    // Section 3.13: the log.
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().is_some_and(|schema| schema.ends_with("/sarif-schema-2.1.0.json")));
    let [run] = log["runs"].as_array().ok_or("runs")?.as_slice() else { return Err("one run".into()) };
    // 3.18 to 3.20: the tool, whose component has a name; 3.49: each rule has an id, and its texts are messages.
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "pgvpd");
    let rules = driver["rules"].as_array().ok_or("rules")?;
    let ids: std::collections::BTreeSet<_> = rules.iter().filter_map(|rule| rule["id"].as_str()).collect();
    assert_eq!(ids.len(), rules.len());
    for rule in rules {
        assert!(rule["shortDescription"]["text"].as_str().is_some_and(|text| !text.is_empty()), "{rule}");
        let id = rule["id"].as_str().ok_or("id")?;
        assert!(MANUAL.contains(&format!("| {id} | ")), "the manual has no {id}");
    }
    // 3.27: results.
    let results = run["results"].as_array().ok_or("results")?;
    assert!(results.len() >= 5, "{results:?}");
    for result in results {
        let index = result["ruleIndex"].as_u64().ok_or("ruleIndex")?;
        assert_eq!(rules[usize::try_from(index)?]["id"], result["ruleId"]);
        let level = match result["properties"]["severity"].as_str() {
            Some("critical" | "high") => "error",
            Some("warning") => "warning",
            Some("info") => "note",
            other => return Err(format!("{other:?}").into()),
        };
        assert_eq!(result["level"], level);
        assert!(result["message"]["text"].is_string());
        let place = &result["locations"][0]["logicalLocations"][0];
        assert!(
            place["name"].is_string() && place["fullyQualifiedName"].is_string() && place["kind"] == "resource",
            "{place}"
        );
        let prints = result["partialFingerprints"].as_object().ok_or("fingerprints")?;
        assert!(prints.values().all(Value::is_string));
    }
    let open = results.iter().find(|result| result["ruleId"] == "A01").ok_or("A01")?;
    assert_eq!(open["locations"][0]["logicalLocations"][0]["fullyQualifiedName"], "check_sarif/public.orders");
    Ok(())
}

#[tokio::test]
async fn a_hostile_name_is_shown_and_its_fix_works() -> TestResult {
    let database = Checked::installed("check_hostile").await;
    let quoted = format!("\"{HOSTILE}\"");
    database
        .execute(&format!(
            "CREATE TABLE {quoted} (tenant_id text NOT NULL DEFAULT ''); CREATE INDEX ON {quoted} (tenant_id);
             CREATE TABLE plain (tenant_id text NOT NULL DEFAULT ''); CREATE INDEX ON plain (tenant_id); SELECT pgvpd_protect('plain');
             CREATE TABLE {} (); CREATE TABLE \"n\u{1b}\" (); ALTER TABLE \"n\u{1b}\" ENABLE ROW LEVEL SECURITY; GRANT SELECT ON ALL TABLES IN SCHEMA public TO app_user",
            quoted.replace("a\u{1b}", "x\u{1b}")
        ))
        .await;
    let fit = |text: &str| text.chars().all(|c| c == '\n' || !(c.is_control() || c == '\u{202e}'));
    for form in [&["--format", "text"][..], &["--format", "json"], &["--format", "sarif"], &["--fix-sql"]] {
        let said = database.check(form);
        assert!(fit(&said.out), "{form:?}: {:?}", said.out);
        assert!(said.out.contains("A01"), "{form:?}: {}", said.out);
    }
    let text = database.check(&[]).out;
    assert!(text.contains("\\u{1b}[2J") && text.contains("\\n\\! b"), "{text}");
    let name = HOSTILE.replace("\"\"", "\"");
    let json: Value = serde_json::from_str(&database.check(&["--format", "json"]).out)?;
    let objects: Vec<_> =
        json["findings"].as_array().into_iter().flatten().filter_map(|found| found["object"].as_str()).collect();
    assert!(objects.iter().any(|object| object.replace("\"\"", "\"").contains(&name)), "{objects:?}");
    let sarif: Value = serde_json::from_str(&database.check(&["--format", "sarif"]).out)?;
    let texts = sarif["runs"][0]["results"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|result| result["message"]["text"].as_str());
    assert!(texts.filter(|text| text.contains("2J")).all(|text| text.contains("{{0}}")));

    // The fix names the right table, and the one that is only a comment stays a comment.
    let script = database.check(&["--fix-sql"]).out;
    assert!(
        script.contains(r#"(E'public."a\u001B[2J"#) && script.contains(r#"ALTER TABLE public.U&"n\001B" FORCE"#),
        "{script}"
    );
    database.execute(&script).await;
    let text = database.check(&[]).out;
    assert!(!text.contains("A01") && !text.contains("A03") && text.contains("A33"), "{text}");
    Ok(())
}
