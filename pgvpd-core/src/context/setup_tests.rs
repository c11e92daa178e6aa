use proptest::prelude::*;

use super::*;
use crate::config::{Config, Settings};
use crate::tenant::IdentityRules;
use crate::wire::TaggedFrames;

const FACTS: &[u8] = b"(7,1700000000000000,42)";
const ATTACH_FUNCTION: u32 = 16_400;
const VERIFIER: u32 = 16_401;

/// The context of a tenant, signed with two keys or plain.
fn injection(is_signed: bool) -> Arc<Injection> {
    let identity = IdentityRules::for_tests(&["app.current_tenant_id"]).identify("app_user.acme").expect("valid");
    let mut settings = Settings::new();
    for (name, value) in [
        ("context_signing_key", "00".repeat(32)),
        ("context_key_id", "new".into()),
        ("context_previous_signing_key", "11".repeat(32)),
        ("context_previous_key_id", "old".into()),
    ] {
        settings.set(name, value).expect("an option");
    }
    let config = Config::from_settings(settings).expect("valid");
    let preferences = vec![("TimeZone".to_owned(), "UTC".to_owned())];
    let injection = Injection::on_pooled(&identity, identity.role(), preferences);
    Arc::new(injection.signed(config.signing.as_ref().filter(|_| is_signed), "shop", "app_user"))
}

/// A model of the server: answers FunctionCall messages, and the statement that asks for facts.
struct Model {
    /// Id of the key that the database verifies.
    key: &'static str,
    context: Vec<u8>,
}

impl Model {
    fn knowing(key: &'static str) -> Self {
        Self { key, context: Vec::new() }
    }

    fn answer(&mut self, messages: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut answers = Vec::new();
        for frame in TaggedFrames::new(messages, 100_000) {
            match frame.tag {
                tag::FUNCTION_CALL => {
                    answers.push((tag::FUNCTION_CALL_RESPONSE, value(&self.call(frame.body))));
                    answers.push((tag::READY_FOR_QUERY, b"I".to_vec()));
                }
                tag::PARSE => answers.push((tag::PARSE_COMPLETE, Vec::new())),
                tag::BIND => answers.push((tag::BIND_COMPLETE, Vec::new())),
                tag::EXECUTE => {
                    let (attach, verifier) = (ATTACH_FUNCTION.to_string(), VERIFIER.to_string());
                    let mut row = 3_u16.to_be_bytes().to_vec();
                    for column in [FACTS, attach.as_bytes(), verifier.as_bytes()] {
                        row.extend(value(column));
                    }
                    answers.push((tag::DATA_ROW, row));
                    answers.push((tag::COMMAND_COMPLETE, b"SELECT 1\0".to_vec()));
                }
                tag::SYNC => answers.push((tag::READY_FOR_QUERY, b"I".to_vec())),
                other => panic!("{}", char::from(other)),
            }
        }
        answers
    }

    /// The result of a call, by the function's number and its arguments.
    fn call(&mut self, body: &[u8]) -> Vec<u8> {
        let function = u32::from_be_bytes(*body.first_chunk().expect("a number"));
        let mut rest = &body[8..];
        let mut arguments = Vec::new();
        while let Some((length, more)) = rest.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            arguments.push(more[..length].to_vec());
            rest = &more[length..];
        }
        match function {
            VERIFIER if String::from_utf8_lossy(&self.context).starts_with(&format!("v1.{}.", self.key)) => {
                b"on".to_vec()
            }
            VERIFIER => Vec::new(),
            3294 => b"off".to_vec(),
            2078 => {
                if arguments[0] == b"pgvpd.context" {
                    self.context.clone_from(&arguments[1]);
                }
                arguments[1].clone()
            }
            _ => arguments[0].clone(),
        }
    }
}

fn value(value: &[u8]) -> Vec<u8> {
    [&u32::try_from(value.len()).expect("short").to_be_bytes()[..], value].concat()
}

/// Runs a setup against a server; `change` sees each answer before it is handed in.
fn run(
    (mut setup, first): (ContextSetup, ToSend),
    server: &mut Model,
    mut change: impl FnMut(usize, &mut (u8, Vec<u8>)),
) -> Result<ContextSetup, SetupError> {
    let (mut answers, mut count) = (server.answer(&first.messages), 0);
    loop {
        let mut next = None;
        for mut answer in std::mem::take(&mut answers) {
            change(count, &mut answer);
            count += 1;
            match setup.on(Frame { tag: answer.0, body: &answer.1 })? {
                Progress::More => {}
                Progress::Send(request) => next = Some(request),
                Progress::Confirmed(_) => return Ok(setup),
            }
        }
        answers = server.answer(&next.expect("something to send, or an end").messages);
    }
}

#[test]
fn a_lease_is_set_up_with_the_key_that_the_database_knows() {
    for (key, known) in [("new", None), ("old", None), ("old", Some(ATTACH_FUNCTION))] {
        let attachment = known.map(|attach| Attachment {
            facts: Facts::parse(FACTS).expect("facts"),
            attach: Function(attach),
            verifier: Function(VERIFIER),
        });
        let mut server = Model::knowing(key);
        let setup = run(ContextSetup::on_lease(&injection(true), attachment), &mut server, |_, _| {}).expect(key);
        assert_eq!(setup.attachment().expect("attached").verifier, Function(VERIFIER));
        let (tokens, notices) = setup.into_parts();
        assert!(tokens.last().expect("signed").text().starts_with(&format!("v1.{key}.")) && notices.is_empty());
    }
    let mut server = Model::knowing("another");
    let error = run(ContextSetup::on_lease(&injection(true), None), &mut server, |_, _| {}).expect_err("no such key");
    assert_eq!(error, SetupError::Context(InjectionError::NotVerified));
    run(ContextSetup::on_lease(&injection(false), None), &mut Model::knowing(""), |_, _| {}).expect("plain");
}

/// Answers that a setup takes, of whichever kind.
fn answers_of(is_signed: bool) -> usize {
    let mut all = 0;
    let begun = ContextSetup::on_lease(&injection(is_signed), None);
    run(begun, &mut Model::knowing("new"), |count, _| all = count + 1).expect("confirmed");
    all
}

#[test]
fn a_value_that_differs_in_any_answer_is_not_confirmed() {
    for is_signed in [true, false] {
        for at in 0..answers_of(is_signed) {
            // What the client asked for is PostgreSQL's to write in its own way: the third call's result, with an echo before it.
            let mut is_free = false;
            let begun = ContextSetup::on_lease(&injection(is_signed), None);
            let outcome = run(begun, &mut Model::knowing("new"), |count, (tag, body)| {
                if count == at {
                    is_free = body.ends_with(b"UTC") || *tag == tag::COMMAND_COMPLETE || body.is_empty();
                    *body = match *tag {
                        tag::READY_FOR_QUERY => b"T".to_vec(),
                        tag::DATA_ROW => [&1_u16.to_be_bytes()[..], &value(b"(0,0,0)")].concat(),
                        _ => value(b"other"),
                    };
                }
            });
            assert!(outcome.is_err() || is_free, "{at} {is_signed}");
        }
    }
}

#[test]
fn an_error_is_refused_once_every_answer_has_come() {
    let begun = ContextSetup::on_lease(&injection(false), None);
    let outcome = run(begun, &mut Model::knowing(""), |count, answer| {
        // The call that sets the tenant: an echo, is_superuser and TimeZone come before it.
        if count == 6 {
            *answer = (tag::ERROR_RESPONSE, b"SERROR\0C42501\0Mno\0\0".to_vec());
        }
    });
    assert!(matches!(outcome, Err(SetupError::Refused(body)) if body.starts_with(b"SERROR")));
}

proptest! {
    /// Whatever a server sends, a context that it has not confirmed value by value is not in force.
    #[test]
    fn no_other_sequence_of_messages_confirms(
        messages in proptest::collection::vec((prop::sample::select(b"123CDEISTVZn".to_vec()), 0..4_u8), 0..40),
        is_signed: bool,
    ) {
        let (mut setup, _) = ContextSetup::on_lease(&injection(is_signed), None);
        for (tag, kind) in messages {
            let body = match (tag, kind) {
                (b'Z', _) => b"I".to_vec(),
                (b'V', 0) => value(b"off"),
                (b'V', 1) => value(b"acme"),
                (b'V', 2) => value(b"app_user"),
                (b'D', _) => [&1_u16.to_be_bytes()[..], &value(FACTS)].concat(),
                _ => value(b"on"),
            };
            match setup.on(Frame { tag, body: &body }) {
                Ok(Progress::Confirmed(_)) => prop_assert!(false, "confirmed without an echo"),
                Ok(_) => {}
                Err(_) => break,
            }
        }
    }
}
