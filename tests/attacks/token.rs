//! Tokens: the victim's, the attacker's own with another content, and tokens that the proxy's key has signed for another session.

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::attack::Attack;
use crate::mode::Mode;
use crate::session::{Session, startup};
use crate::stage::{KEY, Stage, hex};

/// Fields of a token, by their place.
const VERSION: usize = 0;
const KEY_ID: usize = 1;
const PID: usize = 2;
const START: usize = 3;
const NONCE: usize = 4;
const EXPIRY: usize = 5;
const DATABASE: usize = 6;
const USER: usize = 7;
const CONTEXT: usize = 8;
const MAC: usize = 9;

/// The attacker's own token, and the victim's, which somehow he has.
struct Tokens {
    own: Vec<String>,
    victims: Vec<String>,
}

/// A name, and the token that is made.
type Row = (&'static str, fn(&Tokens) -> String);

/// The victim's token, or the attacker's own, made into something else without the key.
const FORGED: &[Row] = &[
    ("token of the victim", |t| t.victims.join(".")),
    ("token with the victim's context", |t| t.own_with(&[(CONTEXT, &t.victims[CONTEXT])])),
    ("token with a context of one's own", |t| t.own_with(&[(CONTEXT, &json("globex"))])),
    ("token with the context in capitals", |t| t.own_with(&[(CONTEXT, &json("globex").to_uppercase())])),
    ("token with two contexts", |t| t.own_with(&[(CONTEXT, &format!("{}{}", t.own[CONTEXT], json("globex")))])),
    ("token with the context behind a dot", |t| format!("{}.{}", t.own.join("."), json("globex"))),
    ("token of the victim with one's own pid", |t| t.victims_with(&[(PID, &t.own[PID])])),
    ("token of the victim with one's own start", |t| t.victims_with(&[(START, &t.own[START])])),
    ("token of the victim with one's own nonce", |t| t.victims_with(&[(NONCE, &t.own[NONCE])])),
    ("token of the victim with all of one's own", |t| {
        t.victims_with(&[(PID, &t.own[PID]), (START, &t.own[START]), (NONCE, &t.own[NONCE])])
    }),
    ("token of the victim with one's own mac", |t| t.victims_with(&[(PID, &t.own[PID]), (MAC, &t.own[MAC])])),
    ("token of the victim that is bound to nothing", |t| t.victims_with(&[(PID, "0"), (START, "0"), (NONCE, "0")])),
    ("token of the victim without start and nonce", |t| {
        t.victims_with(&[(PID, &t.own[PID]), (START, "0"), (NONCE, "0")])
    }),
    ("token v2", |t| t.globex_with(VERSION, "v2")),
    ("token V1", |t| t.globex_with(VERSION, "V1")),
    ("token without version", |t| t.globex_with(VERSION, "")),
    ("token of another key", |t| t.globex_with(KEY_ID, "2")),
    ("token of no key", |t| t.globex_with(KEY_ID, "")),
    ("token of a key with SQL", |t| t.globex_with(KEY_ID, "1' OR true --")),
    ("token of a key with a wildcard", |t| t.globex_with(KEY_ID, "%")),
    ("token without pid", |t| t.globex_with(PID, "")),
    ("token with a pid of two", |t| t.globex_with(PID, &format!("{},{}", t.own[PID], t.victims[PID]))),
    ("token with a start that is none", |t| t.globex_with(START, "NaN")),
    ("token with a start that is too large", |t| t.globex_with(START, "99999999999999999999")),
    ("token with a nonce that is negative", |t| t.globex_with(NONCE, "-1")),
    ("token with a nonce that is too large", |t| t.globex_with(NONCE, "9223372036854775808")),
    ("token that never ends", |t| t.globex_with(EXPIRY, "infinity")),
    ("token without end", |t| t.globex_with(EXPIRY, "")),
    ("token with another end", |t| t.globex_with(EXPIRY, "9223372036854775807")),
    ("token of another database", |t| t.globex_with(DATABASE, &hex(b"postgres"))),
    ("token with a database in capitals", |t| t.globex_with(DATABASE, &t.own[DATABASE].to_uppercase())),
    ("token of another role", |t| t.globex_with(USER, &hex(b"shop_owner"))),
    ("token without role", |t| t.globex_with(USER, "")),
    ("token without mac", |t| t.globex_with(MAC, "")),
    ("token with a mac of zeros", |t| t.globex_with(MAC, &"0".repeat(64))),
    ("token with the mac in capitals", |t| {
        t.victims_with(&[(PID, &t.own[PID]), (MAC, &t.victims[MAC].to_uppercase())])
    }),
    ("token with a short mac", |t| t.globex_with(MAC, &t.own[MAC][..62])),
    ("token with a long mac", |t| t.globex_with(MAC, &format!("{}00", t.own[MAC]))),
    ("token with a mac of no hexadecimal", |t| t.globex_with(MAC, &"zz".repeat(32))),
    ("token with a mac by no key", |t| {
        let unsigned = t.globex_with(MAC, "");
        signed(&[0; 32], unsigned.trim_end_matches('.'))
    }),
    ("token with a mac by an empty key", |t| {
        let unsigned = t.globex_with(MAC, "");
        signed(&[], unsigned.trim_end_matches('.'))
    }),
    ("token with a dot more", |t| format!("{}.", t.globex_with(MAC, &t.own[MAC]))),
    ("token with a dot before", |t| format!(".{}", t.globex_with(MAC, &t.own[MAC]))),
    ("token with an empty field", |t| t.globex_with(USER, &format!("{}.", t.own[USER]))),
    ("token without a field", |t| t.own_with(&[(CONTEXT, &json("globex"))]).replacen(".0.", ".", 1)),
    ("token of dots", |_| ".........".into()),
    ("token of very many dots", |_| ".".repeat(100_000)),
    ("token, empty", |_| String::new()),
    ("token, blank", |_| " ".into()),
    ("token, a tenant", |_| "globex".into()),
    ("token, JSON", |_| r#"{"app.current_tenant_id": "globex"}"#.into()),
    ("token, huge", |t| t.globex_with(CONTEXT, &"61".repeat(500_000))),
    ("token with a newline behind", |t| format!("{}\n", t.victims.join("."))),
    ("token with a blank before", |t| format!(" {}", t.victims.join("."))),
    ("token that is not ASCII", |t| t.globex_with(KEY_ID, "１")),
    ("token with fields that are not ASCII", |t| t.globex_with(PID, "١٢٣")),
    ("token, two in one", |t| format!("{},{}", t.own.join("."), t.victims.join("."))),
    ("token, cut off", |t| t.victims.join(".")[..40].into()),
];

/// Signed by the proxy's own key for globex, but not for this session: what it is bound to has to hold alone.
const MISBOUND: &[Row] = &[
    ("signed for another pid", |t| t.signed_with(&[(PID, &t.victims[PID])])),
    ("signed for pid 0", |t| t.signed_with(&[(PID, "0")])),
    ("signed for a pid with a zero before", |t| t.signed_with(&[(PID, &format!("0{}", t.own[PID]))])),
    ("signed for a pid with a plus", |t| t.signed_with(&[(PID, &format!("+{}", t.own[PID]))])),
    ("signed for a backend of this pid that is gone", |t| t.signed_with(&[(START, "1700000000000000")])),
    ("signed for a start one microsecond before", |t| t.signed_with(&[(START, &before(&t.own[START]))])),
    ("signed for a negative start", |t| t.signed_with(&[(START, "-1")])),
    ("signed for an earlier session on this backend", |t| t.signed_with(&[(NONCE, &before(&t.own[NONCE]))])),
    ("signed for a nonce to come", |t| t.signed_with(&[(NONCE, "4000000000")])),
    ("signed for another database", |t| t.signed_with(&[(DATABASE, &hex(b"postgres"))])),
    ("signed for a database that begins alike", |t| t.signed_with(&[(DATABASE, &hex(b"sho"))])),
    ("signed for no database", |t| t.signed_with(&[(DATABASE, "")])),
    ("signed for another role", |t| t.signed_with(&[(USER, &hex(b"shop_owner"))])),
    ("signed for no role", |t| t.signed_with(&[(USER, "")])),
    ("signed for a time that is over", |t| t.signed_with(&[(EXPIRY, "1700000000000000")])),
    ("signed until a negative time", |t| t.signed_with(&[(EXPIRY, "-1")])),
    ("signed by a key that is retired", |t| t.signed_with(&[(KEY_ID, "retired")])),
    ("signed by a key that is another's", |t| t.signed_with(&[(KEY_ID, "other")])),
    ("signed as v2", |t| t.signed_with(&[(VERSION, "v2")])),
    ("signed with a field more", |t| t.signed_with(&[(CONTEXT, &format!("7b7d.{}", json("globex")))])),
    ("signed with a field less", |t| t.signed_with(&[(CONTEXT, "")]).replacen("..", ".", 1)),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for &(name, make) in FORGED.iter().chain(MISBOUND) {
        attacks.push(Attack::by(name, move |stage| Box::pin(set(stage, make))));
    }
    // Else none of the others would say anything.
    attacks.push(
        Attack::by("signed for this very session", |stage| Box::pin(set(stage, |t| t.signed_with(&[])))).controlling(),
    );
    attacks.push(Attack::by("token of an earlier session on this backend", |stage| Box::pin(earlier(stage))));
    attacks.push(Attack::by("token from before the nonce moved", |stage| Box::pin(moved(stage))));
    for (name, level) in [
        ("signed by a key that ended in the transaction", "READ COMMITTED"),
        ("signed by a key that ended in the transaction, repeatable read", "REPEATABLE READ"),
        ("signed by a key that ended in the transaction, serializable", "SERIALIZABLE"),
    ] {
        attacks.push(Attack::by(name, move |stage| Box::pin(outlive_key(stage, level))));
    }
    attacks
        .push(Attack::by("token in the startup packet", |stage| Box::pin(in_packet(stage, &[("pgvpd.context", "@")]))));
    attacks.push(Attack::by("token in the packet's options", |stage| {
        Box::pin(in_packet(stage, &[("options", "-c pgvpd.context=@")]))
    }));
    attacks.push(Attack::by("token for the role", |stage| Box::pin(for_role(stage))).saying("app_user"));
    for &(name, sql) in WAYS {
        attacks.push(Attack::by(name, move |stage| Box::pin(by_way(stage, sql))).saying(sql));
    }
    attacks
}

/// Ways to set the victim's token, which is `@`.
const WAYS: &[(&str, &str)] = &[
    ("token by SET", "SET pgvpd.context = '@'"),
    ("token by SET LOCAL", "BEGIN; SET LOCAL pgvpd.context = '@'"),
    ("token by SET LOCAL, rolled back", "BEGIN; SAVEPOINT s; SET LOCAL pgvpd.context = '@'; ROLLBACK TO s"),
    ("token by DO", "DO $$ BEGIN PERFORM set_config('pgvpd.context', '@', false); END $$"),
    ("token behind attach", "SELECT pgvpd.attach(); SET pgvpd.context = '@'"),
    ("token behind many nonces", "SELECT count(pgvpd.attach()) FROM generate_series(1, 3000);;SET pgvpd.context = '@'"),
    ("token behind DISCARD ALL", "DISCARD ALL;;SET pgvpd.context = '@'"),
    ("token behind DISCARD SEQUENCES", "DISCARD SEQUENCES;;SET pgvpd.context = '@'"),
    ("token behind RESET ALL, in one query", "RESET ALL; SET pgvpd.context = '@'; TABLE vault"),
    ("token behind SET ROLE", "SET ROLE app_user; SET pgvpd.context = '@'"),
    ("token behind SET SESSION AUTHORIZATION", "SET SESSION AUTHORIZATION app_user; SET pgvpd.context = '@'"),
    ("token with the variable in capitals", "SET PGVPD.CONTEXT = '@'; SET \"PgVpd\".\"Context\" = '@'"),
    ("token beside the plain context", "SET app.current_tenant_id = 'globex'; SET pgvpd.context = '@'"),
    (
        "token and a shadow of currval",
        "CREATE FUNCTION pg_temp.currval(regclass) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'; SET search_path = pg_temp, pg_catalog, public; SET pgvpd.context = '@'",
    ),
    (
        "token in a parallel plan",
        "SET pgvpd.context = '@'; SET parallel_setup_cost = 0; SET min_parallel_table_scan_size = 0; SET force_parallel_mode = on;;TABLE vault",
    ),
    (
        "token read by a JSON path",
        "SET pgvpd.context = '@';;SELECT pgvpd_context('app.current_tenant_id'), pgvpd_context('pgvpd.probe')",
    ),
];

impl Tokens {
    fn own_with(&self, fields: &[(usize, &str)]) -> String {
        with(&self.own, fields)
    }

    fn victims_with(&self, fields: &[(usize, &str)]) -> String {
        with(&self.victims, fields)
    }

    /// The attacker's own token, with globex in it, and one thing else.
    fn globex_with(&self, field: usize, value: &str) -> String {
        self.own_with(&[(CONTEXT, &json("globex")), (field, value)])
    }

    /// The attacker's own token with globex in it and what else is said, signed anew.
    fn signed_with(&self, fields: &[(usize, &str)]) -> String {
        let context = json("globex");
        let all = [&[(CONTEXT, &*context)], fields].concat();
        let token = self.own_with(&all);
        signed(&KEY, token.rsplit_once('.').expect("a mac").0)
    }
}

fn with(token: &[String], fields: &[(usize, &str)]) -> String {
    let mut token = token.to_vec();
    for &(field, value) in fields {
        value.clone_into(&mut token[field]);
    }
    token.join(".")
}

fn json(tenant: &str) -> String {
    hex(format!(r#"{{"app.current_tenant_id":"{tenant}"}}"#).as_bytes())
}

/// One less, or something else where there is nothing to be less than.
fn before(number: &str) -> String {
    number
        .parse::<i64>()
        .ok()
        .filter(|number| *number > 1)
        .map_or_else(|| "1".into(), |number| (number - 1).to_string())
}

/// With its mac.
fn signed(key: &[u8], token: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any length");
    mac.update(token.as_bytes());
    format!("{token}.{}", hex(&mac.finalize().into_bytes()))
}

/// A session's token.
async fn token_of(session: &mut Session) -> Result<Vec<String>, &'static str> {
    let token = session.query("SELECT current_setting('pgvpd.context', true)").await.value().unwrap_or_default();
    let fields: Vec<_> = token.split('.').map(str::to_owned).collect();
    if fields.len() == 10 { Ok(fields) } else { Err("there are no tokens in this mode") }
}

fn without_tokens(stage: &Stage) -> Result<(), &'static str> {
    if stage.mode.is_signed() { Ok(()) } else { Err("there are no tokens in this mode") }
}

/// Puts a token into the attacker's session while the victim has its own.
async fn set(stage: &Stage, make: fn(&Tokens) -> String) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let (mut victim, mut attacker) = (stage.victim_at(&stage.proxy).await, stage.attacker().await);
    let tokens = Tokens { own: token_of(&mut attacker).await?, victims: token_of(&mut victim).await? };
    attacker
        .query(&format!("SELECT length(set_config('pgvpd.context', '{}', false))", make(&tokens).replace('\'', "''")))
        .await;
    attacker.loot().await;
    attacker.leave().await;
    victim.leave().await;
    Ok(())
}

/// The victim's token is set while its own session is still there.
async fn by_way(stage: &Stage, sql: &str) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let mut victim = stage.victim_at(&stage.proxy).await;
    let token = token_of(&mut victim).await?.join(".");
    let mut attacker = stage.attacker().await;
    attacker.run(&stage.spell(sql).replace('@', &token)).await;
    attacker.loot().await;
    attacker.leave().await;
    victim.leave().await;
    Ok(())
}

/// With a pool, the attacker gets the backend that the victim has left.
async fn earlier(stage: &Stage) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let mut victim = stage.victim_at(&stage.narrow).await;
    let token = token_of(&mut victim).await?;
    victim.leave().await;
    let mut attacker = stage.attacker_at(&stage.narrow).await;
    if stage.mode == Mode::Session {
        assert_eq!(token_of(&mut attacker).await?[PID], token[PID], "it is the same backend");
    }
    attacker.query(&format!("SET pgvpd.context = '{}'", token.join("."))).await;
    attacker.loot().await;
    attacker.leave().await;
    Ok(())
}

/// A session saves its token, has its rights reduced, and takes the old one out again. Rights are reduced by moving the nonce first.
async fn moved(stage: &Stage) -> Result<(), &'static str> {
    without_tokens(stage)?;
    if stage.mode.has_own_roles() {
        return Err("the tenant is the role's, whatever the token says");
    }
    let mut attacker = stage.attacker().await;
    let token = token_of(&mut attacker).await?.join(".");
    attacker.query("SELECT pgvpd.attach()").await;
    attacker.query(&format!("SET pgvpd.context = '{token}'")).await;
    if let Some(tenant) = attacker.query("SELECT current_tenant_id()").await.value() {
        stage.reached(format!("the old token is good for {tenant}"));
    }
    attacker.leave().await;
    Ok(())
}

/// The attacker has had a key of the proxy's. Its end has to hold in a transaction that began before.
async fn outlive_key(stage: &Stage, level: &str) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let key = hex(&KEY);
    stage.execute(&format!("SELECT pgvpd.install_key('ending', decode('{key}', 'hex'))")).await;
    let mut attacker = stage.attacker().await;
    let tokens = Tokens { own: token_of(&mut attacker).await?, victims: Vec::new() };
    let set =
        format!("SELECT length(set_config('pgvpd.context', '{}', false))", tokens.signed_with(&[(KEY_ID, "ending")]));
    // Not the rows, which would count as reached.
    attacker.query(&set).await;
    let tenant = attacker.query("SELECT current_tenant_id()").await.value();
    assert!(tenant.as_deref() == Some("globex") || stage.mode.has_own_roles(), "the key counts as yet: {tenant:?}");
    attacker.run(&format!("BEGIN ISOLATION LEVEL {level};;SELECT count(*) FROM pg_class")).await;
    stage.execute("SELECT pgvpd.retire_key('ending')").await;
    attacker.loot().await;
    attacker.query(&set).await;
    attacker.loot().await;
    attacker.leave().await;
    stage.execute("DELETE FROM pgvpd.signing_key WHERE kid = 'ending'").await;
    Ok(())
}

async fn in_packet(stage: &Stage, parameters: &[(&str, &str)]) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let mut victim = stage.victim_at(&stage.proxy).await;
    let token = token_of(&mut victim).await?.join(".");
    let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.replace('@', &token))).collect();
    let parameters: Vec<_> = parameters.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let heard = Some(std::sync::Arc::clone(&stage.heard));
    if let Ok(mut attacker) = Session::open(stage.door.port(), &startup("app_user.acme", &parameters), heard).await {
        attacker.loot().await;
        attacker.query("RESET ALL").await;
        attacker.loot().await;
        attacker.leave().await;
    }
    victim.leave().await;
    Ok(())
}

/// The attacker's own token becomes the default of the role that the victim uses too.
async fn for_role(stage: &Stage) -> Result<(), &'static str> {
    without_tokens(stage)?;
    let mut attacker = stage.attacker().await;
    let token = token_of(&mut attacker).await?.join(".");
    attacker.run(&stage.spell(&format!("ALTER ROLE app_user SET pgvpd.context = '{token}'"))).await;
    attacker.leave().await;
    Ok(())
}
