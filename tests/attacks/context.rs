//! The context itself: set to another tenant in every way that SQL has, and taken away.

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::attack::Attack;
use crate::session::Session;

/// Each of them works where the context is a plain setting.
const FORGERIES: &[(&str, &str)] = &[
    ("SET", "SET app.current_tenant_id = 'globex'"),
    ("SET, as an identifier", "SET app.current_tenant_id TO globex"),
    ("SET SESSION", "SET SESSION app.current_tenant_id = 'globex'"),
    ("SET, quoted name", r#"SET "app"."current_tenant_id" = 'globex'"#),
    ("SET, name in capitals", "SET APP.CURRENT_TENANT_ID = 'globex'"),
    ("SET, escaped value", r"SET app.current_tenant_id = E'gl\x6fbex'"),
    ("SET, comments between", "SET/**/app.current_tenant_id/* ; */=-- \n'globex'"),
    ("SET behind RESET ALL", "RESET ALL;;SET app.current_tenant_id = 'globex'"),
    ("SET behind DISCARD ALL", "DISCARD ALL;;SET app.current_tenant_id = 'globex'"),
    ("SET and SELECT in one query", "SET app.current_tenant_id = 'globex'; SELECT secret FROM vault; RESET app.current_tenant_id"),
    ("SET LOCAL", "BEGIN;;SET LOCAL app.current_tenant_id = 'globex'"),
    ("SET LOCAL behind a savepoint", "BEGIN; SAVEPOINT s;;SET LOCAL app.current_tenant_id = 'globex'; RELEASE s"),
    ("SET LOCAL in one query", "BEGIN; SET LOCAL app.current_tenant_id = 'globex'; SELECT secret FROM vault; COMMIT"),
    ("SET LOCAL in a read-only transaction", "BEGIN READ ONLY;;SET LOCAL app.current_tenant_id = 'globex'"),
    ("set_config", "SELECT set_config('app.current_tenant_id', 'globex', false)"),
    ("set_config, for the transaction", "BEGIN;;SELECT set_config('app.current_tenant_id', 'globex', true)"),
    ("set_config, name in capitals", "SELECT pg_catalog.set_config('App.Current_Tenant_ID', 'globex', false)"),
    (
        "set_config in the same statement",
        "SELECT v.secret FROM (SELECT set_config('app.current_tenant_id', 'globex', false) c OFFSET 0) s,
         LATERAL (SELECT secret FROM vault WHERE s.c IS NOT NULL OFFSET 0) v",
    ),
    ("set_config in a CTE", "WITH s AS MATERIALIZED (SELECT set_config('app.current_tenant_id', 'globex', false) c) SELECT c FROM s"),
    ("set_config in VALUES", "VALUES (set_config('app.current_tenant_id', 'globex', false))"),
    ("set_config in WHERE", "SELECT 1 WHERE set_config('app.current_tenant_id', 'globex', false) = 'globex'"),
    ("set_config in LIMIT", "SELECT 1 LIMIT length(set_config('app.current_tenant_id', 'globex', false))"),
    ("set_config as a function in FROM", "SELECT * FROM set_config('app.current_tenant_id', 'globex', false) WITH ORDINALITY"),
    ("set_config by EXPLAIN ANALYZE", "EXPLAIN ANALYZE SELECT set_config('app.current_tenant_id', 'globex', false)"),
    ("set_config by COPY TO", "COPY (SELECT set_config('app.current_tenant_id', 'globex', false)) TO STDOUT"),
    ("set_config by CREATE TABLE AS", "CREATE TEMP TABLE t AS SELECT set_config('app.current_tenant_id', 'globex', false)"),
    ("set_config in RETURNING", "BEGIN;;UPDATE vault SET amount = 2 RETURNING set_config('app.current_tenant_id', 'globex', true)"),
    ("set_config in a default", "CREATE TEMP TABLE t (a text DEFAULT set_config('app.current_tenant_id', 'globex', false), b int); INSERT INTO t (b) VALUES (1)"),
    ("set_config in a CHECK", "CREATE TEMP TABLE t (a text CHECK (set_config('app.current_tenant_id', a, false) = a)); INSERT INTO t VALUES ('globex')"),
    ("set_config in a domain", "CREATE DOMAIN pg_temp.d AS text CHECK (set_config('app.current_tenant_id', VALUE, false) = VALUE); SELECT 'globex'::pg_temp.d"),
    ("set_config in a view", "CREATE TEMP VIEW v AS SELECT set_config('app.current_tenant_id', 'globex', false); TABLE v"),
    ("set_config in a rule", "CREATE TEMP TABLE t (a int); CREATE RULE r AS ON INSERT TO t DO INSTEAD SELECT set_config('app.current_tenant_id', 'globex', false); INSERT INTO t VALUES (1)"),
    (
        "set_config in a trigger",
        "CREATE TEMP TABLE t (a int);
         CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM set_config('app.current_tenant_id', 'globex', false); RETURN NULL; END $$;
         CREATE TRIGGER g AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION pg_temp.f(); INSERT INTO t VALUES (1)",
    ),
    (
        "set_config in a deferred trigger",
        "CREATE TEMP TABLE t (a int);
         CREATE FUNCTION pg_temp.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM set_config('app.current_tenant_id', 'globex', false); RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER g AFTER INSERT ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pg_temp.f();
         INSERT INTO t VALUES (1)",
    ),
    (
        "set_config by an operator",
        "CREATE FUNCTION pg_temp.f(a text, b text) RETURNS text LANGUAGE sql AS 'SELECT set_config(a, b, false)';
         CREATE OPERATOR pg_temp.@@@ (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.f);
         SELECT 'app.current_tenant_id' OPERATOR(pg_temp.@@@) 'globex'",
    ),
    ("DO", "DO $$ BEGIN PERFORM set_config('app.current_tenant_id', 'globex', false); END $$"),
    ("DO and EXECUTE", "DO $$ BEGIN EXECUTE concat('SET app.current', '_tenant_id = ''globex'''); END $$"),
    ("DO that reads and tells", "DO $$ DECLARE r record; BEGIN SET LOCAL app.current_tenant_id = 'globex'; FOR r IN SELECT * FROM vault LOOP RAISE NOTICE '%', r; END LOOP; END $$"),
    ("PREPARE and EXECUTE", "PREPARE p AS SELECT set_config($1, $2, false);;EXECUTE p('app.current_tenant_id', 'globex')"),
    ("a statement prepared before", "PREPARE p AS SELECT secret FROM vault;;EXECUTE p;;SET app.current_tenant_id = 'globex';;EXECUTE p"),
    ("a generic plan", "SET plan_cache_mode = force_generic_plan; PREPARE p AS SELECT secret FROM vault;;EXECUTE p;;SET app.current_tenant_id = 'globex';;EXECUTE p"),
    ("a cursor declared before", "BEGIN; DECLARE c CURSOR FOR SELECT secret FROM vault;;SET LOCAL app.current_tenant_id = 'globex';;FETCH ALL FROM c"),
    ("a cursor WITH HOLD", "BEGIN; SET LOCAL app.current_tenant_id = 'globex'; DECLARE c CURSOR WITH HOLD FOR SELECT secret FROM vault; COMMIT;;FETCH ALL FROM c"),
    ("a refcursor of a function", "BEGIN;;DO $$ DECLARE c refcursor := 'c'; BEGIN SET LOCAL app.current_tenant_id = 'globex'; OPEN c FOR SELECT secret FROM public.vault; END $$;;SET LOCAL app.current_tenant_id = 'globex';;FETCH ALL FROM c"),
    ("COPY TO behind SET", "SET app.current_tenant_id = 'globex';;COPY (SELECT secret FROM vault) TO STDOUT"),
    ("COPY of the table behind SET", "SET app.current_tenant_id = 'globex';;COPY vault TO STDOUT"),
    ("rows changed behind SET", "SET app.current_tenant_id = 'globex';;UPDATE vault SET amount = 13;;DELETE FROM notes"),
    ("rows moved behind SET", "SET app.current_tenant_id = 'globex';;INSERT INTO vault (secret) VALUES ('planted')"),
    ("query_to_xml behind SET", "SET app.current_tenant_id = 'globex';;SELECT query_to_xml('SELECT secret FROM vault', true, false, '')"),
    ("a parallel plan behind SET", "SET app.current_tenant_id = 'globex'; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0; SET min_parallel_table_scan_size = 0;;SELECT secret FROM vault"),
];

/// None works anywhere: the tenant is not what they say, or there is none.
const FUTILE: &[(&str, &str)] = &[
    (
        "a function with a SET clause",
        "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql SET app.current_tenant_id = 'globex' AS 'SELECT secret FROM public.vault'; SELECT pg_temp.f()",
    ),
    (
        "a SECURITY DEFINER function of the attacker's",
        "CREATE FUNCTION scratch.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET app.current_tenant_id = 'globex' AS 'SELECT secret FROM public.vault'; SELECT scratch.f()",
    ),
    ("RESET", "RESET app.current_tenant_id"),
    ("RESET ALL", "RESET ALL"),
    ("DISCARD ALL", "DISCARD ALL"),
    ("DISCARD SEQUENCES", "DISCARD SEQUENCES"),
    ("DISCARD SEQUENCES and TEMP in one query", "DISCARD SEQUENCES; DISCARD TEMP; SELECT secret FROM vault"),
    ("SET TO DEFAULT", "SET app.current_tenant_id TO DEFAULT"),
    ("an empty context", "SET app.current_tenant_id = ''"),
    ("set_config NULL", "SELECT set_config('app.current_tenant_id', NULL, false)"),
    ("a wildcard", "SET app.current_tenant_id = '%'"),
    ("a pattern", "SET app.current_tenant_id = '(acme|globex)'"),
    ("an array", "SET app.current_tenant_id = '{acme,globex}'"),
    ("a list", "SET app.current_tenant_id = 'acme, globex'"),
    ("SQL in the context", "SET app.current_tenant_id = 'acme'' OR true --'"),
    (
        "SQL in the context, backslash",
        r"SET standard_conforming_strings = off; SET app.current_tenant_id = 'acme\'' OR true --'",
    ),
    ("a zero byte in the context", r"SET app.current_tenant_id = E'globex\x01'"),
    ("another case", "SET app.current_tenant_id = 'Globex'"),
    ("blanks behind", "SET app.current_tenant_id = 'globex '"),
    ("a huge context", "SELECT set_config('app.current_tenant_id', repeat('globex', 50000), false)"),
    ("another variable", "SET app.tenant_id = 'globex'; SET app.current_tenant = 'globex'; SET tenant.id = 'globex'"),
    ("UPDATE pg_settings", "UPDATE pg_settings SET setting = 'globex' WHERE name = 'app.current_tenant_id'"),
    ("a rolled-back savepoint", "BEGIN; SAVEPOINT s;;SET LOCAL app.current_tenant_id = 'acme';;ROLLBACK TO s"),
    ("a context for the rest of a failed transaction", "BEGIN; SELECT 1/0;;SET LOCAL app.current_tenant_id = 'globex'"),
    ("row_security off", "SET row_security = off"),
    (
        "row_security off in a function",
        "CREATE FUNCTION pg_temp.f() RETURNS SETOF text LANGUAGE sql SET row_security = off AS 'SELECT secret FROM public.vault'; SELECT pg_temp.f()",
    ),
    ("session_replication_role", "SET session_replication_role = replica"),
    ("ALTER SYSTEM", "ALTER SYSTEM SET app.current_tenant_id = 'globex'"),
    ("ALTER DATABASE SET", "ALTER DATABASE shop SET app.current_tenant_id = 'globex'"),
    ("ALTER ROLE ALL SET", "ALTER ROLE ALL SET app.current_tenant_id = 'globex'"),
    ("ALTER ROLE of the owner", "ALTER ROLE shop_owner SET search_path = scratch"),
    ("a context of the proxy's own names", "SET pgvpd.tenant = 'globex'; SET pgvpd.current_tenant_id = 'globex'"),
    (
        "pgvpd_context of any variable",
        "SET app.org_id = 'globex'; SELECT pgvpd_context('app.org_id'), pgvpd_context(NULL), pgvpd_context(''), pgvpd_context('pgvpd.context')",
    ),
    ("pgvpd_context, SQL in the name", "SELECT pgvpd_context('app.current_tenant_id'' OR ''globex')"),
    (
        "pgvpd_context, a path in the name",
        "SELECT pgvpd_context('$.*'), pgvpd_context('{a,b}'), pgvpd_context('0'), pgvpd_context(repeat('x', 1000000))",
    ),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<_> = FORGERIES.iter().map(|row| Attack::sql(row).forging()).collect();
    attacks.extend(FUTILE.iter().map(Attack::sql));
    attacks.push(
        Attack::by("the fast path's set_config", |stage| {
            Box::pin(async {
                let mut attacker = stage.attacker().await;
                fast_path(&mut attacker, 2078, &[b"app.current_tenant_id", b"globex", b"f"]).await;
                attacker.loot().await;
                attacker.leave().await;
                Ok(())
            })
        })
        .forging(),
    );
    attacks.push(
        Attack::by("Bind and Execute of set_config", |stage| {
            Box::pin(async {
                let mut attacker = stage.attacker().await;
                let values: [&[u8]; 2] = [b"app.current_tenant_id", b"globex"];
                extended(&mut attacker, "SELECT set_config($1, $2, false)", &values).await;
                attacker.loot().await;
                attacker.leave().await;
                Ok(())
            })
        })
        .forging(),
    );
    attacks.push(
        Attack::by("a portal bound before", |stage| {
            Box::pin(async {
                let mut attacker = stage.attacker().await;
                let mut out = BytesMut::new();
                frontend::query("BEGIN", &mut out).expect("query");
                frontend::parse("s", "SELECT secret FROM vault", [], &mut out).expect("parse");
                bind("p", "s", &[], &mut out);
                frontend::parse("", "SELECT set_config('app.current_tenant_id', 'globex', true)", [], &mut out)
                    .expect("parse");
                bind("", "", &[], &mut out);
                frontend::execute("", 0, &mut out).expect("execute");
                frontend::execute("p", 0, &mut out).expect("execute");
                frontend::sync(&mut out);
                attacker.send(&out).await;
                attacker.reply().await;
                attacker.reply().await;
                attacker.leave().await;
                Ok(())
            })
        })
        .forging(),
    );
    attacks
}

pub(crate) fn bind(portal: &str, statement: &str, values: &[&[u8]], out: &mut BytesMut) {
    let put = |value: &&[u8], out: &mut BytesMut| {
        out.extend_from_slice(value);
        Ok(postgres_protocol::IsNull::No)
    };
    if frontend::bind(portal, statement, [], values, put, [], out).is_err() {
        panic!("a portal's name has a zero byte");
    }
}

/// Sends one statement with parameters in text by the extended protocol.
pub(crate) async fn extended(session: &mut Session, sql: &str, values: &[&[u8]]) {
    let mut out = BytesMut::new();
    frontend::parse("", sql, [], &mut out).expect("parse");
    bind("", "", values, &mut out);
    frontend::execute("", 0, &mut out).expect("execute");
    frontend::sync(&mut out);
    session.send(&out).await;
    session.reply().await;
}

/// Calls a function by its number, with arguments in text.
pub(crate) async fn fast_path(session: &mut Session, function: u32, arguments: &[&[u8]]) {
    let mut body = function.to_be_bytes().to_vec();
    body.extend([0, 0]);
    body.extend(u16::try_from(arguments.len()).expect("few").to_be_bytes());
    for argument in arguments {
        body.extend(u32::try_from(argument.len()).expect("short").to_be_bytes());
        body.extend(*argument);
    }
    body.extend([0, 0]);
    let mut message = vec![b'F'];
    message.extend(u32::try_from(body.len() + 4).expect("short").to_be_bytes());
    message.extend(body);
    session.send(&message).await;
    session.reply().await;
}
