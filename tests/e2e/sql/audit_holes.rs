//! Each hole that `pgvpd_audit()` knows: it is found, with its severity, and after its remedy it is not.
//!
//! `{role}` in the statements is the application's role, of the case's own and oddly named; `{db}` the database.

use pgvpd_core::sql::{AUDIT, HELPERS, SETUP};

use crate::audit::{audit_of, close_database};
use crate::support::{TestResult, cluster, database_with};

/// What every case begins with: a protected table, and nothing to find.
const BASE: &str = "
    CREATE ROLE {role} LOGIN;
    CREATE TABLE orders (tenant_id text NOT NULL, item int, note text, PRIMARY KEY (tenant_id, item));
    SELECT pgvpd_protect('orders');
    GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {role};";

/// Which remedy the case takes.
enum Remedy {
    /// The one that the finding names.
    Own,
    /// This, since the finding only says what to do.
    Sql(&'static str),
    /// This, which is as good as what the finding names.
    Instead(&'static str),
    /// `setup.sql` again.
    Setup,
}
use Remedy::{Instead, Own, Setup, Sql};

struct Hole {
    id: &'static str,
    severity: &'static str,
    object: &'static str,
    made_by: &'static str,
    remedy: Remedy,
}

impl Hole {
    /// Finds nothing, makes the hole, finds it, takes the remedy, finds nothing.
    async fn check(self) -> TestResult {
        let (db, admin) = database_with(&[SETUP, HELPERS, AUDIT]).await;
        close_database(&db, &admin).await?;
        let role = format!("App \"x.y\" of {}", db.name());
        let fill = |text: &str| {
            let quoted = format!("\"{}\"", role.replace('"', "\"\""));
            text.replace("{role}", &quoted).replace("{db}", db.name())
        };
        let object = fill(self.object);
        let matching = async || {
            let mut found = audit_of(&admin, &[&role], &["tenant_id"]).await.unwrap();
            found.retain(|f| f.id == self.id && f.object == object);
            found
        };
        admin.batch_execute(&fill(BASE)).await?;
        assert_eq!(matching().await.len(), 0, "found before it was made");
        admin.batch_execute(&fill(self.made_by)).await?;
        let found = matching().await;
        let all = || async { format!("{:#?}", audit_of(&admin, &[&role], &["tenant_id"]).await) };
        assert_eq!(found.len(), 1, "{}", all().await);
        assert_eq!(found[0].severity, self.severity);
        let remedy = match self.remedy {
            Own => found[0].fix.clone(),
            Sql(sql) | Instead(sql) => fill(sql),
            Setup => SETUP.to_owned(),
        };
        assert_eq!(matches!(self.remedy, Own | Instead(_)), !found[0].fix.starts_with("--"), "{}", found[0].fix);
        admin.batch_execute(&remedy).await.map_err(|error| format!("{remedy}: {error:?}"))?;
        assert_eq!(matching().await.len(), 0, "after {remedy}");
        Ok(())
    }
}

macro_rules! holes {
    ($($name:ident: $id:literal $severity:literal $object:literal, $made_by:expr, $remedy:expr;)+) => {$(
        #[tokio::test]
        async fn $name() -> TestResult {
            Hole { id: $id, severity: $severity, object: $object, made_by: $made_by, remedy: $remedy }.check().await
        }
    )+};
}

holes! {
    a01_row_level_security_is_off: "A01" "critical" "public.bare",
        "CREATE TABLE bare (tenant_id text); GRANT SELECT ON bare TO {role}", Own;
    a01_of_an_odd_name_reached_by_one_column: "A01" "critical" r#""Odd.Schema"."a""b'c""#,
        r#"CREATE SCHEMA "Odd.Schema"; CREATE TABLE "Odd.Schema"."a""b'c" (tenant_id uuid, n int); GRANT UPDATE (n) ON "Odd.Schema"."a""b'c" TO PUBLIC"#, Own;
    a01_of_a_protection_that_was_switched_off: "A01" "critical" "public.orders", "ALTER TABLE orders DISABLE ROW LEVEL SECURITY", Own;
    a01_of_an_unlogged_table: "A01" "critical" "public.bare",
        "CREATE UNLOGGED TABLE bare (tenant_id int); GRANT DELETE ON bare TO {role}", Own;
    a02_the_application_is_a_member_of_an_unbound_owner: "A02" "critical" "public.orders",
        "CREATE ROLE {db}_owner; GRANT {db}_owner TO {role}; ALTER TABLE orders OWNER TO {db}_owner, NO FORCE ROW LEVEL SECURITY", Own;
    a03_the_owner_is_not_bound: "A03" "warning" "public.orders", "ALTER TABLE orders NO FORCE ROW LEVEL SECURITY", Own;
    a04_a_policy_lets_all_rows_through: "A04" "critical" "policy \"All\" on public.orders",
        r#"CREATE POLICY "All" ON orders FOR SELECT USING (true); DROP POLICY pgvpd_tenant_guard ON orders"#, Own;
    a04_a_policy_reads_the_plain_setting: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING (tenant_id = current_setting('app.current_tenant_id', true)); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_one_alternative_of_a_policy_is_open: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING (tenant_id = (SELECT current_tenant_id()) OR note = 'a AND b'); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_a_policy_holds_only_what_is_read: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING (tenant_id = current_tenant_id()) WITH CHECK (item > 0); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_a_policy_asks_only_whether_there_is_a_tenant: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING (current_tenant_id() IS NOT NULL AND 'acme' <> current_tenant_id()); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_a_policy_takes_no_tenant_for_any: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING ((tenant_id = current_tenant_id()) IS NOT FALSE); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_a_policy_is_for_other_tenants: "A04" "critical" "policy p on public.orders",
        "CREATE POLICY p ON orders USING (NOT (tenant_id = current_tenant_id())); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a04_a_function_of_the_same_name_elsewhere: "A04" "critical" "policy p on public.orders",
        "CREATE SCHEMA other; CREATE FUNCTION other.current_tenant_id() RETURNS text LANGUAGE sql AS 'SELECT 1::text';
         CREATE POLICY p ON orders USING (tenant_id = other.current_tenant_id()); DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a05_there_is_no_guard: "A05" "high" "public.orders", "DROP POLICY pgvpd_tenant_guard ON orders", Own;
    a05_the_guard_is_for_one_command: "A05" "high" "public.orders",
        "DROP POLICY pgvpd_tenant_guard ON orders; CREATE POLICY g ON orders AS RESTRICTIVE FOR SELECT USING (tenant_id = (SELECT current_tenant_id()))", Own;
    a05_the_guard_is_for_one_role: "A05" "high" "public.orders", "ALTER POLICY pgvpd_tenant_guard ON orders TO {role}", Own;
    a05_the_guard_was_altered: "A05" "high" "public.orders", "ALTER POLICY pgvpd_tenant_guard ON orders USING (true)", Own;
    a05_an_access_list_alone_knows_no_tenants: "A05" "high" "public.docs",
        r#"CREATE TABLE docs (tenant_id text, owner_id text); SELECT pgvpd_protect_acl('docs', '[{"column": "owner_id", "var": "app.user_id", "type": "text"}]')"#, Own;
    a06_a_policy_calls_for_every_row: "A06" "warning" "policy p on public.orders",
        "CREATE POLICY p ON orders FOR UPDATE USING (tenant_id = current_tenant_id()) WITH CHECK (pgvpd_context('app.o''x') = note)", Own;
    a07_a_partition_is_open: "A07" "critical" "public.part_1",
        "CREATE TABLE part (tenant_id text, n int) PARTITION BY RANGE (n); SELECT pgvpd_protect('part');
         CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (1) TO (2); GRANT SELECT ON part_1 TO {role}", Own;
    a07_an_inheritance_child_is_open: "A07" "critical" "public.child",
        "CREATE TABLE child (more int) INHERITS (orders); GRANT INSERT ON child TO {role}", Own;
    a07_a_child_of_an_access_list_is_open: "A07" "critical" "public.child",
        r#"CREATE TABLE docs (owner_id text); SELECT pgvpd_protect_acl('docs', '[{"column": "owner_id", "var": "app.user_id", "type": "text"}]');
        CREATE TABLE child () INHERITS (docs); GRANT SELECT ON child TO {role}"#, Sql("REVOKE ALL ON child FROM {role}");
    a08_a_view_has_its_owners_rights: "A08" "critical" "public.v", "CREATE VIEW v AS SELECT * FROM orders; GRANT SELECT ON v TO {role}", Own;
    a08_a_barrier_does_not_help: "A08" "critical" "public.\"V.2\"",
        r#"CREATE VIEW v AS SELECT * FROM orders; CREATE VIEW "V.2" WITH (security_barrier) AS SELECT * FROM v; GRANT SELECT ON "V.2" TO {role}"#, Own;
    a08_a_view_reads_the_key: "A08" "critical" "public.v", "CREATE VIEW v AS SELECT * FROM pgvpd.signing_key; GRANT SELECT ON v TO {role}", Own;
    a08_a_rule_writes_with_its_owners_rights: "A08" "critical" "rule r on public.inbox",
        "CREATE TABLE inbox (n int); CREATE RULE r AS ON INSERT TO inbox DO ALSO INSERT INTO orders VALUES ('globex', NEW.n); GRANT INSERT ON inbox TO {role}", Own;
    a09_a_materialized_view_holds_all_rows: "A09" "critical" "public.m",
        "CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM orders; GRANT SELECT ON m TO {role}", Own;
    a10_a_foreign_table_is_reachable: "A10" "high" "public.remote",
        "CREATE FOREIGN DATA WRAPPER w; CREATE SERVER s FOREIGN DATA WRAPPER w; CREATE FOREIGN TABLE remote (n int) SERVER s; GRANT SELECT ON remote TO {role}", Own;
    a11_a_definer_is_a_superusers: "A11" "critical" "public.f(integer)",
        "CREATE FUNCTION f(int) RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'SELECT 1'", Own;
    a11_a_procedure_is_one_who_has_bypassrls: "A11" "critical" "public.p()",
        "CREATE ROLE {db}_free BYPASSRLS; CREATE PROCEDURE p() LANGUAGE sql SECURITY DEFINER AS ''; ALTER PROCEDURE p() OWNER TO {db}_free", Own;
    a11_a_definer_is_the_tables_unbound_owners: "A11" "critical" "public.f()",
        "CREATE ROLE {db}_owner; CREATE ROLE {db}_member; GRANT {db}_owner TO {db}_member; ALTER TABLE orders OWNER TO {db}_owner, NO FORCE ROW LEVEL SECURITY;
         CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER FUNCTION f() OWNER TO {db}_member",
        Instead("ALTER TABLE orders FORCE ROW LEVEL SECURITY");
    a11_a_definer_can_read_the_key: "A11" "critical" "pgvpd.f()",
        "CREATE FUNCTION pgvpd.f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'; ALTER FUNCTION pgvpd.f() OWNER TO pgvpd_owner", Own;
    a12_a_definer_has_the_callers_search_path: "A12" "high" "public.f()",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'", Own;
    a12_a_definer_looks_where_the_application_creates: "A12" "high" "public.f()",
        "CREATE SCHEMA scratch; GRANT CREATE ON SCHEMA scratch TO {role};
         CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, scratch, pg_temp AS 'SELECT 1'", Own;
    a12_a_definer_looks_at_temporary_tables_first: "A12" "high" "public.f()",
        "GRANT TEMPORARY ON DATABASE {db} TO {role}; CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER SET search_path = '' AS 'SELECT 1'", Own;
    a13_the_role_itself_is_powerful: "A13" "critical" "{role}", "ALTER ROLE {role} CREATEROLE REPLICATION", Own;
    a13_the_role_can_become_powerful: "A13" "critical" "{db}_root",
        "CREATE ROLE {db}_root SUPERUSER; CREATE ROLE {db}_step NOINHERIT; GRANT {db}_root TO {db}_step; GRANT {db}_step TO {role}", Own;
    a13_the_role_can_become_one_who_has_bypassrls: "A13" "critical" "{db}_free", "CREATE ROLE {db}_free BYPASSRLS; GRANT {db}_free TO {role}", Own;
    a14_the_role_reads_everything: "A14" "critical" "pg_read_all_data", "GRANT pg_read_all_data TO {role}", Own;
    a14_the_role_monitors: "A14" "critical" "pg_monitor", "CREATE ROLE {db}_ops; GRANT pg_monitor TO {db}_ops; GRANT {db}_ops TO {role}", Own;
    a15_the_application_owns_a_table: "A15" "critical" "public.orders", "ALTER TABLE orders OWNER TO {role}", Own;
    a16_a_right_beyond_row_level_security: "A16" "high" "public.orders", "GRANT TRUNCATE ON orders TO PUBLIC; GRANT REFERENCES (item) ON orders TO {role}", Own;
    a17_a_primary_key_is_over_all_tenants: "A17" "high" "public.t_pkey on public.t", "CREATE TABLE t (tenant_id text, id int PRIMARY KEY)", Own;
    a17_the_tenant_is_only_included: "A17" "high" "public.t_id_tenant_id_key on public.t",
        "CREATE TABLE t (tenant_id text, id int, UNIQUE (id) INCLUDE (tenant_id) DEFERRABLE)", Own;
    a17_an_index_of_an_expression: "A17" "high" r#"public."i USING btree (" on public.t"#,
        r#"CREATE TABLE t (tenant_id text, email text); CREATE UNIQUE INDEX "i USING btree (" ON t (lower(email)) WHERE email <> ''"#, Own;
    a17_an_exclusion: "A17" "high" "public.t_n_excl on public.t",
        "CREATE TABLE t (tenant_id text, n int, EXCLUDE USING btree (n WITH =))",
        Sql("ALTER TABLE t DROP CONSTRAINT t_n_excl, ADD CONSTRAINT t_n_excl EXCLUDE USING btree (tenant_id WITH =, n WITH =)");
    a17_a_key_that_others_refer_to: "A17" "high" "public.t_pkey on public.t",
        "CREATE TABLE t (tenant_id text, id int PRIMARY KEY); CREATE TABLE c (t_id int REFERENCES t)",
        Sql("DROP TABLE c; ALTER TABLE t DROP CONSTRAINT t_pkey");
    a18_a_reference_does_not_pair_the_tenants: "A18" "high" r#""Ref" on public.c"#,
        r#"CREATE TABLE t (tenant_id text, id int PRIMARY KEY, "Other ID" int, UNIQUE (id, "Other ID"));
        CREATE TABLE c (tenant_id text, t_id int, o int, CONSTRAINT "Ref" FOREIGN KEY (t_id, o) REFERENCES t (id, "Other ID") ON DELETE CASCADE)"#, Own;
    a18_a_reference_that_sets_null: "A18" "high" "c_t_id_fkey on public.c",
        "CREATE TABLE t (tenant_id text, id int PRIMARY KEY); CREATE TABLE c (tenant_id text, t_id int REFERENCES t ON DELETE SET NULL)", Sql("DROP TABLE c");
    a18_a_reference_from_a_table_without_tenants: "A18" "high" "c_t_id_fkey on public.c",
        "CREATE TABLE t (tenant_id text, id int PRIMARY KEY); CREATE TABLE c (t_id int REFERENCES t); GRANT INSERT ON c TO {role}",
        Sql("ALTER TABLE c DROP CONSTRAINT c_t_id_fkey");
    a19_the_tenant_may_be_null: "A19" "warning" "public.t", "CREATE TABLE t (tenant_id text)", Own;
    a20_the_tenant_has_no_default: "A20" "info" "public.t", "CREATE TABLE t (tenant_id uuid)", Own;
    a21_no_index_starts_with_the_tenant: "A21" "warning" "public.t",
        "CREATE TABLE t (tenant_id text, n int); CREATE INDEX ON t (n, tenant_id); CREATE INDEX ON t (tenant_id) WHERE n > 1", Own;
    a21_a_partition_has_no_index: "A21" "warning" "public.t",
        "CREATE TABLE t (tenant_id text, n int) PARTITION BY LIST (n); CREATE TABLE t_1 PARTITION OF t FOR VALUES IN (1); CREATE TABLE t_2 PARTITION OF t FOR VALUES IN (2);
         CREATE INDEX ON t_1 (tenant_id)", Own;
    a22_the_application_creates_in_a_schema: "A22" "high" r#""S.x""#, r#"CREATE SCHEMA "S.x"; GRANT CREATE ON SCHEMA "S.x" TO PUBLIC"#, Own;
    a22_the_application_owns_a_schema: "A22" "high" "s", "CREATE SCHEMA s AUTHORIZATION {role}", Own;
    a23_the_application_makes_temporary_tables: "A23" "high" "{db}", "GRANT TEMPORARY ON DATABASE {db} TO PUBLIC", Own;
    a23_the_application_creates_schemas: "A23" "high" "{db}", "GRANT CREATE ON DATABASE {db} TO {role}", Own;
    a24_a_role_stored_a_timeout: "A24" "high" r#"App "x.y" of {db}: statement_timeout"#, "ALTER ROLE {role} SET statement_timeout = '1ms'", Own;
    a24_a_role_stored_whatever_it_may: "A24" "high" r#"App "x.y" of {db}: enable_indexscan"#, "ALTER ROLE {role} IN DATABASE {db} SET enable_indexscan = off", Own;
    a24_the_database_stores_a_context: "A24" "high" "{db}: app.current_tenant_id", "ALTER DATABASE {db} SET app.current_tenant_id = 'acme'", Own;
    a24_the_database_stores_a_search_path: "A24" "high" "{db}: search_path", "ALTER DATABASE {db} SET search_path = public", Own;
    a26_default_privileges_for_tables: "A26" "high" "tables that {db}_dba creates",
        "CREATE ROLE {db}_dba; ALTER DEFAULT PRIVILEGES FOR ROLE {db}_dba GRANT SELECT ON TABLES TO {role}", Own;
    a26_default_privileges_in_a_schema: "A26" "high" "functions that {db}_dba creates in schema public",
        "CREATE ROLE {db}_dba; ALTER DEFAULT PRIVILEGES FOR ROLE {db}_dba IN SCHEMA public GRANT EXECUTE ON FUNCTIONS TO PUBLIC", Own;
    a28_an_extension_connects_elsewhere: "A28" "high" "extension dblink", "CREATE EXTENSION dblink", Own;
    a28_a_foreign_server: "A28" "high" r#"foreign server "S""#,
        r#"CREATE FOREIGN DATA WRAPPER w; CREATE SERVER "S" FOREIGN DATA WRAPPER w; GRANT USAGE ON FOREIGN SERVER "S" TO {role}"#, Own;
    a28_a_foreign_data_wrapper: "A28" "high" "foreign data wrapper w", "CREATE FOREIGN DATA WRAPPER w; GRANT USAGE ON FOREIGN DATA WRAPPER w TO {role}", Own;
    a28_a_language: "A28" "high" "language pl", "CREATE TRUSTED LANGUAGE pl HANDLER plpgsql_call_handler", Own;
    a29_the_key_is_readable: "A29" "critical" "pgvpd.signing_key", "GRANT SELECT (ipad) ON pgvpd.signing_key TO {role}", Own;
    a29_the_nonce_can_be_set: "A29" "critical" "pgvpd_private.session_nonce", "GRANT UPDATE ON SEQUENCE pgvpd_private.session_nonce TO PUBLIC", Own;
    a29_the_application_can_be_the_keys_owner: "A29" "critical" "pgvpd.signing_key", "GRANT pgvpd_owner TO {role}", Own;
    a30_not_definer: "A30" "critical" "public.pgvpd_context(text)", "ALTER FUNCTION pgvpd_context(text) SECURITY INVOKER", Setup;
    a30_immutable: "A30" "critical" "public.current_tenant_id()", "ALTER FUNCTION current_tenant_id() IMMUTABLE", Setup;
    a30_parallel_safe: "A30" "critical" "public.current_tenant_id()", "ALTER FUNCTION current_tenant_id() PARALLEL SAFE", Setup;
    a30_search_path_is_not_pinned: "A30" "critical" "pgvpd.to_uuid(text)", "ALTER FUNCTION pgvpd.to_uuid(text) RESET search_path", Setup;
    a30_the_body_is_another: "A30" "critical" "public.current_tenant_id()",
        "CREATE OR REPLACE FUNCTION public.current_tenant_id() RETURNS text LANGUAGE plpgsql STABLE PARALLEL RESTRICTED SECURITY DEFINER
         SET search_path = pg_catalog, pg_temp AS $$ BEGIN RETURN current_setting('app.current_tenant_id', true); END $$", Setup;
    a30_the_owner_is_the_application: "A30" "critical" "public.current_tenant_id()", "ALTER FUNCTION current_tenant_id() OWNER TO {role}", Own;
    a30_the_application_can_be_the_owner: "A30" "critical" "public.pgvpd_context(text)", "GRANT pgvpd_owner TO {role}", Own;
    a30_missing: "A30" "critical" "public.current_tenant_id()", "DROP TABLE orders; DROP FUNCTION current_tenant_id()", Setup;
    a31_a_publication: "A31" "info" r#""Pub""#, r#"CREATE PUBLICATION "Pub" FOR ALL TABLES"#, Sql(r#"DROP PUBLICATION "Pub""#);
    a33_a_table_without_tenants: "A33" "info" "public.countries", "CREATE TABLE countries (code text); GRANT SELECT ON countries TO {role}",
        Sql("REVOKE ALL ON countries FROM {role}");
}

/// The remedy of A25 is a file of its own, for a superuser.
#[tokio::test]
async fn a25_ways_from_one_session_to_another() -> TestResult {
    for (object, remedy) in [
        ("what other sessions run", "pg_stat_get_activity(int), pg_stat_get_backend_activity(int)"),
        ("cancelling and ending other sessions", "pg_cancel_backend(int), pg_terminate_backend(int, bigint)"),
    ] {
        let (_db, admin) = database_with(&[SETUP, AUDIT]).await;
        let found = async || {
            let all = audit_of(&admin, &["app_user"], &["tenant_id"]).await.unwrap();
            all.iter().filter(|f| f.id == "A25" && f.severity == "warning" && f.object == object).count()
        };
        assert_eq!(found().await, 1, "{object}");
        admin.batch_execute(&format!("REVOKE EXECUTE ON FUNCTION {remedy} FROM PUBLIC")).await?;
        assert_eq!(found().await, 0, "{object}");
    }
    Ok(())
}

#[tokio::test]
async fn a08_invoker_views_are_sound_where_they_exist() -> TestResult {
    if !cluster().await.is_at_least(15) {
        return Ok(());
    }
    for (option, sound) in [("true", true), ("on", true), ("1", true), ("yes", true), ("false", false), ("0", false)] {
        let (_db, admin) = database_with(&[SETUP, AUDIT]).await;
        admin
            .batch_execute(&format!(
                "CREATE TABLE t (tenant_id text);
                 CREATE VIEW v WITH (check_option = local, security_invoker = {option}) AS SELECT * FROM t; GRANT SELECT ON v TO app_user"
            ))
            .await?;
        let found = audit_of(&admin, &["app_user"], &["tenant_id"]).await?;
        assert_eq!(found.iter().all(|f| f.id != "A08"), sound, "{option}");
    }
    Ok(())
}
