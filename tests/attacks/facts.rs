//! What a superuser sees of the database: the facts that decide, and how all is made as it was.

use tokio_postgres::{Client, Statement};

/// The victim's rows, those of others, then all that protects them, then what the attacker's roles have of their own, and how
/// much he has left behind.
///
/// The attacker's roles are the one that he has logged in as and `app_user`. What he says of these is no harm in itself: where
/// it has changed, the victim logs in anew, and that tells. What anybody could have said of another role is protection.
const FACTS: &str = "
    WITH mine AS (SELECT oid FROM pg_authid WHERE rolname IN ('app_user', 'app_user.acme')),
         own AS (SELECT oid FROM pg_authid WHERE rolname = 'app_user.acme')
    SELECT (SELECT string_agg(r, ',' ORDER BY r) FROM (SELECT concat('v', v) FROM vault v WHERE tenant_id = 'globex'
              UNION ALL SELECT concat(tableoid, e) FROM events e WHERE tenant_id = 'globex'
              UNION ALL SELECT concat(tableoid, t) FROM things t WHERE tenant_id = 'globex'
              UNION ALL SELECT concat('n', n) FROM notes n WHERE tenant_id = 'globex') r (r)),
           (SELECT md5(string_agg(r, ',' ORDER BY r)) FROM (SELECT concat('v', v) FROM vault v WHERE tenant_id <> 'globex'
              UNION ALL SELECT concat(tableoid, e) FROM events e WHERE tenant_id <> 'globex'
              UNION ALL SELECT concat(tableoid, t) FROM things t WHERE tenant_id <> 'globex'
              UNION ALL SELECT concat('n', n) FROM notes n WHERE tenant_id <> 'globex') r (r)),
           concat_ws(E'\\n', (SELECT string_agg(concat_ws(' ', proname, proowner, prosecdef, provolatile, proparallel, proacl, proconfig, prosrc),
                                E'\\n' ORDER BY oid) FROM pg_proc WHERE pronamespace IN ('pgvpd'::regnamespace, 'public'::regnamespace)
                                AND proowner NOT IN (TABLE mine)),
              (SELECT string_agg(concat_ws(' ', relname, relowner, relrowsecurity, relforcerowsecurity, relacl::text), E'\\n' ORDER BY oid)
                 FROM pg_class WHERE relnamespace IN ('pgvpd'::regnamespace, 'public'::regnamespace) AND relowner NOT IN (TABLE mine)),
              (SELECT string_agg(p::text, E'\\n' ORDER BY p.oid) FROM pg_policy p JOIN pg_class c ON c.oid = polrelid
                 WHERE relowner NOT IN (TABLE mine)),
              (SELECT string_agg(concat(roleid::regrole, member::regrole, admin_option), ',' ORDER BY roleid, member)
                 FROM pg_auth_members WHERE roleid NOT IN (TABLE own)),
              (SELECT string_agg(concat(rolname, rolsuper, rolbypassrls, rolcreaterole, rolcanlogin, rolvaliduntil, rolconnlimit,
                 CASE WHEN oid NOT IN (TABLE mine) THEN rolpassword END), ',' ORDER BY oid) FROM pg_authid),
              (SELECT string_agg(s::text, ',' ORDER BY setdatabase, setrole) FROM pg_db_role_setting s WHERE setrole NOT IN (TABLE mine)),
              (SELECT string_agg(concat(nspname, nspowner, nspacl::text), ',' ORDER BY oid) FROM pg_namespace WHERE nspname !~ '^pg_'),
              (SELECT string_agg(k::text, ',' ORDER BY k) FROM pgvpd.signing_key k),
              (SELECT string_agg(k::text, ',' ORDER BY k) FROM pgvpd.tenant_role k),
              (SELECT count(*) FROM pg_trigger t JOIN pg_class c ON c.oid = tgrelid WHERE relowner NOT IN (TABLE mine)),
              (SELECT count(*) FROM pg_rewrite r JOIN pg_class c ON c.oid = ev_class WHERE relowner NOT IN (TABLE mine))),
           concat_ws(E'\\n', (SELECT string_agg(concat(rolname, rolpassword), ',' ORDER BY oid) FROM pg_authid WHERE oid IN (TABLE mine)),
              (SELECT string_agg(s::text, ',' ORDER BY setdatabase, setrole) FROM pg_db_role_setting s WHERE setrole IN (TABLE mine)),
              (SELECT string_agg(concat(member::regrole, admin_option), ',' ORDER BY member) FROM pg_auth_members WHERE roleid IN (TABLE own))),
           (SELECT count(*) FROM pg_shdepend WHERE refclassid = 'pg_authid'::regclass AND refobjid IN (TABLE mine) AND deptype = 'o')";

/// What makes the tenants' roles again as they were, as statements.
const MEND: &str = "
    SELECT string_agg(format('ALTER ROLE %1$I RESET ALL; ALTER ROLE %1$I IN DATABASE shop RESET ALL; ALTER ROLE %1$I PASSWORD %2$L',
                             rolname, rolpassword), ';') FROM pg_authid WHERE rolname IN ('app_user', 'app_user.acme', 'app_user.globex')";

/// What makes the rest again as it was. Only where an attack has changed something.
const RESTORE: &str = "
    DO $$ DECLARE m record; BEGIN
      FOR m IN SELECT roleid::regrole AS role, member::regrole FROM (SELECT roleid, member FROM pg_auth_members
                 EXCEPT SELECT roleid, member FROM backup.members) m LOOP
        EXECUTE format('REVOKE %s FROM %s', m.role, m.member);
      END LOOP;
      FOR m IN SELECT roleid::regrole AS role, member::regrole, admin_option FROM backup.members
               EXCEPT SELECT roleid::regrole, member::regrole, admin_option FROM pg_auth_members LOOP
        EXECUTE format('GRANT %s TO %s %s', m.role, m.member, CASE WHEN m.admin_option THEN 'WITH ADMIN OPTION' END);
      END LOOP;
    END $$;
    ALTER TABLE vault ENABLE ROW LEVEL SECURITY;";

const RESTORE_ROWS: &str = "
    DELETE FROM notes; DELETE FROM vault; DELETE FROM events; DELETE FROM things;
    INSERT INTO vault SELECT * FROM backup.vault; INSERT INTO events SELECT * FROM backup.events;
    INSERT INTO things SELECT * FROM backup.things; INSERT INTO things_old SELECT * FROM backup.things;
    INSERT INTO notes SELECT * FROM backup.notes;";

const BACKUP: &str = "
    CREATE SCHEMA backup;
    CREATE TABLE backup.vault AS TABLE vault; CREATE TABLE backup.events AS TABLE events;
    CREATE TABLE backup.things AS SELECT * FROM ONLY things; CREATE TABLE backup.notes AS TABLE notes;
    CREATE TABLE backup.members AS SELECT roleid, member, admin_option FROM pg_auth_members;";

/// What is true of the database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) rows: Option<String>,
    pub(crate) other_rows: Option<String>,
    pub(crate) protection: String,
    /// What the attacker may say of his own roles.
    pub(crate) role: String,
}

/// A superuser's look at the facts, and what they were at first.
pub(crate) struct Watch {
    look: Statement,
    mend: String,
    pub(crate) first: Facts,
}

impl Watch {
    /// Keeps how things are.
    pub(crate) async fn begin(admin: &Client) -> Self {
        admin.batch_execute(BACKUP).await.expect("backup");
        let mend = admin.query_one(MEND, &[]).await.expect("the roles").get(0);
        let look = admin.prepare(FACTS).await.expect("a look at the facts");
        let first = facts(admin, &look).await.0;
        Self { look, mend, first }
    }

    /// How things are now, and how much the attacker has left.
    pub(crate) async fn look(&self, admin: &Client) -> (Facts, i64) {
        facts(admin, &self.look).await
    }

    pub(crate) async fn restore_rows(&self, admin: &Client) {
        admin.batch_execute(RESTORE_ROWS).await.expect("the rows are restored");
    }

    /// All but rows and what the attacker has left.
    pub(crate) async fn restore(&self, admin: &Client) {
        admin.batch_execute(&format!("{}; {RESTORE}", self.mend)).await.expect("what protects is restored");
    }

    /// All is as it was.
    pub(crate) async fn check_restored(&self, admin: &Client) {
        let (now, _) = self.look(admin).await;
        assert_eq!((&now.rows, &now.role), (&self.first.rows, &self.first.role));
        let changed = difference(&self.first.protection, &now.protection);
        assert!(now.protection == self.first.protection, "not restored: {changed}");
    }
}

async fn facts(admin: &Client, look: &Statement) -> (Facts, i64) {
    let row = admin.query_one(look, &[]).await.expect("facts");
    (Facts { rows: row.get(0), other_rows: row.get(1), protection: row.get(2), role: row.get(3) }, row.get(4))
}

/// The first line that differs.
pub(crate) fn difference(before: &str, after: &str) -> String {
    let pair = before.lines().zip(after.lines()).find(|(before, after)| before != after);
    pair.map_or_else(String::new, |(before, after)| format!("{before:.200} became {after:.200}"))
}
