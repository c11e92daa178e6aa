//! What one session leaves to the next: with a pool it is the same backend, without one a new one.

use crate::attack::Attack;
use crate::session::{Reply, Session};
use crate::stage::Stage;

/// What the victim does, and what the attacker then asks: neither the secret nor anything else may come back. `@` is the secret.
const REMAINS: &[(&str, &str, &str)] = &[
    (
        "left: a temporary table",
        "CREATE TEMP TABLE t AS SELECT * FROM vault",
        "TABLE t;;SELECT relname FROM pg_class WHERE relnamespace = pg_my_temp_schema()",
    ),
    ("left: a temporary view", "CREATE TEMP VIEW v AS SELECT '@'::text", "TABLE v"),
    (
        "left: a temporary function",
        "CREATE FUNCTION pg_temp.f() RETURNS text LANGUAGE sql AS $$ SELECT '@' $$",
        "SELECT pg_temp.f();;SELECT prosrc FROM pg_proc WHERE pronamespace = pg_my_temp_schema()",
    ),
    (
        "left: a temporary type",
        "CREATE TYPE pg_temp.e AS ENUM ('@')",
        // Of the session's own: another pool's connection may have yet to be reset, and catalogs are everybody's to read.
        "SELECT enumlabel FROM pg_enum JOIN pg_type t ON t.oid = enumtypid WHERE typnamespace = pg_my_temp_schema()",
    ),
    (
        "left: a temporary sequence",
        "CREATE TEMP SEQUENCE s START 4711; SELECT nextval('s')",
        "SELECT last_value FROM s",
    ),
    (
        "left: a cursor",
        "DECLARE c CURSOR WITH HOLD FOR TABLE vault",
        "FETCH ALL c;;SELECT name FROM pg_cursors WHERE name <> ''",
    ),
    (
        "left: a prepared statement",
        "PREPARE p AS SELECT secret, '@' FROM vault",
        "EXECUTE p;;SELECT statement FROM pg_prepared_statements",
    ),
    ("left: a setting", "SET my.secret = '@'", "SELECT nullif(current_setting('my.secret', true), '')"),
    (
        "left: a setting for good",
        "SELECT set_config('my.secret', '@', false); SET SESSION application_name = '@'",
        "SELECT nullif(current_setting('my.secret', true), '');;SELECT nullif(current_setting('application_name'), '')",
    ),
    (
        "left: an open transaction",
        "BEGIN; CREATE TEMP TABLE t AS TABLE vault; SET LOCAL my.secret = '@'",
        "TABLE t;;SELECT nullif(current_setting('my.secret', true), '')",
    ),
    (
        "left: a failed transaction",
        "BEGIN; SET LOCAL my.secret = '@'; SELECT 1/0",
        "SELECT nullif(current_setting('my.secret', true), '')",
    ),
    ("left: a session that listens", "LISTEN globex", "SELECT pg_listening_channels()"),
    (
        "left: an advisory lock",
        "SELECT pg_advisory_lock(4711)",
        "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    ("left: lastval", "SELECT nextval('vault_id_seq')", "SELECT lastval()"),
    ("left: currval", "BEGIN; INSERT INTO vault (secret) VALUES ('x'); ROLLBACK", "SELECT currval('vault_id_seq')"),
    ("left: the context", "SELECT 1", "SELECT nullif(current_setting('app.current_tenant_id', true), 'acme')"),
    ("left: a role", "SET ROLE app_user", "SELECT nullif(current_user, session_user)"),
    (
        "left: a search_path",
        "SET search_path = pg_temp",
        "SELECT nullif(current_setting('search_path'), '\"$user\", public')",
    ),
    (
        "left: an isolation level",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE READ ONLY",
        "SELECT nullif(current_setting('default_transaction_read_only'), 'off')",
    ),
    ("left: a large object opened", "BEGIN; SELECT lo_open(lo_create(0), 131072)", "BEGIN;;SELECT loread(0, 100)"),
    (
        "left: the text of a statement",
        "SELECT '@'",
        "SELECT query FROM pg_stat_activity WHERE pid = pg_backend_pid() AND query NOT LIKE '%pg_stat_activity%'",
    ),
    ("left: a plan", "SET plan_cache_mode = force_generic_plan; PREPARE p AS TABLE vault; EXECUTE p", "EXECUTE p"),
];

/// How the attacker goes.
#[derive(Clone, Copy)]
enum Leaving {
    Said,
    Cut,
}
use Leaving::{Cut, Said};

/// What the attacker leaves behind. The next session is the victim's, and must be as any other.
const TRAPS: &[(&str, Leaving, &str)] = &[
    (
        "trap: a table in pg_temp",
        Said,
        "CREATE TEMP TABLE vault (tenant_id text, id serial, secret text, amount int); SET search_path = pg_temp, public",
    ),
    (
        "trap: a function in pg_temp",
        Said,
        "CREATE FUNCTION pg_temp.current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'acme' $$",
    ),
    ("trap: a search_path", Said, "SET search_path = scratch, pg_temp"),
    ("trap: statement_timeout", Said, "SET statement_timeout = 1"),
    ("trap: row_security", Said, "SET row_security = off"),
    ("trap: read only", Said, "SET default_transaction_read_only = on"),
    (
        "trap: serializable",
        Said,
        "SET default_transaction_isolation = serializable; SET default_transaction_deferrable = on",
    ),
    ("trap: client_encoding", Said, "SET client_encoding = LATIN1"),
    (
        "trap: DateStyle and TimeZone",
        Said,
        "SET DateStyle = German; SET TimeZone = 'Asia/Tokyo'; SET IntervalStyle = iso_8601; SET bytea_output = escape",
    ),
    ("trap: standard_conforming_strings", Said, "SET standard_conforming_strings = off; SET backslash_quote = on"),
    (
        "trap: every setting that can be",
        Said,
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT name FROM pg_settings WHERE context = 'user' AND vartype = 'bool' LOOP BEGIN EXECUTE format('SET %I = %L', r.name, CASE current_setting(r.name) WHEN 'on' THEN 'off' ELSE 'on' END); EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    ),
    ("trap: a role", Said, "SET ROLE app_user"),
    ("trap: a session authorization", Said, "SET SESSION AUTHORIZATION app_user"),
    ("trap: the context", Said, "SET app.current_tenant_id = 'acme'; SET pgvpd.context = 'v1.x'"),
    (
        "trap: the context for the transaction",
        Cut,
        "BEGIN; SET LOCAL app.current_tenant_id = 'acme'; SET LOCAL pgvpd.context = 'v1.x'",
    ),
    ("trap: a prepared statement", Said, "PREPARE p AS SELECT 1; PREPARE s AS SELECT 1"),
    ("trap: a cursor", Said, "DECLARE c CURSOR WITH HOLD FOR SELECT 1"),
    ("trap: a session that listens", Said, "LISTEN globex; LISTEN acme"),
    ("trap: an advisory lock", Said, "SELECT pg_advisory_lock(4711)"),
    (
        "trap: a transaction",
        Said,
        "BEGIN; UPDATE vault SET amount = amount; LOCK TABLE vault IN SHARE UPDATE EXCLUSIVE MODE",
    ),
    ("trap: a transaction, cut", Cut, "BEGIN; UPDATE vault SET amount = amount"),
    ("trap: a failed transaction", Cut, "BEGIN; SELECT 1/0"),
    (
        "trap: a temporary table of many rows",
        Said,
        "CREATE TEMP TABLE t AS SELECT * FROM generate_series(1, 10000); CREATE INDEX ON t (generate_series)",
    ),
    ("trap: DISCARD of its own", Said, "DISCARD ALL"),
    ("trap: RESET ALL in a transaction", Cut, "BEGIN; RESET ALL"),
    ("trap: attach", Said, "SELECT pgvpd.attach(); DISCARD SEQUENCES"),
    (
        "trap: a trigger in pg_temp",
        Said,
        "CREATE TEMP TABLE t (a int); CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER g BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_temp.f()",
    ),
    ("trap: an ON COMMIT DROP table", Cut, "BEGIN; CREATE TEMP TABLE t (a int) ON COMMIT DROP"),
];

/// Bytes that end a session in the middle of something.
const HALVES: &[(&str, &[u8])] = &[
    ("half: a query's header", b"Q\0\0"),
    ("half: a query", b"Q\0\0\0\x40SET app.current_tenant_id"),
    ("half: COPY data", b"Q\0\0\0\x3fCREATE TEMP TABLE half (a text); COPY half FROM STDIN        \0d\0\0\0\x09half\n"),
    ("half: Parse without Sync", b"P\0\0\0\x2a\0SET app.current_tenant_id = 'acme'\0\0\0"),
    (
        "half: Parse, Bind, Execute without Sync",
        b"P\0\0\0\x29s\0SET pgvpd.context TO 'acme acme'\0\0\0B\0\0\0\x0d\0s\0\0\0\0\0\0\0E\0\0\0\x09\0\0\0\0\0",
    ),
    ("half: Flush", b"H\0\0\0\x04"),
    (
        "half: queries that nobody reads",
        b"Q\0\0\0\x21SELECT repeat('x', 10000000)\0Q\0\0\0\x21SELECT repeat('x', 10000000)\0",
    ),
    ("half: a message of no type", b"!\0\0\0\x04"),
    ("half: a length of nothing", b"Q\0\0\0\0"),
    ("half: Terminate and more", b"X\0\0\0\x04Q\0\0\0\x29SET app.current_tenant_id = 'acme'   \0"),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for &(name, before, after) in REMAINS {
        attacks.push(Attack::by(name, move |stage| Box::pin(remains(stage, before, after))));
    }
    for &(name, leaving, sql) in TRAPS {
        let attack = Attack::by(name, move |stage| {
            Box::pin(async move {
                let mut attacker = stage.attacker_at(&stage.narrow).await;
                attacker.run(&stage.spell(sql)).await;
                match leaving {
                    Said => attacker.leave().await,
                    Cut => attacker.break_off(),
                }
                stage.check_new_victim(&stage.narrow).await;
                Ok(())
            })
        });
        attacks.push(attack.saying(sql));
    }
    for &(name, bytes) in HALVES {
        attacks.push(Attack::by(name, move |stage| {
            Box::pin(async move {
                let mut attacker = stage.attacker_at(&stage.narrow).await;
                attacker.send(bytes).await;
                attacker.break_off();
                stage.check_new_victim(&stage.narrow).await;
                Ok(())
            })
        }));
    }
    attacks.push(Attack::by("trap: a seed", |stage| Box::pin(seed(stage))));
    attacks
}

async fn remains(stage: &Stage, before: &str, after: &str) -> Result<(), &'static str> {
    let mut victim = stage.victim_at(&stage.narrow).await;
    victim.run(&before.replace('@', &stage.marker)).await;
    victim.leave().await;
    let mut attacker = stage.attacker_at(&stage.narrow).await;
    for sql in after.split(";;") {
        if let Some(value) = attacker.query(sql).await.value() {
            stage.reached(format!("{value:?} was left"));
        }
    }
    attacker.loot().await;
    attacker.leave().await;
    Ok(())
}

/// Whoever knows the seed knows what random() gives.
async fn seed(stage: &Stage) -> Result<(), &'static str> {
    const DRAW: &str = "SELECT string_agg(random()::text, ',') FROM generate_series(1, 3)";
    let mut attacker = stage.attacker_at(&stage.narrow).await;
    attacker.query("SELECT setseed(0.5)").await;
    let foreseen = attacker.query(DRAW).await;
    attacker.query("SELECT setseed(0.5)").await;
    attacker.leave().await;
    let mut victim: Session = stage.victim_at(&stage.narrow).await;
    let drawn: Reply = victim.query(DRAW).await;
    if drawn == foreseen {
        stage.reached("the victim's random numbers were foreseen");
    }
    victim.leave().await;
    Ok(())
}
