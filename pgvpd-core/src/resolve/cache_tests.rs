use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{Notify, oneshot};

use super::*;
use crate::resolve::{Resolver, Source};

fn key(database: &str, tenant: &str, params: &[&str]) -> Key {
    let source = Source::Sql("SELECT 1 AS x".into());
    let resolver = Resolver::new("r", source, &["app.user"], &[("app.x", "x")]).expect("valid");
    let resolver = Resolver { cache_ttl: Duration::from_secs(3600), ..resolver };
    let params = params.iter().map(|param| (*param).to_owned()).collect();
    Key {
        upstream: UpstreamAddress { host: "h".into(), port: 1, tls: None, tcp: crate::net::TcpTimes::default() },
        database: database.into(),
        role: "app_user".into(),
        context: [tenant.to_owned()].into(),
        question: Question { resolver: Arc::new(resolver), params },
    }
}

fn found(value: &str) -> Verdict {
    Ok(Some([value.to_owned()].into()))
}

async fn value(results: &Results, key: &Key, value: &str) -> (String, Origin) {
    let (verdict, origin) = results.get(key, || async { found(value) }).await;
    let values = verdict.expect("an answer").expect("a row");
    (values.first().expect("a value").clone(), origin)
}

#[tokio::test]
async fn every_part_of_the_question_counts() {
    let results = Results::new(1 << 20);
    let keys = [
        key("d", "acme", &["1"]),
        key("e", "acme", &["1"]),
        key("d", "globex", &["1"]),
        key("d", "acme", &["2"]),
        key("d", "acme", &["1", ""]),
        Key { role: "other".into(), ..key("d", "acme", &["1"]) },
        Key {
            upstream: UpstreamAddress { host: "h".into(), port: 2, tls: None, tcp: crate::net::TcpTimes::default() },
            ..key("d", "acme", &["1"])
        },
    ];
    for round in [Origin::Asked, Origin::Cache] {
        for (index, key) in keys.iter().enumerate() {
            let expected = (index.to_string(), round);
            assert_eq!(value(&results, key, &index.to_string()).await, expected, "{key:?}");
        }
    }
}

#[tokio::test]
async fn only_what_is_named_becomes_void() {
    let results = Results::new(1 << 20);
    let (one, two, other) = (key("d", "acme", &["1"]), key("d", "acme", &["2"]), key("e", "acme", &["1"]));
    let origins = async |expected: [Origin; 3]| {
        for (key, expected) in [&one, &two, &other].into_iter().zip(expected) {
            assert_eq!(value(&results, key, "v").await.1, expected, "{key:?}");
        }
    };
    use Origin::{Asked, Cache};
    origins([Asked, Asked, Asked]).await;
    results.voided.void(Some("d"), "r", Some(&["1".to_owned()]));
    origins([Asked, Cache, Cache]).await;
    results.voided.void(Some("d"), "r", None);
    origins([Asked, Asked, Cache]).await;
    results.voided.void(None, "r", Some(&["1".to_owned()]));
    origins([Asked, Cache, Asked]).await;
    results.voided.void(Some("d"), "other", None);
    origins([Cache, Cache, Cache]).await;
    results.voided.void_all();
    origins([Asked, Asked, Asked]).await;
}

#[tokio::test]
async fn more_than_can_be_kept_apart_makes_everything_void() {
    let results = Results::new(1 << 20);
    let one = key("d", "acme", &["1"]);
    value(&results, &one, "v").await;
    for number in 0..=MAX_ENTRIES {
        results.voided.void(Some("d"), "r", Some(&[format!("other {number}")]));
    }
    assert_eq!(value(&results, &one, "v").await.1, Origin::Asked);
    assert!(results.voided.book().entries <= MAX_ENTRIES);
    for number in 0..=MAX_ENTRIES {
        results.voided.void(Some("d"), &number.to_string(), None);
    }
    assert!(results.voided.book().entries <= MAX_ENTRIES, "names count too");
}

/// An answer that was on its way when it became void is nobody's: neither that of who asked, nor of who came later.
#[tokio::test]
async fn an_answer_that_becomes_void_on_its_way_is_asked_for_again() {
    let results = Arc::new(Results::new(1 << 20));
    let one = key("d", "acme", &["1"]);
    let (asked, may_answer) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let login = |results: Arc<Results>| {
        let (one, asked, may_answer) = (one.clone(), Arc::clone(&asked), Arc::clone(&may_answer));
        tokio::spawn(async move {
            let ask = || async {
                let number = asked.fetch_add(1, Ordering::SeqCst);
                if number == 0 {
                    may_answer.notified().await;
                }
                found(&number.to_string())
            };
            results.get(&one, ask).await.0.expect("an answer").expect("a row").to_vec()
        })
    };
    let first = login(Arc::clone(&results));
    while asked.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    results.voided.void(Some("d"), "r", Some(&["1".to_owned()]));
    let second = login(Arc::clone(&results));
    tokio::task::yield_now().await;
    may_answer.notify_one();
    assert_eq!((first.await.expect("ended"), second.await.expect("ended")), (vec!["1".into()], vec!["1".into()]));
}

#[tokio::test]
async fn who_gives_up_leaves_the_question_to_the_next() {
    let results = Arc::new(Results::new(1 << 20));
    let one = key("d", "acme", &["1"]);
    let (sender, never) = oneshot::channel::<()>();
    let never = Arc::new(tokio::sync::Mutex::new(never));
    let given_up = tokio::spawn({
        let (results, one, never) = (Arc::clone(&results), one.clone(), Arc::clone(&never));
        async move {
            let ask = || async {
                let _ = (&mut *never.lock().await).await;
                found("never")
            };
            results.get(&one, ask).await.0
        }
    });
    tokio::task::yield_now().await;
    let next = tokio::spawn({
        let (results, one) = (Arc::clone(&results), one.clone());
        async move { value(&results, &one, "v").await.0 }
    });
    tokio::task::yield_now().await;
    given_up.abort();
    assert_eq!(next.await.expect("ended"), "v");
    drop(sender);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_no_answer_for_others() {
    let results = Arc::new(Results::new(1 << 20));
    let one = key("d", "acme", &["1"]);
    let may_fail = Arc::new(Notify::new());
    let failing = tokio::spawn({
        let (results, one, may_fail) = (Arc::clone(&results), one.clone(), Arc::clone(&may_fail));
        async move {
            let ask = || async {
                may_fail.notified().await;
                Err(crate::resolve::Fault::Gone("lost".into()))
            };
            results.get(&one, ask).await.0.is_err()
        }
    });
    tokio::task::yield_now().await;
    let other = tokio::spawn({
        let (results, one) = (Arc::clone(&results), one.clone());
        async move { value(&results, &one, "v").await.0 }
    });
    tokio::task::yield_now().await;
    may_fail.notify_one();
    assert_eq!(other.await.expect("ended"), "v");
    assert!(failing.await.expect("ended"));
}
