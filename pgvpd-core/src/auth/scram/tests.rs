//! RFC 7677's test vector, PostgreSQL's own verifiers, and what must be refused.

use proptest::prelude::*;

use super::*;

/// RFC 7677, section 3; its client sends the user name in the message.
const CLIENT_FIRST: &str = "n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
const SERVER_FIRST: &str = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
const CLIENT_FINAL: &str =
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
const SERVER_FINAL: &str = "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=";
const SALT: &[u8] = &[0x5b, 0x6d, 0x99, 0x68, 0x9d, 0x12, 0x35, 0x8e, 0xec, 0xa0, 0x4b, 0x14, 0x12, 0x36, 0xfa, 0x81];

fn pencil() -> Keys {
    Keys::derive(b"pencil", SALT, 4096)
}

fn challenge() -> Challenge {
    let verifier = Verifier::of(&pencil(), SALT.to_vec(), 4096);
    let nonce = Nonce("%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into());
    Challenge::new(CLIENT_FIRST.as_bytes(), verifier, &nonce, &Offer::Plain).expect("RFC 7677")
}

#[test]
fn the_server_agrees_with_rfc_7677() {
    let challenge = challenge();
    assert_eq!(challenge.message(), SERVER_FIRST);
    let proved = challenge.judge(CLIENT_FINAL.as_bytes()).expect("the right proof");
    assert_eq!(proved.message, SERVER_FINAL);
    assert_eq!(proved.client_key.0, pencil().client.0, "the key that the proof gives away");
}

/// A whole exchange of this client's and this server's keys.
fn exchange(keys: &Keys, verifier: &Verifier) -> Result<Proved, ScramError> {
    let first = ClientFirst::new(Nonce::new([1; 18]), Binding::None);
    let challenge = Challenge::new(first.message().as_bytes(), verifier.clone(), &Nonce::new([2; 18]), &Offer::Plain)?;
    let challenged = first.challenged(challenge.message().as_bytes())?;
    assert!(verifier.is_twin_of(&challenged.salt, challenged.iterations));
    let signed = challenged.prove(keys);
    let proved = challenge.judge(signed.message.as_bytes())?;
    signed.judge(proved.message.as_bytes())?;
    Ok(proved)
}

#[test]
fn the_right_password_opens_and_another_does_not() {
    let salt = b"0123456789abcdef";
    let verifier = Verifier::of(&Keys::derive("pässwörd".as_bytes(), salt, 2), salt.to_vec(), 2);
    assert!(exchange(&Keys::derive("pässwörd".as_bytes(), salt, 2), &verifier).is_ok());
    for wrong in ["passwörd", "", "pässwörd "] {
        let keys = Keys::derive(wrong.as_bytes(), salt, 2);
        assert_eq!(exchange(&keys, &verifier).map(drop), Err(ScramError::Proof), "{wrong}");
    }
}

/// An exchange on a channel whose two ends have these hashes of the server's certificate.
fn exchange_over(client: Binding, offer: &Offer) -> Result<(), ScramError> {
    let (keys, salt) = (Keys::derive(b"secret", b"salt", 1), b"salt".to_vec());
    let first = ClientFirst::new(Nonce::new([1; 18]), client);
    let challenge =
        Challenge::new(first.message().as_bytes(), Verifier::of(&keys, salt, 1), &Nonce::new([2; 18]), offer)?;
    let signed = first.challenged(challenge.message().as_bytes())?.prove(&keys);
    let proved = challenge.judge(signed.message.as_bytes())?;
    signed.judge(proved.message.as_bytes())
}

#[test]
fn a_proof_is_bound_to_the_channel_and_nobody_can_take_that_away() {
    let hash = |byte: u8| -> std::sync::Arc<[u8]> { std::sync::Arc::from([byte; 32]) };
    let (plain, both, bound) = (Offer::Plain, Offer::PlainOfBoth, Offer::Bound(hash(7)));
    for (client, offer, expected) in [
        (Binding::EndPoint(hash(7)), &bound, Ok(())),
        (Binding::EndPoint(hash(8)), &bound, Err(ScramError::OtherChannel)),
        (Binding::None, &both, Ok(())),
        (Binding::None, &plain, Ok(())),
        (Binding::NotOffered, &plain, Ok(())),
        (Binding::NotOffered, &both, Err(ScramError::Downgraded)),
        (Binding::None, &bound, Err(ScramError::ChannelBinding)),
        (Binding::NotOffered, &bound, Err(ScramError::ChannelBinding)),
        (Binding::EndPoint(hash(7)), &both, Err(ScramError::ChannelBinding)),
        (Binding::EndPoint(hash(7)), &plain, Err(ScramError::ChannelBinding)),
    ] {
        assert_eq!(exchange_over(client.clone(), offer), expected, "{client:?} {offer:?}");
    }
}

#[test]
fn a_recovered_key_logs_in_where_the_same_verifier_is() {
    let salt = b"0123456789abcdef";
    let verifier = Verifier::of(&Keys::derive(b"secret", salt, 2), salt.to_vec(), 2);
    let proved = exchange(&Keys::derive(b"secret", salt, 2), &verifier).expect("the right password");
    let keys = Keys::recovered(proved.client_key, &verifier);
    assert!(exchange(&keys, &verifier).is_ok());
}

#[test]
fn passwords_are_prepared_as_postgresql_does_it() {
    let keys = |password: &[u8]| Keys::derive(password, b"salt", 1).client.0;
    assert_eq!(keys("I\u{ad}X".as_bytes()), keys(b"IX"), "RFC 4013: a soft hyphen is nothing");
    assert_eq!(keys("\u{2168}".as_bytes()), keys(b"IX"), "RFC 4013: compatibility characters");
    assert_eq!(keys("a\u{a0}b".as_bytes()), keys(b"a b"), "RFC 4013: other spaces");
    assert_ne!(keys(b"a\x07b"), keys(b"ab"), "what is prohibited is taken as it is");
    assert_ne!(keys(b"\xff"), keys(b""), "so is what is not UTF-8");
    assert_ne!(keys("\u{ad}".as_bytes()), keys(b""), "and what would leave nothing");
}

#[test]
fn a_verifier_of_postgresql_reads_back() {
    // CREATE ROLE … PASSWORD 'pencil', PostgreSQL 15, with the salt of RFC 7677.
    let text = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    assert_eq!(*Verifier::of(&pencil(), SALT.to_vec(), 4096).to_text(), text);
    assert_eq!(*Verifier::parse(text).expect("a verifier").to_text(), text);
    for bad in [
        "",
        "md5d41d8cd98f00b204e9800998ecf8427e",
        "SCRAM-SHA-256$0:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7Bke:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=",
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=",
    ] {
        assert_eq!(Verifier::parse(bad).map(drop), Err(VerifierError), "{bad}");
    }
}

#[test]
fn a_decoy_opens_to_none() {
    let decoy = Verifier::decoy(vec![1; 16], 4096, [2; 32], [3; 32]);
    let keys = Keys::derive(b"secret", decoy.salt(), 4096);
    assert!(!decoy.fits(&keys));
    assert_eq!(exchange(&keys, &decoy).map(drop), Err(ScramError::Proof));
}

#[test]
fn a_client_message_that_does_not_belong_here_is_refused() {
    let verifier = Verifier::of(&pencil(), SALT.to_vec(), 4096);
    let first = |message: &str| {
        Challenge::new(message.as_bytes(), verifier.clone(), &Nonce::new([0; 18]), &Offer::Plain).map(drop)
    };
    assert_eq!(first("y,,n=,r=abc"), Ok(()), "it can do channel binding, and was not offered any");
    assert_eq!(first("n,,n=,r=abc,x=whatever"), Ok(()), "extensions are ignored");
    assert_eq!(first("p=tls-server-end-point,,n=,r=abc"), Err(ScramError::ChannelBinding));
    let bound = Offer::Bound(std::sync::Arc::from([7; 32]));
    for other in ["p=tls-unique,,n=,r=abc", "p=tls-server-end-pointless,,n=,r=abc", "p=,,n=,r=abc"] {
        let refused = Challenge::new(other.as_bytes(), verifier.clone(), &Nonce::new([0; 18]), &bound).map(drop);
        assert_eq!(refused, Err(ScramError::ChannelBinding), "{other}");
    }
    for bad in [
        "",
        "n",
        "n,,",
        "n,a=admin,n=,r=abc",
        "n,,m=must,n=,r=abc",
        "n,,r=abc,n=",
        "n,,n=,r=",
        "n,,n=,r=a b",
        "n,,n=,r=abc,",
    ] {
        assert!(matches!(first(bad), Err(ScramError::Malformed(_))), "{bad}");
    }
    let last = |message: &str| challenge().judge(message.as_bytes()).map(drop);
    assert_eq!(last(&CLIENT_FINAL.replace("c=biws", "c=eSws")), Err(ScramError::ChannelBinding), "y,, now, n,, before");
    assert_eq!(last(&CLIENT_FINAL.replace("hNlF$k0", "hNlF$k1")), Err(ScramError::Nonce));
    assert_eq!(last(&CLIENT_FINAL.replace("dHzb", "dHzc")), Err(ScramError::Proof));
    for bad in ["", "c=biws", "c=biws,p=AAAA", "c=biws,r=x", "p=AAAA"] {
        assert!(last(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused() {
    let first = || ClientFirst::new(Nonce("rOprNGfwEbeRWgbNEkqO".into()), Binding::None);
    let challenged = |message: &str| first().challenged(message.as_bytes());
    assert!(challenged(SERVER_FIRST).is_ok());
    for (message, error) in [
        ("r=rOprNGfwEbeRWgbNEkqO,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ScramError::Nonce),
        ("r=another,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096", ScramError::Nonce),
        ("r=rOprNGfwEbeRWgbNEkqOx,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4000000000", ScramError::Iterations(4_000_000_000)),
    ] {
        assert_eq!(challenged(message).map(drop), Err(error), "{message}");
    }
    for bad in [
        "",
        "r=rOprNGfwEbeRWgbNEkqOx",
        "m=must,r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=1",
        "r=rOprNGfwEbeRWgbNEkqOx,s=AAAA,i=0",
    ] {
        assert!(challenged(bad).is_err(), "{bad}");
    }
    let signed = challenged(SERVER_FIRST).expect("a challenge").prove(&pencil());
    let other = SERVER_FINAL.replace("6rri", "6rrj");
    assert_eq!(signed.judge(other.as_bytes()), Err(ScramError::Signature));
    assert!(signed.judge(b"e=invalid-proof").is_err());
}

#[test]
fn nothing_shows_a_secret() {
    let verifier = Verifier::of(&pencil(), SALT.to_vec(), 4096);
    let shown = format!("{:?} {:?} {:?}", pencil(), verifier, challenge());
    assert!(!shown.contains("WG5d8o") && !shown.contains("wfPL") && !shown.contains("stored_key"), "{shown}");
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..80), text in "[nycrspim=,a-z0-9]{0,60}") {
        for message in [message.as_slice(), text.as_bytes()] {
            let verifier = Verifier::decoy(vec![1; 16], 1, [2; 32], [3; 32]);
            for offer in [Offer::Plain, Offer::PlainOfBoth, Offer::Bound(std::sync::Arc::from([7; 32]))] {
                let _ = Challenge::new(message, verifier.clone(), &Nonce::new([0; 18]), &offer);
            }
            let challenge = Challenge::new(b"n,,n=,r=abc", verifier, &Nonce::new([0; 18]), &Offer::Plain);
            prop_assert!(challenge.expect("a first message").judge(message).is_err());
            prop_assert!(ClientFirst::new(Nonce::new([0; 18]), Binding::None).challenged(message).is_err());
        }
        let _ = Verifier::parse(&text);
    }

    #[test]
    fn every_password_opens_its_own_verifier(password in ".{1,20}", salt in proptest::collection::vec(any::<u8>(), 1..30)) {
        let keys = Keys::derive(password.as_bytes(), &salt, 1);
        prop_assert!(exchange(&keys, &Verifier::of(&keys, salt, 1)).is_ok());
    }
}
