//! Resets and what follows them as a stream of bytes: in pieces, long, a great deal of it, and ended.

use super::setups::{assert_as_on_ones_own, own_connection, setups};
use super::simple::{INSERT, ROWS};
use crate::support::script::{Write, bind, execute, extended, flush, in_pieces, parse, query, sync, write};

#[tokio::test]
async fn the_pieces_in_which_requests_arrive_do_not_matter() {
    let messages = [
        query("RESET ALL"),
        query(ROWS),
        query("BEGIN"),
        extended("RESET ALL"),
        extended(INSERT),
        sync(),
        query("SELECT 1; RESET ALL"),
        extended(ROWS),
        flush(),
        sync(),
        query("ROLLBACK"),
        query(ROWS),
    ];
    let scripts: Vec<(String, Vec<Write>)> =
        [1, 3, 64].map(|size| (format!("pieces of {size}"), vec![in_pieces(size, &messages)])).into();
    assert_as_on_ones_own(&scripts).await;
}

/// Longer than what is read whole: a reset at its end is still seen.
#[tokio::test]
async fn a_reset_in_a_long_text_is_seen() {
    let filler = format!("/* {} */", "x".repeat(200_000));
    let reset = format!("SELECT 1; {filler} RESET ALL");
    let prepared = [parse("long", &format!("{filler} RESET ALL")), sync()];
    let run = [bind("", "long"), execute(""), sync(), query(ROWS)];
    assert_as_on_ones_own(&[
        ("a Query".into(), vec![write(&[query(&reset), query(ROWS)])]),
        ("a Parse".into(), vec![write(&prepared), write(&run)]),
        ("none".into(), vec![write(&[query(&format!("SELECT 1 {filler}")), query(ROWS)])]),
    ])
    .await;
}

/// More than is kept while it waits.
#[tokio::test]
async fn a_great_deal_after_a_reset_is_answered_in_order() {
    let mut messages = vec![query("SELECT pg_sleep(0.2); RESET ALL")];
    for number in 0..300 {
        messages.push(query(&format!("SELECT {number}, current_tenant_id() /* {} */", "x".repeat(1000))));
        if number % 100 == 0 {
            messages.push(query("DISCARD ALL"));
        }
    }
    assert_as_on_ones_own(&[("300 kB".into(), vec![write(&messages)])]).await;
}

#[tokio::test]
async fn what_waits_is_answered_to_a_client_that_has_ended_its_stream() {
    let script = [write(&[query("DISCARD ALL"), query(ROWS), query("RESET ALL"), extended(ROWS), sync()])];
    let expected = own_connection().await.play(&script).await;
    for setup in setups(&[]).await {
        let mut client = setup.log_in().await;
        client.write(&script[0]).await;
        client.half_close().await;
        assert_eq!(client.answers(&script[0]).await, expected, "{}", setup.name);
    }
}
