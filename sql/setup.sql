-- pgvpd setup: the roles, the functions and the policies that scope a session to one tenant.
--
-- How to run, once per database (PostgreSQL 14 to 18):
--     psql -v ON_ERROR_STOP=1 -d mydb -f setup.sql
-- as a superuser, or as a role that owns the database and has CREATEROLE. Running it again is safe, and is how to
-- upgrade. It begins and commits a transaction of its own: do not run it inside another. Then, for every table that
-- holds tenants' rows:
--     SELECT pgvpd_protect('orders');                              -- tenant_id, app.current_tenant_id
--     SELECT pgvpd_protect('projects', 'org_id', 'app.org_id');    -- another column, another session setting
--     SELECT * FROM pgvpd_status();
--
-- Until a signing key is installed (pgvpd init, or pgvpd.install_key below), the context is a plain session setting: it guards
-- against forgotten WHERE clauses, but whoever can run SQL of his own in a session can also SET it to another tenant. From the
-- moment there is a key, only a context that a proxy has signed for this very session counts. docs/security.md has the proof.
--
-- Rules for this file. No psql commands: it also runs as one simple query. Every function pins its search_path, so that
-- no object that a session creates can stand in for a built-in one. No backslash in a plain literal: a session may turn
-- standard_conforming_strings off.

-- One transaction in both ways of running: psql would otherwise commit statement by statement and leave half an
-- installation behind an error. A program that sends this file as one query and gets an error must ROLLBACK. READ
-- COMMITTED, because the checks below must see what a copy that runs at the same time has committed.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

-- Stops, before anything changes, where a name of pgvpd's belongs to somebody else: CREATE OR REPLACE would put our function in the
-- place of the application's own, in every policy and view that calls it. Ours belong to pgvpd_owner, or say so in their comment or
-- their text, which tells those of earlier releases too.
DO $names$
DECLARE
    ours CONSTANT text := 'pgvpd internals, see sql/setup.sql';  -- the comment below
    schema record;
    routine record;
    callers text;
BEGIN
    SELECT n.oid, pg_get_userbyid(n.nspowner) AS owner INTO schema FROM pg_namespace n WHERE n.nspname = 'pgvpd';
    IF FOUND AND obj_description(schema.oid, 'pg_namespace') IS DISTINCT FROM ours AND to_regclass('pgvpd.signing_key') IS NULL
        AND to_regprocedure('pgvpd.check_variable(text)') IS NULL
    THEN
        SELECT string_agg(pg_describe_object(d.classid, d.objid, d.objsubid), ', ') INTO callers FROM (
            SELECT DISTINCT classid, objid, objsubid FROM pg_depend
            WHERE refclassid = 'pg_namespace'::regclass AND refobjid = schema.oid ORDER BY 1, 2, 3 LIMIT 10) d;
        IF callers IS NOT NULL THEN
            RAISE EXCEPTION 'schema pgvpd is not one of pgvpd''s own: it belongs to role %', quote_ident(schema.owner)
                USING ERRCODE = 'duplicate_schema', DETAIL = 'It holds ' || callers || '.',
                      HINT = 'Nothing was changed. Rename it (ALTER SCHEMA pgvpd RENAME TO another_name), then run this again.';
        END IF;
    END IF;
    FOR routine IN
        SELECT p.oid, p.proname AS name, p.oid::regprocedure::text AS signature,
               CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END AS kind,
               quote_ident(pg_get_userbyid(p.proowner)) AS owner, coalesce(pg_get_function_result(p.oid), 'nothing') AS result
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname = 'public' AND (p.proname = 'current_tenant_id' AND p.pronargs = p.pronargdefaults OR p.proname IN (
                'pgvpd_context', 'pgvpd_protect', 'pgvpd_hide_statistics', 'pgvpd_status', 'pgvpd_get_auth', 'pgvpd_context_array',
                'pgvpd_context_uuid_array', 'pgvpd_context_contains', 'pgvpd_context_text_contains', 'pgvpd_protect_acl',
                'pgvpd_notify_on_change', 'pgvpd_notify_off', 'pgvpd_audit'))
          AND NOT coalesce(p.proowner = to_regrole('pgvpd_owner') OR obj_description(p.oid, 'pg_proc') LIKE 'pgvpd: %'
                           OR p.proname <> 'current_tenant_id' AND p.proowner = (SELECT nspowner FROM pg_namespace WHERE nspname = 'pgvpd'), false)
          AND (p.prosrc !~ 'pgvpd|pg_authid' OR p.proname IN ('current_tenant_id', 'pgvpd_context') AND p.prorettype <> 'text'::regtype)
        ORDER BY p.proname, p.oid LIMIT 1
    LOOP
        SELECT string_agg(caller, ', ' ORDER BY caller) INTO callers FROM (
            SELECT coalesce((SELECT format('%s %I.%I', CASE c.relkind WHEN 'm' THEN 'materialized view' ELSE 'view' END, n.nspname, c.relname)
                             FROM pg_rewrite r JOIN pg_class c ON c.oid = r.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
                             WHERE d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid AND r.rulename = '_RETURN'),
                            pg_describe_object(d.classid, d.objid, d.objsubid))
            FROM pg_depend d WHERE d.refclassid = 'pg_proc'::regclass AND d.refobjid = routine.oid
            UNION  -- a text that is only read when it runs leaves no dependency
            SELECT format('function %s', f.oid::regprocedure) FROM pg_proc f JOIN pg_namespace n ON n.oid = f.pronamespace
            WHERE f.prosrc ~ format(E'\\m%s\\M', routine.name) AND f.oid <> routine.oid AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgvpd', 'pgvpd_private')
        ) used (caller);
        RAISE EXCEPTION '% % is not one of pgvpd''s own: it belongs to role % and returns %',
            routine.kind, routine.signature, routine.owner, routine.result
            USING ERRCODE = 'duplicate_function',
                  DETAIL = coalesce('Used by ' || callers || '.', 'No policy, view, default or function uses it by this name.'),
                  HINT = format('Nothing was changed. Rename it: ALTER ROUTINE %s RENAME TO app_%s; what is listed as a policy, a view or a '
                      'default follows the new name, functions and the application''s queries have to be changed. Then run this again.',
                      routine.signature, routine.name);
    END LOOP;
END
$names$;

-- Schema pgvpd: internals that policies use.
DO $schema$
DECLARE
    owner name;
BEGIN
    IF to_regnamespace('pgvpd') IS NULL THEN
        BEGIN
            CREATE SCHEMA pgvpd;
        EXCEPTION WHEN duplicate_schema OR unique_violation THEN
            NULL;  -- another copy was first
        END;
    END IF;
    SELECT pg_get_userbyid(nspowner) INTO owner FROM pg_namespace WHERE nspname = 'pgvpd';
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'pgvpd is already installed in this database, by role %', owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Run this file as %I or as a superuser.', owner);
    END IF;
END
$schema$;
-- Takes a lock that lasts to the end of the transaction: a second copy in the same database waits here.
COMMENT ON SCHEMA pgvpd IS 'pgvpd internals, see sql/setup.sql';

-- Role app_user; pgvpd_owner, who owns the key and the functions that verify with it; and where pgvpd_get_auth can be created,
-- pgvpd_auth, the only one to call it. Without a password, because a default one would be a hole, and never one that row-level
-- security does not bind, directly or through a role that it can SET ROLE to. CREATEROLE counts: up to 15 it can grant itself
-- the rest.
DO $roles$
DECLARE
    role text;
    excess record;
BEGIN
    FOREACH role IN ARRAY ARRAY['app_user', 'pgvpd_owner', 'pgvpd_auth'] LOOP
        IF to_regrole(role) IS NULL AND (role = 'app_user'
            OR (role = 'pgvpd_owner' OR has_table_privilege('pg_authid', 'SELECT'))
                AND (SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user))
        THEN
            BEGIN
                EXECUTE format('CREATE ROLE %I %s NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION',
                               role, CASE role WHEN 'pgvpd_owner' THEN 'NOLOGIN' ELSE 'LOGIN' END);
                IF role <> 'pgvpd_owner' THEN
                    RAISE NOTICE E'role % has no password yet: set one with \\password %', role, role;
                END IF;
            -- Roles belong to the cluster: a copy in another database may create it in the same moment, which shows as
            -- one of the first two, or as "tuple concurrently updated", an internal error. Checked just below.
            EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN
                IF to_regrole(role) IS NULL THEN
                    RAISE;
                END IF;
            END;
        END IF;
        SELECT r.rolname, r.rolname = role AS itself INTO excess FROM pg_roles r
        WHERE (r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole)
          AND pg_has_role(to_regrole(role), r.oid, 'MEMBER')
        ORDER BY itself DESC, r.rolname LIMIT 1;
        IF role = 'pgvpd_owner' AND (SELECT rolcanlogin FROM pg_roles WHERE rolname = role) THEN
            RAISE EXCEPTION 'role pgvpd_owner can log in, and whoever does can read the keys' USING ERRCODE = 'invalid_grant_operation',
                HINT = 'ALTER ROLE pgvpd_owner NOLOGIN; or, if the role is somebody else''s, rename it: ALTER ROLE pgvpd_owner RENAME TO another_name;';
        END IF;
        IF excess.itself THEN
            RAISE EXCEPTION 'role % has SUPERUSER, BYPASSRLS, REPLICATION or CREATEROLE: policies cannot hold it', role
                USING ERRCODE = 'invalid_grant_operation',
                      HINT = format('ALTER ROLE %I NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE;', role);
        ELSIF FOUND THEN
            RAISE EXCEPTION 'role % is a member of %, which policies cannot hold', role, excess.rolname
                USING ERRCODE = 'invalid_grant_operation', HINT = format('REVOKE %I FROM %I;', excess.rolname, role);
        END IF;
    END LOOP;
END
$roles$;

-- pgvpd_owner is to see when app_user's backends began (up to 14 a role may revoke the membership in itself: there it sees those of
-- all roles); the installer, and the first one where a superuser runs this file too, is to
-- be able to act as pgvpd_owner, so that this file can replace its functions. Never the other way round. What cannot be had costs
-- no safety: the installer owns the functions then, and a session is told apart by its nonce alone.
DO $owner$
DECLARE
    modern boolean := current_setting('server_version_num')::int >= 160000;
    installer name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd');
    membership record;
BEGIN
    FOR membership IN
        SELECT member, role, bool_and(pg_has_role(member, role, privilege)) AS is_there,
               CASE WHEN modern AND role = 'pgvpd_owner' THEN ' WITH INHERIT TRUE, SET TRUE' ELSE '' END AS options
        FROM (VALUES ('pgvpd_owner'::name,
                      CASE WHEN current_setting('server_version_num')::int < 150000 THEN 'pg_read_all_stats' ELSE 'app_user' END::name),
                     (current_user, 'pgvpd_owner'), (installer, 'pgvpd_owner')) m (member, role),
             unnest(CASE WHEN modern AND role = 'pgvpd_owner' THEN '{USAGE,SET}'::text[] ELSE '{USAGE}' END) AS privilege
        WHERE to_regrole('pgvpd_owner') IS NOT NULL GROUP BY member, role
    LOOP
        CONTINUE WHEN membership.is_there;
        -- The role belongs to the cluster: whoever may act as it here could read the keys of other databases.
        IF membership.role = 'pgvpd_owner' AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = membership.member)
            AND EXISTS (SELECT FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid = to_regrole('pgvpd_owner')
                        AND deptype = 'o' AND dbid NOT IN (0, (SELECT oid FROM pg_database WHERE datname = current_database())))
        THEN
            RAISE NOTICE 'role % is not made a member of pgvpd_owner, which owns pgvpd''s functions in another database too', membership.member
                USING HINT = 'The functions belong to the installer here. To give it the rights in both: GRANT pgvpd_owner TO it, as a superuser.';
            CONTINUE;
        END IF;
        BEGIN
            EXECUTE format('GRANT %I TO %I%s', membership.role, membership.member, membership.options);
        -- As with CREATE ROLE above, and where the installer may not.
        EXCEPTION WHEN unique_violation OR internal_error OR insufficient_privilege OR invalid_grant_operation THEN
            IF NOT pg_has_role(membership.member, membership.role, 'USAGE') THEN
                RAISE NOTICE 'role % cannot be made a member of %: %', membership.member, membership.role, SQLERRM
                    USING HINT = format('As a superuser: GRANT %I TO %I%s; then run this file again.',
                                        membership.role, membership.member, membership.options);
            END IF;
        END;
    END LOOP;
END
$owner$;

-- Schema pgvpd_private: the tables and sequences. CREATE RULE, CREATE TRIGGER and REFERENCES lock the relation that they name
-- before they look at rights, and every tenant's statements would wait for such a lock. A name in a schema in which a role has no
-- USAGE is refused before. So its owner, who also owns the functions that verify, is the only one to have any right in it.
DO $private$
DECLARE
    installer name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd');
    act CONSTANT text := CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END;
    -- Also where a superuser runs this file: the installer is to be able to run it again.
    owner name := CASE WHEN pg_has_role(to_regrole('pgvpd_owner'), act) AND pg_has_role(installer, to_regrole('pgvpd_owner'), act)
        THEN 'pgvpd_owner' ELSE installer END;
    present name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd_private');
BEGIN
    IF present IS NULL THEN
        EXECUTE format('CREATE SCHEMA pgvpd_private AUTHORIZATION %I', owner);
    ELSIF present NOT IN ('pgvpd_owner', installer) AND NOT (SELECT rolsuper FROM pg_roles WHERE rolname = present) THEN
        RAISE EXCEPTION 'schema pgvpd_private belongs to role %, and not to pgvpd', present
            USING ERRCODE = 'insufficient_privilege', HINT = 'Find out what it is for. If it can go: DROP SCHEMA pgvpd_private;';
    ELSIF present <> owner AND owner = 'pgvpd_owner' THEN
        EXECUTE format('ALTER SCHEMA pgvpd_private OWNER TO %I', owner);
    END IF;
    COMMENT ON SCHEMA pgvpd_private IS 'pgvpd''s keys and what else nobody may name, see sql/setup.sql';
END
$private$;

-- Earlier releases had the tables and the sequence in schema pgvpd. To move them takes a lock for which every open transaction of a
-- tenant's has to end, and everybody else waits meanwhile: so it is tried for half a second at a time. The sequence comes along as
-- it is, because the nonces of sessions that are open are values of it.
DO $move$
DECLARE
    -- What an earlier release that was run over this one has made.
    new_nonces boolean := to_regclass('pgvpd.session_nonce') IS NOT NULL AND to_regclass('pgvpd_private.session_nonce') IS NOT NULL;
    former text[] := ARRAY(
        SELECT format('ALTER %s pgvpd.%I SET SCHEMA pgvpd_private', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, relname)
        FROM pg_class WHERE relnamespace = 'pgvpd'::regnamespace
            AND (relname, relkind) IN (('signing_key', 'r'), ('tenant_role', 'r'), ('session_nonce', 'S')));
    change text;
    attempts int := 0;
    before CONSTANT text := current_setting('lock_timeout');
BEGIN
    WHILE former <> '{}' LOOP
        BEGIN
            PERFORM set_config('lock_timeout', '500ms', true);
            IF new_nonces THEN
                DROP SEQUENCE pgvpd_private.session_nonce;
            END IF;
            FOREACH change IN ARRAY former LOOP
                EXECUTE change;
            END LOOP;
            former := '{}';
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            attempts := attempts + 1;
            IF attempts >= 60 THEN
                RAISE EXCEPTION 'the tables of schema pgvpd are in use by transactions that do not end'
                    USING ERRCODE = 'lock_not_available', DETAIL = (
                        SELECT format('Process %s.', string_agg(DISTINCT l.pid::text, ', ')) FROM pg_locks l
                        WHERE l.relation IN (to_regclass('pgvpd.signing_key'), to_regclass('pgvpd.tenant_role'),
                            to_regclass('pgvpd.session_nonce')) AND l.pid <> pg_backend_pid()),
                    HINT = 'Nothing has changed. Run this file again when these have ended, or end them with pg_terminate_backend().';
            END IF;
            PERFORM pg_sleep(0.5);
        END;
        PERFORM set_config('lock_timeout', before, true);
    END LOOP;
END
$move$;

-- Running this file again takes no lock on any of these: somebody may have them in use.
DO $tables$ BEGIN
    -- The keys that sign contexts, as HMAC (RFC 2104) uses them: padded with zeros to 64 bytes, XOR 0x36 and XOR 0x5c. So the
    -- built-in sha256() is all that is needed. A key that has expired still says that contexts are signed here.
    IF to_regclass('pgvpd_private.signing_key') IS NULL THEN
        CREATE TABLE pgvpd_private.signing_key (
            kid text PRIMARY KEY CHECK (kid ~ '^[A-Za-z0-9_-]{1,16}$'),
            ipad bytea NOT NULL CHECK (octet_length(ipad) = 64),
            opad bytea NOT NULL CHECK (octet_length(opad) = 64),
            not_after timestamptz NOT NULL DEFAULT 'infinity'
        );
    END IF;
    IF (obj_description('pgvpd_private.signing_key'::regclass, 'pg_class') LIKE '%=pgvpd_private.signing_key %') IS NOT TRUE THEN
        COMMENT ON TABLE pgvpd_private.signing_key IS 'secret: pg_dump --exclude-table-data=pgvpd_private.signing_key leaves it out';
    END IF;
    -- Moved by attach() alone. Its currval() belongs to one session, and no client can set it.
    IF to_regclass('pgvpd_private.session_nonce') IS NULL THEN
        CREATE SEQUENCE pgvpd_private.session_nonce AS bigint NO CYCLE;
    END IF;
    -- Role per tenant (isolation = role): whose role it is.
    IF to_regclass('pgvpd_private.tenant_role') IS NULL THEN
        CREATE TABLE pgvpd_private.tenant_role (rolname name PRIMARY KEY, tenant text NOT NULL CHECK (tenant <> ''));
    END IF;
    -- How often a key has been changed or removed, as a snapshot shows it; and as no snapshot hides it, with the time until which
    -- what was before still counts: see pgvpd_private.is_current().
    IF to_regclass('pgvpd_private.key_generation') IS NULL THEN
        CREATE TABLE pgvpd_private.key_generation (generation bigint NOT NULL);
        CREATE SEQUENCE pgvpd_private.key_end AS bigint MINVALUE 0;
        INSERT INTO pgvpd_private.key_generation VALUES (0);
        PERFORM setval('pgvpd_private.key_end', 0);
    END IF;
END $tables$;

-- What rights alone would guard, also where they are lost, as in a dump without them: nobody but the owner sees rows, whoever was
-- granted SELECT. The nonces need no log from 15 on: no value of them has to outlive a crash.
DO $guard$
DECLARE
    change text;
    before CONSTANT text := current_setting('lock_timeout');
BEGIN
    PERFORM set_config('lock_timeout', '5s', true);
    FOR change IN
        SELECT format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', oid::regclass) FROM pg_class
        WHERE relnamespace = 'pgvpd_private'::regnamespace AND relkind = 'r' AND NOT relrowsecurity
        UNION ALL
        SELECT 'ALTER SEQUENCE pgvpd_private.session_nonce SET UNLOGGED' FROM pg_class
        WHERE oid = 'pgvpd_private.session_nonce'::regclass AND relpersistence = 'p'
            AND current_setting('server_version_num')::int >= 150000
    LOOP
        EXECUTE change;
    END LOOP;
    PERFORM set_config('lock_timeout', before, true);
END
$guard$;

-- The names that administrators and earlier releases know. Views, because what is locked here keeps no tenant waiting; each shows
-- and takes rows for those alone whom row-level security of its table does not bind: the owner and superusers.
DO $views$ BEGIN
    IF to_regclass('pgvpd.signing_key') IS NULL THEN
        CREATE VIEW pgvpd.signing_key WITH (security_barrier) AS
            SELECT kid, ipad, opad, not_after FROM pgvpd_private.signing_key
            WHERE NOT row_security_active('pgvpd_private.signing_key'::regclass) WITH CASCADED CHECK OPTION;
    END IF;
    IF to_regclass('pgvpd.tenant_role') IS NULL THEN
        CREATE VIEW pgvpd.tenant_role WITH (security_barrier) AS
            SELECT rolname, tenant FROM pgvpd_private.tenant_role
            WHERE NOT row_security_active('pgvpd_private.tenant_role'::regclass) WITH CASCADED CHECK OPTION;
    END IF;
END $views$;

-- A key's end is the clock's, also for a transaction of REPEATABLE READ that began before the key was changed and goes on seeing it
-- as it was. Called as such a change commits; key_end holds the number of the change, in its last ten bits, and the microsecond at
-- which the key ends.
CREATE OR REPLACE FUNCTION pgvpd_private.key_changed() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $key_changed$
DECLARE
    ends timestamptz := clock_timestamp();
    number bigint;
BEGIN
    IF TG_OP = 'UPDATE' AND (NEW.kid, NEW.ipad, NEW.opad) = (OLD.kid, OLD.ipad, OLD.opad) THEN
        ends := greatest(ends, least(NEW.not_after, '2200-01-01 00:00+00'));
    ELSIF OLD.not_after <= ends THEN
        RETURN NULL;  -- it had ended before
    END IF;
    UPDATE pgvpd_private.key_generation SET generation = generation + 1 RETURNING generation INTO number;
    number := setval('pgvpd_private.key_end', (floor(extract(epoch FROM ends) * 1000000)::bigint << 10) | (number & 1023));
    RETURN NULL;
END
$key_changed$;

-- Without a key, plain contexts count; and TRUNCATE asks for a right alone, which row-level security does not bind.
CREATE OR REPLACE FUNCTION pgvpd_private.refuse_truncate() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RAISE EXCEPTION 'table % is not to be truncated', TG_RELID::regclass USING ERRCODE = 'insufficient_privilege',
        HINT = 'DELETE removes single rows.';
END $$;

DO $triggers$
DECLARE
    name text;
BEGIN
    FOR name IN SELECT unnest('{signing_key,tenant_role}'::text[]) EXCEPT
        SELECT c.relname FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
        WHERE c.relnamespace = 'pgvpd_private'::regnamespace AND t.tgname = 'refuse_truncate'
    LOOP
        EXECUTE format('CREATE TRIGGER refuse_truncate BEFORE TRUNCATE ON pgvpd_private.%I FOR EACH STATEMENT
                        EXECUTE FUNCTION pgvpd_private.refuse_truncate()', name);
    END LOOP;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'pgvpd_private.signing_key'::regclass AND tgname = 'key_changed') THEN
        CREATE CONSTRAINT TRIGGER key_changed AFTER UPDATE OR DELETE ON pgvpd_private.signing_key
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION pgvpd_private.key_changed();
    END IF;
END $triggers$;

-- Whether the keys that this snapshot shows are those of now, or one change behind and its time has not come. Anything else is an
-- error with which applications that use such transactions begin them again.
CREATE OR REPLACE FUNCTION pgvpd_private.is_current() RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $is_current$
DECLARE
    seen bigint := (SELECT generation FROM pgvpd_private.key_generation);
    actual bigint := (SELECT last_value FROM pgvpd_private.key_end);
BEGIN
    IF (actual & 1023 = seen & 1023 OR (actual & 1023 = (seen + 1) & 1023
        AND actual >> 10 > extract(epoch FROM clock_timestamp()) * 1000000)) IS NOT TRUE
    THEN
        RAISE EXCEPTION 'could not serialize access: the keys that sign contexts have changed since the transaction began'
            USING ERRCODE = 'serialization_failure', HINT = 'Run the transaction again.';
    END IF;
    RETURN true;
END
$is_current$;

-- Installs a key of 32 to 64 bytes, or replaces it. From the first one on, only signed contexts count. What stands in a statement's
-- text, and what is bound to it, may be logged: `pgvpd init` and `pgvpd key` send it as the data of a COPY.
--
-- Its statements are planned without their values: debug_print_plan would show a custom plan's constants.
CREATE OR REPLACE FUNCTION pgvpd.install_key(key_id text, key bytea, expires timestamptz DEFAULT 'infinity') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET plan_cache_mode = force_generic_plan AS $install_key$
DECLARE
    ipad bytea := key || decode(repeat('00', 64 - octet_length(key)), 'hex');
    opad bytea := ipad;
BEGIN
    IF key_id IS NULL OR key_id !~ '^[A-Za-z0-9_-]{1,16}$' THEN
        RAISE EXCEPTION 'the id of a key has 1 to 16 letters, digits, _ or -' USING ERRCODE = 'invalid_parameter_value';
    ELSIF key IS NULL OR octet_length(key) NOT BETWEEN 32 AND 64 THEN
        RAISE EXCEPTION 'a key has 32 to 64 bytes' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'openssl rand -hex 32 makes one.';
    END IF;
    FOR n IN 0..63 LOOP
        ipad := set_byte(ipad, n, get_byte(ipad, n) # 54);
        opad := set_byte(opad, n, get_byte(opad, n) # 92);
    END LOOP;
    INSERT INTO pgvpd_private.signing_key VALUES (key_id, ipad, opad, coalesce(expires, 'infinity'))
    ON CONFLICT (kid) DO UPDATE SET ipad = excluded.ipad, opad = excluded.opad, not_after = excluded.not_after;
END
$install_key$;

-- Lets a key expire, at once or later. What was signed with it is void then.
CREATE OR REPLACE FUNCTION pgvpd.retire_key(key_id text, expires timestamptz DEFAULT clock_timestamp()) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    UPDATE pgvpd_private.signing_key SET not_after = expires WHERE kid = key_id;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no key "%"', key_id USING ERRCODE = 'no_data_found';
    END IF;
END $$;

-- The facts of this backend that a context is signed for. Each call gives the session a new nonce, after which every context that
-- was signed before is void: whoever calls it only blinds himself. 0 where nothing can be written, as on a standby.
--
-- The nonce is random: no other session has had it, here or on a copy of this server. setval() and not nextval(), which would move
-- lastval() of the session too. Assignments, which are planned without their values.
CREATE OR REPLACE FUNCTION pgvpd.attach(OUT pid int, OUT backend_start_us bigint, OUT nonce bigint)
LANGUAGE plpgsql VOLATILE PARALLEL UNSAFE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $attach$
DECLARE
    random bytea;
BEGIN
    pid := pg_backend_pid();
    backend_start_us := coalesce((SELECT extract(epoch FROM a.backend_start) * 1000000 FROM pg_stat_get_activity(pid) a), 0);
    IF current_setting('transaction_read_only') = 'on' THEN
        nonce := 0;
    ELSIF has_sequence_privilege(session_user, 'pgvpd_private.session_nonce'::regclass, 'UPDATE')
        AND NOT pg_has_role(session_user, current_user, 'MEMBER') THEN
        -- Such as default privileges give. It could take up the nonce of another session, and with it that one's context.
        RAISE EXCEPTION 'role % has rights on the nonces of sessions', session_user
            USING ERRCODE = 'insufficient_privilege', HINT = 'Run sql/setup.sql again, or pgvpd init.';
    ELSE
        random := uuid_send(gen_random_uuid());  -- two of its bytes are not all random
        nonce := setval('pgvpd_private.session_nonce', greatest(1, 9223372036854775807
            & ('x' || encode(substr(random, 1, 6) || substr(random, 15, 2), 'hex'))::bit(64)::bigint));
    END IF;
END
$attach$;

-- The session's nonce, NULL if it has none. Where the session has discarded it, currval() raises an error: to catch it takes a
-- subtransaction, which PostgreSQL up to 16 refuses while a parallel plan runs. There the error ends the statement.
DO $nonce$ BEGIN
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION pgvpd.nonce() RETURNS bigint
        LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
        $$ BEGIN RETURN currval('pgvpd_private.session_nonce'); %s END $$
    $function$, CASE WHEN current_setting('server_version_num')::int >= 170000
        THEN 'EXCEPTION WHEN object_not_in_prerequisite_state THEN RETURN NULL;' ELSE '' END);
END $nonce$;

-- The context: of a tenant's own role, its tenant; with a key installed, what a proxy has signed for this session, and NULL in any
-- doubt; without one, the plain setting.
--
-- A token has ten fields: v1, key id, pid, backend_start in microseconds, nonce, expiry in microseconds, then in hexadecimal the
-- database, the session user, the context as JSON, and the HMAC-SHA-256 of all before it. A backend_start, nonce or expiry of 0 is
-- not looked at: the proxy that signed has decided so. An end is the clock's: now() stands still while a transaction is open.
-- Both hashes are hashed again before they are compared, so that the time it takes says nothing. Success is what is shown to be so:
-- a comparison with NULL shows nothing.
--
-- PARALLEL RESTRICTED: a worker has another pid. Policies call these inside (SELECT ...), so plans are still parallel. PL/pgSQL,
-- because it keeps a function's plan for the session; LANGUAGE sql with a pinned search_path plans it anew in every statement.
CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $context$
DECLARE
    token text := current_setting('pgvpd.context', true);
    field text[];
    key pgvpd_private.signing_key;
    tenant text;
    proved boolean;
BEGIN
    IF var COLLATE "C" = 'app.current_tenant_id' AND strpos(session_user, '.') > 0 THEN
        SELECT r.tenant INTO tenant FROM pgvpd_private.tenant_role r WHERE r.rolname = session_user;
        IF FOUND THEN
            RETURN tenant;
        END IF;
    END IF;
    field := string_to_array(token, '.');
    SELECT * INTO key FROM pgvpd_private.signing_key k WHERE k.kid = field[2] AND k.not_after > clock_timestamp();
    IF NOT FOUND THEN
        -- Names under pgvpd. have values in a token only: so a proxy sees that the token was read.
        IF EXISTS (SELECT FROM pgvpd_private.signing_key) OR starts_with(var COLLATE "C", 'pgvpd.') THEN
            RETURN NULL;
        END IF;
        RETURN nullif(current_setting(var, true), '');
    END IF;
    proved := cardinality(field) = 10 AND field[1] = 'v1' AND octet_length(field[10]) = 64 AND octet_length(token) = length(token)
        AND sha256(convert_to(field[10], 'UTF8')) = sha256(convert_to(encode(sha256(key.opad
               || sha256(key.ipad || convert_to(left(token, -65), 'UTF8'))), 'hex'), 'UTF8'));
    IF proved IS NOT TRUE THEN
        RETURN NULL;
    END IF;
    IF field[3] = pg_backend_pid()::text
        AND field[7] = encode(convert_to(current_database()::text, 'UTF8'), 'hex')
        AND field[8] = encode(convert_to(session_user::text, 'UTF8'), 'hex')
        AND (field[6] = '0' OR field[6]::bigint > extract(epoch FROM clock_timestamp()) * 1000000)
        AND (field[4] = '0' OR field[4]::bigint = (SELECT extract(epoch FROM a.backend_start) * 1000000
                                                   FROM pg_stat_get_activity(pg_backend_pid()) a))
        AND (field[5] = '0' OR field[5]::bigint = pgvpd.nonce())
        AND (current_setting('transaction_isolation') IN ('read committed', 'read uncommitted') OR pgvpd_private.is_current())
    THEN
        RETURN nullif(convert_from(decode(field[9], 'hex'), 'UTF8')::json ->> var, '');
    END IF;
    RETURN NULL;
END
$context$;

CREATE OR REPLACE FUNCTION public.current_tenant_id() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN public.pgvpd_context('app.current_tenant_id'); END $$;

-- By these they are known for ours, also where somebody has replaced their text.
COMMENT ON FUNCTION public.pgvpd_context(text) IS 'pgvpd: the value of a context variable, NULL in any doubt';
COMMENT ON FUNCTION public.current_tenant_id() IS 'pgvpd: the tenant of this session, NULL in any doubt';

-- Creates a login role of a tenant's own for `isolation = role`: app_user.acme, with the rights of app_user, whose sessions have that
-- tenant whatever they set. Without a password. Gives the role's name; a second call changes nothing.
CREATE OR REPLACE FUNCTION pgvpd.create_tenant_role(tenant text, app_role name DEFAULT 'app_user') RETURNS name
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $create_tenant_role$
DECLARE
    role text := app_role || '.' || tenant;
BEGIN
    IF coalesce(tenant, '') = '' OR (octet_length(role) <= 63) IS NOT TRUE THEN
        RAISE EXCEPTION 'there can be no role for tenant "%"', tenant USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The role''s name is that of the application''s role, a dot and the tenant, and has at most 63 bytes.';
    ELSIF EXISTS (SELECT FROM pg_roles JOIN pgvpd_private.tenant_role USING (rolname) WHERE rolname = role) THEN
        RETURN role;
    ELSIF EXISTS (SELECT FROM pg_roles WHERE rolname = role) THEN
        RAISE EXCEPTION 'role "%" is there already and is not registered as a tenant''s', role USING ERRCODE = 'duplicate_object',
            HINT = format('Another database''s: INSERT INTO pgvpd.tenant_role VALUES (%L, %L); else drop it first.', role, tenant);
    END IF;
    EXECUTE format('CREATE ROLE %I LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION INHERIT IN ROLE %I',
                   role, app_role);
    IF to_regrole('pgvpd_owner') IS NOT NULL THEN
        EXECUTE format('GRANT %I TO pgvpd_owner', role);
    END IF;
    INSERT INTO pgvpd_private.tenant_role VALUES (role, tenant);
    RAISE NOTICE E'role % has no password yet: set one with \\password %', quote_ident(role), quote_ident(role);
    RETURN role;
END
$create_tenant_role$;

-- All of it to the owner of pgvpd_private, who gets CREATE on the other two schemas for a moment, where the installer can give it.
DO $transfer$
DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd_private');
    schema record;
    object record;
BEGIN
    FOR schema IN SELECT nspname AS name, pg_has_role(nspowner, 'USAGE') AS is_ours FROM pg_namespace
                  WHERE nspname IN ('pgvpd', 'public') AND owner = 'pgvpd_owner'
    LOOP
        IF schema.is_ours THEN
            EXECUTE format('GRANT CREATE ON SCHEMA %I TO pgvpd_owner', schema.name);
        ELSIF NOT has_schema_privilege(owner, schema.name, 'CREATE') THEN
            owner := NULL;
        END IF;
    END LOOP;
    FOR object IN
        SELECT format('%s %s', CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' ELSE 'TABLE' END, oid::regclass) AS name,
               relowner AS owner
        FROM pg_class WHERE relkind IN ('r', 'v', 'S')
            AND (relnamespace = 'pgvpd_private'::regnamespace OR oid IN ('pgvpd.signing_key'::regclass, 'pgvpd.tenant_role'::regclass))
        UNION ALL
        SELECT format('FUNCTION %s', oid::regprocedure), proowner
        FROM pg_proc WHERE pronamespace = 'pgvpd_private'::regnamespace OR oid IN (
            'pgvpd.install_key(text, bytea, timestamptz)'::regprocedure, 'pgvpd.retire_key(text, timestamptz)'::regprocedure,
            'pgvpd.attach()'::regprocedure, 'pgvpd.nonce()'::regprocedure,
            'public.pgvpd_context(text)'::regprocedure, 'public.current_tenant_id()'::regprocedure)
    LOOP
        IF object.owner <> to_regrole(owner) THEN
            EXECUTE format('ALTER %s OWNER TO %I', object.name, owner);
        END IF;
    END LOOP;
    FOR schema IN SELECT nspname AS name FROM pg_namespace
                  WHERE nspname IN ('pgvpd', 'public') AND pg_has_role(nspowner, 'USAGE') AND to_regrole('pgvpd_owner') IS NOT NULL
    LOOP
        EXECUTE format('REVOKE CREATE ON SCHEMA %I FROM pgvpd_owner', schema.name);
    END LOOP;
END
$transfer$;

-- Casts that give NULL, hence no rows, where a plain cast would raise an error, and for every spelling but PostgreSQL's own: for the
-- proxy 07 and 7 are two tenants, of which one may be denied, and for the database one value. CASE and not an EXCEPTION block:
-- that needs a subtransaction, which PostgreSQL refuses while a parallel plan runs.
CREATE OR REPLACE FUNCTION pgvpd.to_uuid(value text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN value::uuid END;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.to_bigint(value text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value !~ '^(0|-?[1-9][0-9]{0,18})$' THEN NULL
                WHEN value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN value::bigint END;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.to_integer(value text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value !~ '^(0|-?[1-9][0-9]{0,9})$' THEN NULL
                WHEN value::bigint BETWEEN -2147483648 AND 2147483647 THEN value::integer END;
END $$;

-- char(n) ignores trailing blanks when it compares; without this check 'acme ' would be a second name for 'acme'.
CREATE OR REPLACE FUNCTION pgvpd.to_bpchar(value text) RETURNS bpchar
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN CASE WHEN value !~ ' $' THEN value::bpchar END; END $$;

-- The type below a domain, or the type itself.
CREATE OR REPLACE FUNCTION pgvpd.base_type(type oid) RETURNS oid
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE below AS (
        SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.oid = type
        UNION ALL SELECT t.oid, t.typbasetype FROM below JOIN pg_type t ON t.oid = below.typbasetype)
    SELECT oid FROM below WHERE typbasetype = 0
$$;

-- The SQL expression that reads a variable as a value comparable with a column of this type, or NULL if there is none.
-- smallint compares with integer: a context that fits only the wider type then matches no row.
CREATE OR REPLACE FUNCTION pgvpd.context_expression(column_type oid, variable_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH context (call) AS (
        SELECT CASE variable_name WHEN 'app.current_tenant_id' THEN 'public.current_tenant_id()'
                                  ELSE format('public.pgvpd_context(%L)', variable_name) END
    )
    SELECT CASE
        WHEN type IN ('text'::regtype, 'varchar'::regtype) THEN call
        WHEN type = 'bpchar'::regtype THEN format('pgvpd.to_bpchar(%s)', call)
        WHEN type = 'uuid'::regtype THEN format('pgvpd.to_uuid(%s)', call)
        WHEN type IN ('int2'::regtype, 'int4'::regtype) THEN format('pgvpd.to_integer(%s)', call)
        WHEN type = 'int8'::regtype THEN format('pgvpd.to_bigint(%s)', call)
    END FROM context, pgvpd.base_type(column_type) AS type
$$;

-- A partial index does not count: the planner cannot use it for every tenant.
CREATE OR REPLACE FUNCTION pgvpd.has_tenant_index(relation regclass, column_name name) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
                   WHERE i.indrelid = relation AND a.attname = column_name AND i.indisvalid AND i.indpred IS NULL)
$$;

-- Reads the condition of a policy back: {column, variable}, the variable NULL when it is the default one; or NULL when the
-- text is not what PostgreSQL prints for a condition that pgvpd_protect wrote.
CREATE OR REPLACE FUNCTION pgvpd.parse_condition(expression text) RETURNS text[]
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT regexp_match(expression, '^[(][(]?([a-z0-9_]+|"(?:[^"]|"")+")[)]?(?:::[a-z]+)? = [(] SELECT (?:pgvpd[.]to_[a-z]+[(])?'
        'public[.](?:current_tenant_id[(][)]|pgvpd_context[(]''([a-z0-9_.]+)''::text[)])[)]? AS [a-z_]+[)][)]$')
$$;

-- Refuses what cannot be the name of a context variable.
CREATE OR REPLACE FUNCTION pgvpd.check_variable(variable_name text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    IF (variable_name ~ '^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)+$' AND NOT starts_with(variable_name, 'pgvpd.')) IS NOT TRUE THEN
        RAISE EXCEPTION '"%" cannot be a context variable', variable_name USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Use a lower-case name with a dot, such as app.org_id; names under pgvpd. belong to the proxy.';
    END IF;
END $$;

-- Refuses a column for which other texts than the tenant's own are equal to it: ACME would read the rows of acme, past what the
-- proxy has decided about acme.
CREATE OR REPLACE FUNCTION pgvpd.check_equality(relation regclass, column_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    loose record;
BEGIN
    SELECT c.oid::regcollation AS name, format_type(a.atttypid, a.atttypmod) AS type INTO loose
    FROM pg_attribute a JOIN pg_collation c ON c.oid = a.attcollation
    WHERE a.attrelid = relation AND a.attname = column_name AND NOT c.collisdeterministic;
    IF FOUND THEN
        RAISE EXCEPTION 'column % of table % has the non-deterministic collation %: one tenant would read the rows of another',
            quote_ident(column_name), relation, loose.name USING ERRCODE = 'datatype_mismatch',
            HINT = format('ALTER TABLE %s ALTER COLUMN %I TYPE %s COLLATE "C";', relation, column_name, loose.type);
    END IF;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.check_table(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    kind "char" := (SELECT relkind FROM pg_class WHERE oid = relation);
BEGIN
    IF kind IS NULL OR kind NOT IN ('r', 'p') THEN
        RAISE EXCEPTION '% is not a table that row-level security can protect', relation USING ERRCODE = 'wrong_object_type',
            HINT = CASE kind
                WHEN 'v' THEN 'Protect the tables that the view reads, and set security_invoker on it (PostgreSQL 15 and later).'
                WHEN 'm' THEN 'Protect the tables that it reads, and grant no tenant a right on the materialized view.'
                WHEN 'f' THEN 'Protect the table on the foreign server, and grant no tenant a right on the foreign table.'
                ELSE 'Name an ordinary or a partitioned table.' END;
    END IF;
END $$;

-- The table, its partitions at every level and its inheritance children. Locks them all, so that no partition is added
-- between the listing and its end.
CREATE OR REPLACE FUNCTION pgvpd.lock_tree(root regclass) RETURNS SETOF regclass
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    EXECUTE format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', root);
    RETURN QUERY WITH RECURSIVE tree AS (
        SELECT root::oid AS relid UNION SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relid)
        SELECT relid::regclass FROM tree;
END $$;

-- Lets through the rows of one table that meet a condition, and no others. False for a foreign table, where it cannot.
CREATE OR REPLACE FUNCTION pgvpd.set_policies(relation regclass, permissive name, restrictive name, condition text)
RETURNS boolean LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $set_policies$
DECLARE
    policy record;
BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = relation) = 'f' THEN
        RAISE WARNING 'foreign table % is not protected: row-level security does not work on it', relation
            USING HINT = format('Grant nobody a right on it: REVOKE ALL ON %s FROM PUBLIC, app_user;', relation);
        RETURN false;
    END IF;

    -- FORCE binds the owner too: without a context it sees no rows and changes none.
    EXECUTE format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', relation);
    EXECUTE format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', relation);

    -- The permissive policy lets rows through; the restrictive one keeps any further permissive policy from adding others.
    FOR policy IN SELECT * FROM (VALUES (permissive, 'PERMISSIVE'), (restrictive, 'RESTRICTIVE')) p (name, kind) LOOP
        IF EXISTS (SELECT FROM pg_policy WHERE polrelid = relation AND polname = policy.name) THEN
            EXECUTE format('DROP POLICY %I ON %s', policy.name, relation);
        END IF;
        EXECUTE format('CREATE POLICY %I ON %s AS %s FOR ALL TO PUBLIC USING (%s) WITH CHECK (%s)',
                       policy.name, relation, policy.kind, condition, condition);
    END LOOP;

    -- None of the three is subject to row-level security.
    EXECUTE format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM PUBLIC%s', relation, ', ' || to_regrole('app_user'));
    RETURN true;
END
$set_policies$;

CREATE OR REPLACE FUNCTION pgvpd.warn_without_index(relation regclass, column_name name) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$ BEGIN
    IF (SELECT relkind FROM pg_class WHERE oid = relation) = 'r' AND NOT pgvpd.has_tenant_index(relation, column_name) THEN
        RAISE WARNING 'table % has no index that starts with %: CREATE INDEX ON % (%);',
            relation, quote_ident(column_name), relation, quote_ident(column_name)
            USING HINT = 'On a table in use, CREATE INDEX CONCURRENTLY blocks no writes.';
    END IF;
END $$;

-- What is still open, or not open yet, around a table that was just protected by a call with these arguments.
CREATE OR REPLACE FUNCTION pgvpd.warn_of_gaps(
    relation regclass, guard name, function_name text, arguments text, app_role name DEFAULT 'app_user') RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $warn_of_gaps$
DECLARE
    app oid := (SELECT oid FROM pg_roles WHERE rolname = app_role);
    parent regclass;
    place record;
BEGIN
    SELECT c.relowner, c.relnamespace, n.nspname INTO STRICT place
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = relation;
    FOR parent IN SELECT i.inhparent FROM pg_inherits i WHERE i.inhrelid = relation
        AND NOT EXISTS (SELECT FROM pg_policy p WHERE p.polrelid = i.inhparent AND p.polname = guard)
    LOOP
        RAISE WARNING 'a query on its parent % still reads every row of %', parent, relation
            USING HINT = format('Protect the parent: SELECT %s(%L, %s);', function_name, parent, arguments);
    END LOOP;
    IF pg_has_role(app, place.relowner, 'MEMBER') THEN
        RAISE WARNING 'role % can act as the owner of % and remove its protection', app::regrole, relation
            USING HINT = format('ALTER TABLE %s OWNER TO another_role;', relation);
    ELSE
        PERFORM pgvpd.warn_of_bound_owner(relation);
    END IF;
    IF NOT has_any_column_privilege(app, relation, 'SELECT') THEN
        RAISE NOTICE 'role % has no rights on % yet: GRANT SELECT, INSERT, UPDATE, DELETE ON % TO %;',
            app::regrole, relation, relation, app::regrole;
    END IF;
    IF NOT has_schema_privilege(app, place.relnamespace, 'USAGE') THEN
        RAISE NOTICE 'role % cannot reach schema % yet: GRANT USAGE ON SCHEMA % TO %;',
            app::regrole, quote_ident(place.nspname), quote_ident(place.nspname), app::regrole;
    END IF;
END
$warn_of_gaps$;

-- FORCE binds the owner, unless policies do not hold that role at all: what runs as the owner finds no rows from then on, and some of
-- it without an error.
CREATE OR REPLACE FUNCTION pgvpd.warn_of_bound_owner(relation regclass) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $warn_of_bound_owner$
DECLARE
    owner record;
    noticed text;
BEGIN
    SELECT r.oid::regrole AS name, r.rolsuper OR r.rolbypassrls AS is_free INTO STRICT owner
    FROM pg_class c JOIN pg_roles r ON r.oid = c.relowner WHERE c.oid = relation;
    IF NOT owner.is_free THEN
        RAISE WARNING 'role %, the owner of %, is bound by the policies too: without a context its UPDATE changes no row, its SELECT and '
            'COPY find none, and pg_dump fails', owner.name, relation
            USING HINT = 'Run migrations of data, and backups, as a superuser or a role with BYPASSRLS; or see "Migrations and backups" in docs/sql.md.';
    END IF;
    -- A materialized view is refreshed with its owner's rights, whoever asks.
    WITH RECURSIVE above AS (
        SELECT r.ev_class AS relid FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND r.ev_class <> relation
        UNION
        SELECT r.ev_class FROM above JOIN pg_depend d ON d.refobjid = above.relid JOIN pg_rewrite r ON r.oid = d.objid
        WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
    )
    SELECT string_agg(c.oid::regclass::text, ', ' ORDER BY c.oid::regclass::text) INTO noticed
    FROM above JOIN pg_class c ON c.oid = above.relid JOIN pg_roles r ON r.oid = c.relowner
    WHERE c.relkind = 'm' AND NOT (r.rolsuper OR r.rolbypassrls);
    IF noticed IS NOT NULL THEN
        RAISE WARNING 'REFRESH of a materialized view over % finds no rows of it and leaves the view without them: %', relation, noticed
            USING HINT = 'ALTER MATERIALIZED VIEW ... OWNER TO a role with BYPASSRLS or a superuser, and refresh it as that role.';
    END IF;
    -- Up to 15 it is the subscription's owner who writes; from 16 on the table's, unless the subscription says run_as_owner.
    SELECT string_agg(quote_ident(s.subname), ', ' ORDER BY s.subname) INTO noticed
    FROM pg_subscription_rel sr JOIN pg_subscription s ON s.oid = sr.srsubid JOIN pg_roles r ON r.oid = s.subowner
    WHERE sr.srrelid = relation AND (NOT (r.rolsuper OR r.rolbypassrls)
        OR NOT owner.is_free AND current_setting('server_version_num')::int >= 160000);
    IF noticed IS NOT NULL THEN
        RAISE WARNING 'replication into % stops with an error, since row-level security binds the role that it writes as: subscription %', relation, noticed
            USING HINT = 'Give the subscription, and from PostgreSQL 16 on the table, an owner with BYPASSRLS or a superuser.';
    END IF;
END
$warn_of_bound_owner$;

-- True where nobody but its owner has been given anything on a table that is not protected yet: then no decision of anybody's is
-- overruled by giving the application its rights. A partition is reached through its parent.
CREATE OR REPLACE FUNCTION pgvpd.is_ungranted(relation regclass, app oid) RETURNS boolean
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT NOT has_table_privilege(app, relation, 'SELECT, INSERT, UPDATE, DELETE, TRUNCATE, REFERENCES, TRIGGER')
        AND NOT EXISTS (SELECT FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = relation AND a.grantee <> c.relowner)
        AND NOT EXISTS (SELECT FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid, aclexplode(t.attacl) a
                        WHERE c.oid = relation AND NOT t.attisdropped AND a.grantee <> c.relowner)
        AND NOT EXISTS (SELECT FROM pg_policy WHERE polrelid = relation AND starts_with(polname::text, 'pgvpd_'))
        AND NOT EXISTS (SELECT FROM pg_inherits WHERE inhrelid = relation)
$$;

-- What an application needs of a table: its rows, and the sequences that its columns take their values from.
CREATE OR REPLACE FUNCTION pgvpd.grant_application(relation regclass, app oid) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $grant_application$
DECLARE
    sequence record;
    granted text;
BEGIN
    EXECUTE format('GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s', relation, app::regrole);
    FOR sequence IN  -- of serial and identity columns, and those that a default names
        SELECT DISTINCT c.oid::regclass AS name, pg_has_role(c.relowner, 'USAGE') AS is_ours FROM (
            SELECT d.objid FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
                AND d.refobjid = relation AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')
            UNION ALL
            SELECT d.refobjid FROM pg_attrdef f JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
            WHERE f.adrelid = relation AND d.refclassid = 'pg_class'::regclass
        ) used (oid) JOIN pg_class c USING (oid) WHERE CASE WHEN c.relkind = 'S' THEN NOT has_sequence_privilege(app, c.oid, 'USAGE') END
    LOOP
        IF sequence.is_ours THEN
            EXECUTE format('GRANT USAGE ON SEQUENCE %s TO %s', sequence.name, app::regrole);
            granted := concat_ws(', ', granted, sequence.name::text);
        ELSE
            RAISE WARNING 'sequence % belongs to another role: an INSERT that needs its next value fails', sequence.name
                USING HINT = format('As its owner: GRANT USAGE ON SEQUENCE %s TO %s;', sequence.name, app::regrole);
        END IF;
    END LOOP;
    RAISE NOTICE 'role % may now read and write the rows of %, on which nobody but the owner had any right: SELECT, INSERT, UPDATE, DELETE%',
        app::regrole, relation, coalesce('; and USAGE of ' || granted, '')
        USING HINT = format('To take it back: REVOKE ALL ON %s FROM %s%s;', relation, app::regrole,
                            CASE WHEN granted IS NOT NULL THEN format('; REVOKE ALL ON SEQUENCE %s FROM %s', granted, app::regrole) END);
END
$grant_application$;

-- One table of a tree. The caller has checked the column and knows the expression to compare it with. (SELECT ...) is
-- evaluated once per statement, before the scan, so an index can be used.
CREATE OR REPLACE FUNCTION pgvpd.protect_table(relation regclass, column_name name, context text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $protect_table$
DECLARE
    shape record;
BEGIN
    IF NOT pgvpd.set_policies(relation, 'pgvpd_tenant_isolation', 'pgvpd_tenant_guard',
                              format('%I = (SELECT %s)', column_name, context)) THEN
        RETURN;
    END IF;
    SELECT a.attgenerated <> '' OR a.attidentity <> '' AS computed, pg_get_expr(d.adbin, d.adrelid) AS "default"
    INTO STRICT shape
    FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
    WHERE a.attrelid = relation AND a.attname = column_name;
    -- ONLY: a child may have a default of its own. A default that this function once set follows the variable.
    IF NOT shape.computed AND coalesce(shape."default" ~ ('^(pgvpd[.]to_[a-z]+[(])?public[.](current_tenant_id[(][)]|'
            'pgvpd_context[(]''[a-z0-9_.]+''::text[)])[)]?$'), true) THEN
        EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', relation, column_name, context);
    END IF;
    PERFORM pgvpd.warn_without_index(relation, column_name);
END
$protect_table$;

-- Another signature of a name would win over this file's, or make a call ambiguous: those of earlier releases go.
DO $overloads$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN SELECT oid FROM pg_proc
        WHERE proname = 'pgvpd_protect' AND pronamespace = 'public'::regnamespace
                AND oid IS DISTINCT FROM to_regprocedure('public.pgvpd_protect(regclass, name, text, name, boolean, text)')
            OR proname = 'warn_of_gaps' AND pronamespace = 'pgvpd'::regnamespace
                AND oid IS DISTINCT FROM to_regprocedure('pgvpd.warn_of_gaps(regclass, name, text, text, name)')
    LOOP
        EXECUTE format('DROP FUNCTION %s', old);
    END LOOP;
END
$overloads$;

-- Protects a table, its partitions at every level and its inheritance children: each can be queried by its own name.
-- regclass, so that the caller's search_path finds the table although this function has one of its own.
CREATE OR REPLACE FUNCTION public.pgvpd_protect(
    table_name regclass, column_name name DEFAULT 'tenant_id', variable_name text DEFAULT 'app.current_tenant_id',
    app_role name DEFAULT 'app_user', grant_rights boolean DEFAULT true, statistics text DEFAULT 'all')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $protect$
DECLARE
    app oid := (SELECT oid FROM pg_roles WHERE rolname = app_role);
    is_to_grant boolean;
    member regclass;
    target record;
BEGIN
    IF table_name IS NULL OR column_name IS NULL OR variable_name IS NULL OR app_role IS NULL OR grant_rights IS NULL OR statistics IS NULL THEN
        RAISE EXCEPTION 'pgvpd_protect needs a table, a column and a variable, and got NULL for one of its arguments'
            USING ERRCODE = 'null_value_not_allowed';
    ELSIF statistics NOT IN ('all', 'tenant') THEN
        RAISE EXCEPTION '"%" is not a choice of statistics', statistics USING ERRCODE = 'invalid_parameter_value',
            HINT = 'all leaves the planner''s statistics as they are; tenant keeps those of the tenant''s column alone.';
    ELSIF app IS NULL THEN
        RAISE EXCEPTION 'there is no role "%"', app_role USING ERRCODE = 'undefined_object',
            HINT = 'Name the role that the application logs in as.';
    END IF;
    PERFORM pgvpd.check_variable(variable_name);
    PERFORM pgvpd.check_table(table_name);
    SELECT format_type(a.atttypid, a.atttypmod) AS type, pgvpd.context_expression(a.atttypid, variable_name) AS context
    INTO target FROM pg_attribute a WHERE a.attrelid = table_name AND a.attname = column_name AND a.attnum > 0;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'table % has no column %', table_name, quote_ident(column_name) USING ERRCODE = 'undefined_column',
            HINT = 'Name the column that holds the tenant as the second argument, or add one.';
    END IF;
    IF target.context IS NULL THEN
        RAISE EXCEPTION 'column % of table % has type %, which cannot be compared with a tenant',
            quote_ident(column_name), table_name, target.type USING ERRCODE = 'datatype_mismatch',
            HINT = 'Use text, varchar, char, uuid, smallint, integer or bigint, or a domain over one.';
    END IF;
    PERFORM pgvpd.check_equality(table_name, column_name);

    -- Before the policies are there: what is protected already was given, or not given, by somebody.
    is_to_grant := grant_rights AND pgvpd.is_ungranted(table_name, app);
    FOR member IN SELECT pgvpd.lock_tree(table_name) LOOP
        PERFORM pgvpd.protect_table(member, column_name, target.context);
        EXECUTE format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s', member, app::regrole);
        IF statistics = 'tenant' THEN
            PERFORM pgvpd.hide_statistics(member, (SELECT array_agg(attname) FROM pg_attribute
                WHERE attrelid = member AND attnum > 0 AND NOT attisdropped AND attname <> column_name));
        END IF;
    END LOOP;
    IF is_to_grant THEN
        PERFORM pgvpd.grant_application(table_name, app);
    END IF;
    PERFORM pgvpd.warn_of_gaps(table_name, 'pgvpd_tenant_guard', 'pgvpd_protect', format('%L, %L', column_name, variable_name), app_role);
END
$protect$;

-- The planner estimates from a sample of all tenants' rows, and EXPLAIN shows its estimates: with a comparison that is leakproof, such as
-- <=, a session can find out values of other tenants' rows, however the policies stand. What has no statistics cannot be asked after.
CREATE OR REPLACE FUNCTION pgvpd.hide_statistics(relation regclass, columns name[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $hide_statistics$
DECLARE
    hidden int2[] := (SELECT array_agg(attnum) FROM pg_attribute WHERE attrelid = relation AND attname = ANY (columns) AND attnum > 0);
    target record;
    left_over text;
BEGIN
    -- The columns, and the expressions of indexes that have to do with one of them.
    FOR target IN
        SELECT c.oid::regclass AS holder, c.relkind AS kind, n.nspname AS schema, c.relname AS name, a.attname AS attribute, a.attnum AS number
        FROM (SELECT relation::oid, unnest(hidden)
              UNION ALL
              SELECT i.indexrelid, k.place FROM pg_index i, generate_series(1, i.indnatts) AS k (place)
              WHERE i.indrelid = relation AND i.indkey[k.place - 1] = 0
                AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                            AND d.refclassid = 'pg_class'::regclass AND d.refobjid = relation AND d.refobjsubid = ANY (hidden))
             ) held (oid, number)
        JOIN pg_class c ON c.oid = held.oid JOIN pg_namespace n ON n.oid = c.relnamespace
        JOIN pg_attribute a ON a.attrelid = held.oid AND a.attnum = held.number
    LOOP
        IF target.kind IN ('i', 'I') THEN
            EXECUTE format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS 0', target.holder, target.number);
        ELSE
            EXECUTE format('ALTER TABLE ONLY %s ALTER COLUMN %I SET STATISTICS 0', target.holder, target.attribute);
        END IF;
        -- ANALYZE passes the column over from now on, and leaves what it found before.
        IF current_setting('server_version_num')::int >= 180000 THEN
            EXECUTE 'SELECT pg_clear_attribute_stats($1, $2, $3, inherited) FROM (VALUES (false), (true)) v (inherited)'
                USING target.schema::text, target.name::text, target.attribute::text;
        ELSIF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
            DELETE FROM pg_statistic WHERE starelid = target.holder AND staattnum = target.number;
        ELSE
            left_over := concat_ws(', ', left_over, format('(%L::regclass, %s)', target.holder, target.number));
        END IF;
    END LOOP;
    IF left_over IS NOT NULL THEN
        RAISE WARNING 'what ANALYZE has found in % before stays until a superuser removes it', relation
            USING HINT = format('DELETE FROM pg_statistic WHERE (starelid, staattnum) IN (%s); on PostgreSQL 18 this function does it.', left_over);
    END IF;
    -- Statistics over several columns cannot be computed of columns that have none.
    FOR target IN
        SELECT pg_get_statisticsobjdef(s.oid) AS definition, format('%I.%I', n.nspname, s.stxname) AS name
        FROM pg_statistic_ext s JOIN pg_namespace n ON n.oid = s.stxnamespace
        WHERE s.stxrelid = relation AND (s.stxexprs IS NOT NULL OR s.stxkeys::int2[] && hidden)
    LOOP
        EXECUTE format('DROP STATISTICS %s', target.name);
        RAISE NOTICE 'statistics % are dropped: they tell of columns of % that are to have none', target.name, relation
            USING HINT = format('They were: %s;', target.definition);
    END LOOP;
END
$hide_statistics$;

-- For columns by name: SELECT pgvpd_hide_statistics('customers', 'email', 'phone');
CREATE OR REPLACE FUNCTION public.pgvpd_hide_statistics(table_name regclass, VARIADIC columns name[]) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    wrong text;
BEGIN
    IF table_name IS NULL OR columns IS NULL OR array_position(columns, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'pgvpd_hide_statistics needs a table and columns, and got NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM pgvpd.check_table(table_name);
    SELECT string_agg(quote_ident(c.name), ', ') INTO wrong FROM unnest(columns) AS c (name)
    WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = table_name AND a.attname = c.name AND a.attnum > 0);
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'table % has no column %', table_name, wrong USING ERRCODE = 'undefined_column',
            HINT = 'Name columns of the table exactly as the catalog has them.';
    END IF;
    PERFORM pgvpd.hide_statistics(member, columns) FROM pgvpd.lock_tree(table_name) AS member;
END $$;
-- Reads the condition of an access list back: the columns of its paths and their variables, for people; NULL if it has none.
CREATE OR REPLACE FUNCTION pgvpd.parse_paths(expression text, OUT columns text, OUT variables text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT string_agg(path[1], ', ' ORDER BY place), string_agg(coalesce(path[2], 'app.current_tenant_id'), ', ' ORDER BY place)
    FROM regexp_matches(expression, '([a-z0-9_]+|"(?:[^"]|"")+")[)]?(?:::[a-z]+)? = (?:ANY [(])?[(]+ SELECT (?:pgvpd[.]to_[a-z_]+[(])?'
        'public[.](?:current_tenant_id[(][)]|pgvpd_context[a-z_]*[(]''([a-z0-9_.]+)''::text[)])', 'g') WITH ORDINALITY m (path, place)
$$;

-- What is protected and what is not: every table with a policy of ours, everything below such a table, and every table
-- with a column tenant_id. A table that has both kinds of protection stands here twice. The status begins with
-- "protected" or with "NOT PROTECTED".
CREATE OR REPLACE FUNCTION public.pgvpd_status() RETURNS TABLE (
    table_name text, tenant_column text, variable text, rls_enabled boolean, rls_forced boolean,
    policy_present boolean, guard_present boolean, index_present boolean, status text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $status$
    WITH RECURSIVE written AS (
        SELECT p.polrelid, p.polpermissive AS permissive, polname IN ('pgvpd_visible', 'pgvpd_visible_guard') AS acl, qual,
               p.polcmd = '*' AND p.polroles = '{0}' AND qual = pg_get_expr(p.polwithcheck, p.polrelid)
                   AND p.polpermissive = (p.polname IN ('pgvpd_tenant_isolation', 'pgvpd_visible')) AS sound,
               obj_description(p.oid, 'pg_policy') AS paths
        FROM pg_policy p, pg_get_expr(p.polqual, p.polrelid) AS qual
        WHERE p.polname IN ('pgvpd_tenant_isolation', 'pgvpd_tenant_guard', 'pgvpd_visible', 'pgvpd_visible_guard')
    ), policy AS (  -- as pgvpd_protect creates them: the condition says it all; or pgvpd_protect_acl: both have one condition
        SELECT p.polrelid, p.permissive, p.acl, parsed[1] AS col, coalesce(parsed[2], 'app.current_tenant_id') AS var
        FROM written p, pgvpd.parse_condition(p.qual) AS parsed WHERE p.sound AND NOT p.acl AND parsed IS NOT NULL
        UNION ALL
        SELECT p.polrelid, p.permissive, p.acl, parsed.columns, parsed.variables
        FROM written p, pgvpd.parse_paths(p.qual) AS parsed WHERE p.sound AND p.acl AND parsed.columns IS NOT NULL
          AND NOT EXISTS (SELECT FROM written o WHERE o.polrelid = p.polrelid AND o.acl AND o.sound AND o.qual <> p.qual)
    ), tree AS (
        SELECT p.polrelid AS relid, 0 AS depth, p.acl, p.paths,
               coalesce(g.col, i.col, CASE WHEN NOT p.acl THEN 'tenant_id' END) AS col,
               coalesce(g.var, i.var, CASE WHEN NOT p.acl THEN 'app.current_tenant_id' END) AS var
        FROM (SELECT polrelid, acl, max(paths) AS paths FROM written GROUP BY polrelid, acl) p
        LEFT JOIN policy g ON g.polrelid = p.polrelid AND g.acl = p.acl AND NOT g.permissive
        LEFT JOIN policy i ON i.polrelid = p.polrelid AND i.acl = p.acl AND i.permissive
        UNION SELECT h.inhrelid, tree.depth + 1, tree.acl, tree.paths, tree.col, tree.var
              FROM tree JOIN pg_inherits h ON h.inhparent = tree.relid
    ), candidate AS (
        SELECT DISTINCT ON (relid, acl) * FROM (
            SELECT * FROM tree UNION ALL
            SELECT attrelid, 1000000, false, NULL, 'tenant_id', 'app.current_tenant_id' FROM pg_attribute
            WHERE attname = 'tenant_id' AND attnum > 0 AND attrelid NOT IN (SELECT relid FROM tree WHERE acl)
        ) found ORDER BY relid, acl, depth
    ), fact AS (
        SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS name, c.relkind AS kind, f.acl, f.paths, f.col, f.var,
               c.relrowsecurity AS enabled, c.relforcerowsecurity AS forced, p.isolation, p.guard, slow.columns AS slow,
               coalesce(pg_has_role(to_regrole('app_user'), c.relowner, 'MEMBER'), false) AS owned,
               coalesce(has_table_privilege(to_regrole('app_user'), c.oid, 'TRUNCATE, REFERENCES, TRIGGER'), false) AS excess
        FROM candidate f JOIN pg_class c ON c.oid = f.relid JOIN pg_namespace n ON n.oid = c.relnamespace,
        LATERAL (SELECT coalesce(bool_or(p.permissive), false) AS isolation, coalesce(bool_or(NOT p.permissive), false) AS guard
                 FROM policy p WHERE p.polrelid = c.oid AND p.acl = f.acl AND p.col = f.col AND p.var = f.var) p,
        LATERAL (SELECT array_agg(col) AS columns
                 FROM unnest(CASE WHEN f.acl THEN string_to_array(f.col, ', ') ELSE ARRAY[f.col] END) AS col
                 WHERE NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND quote_ident(a.attname) = col
                                   AND pgvpd.has_tenant_index(c.oid, a.attname))) slow
        WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgvpd', 'pgvpd_private')
    )
    SELECT name, col, var, enabled, forced, isolation, guard, CASE WHEN kind = 'r' AND col IS NOT NULL THEN slow IS NULL END, CASE
        WHEN kind = 'f' THEN 'NOT PROTECTED: row-level security does not work on a foreign table. '
            || format('Run: REVOKE ALL ON %s FROM PUBLIC, app_user;', name)
        WHEN NOT (enabled AND forced AND isolation AND guard) THEN 'NOT PROTECTED: ' || concat_ws(', ',
                CASE WHEN NOT enabled THEN 'row-level security is off' END,
                CASE WHEN NOT forced THEN 'row-level security does not bind the owner' END,
                CASE WHEN NOT isolation THEN 'the policy is missing or altered' END,
                CASE WHEN NOT guard THEN 'the guard is missing or altered' END)
            || CASE WHEN acl THEN format('. Run: SELECT pgvpd_protect_acl(%L, %L);', name, coalesce(paths, '[...]'))
                    ELSE format('. Run: SELECT pgvpd_protect(%L, %L, %L);', name, (parse_ident(col))[1], var) END
        WHEN owned THEN 'NOT PROTECTED: app_user can act as the owner. '
            || format('Run: ALTER TABLE %s OWNER TO another_role;', name)
        WHEN excess THEN 'NOT PROTECTED: app_user has a right that row-level security does not bind. '
            || format('Run: REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM PUBLIC, app_user;', name)
        WHEN kind = 'r' AND slow IS NOT NULL THEN 'protected, but slow: no index starts with '
            || CASE WHEN acl THEN slow[1] ELSE 'the tenant' END || format('. Run: CREATE INDEX ON %s (%s);', name, slow[1])
        ELSE 'protected' END
    FROM fact ORDER BY name, acl
$status$;

-- What auth_query asks: what a client that logs in as this role has to prove. SECURITY DEFINER, and so only where the installer
-- can read pg_authid: a superuser, a member of pg_read_all_data, or who was granted SELECT on it. Whoever may execute it, it answers
-- only to pgvpd_auth and its members, and to a session that can read pg_authid anyway: rights are lost in a dump without them, and
-- default privileges give them away.
DO $get_auth$
DECLARE
    former record;
    readable boolean := has_table_privilege('pg_authid', 'SELECT');
    asker record;
BEGIN
    SELECT p.proowner AS owner, p.proacl AS acl, p.prosrc LIKE '%session_user%' AS asks INTO former
    FROM pg_proc p WHERE p.oid = to_regprocedure('public.pgvpd_get_auth(text)');
    IF has_table_privilege(former.owner, 'pg_authid', 'SELECT') AND NOT (readable AND pg_has_role(former.owner, 'USAGE')) THEN
        -- a superuser has run this file too: the function is his
        IF NOT former.asks THEN
            RAISE WARNING 'pgvpd_get_auth is of an earlier release, and belongs to role %', pg_get_userbyid(former.owner)
                USING HINT = 'It answers whoever may execute it. Run this file as a superuser, too.';
        END IF;
        RETURN;
    ELSIF NOT readable AND coalesce(pg_has_role(former.owner, 'USAGE'), true) THEN
        RAISE NOTICE 'role % cannot read pg_authid: there is no function pgvpd_get_auth for the proxy to ask', current_user
            USING HINT = 'To have the proxy authenticate clients, set auth_file, or run this file as a superuser.';
        RETURN;
    END IF;
    -- Roles that policies cannot hold are left out, as for app_user above; and expired passwords (CVE-2025-2291 of PgBouncer).
    CREATE OR REPLACE FUNCTION public.pgvpd_get_auth(role_name text) RETURNS TABLE (role text, verifier text)
    LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN
        IF (pg_has_role(session_user, to_regrole('pgvpd_auth'), 'MEMBER')
            OR has_table_privilege(session_user, 'pg_authid', 'SELECT')) IS NOT TRUE
        THEN
            RAISE EXCEPTION 'role % may not ask pgvpd_get_auth for verifiers', session_user USING ERRCODE = 'insufficient_privilege',
                HINT = 'Only a session of pgvpd_auth or of a member of it may: set auth_user to one of them.';
        END IF;
        RETURN QUERY SELECT a.rolname::text, a.rolpassword FROM pg_authid a
            WHERE a.rolname = role_name AND a.rolcanlogin AND a.rolpassword IS NOT NULL
              AND (a.rolvaliduntil IS NULL OR a.rolvaliduntil > clock_timestamp())
              AND NOT EXISTS (SELECT FROM pg_authid r WHERE (r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole)
                              AND pg_has_role(a.oid, r.oid, 'MEMBER'));
    END $$;
    IF NOT has_table_privilege(former.owner, 'pg_authid', 'SELECT') THEN
        ALTER FUNCTION public.pgvpd_get_auth(text) OWNER TO CURRENT_USER;
    END IF;
    IF to_regrole('pgvpd_auth') IS NULL THEN
        RAISE NOTICE 'there is no role pgvpd_auth to call pgvpd_get_auth, and role % cannot create one', current_user
            USING HINT = 'Create it (LOGIN, and nothing else) and run this file again.';
        RETURN;
    END IF;
    -- Before the function asked, an auth_user of another name was granted EXECUTE: it becomes a member, which is what counts now.
    FOR asker IN SELECT DISTINCT r.rolname FROM aclexplode(former.acl) a JOIN pg_roles r ON r.oid = a.grantee
        WHERE NOT former.asks AND r.rolcanlogin AND a.grantee <> former.owner AND NOT pg_has_role(r.oid, 'pgvpd_auth', 'MEMBER')
          AND NOT pg_has_role('app_user', r.oid, 'MEMBER') AND NOT starts_with(r.rolname, 'app_user.')
          AND r.oid NOT IN (SELECT x.grantee FROM pg_default_acl d, aclexplode(d.defaclacl) x)
    LOOP
        BEGIN
            EXECUTE format('GRANT pgvpd_auth TO %I', asker.rolname);
            RAISE NOTICE 'role % could call pgvpd_get_auth and is a member of pgvpd_auth now, so that it still can', asker.rolname
                USING HINT = format('If it is not the proxy''s auth_user: REVOKE pgvpd_auth FROM %I;', asker.rolname);
        EXCEPTION WHEN insufficient_privilege OR invalid_grant_operation THEN
            RAISE WARNING 'role % can no longer call pgvpd_get_auth', asker.rolname
                USING HINT = format('If it is the proxy''s auth_user, as a superuser: GRANT pgvpd_auth TO %I;', asker.rolname);
        END;
    END LOOP;
    IF pg_has_role('app_user', 'pgvpd_auth', 'MEMBER') THEN
        RAISE EXCEPTION 'role app_user can call pgvpd_get_auth, which shows verifiers' USING ERRCODE = 'invalid_grant_operation',
            HINT = 'Make it a member of no role that can, pgvpd_auth among them.';
    END IF;
END
$get_auth$;

-- Every object of pgvpd's, and what its access list says beyond its owner's own rights.
--   meant      the grantee of the one right that it is to have, NULL for none
--   is_secret  no other grant may stay: what shows or uses a secret, or holds others up. To execute the rest, as pgvpd_protect, gives
--              no right: whoever was granted that by name keeps it
CREATE OR REPLACE FUNCTION pgvpd.own_objects() RETURNS TABLE (
    class text, name text, owner oid, acl aclitem[], is_secret boolean, meant text, privilege text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $own_objects$
    SELECT 'SCHEMA', n.nspname::text, n.nspowner, coalesce(n.nspacl, acldefault('n', n.nspowner)), true,
           CASE n.nspname WHEN 'pgvpd' THEN 'PUBLIC' END, 'USAGE'
    FROM pg_namespace n WHERE n.nspname IN ('pgvpd', 'pgvpd_private')
    UNION ALL
    SELECT CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, c.oid::regclass::text, c.relowner,
           coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner)), true, NULL, NULL
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname IN ('pgvpd', 'pgvpd_private') AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')
    UNION ALL  -- what is granted by column
    SELECT 'TABLE', c.oid::regclass::text, c.relowner, a.attacl, true, NULL, NULL
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attacl IS NOT NULL
    WHERE n.nspname IN ('pgvpd', 'pgvpd_private')
    UNION ALL
    SELECT 'FUNCTION', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner)),
           n.nspname = 'pgvpd_private' OR p.proname IN ('current_tenant_id', 'pgvpd_context', 'pgvpd_get_auth')
               OR (n.nspname = 'pgvpd' AND p.proname IN ('install_key', 'retire_key', 'attach', 'nonce', 'create_tenant_role')),
           CASE WHEN p.proname = 'pgvpd_get_auth' THEN (SELECT rolname FROM pg_roles WHERE rolname = 'pgvpd_auth')
                WHEN n.nspname <> 'pgvpd_private' AND p.proname !~ '^(install_key|retire_key|nonce|create_tenant_role|protect_table|set_policies'
                    '|lock_tree|grant_application|hide_statistics|path_condition|check_when|notify_change|audit_.*|own_objects|close_objects)$'
                    AND p.proname !~ '^pgvpd_(protect|protect_acl|hide_statistics|notify_on_change|notify_off|audit)$' THEN 'PUBLIC' END, 'EXECUTE'
    FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
    WHERE n.nspname IN ('pgvpd', 'pgvpd_private') OR (n.nspname = 'public' AND p.proname ~ ('^(current_tenant_id|pgvpd_(status|protect|hide_statistics'
        '|protect_acl|context|context_array|context_uuid_array|context_contains|context_text_contains|notify_on_change|notify_off|audit|get_auth))$'))
$own_objects$;

-- Takes away what was granted on pgvpd's objects, be it by default privileges, and grants what is meant. Called at the end of each
-- file, as the owners of the objects may be others than before.
CREATE OR REPLACE FUNCTION pgvpd.close_objects() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $close_objects$
DECLARE
    granted record;
BEGIN
    FOR granted IN
        SELECT o.*, a.grantee, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END AS role,
               string_agg(a.privilege_type, ', ') AS privileges
        FROM pgvpd.own_objects() o, aclexplode(o.acl) a
        WHERE a.grantee <> o.owner
          AND (a.privilege_type, CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(a.grantee) END, a.is_grantable)
              IS DISTINCT FROM (o.privilege, o.meant, false)
          AND (o.is_secret OR a.grantee = 0 OR a.grantee IN (
              SELECT x.grantee FROM pg_default_acl d, aclexplode(d.defaclacl) x WHERE d.defaclobjtype = 'f'))
        GROUP BY o.class, o.name, o.owner, o.acl, o.is_secret, o.meant, o.privilege, a.grantee
    LOOP
        IF pg_has_role(granted.owner, 'USAGE') THEN
            EXECUTE format('REVOKE ALL ON %s %s FROM %s CASCADE', granted.class, granted.name, granted.role);
        ELSE
            RAISE WARNING '% has rights on % %: %', granted.role, lower(granted.class), granted.name, granted.privileges
                USING HINT = format('As %I or a superuser, run this file too.', pg_get_userbyid(granted.owner));
        END IF;
    END LOOP;
    FOR granted IN
        SELECT o.* FROM pgvpd.own_objects() o WHERE o.meant IS NOT NULL AND pg_has_role(o.owner, 'USAGE')
    LOOP
        EXECUTE format('GRANT %s ON %s %s TO %s', granted.privilege, granted.class, granted.name, granted.meant);
    END LOOP;
END
$close_objects$;

-- app_user owns none of what policies call.
CREATE OR REPLACE FUNCTION pgvpd.check_owners() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owned text;
BEGIN
    SELECT string_agg(object, ', ') INTO owned FROM (
        SELECT 'schema ' || nspname, nspowner FROM pg_namespace WHERE nspname IN ('pgvpd', 'pgvpd_private') UNION ALL
        SELECT 'relation ' || oid::regclass, relowner FROM pg_class
            WHERE relnamespace IN ('pgvpd'::regnamespace, 'pgvpd_private'::regnamespace) UNION ALL
        SELECT 'function ' || oid::regprocedure, proowner FROM pg_proc
            WHERE pronamespace IN ('pgvpd'::regnamespace, 'pgvpd_private'::regnamespace)
            OR (pronamespace = 'public'::regnamespace AND (proname = 'current_tenant_id' OR starts_with(proname, 'pgvpd_')))
    ) installed (object, owner_oid) WHERE pg_has_role('app_user', owner_oid, 'MEMBER');
    IF owned IS NOT NULL THEN
        RAISE EXCEPTION 'role app_user can act as the owner of %', owned USING ERRCODE = 'invalid_grant_operation',
            HINT = 'Give them another owner, or drop them, and run this file as a role that app_user is not a member of.';
    END IF;
END $$;

-- What an app_user that was there before may do beyond what it was meant for. It stays as it is: applications log in with it.
DO $app_user$
DECLARE
    owned text;
BEGIN
    SELECT string_agg(name, ', ') INTO owned FROM (
        SELECT c.oid::regclass::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname !~ '^pg_' AND c.relowner = to_regrole('app_user')
        ORDER BY 1 LIMIT 10) o (name);
    IF owned IS NOT NULL THEN
        RAISE WARNING 'role app_user owns tables here, and an owner can take the protection away: %', owned
            USING HINT = 'Give them another owner before you protect them (ALTER TABLE ... OWNER TO), or have the application log in as another role.';
    END IF;
    IF (SELECT rolcreatedb FROM pg_roles WHERE rolname = 'app_user') THEN
        RAISE WARNING 'role app_user may create databases' USING HINT = 'ALTER ROLE app_user NOCREATEDB;';
    END IF;
END
$app_user$;

-- Nobody but the installer decides what stands in schema public.
DO $owners$
DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'public');
BEGIN
    IF pg_has_role(owner, 'USAGE') THEN
        REVOKE CREATE ON SCHEMA public FROM PUBLIC;
    ELSIF has_schema_privilege('app_user', 'public', 'CREATE') THEN
        RAISE WARNING 'role app_user may create objects in schema public'
            USING HINT = format('As %I: GRANT CREATE ON SCHEMA public TO %I; REVOKE CREATE ON SCHEMA public FROM PUBLIC;',
                                owner, current_user);
    END IF;
    PERFORM pgvpd.close_objects();
    PERFORM pgvpd.check_owners();
END
$owners$;

COMMIT;
