//! The PROXY header of a load balancer, which says who the client is.
//!
//! Specification: HAProxy, "The PROXY protocol", versions 1 and 2.

use ppp::{HeaderResult, PartialResult, v1, v2};
use tokio::io::{AsyncRead, AsyncWrite};

use super::Ended;
use crate::address::ClientAddress;
use crate::config::ProxyProtocol;
use crate::error::Refusal;
use crate::net::Conn;
use crate::wire::SqlState;

/// The longest header: version 2 has 16 bytes and what a 16-bit length can say.
const MAX_HEADER: usize = 16 + 0xffff;

/// The longest line of version 1, its end included.
const MAX_LINE: usize = 107;

/// Where the client of a connection is. Reads and removes the header where there must be one.
pub(super) async fn client_address<S>(
    conn: &mut Conn<S>,
    peer: ClientAddress,
    proxy_protocol: &ProxyProtocol,
) -> Result<ClientAddress, Ended>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let networks = match (proxy_protocol, peer) {
        // A Unix socket is of this machine; balancers come over TCP.
        (ProxyProtocol::Off, _) | (_, ClientAddress::Unix) => return Ok(peer),
        (ProxyProtocol::Require(networks), _) => networks,
    };
    if !networks.iter().any(|network| network.contains(peer)) {
        return Err(Refusal::not_a_balancer().into());
    }
    loop {
        match header(conn.received()) {
            Header::Complete(claimed, size) => {
                conn.consume(size);
                return Ok(believed(claimed, peer));
            }
            Header::Incomplete if conn.received().len() < MAX_HEADER => {}
            Header::Incomplete | Header::Invalid => return Err(Refusal::no_proxy_header().into()),
        }
        if matches!(conn.fill().await, Ok(0) | Err(_)) {
            return Err(Ended::ClientGone);
        }
    }
}

/// A balancer elsewhere cannot speak for this machine: "loopback" would be its own, and the way from there is a network.
/// With no address, as for its health checks, the connection is the balancer's.
fn believed(claimed: Option<ClientAddress>, peer: ClientAddress) -> ClientAddress {
    match claimed {
        Some(claimed) if peer.is_local() || !claimed.is_local() => claimed,
        _ => peer,
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Header {
    /// The address, where the header gives one, and the header's size.
    Complete(Option<ClientAddress>, usize),
    Incomplete,
    Invalid,
}

/// The header at the front of `bytes`.
fn header(bytes: &[u8]) -> Header {
    let begins_well = |prefix: &[u8]| bytes.iter().zip(prefix).all(|(found, expected)| found == expected);
    if begins_well(v1::PROTOCOL_PREFIX.as_bytes()) {
        // The parser takes parts of a line for errors in it: it is given whole lines.
        if !bytes.iter().take(MAX_LINE).any(|&byte| byte == b'\n') {
            return if bytes.len() < MAX_LINE { Header::Incomplete } else { Header::Invalid };
        }
    } else if !begins_well(v2::PROTOCOL_PREFIX) {
        return Header::Invalid;
    }
    let result = HeaderResult::parse(bytes);
    if result.is_incomplete() && bytes.first() == v2::PROTOCOL_PREFIX.first() {
        return Header::Incomplete;
    }
    let (address, size) = match &result {
        HeaderResult::V1(Ok(header)) => {
            let address = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            (address, header.header.len())
        }
        HeaderResult::V2(Ok(header)) => {
            let address = match (header.command, header.addresses) {
                (v2::Command::Proxy, v2::Addresses::IPv4(addresses)) => Some(addresses.source_address.into()),
                (v2::Command::Proxy, v2::Addresses::IPv6(addresses)) => Some(addresses.source_address.into()),
                _ => None,
            };
            (address, header.len())
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => return Header::Invalid,
    };
    Header::Complete(address.map(ClientAddress::Ip), size)
}

impl Refusal {
    fn not_a_balancer() -> Self {
        let message = "this address may not connect over TCP";
        Self::new(SqlState::INVALID_AUTHORIZATION, message).hint(
            "proxy_protocol = require admits only the load balancers in proxy_protocol_from; connect through one.",
        )
    }

    fn no_proxy_header() -> Self {
        Self::new(SqlState::PROTOCOL_VIOLATION, "the connection does not begin with a valid PROXY header").hint(
            "Turn the PROXY protocol on in the load balancer (HAProxy: send-proxy-v2), or set proxy_protocol = off.",
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ip(text: &str) -> ClientAddress {
        ClientAddress::Ip(text.parse().expect("address"))
    }

    /// A version 2 header with this command and family, from 192.0.2.7 port 4660 to 192.0.2.1 port 5432.
    fn version_2(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(addresses.len()).expect("short").to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    const IPV4: &[u8] = &[192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 0x15, 0x38];

    #[test]
    fn both_versions_name_the_client_and_end_where_the_startup_packet_begins() {
        let mut with_tlv = IPV4.to_vec();
        with_tlv.extend([0x04, 0, 2, 9, 9]);
        let ipv6: Vec<u8> = [&[0x20, 1, 0xd, 0xb8][..], &[0; 11], &[1], &[0; 16], &[0, 1, 0, 2]].concat();
        for (bytes, address) in [
            (b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 5432\r\n".to_vec(), Some(ip("192.0.2.7"))),
            (b"PROXY TCP6 2001:db8::1 2001:db8::2 4660 5432\r\n".to_vec(), Some(ip("2001:db8::1"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (version_2(1, 0x11, IPV4), Some(ip("192.0.2.7"))),
            (version_2(1, 0x11, &with_tlv), Some(ip("192.0.2.7"))),
            (version_2(1, 0x21, &ipv6), Some(ip("2001:db8::1"))),
            (version_2(1, 0x31, &[b'/'; 216]), None),
            (version_2(0, 0x11, IPV4), None),
            (version_2(0, 0x00, &[]), None),
        ] {
            let size = bytes.len();
            for end in 0..size {
                assert_eq!(header(&bytes[..end]), Header::Incomplete, "{end} of {bytes:?}");
            }
            let followed = [&bytes[..], b"\0\0\0\x08\x04\xd2\x16\x2f"].concat();
            assert_eq!(header(&followed), Header::Complete(address, size), "{bytes:?}");
        }
    }

    #[test]
    fn what_is_not_a_header_is_known_from_its_first_bytes() {
        let long_line = [b"PROXY TCP4 ", &[b'1'; 200][..]].concat();
        for bytes in [
            &b"\0\0\0\x08"[..],
            b"P\0",
            b"PROXX",
            b"GET / HTTP/1.1",
            b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c",
            b"PROXY TCP4 300.0.2.7 192.0.2.1 4660 5432\r\n",
            b"PROXY TCP4 192.0.2.7 192.0.2.1 4660 99999\r\n",
            &version_2(1, 0x11, &IPV4[..8]),
            &long_line,
        ] {
            assert_eq!(header(bytes), Header::Invalid, "{bytes:?}");
        }
    }

    #[test]
    fn a_balancer_elsewhere_cannot_make_its_clients_local() {
        let (here, elsewhere, client) = (ip("127.0.0.1"), ip("192.0.2.1"), ip("192.0.2.7"));
        assert_eq!(believed(Some(client), elsewhere), client);
        assert_eq!(believed(Some(client), here), client);
        assert_eq!(believed(Some(here), here), here);
        assert_eq!(believed(Some(here), elsewhere), elsewhere);
        assert_eq!(believed(Some(ip("::ffff:127.0.0.1")), elsewhere), elsewhere);
        assert_eq!(believed(None, elsewhere), elsewhere);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic_or_take_more_than_there_is(
            version in 0_usize..3,
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let prefix: &[u8] = [&b""[..], b"PROXY ", v2::PROTOCOL_PREFIX][version];
            let bytes = [prefix, &bytes].concat();
            if let Header::Complete(_, size) = header(&bytes) {
                prop_assert!(size <= bytes.len());
            }
        }
    }
}
