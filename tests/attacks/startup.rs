//! The first packet. It goes through a proxy that lets in only acme: whatever is said there, nobody gets to globex.

use std::sync::Arc;

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use support::{SHOP, startup_packet};

use crate::attack::Attack;
use crate::limits::{PASSWORD, SETTINGS};
use crate::session::{Session, startup};
use crate::stage::Stage;

type Parameters = &'static [(&'static str, &'static str)];

/// What a packet says beside `user = app_user.acme` and the database. Then, as it is, and after each way to the session's
/// defaults, everything is read that can be.
const PARAMETERS: &[(&str, Parameters)] = &[
    ("options -c", &[("options", "-c app.current_tenant_id=globex")]),
    ("options -c without blank", &[("options", "-capp.current_tenant_id=globex")]),
    ("options --", &[("options", "--app.current_tenant_id=globex")]),
    ("options -- with dashes", &[("options", "--app.current-tenant-id=globex")]),
    ("options -c with dashes", &[("options", "-c app.current-tenant-id=globex")]),
    ("options in capitals", &[("options", "-c APP.Current_Tenant_ID=globex")]),
    ("options with backslashes", &[("options", r"-c app.current\_tenant\_id=globex")]),
    ("options with an escaped blank", &[("options", r"-c app.current_tenant_id=globex\ ")]),
    ("options with tabs and newlines", &[("options", "\t-c\n\x0bapp.current_tenant_id=globex\r")]),
    ("options twice in one", &[("options", "-c app.current_tenant_id=acme -c app.current_tenant_id=globex")]),
    ("options behind others", &[("options", "-c geqo=off -e -d 1 -c app.current_tenant_id=globex")]),
    ("options with -v", &[("options", "-v 196608 -c app.current_tenant_id=globex")]),
    ("options with a stop", &[("options", "-- -c app.current_tenant_id=globex")]),
    ("options without a value", &[("options", "-c app.current_tenant_id")]),
    (
        "options with quotes",
        &[("options", "-c 'app.current_tenant_id=globex' \"-c\" \"app.current_tenant_id=globex\"")],
    ),
    ("options that set a role", &[("options", "-c role=shop_owner")]),
    ("options that set session_authorization", &[("options", "-c session_authorization=shop_owner")]),
    ("options that switch row_security off", &[("options", "-c row_security=off")]),
    ("options with a token", &[("options", "-c pgvpd.context=v1.1.1.0.0.0.73686f70.6170705f75736572.7b7d.00")]),
    ("options with SQL", &[("options", "-c search_path=x';SET/**/app.current_tenant_id='globex")]),
    ("options that go on for long", &[("options", LONG_OPTIONS)]),
    ("options that switch -P and -O", &[("options", "-P -O -s -f s -W 0")]),
    ("options as a parameter in capitals", &[("OPTIONS", "-c app.current_tenant_id=globex")]),
    ("options twice", &[("options", "-c geqo=off"), ("options", "-c app.current_tenant_id=globex")]),
    ("the context", &[("app.current_tenant_id", "globex")]),
    ("the context in capitals", &[("APP.CURRENT_TENANT_ID", "globex")]),
    ("the context with dashes", &[("app.current-tenant-id", "globex")]),
    ("the context with blanks", &[(" app.current_tenant_id", "globex"), ("app.current_tenant_id ", "globex")]),
    ("the context twice", &[("app.current_tenant_id", "acme"), ("app.current_tenant_id", "globex")]),
    ("a token", &[("pgvpd.context", "v1.1.1.0.0.0.73686f70.6170705f75736572.7b7d.00")]),
    ("a token in capitals", &[("PGVPD.CONTEXT", "globex")]),
    ("another user behind", &[("user", "app_user.globex")]),
    ("another user in capitals", &[("User", "app_user.globex"), ("USER", "root_user")]),
    ("a superuser behind", &[("user", "root_user")]),
    ("an empty user behind", &[("user", "")]),
    ("another database behind", &[("database", "postgres")]),
    ("role", &[("role", "shop_owner")]),
    ("role, a superuser", &[("role", "root_user")]),
    ("session_authorization", &[("session_authorization", "root_user")]),
    ("session_authorization, capitals", &[("Session_Authorization", "shop_owner")]),
    ("is_superuser", &[("is_superuser", "on")]),
    ("row_security", &[("row_security", "off")]),
    ("search_path", &[("search_path", "scratch, pg_temp, pg_catalog, public")]),
    ("session_replication_role in the packet", &[("session_replication_role", "replica")]),
    ("session_preload_libraries", &[("session_preload_libraries", "x")]),
    ("local_preload_libraries in the packet", &[("local_preload_libraries", "../../x")]),
    ("replication", &[("replication", "true")]),
    ("replication of the database", &[("replication", "database")]),
    ("replication in capitals", &[("Replication", "database")]),
    ("standard_conforming_strings", &[("standard_conforming_strings", "off"), ("backslash_quote", "on")]),
    ("client_encoding", &[("client_encoding", "SJIS")]),
    ("client_encoding, then SQL", &[("client_encoding", "GBK'; SET app.current_tenant_id = 'globex")]),
    ("a protocol option", &[("_pq_.app.current_tenant_id", "globex"), ("_pq_.command", "SET")]),
    ("SQL in application_name", &[("application_name", "x'; SET app.current_tenant_id = 'globex'; --")]),
    ("SQL in a name", &[("app.x = 'y'; SET app.current_tenant_id = 'globex'; SET app.z", "w")]),
    ("an empty name", &[("", "globex"), ("app.current_tenant_id", "globex")]),
];

const LONG_OPTIONS: &str = concat!(
    "-c geqo=off                                                                                                      ",
    "-c app.current_tenant_id=globex"
);

/// Names of users. No tenant but acme may come in, and no role that is above policies.
const USERS: &[(&str, &str)] = &[
    ("user globex", "app_user.globex"),
    ("user globex, capitals", "app_user.GLOBEX"),
    ("user globex, blanks", "app_user. globex"),
    ("user globex, blanks before", " app_user.globex"),
    ("user globex, behind acme", "app_user.acme.globex"),
    ("user globex, before acme", "app_user.globex.acme"),
    ("user globex, behind nothing", "app_user..globex"),
    ("user globex, with a comma", "app_user.acme,globex"),
    ("user globex, with a colon", "app_user.acme:globex"),
    ("user globex, quoted", "\"app_user\".globex"),
    ("user without a tenant", "app_user"),
    ("user with an empty tenant", "app_user."),
    ("user of a tenant only", ".acme"),
    ("user with SQL", "app_user.acme'; SET app.current_tenant_id = 'globex'; --"),
    ("user with SQL and a backslash", r"app_user.acme\'; SET app.current_tenant_id = 'globex'; --"),
    ("user with a dollar", "app_user.$1"),
    ("user with a newline", "app_user.acme\nglobex"),
    ("user with JSON", "app_user.acme\",\"app.current_tenant_id\":\"globex"),
    ("user that is a superuser", "root_user"),
    ("user that is a superuser, with a tenant", "root_user.acme"),
    ("user that bypasses policies, with a tenant", "bypassing.acme"),
    ("user that owns the tables, with a tenant", "shop_owner.acme"),
    ("user postgres", "postgres"),
    ("user postgres, with a tenant", "postgres.acme"),
    ("user pgvpd_owner, with a tenant", "pgvpd_owner.acme"),
    ("user pg_read_all_data, with a tenant", "pg_read_all_data.acme"),
];

/// What the login role may say of itself to the sessions that come after.
const ROLE_SETTINGS: &[(&str, &str)] = &[
    ("ALTER ROLE SET the context", "ALTER ROLE app_user SET app.current_tenant_id = 'acme'"),
    ("ALTER ROLE SET the context to nothing", "ALTER ROLE app_user SET app.current_tenant_id = ''"),
    (
        "ALTER ROLE IN DATABASE SET the context",
        "ALTER ROLE app_user IN DATABASE shop SET app.current_tenant_id = 'acme'",
    ),
    ("ALTER ROLE SET a token", "ALTER ROLE app_user SET pgvpd.context = 'v1.x'"),
    ("ALTER ROLE SET search_path", "ALTER ROLE app_user SET search_path = scratch"),
    (
        "ALTER ROLE SET search_path to where the victim's rows are caught",
        "CREATE TABLE scratch.vault (tenant_id text, id serial, secret text, amount int, pin int);
         GRANT ALL ON scratch.vault TO PUBLIC; ALTER ROLE app_user SET search_path = scratch, public",
    ),
    ("ALTER ROLE SET row_security", "ALTER ROLE app_user SET row_security = off"),
    ("ALTER ROLE SET role", "ALTER ROLE app_user SET role = app_user"),
    ("ALTER ROLE SET default_transaction_read_only", "ALTER ROLE app_user SET default_transaction_read_only = on"),
    ("ALTER ROLE SET local_preload_libraries", "ALTER ROLE app_user SET local_preload_libraries = 'nothing'"),
    ("ALTER ROLE SET client_encoding", "ALTER ROLE app_user SET client_encoding = 'SQL_ASCII'"),
    ("ALTER ROLE SET standard_conforming_strings", "ALTER ROLE app_user SET standard_conforming_strings = off"),
    ("ALTER ROLE SET DateStyle", "ALTER ROLE app_user SET DateStyle = 'German, DMY'"),
    ("ALTER ROLE SET array_nulls", "ALTER ROLE app_user SET array_nulls = off"),
    ("ALTER ROLE SET exit_on_error", "ALTER ROLE app_user SET exit_on_error = on"),
    ("ALTER ROLE SET gin_fuzzy_search_limit", "ALTER ROLE app_user SET gin_fuzzy_search_limit = 1"),
    (
        "ALTER ROLE SET every switch that the server has",
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT name FROM pg_settings WHERE context = 'user' AND vartype = 'bool' LOOP BEGIN
           EXECUTE format('ALTER ROLE app_user SET %I = %L', r.name, CASE current_setting(r.name) WHEN 'on' THEN 'off' ELSE 'on' END);
           EXCEPTION WHEN OTHERS THEN NULL; END; END LOOP; END $$",
    ),
];

/// What a role has said in a transaction that its session does not live to commit. An answer to the last query says that it did.
const NOT_COMMITTED: &[(&str, &str)] = &[
    ("ALTER ROLE PASSWORD in a transaction", "BEGIN;;ALTER ROLE app_user PASSWORD 'stolen';;COMMIT"),
    ("ALTER USER PASSWORD in a transaction", "BEGIN;;ALTER USER app_user PASSWORD 'stolen';;COMMIT"),
    (
        "ALTER ROLE PASSWORD behind a savepoint",
        "BEGIN; SAVEPOINT s;;ALTER ROLE app_user PASSWORD 'stolen'; RELEASE s;;COMMIT",
    ),
    ("ALTER ROLE SET in a transaction", "BEGIN;;ALTER ROLE app_user SET search_path = scratch;;COMMIT"),
    ("ALTER ROLE, and on it goes", "ALTER ROLE CURRENT_USER RESET ALL;;SELECT 1"),
];

/// Limits that can end a login before it is known that the role has set them.
const ROLE_LIMITS: &[(&str, &str)] = &[
    ("GRANT of oneself", "GRANT app_user TO bypassing WITH ADMIN OPTION"),
    ("ALTER ROLE SET statement_timeout", "ALTER ROLE app_user SET statement_timeout = 1"),
    ("ALTER ROLE SET idle_session_timeout", "ALTER ROLE app_user SET idle_session_timeout = 1"),
    (
        "ALTER ROLE SET idle_in_transaction_session_timeout",
        "ALTER ROLE app_user SET idle_in_transaction_session_timeout = 1",
    ),
];

const TRANSACTION_TIMEOUT: (&str, &str) =
    ("ALTER ROLE SET transaction_timeout", "ALTER ROLE app_user SET transaction_timeout = 1");

/// The password of the role that all tenants log in as.
const STOLEN: &str = "ALTER ROLE app_user PASSWORD 'stolen'";

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks: Vec<_> = PARAMETERS
        .iter()
        .map(|&(name, parameters)| {
            Attack::by(name, move |stage| Box::pin(enter(stage, startup("app_user.acme", parameters))))
        })
        .collect();
    attacks.extend(
        USERS.iter().map(|&(name, user)| Attack::by(name, move |stage| Box::pin(enter(stage, startup(user, &[]))))),
    );
    attacks.push(Attack::by("a database like the user's name", |stage| {
        Box::pin(enter(stage, startup("app_user.acme", &[("database", "shop.globex")])))
    }));
    attacks.push(Attack::by("the user behind the database, twice", |stage| {
        let parameters = [("database", SHOP), ("user", "app_user.globex"), ("user", "app_user.acme")];
        Box::pin(enter(stage, startup_packet(0x3_0000, &parameters)))
    }));
    attacks.push(Attack::by("a parameter behind the packet's end", |stage| {
        let mut packet = startup("app_user.acme", &[]);
        packet.extend(b"app.current_tenant_id\0globex\0\0");
        let size = u32::try_from(packet.len()).expect("short");
        packet.splice(..4, size.to_be_bytes());
        Box::pin(enter(stage, packet))
    }));
    attacks.push(Attack::by("a packet larger than PostgreSQL takes", |stage| {
        let long = "x".repeat(20_000);
        Box::pin(enter(
            stage,
            startup("app_user.acme", &[("application_name", &long), ("app.current_tenant_id", "globex")]),
        ))
    }));
    attacks.push(Attack::by("protocol 2", |stage| {
        Box::pin(enter(stage, startup_packet(0x2_0000, &[("user", "app_user.globex")])))
    }));
    attacks.push(Attack::by("protocol 3.9", |stage| {
        let parameters =
            [("user", "app_user.acme"), ("database", SHOP), ("_pq_.x", "y"), ("app.current_tenant_id", "globex")];
        Box::pin(enter(stage, startup_packet(0x3_0009, &parameters)))
    }));
    attacks.push(Attack::by("a query ahead of the login", |stage| {
        let mut packet = startup("app_user.acme", &[]);
        let mut out = BytesMut::new();
        frontend::query("SET app.current_tenant_id = 'globex'; SELECT * FROM vault", &mut out).expect("query");
        packet.extend(out);
        Box::pin(enter(stage, packet))
    }));
    attacks.push(Attack::by("a second packet behind SSLRequest", |stage| {
        let mut packet = 8_u32.to_be_bytes().to_vec();
        packet.extend(80_877_103_u32.to_be_bytes());
        packet.extend(startup("app_user.globex", &[]));
        Box::pin(enter(stage, packet))
    }));
    attacks.extend(ROLE_SETTINGS.iter().map(Attack::sql));
    attacks.extend(ROLE_LIMITS.iter().map(|row| Attack::sql(row).within(SETTINGS)));
    attacks.push(Attack::sql(&TRANSACTION_TIMEOUT).since(17).within(SETTINGS));
    attacks.extend(
        NOT_COMMITTED.iter().map(|&(name, script)| {
            Attack::by(name, move |stage| Box::pin(not_committed(stage, script))).saying(script)
        }),
    );
    attacks.push(Attack::sql(&("ALTER ROLE PASSWORD", STOLEN)).within(PASSWORD));
    attacks.push(
        Attack::by("ALTER ROLE PASSWORD, and a login as the victim", |stage| Box::pin(steal(stage)))
            .saying(STOLEN)
            .within(PASSWORD),
    );
    attacks
}

/// A session that changes a role has no other answer after that.
async fn not_committed(stage: &Stage, script: &str) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    let reply = attacker.run(&stage.spell(script)).await;
    // Where the role is none of the attacker's, the command has failed and with it the transaction.
    let is_rolled_back = reply.messages.iter().any(|(_, body)| body == b"ROLLBACK\0");
    if !reply.is_cut_short && reply.code().is_none() && !is_rolled_back {
        stage.reached("the session goes on");
    }
    stage.check_victim_from_scratch().await;
    attacker.leave().await;
    Ok(())
}

/// The attacker sets a password, and is the victim with it.
async fn steal(stage: &Stage) -> Result<(), &'static str> {
    let mut attacker = stage.attacker().await;
    attacker.run(&stage.spell(STOLEN)).await;
    let (packet, heard) = (startup("app_user.globex", &[]), Some(Arc::clone(&stage.heard)));
    if let Ok(mut victim) = Session::open_with("stolen", stage.proxy.port(), &packet, heard).await {
        victim.loot().await;
        victim.leave().await;
    }
    attacker.leave().await;
    Ok(())
}

/// Logs in at the door with this packet, if that can be done, and reads what can be read.
async fn enter(stage: &Stage, packet: Vec<u8>) -> Result<(), &'static str> {
    let opened = Session::open(stage.door.port(), &packet, Some(Arc::clone(&stage.heard))).await;
    // The answer to SSLRequest is no message, and what stood ahead of it is an answer of its own.
    let Ok(mut attacker) = opened else { return Ok(()) };
    attacker.loot().await;
    for sql in [
        "RESET ALL",
        "SET SESSION AUTHORIZATION DEFAULT",
        "ALTER TABLE public.vault DISABLE ROW LEVEL SECURITY",
        "DISCARD ALL",
    ] {
        attacker.query(sql).await;
        attacker.loot().await;
    }
    let who = attacker.query("SELECT concat_ws(' ', current_tenant_id(), session_user, current_user)").await.value();
    let role = stage.attackers_role();
    if let Some(who) = who
        && who != format!("acme {role} {role}")
        && who != format!("{role} {role}")
    {
        stage.reached(format!("the session is {who}"));
    }
    stage.check_victim().await;
    attacker.leave().await;
    Ok(())
}
