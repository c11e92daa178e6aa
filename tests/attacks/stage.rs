//! The place of the attacks: a server of its own, set up by an owner who is no superuser, proxies before it, a victim at work,
//! and a superuser who knows what is true.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pgvpd_core::testing::Postgres;
use support::{PgError, SHOP, TestProxy, eventually, proxy_for};
use tempfile::NamedTempFile;
use tokio_postgres::Client;

use crate::facts::{Watch, difference};
use crate::mode::{Mode, Whose};
use crate::session::{Heard, Reply, Session, startup};
use crate::shop::{GRANTS, LOGINS, VIEW, furnish};

/// The victim's secret number, and one that is nobody's.
pub(crate) const PIN: &str = "735511";
pub(crate) const NOBODYS_PIN: &str = "735512";

/// The proxies' key.
pub(crate) const KEY: [u8; 32] = *b"0123456789abcdef0123456789abcdef";

const HBA: &[&str] = &["host all all 127.0.0.1/32 scram-sha-256", "local all all scram-sha-256"];

/// What the victim does all the time. Every byte of the answer counts.
const WORK: &str = "BEGIN; SET LOCAL lock_timeout = '200ms'; SELECT secret, amount FROM vault; UPDATE vault SET amount = amount;
    INSERT INTO vault (secret) VALUES ('new'); SELECT tenant_id, secret, public.current_tenant_id() FROM vault WHERE secret = 'new';
    SELECT pg_sleep(0.002); SHOW search_path; SELECT current_user, session_user; ROLLBACK";

/// What a new session has to be like, settings and all.
const FRESH: &str = "SELECT md5(string_agg(concat(name, setting), ',' ORDER BY name)) FROM pg_settings
    WHERE name NOT IN ('application_name') AND context IN ('user', 'superuser', 'superuser-backend', 'backend');
    SELECT (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()), (SELECT count(*) FROM pg_prepared_statements),
    (SELECT count(*) FROM pg_cursors), (SELECT count(*) FROM pg_listening_channels())";

/// As above, where a session may take such locks and see them.
const FRESH_LOCKS: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";

/// Where the attacks are tried.
pub(crate) struct Stage {
    pub(crate) mode: Mode,
    pub(crate) postgres: Postgres,
    /// For everybody.
    pub(crate) proxy: TestProxy,
    /// With a single backend, where there is a pool.
    pub(crate) narrow: TestProxy,
    /// For acme alone.
    pub(crate) door: TestProxy,
    pub(crate) admin: Client,
    /// Stands in every row of the victim's, and nowhere else.
    pub(crate) marker: String,
    /// What roles' passwords are verified with.
    verifiers: Vec<String>,
    pub(crate) heard: Arc<Mutex<Heard>>,
    /// The attack's name.
    pub(crate) trying: Mutex<String>,
    /// Whose role it is about.
    pub(crate) whose: Mutex<Whose>,
    reasons: Mutex<Vec<String>>,
    /// The victim has worked since the last verdict, beside the attacker.
    is_victim_checked: AtomicBool,
    victim: tokio::sync::Mutex<Session>,
    work: Reply,
    fresh: Reply,
    watch: Watch,
    passwords: NamedTempFile,
}

impl Stage {
    /// Starts it all.
    pub(crate) async fn set(mode: Mode) -> Self {
        let started = Postgres::builder()
            .hba(HBA.iter().copied())
            .setting("autovacuum", "off")
            .setting("max_prepared_transactions", "5")
            .start()
            .await;
        let postgres = started.expect("PostgreSQL starts");
        let anywhere = postgres.connect("postgres").await.expect("superuser");
        let random = anywhere.query_one("SELECT translate(md5(random()::text), '0123456789', 'ghijklmnop')", &[]).await;
        let marker: String = random.expect("random").get(0);
        furnish(&postgres, mode, &marker).await;
        let admin = postgres.connect(SHOP).await.expect("superuser");
        admin.batch_execute("SET lock_timeout = '10s'").await.expect("a setting");
        let watch = Watch::begin(&admin).await;

        let verifiers = admin.query("SELECT rolpassword FROM pg_authid WHERE rolpassword IS NOT NULL", &[]).await;
        let verifiers = verifiers.expect("verifiers").iter().map(|row| row.get(0)).collect();
        let mut passwords = NamedTempFile::new().expect("a temporary file");
        for role in LOGINS {
            writeln!(passwords, "\"{role}\" \"secret\"").expect("written");
        }
        let one: &[(&str, &str)] = if mode.is_pooled() { &[("pool_size", "1")] } else { &[] };
        let start = async |options| start_proxy(&postgres, mode, &passwords, options).await;
        let (proxy, narrow, door) = (start(&[]).await, start(one).await, start(&[("tenant_allow", "acme")]).await);

        let mut victim = open(&proxy, "app_user.globex", None).await.expect("the victim logs in");
        let (fresh, work) = (fresh(mode, &mut victim).await, victim.query(WORK).await);
        for reply in [&fresh, &work] {
            assert!(reply.code().is_none() && !reply.is_cut_short, "the victim cannot work: {:?}", errors(reply));
        }
        let rows = work.messages.iter().filter(|(_, body)| contains(body, marker.as_bytes())).count();
        assert_eq!(rows, 10, "the victim sees its rows: {mode:?}");
        Self {
            mode,
            postgres,
            proxy,
            narrow,
            door,
            admin,
            marker,
            verifiers,
            heard: Arc::default(),
            trying: Mutex::default(),
            whose: Mutex::new(Whose::AsSaid),
            reasons: Mutex::default(),
            is_victim_checked: AtomicBool::new(false),
            victim: tokio::sync::Mutex::new(victim),
            work,
            fresh,
            watch,
            passwords,
        }
    }

    /// A session of the attacker's that has done what it could; then it reads everything, except where that would prove nothing.
    pub(crate) async fn loot(&self, attacker: &mut Session) {
        if self.mode != Mode::Bare {
            attacker.loot().await;
        }
    }

    /// True on servers of this major version or later.
    pub(crate) fn is_at_least(&self, major: u32) -> bool {
        self.postgres.version().0 >= major
    }

    /// What an attack says, with the role in it that it is about.
    pub(crate) fn spell(&self, script: &str) -> String {
        self.whose.lock().unwrap().spell(self.mode, script)
    }

    /// The role that the attacker logs in as.
    pub(crate) fn attackers_role(&self) -> &'static str {
        if self.mode.has_own_roles() { "app_user.acme" } else { "app_user" }
    }

    /// The role that the victim logs in as.
    pub(crate) fn victims_role(&self) -> &'static str {
        if self.mode.has_own_roles() { "app_user.globex" } else { "app_user" }
    }

    /// A session of the attacker's.
    pub(crate) async fn attacker(&self) -> Session {
        self.attacker_at(&self.proxy).await
    }

    /// A session of the attacker's through this proxy.
    pub(crate) async fn attacker_at(&self, proxy: &TestProxy) -> Session {
        let opened = open(proxy, "app_user.acme", Some(Arc::clone(&self.heard))).await;
        opened.unwrap_or_else(|error| {
            panic!("the attacker cannot log in, at {:?}: {error:?}", self.trying.lock().unwrap())
        })
    }

    /// A session of the victim's through this proxy.
    pub(crate) async fn victim_at(&self, proxy: &TestProxy) -> Session {
        let opened = open(proxy, "app_user.globex", None).await;
        opened
            .unwrap_or_else(|error| panic!("the victim cannot log in, at {:?}: {error:?}", self.trying.lock().unwrap()))
    }

    /// A statement of the superuser's.
    pub(crate) async fn execute(&self, sql: &str) {
        self.admin.batch_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    }

    /// Something that the attacker has reached.
    pub(crate) fn reached(&self, what: impl Into<String>) {
        self.reasons.lock().unwrap().push(what.into());
    }

    /// Has the victim work as always, beside whatever the attacker holds open.
    pub(crate) async fn check_victim(&self) {
        self.is_victim_checked.store(true, Ordering::Relaxed);
        let mut victim = self.victim.lock().await;
        let reply = victim.query(WORK).await;
        if reply != self.work {
            self.reached(format!("the victim is disturbed ({})", errors(&reply)));
            if let Ok(new) = open(&self.proxy, "app_user.globex", None).await {
                *victim = new;
            }
        }
    }

    /// Logs the victim in, and has it work.
    pub(crate) async fn check_new_victim(&self, proxy: &TestProxy) {
        let mut victim = match open(proxy, "app_user.globex", None).await {
            Ok(victim) => victim,
            Err(error) => return self.reached(format!("the victim cannot log in ({})", error.code)),
        };
        let (fresh, work) = (fresh(self.mode, &mut victim).await, victim.query(WORK).await);
        if fresh != self.fresh {
            self.reached(format!("a new session of the victim's is not as it should be ({})", errors(&fresh)));
        }
        if work != self.work {
            self.reached(format!("a new session of the victim's is disturbed ({})", errors(&work)));
        }
        victim.leave().await;
    }

    /// The victim logs in after these bytes, and works.
    pub(crate) async fn victim_after(&self, proxy: &TestProxy, header: &str) -> Result<Session, PgError> {
        let packet = startup("app_user.globex", &[]);
        let mut victim = Session::open(proxy.port(), &[header.as_bytes(), &packet].concat(), None).await?;
        let reply = victim.query(WORK).await;
        if reply != self.work {
            self.reached(format!("the victim is disturbed ({})", errors(&reply)));
        }
        Ok(victim)
    }

    /// The victim gets in, after these bytes, and works.
    pub(crate) async fn has_to_get_in(&self, proxy: &TestProxy, header: &str) {
        match self.victim_after(proxy, header).await {
            Ok(victim) => victim.leave().await,
            Err(error) => self.reached(format!("the victim cannot log in ({})", error.code)),
        }
    }

    /// A proxy with these options besides.
    pub(crate) async fn proxy_with(&self, options: &[(&'static str, &str)]) -> TestProxy {
        start_proxy(&self.postgres, self.mode, &self.passwords, options).await
    }

    /// Has the victim log in through a proxy that has asked nothing yet, and has no connections from before.
    pub(crate) async fn check_victim_from_scratch(&self) {
        let proxy = self.proxy_with(&[]).await;
        self.check_new_victim(&proxy).await;
    }

    /// What has been reached since the last time, by every fact there is; all is made as it was.
    pub(crate) async fn reckon(&self) -> Vec<String> {
        if !self.is_victim_checked.swap(false, Ordering::Relaxed) {
            self.check_victim().await;
            self.is_victim_checked.store(false, Ordering::Relaxed);
        }
        // They may hold locks that the facts wait for.
        let prepared = self.admin.query("SELECT gid FROM pg_prepared_xacts", &[]).await.expect("prepared transactions");
        for row in prepared {
            self.execute(&format!("ROLLBACK PREPARED '{}'", row.get::<_, &str>(0))).await;
        }
        let (now, left) = self.watch.look(&self.admin).await;
        let first = &self.watch.first;
        if now.rows != first.rows {
            self.reached("the victim's rows are not as they were");
        }
        if now.protection != first.protection {
            self.reached(format!("what protects was changed: {}", difference(&first.protection, &now.protection)));
        }
        if now.role != first.role {
            self.check_victim_from_scratch().await;
        }
        if (&now.rows, &now.other_rows) != (&first.rows, &first.other_rows) {
            self.watch.restore_rows(&self.admin).await;
        }
        if left != 0 {
            self.sweep().await;
        }
        if (&now.protection, &now.role) != (&first.protection, &first.role) {
            self.restore().await;
        }
        let heard = std::mem::take(&mut self.heard.lock().unwrap().bytes);
        for (what, secret) in self.secrets() {
            if contains(&heard, secret.as_bytes()) {
                self.reached(what);
            }
        }
        let mut reasons = std::mem::take(&mut *self.reasons.lock().unwrap());
        reasons.dedup();
        reasons
    }

    /// What the attacker must not be sent, as text or in hexadecimal.
    fn secrets(&self) -> Vec<(&'static str, String)> {
        let pad = |with: u8| hex(&KEY.map(|byte| byte ^ with));
        let mut secrets = vec![("the victim's secret came back", self.marker.clone())];
        secrets.push(("the victim's secret came back", hex(self.marker.as_bytes())));
        secrets.extend([pad(0), pad(0x36), pad(0x5c)].map(|pad| ("the key came back", pad)));
        secrets.extend(self.verifiers.iter().map(|verifier| ("a verifier came back", verifier.clone())));
        secrets
    }

    /// Removes what the attacker has left in the database.
    async fn sweep(&self) {
        let own = if self.mode.has_own_roles() { ", \"app_user.acme\"" } else { "" };
        let view = if self.is_at_least(15) { VIEW } else { "" };
        self.execute(&format!("DROP OWNED BY app_user{own} CASCADE; {GRANTS} {view}")).await;
    }

    async fn restore(&self) {
        self.execute(
            "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE starts_with(usename, 'app_user')",
        )
        .await;
        self.watch.restore(&self.admin).await;
        self.sweep().await;
        self.watch.check_restored(&self.admin).await;
        // A pool whose role could not log in tries again after a pause, and refuses clients until then.
        eventually("the victim logs in again", async || open(&self.proxy, "app_user.globex", None).await.is_ok()).await;
        *self.victim.lock().await = self.victim_at(&self.proxy).await;
    }
}

async fn start_proxy(
    postgres: &Postgres,
    mode: Mode,
    passwords: &NamedTempFile,
    options: &[(&'static str, &str)],
) -> TestProxy {
    let file = passwords.path().display().to_string();
    let mut all = mode.options(&file);
    all.extend(options.iter().map(|&(name, value)| (name, value.to_owned())));
    let all: Vec<_> = all.iter().map(|(name, value)| (*name, value.as_str())).collect();
    proxy_for(postgres, &all).await.expect("the proxy starts")
}

/// Everything that a new session is known by.
async fn fresh(mode: Mode, session: &mut Session) -> Reply {
    let mut reply = session.query(FRESH).await;
    if mode != Mode::Hardened {
        let locks = session.query(FRESH_LOCKS).await;
        reply.messages.extend(locks.messages);
        reply.is_cut_short |= locks.is_cut_short;
    }
    reply
}

async fn open(proxy: &TestProxy, user: &str, heard: Option<Arc<Mutex<Heard>>>) -> Result<Session, PgError> {
    Session::open(proxy.port(), &startup(user, &[]), heard).await
}

fn errors(reply: &Reply) -> String {
    let texts = reply.messages.iter().filter(|(tag, _)| *tag == b'E').map(|(_, body)| PgError::parse(body).message);
    let mut texts: Vec<_> = texts.collect();
    texts.extend(reply.is_cut_short.then(|| "no answer".to_owned()));
    if texts.is_empty() { "another answer".into() } else { texts.join(", ") }
}

/// Bytes as text.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// True if the text stands in the bytes.
pub(crate) fn contains(bytes: &[u8], text: &[u8]) -> bool {
    bytes.windows(text.len()).any(|window| window == text)
}
