//! What the demonstration shows and checks, over real connections through the proxy.

use std::net::SocketAddr;

use anyhow::{Context, Result};
use tokio_postgres::{Client, Config, Error, NoTls};

use super::{DATABASE, data};
use crate::print::{dim, heading, note, table, verdict};

/// Shows, checks, and counts.
pub(super) struct Checks {
    proxy: SocketAddr,
    password: String,
    held: usize,
    made: usize,
}

impl Checks {
    pub(super) fn new(proxy: SocketAddr, password: &str) -> Self {
        Self { proxy, password: password.into(), held: 0, made: 0 }
    }

    /// True if every check held.
    pub(super) async fn run(mut self) -> Result<bool> {
        self.reads().await?;
        self.writes().await?;
        self.forgeries().await?;
        self.logins().await;
        note("");
        verdict(self.held == self.made, &format!("isolation: {} of {} checks held", self.held, self.made));
        Ok(self.held == self.made)
    }

    async fn reads(&mut self) -> Result<()> {
        heading("1. The same query, two tenants");
        note(&dim("  SELECT id, tenant_id, customer, item, amount FROM orders"));
        for tenant in data::TENANTS.iter().take(2) {
            let client =
                self.log_in(&format!("app_user.{tenant}")).await.with_context(|| format!("login of {tenant}"))?;
            let rows = client
                .query("SELECT id::text, tenant_id, customer, item, amount::text FROM orders ORDER BY id", &[])
                .await?;
            let rows: Vec<Vec<String>> =
                rows.iter().map(|row| (0..5).map(|column| row.get(column)).collect()).collect();
            note("");
            note(&format!("  as app_user.{tenant}"));
            table(&["id", "tenant_id", "customer", "item", "amount"], &rows);
            let own = !rows.is_empty() && rows.iter().all(|row| row.get(1).is_some_and(|owner| owner == tenant));
            self.check(own, &format!("{tenant} sees its own rows and no others"));
        }
        Ok(())
    }

    async fn writes(&mut self) -> Result<()> {
        heading("2. acme writes to globex's rows");
        let client = self.log_in("app_user.acme").await.context("login of acme")?;
        for sql in
            ["UPDATE orders SET amount = 0 WHERE tenant_id = 'globex'", "DELETE FROM orders WHERE tenant_id = 'globex'"]
        {
            let changed = client.execute(sql, &[]).await?;
            note(&dim(&format!("  {sql}")));
            self.check(changed == 0, &format!("{changed} rows changed"));
        }
        let sql = "INSERT INTO orders (tenant_id, customer, item, amount) VALUES ('globex', 'x', 'x', 1)";
        note(&dim(&format!("  {sql}")));
        let refused = client.execute(sql, &[]).await;
        self.check_refused(refused.map(drop), "42501");
        Ok(())
    }

    /// What SQL that was injected into a session would try.
    async fn forgeries(&mut self) -> Result<()> {
        heading("3. acme claims to be globex");
        let client = self.log_in("app_user.acme").await.context("login of acme")?;
        for sql in [
            "SET app.current_tenant_id = 'globex'",
            "SET pgvpd.context = 'v1.1.1.0.0.0.73686f70.6170705f75736572.7b7d.00'",
            "SET row_security = off",
        ] {
            note(&dim(&format!("  {sql}")));
            client.batch_execute(sql).await?;
            // An error is as good as no rows.
            let rows = client.query("SELECT tenant_id FROM orders", &[]).await.unwrap_or_default();
            let foreign = rows.iter().filter(|row| row.get::<_, &str>(0) != "acme").count();
            self.check(foreign == 0, &format!("{foreign} rows of globex, {} of acme", rows.len() - foreign));
        }
        Ok(())
    }

    async fn logins(&mut self) {
        heading("4. Logins without a tenant");
        for user in ["app_user", "app_user."] {
            note(&dim(&format!("  user={user}")));
            let refused = self.log_in(user).await;
            self.check_refused(refused.map(drop), "28000");
        }
    }

    async fn log_in(&self, user: &str) -> Result<Client, Error> {
        let (client, connection) = Config::new()
            .host(self.proxy.ip().to_string())
            .port(self.proxy.port())
            .user(user)
            .password(&self.password)
            .dbname(DATABASE)
            .connect(NoTls)
            .await?;
        tokio::spawn(connection);
        Ok(client)
    }

    fn check_refused(&mut self, outcome: Result<(), Error>, code: &str) {
        match outcome.as_ref().map_err(Error::as_db_error) {
            Err(Some(error)) => {
                let expected = error.code().code() == code;
                self.check(expected, &format!("refused: {}: {}", error.severity(), error.message()));
                if let Some(hint) = error.hint() {
                    note(&dim(&format!("       HINT: {hint}")));
                }
            }
            Err(None) => self.check(false, "failed for another reason"),
            Ok(()) => self.check(false, "was let through"),
        }
    }

    fn check(&mut self, held: bool, text: &str) {
        self.made += 1;
        self.held += usize::from(held);
        verdict(held, text);
    }
}
