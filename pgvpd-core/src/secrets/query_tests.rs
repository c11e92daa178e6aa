use std::future::Future;
use std::task::{Context, Waker};

use super::super::fake::{FakeServer, Reply, answer};
use super::*;

const MD5: &str = "md5d41d8cd98f00b204e9800998ecf8427e";

async fn ask(asker: &Asker, config: &Config, role: &str) -> Result<Option<Secret>, QueryError> {
    let query = config.secrets.query.as_ref().expect("auth_user is set");
    let question = Question { role, query, config, credentials: Credentials::default() };
    asker.ask(&question, &Deriver::new()).await
}

fn is_md5(answer: Result<Option<Secret>, QueryError>) -> bool {
    matches!(answer, Ok(Some(Secret::Md5(digest))) if *digest == MD5)
}

#[tokio::test]
async fn the_question_is_put_by_the_proxys_own_role_with_its_own_settings_and_the_name_bound() {
    let server = FakeServer::with(&[("o'neil; --", MD5)]).await;
    let config = server.config(&[("auth_query", "SELECT a, b FROM f($1)")]);
    assert!(is_md5(ask(&Asker::default(), &config, "o'neil; --").await));
    assert_eq!(server.questions(), [("SELECT a, b FROM f($1)".into(), "o'neil; --".into())]);
    let startup = server.startups().remove(0);
    let of = |name| startup.parameter(name);
    assert_eq!((of("user"), of("database"), of("search_path")), (Some("asker"), Some("a"), Some("pg_catalog")));
}

#[tokio::test]
async fn no_row_and_no_verifier_open_nothing() {
    let server = FakeServer::with(&[]).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    assert!(matches!(ask(&asker, &config, "nobody").await, Ok(None)));
    for row in [[None, None], [Some("r"), None], [Some("r"), Some("")]] {
        server.answer_with(move |_| answer(&[&row]));
        assert!(matches!(ask(&asker, &config, "r").await, Ok(None)), "{row:?}");
    }
    assert_eq!(server.startups().len(), 1, "one connection for all questions");
}

#[tokio::test]
async fn answers_that_are_not_one_row_of_the_role_and_its_verifier_are_errors() {
    let right: &[Option<&str>] = &[Some("r"), Some(MD5)];
    let cases: [(&[&[Option<&str>]], &str); 5] = [
        (&[right, right], "more than one row"),
        (&[&[Some(MD5)]], "1 columns"),
        (&[&[Some("r"), Some(MD5), None]], "3 columns"),
        (&[&[Some("R"), Some(MD5)]], "another role"),
        (&[&[None, Some(MD5)]], "another role"),
    ];
    let server = FakeServer::with(&[]).await;
    let config = server.config(&[]);
    for (rows, named) in cases {
        let rows: Vec<Vec<Option<String>>> =
            rows.iter().map(|row| row.iter().map(|column| column.map(Into::into)).collect()).collect();
        server.answer_with(move |_| {
            let rows: Vec<Vec<Option<&str>>> =
                rows.iter().map(|row| row.iter().map(Option::as_deref).collect()).collect();
            answer(&rows.iter().map(Vec::as_slice).collect::<Vec<_>>())
        });
        let error = ask(&Asker::default(), &config, "r").await.expect_err(named).to_string();
        assert!(error.contains(named) && !error.contains(MD5), "{error}");
    }
}

#[tokio::test]
async fn an_answer_out_of_order_left_open_or_with_more_behind_it_is_an_error() {
    let bytes = |reply| match reply {
        Reply::Bytes(bytes) => bytes,
        _ => vec![],
    };
    let right = bytes(answer(&[&[Some("r"), Some(MD5)]]));
    let mut failed = right.clone();
    *failed.last_mut().expect("status") = b'T';
    let in_front = [&right[10..], &right].concat();
    let server = FakeServer::with(&[]).await;
    let config = server.config(&[]);
    for wrong in [failed, in_front, [&right[..], b"N"].concat(), b"2\0\0\0\x04".into(), b"junk!".into()] {
        let (asker, sent) = (Asker::default(), wrong.clone());
        server.answer_with(move |_| Reply::Bytes(sent.clone()));
        assert!(ask(&asker, &config, "r").await.is_err(), "{wrong:?}");
        assert!(asker.idle.lock().await.is_none(), "the connection is not used again");
    }
    let sent = [b"S\0\0\0\x08a\0b\0", &right[..]].concat();
    server.answer_with(move |_| Reply::Bytes(sent.clone()));
    assert!(is_md5(ask(&Asker::default(), &config, "r").await), "a reload may be reported in between");
}

#[tokio::test]
async fn a_connection_that_was_closed_while_idle_is_replaced_and_a_fresh_one_is_not() {
    let server = FakeServer::with(&[("r", MD5)]).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    assert!(is_md5(ask(&asker, &config, "r").await));
    server.close_connections();
    assert!(is_md5(ask(&asker, &config, "r").await));
    assert_eq!((server.startups().len(), server.questions().len()), (2, 2));
    server.answer_with(|_| Reply::Close);
    assert!(matches!(ask(&asker, &config, "r").await, Err(QueryError::Upstream(UpstreamError::Closed))));
    assert_eq!(server.startups().len(), 3, "the idle one, then a fresh one, then no more");
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_is_silent_after_being_idle_is_replaced() {
    let server = FakeServer::with(&[("r", MD5)]).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    assert!(is_md5(ask(&asker, &config, "r").await));
    server.skip_one(|_| answer(&[&[Some("r"), Some(MD5)]]));
    assert!(is_md5(ask(&asker, &config, "r").await));
    assert_eq!(server.startups().len(), 2);
}

#[tokio::test]
async fn an_error_of_the_query_is_not_tried_again() {
    let server = FakeServer::with(&[("r", MD5)]).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    assert!(is_md5(ask(&asker, &config, "r").await));
    server.answer_with(|_| Reply::Bytes(b"E\0\0\0\x1bSERROR\0C42883\0Mno f()\0\0Z\0\0\0\x05I".into()));
    let error = ask(&asker, &config, "r").await.expect_err("no such function").to_string();
    assert!(error.contains("42883 no f()"), "{error}");
    assert_eq!(server.questions().len(), 2);
}

#[tokio::test]
async fn one_that_gives_up_leaves_no_half_read_connection_behind() {
    let server = FakeServer::start(|_| Reply::Silence).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    let mut asking = Box::pin(ask(&asker, &config, "r"));
    while server.questions().is_empty() {
        assert!(asking.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tokio::task::yield_now().await;
    }
    drop(asking);
    server.answer_with(|_| answer(&[&[Some("s"), Some(MD5)]]));
    assert!(is_md5(ask(&asker, &config, "s").await));
    assert_eq!(server.startups().len(), 2, "on a connection of its own");
}

#[tokio::test]
async fn a_connection_that_is_closed_is_replaced_at_the_next_question() {
    let server = FakeServer::with(&[("r", MD5)]).await;
    let (asker, config) = (Asker::default(), server.config(&[]));
    assert!(is_md5(ask(&asker, &config, "r").await));
    asker.close(Some("elsewhere"));
    assert!(is_md5(ask(&asker, &config, "r").await));
    assert_eq!(server.startups().len(), 1, "it leads to another database");
    for (closings, database) in [(2, None), (3, config.secrets.query.as_ref().map(|query| query.database.as_str()))] {
        asker.close(database);
        assert!(asker.idle.try_lock().is_ok_and(|idle| idle.is_none()));
        assert!(is_md5(ask(&asker, &config, "r").await));
        assert_eq!(server.startups().len(), closings);
    }
    // While a question is out.
    let held = asker.idle.lock().await;
    asker.close(None);
    drop(held);
    assert!(is_md5(ask(&asker, &config, "r").await));
    assert_eq!(server.startups().len(), 4);
    assert!(is_md5(ask(&asker, &config, "r").await));
    assert_eq!(server.startups().len(), 4, "once");
}

#[tokio::test]
async fn a_reload_that_asks_elsewhere_gets_a_connection_there() {
    let [old, new] = [FakeServer::with(&[("r", MD5)]).await, FakeServer::with(&[]).await];
    let asker = Asker::default();
    assert!(is_md5(ask(&asker, &old.config(&[]), "r").await));
    assert!(matches!(ask(&asker, &new.config(&[]), "r").await, Ok(None)));
    assert!(matches!(ask(&asker, &new.config(&[("auth_dbname", "b")]), "r").await, Ok(None)));
    assert_eq!((old.startups().len(), new.startups().len()), (1, 2));
}
