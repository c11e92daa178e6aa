//! Other spellings of the victim's name: to the proxy they are other tenants, and so they must be to the database.

use std::sync::Arc;

use crate::attack::Attack;
use crate::session::{Session, startup};
use crate::stage::Stage;

const UUID: &str = "a0000000-0000-0000-0000-000000000007";

/// A column's type, the victim's name, and others that PostgreSQL reads as the same value.
const SPELLINGS: &[(&str, &str, &str, &[&str])] = &[
    ("a smallint, spelled otherwise", "smallint", "7", NUMBERS),
    ("an integer, spelled otherwise", "integer", "7", NUMBERS),
    ("a bigint, spelled otherwise", "bigint", "7", NUMBERS),
    (
        "a uuid, spelled otherwise",
        "uuid",
        UUID,
        &[
            "A0000000-0000-0000-0000-000000000007",
            "{a0000000-0000-0000-0000-000000000007}",
            "a0000000000000000000000000000007",
            "a000-0000-0000-0000-0000-0000-0000-0007",
            "a0000000-0000-0000-0000-000000000007 ",
        ],
    ),
    ("a char(9), spelled otherwise", "char(9)", "globex", &["globex ", "globex   "]),
    ("a varchar, spelled otherwise", "varchar(20)", "globex", &["globex ", "GLOBEX", "globex\u{301}"]),
];

const NUMBERS: &[&str] = &["07", "007", "+7", " 7", "7 ", "7.0", "7e0", "0x7", "0b111", "0_7", "\u{ff17}"];

/// Texts that differ in case alone, or in accents, are equal by these.
const COLLATIONS: &[(&str, &str, &[&str])] = &[
    ("a column that ignores case", "und-u-ks-level2", &["GLOBEX", "Globex"]),
    ("a column that ignores accents", "und-u-ks-level1", &["glòbex", "Globéx"]),
];

pub(crate) fn attacks() -> Vec<Attack> {
    let mut attacks = Vec::new();
    for &(name, column, victim, spellings) in SPELLINGS {
        attacks.push(Attack::by(name, move |stage| Box::pin(spell(stage, column, victim, spellings))));
    }
    for &(name, locale, spellings) in COLLATIONS {
        attacks.push(Attack::by(name, move |stage| Box::pin(collate(stage, locale, spellings))));
    }
    attacks
}

async fn spell(stage: &Stage, column: &str, victim: &str, spellings: &[&str]) -> Result<(), &'static str> {
    let protected = protect(stage, column, victim).await;
    assert!(protected, "a column of type {column} can be protected");
    read_as(stage, victim, spellings).await;
    Ok(())
}

/// A table that `pgvpd_protect` refuses belongs to no tenant, and is granted to nobody.
async fn collate(stage: &Stage, locale: &str, spellings: &[&str]) -> Result<(), &'static str> {
    let collation = format!("CREATE COLLATION loose (provider = icu, locale = '{locale}', deterministic = false)");
    if stage.admin.batch_execute(&collation).await.is_err() {
        return Err("this server has no ICU");
    }
    if protect(stage, "text COLLATE loose", "globex").await {
        read_as(stage, "globex", spellings).await;
    }
    stage.execute("DROP COLLATION loose").await;
    Ok(())
}

/// A table with a row of the victim's. False if it is refused.
async fn protect(stage: &Stage, column: &str, victim: &str) -> bool {
    let table = format!(
        "CREATE TABLE spelled (tenant_id {column}, secret text); INSERT INTO spelled VALUES ('{victim}', '{}')",
        stage.marker
    );
    stage.execute(&table).await;
    let protected = stage.admin.batch_execute("SELECT pgvpd_protect('spelled')").await.is_ok();
    let after = if protected { "GRANT SELECT ON spelled TO app_user" } else { "DROP TABLE spelled" };
    stage.execute(after).await;
    protected
}

/// Logs in by other names at a proxy that refuses the victim's, and reads the table. Then it is dropped.
async fn read_as(stage: &Stage, victim: &str, spellings: &[&str]) {
    let proxy = stage.proxy_with(&[("tenant_deny", victim)]).await;
    for spelling in spellings {
        let packet = startup(&format!("app_user.{spelling}"), &[]);
        // Where tenants have roles, there is none of this name.
        if let Ok(mut attacker) = Session::open(proxy.port(), &packet, Some(Arc::clone(&stage.heard))).await {
            attacker.query("SELECT * FROM spelled").await;
            attacker.leave().await;
        }
    }
    stage.execute("DROP TABLE spelled").await;
}
