-- pgvpd setup: the role, the functions and the policies that scope a session to one tenant.
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
-- Limit: the context is a plain session setting. Whoever can run SQL of his own in a session can also SET it to another
-- tenant. Only a signed context stops that; until it is installed, row-level security here guards against forgotten
-- WHERE clauses, not against SQL injection.
--
-- Rules for this file. No psql commands: it also runs as one simple query. Every function pins its search_path, so that
-- no object that a session creates can stand in for a built-in one. No backslash in a plain literal: a session may turn
-- standard_conforming_strings off.

-- One transaction in both ways of running: psql would otherwise commit statement by statement and leave half an
-- installation behind an error. A program that sends this file as one query and gets an error must ROLLBACK. READ
-- COMMITTED, because the checks below must see what a copy that runs at the same time has committed.
BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

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
REVOKE ALL ON SCHEMA pgvpd FROM PUBLIC;
GRANT USAGE ON SCHEMA pgvpd TO PUBLIC;

-- Role app_user: without a password, because a default one would be a hole, and never one that row-level security does
-- not bind, directly or through a role that it can SET ROLE to. CREATEROLE counts: up to 15 it can grant itself the rest.
DO $role$
DECLARE
    excess record;
BEGIN
    IF to_regrole('app_user') IS NULL THEN
        BEGIN
            CREATE ROLE app_user LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE NOREPLICATION;
            RAISE NOTICE E'role app_user has no password yet: set one with \\password app_user';
        -- Roles belong to the cluster: a copy in another database may create it in the same moment, which shows as
        -- one of the first two, or as "tuple concurrently updated", an internal error. Checked just below.
        EXCEPTION WHEN duplicate_object OR unique_violation OR internal_error THEN
            IF to_regrole('app_user') IS NULL THEN
                RAISE;
            END IF;
        END;
    END IF;
    SELECT r.rolname, r.rolname = 'app_user' AS itself INTO excess FROM pg_roles r
    WHERE (r.rolsuper OR r.rolbypassrls OR r.rolreplication OR r.rolcreaterole) AND pg_has_role('app_user', r.oid, 'MEMBER')
    ORDER BY itself DESC, r.rolname LIMIT 1;
    IF excess.itself THEN
        RAISE EXCEPTION 'role app_user has SUPERUSER, BYPASSRLS, REPLICATION or CREATEROLE: policies cannot hold it'
            USING ERRCODE = 'invalid_grant_operation',
                  HINT = 'ALTER ROLE app_user NOSUPERUSER NOBYPASSRLS NOREPLICATION NOCREATEROLE;';
    ELSIF FOUND THEN
        RAISE EXCEPTION 'role app_user is a member of %, which policies cannot hold', excess.rolname
            USING ERRCODE = 'invalid_grant_operation', HINT = format('REVOKE %I FROM app_user;', excess.rolname);
    END IF;
END
$role$;

-- The context. PARALLEL RESTRICTED: the signed context that replaces these bodies is tied to the backend's pid, and a
-- worker has another one. Policies call them inside (SELECT ...), so plans are still parallel. PL/pgSQL, because it
-- keeps a function's plan for the session; LANGUAGE sql with a pinned search_path plans it anew in every statement.
CREATE OR REPLACE FUNCTION public.pgvpd_context(var text) RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN nullif(current_setting(var, true), ''); END $$;

CREATE OR REPLACE FUNCTION public.current_tenant_id() RETURNS text
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN public.pgvpd_context('app.current_tenant_id'); END $$;

GRANT EXECUTE ON FUNCTION public.pgvpd_context(text), public.current_tenant_id() TO PUBLIC;

-- Casts that give NULL, hence no rows, where a plain cast would raise an error. CASE and not an EXCEPTION block: that
-- needs a subtransaction, which PostgreSQL refuses while a parallel plan runs.
CREATE OR REPLACE FUNCTION pgvpd.to_uuid(value text) RETURNS uuid
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value ~ '^[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$' THEN value::uuid END;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.to_bigint(value text) RETURNS bigint
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value !~ '^-?[0-9]{1,19}$' THEN NULL
                WHEN value::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 THEN value::bigint END;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.to_integer(value text) RETURNS integer
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    RETURN CASE WHEN value !~ '^-?[0-9]{1,10}$' THEN NULL
                WHEN value::bigint BETWEEN -2147483648 AND 2147483647 THEN value::integer END;
END $$;

-- char(n) ignores trailing blanks when it compares; without this check 'acme ' would be a second name for 'acme'.
CREATE OR REPLACE FUNCTION pgvpd.to_bpchar(value text) RETURNS bpchar
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN CASE WHEN value !~ ' $' THEN value::bpchar END; END $$;

GRANT EXECUTE ON FUNCTION pgvpd.to_uuid(text), pgvpd.to_bigint(text), pgvpd.to_integer(text), pgvpd.to_bpchar(text) TO PUBLIC;

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
    IF variable_name !~ '^[a-z_][a-z0-9_]*([.][a-z_][a-z0-9_]*)+$' OR starts_with(variable_name, 'pgvpd.') THEN
        RAISE EXCEPTION '"%" cannot be a context variable', variable_name USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Use a lower-case name with a dot, such as app.org_id; names under pgvpd. belong to the proxy.';
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
CREATE OR REPLACE FUNCTION pgvpd.warn_of_gaps(relation regclass, guard name, function_name text, arguments text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $warn_of_gaps$
DECLARE
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
    IF pg_has_role(to_regrole('app_user'), place.relowner, 'MEMBER') THEN
        RAISE WARNING 'role app_user can act as the owner of % and remove its protection', relation
            USING HINT = format('ALTER TABLE %s OWNER TO another_role;', relation);
    END IF;
    IF NOT has_any_column_privilege(to_regrole('app_user'), relation, 'SELECT') THEN
        RAISE NOTICE 'role app_user has no rights on % yet: %GRANT SELECT, INSERT, UPDATE, DELETE ON % TO app_user;', relation,
            CASE WHEN NOT has_schema_privilege(to_regrole('app_user'), place.relnamespace, 'USAGE')
                 THEN format('GRANT USAGE ON SCHEMA %I TO app_user; ', place.nspname) ELSE '' END, relation;
    END IF;
END
$warn_of_gaps$;

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

-- Another signature of this name would win over this one in pgvpd_protect('orders') and leave the table open.
DO $overloads$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN SELECT oid FROM pg_proc WHERE proname = 'pgvpd_protect' AND pronamespace = 'public'::regnamespace
        AND oid IS DISTINCT FROM to_regprocedure('public.pgvpd_protect(regclass, name, text)')
    LOOP
        EXECUTE format('DROP FUNCTION %s', old);
    END LOOP;
END
$overloads$;

-- Protects a table, its partitions at every level and its inheritance children: each can be queried by its own name.
-- regclass, so that the caller's search_path finds the table although this function has one of its own.
CREATE OR REPLACE FUNCTION public.pgvpd_protect(
    table_name regclass, column_name name DEFAULT 'tenant_id', variable_name text DEFAULT 'app.current_tenant_id')
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $protect$
DECLARE
    target record;
BEGIN
    IF table_name IS NULL OR column_name IS NULL OR variable_name IS NULL THEN
        RAISE EXCEPTION 'pgvpd_protect needs a table, a column and a variable, and got NULL'
            USING ERRCODE = 'null_value_not_allowed';
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

    PERFORM pgvpd.protect_table(member, column_name, target.context) FROM pgvpd.lock_tree(table_name) AS member;
    PERFORM pgvpd.warn_of_gaps(table_name, 'pgvpd_tenant_guard', 'pgvpd_protect', format('%L, %L', column_name, variable_name));
END
$protect$;
REVOKE EXECUTE ON FUNCTION public.pgvpd_protect(regclass, name, text), pgvpd.protect_table(regclass, name, text),
    pgvpd.set_policies(regclass, name, name, text), pgvpd.lock_tree(regclass) FROM PUBLIC;

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
        WHERE c.relkind IN ('r', 'p', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
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
GRANT EXECUTE ON FUNCTION public.pgvpd_status() TO PUBLIC;

-- app_user owns none of what policies call.
CREATE OR REPLACE FUNCTION pgvpd.check_owners() RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    owned text;
BEGIN
    SELECT string_agg(object, ', ') INTO owned FROM (
        SELECT 'schema pgvpd', nspowner FROM pg_namespace WHERE nspname = 'pgvpd' UNION ALL
        SELECT 'function ' || oid::regprocedure, proowner FROM pg_proc WHERE pronamespace = 'pgvpd'::regnamespace
            OR (pronamespace = 'public'::regnamespace AND (proname = 'current_tenant_id' OR starts_with(proname, 'pgvpd_')))
    ) installed (object, owner_oid) WHERE pg_has_role('app_user', owner_oid, 'MEMBER');
    IF owned IS NOT NULL THEN
        RAISE EXCEPTION 'role app_user can act as the owner of %', owned USING ERRCODE = 'invalid_grant_operation',
            HINT = 'Give them another owner, or drop them, and run this file as a role that app_user is not a member of.';
    END IF;
END $$;

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
    PERFORM pgvpd.check_owners();
END
$owners$;

COMMIT;
