-- pgvpd hardening: closes what sessions of one role can see of each other, and do to each other. Optional.
--
-- How to run, once per database, as a superuser (PostgreSQL 14 to 18), after setup.sql:
--     psql -v ON_ERROR_STOP=1 -d mydb -f hardening.sql
-- Running it again is safe. Most of it is rights on PostgreSQL's own functions and views: those belong to one database, are not
-- in a dump, and are not carried over by pg_upgrade, so run it again after either. Managed services give nobody the rights that it
-- needs; there, a role for each tenant (isolation = role) closes the same channels, but for advisory locks.
--
-- What it takes from PUBLIC: other sessions' query texts and states, also in pg_stat_statements, cancelling and terminating them,
-- advisory locks, large objects, the list of prepared transactions, and how much is written to the log. Programs that use these (job queues on advisory locks, monitoring) need a GRANT to
-- their own role afterwards; pg_monitor, pg_read_all_stats and pg_signal_backend keep what they are for.

BEGIN ISOLATION LEVEL READ COMMITTED;
SET LOCAL search_path = pg_catalog, pg_temp;

DO $installed$ BEGIN
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        RAISE EXCEPTION 'hardening.sql changes rights on PostgreSQL''s own functions, and role % is no superuser', current_user
            USING ERRCODE = 'insufficient_privilege',
                  HINT = 'On a managed service, give each tenant a role of its own instead: isolation = role.';
    ELSIF to_regrole('app_user') IS NULL OR to_regprocedure('pgvpd.attach()') IS NULL THEN
        RAISE EXCEPTION 'hardening.sql builds on setup.sql, which is not installed in this database or is older'
            USING ERRCODE = 'undefined_function', HINT = 'Run setup.sql of the same release first, then this file again.';
    END IF;
END $installed$;

-- Functions. Names rather than signatures, since versions differ; whoever had a right by name keeps it.
DO $functions$
DECLARE
    function regprocedure;
    keeper text;
BEGIN
    FOR function, keeper IN
        SELECT p.oid, CASE
            WHEN p.proname ~ '^pg_(stat_|prepared|lock|current_wal|last_wal|get_replication_slots)' THEN 'pg_read_all_stats'
            WHEN p.proname LIKE 'pg_%_backend' THEN 'pg_signal_backend' END
        FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND (
            -- What others do, and the rows that views over it would give.
            p.proname IN ('pg_stat_get_activity', 'pg_stat_get_progress_info', 'pg_lock_status', 'pg_prepared_xact',
                          'pg_blocking_pids', 'pg_safe_snapshot_blocking_pids', 'pg_get_replication_slots')
            -- One backend at a time, by its number.
            OR p.proname LIKE 'pg_stat_get_backend_%'
            -- How much all of them write.
            OR p.proname ~ '^pg_((current|last)_wal_.*lsn|stat_get_wal.*|stat_get_replication_slot)$'
            -- Ending what they do.
            OR p.proname IN ('pg_cancel_backend', 'pg_terminate_backend', 'pg_log_backend_memory_contexts')
            -- Locks that any session could take for ever.
            OR p.proname ~ '^pg_(try_)?advisory_(xact_)?lock'
            -- Large objects have an owner, and no tenant.
            OR p.proname ~ '^lo_' OR p.proname IN ('loread', 'lowrite'))
    LOOP
        EXECUTE format('REVOKE EXECUTE ON FUNCTION %s FROM PUBLIC', function);
        IF keeper IS NOT NULL THEN
            EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO %I', function, keeper);
        END IF;
    END LOOP;
END
$functions$;

-- The extension pg_stat_statements, in whatever schema: a role sees the statements of all its sessions, with their literals where
-- they were no parameters of a plan.
DO $statements$
DECLARE
    object record;
BEGIN
    FOR object IN
        SELECT CASE d.classid WHEN 'pg_class'::regclass THEN 'TABLE ' || d.objid::regclass
            ELSE 'FUNCTION ' || d.objid::regprocedure END AS name
        FROM pg_extension e JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.deptype = 'e'
        WHERE e.extname = 'pg_stat_statements' AND (d.classid = 'pg_proc'::regclass
            OR (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_class WHERE oid = d.objid AND relkind IN ('r', 'v'))))
    LOOP
        EXECUTE format('REVOKE ALL ON %s FROM PUBLIC', object.name);
        EXECUTE format('GRANT %s ON %s TO pg_read_all_stats',
                       CASE WHEN starts_with(object.name, 'TABLE') THEN 'SELECT' ELSE 'EXECUTE' END, object.name);
    END LOOP;
END
$statements$;

-- The verifier asks when its own backend began.
DO $verifier$
DECLARE
    owner oid := (SELECT proowner FROM pg_proc WHERE oid = 'pgvpd.attach()'::regprocedure);
BEGIN
    EXECUTE format('GRANT EXECUTE ON FUNCTION pg_stat_get_activity(int) TO %s', owner::regrole);
END
$verifier$;

REVOKE SELECT ON pg_locks, pg_prepared_xacts, pg_largeobject_metadata, pg_stat_replication, pg_stat_wal, pg_replication_slots FROM PUBLIC;
GRANT SELECT ON pg_locks, pg_prepared_xacts, pg_stat_replication, pg_stat_wal, pg_replication_slots TO pg_read_all_stats;

-- Objects of a session's own could stand in for others, and fill the disk.
DO $database$ BEGIN
    EXECUTE format('REVOKE TEMPORARY, CREATE ON DATABASE %I FROM PUBLIC, app_user', current_database());
END $database$;

COMMIT;
