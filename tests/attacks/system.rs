//! What the server knows of everybody, its files, and the key.

use std::time::Duration;

use bytes::BytesMut;
use postgres_protocol::message::frontend;

use crate::attack::Attack;
use crate::limits::{ACTIVITY, LARGE_OBJECTS};
use crate::shop::LOGINS;
use crate::stage::Stage;

/// The key and what stands beside it.
const KEY: &[(&str, &str)] = &[
    ("read the key", "TABLE pgvpd.signing_key"),
    ("read the key's id", "SELECT kid FROM pgvpd.signing_key"),
    ("read the key's table", "TABLE pgvpd_private.signing_key"),
    (
        "read the key as its columns' row",
        "SELECT (k).opad FROM pgvpd.signing_key k WHERE row_security_active('pgvpd.signing_key')",
    ),
    ("a rule on the key", "CREATE RULE r AS ON INSERT TO pgvpd.signing_key DO NOTHING"),
    ("a rule on the key's table", "CREATE RULE r AS ON INSERT TO pgvpd_private.signing_key DO NOTHING"),
    (
        "a trigger on the key's table",
        "CREATE TRIGGER t BEFORE INSERT ON pgvpd_private.signing_key FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ),
    ("a reference to the key's table", "CREATE TABLE scratch.r (kid text REFERENCES pgvpd_private.signing_key)"),
    ("a rule on the nonces", "CREATE RULE r AS ON INSERT TO pgvpd_private.session_nonce DO NOTHING"),
    ("move the keys' end", "SELECT setval('pgvpd_private.key_end', 0)"),
    ("write the keys' generation", "UPDATE pgvpd_private.key_generation SET generation = 1"),
    ("NULL for a context", "SELECT pgvpd_context(NULL), set_config('pgvpd.context', NULL, false), current_tenant_id()"),
    (
        "plans and notices of the verifier",
        "SET client_min_messages = debug5;;SET debug_print_plan = on;;SET debug_print_parse = on;;SELECT current_tenant_id(), pgvpd.attach()",
    ),
    ("COPY the key", "COPY pgvpd.signing_key TO STDOUT"),
    ("read the key by table_to_xml", "SELECT table_to_xml('pgvpd.signing_key', true, false, '')"),
    (
        "read the key's statistics",
        "SELECT * FROM pg_stats WHERE schemaname = 'pgvpd';;SELECT * FROM pg_stats_ext;;SELECT * FROM pg_statistic",
    ),
    ("read the key by currtid2", "SELECT currtid2('pgvpd.signing_key', '(0,1)')"),
    ("read the key by a query that fails", "SELECT pgvpd_context('x') FROM pgvpd.signing_key"),
    ("read the key through a view", "CREATE VIEW scratch.v AS TABLE pgvpd.signing_key;;TABLE scratch.v"),
    ("read the key FOR UPDATE", "SELECT 1 FROM pgvpd.signing_key FOR UPDATE"),
    (
        "write a key",
        "INSERT INTO pgvpd.signing_key VALUES ('2', decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex'))",
    ),
    ("change the key", "UPDATE pgvpd.signing_key SET ipad = decode(repeat('36', 64), 'hex')"),
    ("delete the key", "DELETE FROM pgvpd.signing_key"),
    ("truncate the key", "TRUNCATE pgvpd.signing_key"),
    ("drop the key", "DROP TABLE pgvpd.signing_key CASCADE"),
    ("a reference to the key", "CREATE TABLE scratch.r (kid text REFERENCES pgvpd.signing_key)"),
    ("a child of the key", "CREATE TABLE scratch.c () INHERITS (pgvpd.signing_key)"),
    ("lock the key", "BEGIN;;LOCK TABLE pgvpd.signing_key IN ACCESS EXCLUSIVE MODE"),
    ("install_key", "SELECT pgvpd.install_key('1', decode(repeat('00', 32), 'hex'))"),
    (
        "install_key by the fast path's cousin",
        "DO $$ BEGIN EXECUTE 'SELECT pgvpd.install_key(''2'', decode(repeat(''00'', 32), ''hex''))'; END $$",
    ),
    ("retire_key", "SELECT pgvpd.retire_key('1')"),
    ("create_tenant_role", "SELECT pgvpd.create_tenant_role('globex')"),
    ("write tenant_role", "INSERT INTO pgvpd.tenant_role VALUES ('app_user', 'globex')"),
    ("move the nonce", "SELECT nextval('pgvpd_private.session_nonce')"),
    ("set the nonce", "SELECT setval('pgvpd_private.session_nonce', 1)"),
    ("restart the nonces", "ALTER SEQUENCE pgvpd_private.session_nonce RESTART"),
    ("read the nonces", "SELECT last_value FROM pgvpd_private.session_nonce"),
    ("read one's own nonce", "SELECT currval('pgvpd_private.session_nonce');;SELECT pgvpd.nonce()"),
    ("lock the nonces", "BEGIN;;LOCK TABLE pgvpd_private.session_nonce"),
    ("attach", "SELECT pgvpd.attach()"),
    ("attach, many times", "SELECT count(pgvpd.attach()) FROM generate_series(1, 5000)"),
    ("attach in a transaction that is rolled back", "BEGIN;;SELECT pgvpd.attach();;ROLLBACK"),
    ("attach, read only", "BEGIN READ ONLY;;SELECT pgvpd.attach();;COMMIT"),
    ("create in schema pgvpd", "CREATE FUNCTION pgvpd.nonce(text) RETURNS bigint LANGUAGE sql AS 'SELECT 1::bigint'"),
    ("context_expression with SQL in the name", "SELECT pgvpd.context_expression(25, $$x') OR true --$$)"),
    (
        "a policy's cast with SQL in the value",
        "SELECT pgvpd.to_uuid($$' OR true --$$), pgvpd.to_bigint('1 OR 1'), pgvpd.to_bpchar($$x' --$$)",
    ),
    ("parse_condition with SQL in it", "SELECT pgvpd.parse_condition($$x = ( SELECT pgvpd.attach())$$)"),
    ("the status", "SELECT * FROM pgvpd_status()"),
    ("NULL for any argument", NULLS),
];

/// Each function that a session may call, with NULL for all arguments, and for each alone. The answers come back as notices.
const NULLS: &str = r"DO $$ DECLARE f record; call text; answer text; BEGIN
    FOR f IN SELECT p.oid::regproc AS name, p.pronargs::int AS number, p.proargtypes::oid[] AS types FROM pg_proc p
             WHERE p.pronamespace IN ('pgvpd'::regnamespace, 'public'::regnamespace) AND p.prokind = 'f' AND p.pronargs > 0
               AND p.prorettype <> 'trigger'::regtype AND has_function_privilege(p.oid, 'EXECUTE') LOOP
      FOR alone IN 0 .. f.number LOOP
        SELECT format('SELECT string_agg(f::text, %L) FROM %s(%s) f', ',', f.name, string_agg(format('%L::%s',
                 CASE WHEN alone IN (0, n) THEN NULL WHEN t = 'bytea'::regtype THEN '\x00' WHEN t = 'regclass'::regtype THEN 'public.vault'
                      WHEN t IN ('int'::regtype, 'bigint'::regtype, 'oid'::regtype, 'regtype'::regtype) THEN '25'
                      WHEN t = 'timestamptz'::regtype THEN 'infinity' ELSE 'app.current_tenant_id' END, t::regtype), ', ' ORDER BY n))
          INTO call FROM unnest(f.types) WITH ORDINALITY a (t, n);
        BEGIN
          EXECUTE call INTO answer; RAISE NOTICE '% is %', call, answer;
        EXCEPTION WHEN OTHERS THEN RAISE NOTICE '% fails, %', call, SQLERRM; END;
      END LOOP;
    END LOOP; END $$";

/// What locks a relation, `{}`, before it looks at rights.
const LOCKING: &[&str] = &[
    "CREATE RULE r AS ON INSERT TO {} DO NOTHING",
    "CREATE TRIGGER t BEFORE INSERT ON {} FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE TABLE scratch.r (k text REFERENCES {})",
    "CREATE TABLE scratch.c () INHERITS ({})",
    "CREATE STATISTICS scratch.s ON kid, ipad FROM {}",
    "LOCK TABLE {} IN ACCESS EXCLUSIVE MODE",
    "ALTER TABLE {} ADD COLUMN x int",
    "ALTER SEQUENCE {} RESTART",
    "TRUNCATE {}",
    "DROP TABLE {}",
];

/// What every session's statements need.
const NEEDED: &[&str] = &[
    "pgvpd.signing_key",
    "pgvpd.session_nonce",
    "pgvpd.tenant_role",
    "pgvpd_private.signing_key",
    "pgvpd_private.session_nonce",
    "pgvpd_private.tenant_role",
    "pgvpd_private.key_end",
    "pgvpd_private.key_generation",
];

const SERVER: &[(&str, &str)] = &[
    ("pg_authid", "TABLE pg_authid"),
    ("pg_shadow", "TABLE pg_shadow"),
    ("pg_user_mapping", "TABLE pg_user_mapping"),
    ("pg_statistic", "TABLE pg_statistic"),
    ("pg_stats", "SELECT * FROM pg_stats WHERE tablename IN ('vault', 'notes', 'events_1', 'things', 'things_old')"),
    ("pg_stats, with leaky conditions", "SELECT * FROM pg_stats WHERE most_common_vals::text ~ '[a-p]{32}'"),
    ("pg_stats_ext_exprs", "TABLE pg_stats_ext_exprs"),
    ("pg_largeobject", "TABLE pg_largeobject"),
    ("pg_subscription", "SELECT subconninfo FROM pg_subscription"),
    ("pg_hba_file_rules", "TABLE pg_hba_file_rules"),
    ("pg_file_settings", "TABLE pg_file_settings"),
    ("pg_config", "TABLE pg_config"),
    ("pg_backend_memory_contexts", "TABLE pg_backend_memory_contexts"),
    ("pg_shmem_allocations", "TABLE pg_shmem_allocations"),
    ("pg_prepared_statements and pg_cursors", "TABLE pg_prepared_statements;;TABLE pg_cursors"),
    (
        "pg_locks and pg_stat_database",
        "TABLE pg_locks;;TABLE pg_stat_database;;TABLE pg_stat_replication;;TABLE pg_stat_ssl",
    ),
    ("pg_seclabels and pg_description", "TABLE pg_seclabels;;TABLE pg_description"),
    ("pg_read_file", "SELECT pg_read_file('postgresql.conf')"),
    ("pg_read_binary_file of the table", "SELECT pg_read_binary_file(pg_relation_filepath('vault'))"),
    ("pg_ls_dir", "SELECT pg_ls_dir('.')"),
    ("pg_ls_logdir", "SELECT pg_ls_logdir()"),
    ("pg_ls_waldir", "SELECT pg_ls_waldir()"),
    ("pg_stat_file", "SELECT pg_stat_file('PG_VERSION')"),
    ("pg_current_logfile", "SELECT pg_current_logfile()"),
    ("COPY FROM a file", "CREATE TEMP TABLE t (a text);;COPY t FROM '/etc/passwd'"),
    ("COPY TO a file", "COPY vault TO '/tmp/pgvpd_attack'"),
    ("COPY TO PROGRAM", "COPY vault TO PROGRAM 'cat'"),
    ("COPY FROM PROGRAM", "CREATE TEMP TABLE t (a text);;COPY t FROM PROGRAM 'id'"),
    ("lo_import", "SELECT lo_import('/etc/passwd')"),
    ("lo_export", "SELECT lo_export(lo_create(0), '/tmp/pgvpd_attack')"),
    ("ALTER SYSTEM of a library", "ALTER SYSTEM SET shared_preload_libraries = 'x'"),
    ("pg_reload_conf", "SELECT pg_reload_conf()"),
    ("pg_rotate_logfile", "SELECT pg_rotate_logfile()"),
    ("pg_switch_wal", "SELECT pg_switch_wal()"),
    ("pg_create_restore_point", "SELECT pg_create_restore_point('x')"),
    ("pg_export_snapshot", "BEGIN ISOLATION LEVEL REPEATABLE READ;;SELECT pg_export_snapshot();;SELECT * FROM vault"),
    ("a logical slot", "SELECT pg_create_logical_replication_slot('s', 'pgoutput')"),
    ("a physical slot", "SELECT pg_create_physical_replication_slot('s')"),
    ("pg_logical_slot_get_changes", "SELECT pg_logical_slot_get_changes('s', NULL, NULL)"),
    ("pg_logical_emit_message", "SELECT pg_logical_emit_message(false, 'x', 'y')"),
    ("pg_stat_reset", "SELECT pg_stat_reset()"),
    (
        "pg_log_backend_memory_contexts",
        "SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE usename = 'app_user'",
    ),
    ("lo_get of every large object", "SELECT lo_get(oid) FROM pg_largeobject_metadata"),
    ("log_statement", "SET log_statement = 'all'"),
    (
        "debug_print_plan to the client",
        "SET client_min_messages = debug5; SET debug_print_plan = on; SET debug_print_rewritten = on;;SELECT * FROM vault",
    ),
    ("track_activities off", "SET track_activities = off;;SELECT 1"),
    ("local_preload_libraries", "SET local_preload_libraries = 'x'"),
    ("session_preload_libraries for the role", "ALTER ROLE app_user SET session_preload_libraries = 'x'"),
    ("dynamic_library_path", "SET dynamic_library_path = '/tmp'"),
    ("lo_compat_privileges", "SET lo_compat_privileges = on;;SELECT lo_get(oid) FROM pg_largeobject_metadata"),
    ("zero_damaged_pages", "SET zero_damaged_pages = on"),
    (
        "transaction_timeout of nobody",
        "SET idle_in_transaction_session_timeout = 1;;SET statement_timeout = 1;;SELECT pg_sleep(0.01)",
    ),
];

/// On the victim's large object, whose number is `@`.
const LARGE: &[(&str, &str)] = &[
    ("another's large object", "SELECT lo_get(oid) FROM pg_largeobject_metadata"),
    ("another's large object, by number", "SELECT lo_get(@)"),
    (
        "another's large object, by descriptor",
        "BEGIN;;SELECT loread(lo_open(oid, 262144), 1000) FROM pg_largeobject_metadata",
    ),
    ("another's large object, by descriptor and number", "BEGIN;;SELECT loread(lo_open(@, 262144), 1000)"),
    ("another's large object, written", "SELECT lo_put(@, 0, 'x')"),
    ("another's large object, cut", "BEGIN;;SELECT lo_truncate(lo_open(@, 131072), 0);;COMMIT"),
    ("another's large object, given away", "GRANT ALL ON LARGE OBJECT @ TO PUBLIC;;SELECT lo_get(@)"),
    ("another's large object removed", "SELECT lo_unlink(oid) FROM pg_largeobject_metadata"),
    ("another's large object, removed by number", "SELECT lo_unlink(@)"),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<_> = [KEY, SERVER].concat().iter().map(Attack::sql).collect();
    attacks.push(activity("what others run", "SELECT query FROM pg_stat_activity"));
    attacks.push(activity(
        "what others run, by number",
        "SELECT pg_stat_get_backend_activity(n) FROM generate_series(1, 100) n",
    ));
    attacks.push(activity("what others run, unviewed", "SELECT * FROM pg_stat_get_activity(NULL)"));
    attacks.extend(LARGE.iter().map(large_object));
    attacks.push(Attack::by("the victim's context in what others run", |stage| Box::pin(context_text(stage))));
    attacks.push(Attack::by("a verifier by the function that proxies ask", |stage| Box::pin(ask_for_verifiers(stage))));
    attacks.push(Attack::by("a lock on what every session needs", |stage| Box::pin(lock_needed(stage))));
    attacks.push(Attack::by("pg_stat_statements", |_| Box::pin(async { Err("it is not installed here") })));
    attacks
}

/// The victim has its secret in a statement's text.
fn activity(name: &'static str, sql: &'static str) -> Attack {
    let attack = Attack::by(name, move |stage| {
        Box::pin(async move {
            let mut victim = stage.victim_at(&stage.proxy).await;
            victim.query(&format!("SELECT '{}'", stage.marker)).await;
            let mut attacker = stage.attacker().await;
            attacker.run(sql).await;
            attacker.leave().await;
            victim.leave().await;
            Ok(())
        })
    });
    attack.within(ACTIVITY)
}

/// A restore without rights (`pg_dump -x`) leaves what PostgreSQL gives by itself: everybody may call the function.
async fn ask_for_verifiers(stage: &Stage) -> Result<(), &'static str> {
    stage.execute("GRANT EXECUTE ON FUNCTION public.pgvpd_get_auth(text) TO PUBLIC").await;
    let mut attacker = stage.attacker().await;
    for role in LOGINS {
        attacker.query(&format!("SELECT * FROM pgvpd_get_auth('{role}')")).await;
    }
    attacker.query("SELECT a FROM pg_roles, LATERAL pgvpd_get_auth(rolname) a").await;
    attacker.query("SELECT pgvpd_get_auth(NULL)").await;
    attacker.leave().await;
    stage.execute("REVOKE EXECUTE ON FUNCTION public.pgvpd_get_auth(text) FROM PUBLIC").await;
    Ok(())
}

/// One session uses them in a transaction that goes on, another asks for a lock: every later session would wait for both.
async fn lock_needed(stage: &Stage) -> Result<(), &'static str> {
    let (mut using, mut asking) = (stage.attacker().await, stage.attacker().await);
    using.run("BEGIN;;SELECT current_tenant_id(), pgvpd.attach()").await;
    for (statement, relation) in LOCKING.iter().flat_map(|one| NEEDED.iter().map(move |other| (one, other))) {
        let mut out = BytesMut::new();
        frontend::query(&statement.replace("{}", relation), &mut out).expect("query");
        asking.send(&out).await;
        // A refusal comes at once. Where none does, the statement waits, and so does every later session.
        if asking.message_within(Duration::from_millis(500)).await.is_none() {
            stage.reached(format!("{} waits", statement.replace("{}", relation)));
            break;
        }
        asking.reply().await;
    }
    stage.check_victim().await;
    stage.check_new_victim(&stage.proxy).await;
    asking.break_off();
    using.leave().await;
    Ok(())
}

/// The victim has only logged in, by each way there is: nothing of its context may be in a statement's text.
async fn context_text(stage: &Stage) -> Result<(), &'static str> {
    let (one, other) = (stage.victim_at(&stage.proxy).await, stage.victim_at(&stage.narrow).await);
    let mut attacker = stage.attacker().await;
    let texts =
        "SELECT query FROM pg_stat_activity WHERE query ~* 'globex|676c6f626578|v1[.]1[.]' AND pid <> pg_backend_pid()";
    if let Some(text) = attacker.query(texts).await.value() {
        stage.reached(format!("the text of a statement is {text:?}"));
    }
    attacker.leave().await;
    one.leave().await;
    other.leave().await;
    Ok(())
}

/// The victim has its secret in a large object, which it still wants. The superuser has made it, since tenants may not in every mode.
fn large_object(&(name, sql): &(&'static str, &'static str)) -> Attack {
    let attack = Attack::by(name, move |stage| {
        Box::pin(async move {
            let made = stage.admin.query_one("SELECT lo_from_bytea(0, convert_to($1, 'UTF8'))", &[&stage.marker]).await;
            let number: u32 = made.expect("a large object").get(0);
            stage.execute(&format!("ALTER LARGE OBJECT {number} OWNER TO \"{}\"", stage.victims_role())).await;
            let mut attacker = stage.attacker().await;
            attacker.run(&sql.replace('@', &number.to_string())).await;
            attacker.leave().await;
            match stage.admin.query_one("SELECT convert_from(lo_get($1), 'UTF8')", &[&number]).await {
                Ok(row) if row.get::<_, &str>(0) == stage.marker => {}
                Ok(_) => stage.reached("the victim's large object is not as it was"),
                Err(_) => stage.reached("the victim's large object is gone"),
            }
            stage.execute(&format!("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid = {number}")).await;
            Ok(())
        })
    });
    attack.within(LARGE_OBJECTS)
}
