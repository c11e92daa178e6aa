//! Roles: the victim's where each tenant has one, and the one that all of them are members of.

use crate::attack::Attack;
use crate::limits::TABLES;
use crate::stage::Stage;

/// Where each tenant has a role: to the victim's, and what a tenant's role may say of itself and of `app_user`.
const OWN: &[(&str, &str)] = &[
    ("SET ROLE to the victim's", "SET ROLE \"app_user.globex\""),
    (
        "SET ROLE to the victim's, and a password",
        "SET ROLE \"app_user.globex\";;ALTER ROLE \"app_user.globex\" PASSWORD 'stolen'",
    ),
    (
        "SET ROLE to the victim's, and a setting",
        "SET ROLE \"app_user.globex\";;ALTER ROLE \"app_user.globex\" SET lock_timeout = 1",
    ),
    ("SET ROLE to the victim's, in a transaction", "BEGIN;;SET LOCAL ROLE \"app_user.globex\""),
    ("SET ROLE to the victim's from the shared one", "SET ROLE app_user;;SET ROLE \"app_user.globex\""),
    ("set_config of role to the victim's", "SELECT set_config('role', 'app_user.globex', false)"),
    ("SET SESSION AUTHORIZATION to the victim's", "SET SESSION AUTHORIZATION \"app_user.globex\""),
    ("SET ROLE to the shared one, and a context", "SET ROLE app_user; SET app.current_tenant_id = 'globex'"),
    (
        "a function of the shared role's, with a context",
        "SET ROLE app_user; CREATE FUNCTION scratch.f() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER SET app.current_tenant_id = 'globex' AS 'SELECT secret FROM public.vault'; RESET ROLE; SELECT scratch.f()",
    ),
    ("membership in the victim's", "GRANT \"app_user.globex\" TO \"app_user.acme\""),
    ("membership of the victim's, taken", "REVOKE app_user FROM \"app_user.globex\""),
    (
        "membership of the victim's, taken by the shared role",
        "SET ROLE app_user;;REVOKE app_user FROM \"app_user.globex\"",
    ),
    ("membership of the victim's, given", "GRANT \"app_user.acme\" TO \"app_user.globex\""),
    ("DROP OWNED of the victim's", "DROP OWNED BY \"app_user.globex\" CASCADE"),
    ("REASSIGN OWNED of the victim's", "REASSIGN OWNED BY \"app_user.globex\" TO \"app_user.acme\""),
    (
        "default privileges of the victim's",
        "ALTER DEFAULT PRIVILEGES FOR ROLE \"app_user.globex\" GRANT ALL ON TABLES TO PUBLIC",
    ),
    (
        "default privileges of the shared role's",
        "ALTER DEFAULT PRIVILEGES FOR ROLE app_user REVOKE ALL ON FUNCTIONS FROM PUBLIC;;ALTER DEFAULT PRIVILEGES FOR ROLE app_user GRANT ALL ON TABLES TO PUBLIC",
    ),
    ("a role of the victim's name", "CREATE ROLE \"app_user.globex.x\" LOGIN IN ROLE \"app_user.globex\""),
    ("a tenant's row of the victim's", "UPDATE pgvpd.tenant_role SET tenant = 'globex'"),
];

/// A table of the attacker's own that looks as if tenants' rows were in it: `role_check` refuses who may act as the owner of one.
const TEMPORARY_DECOY: &str =
    "CREATE TEMP TABLE t (tenant_id text); CREATE POLICY pgvpd_tenant_guard ON t AS RESTRICTIVE";
const DECOY: &str =
    "CREATE TABLE scratch.t (tenant_id text); CREATE POLICY pgvpd_tenant_guard ON scratch.t AS RESTRICTIVE";
/// Up to 14 a role may make others members of itself.
const GIVEN_DECOY: &str = "CREATE TABLE scratch.t (tenant_id text); CREATE POLICY pgvpd_tenant_guard ON scratch.t; GRANT \"app_user.acme\" TO \"app_user.globex\"";
const SHARED_DECOY: &str = "SET ROLE app_user; CREATE TABLE scratch.t (tenant_id text); CREATE POLICY pgvpd_tenant_guard ON scratch.t AS RESTRICTIVE";

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<_> = OWN.iter().map(|row| Attack::sql(row).with_own_roles()).collect();
    attacks.push(Attack::by("a login of the shared role's", |stage| Box::pin(shared_login(stage))).with_own_roles());
    attacks.push(Attack::by("a temporary table with a policy of pgvpd's name", |stage| {
        Box::pin(decoy(stage, TEMPORARY_DECOY))
    }));
    attacks.push(
        Attack::by("a table with a policy of pgvpd's name", |stage| Box::pin(decoy(stage, DECOY))).within(TABLES),
    );
    attacks.push(
        Attack::by("a table of the shared role's with a policy of pgvpd's name", |stage| {
            Box::pin(decoy(stage, SHARED_DECOY))
        })
        .within(TABLES),
    );
    attacks.push(
        Attack::by("a table with a policy of pgvpd's name, given to the victim", |stage| {
            Box::pin(decoy(stage, GIVEN_DECOY))
        })
        .within(TABLES)
        .with_own_roles(),
    );
    attacks
}

/// The proxy asks again after a minute what it has asked about a role: a proxy that has not asked yet sees it at once.
async fn decoy(stage: &Stage, sql: &str) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run(sql).await;
    stage.check_victim_from_scratch().await;
    attacker.leave().await;
    Ok(())
}

/// A tenant gives `app_user` a password, and logs in as that with no proxy between.
async fn shared_login(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run("SET ROLE app_user;;ALTER ROLE app_user PASSWORD 'stolen'").await;
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(stage.postgres.port()).user("app_user").password("stolen").dbname(support::SHOP);
    if config.connect(tokio_postgres::NoTls).await.is_ok() {
        stage.reached("the shared role logs in");
    }
    attacker.leave().await;
    Ok(())
}
