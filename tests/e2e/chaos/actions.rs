//! What clients do, and leave behind.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::IsNull;
use postgres_protocol::message::frontend;
use support::WireClient;

use crate::Chaos;
use crate::client::{Over, Session};
use crate::dice::Dice;

/// Declares the actions, their names in the count, and the list of all.
macro_rules! actions {
    ($($action:ident: $name:literal,)+) => {
        /// One thing that a client does.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Action { $($action,)+ }

        impl Action {
            pub(crate) const ALL: &[Self] = &[$(Self::$action,)+];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$action => $name,)+ }
            }
        }
    };
}

actions! {
    Select: "select",
    OpenTransaction: "open a transaction",
    FailedTransaction: "fail a transaction",
    TempTable: "make a temporary table",
    Prepare: "prepare",
    PrepareByProtocol: "prepare by protocol",
    Portal: "leave a portal suspended",
    Listen: "listen",
    SharedLock: "take a shared advisory lock",
    Lock: "take an advisory lock",
    Set: "change settings",
    SetReported: "change reported settings",
    Role: "take another role",
    Cursor: "open cursors",
    Nextval: "take from a sequence",
    Setval: "set a sequence",
    ForeignContext: "name another tenant",
    Reset: "reset all",
    CopyIn: "begin to copy in",
    CopyOut: "begin to copy out",
    Pipeline: "send ahead and not read",
    Unsynced: "leave out a Sync",
    Cut: "leave at some byte",
    CancelRunning: "cancel what runs",
    CancelLate: "cancel what may be over",
    CancelOld: "cancel with an old key",
    CancelGuessed: "cancel with a guessed key",
    Seed: "seed random()",
    Kill: "kill its own backend",
}

/// What a session that has the thing already, or may only read, or is in a failed transaction, answers.
const FINE: &[&str] = &["42P05", "42P07", "42P03", "25006", "25001"];

impl Action {
    /// Does it. The client is to leave when this is an error.
    pub(crate) async fn run(
        self,
        session: &mut Session,
        tenant: &str,
        dice: &mut Dice,
        chaos: &Chaos,
    ) -> Result<(), Over> {
        let sql = match self {
            Self::Select => return select(session, tenant).await,
            Self::OpenTransaction => {
                dice.of(&["BEGIN", "BEGIN; LOCK TABLE public.notes IN ACCESS SHARE MODE; SAVEPOINT s"])
            }
            Self::FailedTransaction => return fail(session).await,
            Self::TempTable => "CREATE TEMP TABLE left_over AS SELECT 1",
            Self::Prepare => "PREPARE left_over AS SELECT 1",
            Self::PrepareByProtocol => return prepare(session).await,
            Self::Portal => return portal(session, dice).await,
            Self::Listen => {
                session.listens = true;
                "LISTEN left_over; NOTIFY left_over"
            }
            Self::SharedLock => "SELECT pg_advisory_lock_shared(4711)",
            // One that stays is found by a later client that counts locks.
            Self::Lock => "SELECT pg_try_advisory_lock(4712), pg_try_advisory_xact_lock(4713)",
            Self::Set => {
                "SET application_name = 'left over'; SET search_path = pg_temp, public; SET statement_timeout = '1min';
                 SET my.own = 'left over'; SET app.other = 'left over'; SET default_transaction_read_only = on;
                 SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE"
            }
            Self::SetReported => {
                "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'German'; SET client_encoding = 'LATIN1'"
            }
            Self::Role => "SET ROLE reporting",
            Self::Cursor => dice.of(&[
                "DECLARE left_over CURSOR WITH HOLD FOR SELECT generate_series(1, 1000)",
                "BEGIN; DECLARE left_over CURSOR FOR SELECT generate_series(1, 1000); FETCH 3 FROM left_over",
            ]),
            Self::Nextval => "SELECT nextval('public.ticket')",
            Self::Setval => "SELECT setval('public.ticket', 4711)",
            Self::ForeignContext => {
                session.strays = true;
                dice.of(&[
                    "SELECT set_config('app.current_tenant_id', 't00', false)",
                    "SET app.current_tenant_id = 't49'",
                    "SET app.current_tenant_id = ''",
                ])
            }
            Self::Reset => return reset(session, tenant, dice).await,
            Self::CopyIn => return copy_in(session, dice).await,
            Self::CopyOut => return copy_out(session, dice).await,
            Self::Pipeline => return pipeline(session, dice).await,
            Self::Unsynced => return unsynced(session, dice).await,
            Self::Cut => return cut(session, dice).await,
            Self::CancelRunning => return cancel_running(session, chaos).await,
            Self::CancelLate => return cancel_late(session, chaos).await,
            Self::CancelOld => {
                WireClient::cancel(chaos.port, &chaos.old_key(dice)).await;
                return Ok(());
            }
            Self::CancelGuessed => {
                let mut key = session.key.clone();
                key.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
                WireClient::cancel(chaos.port, &key).await;
                return Ok(());
            }
            Self::Seed => "SELECT setseed(0.5)",
            Self::Kill => return kill(session, chaos).await,
        };
        session.run(sql, FINE).await.map(drop)
    }
}

async fn select(session: &mut Session, tenant: &str) -> Result<(), Over> {
    let was_failed = session.status == b'E';
    let found = session.run("SELECT tenant_id FROM public.notes", &[]).await?;
    let all_mine = found.iter().all(|row| row == tenant);
    // A context is a plain setting: who names another tenant sees that one's rows.
    assert!(session.strays || all_mine, "{tenant} reads {found:?}");
    assert!(session.strays || was_failed || session.cancels || found.len() == 1, "{tenant} does not read its row");
    Ok(())
}

async fn fail(session: &mut Session) -> Result<(), Over> {
    session.run("BEGIN", FINE).await?;
    session.run("SELECT 1/0", &["22012"]).await.map(drop)
}

/// What takes the context away brings it back for the next request.
async fn reset(session: &mut Session, tenant: &str, dice: &mut Dice) -> Result<(), Over> {
    // What was asked to be cancelled may be any of these, and then nothing is as it should be.
    if session.cancels {
        return Ok(());
    }
    session.run("ROLLBACK", FINE).await?;
    let statement = dice.of(&["RESET ALL", "DISCARD ALL", "RESET app.current_tenant_id"]);
    session.run(statement, &[]).await?;
    let found = session.run("SELECT public.current_tenant_id() || (SELECT count(*) FROM public.notes)", &[]).await?;
    assert_eq!(found, [format!("{tenant}1")], "after {statement}");
    session.strays = false;
    Ok(())
}

/// Ends somewhere in the data of a COPY.
async fn copy_in(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    session.query("COPY public.uploads FROM STDIN").await?;
    let data = b"d\0\0\0\x09half\nd\0\0\0\x09half\nd\0\0\0\x09half\nf\0\0\0\x09gone\0";
    session.send(dice.cut(data)).await?;
    Err(Over::Left)
}

async fn copy_out(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    session.query("COPY (SELECT generate_series(1, 20000)) TO STDOUT").await?;
    read_some(session, dice.below(200)).await?;
    Err(Over::Left)
}

/// Many requests; some of the answers are read, and then the client is gone.
async fn pipeline(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    for _ in 0..50 {
        session.query("SELECT generate_series(1, 100)").await?;
    }
    read_some(session, dice.below(200)).await?;
    Err(Over::Left)
}

/// Stops at an error and at ReadyForQuery: without a Sync nothing need follow.
async fn read_some(session: &mut Session, messages: u64) -> Result<(), Over> {
    for _ in 0..messages {
        if matches!(session.message().await?.0, b'E' | b'Z') {
            break;
        }
    }
    Ok(())
}

fn bind(portal: &str, statement: &str, out: &mut BytesMut) {
    let bound = frontend::bind(portal, statement, [], [(); 0], |(), _| Ok(IsNull::Yes), [], out);
    assert!(bound.is_ok(), "nothing is bound");
}

/// A named statement; its reply is this client's.
async fn prepare(session: &mut Session) -> Result<(), Over> {
    let (marker, was_failed) = (session.marker(), session.status == b'E');
    let mut out = BytesMut::new();
    frontend::parse(&marker, &format!("SELECT '{marker}'"), [], &mut out).expect("parse");
    bind("", &marker, &mut out);
    frontend::execute("", 0, &mut out).expect("execute");
    frontend::sync(&mut out);
    session.send(&out).await?;
    let (rows, code) = session.replies().await?;
    session.expect("a named statement", code.as_deref(), was_failed, &[]);
    assert!(code.is_some() || rows == [marker], "another's reply: {rows:?}");
    Ok(())
}

/// A portal of which some rows are fetched; with or without the end of the pipeline.
async fn portal(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    let mut out = BytesMut::new();
    frontend::parse("left_over_s", "SELECT generate_series(1, 1000)", [], &mut out).expect("parse");
    bind("left_over_p", "left_over_s", &mut out);
    frontend::execute("left_over_p", 10, &mut out).expect("execute");
    frontend::flush(&mut out);
    session.send(&out).await?;
    read_some(session, dice.below(3)).await?;
    Err(Over::Left)
}

async fn unsynced(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    let mut out = BytesMut::new();
    frontend::parse(dice.of(&["", "left_over_u"]), "SELECT 'unsynced'", [], &mut out).expect("parse");
    if dice.below(2) == 0 {
        frontend::parse("", "SELEKT", [], &mut out).expect("parse");
    }
    if dice.below(2) == 0 {
        frontend::flush(&mut out);
    }
    session.send(&out).await?;
    Err(Over::Left)
}

/// Of requests of every kind, the first so many bytes.
async fn cut(session: &mut Session, dice: &mut Dice) -> Result<(), Over> {
    let mut out = BytesMut::new();
    frontend::query("SELECT 'cut'; BEGIN; SELECT 'cut'", &mut out).expect("query");
    frontend::parse("cut", "SELECT 'cut' FROM generate_series(1, 9)", [], &mut out).expect("parse");
    bind("cut", "cut", &mut out);
    frontend::describe(b'P', "cut", &mut out).expect("describe");
    frontend::execute("cut", 3, &mut out).expect("execute");
    frontend::close(b'S', "cut", &mut out).expect("close");
    frontend::sync(&mut out);
    frontend::query("COPY public.uploads FROM STDIN", &mut out).expect("query");
    out.extend_from_slice(b"d\0\0\0\x09half\nc\0\0\0\x04");
    frontend::query("SET my.own = 'cut'", &mut out).expect("query");
    session.send(dice.cut(&out)).await?;
    Err(Over::Left)
}

/// Again and again, since a request that comes before the query has begun does nothing.
async fn cancel_running(session: &mut Session, chaos: &Chaos) -> Result<(), Over> {
    session.cancels = true;
    let (key, was_failed) = (session.key.clone(), session.status == b'E');
    session.query("SELECT pg_sleep(600)").await?;
    let replies = session.replies();
    tokio::pin!(replies);
    let (rows, code) = loop {
        WireClient::cancel(chaos.port, &key).await;
        if let Ok(replies) = tokio::time::timeout(Duration::from_millis(50), &mut replies).await {
            break replies?;
        }
    };
    assert!(rows.is_empty() && (was_failed || code.as_deref() == Some("57014")), "not cancelled: {code:?}");
    Ok(())
}

/// The query may be over before the request comes; the session may be, too.
async fn cancel_late(session: &mut Session, chaos: &Chaos) -> Result<(), Over> {
    session.cancels = true;
    session.query("SELECT 1").await?;
    let (port, key) = (chaos.port, session.key.clone());
    tokio::spawn(async move { WireClient::cancel(port, &key).await });
    session.replies().await.map(drop)
}

async fn kill(session: &mut Session, chaos: &Chaos) -> Result<(), Over> {
    chaos.count("kill a backend");
    // Another role may not.
    session.run("SELECT pg_terminate_backend(pg_backend_pid())", &["42501"]).await.map(drop)
}
