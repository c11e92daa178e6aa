//! Objects of the attacker's own in place of those that policies rest on, and changes to those.

use crate::attack::Attack;

/// What stands first in the search_path is the attacker's. Each then reads every table.
const SHADOWS: &[(&str, &str)] = &[
    (
        "shadow of current_tenant_id, pg_temp",
        "CREATE FUNCTION pg_temp.current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; SET search_path = pg_temp, public, pg_catalog",
    ),
    (
        "shadow of current_tenant_id, own schema",
        "CREATE FUNCTION scratch.current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; SET search_path = scratch, public, pg_catalog",
    ),
    (
        "shadow of pgvpd_context",
        "CREATE FUNCTION scratch.pgvpd_context(var text) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; SET search_path = scratch, public, pg_catalog",
    ),
    (
        "shadow of current_setting",
        "CREATE FUNCTION scratch.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of pg_backend_pid",
        "CREATE FUNCTION scratch.pg_backend_pid() RETURNS int LANGUAGE sql AS $$ SELECT 1 $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of sha256",
        "CREATE FUNCTION scratch.sha256(bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of convert_from",
        "CREATE FUNCTION scratch.convert_from(bytea, name) RETURNS text LANGUAGE sql AS $$ SELECT '{\"app.current_tenant_id\": \"globex\"}' $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of decode and encode",
        "CREATE FUNCTION scratch.decode(text, text) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$; CREATE FUNCTION scratch.encode(bytea, text) RETURNS text LANGUAGE sql AS $$ SELECT '' $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of string_to_array",
        "CREATE FUNCTION scratch.string_to_array(text, text) RETURNS text[] LANGUAGE sql AS $$ SELECT '{v1,1}'::text[] $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of currval and nextval",
        "CREATE FUNCTION pg_temp.currval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$; CREATE FUNCTION pg_temp.nextval(regclass) RETURNS bigint LANGUAGE sql AS $$ SELECT 1::bigint $$; SET search_path = pg_temp, pg_catalog, public; SELECT pgvpd.attach()",
    ),
    (
        "shadow of now",
        "CREATE FUNCTION scratch.now() RETURNS timestamptz LANGUAGE sql AS $$ SELECT '-infinity'::timestamptz $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of to_uuid",
        "CREATE FUNCTION scratch.to_uuid(text) RETURNS uuid LANGUAGE sql AS $$ SELECT NULL::uuid $$; SET search_path = scratch, pgvpd, pg_catalog, public",
    ),
    (
        "shadow of text = text",
        "CREATE FUNCTION scratch.yes(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR scratch.= (LEFTARG = text, RIGHTARG = text, FUNCTION = scratch.yes); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of bytea <> bytea",
        "CREATE FUNCTION scratch.no(bytea, bytea) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$; CREATE OPERATOR scratch.<> (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = scratch.no); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of text <> text and int = int",
        "CREATE FUNCTION scratch.no(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT false $$; CREATE FUNCTION scratch.yes(int, int) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR scratch.<> (LEFTARG = text, RIGHTARG = text, FUNCTION = scratch.no); CREATE OPERATOR scratch.= (LEFTARG = int, RIGHTARG = int, FUNCTION = scratch.yes); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of json ->> text",
        "CREATE FUNCTION scratch.get(json, text) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; CREATE OPERATOR scratch.->> (LEFTARG = json, RIGHTARG = text, FUNCTION = scratch.get); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of text || text",
        "CREATE FUNCTION scratch.cat(bytea, bytea) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$; CREATE OPERATOR scratch.|| (LEFTARG = bytea, RIGHTARG = bytea, FUNCTION = scratch.cat); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of the type text",
        "CREATE DOMAIN pg_temp.text AS varchar DEFAULT 'globex'; CREATE DOMAIN scratch.text AS varchar; SET search_path = pg_temp, scratch, pg_catalog, public",
    ),
    (
        "shadow of the type bigint",
        "CREATE DOMAIN scratch.int8 AS int4; CREATE TYPE scratch.json AS (a int); SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of the table signing_key",
        "CREATE TEMP TABLE signing_key (kid text, ipad bytea, opad bytea, not_after timestamptz); INSERT INTO signing_key VALUES ('1', decode(repeat('36', 64), 'hex'), decode(repeat('5c', 64), 'hex'), 'infinity'); SET search_path = pg_temp, pgvpd_private, pgvpd, public",
    ),
    (
        "shadow of the sequence session_nonce",
        "CREATE TEMP SEQUENCE session_nonce; SELECT nextval('pg_temp.session_nonce'); SET search_path = pg_temp, pgvpd_private, pgvpd, public",
    ),
    (
        "shadow of the table tenant_role",
        "CREATE TEMP TABLE tenant_role (rolname name, tenant text); INSERT INTO tenant_role VALUES ('app_user', 'globex'); SET search_path = pg_temp, pgvpd_private, pgvpd, public",
    ),
    (
        "shadow of pg_stat_get_activity",
        "CREATE FUNCTION scratch.pg_stat_get_activity(int) RETURNS TABLE (backend_start timestamptz) LANGUAGE sql AS $$ SELECT '2000-01-01'::timestamptz $$; SET search_path = scratch, pg_catalog, public",
    ),
    (
        "shadow of pg_settings and pg_class",
        "CREATE TEMP TABLE pg_settings (name text, setting text); CREATE TEMP TABLE pg_class (oid oid, relrowsecurity bool); SET search_path = pg_temp, pg_catalog, public",
    ),
    (
        "a cast of text to bytea",
        "CREATE FUNCTION scratch.b(text) RETURNS bytea LANGUAGE sql AS $$ SELECT ''::bytea $$; CREATE CAST (text AS bytea) WITH FUNCTION scratch.b(text) AS IMPLICIT",
    ),
    (
        "a cast of a type of one's own",
        "CREATE TYPE scratch.t AS (a text); CREATE FUNCTION scratch.c(scratch.t) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; CREATE CAST (scratch.t AS text) WITH FUNCTION scratch.c(scratch.t) AS IMPLICIT; SELECT secret FROM vault WHERE tenant_id = ROW('globex')::scratch.t",
    ),
    (
        "a composite type with the name of a function",
        "CREATE TYPE scratch.current_tenant_id AS (a text); SET search_path = scratch, public",
    ),
    ("a search_path of one's own only", "SET search_path = scratch; SET check_function_bodies = off"),
    ("an empty search_path", "SELECT set_config('search_path', '', false)"),
];

/// Functions of public, which is everybody's on PostgreSQL 14.
const IN_PUBLIC: &[(&str, &str)] = &[
    (
        "an overload of pgvpd_context in public",
        "CREATE FUNCTION public.pgvpd_context(var varchar) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$",
    ),
    (
        "an overload of current_tenant_id in public",
        "CREATE FUNCTION public.current_tenant_id(VARIADIC text[]) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$",
    ),
    (
        "an operator in public",
        "CREATE FUNCTION public.yes(text, text) RETURNS boolean LANGUAGE sql AS $$ SELECT true $$; CREATE OPERATOR public.= (LEFTARG = text, RIGHTARG = text, FUNCTION = public.yes)",
    ),
    (
        "a function of the system's name in public",
        "CREATE FUNCTION public.current_setting(text, boolean) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$; SET search_path = public, pg_catalog",
    ),
    ("a table in public", "CREATE TABLE public.signing_key (kid text)"),
];

/// What the owner alone may do. Each has to be refused.
const REFUSED: &[(&str, &str)] = &[
    (
        "CREATE OR REPLACE current_tenant_id",
        "CREATE OR REPLACE FUNCTION public.current_tenant_id() RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$",
    ),
    (
        "CREATE OR REPLACE pgvpd_context",
        "CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text LANGUAGE sql AS $$ SELECT 'globex' $$",
    ),
    ("ALTER FUNCTION SET search_path", "ALTER FUNCTION public.pgvpd_context(text) SET search_path = scratch"),
    ("ALTER FUNCTION SECURITY INVOKER", "ALTER FUNCTION public.current_tenant_id() SECURITY INVOKER"),
    ("ALTER FUNCTION IMMUTABLE", "ALTER FUNCTION public.current_tenant_id() IMMUTABLE"),
    ("ALTER FUNCTION RENAME", "ALTER FUNCTION public.current_tenant_id() RENAME TO gone"),
    ("ALTER FUNCTION OWNER", "ALTER FUNCTION public.current_tenant_id() OWNER TO app_user"),
    ("DROP FUNCTION", "DROP FUNCTION public.current_tenant_id() CASCADE"),
    ("REVOKE EXECUTE of a function", "REVOKE EXECUTE ON FUNCTION public.current_tenant_id() FROM PUBLIC"),
    ("DISABLE ROW LEVEL SECURITY", "ALTER TABLE vault DISABLE ROW LEVEL SECURITY"),
    ("NO FORCE ROW LEVEL SECURITY", "ALTER TABLE vault NO FORCE ROW LEVEL SECURITY"),
    ("DISABLE ROW LEVEL SECURITY of a partition", "ALTER TABLE events_1 DISABLE ROW LEVEL SECURITY"),
    ("DETACH PARTITION", "ALTER TABLE events DETACH PARTITION events_1"),
    ("ALTER TABLE OWNER", "ALTER TABLE vault OWNER TO app_user"),
    ("ALTER TABLE RENAME", "ALTER TABLE vault RENAME TO gone"),
    ("ALTER TABLE SET SCHEMA", "ALTER TABLE vault SET SCHEMA scratch"),
    ("ALTER COLUMN DEFAULT", "ALTER TABLE vault ALTER tenant_id SET DEFAULT 'globex'"),
    ("ADD COLUMN with a default that reads", "ALTER TABLE vault ADD COLUMN x text DEFAULT 'x'"),
    ("CREATE POLICY", "CREATE POLICY p ON vault USING (true)"),
    ("ALTER POLICY", "ALTER POLICY pgvpd_tenant_guard ON vault USING (true)"),
    ("ALTER POLICY to another role", "ALTER POLICY pgvpd_tenant_guard ON vault TO shop_owner"),
    ("DROP POLICY", "DROP POLICY pgvpd_tenant_isolation ON vault"),
    ("CREATE RULE", "CREATE RULE r AS ON INSERT TO vault DO ALSO NOTHING"),
    (
        "CREATE TRIGGER",
        "CREATE FUNCTION scratch.f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', NEW; RETURN NEW; END $$; CREATE TRIGGER t BEFORE UPDATE ON vault FOR EACH ROW EXECUTE FUNCTION scratch.f()",
    ),
    (
        "CREATE INDEX on a function of one's own",
        "CREATE FUNCTION scratch.f(text) RETURNS text IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', $1; RETURN $1; END $$; CREATE INDEX ON vault (scratch.f(secret))",
    ),
    ("CREATE STATISTICS", "CREATE STATISTICS scratch.s (mcv) ON tenant_id, secret FROM vault"),
    ("a partition of one's own", "CREATE TABLE scratch.p PARTITION OF events FOR VALUES FROM (100) TO (200)"),
    ("a child of one's own", "CREATE TABLE scratch.c () INHERITS (things)"),
    (
        "a reference to the table",
        "CREATE TABLE scratch.r (tenant_id text, id bigint, FOREIGN KEY (tenant_id, id) REFERENCES vault)",
    ),
    ("a publication", "CREATE PUBLICATION p FOR TABLE vault"),
    ("a subscription", "CREATE SUBSCRIPTION s CONNECTION 'dbname=shop' PUBLICATION p WITH (connect = false)"),
    (
        "an event trigger",
        "CREATE FUNCTION scratch.f() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$; CREATE EVENT TRIGGER e ON ddl_command_start EXECUTE FUNCTION scratch.f()",
    ),
    ("a schema", "CREATE SCHEMA pg_own"),
    ("a schema, plain", "CREATE SCHEMA mine"),
    ("an extension", "CREATE EXTENSION dblink"),
    ("a language", "CREATE LANGUAGE mine HANDLER plpgsql_call_handler"),
    ("a C function", "CREATE FUNCTION scratch.f() RETURNS int LANGUAGE c AS 'libc', 'system'"),
    ("an internal function", "CREATE FUNCTION scratch.f(cstring) RETURNS int LANGUAGE internal AS 'pg_read_file'"),
    ("LOAD", "LOAD 'pg_prewarm'"),
    ("a foreign data wrapper", "CREATE FOREIGN DATA WRAPPER f"),
    ("a tablespace", "CREATE TABLESPACE t LOCATION '/tmp'"),
    ("a database from the template of this one", "CREATE DATABASE copy TEMPLATE shop"),
    ("ALTER DATABASE", "ALTER DATABASE shop OWNER TO app_user"),
    ("an operator class for text", "CREATE OPERATOR CLASS scratch.o DEFAULT FOR TYPE text USING btree AS STORAGE text"),
    (
        "a leakproof function",
        "CREATE FUNCTION scratch.f(text) RETURNS boolean LEAKPROOF COST 0.0001 LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', $1; RETURN true; END $$",
    ),
    (
        "a support function",
        "CREATE FUNCTION scratch.f(text) RETURNS text SUPPORT pg_catalog.textlike_support LANGUAGE sql AS 'SELECT $1'",
    ),
    ("SET ROLE to the owner", "SET ROLE shop_owner"),
    ("SET ROLE to pgvpd_owner", "SET ROLE pgvpd_owner"),
    ("SET ROLE to the superuser", "SET ROLE postgres"),
    ("SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION shop_owner"),
    ("set_config of role", "SELECT set_config('role', 'shop_owner', false)"),
    ("set_config of session_authorization", "SELECT set_config('session_authorization', 'postgres', false)"),
    ("a role of one's own rights", "ALTER ROLE app_user BYPASSRLS"),
    ("a role of superuser's rights", "ALTER ROLE app_user SUPERUSER"),
    ("a role that logs in no more", "ALTER ROLE app_user NOLOGIN"),
    ("a role without connections", "ALTER ROLE app_user CONNECTION LIMIT 0"),
    ("a role with an end", "ALTER ROLE app_user VALID UNTIL '2000-01-01'"),
    ("a role renamed", "ALTER ROLE app_user RENAME TO gone"),
    ("a role dropped", "DROP ROLE app_user"),
    ("a role created", "CREATE ROLE helper SUPERUSER LOGIN"),
    ("membership in the owner", "GRANT shop_owner TO app_user"),
    ("membership in pgvpd_owner", "GRANT pgvpd_owner TO app_user"),
    ("membership in pg_read_all_data", "GRANT pg_read_all_data TO app_user"),
    ("GRANT on a table", "GRANT ALL ON pgvpd.signing_key TO app_user"),
    ("REASSIGN OWNED of the owner", "REASSIGN OWNED BY shop_owner TO app_user"),
    ("DROP OWNED of the owner", "DROP OWNED BY shop_owner CASCADE"),
    ("default privileges of the owner", "ALTER DEFAULT PRIVILEGES FOR ROLE shop_owner GRANT ALL ON TABLES TO app_user"),
    ("pgvpd_protect by another column", "SELECT pgvpd_protect('vault', 'secret')"),
    ("protect_table", "SELECT pgvpd.protect_table('vault', 'tenant_id', 'tenant_id')"),
    ("set_policies", "SELECT pgvpd.set_policies('vault', 'pgvpd_tenant_isolation', 'pgvpd_tenant_guard', 'true')"),
    ("lock_tree", "SELECT pgvpd.lock_tree('vault')"),
    ("TRUNCATE", "TRUNCATE vault CASCADE"),
    ("CLUSTER", "CLUSTER vault USING vault_pkey"),
    ("REINDEX", "REINDEX TABLE vault"),
    ("COMMENT", "COMMENT ON TABLE vault IS 'x'"),
    ("DROP TABLE", "DROP TABLE vault CASCADE"),
    ("DROP SCHEMA", "DROP SCHEMA pgvpd CASCADE"),
];

/// Rights that a role has over itself, whoever uses it.
const ON_ITSELF: &[(&str, &str)] = &[
    ("DROP OWNED of oneself", "DROP OWNED BY app_user"),
    ("REVOKE of oneself from pgvpd_owner", "REVOKE app_user FROM pgvpd_owner"),
    ("REVOKE of one's own rights", "REVOKE ALL ON vault FROM app_user"),
    (
        "default privileges of one's own",
        "ALTER DEFAULT PRIVILEGES REVOKE ALL ON FUNCTIONS FROM PUBLIC; ALTER DEFAULT PRIVILEGES IN SCHEMA scratch GRANT ALL ON TABLES TO PUBLIC",
    ),
    ("SET ROLE to nobody", "RESET ROLE; SET ROLE NONE"),
    ("SET SESSION AUTHORIZATION to oneself", "SET SESSION AUTHORIZATION app_user;;RESET SESSION AUTHORIZATION"),
];

pub(crate) fn attacks() -> Vec<Attack> {
    [SHADOWS, IN_PUBLIC, REFUSED, ON_ITSELF].concat().iter().map(Attack::sql).collect()
}
