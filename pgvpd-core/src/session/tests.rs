//! Whole sessions whose client comes from elsewhere than loopback: the address is given, the sockets are local.

use std::net::{IpAddr, Ipv4Addr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::address::ClientAddress;
use crate::config::{Config, Settings};
use crate::wire::{ErrorFields, TaggedFrames};

/// An address of the range kept for documentation (RFC 5737).
const ELSEWHERE: ClientAddress = ClientAddress::Ip(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));

/// Logs in as `user` from elsewhere, to a server that begins with these bytes. Gives SQLSTATE and hint of the refusal;
/// empty where there is none.
async fn login_from_elsewhere(user: &str, server_says: &[u8], options: &[(&str, &str)]) -> (String, String) {
    let server = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut settings = Settings::new();
    settings.set("upstream_port", server.local_addr().expect("bound").port()).expect("option");
    for (name, value) in options {
        settings.set(name, value).expect("option");
    }
    let shared = Arc::new(Shared::new(Config::from_settings(settings).expect("valid")));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (stream, _) = listener.accept().await.expect("accepted");
    let socket = Socket::accepted(stream, &crate::net::TcpTimes::default()).expect("socket options");
    tokio::spawn(serve(Accepted { socket, address: ELSEWHERE, door: Door::Main }, shared));

    let packet = crate::wire::StartupMessage {
        version: crate::wire::ProtocolVersion::V3_0,
        parameters: vec![("user".into(), user.into())],
    };
    client.write_all(&packet.encode().expect("short")).await.expect("sent");
    let answers = server_says.to_vec();
    tokio::spawn(async move {
        let (mut upstream, _) = server.accept().await.expect("the proxy connects");
        upstream.write_all(&answers).await.expect("sent");
        let mut rest = Vec::new();
        let _ = upstream.read_to_end(&mut rest).await;
    });

    let mut received = Vec::new();
    loop {
        let read = client.read_buf(&mut received).await.expect("read");
        let error = TaggedFrames::new(&received, 100_000).find(|frame| frame.tag == b'E');
        if let Some(frame) = error {
            let fields = ErrorFields::new(frame.body);
            let field = |kind| fields.field(kind).unwrap_or_default().into_owned();
            return (field(b'C'), field(b'H'));
        }
        if read == 0 || TaggedFrames::new(&received, 100_000).next().is_some() {
            return (String::new(), String::new());
        }
    }
}

const TRUST: &[u8] = b"R\0\0\0\x08\0\0\0\0";
const CLEARTEXT: &[u8] = b"R\0\0\0\x08\0\0\0\x03";
const MD5: &[u8] = b"R\0\0\0\x0c\0\0\0\x05salt";
const SCRAM: &[u8] = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";

#[tokio::test]
async fn a_remote_client_gets_neither_the_proxys_trust_nor_a_request_for_a_bare_password() {
    for (server_says, option) in [(TRUST, "allow_trust"), (CLEARTEXT, "allow_cleartext"), (MD5, "allow_cleartext")] {
        let (code, hint) = login_from_elsewhere("app_user.acme", server_says, &[]).await;
        assert_eq!(code, "28000", "{server_says:?}");
        assert!(hint.contains(option), "{hint}");
    }
    assert_eq!(login_from_elsewhere("app_user.acme", SCRAM, &[]).await.0, "", "SCRAM is relayed");
    assert_eq!(login_from_elsewhere("app_user.acme", CLEARTEXT, &[("allow_cleartext", "true")]).await.0, "");
}

#[tokio::test]
async fn a_bypass_user_from_elsewhere_is_refused_unless_its_network_is_listed() {
    let (code, hint) = login_from_elsewhere("postgres", SCRAM, &[]).await;
    assert_eq!(code, "28000");
    assert!(hint.contains("bypass_from"), "{hint}");
    assert_eq!(login_from_elsewhere("postgres", SCRAM, &[("bypass_from", "192.0.2.0/24")]).await.0, "");
    let (code, _) = login_from_elsewhere("postgres", TRUST, &[("bypass_from", "192.0.2.0/24")]).await;
    assert_eq!(code, "28000", "listed, and still no trust");
}
