//! What `pgvpd init` does about the file and the key, decided before anything changes.

use std::path::PathBuf;

use anyhow::anyhow;
use pgvpd_core::config::{TcpTimes, UpstreamAddress};

use super::args::InitOptions;
use crate::config_file::{ConfigFile, can_create, create_config};
use crate::database::{Database, explained};
use crate::key_table::{KnownKey, Standing, standing};
use crate::print::done;
use crate::signing_key::{SigningKey, next_id};

/// The decision.
pub(super) struct Plan {
    pub(super) path: PathBuf,
    file: FilePlan,
    /// The database does not know the key yet.
    pub(super) is_key_missing: bool,
    /// The key is not installed now: a proxy that does not sign yet may be serving tenants.
    pub(super) waits: bool,
}

enum FilePlan {
    /// It is there, with this key or none, and stays as it is.
    Keep(ConfigFile, Option<SigningKey>),
    /// It is written, with this key or none.
    Create(Option<SigningKey>),
    /// It is there and is given this key.
    Extend(ConfigFile, SigningKey),
}

impl Plan {
    /// Decides, or refuses with what to do.
    pub(super) fn new(options: &InitOptions, known: &[KnownKey]) -> anyhow::Result<Self> {
        let path = options.config.clone();
        let file = ConfigFile::read(&path)?;
        let held = file.as_ref().map(ConfigFile::key).transpose()?.flatten().map(|found| found.key);
        let shown = path.display();
        let ids = || known.iter().map(|known| known.id.as_str());
        let new_key = || SigningKey::random(next_id(ids()));
        let listed = ids().map(|id| format!("{id:?}")).collect::<Vec<_>>().join(", ");
        let plan = |file, is_key_missing| Ok(Self { path: path.clone(), file, is_key_missing, waits: false });

        if !options.signing {
            return match (known.is_empty(), held, file) {
                (false, ..) => Err(anyhow!(
                    "this database verifies contexts with key {listed}: a proxy that does not sign would be shown no rows; \
                     leave out --no-signing"
                )),
                (true, Some(_), _) => {
                    Err(anyhow!("{shown} holds a key; leave out --no-signing, or name another file with --config"))
                }
                (true, None, Some(file)) => plan(FilePlan::Keep(file, None), false),
                (true, None, None) => {
                    can_create(&path)?;
                    plan(FilePlan::Create(None), false)
                }
            };
        }
        match (file, held) {
            (Some(file), Some(key)) => match standing(known, &key) {
                Standing::Valid => plan(FilePlan::Keep(file, Some(key)), false),
                Standing::Unknown if known.is_empty() || options.force => plan(FilePlan::Keep(file, Some(key)), true),
                Standing::Unknown => Err(anyhow!(
                    "{shown} holds key {:?}, and this database knows only {listed}; name the file that holds that one, or add \
                     this key with `pgvpd key install` or --force",
                    key.id
                )),
                Standing::Expired => Err(anyhow!(
                    "key {:?} of {shown} has expired in this database; `pgvpd key rotate` makes a new one",
                    key.id
                )),
                Standing::Other => Err(anyhow!(
                    "this database knows another key by the id {:?} than {shown} holds: the file belongs to another database; \
                     name another with --config",
                    key.id
                )),
            },
            (None, _) if known.is_empty() || options.force => {
                can_create(&path)?;
                plan(FilePlan::Create(Some(new_key()?)), true)
            }
            (None, _) => Err(anyhow!(
                "this database already has key {listed}, and there is no {shown} that holds it; name the proxy's file with \
                 --config, or make a further key with --force"
            )),
            (Some(file), None) if options.force => {
                if file.is_readable_by_all() {
                    return Err(anyhow!(
                        "{shown} can be read by everybody, and the proxy takes no key from such a file; chmod 600 {shown}, or 640 \
                         where it belongs to root and the group of the user that runs pgvpd; then run this again"
                    ));
                }
                file.staged()?;
                plan(FilePlan::Extend(file, new_key()?), true)
            }
            (Some(_), None) => Err(anyhow!(
                "{shown} exists and holds no key; --force adds one to it and keeps every line, or name a new file with --config"
            )),
        }
    }

    /// The key that the proxy will sign with.
    pub(super) fn key(&self) -> Option<&SigningKey> {
        match &self.file {
            FilePlan::Keep(_, key) | FilePlan::Create(key) => key.as_ref(),
            FilePlan::Extend(_, key) => Some(key),
        }
    }

    /// What the file says of an option.
    pub(super) fn value(&self, option: &str) -> Option<&str> {
        match &self.file {
            FilePlan::Keep(file, _) | FilePlan::Extend(file, _) => file.value(option),
            FilePlan::Create(_) => None,
        }
    }

    /// True where the file is there and was not made by this run.
    pub(super) fn keeps_file(&self) -> bool {
        matches!(self.file, FilePlan::Keep(..))
    }

    /// Writes the file, or says that it stays.
    pub(super) fn write_file(&mut self, upstream: &UpstreamAddress, name: &str, is_dry: bool) -> anyhow::Result<()> {
        let mode = if self.waits { "prefer" } else { "require" };
        let shown = self.path.display().to_string();
        match &mut self.file {
            FilePlan::Keep(_, Some(key)) => {
                done(is_dry, &format!("{} {shown}, which holds key {:?}", kept(is_dry), key.id))
            }
            FilePlan::Keep(_, None) => done(is_dry, &format!("{} {shown}", kept(is_dry))),
            FilePlan::Create(key) => {
                if !is_dry {
                    create_config(&self.path, &text(upstream, name, key.as_ref(), mode))?;
                }
                let what = key
                    .as_ref()
                    .map_or_else(String::new, |key| format!(", with key {:?} and context_signing = {mode}", key.id));
                let verb = if is_dry { "write" } else { "wrote" };
                done(is_dry, &format!("{verb} {shown}, mode 0600{what}"));
            }
            FilePlan::Extend(file, key) => {
                if !is_dry {
                    file.append(&signing(key, mode));
                    file.staged()?.replace()?;
                }
                let verb = if is_dry { "add" } else { "added" };
                done(is_dry, &format!("{verb} key {:?} and context_signing = {mode} to {shown}", key.id));
            }
        }
        Ok(())
    }
}

fn kept(is_dry: bool) -> &'static str {
    if is_dry { "keep" } else { "kept" }
}

/// Where a proxy on this machine finds the server: a socket often lets in only users of its own system, such as the one
/// who runs this, so that the address is better where there is one.
pub(super) async fn upstream(database: &Database) -> anyhow::Result<UpstreamAddress> {
    let UpstreamAddress { host, port, .. } = database.address.clone();
    if !host.starts_with('/') {
        return Ok(UpstreamAddress { host, port, tls: None, tcp: TcpTimes::default() });
    }
    let listens = "SELECT EXISTS (SELECT FROM unnest(string_to_array(replace(current_setting('listen_addresses'), ' ', ''), ',')) a
                                  WHERE a IN ('*', '0.0.0.0', '127.0.0.1', 'localhost'))";
    let listens = database.client().query_one(listens, &[]).await.map_err(|error| explained(&error))?;
    let host = if listens.get(0) { "127.0.0.1".into() } else { host };
    Ok(UpstreamAddress { host, port, tls: None, tcp: TcpTimes::default() })
}

fn text(upstream: &UpstreamAddress, name: &str, key: Option<&SigningKey>, mode: &str) -> String {
    let UpstreamAddress { host, port, .. } = upstream;
    let signing = match key {
        Some(key) => signing(key, mode),
        None => "\n# Contexts are plain settings: SQL in a session can change the tenant. `pgvpd init --force` adds a key.\n".into(),
    };
    format!(
        "# pgvpd.conf, written by `pgvpd init` for the database {name}. Every option: docs/configuration.md.\n\
         # Check with: pgvpd --check-config --config FILE. The proxy reads it again on SIGHUP.\n\
         \n\
         # The PostgreSQL server; an absolute path is the directory of its Unix socket.\n\
         upstream_host = {host}\n\
         upstream_port = {port}\n\
         {signing}\
         {SECRETS}",
        name = name.escape_default(),
    )
}

/// Off, since it takes a password that init does not have.
const SECRETS: &str = "\n\
    # Clients log in with the password that PostgreSQL has for their role. SQL in a session can change it (ALTER ROLE ... PASSWORD), and\n\
    # whoever did that logs in as any tenant. Where tenants' SQL is not to be trusted that far, the proxy has secrets of its own;\n\
    # docs/security.md says how:\n\
    # pool_mode = session\n\
    # auth_file = userlist.txt\n";

fn signing(key: &SigningKey, mode: &str) -> String {
    format!(
        "\n\
         # The proxy signs each session's context with this key and the database verifies it, so that no SQL in a session can\n\
         # name another tenant. Who reads the key can: keep this file to the user that runs pgvpd. `pgvpd key rotate` replaces it.\n\
         # require: no session begins unless the database has verified its context. prefer: also where it does not verify yet.\n\
         context_signing = {mode}\n\
         context_key_id = {}\n\
         context_signing_key = {}\n",
        key.id,
        *key.digits(),
    )
}
