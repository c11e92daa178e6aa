use proptest::prelude::*;

use super::*;

/// As a pool's session loses: what `DISCARD SEQUENCES` takes only where it is signed.
fn loss(is_signed: bool) -> impl Fn(&Reset<'_>) -> Loss {
    move |reset| match reset {
        Reset::All | Reset::Setting(None) => Loss::UntilRollback,
        Reset::Setting(Some(name)) if name == "app.current_tenant_id" => Loss::UntilRollback,
        Reset::Everything => Loss::ForGood,
        Reset::Sequences if is_signed => Loss::ForGood,
        _ => Loss::None,
    }
}

fn found(text: &str) -> Summary {
    summarize(text.as_bytes(), loss(true))
}

#[test]
fn resets_are_found_however_they_are_written() {
    for (text, reset) in [
        ("RESET ALL", Reset::All),
        ("rEsEt\n/**/all", Reset::All),
        ("RESET ROLE", Reset::Role),
        ("RESET \"role\"", Reset::Role),
        ("RESET SESSION AUTHORIZATION", Reset::Role),
        ("SET SESSION AUTHORIZATION DEFAULT", Reset::Role),
        ("SET LOCAL SESSION AUTHORIZATION 'app_user'", Reset::Role),
        ("SET SESSION SESSION AUTHORIZATION DEFAULT", Reset::Role),
        ("SET ROLE TO DEFAULT", Reset::Role),
        ("RESET work_mem", Reset::Setting(Some("work_mem".into()))),
        ("RESET App.\"Current_tenant_id\"", Reset::Setting(Some("app.current_tenant_id".into()))),
        ("RESET \"app.x\"", Reset::Setting(Some("app.x".into()))),
        ("RESET U&\"app\\002ex\"", Reset::Setting(None)),
        ("RESET TIME ZONE", Reset::Setting(Some("timezone".into()))),
        ("SET TIME ZONE DEFAULT", Reset::Setting(Some("timezone".into()))),
        ("SET SESSION app.x TO DEFAULT", Reset::Setting(Some("app.x".into()))),
        ("SET LOCAL app.x = DEFAULT", Reset::Setting(Some("app.x".into()))),
        ("DISCARD ALL", Reset::Everything),
        ("discard sequences", Reset::Sequences),
    ] {
        for text in [text.to_owned(), format!(";;{text};"), format!("SELECT $$;$$, ';', \";\"; /*;*/ {text} -- x")] {
            let mut resets = Vec::new();
            let read = each(text.as_bytes(), |statement| match statement {
                Statement::Reset(reset, _) => resets.push(reset),
                other => assert_eq!(other, Statement::Other, "{text}"),
            });
            assert_eq!((read, resets), (Ok(()), vec![reset.clone()]), "{text}");
            assert!(may_reset(text.as_bytes()), "{text}");
        }
    }
}

#[test]
fn what_is_none_is_not_taken_for_one() {
    for text in [
        "SELECT reset, \"reset\" FROM discard",
        "SELECT '; RESET ALL; '",
        "SELECT E'\\'; RESET ALL;'",
        "SELECT $reset$; RESET ALL; $reset$",
        "-- ; RESET ALL;",
        "/* /* */ ; RESET ALL; */",
        "INSERT INTO t VALUES (DEFAULT)",
        "ALTER TABLE t ALTER c SET DEFAULT 1",
        "ALTER ROLE r RESET ALL",
        "SET default_tablespace = ''",
        "DISCARD PLANS; DISCARD TEMP",
        "COMMENT ON TABLE t IS 'reset'",
    ] {
        assert!(!found(text).resets, "{text}");
    }
}

#[test]
fn a_query_is_cut_off_where_what_follows_needs_what_is_gone() {
    let npgsql = "SET SESSION AUTHORIZATION DEFAULT;RESET ALL;CLOSE ALL;UNLISTEN *;SELECT pg_advisory_unlock_all();\
                  DISCARD SEQUENCES;DISCARD TEMP";
    for (text, is_cut_off) in [
        ("RESET ALL; SELECT * FROM t", true),
        ("RESET ALL;;SELECT", false),
        ("RESET ALL", false),
        ("SELECT * FROM t; RESET ALL;", false),
        (npgsql, false),
        ("SELECT pg_advisory_unlock_all();\nCLOSE ALL;\nUNLISTEN *;\nRESET ALL;", false),
        ("RESET ALL; SELECT pg_catalog.pg_advisory_unlock_all(); SELECT 1, 'x'", false),
        ("RESET ALL; SELECT f()", true),
        ("RESET ALL; SELECT pg_advisory_unlock_all() FROM t", true),
        ("BEGIN; RESET ALL; COMMIT", false),
        ("BEGIN; RESET ALL; COMMIT; TABLE t", true),
        ("BEGIN; RESET ALL; ROLLBACK; TABLE t", false),
        ("BEGIN; RESET ALL; ROLLBACK TO a; TABLE t", true),
        ("RESET ALL; COMMIT; ROLLBACK; TABLE t", true),
        ("DISCARD SEQUENCES; ROLLBACK; TABLE t", true),
        ("RESET ALL; SHOW work_mem; SHOW ALL", false),
        ("RESET ALL; SHOW app.current_tenant_id", true),
        ("RESET ALL; SET app.x = 1; SET CONSTRAINTS ALL IMMEDIATE", true),
        ("RESET work_mem; TABLE t", false),
        ("RESET ROLE; TABLE t", false),
        ("SET app.current_tenant_id TO DEFAULT; TABLE t", true),
        ("RESET ALL; SELECT * FROM t WHERE 'no end", false),
    ] {
        assert_eq!(found(text).is_cut_off, is_cut_off, "{text}");
    }
    assert!(!summarize(b"DISCARD SEQUENCES; TABLE t", loss(false)).is_cut_off);
    assert!(!summarize(b"RESET ALL; TABLE t", |_| Loss::None).is_cut_off);
}

#[test]
fn a_query_is_neutral_where_nothing_in_it_needs_the_context() {
    for (text, is_neutral) in [
        ("", true),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; set local lock_timeout = 1", true),
        ("SHOW TRANSACTION ISOLATION LEVEL; SHOW transaction_read_only", true),
        ("SAVEPOINT a; RELEASE a; ROLLBACK TO a; ROLLBACK; RESET ALL; BEGIN", true),
        ("SET app.x = '1'", false),
        ("SET \"app.x\" = '1'", false),
        ("SHOW work_mem", false),
        // Its deferred triggers run.
        ("COMMIT", false),
        ("PREPARE TRANSACTION 'x'", false),
        ("SET CONSTRAINTS ALL IMMEDIATE", false),
        ("SELECT * FROM t", false),
        ("SET work_mem = '1'; 'no end", false),
    ] {
        assert_eq!(found(text).is_neutral, is_neutral, "{text}");
    }
}

#[test]
fn what_is_not_utf8_is_not_read_and_what_is_silent_is_said() {
    let unread = summarize(b"SELECT '\x83\x5c'; RESET ALL; TABLE t", loss(true));
    assert_eq!(unread, Summary::UNREAD);
    assert!(!summarize(b"SELECT '\x83'", loss(true)).resets);
    assert!(found("SET SESSION AUTHORIZATION DEFAULT").is_silent);
    assert!(!found("RESET ROLE").is_silent);
}

/// A statement, and what it counts as.
fn statement() -> impl Strategy<Value = (&'static str, bool)> {
    prop_oneof![
        Just(("SELECT 'a''b', E'\\';', $q$ ; RESET ALL; $q$", false)),
        Just(("UPDATE t SET \"reset\"\" all\" = 1", false)),
        Just(("RESET ALL", true)),
        Just(("DISCARD ALL", true)),
        Just(("reset  work_mem", true)),
        Just(("SET x TO DEFAULT", true)),
        Just(("", false)),
    ]
}

/// What may stand anywhere between two tokens.
fn blank() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just(" "),
        Just("\n"),
        Just("/* ; RESET ALL; /* ' */ $$ */"),
        Just("-- '; RESET ALL;\n"),
        Just("\t\r\n ")
    ]
}

proptest! {
    #[test]
    fn every_reset_among_other_statements_is_found(
        statements in prop::collection::vec((blank(), statement(), blank()), 0..8),
        sizes in prop::collection::vec(1_usize..40, 1..6),
    ) {
        let text: String = statements.iter().map(|(before, (sql, _), after)| format!("{before}{sql}{after};")).collect();
        let mut resets = 0;
        prop_assert_eq!(each(text.as_bytes(), |it| resets += usize::from(matches!(it, Statement::Reset(..)))), Ok(()));
        prop_assert_eq!(resets, statements.iter().filter(|(_, (_, is_reset), _)| *is_reset).count());
        // The same words in pieces.
        let (mut finder, mut rest) = (Finder::default(), text.as_bytes());
        for size in sizes.iter().cycle() {
            let (piece, after) = rest.split_at(rest.len().min(*size));
            finder.look(piece);
            rest = after;
            if rest.is_empty() { break }
        }
        prop_assert_eq!(finder.has_found(), may_reset(text.as_bytes()));
    }
}
