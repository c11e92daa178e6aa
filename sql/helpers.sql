-- pgvpd helpers: contexts that hold several values, rows that several kinds of users may see, and notifications of changes.
--
-- How to run, once per database, after setup.sql of the same release and as the same role:
--     psql -v ON_ERROR_STOP=1 -d mydb -f helpers.sql
-- Running it again is safe, and is how to upgrade; so is running setup.sql again. It begins and commits a transaction of
-- its own. Then, for every table whose rows are shared by rules:
--     SELECT pgvpd_protect_acl('docs', '[
--         {"column": "owner_id", "var": "app.user_id", "type": "uuid"},
--         {"column": "team_id", "var": "app.team_ids", "type": "uuid_array", "when": "visibility = ''team''"}]');
--     SELECT * FROM pgvpd_status();
--
-- A context that holds several values is what PostgreSQL prints for an array, {a,"b c",NULL}, as a resolver gets it from
-- array_agg(x)::text; or the values with commas between them, as from string_agg(x, ','). The second form is for ids:
-- a value that itself contains a comma would read as two, so whatever users can name belongs in the first. Neither form,
-- or one value that does not fit: NULL as a whole, hence no rows. An empty value reads as NULL, which matches nothing.
--
-- The rules of setup.sql hold here too.

BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $installed$
DECLARE
    owner name;
BEGIN
    IF to_regprocedure('public.pgvpd_context(text)') IS NULL OR to_regprocedure('pgvpd.close_objects()') IS NULL THEN
        RAISE EXCEPTION 'helpers.sql builds on setup.sql, which is not installed in this database or is older'
            USING ERRCODE = 'undefined_function', HINT = 'Run setup.sql of the same release first, then this file again.';
    END IF;
    SELECT pg_get_userbyid(nspowner) INTO owner FROM pg_namespace WHERE nspname = 'pgvpd';
    IF NOT pg_has_role(owner, 'USAGE') THEN
        RAISE EXCEPTION 'pgvpd is installed in this database by role %', owner
            USING ERRCODE = 'insufficient_privilege',
                  HINT = format('Run this file as %I or as a superuser.', owner);
    END IF;
END
$installed$;
-- Takes a lock that lasts to the end of the transaction: a second copy in the same database waits here.
COMMENT ON SCHEMA pgvpd IS 'pgvpd internals, see sql/setup.sql';

-- The values of a list. The pattern is stricter than array_in of every version, so that the cast behind it cannot fail.
-- IF and not CASE here and below: where an expression is planned anew, the planner may try a cast that CASE would not reach.
-- array_nulls, which a session may turn off, would make a value 'NULL' of a missing one. COLLATE "C": the caller's column
-- may have a collation that patterns refuse.
CREATE OR REPLACE FUNCTION pgvpd.to_text_array(value text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp SET array_nulls = on AS $to_text_array$
DECLARE
    element CONSTANT text := $re$\s*("([^"\\]|\\.)*"\s*|[^\s{},"\\][^{},"\\]*)$re$;
BEGIN
    IF value COLLATE "C" ~ ('^[{](' || element || '(,' || element || $re$)*)?\s*[}]$re$ || '$') COLLATE "C" THEN
        RETURN array_replace(value::text[], '', NULL);
    ELSIF value COLLATE "C" !~ $re$[{}"\\]$re$ THEN
        RETURN array_replace(string_to_array(nullif(value, '') COLLATE "C", ','), '', NULL);
    END IF;
    RETURN NULL;
END
$to_text_array$;

-- Casts of all values, each in PostgreSQL's own spelling, or NULL where one does not fit: to leave it out would widen "not one of these". One pattern over the
-- printed array, where a value that needs quotes has them, is many times faster than one per value. A blank after a comma
-- does not count here, so that string_agg(id::text, ', ') reads as it looks.
CREATE OR REPLACE FUNCTION pgvpd.to_uuid_array(value text) RETURNS uuid[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    elements CONSTANT text[] := pgvpd.to_text_array(replace(value COLLATE "C", ', ', ','));
    element CONSTANT text := '([0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|NULL)';
BEGIN
    IF elements::text COLLATE "C" ~ ('^[{](' || element || '(,' || element || ')*)?[}]$') COLLATE "C" THEN
        RETURN elements::uuid[];
    END IF;
    RETURN NULL;
END $$;

CREATE OR REPLACE FUNCTION pgvpd.to_bigint_array(value text) RETURNS bigint[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    elements CONSTANT text[] := pgvpd.to_text_array(replace(value COLLATE "C", ', ', ','));
    element CONSTANT text := '(0|-?[1-9][0-9]{0,18}|NULL)';
BEGIN
    IF elements::text COLLATE "C" ~ ('^[{](' || element || '(,' || element || ')*)?[}]$') COLLATE "C" THEN
        IF NOT EXISTS (SELECT FROM unnest(elements::numeric[]) AS n
                       WHERE n NOT BETWEEN -9223372036854775808 AND 9223372036854775807) THEN
            RETURN elements::bigint[];
        END IF;
    END IF;
    RETURN NULL;
END $$;

-- See pgvpd.to_bpchar.
CREATE OR REPLACE FUNCTION pgvpd.to_bpchar_array(value text) RETURNS bpchar[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path = pg_catalog, pg_temp AS $$
DECLARE
    elements CONSTANT text[] := pgvpd.to_text_array(value);
BEGIN
    IF NOT EXISTS (SELECT FROM unnest(elements) AS e WHERE right(e, 1) COLLATE "C" = ' ') THEN
        RETURN elements::bpchar[];
    END IF;
    RETURN NULL;
END $$;

-- The contexts, for policies and queries. They ask pgvpd_context, whose body a signed context replaces.
CREATE OR REPLACE FUNCTION public.pgvpd_context_array(var text) RETURNS text[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN pgvpd.to_text_array(public.pgvpd_context(var)); END $$;

CREATE OR REPLACE FUNCTION public.pgvpd_context_uuid_array(var text) RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN pgvpd.to_uuid_array(public.pgvpd_context(var)); END $$;

-- NULL, not false, without a context: NOT pgvpd_context_contains(...) gives no rows then either. COLLATE "C": a column's own
-- collation may equate values that are not the same.
CREATE OR REPLACE FUNCTION public.pgvpd_context_contains(var text, value uuid) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN value = ANY (public.pgvpd_context_uuid_array(var)); END $$;

CREATE OR REPLACE FUNCTION public.pgvpd_context_text_contains(var text, value text) RETURNS boolean
LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SET search_path = pg_catalog, pg_temp AS
$$ BEGIN RETURN value COLLATE "C" = ANY (public.pgvpd_context_array(var)); END $$;

-- The SQL expression that reads a variable as an array to compare a column of this type with, or NULL if there is none. The
-- cast keeps ANY from taking (SELECT ...) for a set of rows.
CREATE OR REPLACE FUNCTION pgvpd.context_array_expression(column_type oid, variable_name text) RETURNS text
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT CASE
        WHEN type IN ('text'::regtype, 'varchar'::regtype)
            THEN format('(SELECT public.pgvpd_context_array(%L))::text[]', variable_name)
        WHEN type = 'uuid'::regtype THEN format('(SELECT public.pgvpd_context_uuid_array(%L))::uuid[]', variable_name)
        WHEN type = 'bpchar'::regtype
            THEN format('(SELECT pgvpd.to_bpchar_array(public.pgvpd_context(%L)))::bpchar[]', variable_name)
        WHEN type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
            THEN format('(SELECT pgvpd.to_bigint_array(public.pgvpd_context(%L)))::bigint[]', variable_name)
    END FROM pgvpd.base_type(column_type) AS type
$$;

-- Refuses a "when" that is not one condition over the table's columns. It is tried bare, which a text that leaves its
-- parentheses, such as true) OR (true, does not survive, and then in parentheses, which true ORDER BY 1 does not. A cursor,
-- because it is parsed and planned but not run, and takes only one statement; the bare text comes first, because only a
-- text that is balanced can be put between parentheses.
CREATE OR REPLACE FUNCTION pgvpd.check_when(relation regclass, condition text, path_number bigint) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $check_when$
DECLARE
    attempt text;
    probe refcursor;
BEGIN
    FOREACH attempt IN ARRAY ARRAY['%s', '(%s' || chr(10) || ')'] LOOP
        OPEN probe FOR EXECUTE format('SELECT FROM ONLY %s WHERE ' || attempt, relation, condition);
        CLOSE probe;
    END LOOP;
EXCEPTION WHEN OTHERS THEN
    RAISE EXCEPTION 'path %: "when" is not a condition on a row of %: %', path_number, relation, SQLERRM
        USING ERRCODE = 'invalid_parameter_value',
              HINT = 'Write one boolean expression over the columns, such as visibility = ''team''; a function or type '
                  'that is not PostgreSQL''s own needs its schema.';
END
$check_when$;

-- The condition of one path, after every check of it.
CREATE OR REPLACE FUNCTION pgvpd.path_condition(relation regclass, path jsonb, path_number bigint) RETURNS text
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $path_condition$
DECLARE
    shape CONSTANT text := 'A path is {"column": ..., "var": ..., "type": ...} and may have a "when"; all of them are strings.';
    wrong text;
    target record;
    context text;
    condition text;
BEGIN
    IF jsonb_typeof(path) <> 'object' THEN
        RAISE EXCEPTION 'path % is not an object', path_number USING ERRCODE = 'invalid_parameter_value', HINT = shape;
    END IF;
    SELECT string_agg(quote_ident(key), ', ') INTO wrong FROM jsonb_object_keys(path) AS key
    WHERE key NOT IN ('column', 'var', 'type', 'when');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'path % has an unknown key: %', path_number, wrong
            USING ERRCODE = 'invalid_parameter_value', HINT = shape;
    END IF;
    SELECT string_agg(key, ', ') INTO wrong FROM unnest(ARRAY['column', 'var', 'type', 'when']) AS key
    WHERE coalesce(jsonb_typeof(path -> key) <> 'string', key <> 'when');
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'path % needs a string for: %', path_number, wrong
            USING ERRCODE = 'invalid_parameter_value', HINT = shape;
    END IF;
    PERFORM pgvpd.check_variable(path ->> 'var');

    SELECT a.attname, a.atttypid, format_type(a.atttypid, a.atttypmod) AS type INTO target
    FROM pg_attribute a WHERE a.attrelid = relation AND a.attname = path ->> 'column' AND a.attnum > 0 AND NOT a.attisdropped;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'path %: table % has no column %', path_number, relation, quote_ident(path ->> 'column')
            USING ERRCODE = 'undefined_column', HINT = 'Name a column of the table exactly as the catalog has it.';
    END IF;
    IF path ->> 'type' NOT IN ('text', 'uuid', 'text_array', 'uuid_array') THEN
        RAISE EXCEPTION 'path %: unknown type "%"', path_number, path ->> 'type' USING ERRCODE = 'invalid_parameter_value',
            HINT = 'The type says what the context holds: text, uuid, text_array or uuid_array.';
    END IF;
    IF path ->> 'type' IN ('text', 'text_array') OR pgvpd.base_type(target.atttypid) = 'uuid'::regtype THEN
        context := CASE WHEN path ->> 'type' IN ('text', 'uuid')
            THEN '(SELECT ' || pgvpd.context_expression(target.atttypid, path ->> 'var') || ')'
            ELSE 'ANY (' || pgvpd.context_array_expression(target.atttypid, path ->> 'var') || ')' END;
    END IF;
    IF context IS NULL THEN
        RAISE EXCEPTION 'path %: column % of table % has type %, which cannot be compared with a context of type %',
            path_number, quote_ident(target.attname), relation, target.type, path ->> 'type' USING ERRCODE = 'datatype_mismatch',
            HINT = 'The column holds one value: for uuid and uuid_array a uuid; for text and text_array text, varchar, char, '
                'uuid, smallint, integer or bigint, or a domain over one.';
    END IF;

    PERFORM pgvpd.check_equality(relation, target.attname);
    condition := format('%I = %s', target.attname, context);
    IF path ? 'when' THEN
        PERFORM pgvpd.check_when(relation, path ->> 'when', path_number);
        -- The line break ends a comment.
        condition := format('%s AND (%s%s)', condition, path ->> 'when', chr(10));
    END IF;
    RETURN format('(%s)', condition);
END
$path_condition$;

-- Another signature of this name would win over this one in pgvpd_protect_acl('docs', '...') and leave the table open.
DO $overloads$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN SELECT oid FROM pg_proc WHERE proname = 'pgvpd_protect_acl' AND pronamespace = 'public'::regnamespace
        AND oid IS DISTINCT FROM to_regprocedure('public.pgvpd_protect_acl(regclass, jsonb)')
    LOOP
        EXECUTE format('DROP FUNCTION %s', old);
    END LOOP;
END
$overloads$;

-- Protects a table and everything below it: a row can be read and written where one of the paths leads to it. Together with
-- pgvpd_protect on the same table both must hold, because the guard of each is restrictive. The names: PostgreSQL applies
-- restrictive policies in the order of their names, and pgvpd_visible_guard has to come after pgvpd_tenant_guard, so that a
-- "when" which fails, or tells what it sees, never meets a row of another tenant.
CREATE OR REPLACE FUNCTION public.pgvpd_protect_acl(table_name regclass, paths jsonb)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $protect_acl$
DECLARE
    condition text;
    member regclass;
    policy name;
BEGIN
    IF table_name IS NULL OR paths IS NULL THEN
        RAISE EXCEPTION 'pgvpd_protect_acl needs a table and paths, and got NULL' USING ERRCODE = 'null_value_not_allowed';
    END IF;
    PERFORM pgvpd.check_table(table_name);
    IF jsonb_typeof(paths) <> 'array' OR paths = '[]' THEN
        RAISE EXCEPTION 'the paths of % are not an array with at least one path', table_name
            USING ERRCODE = 'invalid_parameter_value',
                  HINT = 'Such as [{"column": "owner_id", "var": "app.user_id", "type": "uuid"}].';
    END IF;
    SELECT string_agg(pgvpd.path_condition(table_name, path, number), ' OR ' ORDER BY number) INTO STRICT condition
    FROM jsonb_array_elements(paths) WITH ORDINALITY AS p (path, number);

    FOR member IN SELECT pgvpd.lock_tree(table_name) LOOP
        CONTINUE WHEN NOT pgvpd.set_policies(member, 'pgvpd_visible', 'pgvpd_visible_guard', condition);
        -- pgvpd_status() shows them as the remedy for a partition that is added later.
        FOREACH policy IN ARRAY ARRAY['pgvpd_visible', 'pgvpd_visible_guard'] LOOP
            EXECUTE format('COMMENT ON POLICY %I ON %s IS %L', policy, member, paths);
        END LOOP;
        PERFORM pgvpd.warn_without_index(member, path_column)
        FROM (SELECT DISTINCT path ->> 'column' FROM jsonb_array_elements(paths) AS path) p (path_column);
    END LOOP;
    PERFORM pgvpd.warn_of_gaps(table_name, 'pgvpd_visible_guard', 'pgvpd_protect_acl', quote_literal(paths));
END
$protect_acl$;

-- What a resolver found is void once the rows change that it read. A trigger on them tells the proxies:
--     SELECT pgvpd_notify_on_change('members', 'org_membership', 'user_id');
--     SELECT pgvpd_notify_on_change('members', 'org_role', ARRAY['org_id', 'user_id']);
-- sends NOTIFY pgvpd_invalidate, '{"resolver":"org_role","params":["7","42"]}': the values of the columns before and after, as
-- text, which are what the resolver gets as $1, $2. Without params it means every result of that resolver.
--
-- Fired once per statement, so that a bulk change says each thing once. Whoever writes into the table needs no right on it:
-- PostgreSQL asks for EXECUTE only when the trigger is created.
--
-- No notification where a value is NULL or empty: no resolver runs with one. None for a row that an UPDATE leaves as it was;
-- rows are compared as text, because not every type has an equality, and extra_float_digits keeps that text exact. All
-- columns count, because a result may come from any of them. COLLATE "C": the column's own may hold a value to be empty.
-- The transition tables come before any table of these names that a session has.
CREATE OR REPLACE FUNCTION pgvpd.notify_change() RETURNS trigger
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET extra_float_digits = 1 AS $notify_change$
DECLARE
    side CONSTANT text := 'SELECT ARRAY[%s] AS params, (r.*)::text AS whole FROM %I r';
    everything CONSTANT text := format('{"resolver":%s}', to_json(TG_ARGV[0]));
    params text;
    before text;
    after text;
    payloads text[] := ARRAY[everything];
BEGIN
    -- A column that was renamed since or is gone leaves open whom a change is about: then it is about all.
    SELECT string_agg(format('(r.%I)::text COLLATE "C"', c.name), ', ' ORDER BY c.place) INTO params
    FROM unnest(TG_ARGV[1:]) WITH ORDINALITY c (name, place)
    HAVING bool_and(EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = TG_RELID AND a.attname = c.name AND a.attnum > 0));
    IF TG_OP <> 'TRUNCATE' AND params IS NOT NULL THEN
        before := format(side, params, 'pgvpd_old');
        after := format(side, params, 'pgvpd_new');
        EXECUTE format($changed$
            SELECT array_agg(payload) FROM (
                SELECT DISTINCT left($1, -1) || ',"params":' || array_to_json(params)::text || '}' AS payload
                FROM (%s) AS changed WHERE '' <> ALL (params) LIMIT 1001) AS found
            $changed$, CASE TG_OP WHEN 'INSERT' THEN after WHEN 'DELETE' THEN before
                ELSE format('(%1$s EXCEPT ALL %2$s) UNION ALL (%2$s EXCEPT ALL %1$s)', before, after) END)
        INTO payloads USING everything;
        -- NOTIFY takes less than 8000 bytes. More than 1000 of them cost the proxies more than to ask again.
        IF cardinality(payloads) > 1000 OR EXISTS (SELECT FROM unnest(payloads) AS payload WHERE octet_length(payload) >= 8000) THEN
            payloads := ARRAY[everything];
        END IF;
    END IF;
    PERFORM pg_notify('pgvpd_invalidate', payload) FROM unnest(payloads) AS payload;
    RETURN NULL;
END
$notify_change$;

-- A trigger's name has 63 bytes, as a resolver's has.
CREATE OR REPLACE FUNCTION pgvpd.notify_trigger(event text, resolver text) RETURNS text
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT format('pgvpd_notify_%s_%s', lower(event), CASE WHEN length(resolver) <= 40 THEN resolver
        ELSE encode(substr(sha256(convert_to(resolver, 'UTF8')), 1, 20), 'hex') END)
$$;

-- CREATE TRIGGER asks for the right TRIGGER only.
CREATE OR REPLACE FUNCTION pgvpd.check_notify(relation regclass, resolver text) RETURNS void
LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $check_notify$
DECLARE
    class record;
BEGIN
    IF relation IS NULL OR resolver IS NULL THEN
        RAISE EXCEPTION 'a table and a resolver are needed, and one is NULL' USING ERRCODE = 'null_value_not_allowed';
    ELSIF resolver !~ '^[A-Za-z0-9_.-]{1,63}$' THEN
        RAISE EXCEPTION '"%" cannot be the name of a resolver', resolver USING ERRCODE = 'invalid_parameter_value',
            HINT = 'It has 1 to 63 letters, digits, _, - or . and is the name in the resolvers'' file.';
    END IF;
    SELECT relkind AS kind, relpersistence = 't' AS temporary, pg_has_role(relowner, 'USAGE') AS owned, relowner::regrole AS owner
    INTO class FROM pg_class WHERE oid = relation;
    IF class.temporary OR coalesce(class.kind NOT IN ('r', 'p'), true) THEN
        RAISE EXCEPTION '% is not a table whose changes can be notified', relation USING ERRCODE = 'wrong_object_type',
            HINT = CASE WHEN class.temporary THEN 'No other session sees a temporary table, so no resolver reads it.'
                WHEN class.kind IN ('v', 'm') THEN 'Name the tables that it reads.'
                WHEN class.kind = 'f' THEN 'No trigger here sees what changes in a foreign table, nor in one that is a partition.'
                ELSE 'Name an ordinary or a partitioned table.' END;
    ELSIF NOT class.owned THEN
        RAISE EXCEPTION 'only the owner of % can have its changes notified', relation USING ERRCODE = 'insufficient_privilege',
            HINT = format('Call the function as %s or as a superuser.', class.owner);
    END IF;
END
$check_notify$;

-- Also on everything below the table: a statement fires the triggers of the table that it names, and no others.
CREATE OR REPLACE FUNCTION public.pgvpd_notify_on_change(target regclass, resolver text, columns text[])
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $notify_on_change$
DECLARE
    wrong text;
    arguments text;
    member regclass;
    event record;
BEGIN
    PERFORM pgvpd.check_notify(target, resolver);
    IF coalesce(cardinality(columns), 0) = 0 OR array_position(columns, NULL) IS NOT NULL THEN
        RAISE EXCEPTION 'resolver "%" needs the columns of % that hold its params', resolver, target
            USING ERRCODE = 'null_value_not_allowed', HINT = 'Such as ARRAY[''org_id'', ''user_id''], in the order of the params.';
    END IF;
    -- attgenerated 'v', PostgreSQL 18: triggers see NULL there.
    SELECT string_agg(quote_ident(c.name), ', ' ORDER BY c.place) FILTER (WHERE a.attname IS NULL OR a.attgenerated = 'v'),
           string_agg(', ' || quote_literal(c.name), '' ORDER BY c.place) INTO wrong, arguments
    FROM unnest(columns) WITH ORDINALITY c (name, place)
    LEFT JOIN pg_attribute a ON a.attrelid = target AND a.attname = c.name AND a.attnum > 0 AND NOT a.attisdropped;
    IF wrong IS NOT NULL THEN
        RAISE EXCEPTION 'table % has no column %', target, wrong USING ERRCODE = 'undefined_column',
            HINT = 'Name columns of the table exactly as the catalog has them; a virtual generated column does not count.';
    END IF;

    FOR member IN SELECT pgvpd.lock_tree(target) LOOP
        PERFORM pgvpd.check_notify(member, resolver);
        FOR event IN SELECT * FROM (VALUES
            ('INSERT', 'REFERENCING NEW TABLE AS pgvpd_new'),
            ('UPDATE', 'REFERENCING OLD TABLE AS pgvpd_old NEW TABLE AS pgvpd_new'),
            ('DELETE', 'REFERENCING OLD TABLE AS pgvpd_old'),
            ('TRUNCATE', '')) e (name, tables)
        LOOP
            EXECUTE format('CREATE OR REPLACE TRIGGER %I AFTER %s ON %s %s FOR EACH STATEMENT EXECUTE FUNCTION pgvpd.notify_change(%L%s)',
                           pgvpd.notify_trigger(event.name, resolver), event.name, member, event.tables, resolver, arguments);
        END LOOP;
    END LOOP;
END
$notify_on_change$;

-- One column. A bare '{org_id,user_id}' arrives here too, because PostgreSQL takes it for text where it can.
CREATE OR REPLACE FUNCTION public.pgvpd_notify_on_change(target regclass, resolver text, column_name text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS $$ BEGIN
    PERFORM public.pgvpd_notify_on_change(target, resolver, coalesce(
        CASE WHEN starts_with(column_name, '{') THEN pgvpd.to_text_array(column_name) END, ARRAY[column_name]));
END $$;

-- Takes back what pgvpd_notify_on_change installed for this resolver.
CREATE OR REPLACE FUNCTION public.pgvpd_notify_off(target regclass, resolver text)
RETURNS void LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $notify_off$
DECLARE
    member regclass;
    installed name;
BEGIN
    PERFORM pgvpd.check_notify(target, resolver);
    FOR member IN SELECT pgvpd.lock_tree(target) LOOP
        FOR installed IN
            SELECT t.tgname FROM unnest('{INSERT,UPDATE,DELETE,TRUNCATE}'::text[]) AS event
            JOIN pg_trigger t ON t.tgname = pgvpd.notify_trigger(event, resolver) AND t.tgrelid = member
        LOOP
            EXECUTE format('DROP TRIGGER %I ON %s', installed, member);
        END LOOP;
    END LOOP;
END
$notify_off$;

DO $owners$ BEGIN
    PERFORM pgvpd.close_objects();
    PERFORM pgvpd.check_owners();
END $owners$;

COMMIT;
