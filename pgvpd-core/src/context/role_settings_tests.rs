use proptest::prelude::*;

use super::*;

fn key(role: &str) -> SettingsKey {
    let upstream = UpstreamAddress { host: "h".into(), port: 1, tls: None, tcp: crate::net::TcpTimes::default() };
    SettingsKey { upstream, database: "shop".into(), role: role.into() }
}

fn session(known: &Arc<RoleSettings>, chosen: &[&str]) -> SessionSettings {
    SessionSettings::new(known, key("app_user"), chosen.iter().copied())
}

/// A record of a survey, with a default of `d`.
fn record(name: &str, value: &str, lower: Option<&str>, is_own: bool) -> String {
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let lower = lower.map_or("-".to_owned(), hex);
    format!("{}:{}:{}:{lower}:{}:", hex(name), hex(value), hex("d"), if is_own { "own" } else { "" })
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn what_a_role_sets_is_undone_with_what_the_server_said_before() {
    let known = Arc::default();
    let mut first = session(&known, &[]);
    assert!(first.noted("1/"), "nothing is known yet");
    let survey = [record("DateStyle", "ISO", None, false), record("work_mem", "4", Some("4"), false)].join(" ");
    assert_eq!(first.surveyed(&survey), Some(vec![]));
    assert!(!session(&known, &[]).noted("1/"), "as it was");

    let mut second = session(&known, &[]);
    assert!(second.noted("1/hash"));
    let survey = [record("DateStyle", "German", None, true), record("work_mem", "1", Some("7"), true)].join(" ");
    let undone = vec![pair("DateStyle", "ISO"), pair("work_mem", "7")];
    assert_eq!(second.surveyed(&survey), Some(undone.clone()));

    let mut third = session(&known, &[]);
    assert!(undone.iter().all(|pin| third.pins().contains(pin)), "the startup packet says so: {:?}", third.pins());
    assert!(!third.noted("1/hash"), "and nothing is left to do");
    assert!(third.noted("2/hash"), "but where the server reads its configuration again");
    let mut choosing = session(&known, &["datestyle"]);
    assert!(choosing.pins().iter().all(|(name, _)| name != "DateStyle"), "a client's own choice stays");
    assert!(!choosing.noted("1/hash"));

    assert!(!session(&known, &[]).noted("1/"), "the role has taken it back");
    assert!(session(&known, &[]).pins().iter().all(|(name, _)| name == "exit_on_error"));
}

#[test]
fn a_setting_that_was_never_seen_is_undone_with_the_default() {
    let known = Arc::default();
    let mut session = session(&known, &[]);
    assert!(session.noted("1/hash"));
    assert_eq!(session.surveyed(&record("DateStyle", "German", None, true)), Some(vec![pair("DateStyle", "d")]));
}

#[test]
fn a_login_that_a_limit_has_ended_is_followed_by_one_with_a_pin() {
    let known = Arc::default();
    assert!(!session(&known, &[]).ended_by("28P01"));
    assert!(session(&known, &[]).ended_by("57P05"));
    assert!(session(&known, &[]).pins().contains(&pair("idle_session_timeout", "0")));
}

proptest! {
    #[test]
    fn no_answer_is_too_odd(note in ".{0,40}", survey in "[0-9a-f: -]{0,80}|.{0,40}") {
        let known = Arc::default();
        let mut session = session(&known, &[]);
        session.noted(&note);
        let _ = session.surveyed(&survey);
    }
}
