use proptest::prelude::*;

use super::*;
use crate::context::Injection;
use crate::tenant::IdentityRules;
use crate::wire::{TaggedFrames, WireError};

const LOCAL: Legs = Legs::LOCAL;
const REMOTE: Legs = Legs { client_is_local: false, ..LOCAL };

/// A tenant whose context is set by a statement.
fn tenant(user: &str) -> Who {
    tenant_with(user, false)
}

/// A tenant whose context is in the startup packet, too.
fn tenant_in_startup(user: &str) -> Who {
    tenant_with(user, true)
}

fn tenant_with(user: &str, context_in_startup: bool) -> Who {
    let rules = IdentityRules::for_tests(&["app.current_tenant_id"]);
    let identity = rules.identify(user).expect("valid");
    let injection = Injection::new(&identity, identity.role(), context_in_startup);
    Who::Tenant { identity, injection: injection.into() }
}

fn acme_in_startup() -> Login {
    machine(tenant_in_startup("app_user.acme"), LOCAL)
}

fn machine(who: Who, legs: Legs) -> Login {
    Login::new(who, legs, Negotiation { version: ProtocolVersion::V3_0, unknown_options: vec![] })
}

fn acme(legs: Legs) -> Login {
    machine(tenant("app_user.acme"), legs)
}

/// Feeds one message of the server's.
fn server(login: &mut Login, tag: u8, body: &[u8]) -> Result<Option<LoggedIn>, LoginEnd> {
    login.on_upstream(Frame { tag, body })
}

fn auth(login: &mut Login, code: i32, rest: &[u8]) -> Result<Option<LoggedIn>, LoginEnd> {
    server(login, tag::AUTHENTICATION, &[&code.to_be_bytes()[..], rest].concat())
}

fn reply(login: &mut Login, body: &[u8]) -> Result<(), LoginError> {
    login.on_client(Frame { tag: tag::PASSWORD, body })
}

fn tags(bytes: &[u8]) -> Vec<u8> {
    TaggedFrames::new(bytes, 100_000).map(|frame| frame.tag).collect()
}

fn row(columns: &[&[u8]]) -> Vec<u8> {
    let mut body = i16::try_from(columns.len()).expect("few").to_be_bytes().to_vec();
    for column in columns {
        body.extend(i32::try_from(column.len()).expect("short").to_be_bytes());
        body.extend(*column);
    }
    body
}

/// Logs in by trust, up to the server's first ReadyForQuery.
fn started(login: &mut Login) {
    auth(login, 0, &[]).expect("local trust");
    server(login, tag::PARAMETER_STATUS, b"server_encoding\0UTF8\0").expect("status");
    server(login, tag::BACKEND_KEY_DATA, b"\0\0\0\x07abcd").expect("key");
    assert!(server(login, tag::READY_FOR_QUERY, b"I").expect("ready").is_none());
}

/// The answers to an injection, with this row.
fn injected(login: &mut Login, row: &[u8]) -> Result<Option<LoggedIn>, LoginEnd> {
    server(login, tag::PARSE_COMPLETE, b"")?;
    server(login, tag::BIND_COMPLETE, b"")?;
    server(login, tag::DATA_ROW, row)?;
    server(login, tag::COMMAND_COMPLETE, b"SELECT 1\0")?;
    server(login, tag::READY_FOR_QUERY, b"I")
}

fn refused(result: Result<Option<LoggedIn>, LoginEnd>) -> LoginError {
    match result {
        Err(LoginEnd::Refused(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_scram_login_is_relayed_and_ready_only_after_the_context_is_confirmed() {
    let mut login = acme(REMOTE);
    auth(&mut login, 10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").expect("offer");
    assert_eq!(login.to_client.as_slice(), b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0");
    assert!(login.awaits_client());
    reply(&mut login, b"client-first").expect("taken");
    assert!(!login.awaits_client());
    auth(&mut login, 11, b"server-first").expect("challenge");
    reply(&mut login, b"client-final").expect("taken");
    assert_eq!(login.to_upstream.as_slice(), b"p\0\0\0\x10client-firstp\0\0\0\x10client-final");
    auth(&mut login, 12, b"server-final").expect("final");
    assert!(!login.awaits_client());
    login.to_upstream.clear();
    login.to_client.clear();
    started(&mut login);
    assert_eq!(tags(&login.to_upstream), b"PBES");
    assert_eq!(tags(&login.to_client), b"RSK", "ReadyForQuery is held back");
    let logged_in = injected(&mut login, &row(&[b"off", b"acme", b"app_user", b"off"])).expect("confirmed");
    let logged_in = logged_in.expect("ready");
    assert!(matches!(logged_in.permit, Permit::Context(..)));
    assert_eq!(logged_in.cancel_key.expect("key").pid, 7);
    assert_eq!(tags(&login.to_client), b"RSKZ");
}

#[test]
fn a_remote_client_inherits_no_trust_unless_that_is_allowed() {
    for who in [tenant("app_user.acme"), Who::Bypass] {
        assert!(matches!(refused(auth(&mut machine(who, REMOTE), 0, &[])), LoginError::Trust));
    }
    assert!(auth(&mut acme(LOCAL), 0, &[]).is_ok());
    assert!(auth(&mut acme(Legs { allow_trust: true, ..REMOTE }), 0, &[]).is_ok());
}

/// A SASLInitialResponse with this data.
fn scram_first(data: &str) -> Vec<u8> {
    let mut body = b"SCRAM-SHA-256\0".to_vec();
    body.extend(u32::try_from(data.len()).expect("short").to_be_bytes());
    body.extend(data.bytes());
    body
}

#[test]
fn a_proof_that_the_server_would_take_for_an_attack_is_not_relayed_to_it() {
    for (upstream_is_tls, data, is_relayed) in [
        (true, "y,,n=,r=abc", false),
        (true, "n,,n=,r=abc", true),
        (false, "y,,n=,r=abc", true),
        (false, "n,,n=,r=abc", true),
    ] {
        for who in [tenant("app_user.acme"), Who::Bypass] {
            let mut login = machine(who, Legs { client_is_tls: true, upstream_is_tls, ..LOCAL });
            auth(&mut login, 10, b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").expect("offer");
            match reply(&mut login, &scram_first(data)) {
                Ok(()) => assert!(is_relayed && !login.to_upstream.is_empty(), "{data} {upstream_is_tls}"),
                Err(LoginError::ChannelBinding) => assert!(!is_relayed && login.to_upstream.is_empty(), "{data}"),
                Err(other) => panic!("{other}"),
            }
        }
    }
}

#[test]
fn a_login_whose_proof_the_proxy_has_given_begins_behind_it_and_is_confirmed_as_any() {
    let mut login = acme(REMOTE).authenticated();
    assert!(auth(&mut machine(Who::Bypass, LOCAL).authenticated(), 0, &[]).is_err(), "nothing is asked twice");
    server(&mut login, tag::PARAMETER_STATUS, b"server_encoding\0UTF8\0").expect("status");
    assert!(server(&mut login, tag::READY_FOR_QUERY, b"I").expect("ready").is_none(), "the context is not set yet");
    let foreign = injected(&mut login, &row(&[b"off", b"globex", b"app_user", b"off"]));
    assert!(matches!(refused(foreign), LoginError::NotConfirmed));
}

#[test]
fn tls_is_a_safe_leg_for_a_password_and_gives_nobody_trust() {
    let tls = Legs { client_is_tls: true, upstream_is_tls: true, ..REMOTE };
    assert!(auth(&mut acme(tls), 3, &[]).is_ok());
    assert!(auth(&mut acme(Legs { upstream_is_local: false, ..tls }), 3, &[]).is_ok());
    assert!(auth(&mut acme(Legs { upstream_is_tls: false, ..tls }), 5, b"salt").is_ok());
    assert!(matches!(refused(auth(&mut acme(tls), 0, &[])), LoginError::Trust));
    let bare_server = Legs { upstream_is_local: false, upstream_is_tls: false, ..tls };
    assert!(matches!(refused(auth(&mut acme(bare_server), 3, &[])), LoginError::Cleartext));
}

#[test]
fn a_cleartext_password_crosses_only_safe_legs() {
    let remote_server = Legs { upstream_is_local: false, ..LOCAL };
    for legs in [REMOTE, remote_server] {
        let mut login = acme(legs);
        assert!(matches!(refused(auth(&mut login, 3, &[])), LoginError::Cleartext));
        assert!(login.to_client.is_empty(), "the password must not even be asked for");
        assert!(auth(&mut acme(Legs { allow_cleartext: true, ..legs }), 3, &[]).is_ok());
    }
    assert!(matches!(refused(auth(&mut acme(REMOTE), 5, b"salt")), LoginError::Cleartext));
    assert!(auth(&mut acme(remote_server), 5, b"salt").is_ok(), "only the hash crosses the server's leg");
    assert!(auth(&mut machine(Who::Bypass, REMOTE), 5, b"salt").is_ok(), "a bypass user's hash is relayed");
}

#[test]
fn md5_is_answered_for_the_role_and_not_for_the_name_the_client_typed() {
    let mut login = acme(LOCAL);
    auth(&mut login, 5, &[1, 2, 3, 4]).expect("request");
    assert_eq!(login.to_client.as_slice(), b"R\0\0\0\x08\0\0\0\x03", "the client is asked for its password");
    reply(&mut login, b"secret\0").expect("taken");
    let hashed = md5_password("app_user", b"secret", [1, 2, 3, 4]);
    assert_eq!(&login.to_upstream[5..login.to_upstream.len() - 1], hashed.as_bytes());
}

#[test]
fn one_reply_per_request_and_only_a_password_message() {
    let mut login = acme(LOCAL);
    assert!(matches!(reply(&mut login, b"early"), Err(LoginError::UnexpectedReply('p'))));
    auth(&mut login, 3, &[]).expect("request");
    assert!(matches!(refused(auth(&mut login, 3, &[])), LoginError::UpstreamProtocol(_)), "two requests at once");
    let mut login = acme(LOCAL);
    auth(&mut login, 3, &[]).expect("request");
    let query = Frame { tag: b'Q', body: b"select 1\0" };
    assert!(matches!(login.on_client(query), Err(LoginError::UnexpectedReply('Q'))));
    assert!(login.to_upstream.is_empty());
}

#[test]
fn methods_that_cannot_be_relayed_are_named() {
    for (code, rest) in [(7, &b""[..]), (9, b""), (2, b""), (10, b"SCRAM-SHA-256-PLUS\0\0"), (10, b"OAUTHBEARER\0\0")] {
        assert!(matches!(refused(auth(&mut acme(LOCAL), code, rest)), LoginError::Method(_)), "{code}");
    }
}

#[test]
fn superuser_rights_end_a_tenants_login_wherever_they_show() {
    let status = b"is_superuser\0on\0";
    assert!(matches!(refused(server(&mut acme(LOCAL), tag::PARAMETER_STATUS, status)), LoginError::Superuser));
    let mut login = acme(LOCAL);
    started(&mut login);
    assert!(matches!(refused(server(&mut login, tag::PARAMETER_STATUS, status)), LoginError::Superuser));
    for superuser in [[&b"on"[..], b"acme", b"app_user", b"off"], [b"off", b"acme", b"app_user", b"on"]] {
        let mut login = acme(LOCAL);
        started(&mut login);
        assert!(matches!(refused(injected(&mut login, &row(&superuser))), LoginError::Superuser));
    }
    assert!(server(&mut machine(Who::Bypass, LOCAL), tag::PARAMETER_STATUS, status).is_ok());
}

#[test]
fn nothing_but_the_exact_confirmation_makes_a_session() {
    let good = row(&[b"off", b"acme", b"app_user", b"off"]);
    for (message, body) in
        [(tag::READY_FOR_QUERY, &b"I"[..]), (tag::COMMAND_COMPLETE, b"SELECT 1\0"), (tag::DATA_ROW, &good), (b'G', b"")]
    {
        let mut login = acme(LOCAL);
        started(&mut login);
        assert!(server(&mut login, message, body).is_err(), "{}", char::from(message));
    }
    let mut login = acme(LOCAL);
    started(&mut login);
    let other = row(&[b"off", b"globex", b"app_user", b"off"]);
    assert!(matches!(refused(injected(&mut login, &other)), LoginError::NotConfirmed));
    for status in [&b"T"[..], b"E", b""] {
        let mut login = acme(LOCAL);
        started(&mut login);
        injected(&mut login, &good).expect("confirmed");
        let mut login = acme(LOCAL);
        auth(&mut login, 0, &[]).expect("trust");
        assert!(server(&mut login, tag::READY_FOR_QUERY, status).is_err(), "{status:?}");
    }
}

/// The answers to SHOW, with these values.
fn shown(login: &mut Login, values: &[&[u8]]) -> Result<Option<LoggedIn>, LoginEnd> {
    for value in values {
        server(login, tag::ROW_DESCRIPTION, b"")?;
        server(login, tag::DATA_ROW, &row(&[value]))?;
        server(login, tag::COMMAND_COMPLETE, b"SHOW\0")?;
    }
    server(login, tag::READY_FOR_QUERY, b"I")
}

#[test]
fn a_context_that_the_startup_packet_has_set_is_shown_and_not_set_again() {
    let mut login = acme_in_startup();
    started(&mut login);
    assert_eq!(tags(&login.to_upstream), b"Q");
    let logged_in = shown(&mut login, &[b"acme", b"app_user", b"off"]).expect("confirmed").expect("ready");
    assert!(matches!(logged_in.permit, Permit::Context(..)));
    assert_eq!(tags(&login.to_client), b"RSKZ");
}

#[test]
fn a_context_that_the_server_does_not_show_as_it_was_sent_is_set() {
    for values in [&[&b"globex"[..], b"app_user", b"off"][..], &[b"acme", b"none", b"off"], &[b"off"], &[]] {
        let mut login = acme_in_startup();
        started(&mut login);
        assert!(shown(&mut login, values).expect("to be set").is_none(), "{values:?}");
        assert_eq!(tags(&login.to_upstream), b"QPBES");
        assert_eq!(tags(&login.to_client), b"RSK");
        let good = row(&[b"off", b"acme", b"app_user", b"off"]);
        assert!(injected(&mut login, &good).expect("confirmed").is_some());
        // What was shown does not count a second time.
        let mut login = acme_in_startup();
        started(&mut login);
        shown(&mut login, values).expect("to be set");
        assert!(shown(&mut login, &[b"acme", b"app_user", b"off"]).is_err());
    }
}

#[test]
fn an_error_in_place_of_a_shown_value_is_not_the_clients() {
    let error = b"SFEHLER\0VERROR\0C42704\0Munrecognized configuration parameter\0\0";
    let mut login = acme_in_startup();
    started(&mut login);
    assert!(server(&mut login, tag::ERROR_RESPONSE, error).expect("goes on").is_none());
    assert!(server(&mut login, tag::READY_FOR_QUERY, b"I").expect("to be set").is_none());
    assert_eq!((tags(&login.to_upstream), tags(&login.to_client)), (b"QPBES".to_vec(), b"RSK".to_vec()));
    assert!(server(&mut login, tag::ERROR_RESPONSE, error).is_err(), "the statement's own error ends the login");

    let mut login = acme_in_startup();
    started(&mut login);
    let fatal = b"SFATAL\0VFATAL\0C57P01\0Mterminating\0\0";
    assert!(matches!(server(&mut login, tag::ERROR_RESPONSE, fatal), Err(LoginEnd::PassedOn(_))));
}

#[test]
fn a_superuser_that_shows_is_refused() {
    let mut login = acme_in_startup();
    started(&mut login);
    assert!(matches!(refused(shown(&mut login, &[b"acme", b"app_user", b"on"])), LoginError::Superuser));
}

#[test]
fn the_servers_own_error_is_passed_on_unchanged() {
    let body = b"SFATAL\0C28P01\0Mpassword authentication failed\0\0";
    let mut login = acme(LOCAL);
    assert!(matches!(server(&mut login, tag::ERROR_RESPONSE, body), Err(LoginEnd::PassedOn(_))));
    assert_eq!(&login.to_client[5..], body);
}

#[test]
fn a_pooler_that_refuses_the_startup_parameter_is_reported_with_its_remedy() {
    let body = b"SFATAL\0C08P01\0Munsupported startup parameter: app.current_tenant_id\0\0";
    let error = refused(server(&mut acme_in_startup(), tag::ERROR_RESPONSE, body));
    assert!(matches!(&error, LoginError::StartupParameterRefused(name) if name == "app.current_tenant_id"));
    let unrelated = b"SFATAL\0C08P01\0Munsupported startup parameter: extra_float_digits\0\0";
    assert!(matches!(server(&mut acme_in_startup(), tag::ERROR_RESPONSE, unrelated), Err(LoginEnd::PassedOn(_))));
}

#[test]
fn a_tenant_outside_ascii_needs_a_server_encoding_that_means_the_same_bytes() {
    for (encoding, fits) in [("UTF8", true), ("SQL_ASCII", true), ("LATIN1", false)] {
        let mut login = machine(tenant_in_startup("app_user.müller"), LOCAL);
        auth(&mut login, 0, &[]).expect("trust");
        let status = format!("server_encoding\0{encoding}\0");
        server(&mut login, tag::PARAMETER_STATUS, status.as_bytes()).expect("status");
        assert_eq!(server(&mut login, tag::READY_FOR_QUERY, b"I").is_ok(), fits, "{encoding}");
    }
}

#[test]
fn protocol_negotiation_is_answered_once_and_before_authentication() {
    let asks = |minor, unknown: &[&str]| {
        let unknown_options = unknown.iter().map(|name| (*name).to_owned()).collect();
        let negotiation = Negotiation { version: ProtocolVersion { major: 3, minor }, unknown_options };
        Login::new(tenant("app_user.acme"), LOCAL, negotiation)
    };
    // The server takes 3.2; the option it never saw is the proxy's to answer.
    let mut login = asks(9999, &["_pq_.x"]);
    auth(&mut login, 0, &[]).expect("trust");
    assert_eq!(login.to_client[..20], *b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    assert_eq!(tags(&login.to_client), b"vR");
    // The server takes 3.0.
    let mut login = asks(2, &[]);
    server(&mut login, tag::NEGOTIATE_PROTOCOL_VERSION, b"\0\x03\0\0\0\0\0\0").expect("negotiation");
    auth(&mut login, 0, &[]).expect("trust");
    assert_eq!(login.to_client[..13], *b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0");
    assert_eq!(tags(&login.to_client), b"vR");
    // Nothing to negotiate.
    let mut login = asks(2, &[]);
    auth(&mut login, 0, &[]).expect("trust");
    assert_eq!(tags(&login.to_client), b"R");
    let second = server(&mut login, tag::NEGOTIATE_PROTOCOL_VERSION, b"\0\x03\0\0\0\0\0\0");
    assert!(matches!(refused(second), LoginError::UpstreamProtocol(WireError::Malformed('v'))));
}

proptest! {
    #[test]
    fn no_sequence_of_server_messages_without_the_confirming_row_gives_a_session(
        messages in prop::collection::vec(
            (
                prop_oneof![
                    Just(b'R'), Just(b'S'), Just(b'K'), Just(b'Z'), Just(b'1'), Just(b'2'), Just(b'D'), Just(b'C'), Just(b'T'),
                    Just(b'E'), any::<u8>()
                ],
                prop_oneof![
                    Just(vec![0; 4]), Just(b"I".to_vec()), Just(b"\0\0\0\x07abcd".to_vec()), Just(vec![]),
                    Just(row(&[b"off", b"globex", b"app_user", b"off"])), Just(row(&[b"on", b"acme", b"app_user", b"off"])),
                    Just(row(&[b"globex"])), Just(row(&[b"app_user"])), Just(row(&[b"off"])), Just(row(&[b"acme", b"acme"])),
                    Just(b"VERROR\0\0".to_vec()), prop::collection::vec(any::<u8>(), 0..40),
                ],
            ),
            0..40,
        ),
        in_startup in any::<bool>(),
    ) {
        let mut login = machine(tenant_with("app_user.acme", in_startup), LOCAL);
        for (tag, body) in messages {
            match login.on_upstream(Frame { tag, body: &body }) {
                Ok(None) => {}
                Ok(Some(_)) => prop_assert!(false, "a session without confirmation"),
                Err(_) => break,
            }
        }
    }
}

/// A tenant whose context is signed with two keys.
fn signed() -> Login {
    let mut settings = crate::config::Settings::new();
    for (name, value) in [
        ("context_signing_key", "00".repeat(32)),
        ("context_key_id", "new".into()),
        ("context_previous_signing_key", "11".repeat(32)),
        ("context_previous_key_id", "old".into()),
    ] {
        settings.set(name, value).expect("an option");
    }
    let config = crate::config::Config::from_settings(settings).expect("valid");
    let Who::Tenant { identity, injection } = tenant_in_startup("app_user.acme") else { panic!("a tenant") };
    let injection = Injection::clone(&injection).signed(config.signing.as_ref(), "shop", "app_user");
    machine(Who::Tenant { identity, injection: injection.into() }, LOCAL)
}

const FACTS: &[u8] = b"(7,1700000000000000,42)";

/// The token in what the proxy has sent last.
fn token(login: &mut Login) -> String {
    let sent = String::from_utf8_lossy(&login.to_upstream).into_owned();
    login.to_upstream.clear();
    let start = sent.rfind("v1.").expect("a token");
    sent[start..].split(|c: char| !c.is_ascii_alphanumeric() && c != '.').next().unwrap_or_default().to_owned()
}

#[test]
fn a_signed_login_is_ready_when_the_database_has_verified_what_was_signed_for_its_backend() {
    let mut login = signed();
    started(&mut login);
    let attached = injected(&mut login, &row(&[b"off", b"acme", b"app_user", FACTS, b"off"])).expect("attached");
    assert!(attached.is_none(), "not ready without a signature");
    let signed = token(&mut login);
    assert!(signed.starts_with("v1.new.7.1700000000000000.42.0.73686f70.6170705f75736572."), "{signed}");
    let logged_in = injected(&mut login, &row(&[b"off", signed.as_bytes(), b"on", b"off"])).expect("verified");
    assert!(matches!(logged_in.expect("ready").permit, Permit::Context(_, Some(_))));
}

#[test]
fn a_database_that_does_not_verify_is_tried_with_each_key_and_then_refused() {
    let mut login = signed();
    started(&mut login);
    injected(&mut login, &row(&[b"off", b"acme", b"app_user", FACTS, b"off"])).expect("attached");
    for key in ["v1.new.", "v1.old."] {
        let signed = token(&mut login);
        assert!(signed.starts_with(key), "{signed}");
        let unverified = injected(&mut login, &row(&[b"off", signed.as_bytes(), b"", b"off"]));
        match key {
            "v1.new." => assert!(unverified.expect("the next key").is_none()),
            _ => assert!(matches!(refused(unverified), LoginError::NotVerified)),
        }
    }
}

#[test]
fn another_token_than_the_one_that_was_sent_and_facts_that_are_none_end_the_login() {
    let mut login = signed();
    started(&mut login);
    let none = injected(&mut login, &row(&[b"off", b"acme", b"app_user", b"(7,0,0)", b"off"]));
    assert!(matches!(refused(none), LoginError::NoFacts));
    let mut login = signed();
    started(&mut login);
    injected(&mut login, &row(&[b"off", b"acme", b"app_user", FACTS, b"off"])).expect("attached");
    let other = injected(&mut login, &row(&[b"off", b"v1.new.7", b"on", b"off"]));
    assert!(matches!(refused(other), LoginError::NotConfirmed));
    let mut login = signed();
    started(&mut login);
    let missing = server(&mut login, tag::ERROR_RESPONSE, b"SERROR\0C42883\0Mno function\0\0");
    assert!(matches!(refused(missing), LoginError::NotInstalled));
}

#[test]
fn a_role_that_policies_cannot_hold_is_refused_before_its_context_is_set_or_warned_of() {
    let fault = row(&[b"", b"public.orders"]);
    for (check, answer, is_refused) in [
        (RoleCheck::Refuse, &fault, true),
        (RoleCheck::Refuse, &row(&[b"boss", b""]), true),
        (RoleCheck::Warn, &fault, false),
        (RoleCheck::Refuse, &row(&[b"", b""]), false),
    ] {
        let mut login = acme(LOCAL).checking(Some(check));
        started(&mut login);
        let checked = injected(&mut login, answer);
        if is_refused {
            assert!(matches!(refused(checked), LoginError::Role(_)));
            continue;
        }
        assert!(checked.expect("the context is next").is_none());
        let logged_in = injected(&mut login, &row(&[b"off", b"acme", b"app_user", b"off"])).expect("confirmed");
        assert!(logged_in.is_some());
    }
    let mut login = acme(LOCAL).checking(Some(RoleCheck::Warn));
    started(&mut login);
    assert!(matches!(refused(injected(&mut login, &row(&[b"x"]))), LoginError::UpstreamProtocol(_)));
}
