-- pgvpd audit: what in this database, and around it, could let one tenant reach what is another's.
--
-- How to run, once per database, after setup.sql of the same release and as the same role (helpers.sql may follow or not):
--     psql -v ON_ERROR_STOP=1 -d mydb -f audit.sql
-- Running it again is safe, and is how to upgrade. It begins and commits a transaction of its own. Then, at any time, also
-- in a read-only transaction or on a standby:
--     SELECT * FROM pgvpd_audit();
--     SELECT * FROM pgvpd_audit('{app_user,reporting}', '{tenant_id,org_id}');
--
-- One row per finding. docs/sql.md says what each id means. "fix" is SQL to run, or an instruction behind "--".
--
-- Rights are read from the access lists and the memberships, not asked of has_table_privilege(): that knows what a role
-- inherits, but not what it can SET ROLE to, nor to whom a REVOKE has to be addressed.
--
-- The rules of setup.sql hold here too.

BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $installed$
DECLARE
    owner name;
BEGIN
    IF to_regprocedure('pgvpd.close_objects()') IS NULL THEN
        RAISE EXCEPTION 'audit.sql builds on setup.sql, which is not installed in this database or is older'
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

-- Who an application's session can be: the roles it logs in as (app), every role whose rights these have or can take up, and
-- PUBLIC, as 0. With one role per tenant, app_user.acme counts as app_user does. "revoke" takes the role away from them again.
CREATE OR REPLACE FUNCTION pgvpd.audit_reach(app_roles text[])
RETURNS TABLE (role oid, name text, app boolean, predefined boolean, revoke text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH RECURSIVE membership AS (
        -- From 16 on a membership may be for nothing; with ADMIN its holder can change that. Before, it was for everything.
        SELECT m.member, m.roleid, format('REVOKE %I FROM %I', pg_get_userbyid(m.roleid), pg_get_userbyid(m.member))
               || CASE WHEN option ? 'inherit_option' THEN format(' GRANTED BY %I', pg_get_userbyid(m.grantor)) ELSE '' END || ';' AS revoke
        FROM pg_auth_members m, to_jsonb(m) AS option
        WHERE coalesce((option ->> 'inherit_option')::boolean OR (option ->> 'set_option')::boolean OR m.admin_option, true)
        UNION ALL
        SELECT d.datdba, to_regrole('pg_database_owner'), NULL FROM pg_database d WHERE d.datname = current_database()
    ), app AS (
        SELECT r.oid FROM pg_roles r WHERE r.rolname = ANY (app_roles)
        UNION
        SELECT t.oid FROM pg_roles r JOIN pg_auth_members m ON m.roleid = r.oid JOIN pg_roles t ON t.oid = m.member
        WHERE r.rolname = ANY (app_roles) AND starts_with(t.rolname, r.rolname || '.')
    ), reach AS (
        SELECT oid FROM app UNION SELECT m.roleid FROM reach JOIN membership m ON m.member = reach.oid
    ), known AS (
        SELECT r.oid, r.rolname, r.oid < 16384 AND starts_with(r.rolname, 'pg_') AS predefined FROM reach JOIN pg_roles r USING (oid)
    )
    SELECT k.oid, quote_ident(k.rolname), k.oid IN (SELECT oid FROM app), k.predefined,
           (SELECT string_agg(m.revoke, ' ') FROM membership m JOIN known o ON o.oid = m.member
            WHERE m.roleid = k.oid AND NOT o.predefined)
    FROM known k
    UNION ALL SELECT 0, 'PUBLIC', false, false, NULL
$$;

-- Every table, view and their kin that is neither the system's nor pgvpd's nor an extension's, and who gets at it.
--   name           qualified and quoted            child         a partition or an inheritance child
--   columns        the tenant's columns by number  tenant_column the one of them to protect it by
--   protect        the call that protects it       owned         an application's session can be its owner
--   reached        its rows can be, by a granted right; a missing USAGE on the schema does not count, for there are ways round
--                  it: pg_stats shows values to all who may read the column
--   beyond         rights that row-level security does not bind
--   grantees       whom a REVOKE has to name
CREATE OR REPLACE FUNCTION pgvpd.audit_relations(app_roles text[], tenant_columns text[]) RETURNS TABLE (
    relid oid, name text, kind "char", owner oid, rls boolean, forced boolean, child boolean, is_partition boolean,
    columns int2[], tenant_column name, context text, protect text, owned boolean, reached boolean, beyond text, grantees text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH reach AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_reach(app_roles)
    ), relation AS MATERIALIZED (
        SELECT c.* FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'
          AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgvpd', 'pgvpd_private')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
    ), granted AS (
        SELECT r.oid AS relid, a.grantee, a.privilege_type AS privilege, a.grantee = r.relowner AS by_owning
        FROM relation r, aclexplode(coalesce(r.relacl, acldefault('r', r.relowner))) a
        UNION ALL
        SELECT r.oid, a.grantee, a.privilege_type, false
        FROM relation r JOIN pg_attribute t ON t.attrelid = r.oid AND t.attacl IS NOT NULL, aclexplode(t.attacl) a
        WHERE NOT t.attisdropped
    ), rights AS (
        SELECT g.relid, bool_or(g.privilege IN ('SELECT', 'INSERT', 'UPDATE', 'DELETE')) AS reached,
               string_agg(DISTINCT g.privilege, ', ')
                   FILTER (WHERE g.privilege IN ('TRUNCATE', 'REFERENCES', 'TRIGGER') AND NOT g.by_owning) AS beyond,
               string_agg(DISTINCT reach.name, ', ') AS grantees
        FROM granted g JOIN reach ON reach.role = g.grantee GROUP BY g.relid
    ), guard AS (  -- what pgvpd_protect was called with
        SELECT DISTINCT ON (p.polrelid) p.polrelid, (parse_ident(c[1]))[1] AS col, coalesce(c[2], 'app.current_tenant_id') AS var
        FROM pg_policy p, pgvpd.parse_condition(pg_get_expr(p.polqual, p.polrelid)) c
        WHERE p.polname IN ('pgvpd_tenant_guard', 'pgvpd_tenant_isolation') AND c IS NOT NULL ORDER BY p.polrelid, p.polpermissive
    ), known AS (
        SELECT r.oid AS relid, coalesce(own.col, above.col) AS col, coalesce(own.var, above.var) AS var
        FROM relation r LEFT JOIN guard own ON own.polrelid = r.oid
        LEFT JOIN LATERAL (SELECT g.col, g.var FROM pg_inherits i JOIN guard g ON g.polrelid = i.inhparent
                           WHERE i.inhrelid = r.oid AND own.col IS NULL LIMIT 1) above ON true
    ), tenant AS (
        SELECT k.relid, array_agg(a.attnum) AS columns, array_agg(a.attname ORDER BY o.place) AS names,
               array_agg(a.atttypid ORDER BY o.place) AS types
        FROM known k JOIN pg_attribute a ON a.attrelid = k.relid AND a.attnum > 0 AND NOT a.attisdropped,
        LATERAL (SELECT CASE WHEN a.attname = k.col THEN 0 ELSE array_position(tenant_columns, a.attname::text) END) o (place)
        WHERE o.place IS NOT NULL GROUP BY k.relid
    ), comparable AS MATERIALIZED (  -- once per type: to plan such a function takes longer than the rest for a table
        SELECT t.type, pgvpd.context_expression(t.type, 'app.current_tenant_id') AS context
        FROM (SELECT DISTINCT types[1] FROM tenant) t (type)
    )
    SELECT r.oid, r.oid::regclass::text, r.relkind, r.relowner, r.relrowsecurity, r.relforcerowsecurity,
           EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = r.oid), r.relispartition, t.columns, t.names[1],
           m.context, CASE WHEN m.context IS NULL
               THEN '-- pgvpd_protect cannot compare this type of column with a tenant: give it another, or write policies'
               ELSE format('SELECT public.pgvpd_protect(%L, %L, %L);', r.oid::regclass, t.names[1],
                           coalesce(k.var, 'app.current_tenant_id')) END,
           r.relowner IN (SELECT role FROM reach),
           coalesce(g.reached, false) OR r.relowner IN (SELECT role FROM reach), g.beyond, g.grantees
    FROM relation r JOIN known k ON k.relid = r.oid LEFT JOIN tenant t ON t.relid = r.oid
    LEFT JOIN comparable m ON m.type = t.types[1] LEFT JOIN rights g ON g.relid = r.oid
$$;

-- The tables themselves.
CREATE OR REPLACE FUNCTION pgvpd.audit_tables(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH relation AS MATERIALIZED (
        SELECT r.*, pg_get_userbyid(r.owner) AS owner_name FROM pgvpd.audit_relations(app_roles, tenant_columns) r
        WHERE r.kind IN ('r', 'p')
    ), led AS MATERIALIZED (  -- which columns have an index that starts with them; a partial one does not serve every tenant
        SELECT DISTINCT i.indrelid, i.indkey[0] AS attnum FROM pg_index i WHERE i.indisvalid AND i.indpred IS NULL
    ), shape AS (
        SELECT r.relid, a.attnotnull AS required, a.atthasdef OR a.attidentity <> '' AS filled
        FROM relation r JOIN pg_attribute a ON a.attrelid = r.relid AND a.attname = r.tenant_column
    ), above AS (
        SELECT i.inhrelid AS relid, bool_or(p.rls OR p.columns IS NOT NULL) AS counts
        FROM pg_inherits i JOIN relation p ON p.relid = i.inhparent GROUP BY i.inhrelid
    )
    SELECT 'A01', 'critical', r.name, 'tenants reach this table, and row-level security is off', r.protect
    FROM relation r WHERE r.columns IS NOT NULL AND r.reached AND NOT r.rls AND NOT r.child
    UNION ALL
    SELECT CASE WHEN r.owned THEN 'A02' ELSE 'A03' END, CASE WHEN r.owned THEN 'critical' ELSE 'warning' END, r.name,
           format('row-level security does not bind the owner, %s', r.owner_name)
               || CASE WHEN r.owned THEN ', and the application can act as this role' ELSE '' END,
           format('ALTER TABLE %s FORCE ROW LEVEL SECURITY;', r.name)
    FROM relation r WHERE r.rls AND NOT r.forced
    UNION ALL
    SELECT 'A07', 'critical', r.name,
           'tenants reach this partition or child by its own name, where the policies of its parent do not hold',
           coalesce(CASE WHEN r.columns IS NOT NULL THEN r.protect END,
                    '-- protect it as its parent is; SELECT * FROM pgvpd_status() shows the call')
    FROM relation r LEFT JOIN above a ON a.relid = r.relid
    WHERE r.child AND r.reached AND NOT r.rls AND (r.columns IS NOT NULL OR a.counts)
    UNION ALL
    SELECT 'A15', 'critical', r.name, format('the application can act as the owner, %s, and remove the protection', r.owner_name),
           format('ALTER TABLE %s OWNER TO %I; GRANT SELECT, INSERT, UPDATE, DELETE ON %1$s TO %I;',
                  r.name, (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'pgvpd'), r.owner_name)
    FROM relation r WHERE r.columns IS NOT NULL AND r.owned
    UNION ALL
    SELECT 'A16', 'high', r.name, format('granted beyond row-level security: %s', r.beyond),
           format('REVOKE TRUNCATE, REFERENCES, TRIGGER ON %s FROM %s;', r.name, r.grantees)
    FROM relation r WHERE r.beyond IS NOT NULL
    UNION ALL  -- a partition's column is as its parent's
    SELECT 'A19', 'warning', r.name, format('column %I may be NULL: such a row belongs to nobody', r.tenant_column),
           format('ALTER TABLE %s ALTER COLUMN %I SET NOT NULL;', r.name, r.tenant_column)
    FROM relation r JOIN shape s USING (relid) WHERE NOT s.required AND NOT r.is_partition
    UNION ALL
    SELECT 'A20', 'info', r.name, format('column %I has no default: every INSERT has to name the tenant', r.tenant_column),
           coalesce(format('ALTER TABLE %s ALTER COLUMN %I SET DEFAULT ', r.name, r.tenant_column) || r.context || ';',
                    '-- give the column a default that reads the context')
    FROM relation r JOIN shape s USING (relid) WHERE NOT s.filled AND NOT r.is_partition
    UNION ALL  -- of a partitioned table: where it has none, each partition may still have its own
    SELECT 'A21', 'warning', r.name, format('no index starts with %I: every query reads the rows of all tenants', r.tenant_column),
           format('CREATE INDEX ON %s (%I);', r.name, r.tenant_column)
    FROM relation r WHERE r.columns IS NOT NULL AND NOT r.is_partition
      AND NOT EXISTS (SELECT FROM led WHERE led.indrelid = r.relid AND led.attnum = ANY (r.columns))
      AND (r.kind = 'r' OR EXISTS (
          SELECT FROM pg_partition_tree(r.relid) p JOIN pg_attribute a ON a.attrelid = p.relid AND a.attname = r.tenant_column
          WHERE p.isleaf AND NOT EXISTS (SELECT FROM led WHERE led.indrelid = p.relid AND led.attnum = a.attnum)))
    UNION ALL  -- by tenant, and by access list
    SELECT 'A34', 'high', r.name, format('column %I has the non-deterministic collation %s: one tenant reads the rows of another whose name is '
               'equal by it', a.attname, c.oid::regcollation),
           CASE WHEN a.attnum = ANY (r.columns)
                THEN format('DROP POLICY IF EXISTS pgvpd_tenant_isolation ON %s; DROP POLICY IF EXISTS pgvpd_tenant_guard ON %1$s; '
                            'ALTER TABLE %1$s ALTER COLUMN %I TYPE %s COLLATE "C"; %s',
                            r.name, a.attname, format_type(a.atttypid, a.atttypmod), r.protect)
                ELSE format('-- drop its policies, ALTER TABLE %s ALTER COLUMN %I TYPE %s COLLATE "C", and protect it again', r.name, a.attname,
                            format_type(a.atttypid, a.atttypmod)) END
    FROM relation r JOIN pg_attribute a ON a.attrelid = r.relid AND NOT a.attisdropped
    JOIN pg_collation c ON c.oid = a.attcollation AND NOT c.collisdeterministic
    WHERE NOT r.is_partition AND (a.attnum = ANY (r.columns) OR EXISTS (
        SELECT FROM pg_policy p, pgvpd.parse_paths(pg_get_expr(p.polqual, p.polrelid)) AS path
        WHERE p.polrelid = r.relid AND p.polname IN ('pgvpd_visible', 'pgvpd_visible_guard')
          AND quote_ident(a.attname) = ANY (string_to_array(path.columns, ', '))))
    UNION ALL
    SELECT 'A33', 'info', r.name, 'tenants reach this table, which has no tenant column: every row is everybody''s',
           format('-- confirm that it holds no tenant''s data; else add the column, or: REVOKE ALL ON %s FROM %s;', r.name, r.grantees)
    FROM relation r WHERE r.columns IS NULL AND r.reached AND NOT r.rls AND NOT r.is_partition
$$;

-- Does a condition, as PostgreSQL prints it, hold rows to the context? Of alternatives each has to, of several conditions one.
-- "calls" is a pattern: the functions that count. It looks for an equality with one of them: a text search, which can be
-- fooled by whoever writes policies, but those need no fooling.
CREATE OR REPLACE FUNCTION pgvpd.audit_confined(condition text, calls text) RETURNS boolean
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path = pg_catalog, pg_temp AS $confined$
DECLARE
    piece text;
    depth integer := 0;
    part text := '';
    parts text[] := '{}';
    operator text;
    inner_part text;
BEGIN
    -- Pieces: literals and quoted names, which may contain anything, parentheses, AND and OR, and what is between.
    FOR piece IN SELECT m[1] FROM regexp_matches(condition,
        '(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[()]| (?:AND|OR) |(?:(?! (?:AND|OR) )[^''"()])+)', 'g') AS m
    LOOP
        depth := depth + CASE piece WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END;
        IF depth = 0 AND piece IN (' AND ', ' OR ') THEN
            operator := piece;
            parts := parts || part;
            part := '';
        ELSE  -- without what literals say
            part := part || CASE WHEN starts_with(piece, '''') THEN '''''' ELSE piece END;
        END IF;
    END LOOP;
    parts := parts || part;
    IF operator IS NOT NULL THEN
        RETURN (SELECT CASE operator WHEN ' OR ' THEN bool_and(held) ELSE bool_or(held) END
                FROM (SELECT pgvpd.audit_confined(p, calls) AS held FROM unnest(parts) AS p) each);
    END IF;
    -- Parentheses around all of it; (a) = (b) is not that.
    inner_part := (regexp_match(part, '^[(](.*)[)]$'))[1];
    IF inner_part IS NOT NULL AND pgvpd.audit_balanced(inner_part) THEN
        RETURN pgvpd.audit_confined(inner_part, calls);
    END IF;
    -- What turns false or NULL into true may stand around it.
    RETURN part !~ '^(NOT |CASE|COALESCE)| IS (NOT (TRUE|FALSE)|FALSE|(NOT )?UNKNOWN|(NOT )?NULL)$' AND (
        -- column = context, also = ANY (context) and = (SELECT cast(context)); a constant is no column
        part ~ ('(?<!''|''::[a-z ]+) = (?:ANY )?[( ]*(?:SELECT [(]*)?(?:pgvpd[.]to_[a-z_]+[(])?(?:' || calls || ')')
        OR part ~ ('(?:' || calls || ')(?:[(][^()]*[)])?(?: AS [a-z0-9_"]+)?(?:[)]|::[a-z ]+)* = (?!'')')
        OR part ~ '^public[.]pgvpd_context(_text)?_contains[(]');
END
$confined$;

-- Does every parenthesis close one that was opened before it? Then those around this text belong together.
CREATE OR REPLACE FUNCTION pgvpd.audit_balanced(condition text) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT coalesce(min(depth) >= 0, true) FROM (
        SELECT sum(CASE m[1] WHEN '(' THEN 1 WHEN ')' THEN -1 ELSE 0 END) OVER (ORDER BY place) AS depth
        FROM regexp_matches(condition, '(''(?:[^'']|'''')*''|"(?:[^"]|"")*"|[()])', 'g') WITH ORDINALITY AS t (m, place)) running
$$;

-- Policies on tables whose row-level security is on.
CREATE OR REPLACE FUNCTION pgvpd.audit_policies(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH reach AS MATERIALIZED (
        SELECT array_agg(role) AS roles FROM pgvpd.audit_reach(app_roles)
    ), context AS MATERIALIZED (
        -- What reads the context: our functions; session_user, which no session can change; functions written over ours.
        SELECT '(?:public[.]current_tenant_id|public[.]pgvpd_context(?:_array|_uuid_array)?'
               || coalesce(string_agg('|' || regexp_replace(format('%I.%I', n.nspname, p.proname),
                                                            '([^a-zA-Z0-9_])', $r$[\1]$r$, 'g'), ''), '')
               || ')(?=[(])|SESSION_USER' AS calls
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
        WHERE n.nspname NOT IN ('pg_catalog', 'information_schema', 'pgvpd')
          AND NOT (n.nspname = 'public' AND (p.proname = 'current_tenant_id' OR starts_with(p.proname, 'pgvpd_')))
          AND p.proowner <> ALL ((SELECT roles FROM reach)::oid[]) AND p.prokind = 'f'
          AND coalesce(pg_get_function_sqlbody(p.oid), p.prosrc) ~ '(current_tenant_id|pgvpd_context[a-z_]*)[(]'
    ), relation AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_relations(app_roles, tenant_columns) r WHERE r.rls AND r.kind IN ('r', 'p')
    ), policy AS MATERIALIZED (
        SELECT p.oid, p.polrelid, p.polname, p.polpermissive AS permissive, p.polcmd = '*' AND 0 = ANY (p.polroles) AS everywhere,
               p.polroles && (SELECT roles FROM reach)::oid[] AS applies, c.calls, e.qual, e.wcheck,
               coalesce(pgvpd.audit_confined(e.qual, c.calls), true)
                   AND coalesce(pgvpd.audit_confined(e.wcheck, c.calls), true) AS confined
        FROM relation r JOIN pg_policy p ON p.polrelid = r.relid, context c,
        LATERAL (SELECT pg_get_expr(p.polqual, p.polrelid), pg_get_expr(p.polwithcheck, p.polrelid)) e (qual, wcheck)
    ), guarded AS MATERIALIZED (
        SELECT DISTINCT r.relid FROM relation r JOIN policy p ON p.polrelid = r.relid
        WHERE NOT p.permissive AND p.everywhere AND p.confined AND p.qual IS NOT NULL
          -- An access list alone knows no tenants.
          AND (r.columns IS NULL OR EXISTS (
              SELECT FROM pg_depend d WHERE d.classid = 'pg_policy'::regclass AND d.objid = p.oid
                 AND d.refclassid = 'pg_class'::regclass AND d.refobjid = r.relid AND d.refobjsubid = ANY (r.columns)))
    ), bare AS (  -- a call is evaluated once per statement only directly behind SELECT
        SELECT '(?<!SELECT |SELECT pgvpd[.]to_[a-z_]+[(]|SELECT [(]+)'
               '(public[.](?:current_tenant_id[(][)]|pgvpd_context(?:_array|_uuid_array)?[(]''(?:[^'']|'''')*''::text[)]|pgvpd_context(?:_text)?_contains[(]))' AS call
    )
    SELECT 'A04', 'critical', format('policy %I on %s', p.polname, r.name),
           'lets rows through without asking for the context, and no restrictive policy keeps them to the tenant'
               || CASE WHEN concat(p.qual, p.wcheck) ~ 'current_setting[(]'
                       THEN '; current_setting() is not the context: a session can set it' ELSE '' END,
           format('DROP POLICY %I ON %s;', p.polname, r.name)
    FROM policy p JOIN relation r ON r.relid = p.polrelid
    WHERE p.permissive AND p.applies AND NOT p.confined AND r.columns IS NOT NULL AND r.relid NOT IN (SELECT relid FROM guarded)
    UNION ALL
    SELECT 'A05', 'high', r.name,
           'no restrictive policy for all commands and roles holds rows to the tenant: one more permissive policy opens the table',
           r.protect
    FROM relation r WHERE r.columns IS NOT NULL AND r.relid NOT IN (SELECT relid FROM guarded)
    UNION ALL
    SELECT 'A06', 'warning', format('policy %I on %s', p.polname, r.name), 'reads the context for every row, not once per statement',
           CASE WHEN concat(p.qual, ' ', p.wcheck) ~ 'public[.]pgvpd_context(_text)?_contains[(]'
                THEN '-- compare the column with (SELECT pgvpd_context_uuid_array(...)) instead; see docs/sql.md'
                ELSE format('ALTER POLICY %I ON %s', p.polname, r.name)
                     || coalesce(' USING (' || regexp_replace(p.qual, b.call, $r$(SELECT \1)$r$, 'g') || ')', '')
                     || coalesce(' WITH CHECK (' || regexp_replace(p.wcheck, b.call, $r$(SELECT \1)$r$, 'g') || ')', '') || ';' END
    FROM policy p JOIN relation r ON r.relid = p.polrelid, bare b WHERE p.qual ~ b.call OR p.wcheck ~ b.call
$$;

-- Keys and references that are checked over all tenants: they tell what exists elsewhere.
CREATE OR REPLACE FUNCTION pgvpd.audit_keys(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH relation AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_relations(app_roles, tenant_columns) r WHERE r.kind IN ('r', 'p')
    ), key AS (
        SELECT r.name AS table_name, r.tenant_column, replace(quote_ident(r.tenant_column), $r$\$r$, $r$\\$r$) AS replacement,
               i.indexrelid, i.indexrelid::regclass AS index, i.indisexclusion, am.amname,
               c.conname, c.conrelid, pg_get_constraintdef(c.oid) AS definition, pg_get_indexdef(i.indexrelid) AS index_definition
        FROM relation r JOIN pg_index i ON i.indrelid = r.relid JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_am am ON am.oid = x.relam
        LEFT JOIN pg_constraint c ON c.conindid = i.indexrelid AND c.contype IN ('p', 'u', 'x')
        WHERE (i.indisunique OR i.indisexclusion) AND r.columns IS NOT NULL AND NOT x.relispartition
          -- INCLUDE columns stand behind those of the key
          AND NOT r.columns && ((i.indkey::int2[])[0:i.indnkeyatts - 1])
    ), reference AS (
        SELECT r.name AS table_name, c.conname, c.confupdtype, c.confdeltype, r.tenant_column, p.name AS parent, p.relid AS parent_id,
               p.tenant_column AS parent_column, c.confkey, pg_get_constraintdef(c.oid) AS definition,
               (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.place)
                FROM unnest(c.confkey) WITH ORDINALITY k (attnum, place)
                JOIN pg_attribute a ON a.attrelid = c.confrelid AND a.attnum = k.attnum) AS parent_key
        FROM relation r JOIN pg_constraint c ON c.conrelid = r.relid AND c.contype = 'f' AND c.conparentid = 0
        JOIN relation p ON p.relid = c.confrelid AND p.columns IS NOT NULL
        WHERE (r.columns IS NOT NULL OR r.reached)
          AND NOT EXISTS (SELECT FROM generate_subscripts(c.conkey, 1) k
                          WHERE c.conkey[k] = ANY (r.columns) AND c.confkey[k] = ANY (p.columns))
    )
    SELECT 'A17', 'high', format('%s on %s', k.index, k.table_name),
           format('unique over all tenants: who inserts learns what others have; %I is not part of it', k.tenant_column),
           CASE WHEN EXISTS (SELECT FROM pg_constraint f WHERE f.contype = 'f' AND f.conindid = k.indexrelid)
                THEN format('-- foreign keys refer to it: make those pairs with %I first (A18)', k.tenant_column)
                WHEN k.indisexclusion
                THEN format('-- as %I WITH =, which GiST can with the extension btree_gist: %s', k.tenant_column, k.definition)
                WHEN k.conname IS NOT NULL
                THEN format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I %s;', k.table_name, k.conname,
                            regexp_replace(k.definition, '[(]', '(' || k.replacement || ', '))
                ELSE format('DROP INDEX %s; %s;', k.index, regexp_replace(k.index_definition, ' USING ' || k.amname || ' [(]',
                            format(' USING %s (%s, ', k.amname, k.replacement))) END
    FROM key k
    UNION ALL
    SELECT 'A18', 'high', format('%I on %s', f.conname, f.table_name),
           format('a row can refer to another tenant''s row of %s, and so learn whether it exists', f.parent),
           CASE WHEN f.tenant_column IS NULL
                THEN format('-- give %s the tenant''s column too, and pair it with %s (%I)', f.table_name, f.parent, f.parent_column)
                WHEN f.confupdtype IN ('n', 'd') OR f.confdeltype IN ('n', 'd')
                THEN format('-- the key FOREIGN KEY (%I, ...) REFERENCES %s (%I, %s), whose SET NULL or SET DEFAULT spares %1$I',
                            f.tenant_column, f.parent, f.parent_column, f.parent_key)
                ELSE CASE WHEN paired.exists THEN ''
                          ELSE format('ALTER TABLE %s ADD UNIQUE (%I, %s); ', f.parent, f.parent_column, f.parent_key) END
                     || format('ALTER TABLE %s DROP CONSTRAINT %I, ADD CONSTRAINT %2$I FOREIGN KEY (%I, %s;', f.table_name, f.conname,
                               f.tenant_column, replace(substr(f.definition, length('FOREIGN KEY (') + 1),
                                   format(') REFERENCES %s(', f.parent), format(') REFERENCES %s(%I, ', f.parent, f.parent_column))) END
    FROM reference f, LATERAL (
        SELECT EXISTS (SELECT FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attname = f.parent_column
                       WHERE i.indrelid = f.parent_id AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indimmediate
                         AND i.indnkeyatts = cardinality(f.confkey) + 1
                         AND (i.indkey::int2[])[0:i.indnkeyatts - 1] @> (f.confkey || a.attnum)) AS exists) paired
$$;

-- What reads tenants' rows with its owner's rights: views, materialized views, rules; and foreign tables.
CREATE OR REPLACE FUNCTION pgvpd.audit_views(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH RECURSIVE relation AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_relations(app_roles, tenant_columns)
    ), rule AS MATERIALIZED (
        SELECT DISTINCT w.ev_class, w.rulename, w.ev_type, d.refobjid
        FROM relation r JOIN pg_rewrite w ON w.ev_class = r.relid
        JOIN pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = w.oid AND d.refclassid = 'pg_class'::regclass
        WHERE d.refobjid <> w.ev_class
    ), telling AS (  -- what holds tenants' rows, and what reads it, at any depth
        SELECT r.relid FROM relation r
        WHERE r.kind = 'f' OR (r.kind IN ('r', 'p') AND (r.rls OR r.columns IS NOT NULL)) OR (r.kind = 'm' AND r.columns IS NOT NULL)
        UNION ALL SELECT c.oid FROM pg_class c
        WHERE c.relnamespace IN ('pgvpd'::regnamespace, 'pgvpd_private'::regnamespace) AND c.relkind IN ('r', 'v')
        UNION SELECT w.ev_class FROM telling t JOIN rule w ON w.refobjid = t.relid AND w.ev_type = '1'
    ), view AS (
        SELECT r.*, EXISTS (SELECT FROM pg_class c, pg_options_to_table(c.reloptions) o WHERE c.oid = r.relid
                            AND CASE o.option_name WHEN 'security_invoker' THEN o.option_value::boolean END) AS invoker,
               current_setting('server_version_num')::integer >= 150000 AS can_invoke
        FROM relation r WHERE r.kind = 'v'
    )
    -- A view or rule that the application itself owns has no more rights than it.
    SELECT 'A08', 'critical', v.name,
           format('this view reads tenants'' tables with the rights of its owner, %s', pg_get_userbyid(v.owner)),
           CASE WHEN v.can_invoke THEN format('ALTER VIEW %s SET (security_invoker = true);', v.name)
                ELSE format('REVOKE ALL ON %s FROM %s;', v.name, v.grantees) END
    FROM view v WHERE v.reached AND NOT v.owned AND NOT v.invoker AND v.relid IN (SELECT relid FROM telling)
    UNION ALL  -- not even security_invoker reaches these
    SELECT DISTINCT 'A08', 'critical', format('rule %I on %s', w.rulename, r.name),
           format('this rule reads or writes tenants'' tables with the rights of the owner, %s', pg_get_userbyid(r.owner)),
           format('DROP RULE %I ON %s;', w.rulename, r.name)
    FROM rule w JOIN relation r ON r.relid = w.ev_class
    WHERE w.ev_type <> '1' AND r.reached AND NOT r.owned AND w.refobjid IN (SELECT relid FROM telling)
    UNION ALL
    SELECT 'A09', 'critical', r.name, 'this materialized view holds rows of all tenants, and row-level security does not work on it',
           format('REVOKE ALL ON %s FROM %s;', r.name, r.grantees)
    FROM relation r WHERE r.kind = 'm' AND r.reached AND r.relid IN (SELECT relid FROM telling)
    UNION ALL
    SELECT 'A10', 'high', r.name, 'tenants reach this foreign table, and row-level security does not work on it',
           format('REVOKE ALL ON %s FROM %s;', r.name, r.grantees)
    FROM relation r WHERE r.kind = 'f' AND r.reached
$$;

-- SECURITY DEFINER functions and procedures, and the functions that read the context.
CREATE OR REPLACE FUNCTION pgvpd.audit_functions(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH reach AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_reach(app_roles)
    ), unbound AS MATERIALIZED (  -- owners of tenants' tables whom row-level security does not bind there
        SELECT DISTINCT r.owner FROM pgvpd.audit_relations(app_roles, tenant_columns) r
        WHERE r.kind IN ('r', 'p') AND r.columns IS NOT NULL AND NOT (r.rls AND r.forced)
    ), open_schema AS MATERIALIZED (
        SELECT DISTINCT n.nspname::text FROM pg_namespace n, aclexplode(coalesce(n.nspacl, acldefault('n', n.nspowner))) a
        WHERE a.privilege_type = 'CREATE' AND a.grantee IN (SELECT role FROM reach)
    ), temporary AS (
        SELECT bool_or(a.privilege_type = 'TEMPORARY' AND a.grantee IN (SELECT role FROM reach)) AS allowed
        FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a WHERE d.datname = current_database()
    ), definer AS MATERIALIZED (
        SELECT p.oid, p.oid::regprocedure::text AS name, p.proowner, n.nspname, g.grantees,
               string_to_array(replace(replace(s.path, '"', ''), ' ', ''), ',') AS path
        FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace,
        LATERAL (SELECT string_agg(DISTINCT reach.name, ', ') FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a
                 JOIN reach ON reach.role = a.grantee) g (grantees),
        LATERAL (SELECT max(substr(c, length('search_path=') + 1)) FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=%') s (path)
        WHERE p.prosecdef AND g.grantees IS NOT NULL AND p.proowner NOT IN (SELECT role FROM reach)
          AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
    ), keeper AS (
        -- by its name, as a text: whoever runs this may have no right to look the name up
        SELECT oid AS key, relowner AS owner FROM pg_class WHERE relnamespace = 'pgvpd_private'::regnamespace AND relname = 'signing_key'
    ), power AS (
        SELECT d.proowner, CASE WHEN r.rolsuper THEN 'a superuser' WHEN r.rolbypassrls THEN 'who has BYPASSRLS'
            WHEN EXISTS (SELECT FROM unbound u WHERE pg_has_role(d.proowner, u.owner, 'USAGE'))
                THEN 'who owns tables of tenants where row-level security does not bind the owner'
            WHEN has_table_privilege(d.proowner, (SELECT key FROM keeper), 'SELECT') THEN 'who can read the signing key' END AS reason
        FROM (SELECT DISTINCT proowner FROM definer) d JOIN pg_roles r ON r.oid = d.proowner
    ), own (signature, marker, verifies) AS (  -- our definers that everybody may call, and what their bodies cannot do without
        VALUES ('public.current_tenant_id()', 'public[.]pgvpd_context[(]''app[.]current_tenant_id''[)]', true),
               ('public.pgvpd_context(text)', 'key[.]opad.*key[.]ipad.*pgvpd[.]nonce[(][)]', true),
               ('pgvpd.attach()', 'setval[(]''pgvpd_private[.]session_nonce''', false)
    ), installed AS (  -- what policies call
        SELECT p.oid, p.oid::regprocedure::text AS name, p.proowner, concat_ws(', ',
            CASE WHEN p.proowner IN (SELECT role FROM reach) THEN 'the application can act as its owner' END,
            CASE WHEN p.proconfig IS NULL OR NOT 'search_path=pg_catalog, pg_temp' = ANY (p.proconfig) THEN 'its search_path is not pinned' END,
            CASE WHEN own.verifies AND p.provolatile <> 's' THEN 'it is not STABLE' END,
            CASE WHEN own.verifies AND p.proparallel = 's' THEN 'it is PARALLEL SAFE, and a worker has no context' END,
            CASE WHEN NOT p.prosecdef AND own.marker IS NOT NULL THEN 'it is not SECURITY DEFINER' END,
            CASE WHEN p.proowner <> keeper.owner AND own.marker IS NOT NULL THEN 'its owner is not that of the key' END,
            CASE WHEN p.proname = 'pgvpd_get_auth' AND p.prosrc !~ 'pg_has_role[(]session_user' THEN 'it does not ask who calls' END,
            CASE WHEN p.prosrc !~ own.marker THEN 'its body is not pgvpd''s' END) AS faults, own.marker IS NOT NULL AS is_own
        FROM keeper, pg_proc p LEFT JOIN own ON to_regprocedure(own.signature) = p.oid
        WHERE p.pronamespace IN ('pgvpd'::regnamespace, 'pgvpd_private'::regnamespace) OR (p.pronamespace = 'public'::regnamespace
            AND p.proname ~ '^(current_tenant_id|pgvpd_(context.*|protect.*|notify.*|status|audit|get_auth))$')
    )
    SELECT 'A11', 'critical', d.name,
           format('the application can execute this SECURITY DEFINER function, which runs as %s, %s', pg_get_userbyid(d.proowner), p.reason),
           format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', d.name, d.grantees)
    FROM definer d JOIN power p USING (proowner)
    WHERE p.reason IS NOT NULL AND d.oid NOT IN (SELECT i.oid FROM installed i WHERE i.is_own AND i.faults = '')
    UNION ALL
    SELECT 'A12', 'high', d.name, 'SECURITY DEFINER, and what its names mean is up to the caller: '
               || CASE WHEN d.path IS NULL THEN 'no search_path is set'
                       ELSE 'its search_path has a schema where the application can create' END,
           format('ALTER ROUTINE %s SET search_path = pg_catalog, %I, pg_temp;', d.name, d.nspname)
    FROM definer d, temporary t WHERE d.path IS NULL OR '$user' = ANY (d.path) OR d.path && (SELECT array_agg(nspname) FROM open_schema)
        -- unless it is named last, pg_temp comes first
        OR (t.allowed AND d.path[cardinality(d.path)] IS DISTINCT FROM 'pg_temp')
    UNION ALL
    SELECT 'A30', 'critical', i.name, 'not as pgvpd installed it: ' || i.faults, CASE
               WHEN r.role IS NULL THEN '-- run sql/setup.sql (and sql/helpers.sql) again, which replace it'
               WHEN r.app OR r.revoke IS NULL THEN format('ALTER FUNCTION %s OWNER TO %I;', i.name,
                   pg_get_userbyid(CASE WHEN i.is_own THEN k.owner ELSE n.nspowner END))
               ELSE r.revoke END
    FROM keeper k, installed i JOIN pg_namespace n ON n.nspname = 'pgvpd' LEFT JOIN reach r ON r.role = i.proowner WHERE i.faults <> ''
    UNION ALL
    SELECT 'A30', 'critical', o.signature, 'this function is missing', '-- run sql/setup.sql again'
    FROM own o WHERE to_regprocedure(o.signature) IS NULL
$$;

-- The application's roles.
CREATE OR REPLACE FUNCTION pgvpd.audit_roles(app_roles text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH reach AS MATERIALIZED (
        SELECT e.*, array_remove(ARRAY[CASE WHEN r.rolsuper THEN 'SUPERUSER' END, CASE WHEN r.rolbypassrls THEN 'BYPASSRLS' END,
                    CASE WHEN r.rolreplication THEN 'REPLICATION' END, CASE WHEN r.rolcreaterole THEN 'CREATEROLE' END], NULL) AS powers
        FROM pgvpd.audit_reach(app_roles) e JOIN pg_roles r ON r.oid = e.role
    ), setting AS (
        SELECT s.setrole, s.setdatabase, split_part(c, '=', 1) AS name, format('ALTER %s%s RESET %s;',
                   CASE WHEN s.setrole <> 0 THEN format('ROLE %I', pg_get_userbyid(s.setrole))
                        WHEN s.setdatabase = 0 THEN 'ROLE ALL' ELSE format('DATABASE %I', current_database()) END,
                   CASE WHEN s.setrole <> 0 AND s.setdatabase <> 0 THEN format(' IN DATABASE %I', current_database()) ELSE '' END,
                   (SELECT string_agg(quote_ident(part), '.') FROM unnest(string_to_array(split_part(c, '=', 1), '.')) part)) AS reset
        FROM pg_db_role_setting s, unnest(s.setconfig) c
        WHERE s.setdatabase IN (0, (SELECT d.oid FROM pg_database d WHERE d.datname = current_database()))
          AND (s.setrole = 0 OR s.setrole IN (SELECT role FROM reach WHERE app))
    )
    SELECT 'A13', 'critical', r.name, format('the application %s this role, which has %s',
               CASE WHEN r.app THEN 'logs in as' ELSE 'can become' END, array_to_string(r.powers, ', ')),
           CASE WHEN r.app THEN format('ALTER ROLE %s NO%s;', r.name, array_to_string(r.powers, ' NO')) ELSE r.revoke END
    FROM reach r WHERE r.powers <> '{}'
    UNION ALL
    SELECT 'A14', 'critical', r.name, 'the application has the rights of this predefined role', r.revoke
    FROM reach r WHERE r.predefined AND r.revoke IS NOT NULL
    UNION ALL
    -- A role may store settings for itself, so of its own those count which it may change; for everybody else, those that
    -- change what statements mean or whether they run.
    SELECT 'A24', 'high', format('%s: %s', CASE WHEN s.setrole <> 0 THEN pg_get_userbyid(s.setrole)::text
               WHEN s.setdatabase = 0 THEN 'all roles' ELSE current_database()::text END, s.name),
           'stored setting that every new session of the application begins with', s.reset
    FROM setting s LEFT JOIN pg_settings p ON lower(p.name) = lower(s.name)
    WHERE lower(s.name) ~ ('^(search_path|row_security|role|session_authorization|session_replication_role|standard_conforming_strings|'
               'backslash_quote|lo_compat_privileges|array_nulls|client_encoding|.*_preload_libraries|default_transaction_.*|.*_timeout|'
               'app[.].*|pgvpd[.].*)$')
       OR (s.setrole <> 0 AND coalesce(p.context = 'user', true))
$$;

-- The database and what it holds besides tables.
CREATE OR REPLACE FUNCTION pgvpd.audit_database(app_roles text[], tenant_columns text[])
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql STABLE SET search_path = pg_catalog, pg_temp SET quote_all_identifiers = off AS $$
    WITH reach AS MATERIALIZED (
        SELECT * FROM pgvpd.audit_reach(app_roles)
    ), installer AS (
        SELECT pg_get_userbyid(nspowner) AS name FROM pg_namespace WHERE nspname = 'pgvpd'
    ), item (class, oid, name, namespace, owner, acl) AS (
        SELECT 'SCHEMA', oid, quote_ident(nspname), NULL, nspowner, coalesce(nspacl, acldefault('n', nspowner)) FROM pg_namespace
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'
        UNION ALL SELECT 'DATABASE', oid, quote_ident(datname), NULL, datdba, coalesce(datacl, acldefault('d', datdba))
        FROM pg_database WHERE datname = current_database()
        UNION ALL SELECT 'FOREIGN DATA WRAPPER', oid, quote_ident(fdwname), NULL, fdwowner, coalesce(fdwacl, acldefault('F', fdwowner))
        FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'FOREIGN SERVER', oid, quote_ident(srvname), NULL, srvowner, coalesce(srvacl, acldefault('S', srvowner))
        FROM pg_foreign_server
        UNION ALL SELECT 'LANGUAGE', oid, quote_ident(lanname), NULL, lanowner, coalesce(lanacl, acldefault('l', lanowner))
        FROM pg_language WHERE lanpltrusted AND lanname NOT IN ('sql', 'plpgsql')
        UNION ALL SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid, oid::regclass::text, 'pgvpd', relowner,
            coalesce(relacl, acldefault(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", relowner))
        FROM pg_class WHERE relnamespace IN ('pgvpd'::regnamespace, 'pgvpd_private'::regnamespace) AND relkind IN ('r', 'p', 'v', 'm', 'S')
        UNION ALL SELECT 'ROUTINE', oid, oid::regprocedure::text, pronamespace::regnamespace::text, proowner,
            coalesce(proacl, acldefault('f', proowner)) FROM pg_proc
    ), granted AS MATERIALIZED (
        SELECT i.class, i.oid, i.name, i.namespace, string_agg(DISTINCT a.privilege_type, ', ') AS privileges,
               array_agg(DISTINCT r.name) AS names,
               format('%s %s FROM %s;', i.class, i.name, string_agg(DISTINCT r.name, ', ')) AS revoked,
               coalesce(max(CASE WHEN i.owner <> r.role THEN '' WHEN i.namespace = 'pgvpd' AND NOT r.app THEN r.revoke || ' '
                   ELSE format('ALTER %s %s OWNER TO %I; ', i.class, i.name, installer.name) END), '') AS disowned
        FROM installer, item i, aclexplode(i.acl) a JOIN reach r ON r.role = a.grantee
        WHERE NOT (i.class IN ('SCHEMA', 'DATABASE') AND a.privilege_type NOT IN ('CREATE', 'TEMPORARY'))
        GROUP BY i.class, i.oid, i.name, i.namespace
    ), library AS (  -- per extension, since each of its functions is executable by PUBLIC unless it says otherwise
        SELECT e.extname, string_agg(DISTINCT g.name, ', ') AS routines, string_agg(DISTINCT grantee, ', ') AS grantees
        FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        JOIN granted g ON g.class = 'ROUTINE' AND d.classid = 'pg_proc'::regclass AND g.oid = d.objid, unnest(g.names) AS grantee
        WHERE e.extname ~ '^(dblink|.*_fdw|http|pg_net|pg_background|plproxy|refint|xml2|plsh|pl(perl|python3|tcl)u)$'
        GROUP BY e.extname
    ), channel AS (
        SELECT c.topic, min(g.name) AS example, count(*) AS number FROM granted g, (VALUES
            ('what other sessions run', '^pg_stat_get_(backend_)?activity[(]'),
            ('cancelling and ending other sessions', '^pg_(cancel|terminate)_backend[(]'),
            ('large objects', '^(lo_(creat|create|import|export|put|get|from_bytea|unlink|open)|loread|lowrite)[(]'),
            ('advisory locks', '^pg_(try_)?advisory_(xact_)?lock')) c (topic, pattern)
        WHERE g.class = 'ROUTINE' AND g.namespace = 'pg_catalog' AND g.name ~ c.pattern GROUP BY c.topic
    ), future AS (
        SELECT d.defaclrole, d.defaclnamespace, k.kind, string_agg(DISTINCT a.privilege_type, ', ') AS privileges,
               string_agg(DISTINCT reach.name, ', ') AS grantees
        FROM pg_default_acl d
        JOIN (VALUES ('r', 'TABLES'), ('f', 'FUNCTIONS'), ('S', 'SEQUENCES'), ('n', 'SCHEMAS'), ('L', 'LARGE OBJECTS')) k (type, kind)
            ON k.type = d.defaclobjtype, aclexplode(d.defaclacl) a JOIN reach ON reach.role = a.grantee
        -- Numbers of a sequence, and the way into a schema, are no tenant's. PUBLIC's EXECUTE is PostgreSQL's own default.
        WHERE NOT (k.type IN ('S', 'n') AND a.privilege_type = 'USAGE')
          AND NOT (k.type = 'f' AND a.grantee = 0 AND d.defaclnamespace = 0)
        GROUP BY d.defaclrole, d.defaclnamespace, k.kind
    ), published AS (
        SELECT p.pubname, string_agg(r.name, ', ' ORDER BY r.name) AS tables FROM pg_publication_tables p
        JOIN pgvpd.audit_relations(app_roles, tenant_columns) r
            ON r.relid = to_regclass(format('%I.%I', p.schemaname, p.tablename)) AND r.columns IS NOT NULL
        GROUP BY p.pubname
    )
    SELECT CASE g.class WHEN 'SCHEMA' THEN 'A22' ELSE 'A23' END, 'high', g.name,
           format('the application has on this %s: %s', lower(g.class), g.privileges),
           g.disowned || CASE g.class WHEN 'DATABASE' THEN 'REVOKE CREATE, TEMPORARY ON ' ELSE 'REVOKE CREATE ON ' END || g.revoked
    FROM granted g WHERE g.class IN ('SCHEMA', 'DATABASE')
    UNION ALL
    SELECT 'A25', 'warning', c.topic,
           format('tenants that share a role reach each other here, by %s and %s more', c.example, c.number - 1),
           '-- run sql/hardening.sql as a superuser'
    FROM channel c
    UNION ALL
    SELECT 'A26', 'high', format('%s that %s creates%s', lower(f.kind), pg_get_userbyid(f.defaclrole),
                                 ' in schema ' || nullif(f.defaclnamespace, 0)::regnamespace),
           format('are granted to %s before anybody has protected them: %s', f.grantees, f.privileges),
           format('ALTER DEFAULT PRIVILEGES FOR ROLE %I%s REVOKE ALL ON %s FROM %s;', pg_get_userbyid(f.defaclrole),
                  ' IN SCHEMA ' || nullif(f.defaclnamespace, 0)::regnamespace, f.kind, f.grantees)
    FROM future f
    UNION ALL
    SELECT 'A28', 'high', lower(g.class) || ' ' || g.name,
           'lets the application leave the session, or keep state in it that outlives a tenant',
           g.disowned || 'REVOKE ALL ON ' || g.revoked
    FROM granted g WHERE g.class IN ('FOREIGN DATA WRAPPER', 'FOREIGN SERVER', 'LANGUAGE')
    UNION ALL
    SELECT 'A28', 'high', 'extension ' || quote_ident(l.extname),
           'the application can execute its functions, which leave the session or the database',
           format('REVOKE EXECUTE ON ROUTINE %s FROM %s;', l.routines, l.grantees)
    FROM library l
    UNION ALL
    SELECT 'A29', 'critical', g.name, format('the application can act as the owner of this %s', lower(g.class)), g.disowned
    FROM granted g WHERE g.class IN ('TABLE', 'SEQUENCE') AND g.disowned <> ''
    UNION ALL  -- for every role, not only the application's
    SELECT 'A29', 'critical', o.name, format('%s: rights on what signs and verifies contexts, or shows verifiers: %s',
               string_agg(DISTINCT a.role, ', '), string_agg(DISTINCT a.privilege_type, ', ')),
           format('REVOKE ALL ON %s %s FROM %s CASCADE;', o.class, o.name, string_agg(DISTINCT a.role, ', '))
    FROM pgvpd.own_objects() o, LATERAL (
        SELECT x.privilege_type, x.is_grantable, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(x.grantee) END AS grantee,
               CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END AS role
        FROM aclexplode(o.acl) x WHERE x.grantee <> o.owner) a
    WHERE o.is_secret AND (a.privilege_type, a.grantee, a.is_grantable) IS DISTINCT FROM (o.privilege, o.meant, false)
    GROUP BY o.class, o.name
    UNION ALL
    SELECT 'A31', 'info', quote_ident(p.pubname), 'publishes rows of all tenants: ' || p.tables,
           '-- confirm that each subscriber may have them, or set row filters'
    FROM published p
$$;

-- The server; its values are arguments so that tests can give others.
CREATE OR REPLACE FUNCTION pgvpd.audit_server(version_num integer, prepared_transactions integer)
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp AS $$
    SELECT 'A27', 'high', 'max_prepared_transactions',
           'a transaction that one tenant prepares holds its locks, and any session of the role can end it',
           'ALTER SYSTEM SET max_prepared_transactions = 0; -- then restart the server'
    WHERE prepared_transactions > 0
    UNION ALL
    SELECT 'A32', 'warning', format('PostgreSQL %s.%s', version_num / 10000, version_num % 10000),
           'lacks fixes that isolation relies on: ' || string_agg(f.what, '; '),
           format('-- upgrade to %s.%s or later', version_num / 10000, max(f.minors[version_num / 10000 - 13]))
    FROM (VALUES
        ('{8,3}'::integer[], 'CVE-2023-2455, policies of another role after inlining'),
        ('{NULL,4}', 'CVE-2023-39418, MERGE past policies'),
        ('{14,9,5,1}', 'CVE-2024-10976, policies of another role in subqueries'),
        ('{19,14,10,6}', 'CVE-2025-8713, rows in the planner''s statistics'),
        ('{23,18,14,10,4}', 'CVE-2026-6473, memory that any SQL can overwrite')) f (minors, what)
    WHERE version_num % 10000 < f.minors[version_num / 10000 - 13]
    HAVING count(*) > 0
$$;

CREATE OR REPLACE FUNCTION public.pgvpd_audit(app_roles text[] DEFAULT '{app_user}', tenant_columns text[] DEFAULT '{tenant_id}')
RETURNS TABLE (id text, severity text, object text, finding text, fix text)
-- To compile such queries takes longer than to run them.
LANGUAGE plpgsql STABLE SET search_path = pg_catalog, pg_temp SET jit = off AS $audit$
DECLARE
    missing text := (SELECT string_agg(quote_nullable(r), ', ') FROM unnest(app_roles) r WHERE to_regrole(quote_ident(r)) IS NULL);
BEGIN
    -- A misspelt role reaches nothing, which would look like a good result.
    IF missing IS NOT NULL THEN
        RAISE EXCEPTION 'there is no role %', missing USING ERRCODE = 'undefined_object',
            HINT = 'Name the roles that the application logs in as, exactly as the catalog has them.';
    ELSIF cardinality(app_roles) IS NOT DISTINCT FROM 0 OR coalesce(cardinality(tenant_columns), 0) = 0 OR app_roles IS NULL THEN
        RAISE EXCEPTION 'pgvpd_audit needs at least one role and one column' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN QUERY SELECT f.* FROM (
        SELECT * FROM pgvpd.audit_tables(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_policies(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_keys(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_views(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_functions(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_roles(app_roles)
        UNION ALL SELECT * FROM pgvpd.audit_database(app_roles, tenant_columns)
        UNION ALL SELECT * FROM pgvpd.audit_server(current_setting('server_version_num')::integer,
                                                   current_setting('max_prepared_transactions')::integer)) f
    ORDER BY array_position('{critical,high,warning,info}', f.severity), f.id, f.object COLLATE "C";
END
$audit$;

-- Another signature of this name would win over this one, or make the call ambiguous.
DO $overloads$
DECLARE
    old regprocedure;
BEGIN
    FOR old IN SELECT oid FROM pg_proc WHERE proname = 'pgvpd_audit' AND pronamespace = 'public'::regnamespace
        AND oid IS DISTINCT FROM to_regprocedure('public.pgvpd_audit(text[], text[])')
    LOOP
        EXECUTE format('DROP FUNCTION %s', old);
    END LOOP;
END
$overloads$;

-- Nothing that a tenant needs; and all of it the installer's, also where a superuser ran this file, so that he can run it again.
DO $owners$
DECLARE
    routine record;
BEGIN
    FOR routine IN SELECT p.oid::regprocedure AS name, p.proowner <> n.nspowner AS is_foreign, pg_get_userbyid(n.nspowner) AS installer
        FROM pg_proc p JOIN pg_namespace n ON n.nspname = 'pgvpd'
        WHERE p.oid = 'public.pgvpd_audit(text[], text[])'::regprocedure OR (p.pronamespace = n.oid AND starts_with(p.proname, 'audit_'))
    LOOP
        IF routine.is_foreign THEN
            EXECUTE format('ALTER FUNCTION %s OWNER TO %I', routine.name, routine.installer);
        END IF;
    END LOOP;
    PERFORM pgvpd.close_objects();
    PERFORM pgvpd.check_owners();
END
$owners$;

COMMIT;
