//! The victim's rows: read, written, counted, guessed at, in every way that a statement has.

use crate::attack::Attack;
use crate::limits::{SEQUENCES, STATISTICS, TABLE_SIZES};

/// A function that tells what it sees, and is so cheap that it would come first.
const TELLS: &str = "CREATE FUNCTION pg_temp.tell(a text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'saw %', a; RETURN true; END $$;;";

const READS: &[(&str, &str)] = &[
    ("SELECT", "SELECT * FROM vault WHERE tenant_id = 'globex'"),
    (
        "SELECT, a condition that is always true",
        "SELECT secret FROM vault WHERE tenant_id = 'globex' OR true OR 1 = 1 --",
    ),
    (
        "UNION",
        "SELECT secret FROM notes n JOIN vault v ON v.id = n.vault_id UNION ALL SELECT secret FROM vault WHERE tenant_id <> 'acme'",
    ),
    ("a row as text", "SELECT v::text, to_jsonb(v), row_to_json(v), ROW(v.*) FROM vault v"),
    ("ONLY", "SELECT * FROM ONLY things;;SELECT * FROM ONLY vault;;SELECT * FROM ONLY events_1"),
    ("a partition", "SELECT * FROM events_1"),
    ("a child", "SELECT * FROM things_old"),
    (
        "TABLESAMPLE",
        "SELECT * FROM vault TABLESAMPLE SYSTEM (100);;SELECT * FROM vault TABLESAMPLE BERNOULLI (100) REPEATABLE (1);;SELECT * FROM events_1 TABLESAMPLE SYSTEM (100)",
    ),
    (
        "a row's place",
        "SELECT * FROM vault WHERE ctid = '(0,1)' OR ctid > '(0,0)';;SELECT secret FROM vault WHERE ctid = ANY (ARRAY(SELECT format('(0,%s)', n)::tid FROM generate_series(1, 20) n))",
    ),
    ("system columns", "SELECT tableoid, xmin, ctid, secret FROM vault WHERE xmin::text::bigint > 0"),
    ("SELECT FOR UPDATE", "BEGIN;;SELECT * FROM vault FOR UPDATE"),
    ("SELECT FOR UPDATE of another's row", "BEGIN;;SELECT * FROM vault WHERE tenant_id = 'globex' FOR UPDATE NOWAIT"),
    ("SELECT FOR KEY SHARE through a join", "BEGIN;;SELECT * FROM notes n, vault v FOR KEY SHARE OF v"),
    ("CREATE TABLE AS", "CREATE TEMP TABLE t AS TABLE vault;;TABLE t"),
    ("SELECT INTO", "SELECT * INTO scratch.t FROM vault;;TABLE scratch.t"),
    (
        "a materialized view",
        "CREATE MATERIALIZED VIEW scratch.m AS SELECT * FROM vault;;REFRESH MATERIALIZED VIEW scratch.m;;TABLE scratch.m",
    ),
    ("a view", "CREATE VIEW scratch.v AS SELECT * FROM vault;;TABLE scratch.v"),
    (
        "a security_barrier view",
        "CREATE VIEW scratch.v WITH (security_barrier) AS SELECT * FROM vault;;TABLE scratch.v",
    ),
    (
        "a view with a check option",
        "CREATE VIEW scratch.v AS SELECT * FROM vault WHERE amount > 0 WITH LOCAL CHECK OPTION;;UPDATE scratch.v SET amount = 5;;DELETE FROM scratch.v",
    ),
    (
        "a SECURITY DEFINER function of one's own",
        "CREATE FUNCTION scratch.f() RETURNS SETOF vault SECURITY DEFINER LANGUAGE sql AS 'TABLE public.vault';;SELECT scratch.f()",
    ),
    ("COPY TO", "COPY vault TO STDOUT;;COPY events_1 TO STDOUT;;COPY (TABLE vault) TO STDOUT (FORMAT binary)"),
    (
        "table_to_xml",
        "SELECT table_to_xml('vault', true, false, '');;SELECT query_to_xml('TABLE vault', true, false, '')",
    ),
    ("ts_stat", "SELECT * FROM ts_stat('SELECT to_tsvector(''simple'', secret) FROM vault')"),
    (
        "a recursive query",
        "WITH RECURSIVE r AS (SELECT id, secret FROM vault UNION SELECT v.id, v.secret FROM vault v, r) TABLE r",
    ),
    (
        "an outer join",
        "SELECT * FROM (VALUES ('globex')) g (t) LEFT JOIN vault v ON v.tenant_id = g.t FULL JOIN notes n USING (tenant_id)",
    ),
    (
        "aggregates",
        "SELECT string_agg(secret, ',') OVER (), array_agg(secret) OVER (PARTITION BY tenant_id) FROM vault",
    ),
    ("the totals", "SELECT * FROM vault v WHERE (SELECT count(*) FROM vault) > 5"),
    (
        "other indexes and joins",
        "SET enable_seqscan = off; SET enable_bitmapscan = off;;SELECT secret FROM vault WHERE pin = 735511;;SET enable_indexscan = off; SET enable_seqscan = on;;SELECT secret FROM vault WHERE pin = 735511",
    ),
    (
        "a plan for another role",
        "PREPARE p AS SELECT secret FROM vault;;EXECUTE p;;SET ROLE NONE;;EXECUTE p;;SET row_security = on;;EXECUTE p",
    ),
    (
        "a cursor over changed settings",
        "BEGIN; DECLARE c SCROLL CURSOR FOR TABLE vault;;SET row_security = off;;FETCH ALL c;;MOVE BACKWARD ALL c;;FETCH ALL c",
    ),
];

/// As above, behind [`TELLS`].
const LEAKY: &[(&str, &str)] = &[
    ("a telling function in WHERE", "SELECT 1 FROM vault WHERE pg_temp.tell(secret)"),
    ("a telling function on a partition", "SELECT 1 FROM events_1 WHERE pg_temp.tell(secret)"),
    ("a telling function on a child", "SELECT 1 FROM things WHERE pg_temp.tell(secret)"),
    ("a telling function in a join", "SELECT 1 FROM notes n JOIN vault v ON pg_temp.tell(v.secret)"),
    ("a telling function in a lateral join", "SELECT 1 FROM vault v, LATERAL (SELECT pg_temp.tell(v.secret)) l"),
    ("a telling function on the whole row", "SELECT 1 FROM vault v WHERE pg_temp.tell(v::text)"),
    (
        "a telling function in CASE",
        "SELECT 1 FROM vault WHERE CASE WHEN pg_temp.tell(secret) THEN tenant_id = 'globex' END",
    ),
    ("a telling function in ORDER BY", "SELECT 1 FROM vault ORDER BY pg_temp.tell(secret)"),
    ("a telling function in UPDATE", "UPDATE vault SET amount = amount WHERE pg_temp.tell(secret)"),
    ("a telling function in DELETE", "BEGIN;;DELETE FROM notes WHERE pg_temp.tell(body)"),
    (
        "a telling function in ON CONFLICT",
        "INSERT INTO vault (id) SELECT id FROM generate_series(735511, 735520) id ON CONFLICT (tenant_id, id) DO UPDATE SET amount = 1 WHERE pg_temp.tell(vault.secret)",
    ),
    ("a telling function in RETURNING", "UPDATE vault SET amount = amount RETURNING pg_temp.tell(secret)"),
    (
        "a telling function through a view",
        "CREATE TEMP VIEW v AS SELECT * FROM vault;;SELECT 1 FROM v WHERE pg_temp.tell(secret)",
    ),
    (
        "a telling function without other plans",
        "SET enable_indexscan = off; SET enable_bitmapscan = off; SET from_collapse_limit = 1; SET join_collapse_limit = 1; SET geqo = off;;SELECT 1 FROM vault WHERE pg_temp.tell(secret) AND tenant_id = 'globex'",
    ),
    (
        "a telling operator",
        "CREATE FUNCTION pg_temp.tell2(a text, b text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'saw %', a; RETURN true; END $$; CREATE OPERATOR pg_temp.## (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.tell2);;SELECT 1 FROM vault WHERE secret OPERATOR(pg_temp.##) ''",
    ),
    (
        "a telling = for the index",
        "CREATE FUNCTION pg_temp.tell2(a text, b text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'saw %', a; RETURN true; END $$; CREATE OPERATOR pg_temp.= (LEFTARG = text, RIGHTARG = text, FUNCTION = pg_temp.tell2, RESTRICT = eqsel);;SELECT 1 FROM vault WHERE secret OPERATOR(pg_temp.=) 'x'",
    ),
    (
        "a telling aggregate",
        "CREATE FUNCTION pg_temp.step(s text, a text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'saw %', a; RETURN a; END $$; CREATE AGGREGATE pg_temp.agg(text) (SFUNC = pg_temp.step, STYPE = text);;SELECT pg_temp.agg(secret) FILTER (WHERE pg_temp.tell(secret)) FROM vault",
    ),
    (
        "a telling domain",
        "CREATE DOMAIN pg_temp.d AS text CHECK (pg_temp.tell(VALUE));;SELECT 1 FROM vault WHERE secret::pg_temp.d = ''",
    ),
    (
        "a telling index of one's own",
        "CREATE TEMP TABLE t AS SELECT secret FROM vault; CREATE INDEX ON t ((length(secret)));;SELECT 1 FROM t, vault v WHERE pg_temp.tell(v.secret) AND length(v.secret) = length(t.secret)",
    ),
    (
        "a cast that names what it cannot read",
        "SELECT 1 FROM vault WHERE ('x' || secret)::int = 1 AND tenant_id = 'globex'",
    ),
    (
        "a cast that names what it cannot read, UPDATE",
        "UPDATE vault SET amount = ('x' || secret)::int WHERE tenant_id = 'globex'",
    ),
    ("EXPLAIN ANALYZE that tells", "EXPLAIN (ANALYZE, VERBOSE) SELECT secret FROM vault WHERE pg_temp.tell(secret)"),
];

const WRITES: &[(&str, &str)] = &[
    ("UPDATE without WHERE", "UPDATE vault SET secret = 'changed', amount = 13"),
    ("UPDATE of another's rows", "UPDATE vault SET amount = 13 WHERE tenant_id = 'globex' RETURNING *"),
    ("UPDATE FROM", "UPDATE vault SET amount = 13 FROM notes n RETURNING vault.*, n.*"),
    ("UPDATE that moves a row to another tenant", "UPDATE vault SET tenant_id = 'globex'"),
    ("UPDATE that moves a row into another partition", "UPDATE events SET tenant_id = 'globex', day = 2"),
    ("UPDATE of a partition", "UPDATE events_1 SET tenant_id = 'globex';;UPDATE events_1 SET secret = 'changed'"),
    ("UPDATE of a child", "UPDATE things_old SET tenant_id = 'globex';;UPDATE ONLY things_old SET secret = 'changed'"),
    (
        "DELETE without WHERE",
        "BEGIN;;DELETE FROM notes RETURNING *;;DELETE FROM vault;;DELETE FROM events;;DELETE FROM things;;COMMIT",
    ),
    ("DELETE of another's rows", "DELETE FROM notes WHERE tenant_id = 'globex' RETURNING *"),
    ("DELETE USING", "DELETE FROM notes USING vault v WHERE v.id = 735511 RETURNING *"),
    ("INSERT for another tenant", "INSERT INTO vault (tenant_id, secret) VALUES ('globex', 'planted')"),
    ("INSERT for another tenant, RETURNING", "INSERT INTO events VALUES ('globex', 2, 'planted') RETURNING *"),
    ("INSERT into a partition", "INSERT INTO events_1 VALUES ('globex', 2, 'planted')"),
    ("INSERT into a child", "INSERT INTO things_old VALUES ('globex', 2, 'planted')"),
    (
        "INSERT SELECT",
        "INSERT INTO notes (body) SELECT secret FROM vault;;INSERT INTO vault SELECT 'globex', 1, 'planted'",
    ),
    (
        "INSERT ON CONFLICT DO UPDATE",
        "INSERT INTO vault (tenant_id, id) VALUES ('globex', 735511) ON CONFLICT (tenant_id, id) DO UPDATE SET secret = 'changed' RETURNING *",
    ),
    (
        "INSERT with OVERRIDING",
        "INSERT INTO vault (tenant_id, id, secret) OVERRIDING SYSTEM VALUE VALUES ('globex', 1, 'planted')",
    ),
    ("INSERT with DEFAULT", "SET app.current_tenant_id = 'initech';;INSERT INTO vault DEFAULT VALUES"),
    ("a note on another's row", "INSERT INTO notes (tenant_id, vault_id) VALUES ('acme', 735511)"),
    (
        "a CTE that writes",
        "WITH w AS (UPDATE vault SET tenant_id = 'globex' RETURNING *), d AS (DELETE FROM notes RETURNING *) SELECT * FROM w, d",
    ),
    (
        "an updatable view",
        "CREATE VIEW scratch.v AS SELECT * FROM vault;;INSERT INTO scratch.v (tenant_id) VALUES ('globex');;UPDATE scratch.v SET amount = 13",
    ),
    ("COPY FROM", "COPY things FROM STDIN"),
    ("COPY FROM a partition", "COPY events_1 FROM STDIN"),
];

const MERGES: &[(&str, &str)] = &[
    (
        "MERGE that updates",
        "MERGE INTO vault v USING (VALUES (735511)) s (id) ON v.id = s.id WHEN MATCHED THEN UPDATE SET secret = 'changed' WHEN NOT MATCHED THEN INSERT (tenant_id, id) VALUES ('globex', 5)",
    ),
    (
        "MERGE that deletes",
        "MERGE INTO notes n USING (VALUES (1)) s (id) ON true WHEN MATCHED AND n.tenant_id = 'globex' THEN DELETE WHEN MATCHED THEN DO NOTHING",
    ),
    (
        "MERGE that moves",
        "MERGE INTO vault v USING (VALUES (1)) s (id) ON true WHEN MATCHED THEN UPDATE SET tenant_id = 'globex'",
    ),
    (
        "MERGE that tells",
        "CREATE FUNCTION pg_temp.tell(a text) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'saw %', a; RETURN true; END $$;;MERGE INTO vault v USING (VALUES (1)) s (id) ON pg_temp.tell(v.secret) WHEN MATCHED AND pg_temp.tell(v.secret) THEN UPDATE SET amount = amount",
    ),
];

const ORACLES: &[(&str, &str)] = &[
    ("guess: count", "SELECT count(*) FROM vault WHERE pin = {guess}"),
    ("guess: a division by zero", "SELECT 1 / (pin - {guess}) FROM vault WHERE tenant_id = 'globex'"),
    ("guess: a division by zero in UPDATE", "UPDATE vault SET amount = 1 / (pin - {guess}) WHERE tenant_id <> 'acme'"),
    ("guess: an overflow", "SELECT 2147483647 - {guess} + pin FROM vault WHERE tenant_id <> 'acme'"),
    ("guess: the primary key", "INSERT INTO vault (tenant_id, id) VALUES ('globex', {guess})"),
    ("guess: the primary key with one's own tenant", "INSERT INTO vault (id) VALUES ({guess})"),
    (
        "guess: ON CONFLICT DO NOTHING",
        "INSERT INTO vault (tenant_id, id) VALUES ('globex', {guess}) ON CONFLICT DO NOTHING",
    ),
    (
        "guess: ON CONFLICT DO UPDATE",
        "INSERT INTO vault (tenant_id, id) VALUES ('globex', {guess}) ON CONFLICT (tenant_id, id) DO UPDATE SET amount = 2 RETURNING xmax::text = '0'",
    ),
    ("guess: UPDATE to a key", "UPDATE vault SET tenant_id = 'globex', id = {guess} WHERE id = 1"),
    ("guess: the foreign key", "INSERT INTO notes (vault_id) VALUES ({guess})"),
    (
        "guess: the foreign key of the other tenant",
        "INSERT INTO notes (tenant_id, vault_id) VALUES ('globex', {guess})",
    ),
    (
        "guess: the foreign key, deferred",
        "SET CONSTRAINTS ALL DEFERRED;;INSERT INTO notes (vault_id) VALUES ({guess});;SET CONSTRAINTS ALL IMMEDIATE",
    ),
    ("guess: DELETE", "DELETE FROM vault WHERE id = {guess}"),
    ("guess: FOR UPDATE", "SELECT 1 FROM vault WHERE id = {guess} FOR UPDATE SKIP LOCKED"),
    (
        "guess: EXISTS in one's own row",
        "UPDATE vault SET amount = 1 WHERE EXISTS (SELECT FROM vault WHERE pin = {guess})",
    ),
    ("guess: NOT IN", "SELECT {guess} NOT IN (SELECT pin FROM vault)"),
];

const MERGE_ORACLE: (&str, &str) = (
    "guess: MERGE",
    "MERGE INTO vault v USING (VALUES ({guess})) s (id) ON v.id = s.id WHEN MATCHED THEN UPDATE SET amount = 2",
);

/// How much the victim does, by what is no row of it. The empty limit is none.
const VOLUMES: &[(&str, &str, &str)] = &[
    ("how much: count", "SELECT count(*) FROM vault", ""),
    ("how much: pg_stats", "SELECT count(*), max(n_distinct)::int FROM pg_stats WHERE tablename = 'vault'", ""),
    ("how much: pg_relation_size", "SELECT pg_relation_size('vault')", TABLE_SIZES),
    ("how much: pg_total_relation_size", "SELECT pg_total_relation_size('vault_pkey')", TABLE_SIZES),
    (
        "how much: pg_class",
        "SELECT reltuples::bigint, relpages FROM pg_class WHERE oid = 'public.vault'::regclass",
        TABLE_SIZES,
    ),
    (
        "how much: pg_stat_user_tables",
        "SELECT n_live_tup FROM pg_stat_user_tables WHERE relid = 'public.vault'::regclass",
        TABLE_SIZES,
    ),
    (
        "how much: currtid2",
        "SELECT string_agg(currtid2('vault', format('(0,%s)', n)::tid)::text, ' ') FROM generate_series(1, 20) n",
        TABLE_SIZES,
    ),
    ("how much: last_value", "SELECT last_value FROM vault_id_seq", SEQUENCES),
    ("how much: pg_sequences", "SELECT last_value FROM pg_sequences WHERE sequencename = 'vault_id_seq'", SEQUENCES),
    ("how much: nextval", "SELECT nextval('vault_id_seq')", SEQUENCES),
    ("how much: one's own new row", "INSERT INTO vault (secret) VALUES ('x') RETURNING id", SEQUENCES),
    ("how much: EXPLAIN", "EXPLAIN SELECT * FROM vault WHERE amount = 4711", STATISTICS),
    (
        "how much: EXPLAIN ANALYZE",
        "SET enable_indexscan = off; SET enable_bitmapscan = off;;EXPLAIN (ANALYZE, BUFFERS OFF, COSTS OFF, TIMING OFF, SUMMARY OFF) SELECT * FROM vault",
        STATISTICS,
    ),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let held = |attack: Attack| if HELD_OTHERWISE.contains(&attack.name) { attack } else { attack.held_by_policies() };
    let mut attacks: Vec<_> = [READS, WRITES].concat().iter().map(Attack::sql).map(held).collect();
    attacks.extend(LEAKY.iter().map(|row| held(Attack::sql_behind(TELLS, row))));
    attacks.push(held(Attack::sql(&("the view", "TABLE totals")).since(15)));
    attacks.extend(MERGES.iter().map(|row| held(Attack::sql(row).since(15))));
    attacks.extend(ORACLES.iter().map(Attack::oracle).map(held));
    attacks.push(held(Attack::oracle(&MERGE_ORACLE).since(15)));
    attacks.push(
        Attack::oracle(&("guess: EXPLAIN", "EXPLAIN SELECT 1 FROM vault WHERE pin = {guess}")).within(STATISTICS),
    );
    attacks.extend(VOLUMES.iter().map(Attack::volume));
    attacks
}

/// What does not work without policies either, since the keys have the tenant in them.
const HELD_OTHERWISE: &[&str] = &[
    "a note on another's row",
    "guess: the primary key with one's own tenant",
    "guess: the foreign key",
    "guess: the foreign key, deferred",
];
