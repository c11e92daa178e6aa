//! The database's keys: `pgvpd.signing_key`, by the functions of `sql/setup.sql`.

use anyhow::{Context, anyhow};
use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{Client, Transaction};
use zeroize::Zeroizing;

use crate::database::explained;
use crate::signing_key::SigningKey;

/// A key that the database knows.
pub(crate) struct KnownKey {
    pub(crate) id: String,
    inner_pad: Zeroizing<Vec<u8>>,
    /// What is signed with it is verified.
    pub(crate) is_valid: bool,
    /// When that ends, as the server prints it; `None` for never.
    pub(crate) expires: Option<String>,
}

impl KnownKey {
    pub(crate) fn is(&self, key: &SigningKey) -> bool {
        self.id == key.id && self.inner_pad == key.inner_pad()
    }
}

/// What the database knows of a key that a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Unknown,
    Valid,
    Expired,
    /// Another key has its id.
    Other,
}

/// The standing of a key among these.
pub(crate) fn standing(known: &[KnownKey], key: &SigningKey) -> Standing {
    match known.iter().find(|known| known.id == key.id) {
        None => Standing::Unknown,
        Some(known) if !known.is(key) => Standing::Other,
        Some(known) if known.is_valid => Standing::Valid,
        Some(_) => Standing::Expired,
    }
}

/// The keys, by their ids; none where pgvpd is not installed.
pub(crate) async fn known(client: &Client) -> anyhow::Result<Vec<KnownKey>> {
    if !is_installed(client).await? {
        return Ok(Vec::new());
    }
    let keys =
        "SELECT kid, ipad, not_after > now(), CASE WHEN isfinite(not_after) THEN not_after::timestamptz(0)::text END
                FROM pgvpd.signing_key ORDER BY kid";
    let rows = client.query(keys, &[]).await.map_err(|error| refused(&error))?;
    let key = |row: tokio_postgres::Row| KnownKey {
        id: row.get(0),
        inner_pad: Zeroizing::new(row.get(1)),
        is_valid: row.get(2),
        expires: row.get(3),
    };
    Ok(rows.into_iter().map(key).collect())
}

/// True where there is a table of keys.
pub(crate) async fn is_installed(client: &Client) -> anyhow::Result<bool> {
    let there = client.query_one("SELECT to_regclass('pgvpd.signing_key') IS NOT NULL", &[]).await;
    Ok(there.map_err(|error| explained(&error))?.get(0))
}

/// Installs a key that the database does not know.
///
/// Its bytes travel as COPY data: a statement's text is in the server's log and in `pg_stat_activity`, and with
/// `log_statement` or `log_min_duration_statement` the log has the values of bound parameters as well.
pub(crate) async fn install(transaction: &Transaction<'_>, key: &SigningKey) -> anyhow::Result<()> {
    // Whoever else installs one waits here; contexts are verified meanwhile.
    let lock = "LOCK TABLE pgvpd.signing_key IN SHARE ROW EXCLUSIVE MODE";
    transaction.batch_execute(lock).await.map_err(|error| refused(&error))?;
    let taken = transaction.query_opt("SELECT FROM pgvpd.signing_key WHERE kid = $1", &[&key.id]).await;
    if taken.map_err(|error| refused(&error))?.is_some() {
        return Err(anyhow!(
            "a key {:?} was installed in the same moment; look at `pgvpd key list`, and run this again",
            key.id
        ));
    }
    let carry = "CREATE TEMPORARY TABLE pgvpd_new_key (kid text, key bytea) ON COMMIT DROP";
    transaction.batch_execute(carry).await.map_err(|error| refused(&error)).context("cannot hand the key over")?;
    copy(transaction, key).await.map_err(|error| refused(&error))?;
    let installed = transaction.execute("SELECT pgvpd.install_key(kid, key) FROM pg_temp.pgvpd_new_key", &[]).await;
    installed.map_err(|error| refused(&error))?;
    Ok(())
}

async fn copy(transaction: &Transaction<'_>, key: &SigningKey) -> Result<(), tokio_postgres::Error> {
    let sink = transaction.copy_in("COPY pg_temp.pgvpd_new_key FROM STDIN").await?;
    let mut sink = std::pin::pin!(sink);
    let line = Zeroizing::new(format!("{}\t\\\\x{}\n", key.id, *key.digits()));
    sink.send(Bytes::copy_from_slice(line.as_bytes())).await?;
    sink.finish().await?;
    Ok(())
}

/// Lets a key expire in so many seconds; what expires sooner stays so. Gives the time, as the server prints it.
pub(crate) async fn retire(transaction: &Transaction<'_>, id: &str, seconds: f64) -> anyhow::Result<String> {
    let retire = "SELECT pgvpd.retire_key(kid, least(not_after, now() + make_interval(secs => $2))),
                         least(not_after, now() + make_interval(secs => $2))::timestamptz(0)::text
                  FROM pgvpd.signing_key WHERE kid = $1";
    let row = transaction.query_one(retire, &[&id, &seconds]).await.map_err(|error| refused(&error))?;
    Ok(row.get(1))
}

/// Removes the keys that have expired, but for these; gives their ids.
pub(crate) async fn remove_expired(transaction: &Transaction<'_>, kept: &[&str]) -> anyhow::Result<Vec<String>> {
    let remove = "DELETE FROM pgvpd.signing_key WHERE not_after <= now() AND kid <> ALL ($1) RETURNING kid";
    let rows = transaction.query(remove, &[&kept]).await.map_err(|error| refused(&error))?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

fn refused(error: &tokio_postgres::Error) -> anyhow::Error {
    let is_forbidden = error.code() == Some(&tokio_postgres::error::SqlState::INSUFFICIENT_PRIVILEGE);
    match explained(error) {
        explained if is_forbidden => {
            anyhow!(
                "{explained}\n  hint: Run this as the role that ran pgvpd init (the owner of schema pgvpd), or as a superuser."
            )
        }
        explained => explained,
    }
}
