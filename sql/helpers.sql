-- pgvpd helpers: contexts that hold several values, and tables whose rows several kinds of owners may see.
--
-- How to run, once per database, after setup.sql and as the same role (PostgreSQL 14 to 18):
--     psql -v ON_ERROR_STOP=1 -d mydb -f helpers.sql
-- Running it again is safe, and is how to upgrade; run setup.sql of the same release first. Then, for example:
--     SELECT pgvpd_protect_acl('documents', '[
--         {"column": "owner_id", "var": "app.user_id",    "type": "uuid"},
--         {"column": "team_id",  "var": "app.team_ids",   "type": "uuid_array"},
--         {"column": "org_id",   "var": "app.org_id",     "type": "uuid", "when": "visibility = ''org''"}
--     ]');
-- A row can be seen and written where at least one path holds. What setup.sql says of the limits of a plain session setting
-- holds here too.
--
-- A context of several values is a PostgreSQL array literal, as array_agg(id)::text gives, or a comma-separated list, as
-- string_agg(id::text, ',') does. A text that begins with { is a literal or nothing: a malformed one reads as NULL. A list has
-- the blanks around its items removed, and knows no quotes; an item that is empty, NULL, or not of the type is left out.
--
-- The rules of setup.sql hold for this file. It does not create pgvpd_context: that is the one place where a signed context
-- is checked.

BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $requires$
DECLARE
    owner name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd');
BEGIN
    IF to_regprocedure('public.pgvpd_context(text)') IS NULL OR to_regprocedure('pgvpd.require_owners()') IS NULL THEN
        RAISE EXCEPTION 'setup.sql of this release is not installed in this database' USING ERRCODE = 'undefined_function',
            HINT = 'Run it first: psql -v ON_ERROR_STOP=1 -d mydb -f setup.sql';
    END IF;
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'pgvpd is installed in this database by role %', owner USING ERRCODE = 'insufficient_privilege',
            HINT = format('Run this file as %I or as a superuser.', owner);
    END IF;
END
$requires$;
-- Takes a lock that lasts to the end of the transaction: a second copy in the same database waits here.
COMMENT ON SCHEMA pgvpd IS 'pgvpd internals, see sql/setup.sql and sql/helpers.sql';

-- The values of a context. Only the literals that array_out writes are taken for literals, so that the cast cannot fail: an
-- EXCEPTION block would need a subtransaction, which PostgreSQL refuses while a parallel plan runs.
CREATE OR REPLACE FUNCTION pgvpd.to_array(value text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $to_array$
DECLARE
    item constant text := E'([^{}",\\\\[:space:]]+|"([^"\\\\]|\\\\.)*")';
BEGIN
    RETURN CASE
        WHEN value IS NULL OR value = '' THEN NULL
        WHEN value ~ '^[[:space:]]*[{]' THEN
            CASE WHEN value ~ ('^[{](' || item || '(,' || item || ')*)?[}]$') THEN array_remove(value::text[], NULL) END
        ELSE array_remove(ARRAY(SELECT nullif(btrim(part, E' \t\r\n'), '') FROM unnest(string_to_array(value, ',')) part), NULL)
    END;
END
$to_array$;

CREATE OR REPLACE FUNCTION public.pgvpd_context_array(var text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN pgvpd.to_array(public.pgvpd_context(var)); END $$;

CREATE OR REPLACE FUNCTION public.pgvpd_context_uuid_array(var text) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    items constant text[] := pgvpd.to_array(public.pgvpd_context(var));
BEGIN
    RETURN CASE WHEN items IS NOT NULL THEN array_remove(ARRAY(SELECT pgvpd.to_uuid(item) FROM unnest(items) item), NULL) END;
END $$;

-- For columns of integers. An item that fits only bigint matches no smaller column.
CREATE OR REPLACE FUNCTION pgvpd.context_bigint_array(var text) RETURNS bigint[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    items constant text[] := pgvpd.to_array(public.pgvpd_context(var));
BEGIN
    RETURN CASE WHEN items IS NOT NULL THEN array_remove(ARRAY(SELECT pgvpd.to_bigint(item) FROM unnest(items) item), NULL) END;
END $$;

-- Never NULL, so that NOT of it does not read as unknown.
CREATE OR REPLACE FUNCTION public.pgvpd_context_contains(var text, value uuid) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN coalesce(value = ANY (public.pgvpd_context_uuid_array(var)), false); END $$;

CREATE OR REPLACE FUNCTION public.pgvpd_context_text_contains(var text, value text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN coalesce(value = ANY (public.pgvpd_context_array(var)), false); END $$;

GRANT EXECUTE ON FUNCTION pgvpd.to_array(text), pgvpd.context_bigint_array(text), public.pgvpd_context_array(text),
    public.pgvpd_context_uuid_array(text), public.pgvpd_context_contains(text, uuid),
    public.pgvpd_context_text_contains(text, text) TO PUBLIC;

-- The condition of one path, without its "when". NULL where the column's type does not go with the path's.
CREATE OR REPLACE FUNCTION pgvpd.path_condition(column_name name, column_type oid, path_type text, var text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    WITH RECURSIVE type AS (
        SELECT t.oid, t.typbasetype FROM pg_type t WHERE t.oid = column_type
        UNION ALL SELECT t.oid, t.typbasetype FROM type JOIN pg_type t ON t.oid = type.typbasetype  -- domains
    )
    SELECT CASE
        WHEN path_type = 'text' OR (path_type = 'uuid' AND type.oid = 'uuid'::regtype) THEN
            format('%I = (SELECT ', column_name) || pgvpd.context_expression(type.oid, var) || ')'
        WHEN path_type IN ('uuid_array', 'text_array') AND type.oid = 'uuid'::regtype THEN
            format('%I = ANY ((SELECT public.pgvpd_context_uuid_array(%L))::uuid[])', column_name, var)
        WHEN path_type = 'text_array' AND type.oid IN ('text'::regtype, 'varchar'::regtype) THEN
            format('%I = ANY ((SELECT public.pgvpd_context_array(%L))::text[])', column_name, var)
        WHEN path_type = 'text_array' AND type.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) THEN
            format('%I = ANY ((SELECT pgvpd.context_bigint_array(%L))::bigint[])', column_name, var)
    END FROM type WHERE type.typbasetype = 0
$$;

-- Refuses a condition that is not one whole boolean expression over the table's columns. Standing bare in CASE, a text with a
-- stray parenthesis cannot be parsed; standing in parentheses, nor can one with a stray THEN. So the policy, which has it
-- in parentheses, cannot be widened by what follows one: "true) OR (true".
CREATE OR REPLACE FUNCTION pgvpd.require_condition(table_name regclass, condition text, place text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $require_condition$
BEGIN
    EXECUTE format(E'EXPLAIN SELECT FROM %s WHERE CASE WHEN %s\nTHEN true END', table_name, condition);
    EXECUTE format(E'EXPLAIN SELECT FROM %s WHERE (%s\n)', table_name, condition);
EXCEPTION WHEN syntax_error_or_access_rule_violation OR feature_not_supported THEN
    RAISE EXCEPTION '% has no valid "when": %', place, SQLERRM USING ERRCODE = SQLSTATE,
        HINT = 'Give one boolean expression over the columns of the table, with functions and types of yours qualified by their schema.';
END
$require_condition$;

DO $$ BEGIN PERFORM pgvpd.drop_overloads('pgvpd_protect_acl', 'public.pgvpd_protect_acl(regclass, jsonb)'); END $$;

-- Protects a table, its partitions at every level and its inheritance children, by paths of which one has to hold. Together with
-- pgvpd_protect on the same table both have to hold: the guards are restrictive.
CREATE OR REPLACE FUNCTION public.pgvpd_protect_acl(table_name regclass, paths jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $protect_acl$
DECLARE
    path jsonb;
    number int := 0;
    place text;
    stranger text;
    target record;
    condition text;
    conditions text[] := '{}';
    columns name[] := '{}';
    member regclass;
BEGIN
    IF table_name IS NULL OR paths IS NULL THEN
        RAISE EXCEPTION 'pgvpd_protect_acl needs a table and paths, and got NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM pgvpd.require_table(table_name);
    IF jsonb_typeof(paths) <> 'array' OR paths = '[]' THEN
        RAISE EXCEPTION 'paths is not an array of at least one path' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'Give, for example, [{"column": "owner_id", "var": "app.user_id", "type": "uuid"}].';
    END IF;

    FOR path IN SELECT value FROM jsonb_array_elements(paths) LOOP
        number := number + 1;
        place := format('path %s of table %s', number, table_name);
        IF jsonb_typeof(path) <> 'object' THEN
            RAISE EXCEPTION '% is not an object', place USING ERRCODE = 'invalid_parameter_value',
                HINT = 'A path is, for example, {"column": "owner_id", "var": "app.user_id", "type": "uuid"}.';
        END IF;
        -- A misspelt "when" would leave the path open.
        SELECT key INTO stranger FROM jsonb_each(path)
        WHERE key NOT IN ('column', 'var', 'type', 'when') OR jsonb_typeof(value) <> 'string' ORDER BY key LIMIT 1;
        IF FOUND THEN
            RAISE EXCEPTION '% has "%": %', place, stranger, path -> stranger USING ERRCODE = 'invalid_parameter_value',
                HINT = 'A path has the strings "column", "var" and "type", and it may have "when".';
        END IF;
        IF NOT path ?& ARRAY['column', 'var', 'type'] THEN
            RAISE EXCEPTION '% lacks "column", "var" or "type"', place USING ERRCODE = 'invalid_parameter_value',
                HINT = 'A path is, for example, {"column": "owner_id", "var": "app.user_id", "type": "uuid"}.';
        END IF;
        IF path ->> 'type' NOT IN ('text', 'uuid', 'uuid_array', 'text_array') THEN
            RAISE EXCEPTION '% has the unknown type "%"', place, path ->> 'type' USING ERRCODE = 'invalid_parameter_value',
                HINT = 'The types are text, uuid, uuid_array and text_array.';
        END IF;
        PERFORM pgvpd.require_variable(path ->> 'var');

        SELECT a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod) AS type INTO target FROM pg_attribute a
        WHERE a.attrelid = table_name AND a.attname = path ->> 'column' AND a.attnum > 0 AND NOT a.attisdropped;
        IF NOT FOUND THEN
            RAISE EXCEPTION '%: the table has no column "%"', place, path ->> 'column' USING ERRCODE = 'undefined_column';
        END IF;
        condition := pgvpd.path_condition(target.attname, target.atttypid, path ->> 'type', path ->> 'var');
        IF condition IS NULL THEN
            RAISE EXCEPTION '%: column "%" has type %, which a path of type % cannot compare', place, target.attname, target.type,
                path ->> 'type' USING ERRCODE = 'datatype_mismatch',
                HINT = 'text goes with text, varchar, char, uuid and integers, text_array with all of them but char, uuid and uuid_array with uuid.';
        END IF;
        IF path ? 'when' THEN
            PERFORM pgvpd.require_condition(table_name, path ->> 'when', place);
            condition := format(E'%s AND (%s\n)', condition, path ->> 'when');
        END IF;
        conditions := conditions || format('(%s)', condition);
        columns := columns || target.attname;
    END LOOP;

    condition := array_to_string(conditions, ' OR ');
    FOR member IN SELECT * FROM pgvpd.lock_tree(table_name) LOOP
        IF pgvpd.enforce(member, 'pgvpd_acl', 'pgvpd_acl_guard', condition) THEN
            PERFORM pgvpd.warn_without_index(member, name) FROM (SELECT DISTINCT unnest(columns)) c (name);
        END IF;
    END LOOP;
    PERFORM pgvpd.advise(table_name, 'pgvpd_acl_guard', format('SELECT pgvpd_protect_acl({table}, %L);', paths));
END
$protect_acl$;

REVOKE EXECUTE ON FUNCTION public.pgvpd_protect_acl(regclass, jsonb), pgvpd.require_condition(regclass, text, text) FROM PUBLIC;
DO $$ BEGIN PERFORM pgvpd.require_owners(); END $$;

COMMIT;
