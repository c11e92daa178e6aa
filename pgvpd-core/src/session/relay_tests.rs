use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::task::JoinHandle;

use super::*;
use crate::session::passthrough::BoundUpstream;

/// A relay between two in-memory pipes that hold `capacity` bytes each way.
struct Rig {
    client: DuplexStream,
    server: DuplexStream,
    relay: JoinHandle<RelayEnd>,
}

async fn relay_unwatched(client: Conn<DuplexStream>, upstream: BoundUpstream<DuplexStream>) -> RelayEnd {
    relay(client, upstream, &mut Unwatched::new(&Meter::default()), std::future::pending(), just_close).await
}

fn rig(capacity: usize) -> Rig {
    let (client, client_side) = duplex(capacity);
    let (server, upstream_side) = duplex(capacity);
    let upstream = BoundUpstream::for_tests(Conn::new(upstream_side));
    let relay = tokio::spawn(relay_unwatched(Conn::new(client_side), upstream));
    Rig { client, server, relay }
}

#[tokio::test]
async fn bytes_pass_unchanged_both_ways_and_large_ones_in_pieces() {
    let Rig { client, server, relay } = rig(1000);
    let data: Vec<u8> = (0..300_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let (mut from_client, mut to_client) = tokio::io::split(client);
    let (mut from_server, mut to_server) = tokio::io::split(server);
    let (sent, received) = (data.clone(), data.clone());
    // Both ends write everything before either reads: each direction must move by itself.
    let writers = tokio::spawn(async move {
        let (up, down) = tokio::join!(to_client.write_all(&sent), to_server.write_all(&sent));
        up.and(down).expect("written");
        to_server.shutdown().await.expect("ended");
    });
    let mut at_server = vec![0; received.len()];
    from_server.read_exact(&mut at_server).await.expect("at the server");
    let mut at_client = Vec::new();
    from_client.read_to_end(&mut at_client).await.expect("at the client");
    writers.await.expect("writers");
    assert!(at_server == received && at_client == received);
    drop(from_client);
    assert_eq!(relay.await.expect("relay"), RelayEnd::Upstream);
}

#[tokio::test]
async fn a_client_that_half_closes_still_gets_its_answer() {
    let Rig { mut client, mut server, relay } = rig(1000);
    client.write_all(b"query").await.expect("sent");
    client.shutdown().await.expect("half-closed");
    let mut query = Vec::new();
    server.read_to_end(&mut query).await.expect("end of stream is passed on");
    assert_eq!(query, b"query");
    server.write_all(b"answer").await.expect("sent");
    drop(server);
    let mut answer = Vec::new();
    client.read_to_end(&mut answer).await.expect("answer");
    assert_eq!(answer, b"answer");
    drop(client);
    assert_eq!(relay.await.expect("relay"), RelayEnd::Client, "which ended its stream first");
}

#[tokio::test]
async fn a_server_that_goes_closes_the_client_after_its_last_bytes() {
    let Rig { mut client, mut server, relay } = rig(1000);
    server.write_all(b"FATAL").await.expect("sent");
    drop(server);
    let mut last = Vec::new();
    client.read_to_end(&mut last).await.expect("closed");
    assert_eq!(last, b"FATAL");
    drop(client);
    assert_eq!(relay.await.expect("relay"), RelayEnd::Upstream);
}

#[tokio::test]
async fn what_a_slow_client_has_not_read_still_arrives_after_the_server_has_gone() {
    let Rig { mut client, mut server, relay } = rig(4);
    server.write_all(&[7; 10]).await.expect("taken by relay and pipes");
    drop(server);
    let mut all = Vec::new();
    client.read_to_end(&mut all).await.expect("closed");
    assert_eq!(all, [7; 10]);
    drop(client);
    assert_eq!(relay.await.expect("relay"), RelayEnd::Upstream);
}

#[tokio::test]
async fn a_client_that_vanishes_closes_the_server() {
    let Rig { client, mut server, relay } = rig(1000);
    drop(client);
    let mut rest = Vec::new();
    server.read_to_end(&mut rest).await.expect("closed");
    // The answer has nowhere to go.
    let _ = server.write_all(b"answer").await;
    assert_eq!(relay.await.expect("relay"), RelayEnd::Client);
}

#[tokio::test]
async fn what_the_login_left_over_goes_first() {
    let (mut client, client_side) = duplex(1000);
    let (mut server, upstream_side) = duplex(1000);
    let mut conn = Conn::new(client_side);
    client.write_all(b"held back").await.expect("sent");
    conn.fill().await.expect("read");
    conn.queue(b"ready");
    let relay = tokio::spawn(relay_unwatched(conn, BoundUpstream::for_tests(Conn::new(upstream_side))));
    let mut at_client = [0; 5];
    client.read_exact(&mut at_client).await.expect("ready");
    let mut at_server = [0; 9];
    server.read_exact(&mut at_server).await.expect("held back");
    assert_eq!((&at_client, &at_server), (b"ready", b"held back"));
    drop((client, server));
    relay.await.expect("relay");
}
