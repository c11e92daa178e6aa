use super::*;
use crate::tenant::IdentityRules;
use crate::wire::TaggedFrames;

fn injection(user: &str, variables: &[&str]) -> Injection {
    let rules = IdentityRules::for_tests(variables);
    let identity = rules.identify(user).expect("valid");
    Injection::new(&identity, identity.role(), true)
}

#[test]
fn values_are_bound_and_never_part_of_the_statement() {
    let injection = injection("app.x'; drop table t--:y", &["app.a", "app.b"]);
    let mut out = Vec::new();
    injection.request(None, &mut out);
    let parse = TaggedFrames::new(&out, 10_000).next().expect("Parse").body.to_vec();
    let statement = String::from_utf8_lossy(&parse).into_owned();
    assert!(!statement.contains("drop"), "{statement}");
    let tags: Vec<u8> = TaggedFrames::new(&out, 10_000).map(|frame| frame.tag).collect();
    assert_eq!(tags, b"PBES");
    for placeholder in 1..=6 {
        assert!(statement.contains(&format!("${placeholder}")), "${placeholder}");
    }
}

#[test]
fn only_the_exact_values_of_a_session_without_superuser_rights_are_confirmed() {
    let injection = injection("app.acme", &["app.current_tenant_id"]);
    let off = Some(&b"off"[..]);
    let (acme, app) = (Some(&b"acme"[..]), Some(&b"app"[..]));
    assert!(matches!(injection.confirm(&[off, acme, app, off], None), Ok(Outcome::Confirmed(_))));
    for row in [
        &[off, Some(b"globex"), app, off][..],
        &[off, acme, Some(b"postgres"), off],
        &[off, acme, None, off],
        &[off, acme, off],
        &[off, acme, app, off, off],
        &[None, acme, app, off],
        &[],
    ] {
        assert_eq!(injection.confirm(row, None).err(), Some(InjectionError::NotConfirmed), "{row:?}");
    }
    for row in [[Some(&b"on"[..]), acme, app, off], [off, acme, app, Some(b"on")]] {
        assert_eq!(injection.confirm(&row, None).err(), Some(InjectionError::Superuser), "{row:?}");
    }
}

#[test]
fn only_the_login_role_goes_as_a_startup_parameter() {
    let rules = IdentityRules::for_tests(&["app.current_tenant_id"]);
    let identity = rules.identify("app.acme").expect("valid");
    let names = |role: &str, in_startup| {
        let parameters = Injection::new(&identity, role, in_startup).startup_parameters();
        parameters.into_iter().map(|(name, _)| name).collect::<Vec<_>>()
    };
    assert_eq!(names("app", true), ["app.current_tenant_id", "role"]);
    assert_eq!(names("reporting", true), ["app.current_tenant_id"]);
    assert!(names("app", false).is_empty());
    let asks = |role: &str, in_startup, user: &str| {
        let identity = rules.identify(user).expect("valid");
        Injection::new(&identity, role, in_startup).show(&mut Vec::new()).is_some()
    };
    assert!(asks("app", true, "app.acme"));
    for (role, in_startup, user) in
        [("app", false, "app.acme"), ("reporting", true, "app.acme"), ("app", true, "app.müller")]
    {
        assert!(!asks(role, in_startup, user), "{role} {in_startup} {user}");
    }
}

#[test]
fn shown_values_are_confirmed_only_when_each_is_the_one_that_was_sent() {
    let injection = injection("app.acme:", &["app.current_tenant_id", "app.user"]);
    let mut out = Vec::new();
    injection.show(&mut out).expect("all of it is in the startup packet");
    assert_eq!(
        &out[5..],
        b"SHOW \"app\".\"current_tenant_id\"; SHOW \"app\".\"user\"; SHOW \"role\"; SHOW is_superuser\0"
    );
    let confirm = |rows: &[&str]| {
        let rows: Vec<Vec<u8>> = rows.iter().map(|row| row.as_bytes().to_vec()).collect();
        injection.confirm_shown(&rows).err()
    };
    assert_eq!(confirm(&["acme", "", "app", "off"]), None);
    for rows in [
        &["globex", "", "app", "off"][..],
        &["acme", "", "none", "off"],
        &["acme", "x", "app", "off"],
        &["acme", "app", "off"],
        &["acme", "", "", "app", "off"],
        &["off"],
        &[],
    ] {
        assert_eq!(confirm(rows), Some(InjectionError::NotConfirmed), "{rows:?}");
    }
    assert_eq!(confirm(&["acme", "", "app", "on"]), Some(InjectionError::Superuser));
}

/// As [`injection`], signed with one key, or two.
fn signed(mode: &str, keys: usize) -> Injection {
    let mut settings = crate::config::Settings::new();
    let key = "00".repeat(32);
    let all = [
        ("context_signing", mode),
        ("context_signing_key", &key),
        ("context_key_id", "2"),
        ("context_previous_signing_key", &key),
        ("context_previous_key_id", "1"),
    ];
    for (name, value) in &all[..1 + 2 * keys] {
        settings.set(name, value).expect("an option");
    }
    let config = crate::config::Config::from_settings(settings).expect("valid");
    injection("app.acme", &["app.current_tenant_id"]).signed(config.signing.as_ref(), "shop", "app")
}

#[test]
fn a_signed_context_is_confirmed_only_when_the_database_has_verified_it() {
    let injection = signed("require", 2);
    let (off, acme, app) = (Some(&b"off"[..]), Some(&b"acme"[..]), Some(&b"app"[..]));
    assert!(injection.show(&mut Vec::new()).is_none() && injection.can_be_lost());
    // Its settings alone are no confirmation.
    assert_eq!(injection.confirm(&[off, acme, app, off], None).err(), Some(InjectionError::NotConfirmed));
    assert_eq!(injection.confirm(&[off, acme, app, Some(b"(7,0,0)"), off], None).err(), Some(InjectionError::NoFacts));
    let attached = injection.confirm(&[off, acme, app, Some(b"(7,1700000000000000,42)"), off], None);
    let Ok(Outcome::Attached(facts)) = attached else { panic!("{attached:?}") };
    let tokens = injection.signature().expect("signed").tokens(facts);
    let [previous, current] = tokens.as_slice() else { panic!("two keys") };
    assert!(current.text().starts_with("v1.2.7.1700000000000000.42.0.") && previous.text().starts_with("v1.1.7."));
    assert!(current.is_nonce_bound());
    let text = Some(current.text().as_bytes());
    assert!(matches!(injection.confirm_signed(&[off, text, Some(b"on"), off], current), Ok(Outcome::Confirmed(_))));
    for verified in [None, Some(&b""[..]), Some(b"acme")] {
        let outcome = injection.confirm_signed(&[off, text, verified, off], current);
        assert!(matches!(outcome, Ok(Outcome::Unverified)), "{verified:?} {outcome:?}");
    }
    let other = Some(previous.text().as_bytes());
    for row in [&[off, other, Some(b"on"), off][..], &[off, text, off], &[off, text, Some(b"on"), off, off], &[]] {
        assert_eq!(injection.confirm_signed(row, current).err(), Some(InjectionError::NotConfirmed), "{row:?}");
    }
    let superuser = injection.confirm_signed(&[off, text, Some(b"on"), Some(b"on")], current);
    assert_eq!(superuser.err(), Some(InjectionError::Superuser));
}

#[test]
fn a_preferred_signature_asks_only_that_the_tenant_is_read() {
    let injection = signed("prefer", 1);
    let facts = Facts { pid: 7, backend_start: 1, nonce: 0 };
    let tokens = injection.signature().expect("signed").tokens(facts);
    let [token] = tokens.as_slice() else { panic!("one key") };
    let off = Some(&b"off"[..]);
    let confirm = |verified| injection.confirm_signed(&[off, Some(token.text().as_bytes()), verified, off], token);
    assert!(matches!(confirm(Some(&b"acme"[..])), Ok(Outcome::Confirmed(_))));
    assert!(matches!(confirm(None), Ok(Outcome::Unverified)));
}

#[test]
fn what_is_put_back_is_confirmed_only_with_its_echo_and_has_its_name() {
    let injection = injection("app.acme", &["app.current_tenant_id"]);
    let (echo, other) = (Echo::new(), Echo::new());
    let mut out = Vec::new();
    injection.restore(None, &echo, &mut out);
    let parse = TaggedFrames::new(&out, 10_000).next().expect("Parse").body.to_vec();
    assert!(parse.starts_with(echo.name().as_bytes()));
    let (off, mine) = (Some(&b"off"[..]), Some(echo.text().as_bytes()));
    let (theirs, context) = (Some(other.text().as_bytes()), [off, Some(&b"acme"[..]), Some(b"app"), off]);
    let confirmed = |first, last| {
        let row = [&[first][..], &context, &[last]].concat();
        injection.confirm_restored(&row, None, &echo).is_ok()
    };
    assert!(confirmed(mine, mine));
    assert!(
        !confirmed(mine, theirs) && !confirmed(theirs, mine) && !confirmed(theirs, theirs) && !confirmed(None, None)
    );
    assert!(injection.confirm_restored(&context, None, &echo).is_err());

    let facts = Some(&b"(7,1700000000000000,42)"[..]);
    assert!(Injection::attached(&[mine, off, facts, off, mine], &echo).is_ok());
    assert!(Injection::attached(&[theirs, off, facts, off, theirs], &echo).is_err());
    assert!(Injection::attached(&[off, facts, off], &echo).is_err());
}
