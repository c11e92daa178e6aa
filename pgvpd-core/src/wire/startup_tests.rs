use super::*;
use proptest::prelude::*;

fn packet(code: i32, body: &[u8]) -> Vec<u8> {
    let mut bytes = i32::try_from(body.len() + 8).expect("small").to_be_bytes().to_vec();
    bytes.extend(code.to_be_bytes());
    bytes.extend(body);
    bytes
}

fn startup(body: &[u8]) -> Result<StartupMessage, WireError> {
    match first_packet(&packet(196_608, body))? {
        Parsed::Complete(FirstPacket::Startup(message), _) => Ok(message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn parameters_are_read_in_order() {
    let message = startup(b"user\0app_user.acme\0database\0mydb\0\0").expect("valid");
    assert_eq!(message.version, ProtocolVersion::V3_0);
    assert_eq!(message.parameter("user"), Some("app_user.acme"));
    assert_eq!(message.parameter("database"), Some("mydb"));
    assert_eq!(message.parameter("User"), None);
}

#[test]
fn lengths_outside_8_to_10000_are_refused_from_four_bytes() {
    for length in [0_i32, 4, 7, -1, 10_001, i32::MAX, i32::MIN] {
        assert_eq!(first_packet(&length.to_be_bytes()), Err(WireError::StartupLength(length)));
    }
    for length in [8_i32, 10_000] {
        assert_eq!(first_packet(&length.to_be_bytes()), Ok(Parsed::Incomplete));
    }
}

#[test]
fn requests_of_fixed_length_are_recognised() {
    assert_eq!(first_packet(&packet(SSL_REQUEST, b"")), Ok(Parsed::Complete(FirstPacket::SslRequest, 8)));
    assert_eq!(first_packet(&packet(GSSENC_REQUEST, b"")), Ok(Parsed::Complete(FirstPacket::GssEncRequest, 8)));
    assert_eq!(first_packet(&packet(SSL_REQUEST, b"x")), Err(WireError::StartupLength(9)));
}

#[test]
fn cancel_keys_of_4_to_256_bytes_are_read_and_written_back() {
    for size in [4, 32, 256] {
        let bytes = packet(CANCEL_REQUEST, &[&[0, 0, 1, 0][..], &vec![7; size]].concat());
        let Ok(Parsed::Complete(FirstPacket::Cancel(request), _)) = first_packet(&bytes) else { panic!("{size}") };
        assert_eq!((request.key.pid, request.key.secret.len()), (256, size));
        let mut out = Vec::new();
        request.encode(&mut out);
        assert_eq!(out, bytes);
    }
    for size in [0, 3, 257] {
        assert!(first_packet(&packet(CANCEL_REQUEST, &vec![7; size + 4])).is_err(), "{size}");
    }
}

#[test]
fn other_protocols_are_named() {
    assert_eq!(first_packet(b"GET / HTTP/1.1\r\n"), Err(WireError::HttpRequest));
    assert_eq!(first_packet(&[0x16, 3, 1, 2, 0, 1]), Err(WireError::TlsClientHello));
}

#[test]
fn major_versions_other_than_3_are_refused_and_higher_minors_are_not() {
    assert_eq!(first_packet(&packet(0x2_0000, b"")), Err(WireError::ProtocolVersion { major: 2, minor: 0 }));
    let Ok(Parsed::Complete(FirstPacket::Startup(message), _)) = first_packet(&packet(0x3_270f, b"user\0u\0\0")) else {
        panic!("3.9999 must parse")
    };
    assert_eq!(message.version, ProtocolVersion { major: 3, minor: 9999 });
}

#[test]
fn layouts_that_do_not_add_up_are_refused() {
    let layout = Err(WireError::StartupLayout);
    for body in [&b"user\0u\0"[..], b"user\0u", b"user", b"", b"user\0u\0\0x", b"user\0u\0\0\0", b"user\0"] {
        assert_eq!(startup(body), layout, "{body:?}");
    }
}

#[test]
fn values_the_contract_forbids_are_refused() {
    assert_eq!(startup(b"database\0d\0\0"), Err(WireError::MissingUser));
    assert_eq!(startup(b"user\0\0\0"), Err(WireError::MissingUser));
    assert_eq!(startup(b"user\0a\0user\0b\0\0"), Err(WireError::DuplicateParameter("user".into())));
    assert_eq!(startup(b"user\0a\0A-b\0x\0a_B\0y\0\0"), Err(WireError::DuplicateParameter("a_B".into())));
    assert_eq!(startup(b"user\0a\xff\0\0"), Err(WireError::StartupEncoding));
    assert_eq!(startup(b"user\0a\nb\0\0"), Err(WireError::ControlCharacter("user".into())));
    assert_eq!(startup("user\0a\u{85}b\0\0".as_bytes()), Err(WireError::ControlCharacter("user".into())));
}

#[test]
fn a_packet_has_at_most_as_many_parameters_as_clients_need() {
    let body = |count: usize| {
        let names: String = (1..count).map(|number| format!("x{number}\0\0")).collect();
        format!("user\0u\0{names}\0")
    };
    let most = startup(body(MAX_STARTUP_PARAMETERS).as_bytes()).expect("valid");
    assert_eq!(most.parameters.len(), MAX_STARTUP_PARAMETERS);
    assert_eq!(startup(body(MAX_STARTUP_PARAMETERS + 1).as_bytes()), Err(WireError::TooManyParameters));
}

#[test]
fn a_packet_over_the_limit_is_not_built() {
    let mut message = startup(b"user\0u\0\0").expect("valid");
    message.parameters.push(("x".into(), "y".repeat(MAX_STARTUP_PACKET)));
    assert_eq!(message.encode(), None);
}

/// What a reader sees that gets the bytes in pieces: the result at the first point where it is not `Incomplete`.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> Result<Parsed<FirstPacket>, WireError> {
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    for end in ends {
        match first_packet(&bytes[..end]) {
            Ok(Parsed::Incomplete) => {}
            decided => return decided,
        }
    }
    Ok(Parsed::Incomplete)
}

proptest! {
    #[test]
    fn any_bytes_split_anywhere_give_the_same_result_as_in_one_piece(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        prop_assert_eq!(in_pieces(&bytes, &cuts), first_packet(&bytes));
    }

    #[test]
    fn startup_like_bytes_split_anywhere_give_the_same_result_and_never_read_past_their_length(
        code in prop_oneof![
            Just(196_608), Just(196_610), Just(SSL_REQUEST), Just(GSSENC_REQUEST), Just(CANCEL_REQUEST), any::<i32>()
        ],
        body in prop::collection::vec(prop_oneof![Just(0_u8), Just(b'u'), Just(b'=' ), any::<u8>()], 0..80),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        let mut bytes = packet(code, &body);
        let size = bytes.len();
        let alone = first_packet(&bytes);
        bytes.extend(&behind);
        let with_more = first_packet(&bytes);
        prop_assert_eq!(&alone, &with_more);
        prop_assert_eq!(in_pieces(&bytes, &cuts), with_more);
        if let Ok(Parsed::Complete(_, taken)) = alone {
            prop_assert_eq!(taken, size);
        }
    }

    #[test]
    fn a_message_written_reads_back_the_same(
        user in "[^\\p{Cc}]{1,20}",
        others in prop::collection::btree_map("[a-z]{1,8}x", "[^\\p{Cc}]{0,20}", 0..5),
        minor in 0_u16..4,
    ) {
        let mut parameters = vec![("user".to_owned(), user)];
        parameters.extend(others);
        let message = StartupMessage { version: ProtocolVersion { major: 3, minor }, parameters };
        let bytes = message.encode().expect("short");
        prop_assert_eq!(first_packet(&bytes), Ok(Parsed::Complete(FirstPacket::Startup(message), bytes.len())));
    }
}
