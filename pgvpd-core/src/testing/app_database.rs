//! What an application's database needs besides the server: pgvpd's SQL, the role, a password.

use super::{Postgres, PostgresError};
use crate::sql::{HELPERS, SETUP};

impl Postgres {
    /// The role that applications log in as: `app_user`. [`create_app_database`](Self::create_app_database) creates it.
    pub fn app_user(&self) -> &'static str {
        "app_user"
    }

    /// `app_user`'s password, random.
    pub fn app_password(&self) -> &str {
        &self.app_password
    }

    /// A URL to a database as `app_user`, with the password, past any proxy: a session without context.
    pub fn app_url(&self, dbname: &str) -> String {
        self.url_as(self.app_user(), &self.app_password, dbname)
    }

    /// Makes a database with `sql/setup.sql` and `sql/helpers.sql` in it, and gives `app_user` its password.
    ///
    /// ```
    /// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
    /// use pgvpd_core::testing::Postgres;
    ///
    /// let postgres = Postgres::builder().start().await?;
    /// postgres.create_app_database("app").await?;
    /// postgres.execute("app", "CREATE TABLE t (tenant_id text); SELECT pgvpd_protect('t')").await?;
    /// postgres.stop().await?;
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new()?.block_on(example())?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`PostgresError::Sql`], for instance if the database exists.
    pub async fn create_app_database(&self, name: &str) -> Result<(), PostgresError> {
        self.create_database(name).await?;
        self.execute(name, SETUP).await?;
        self.execute(name, HELPERS).await?;
        // Hexadecimal digits: nothing to escape. A utility statement takes no parameters.
        self.execute(name, &format!("ALTER ROLE app_user PASSWORD '{}'", self.app_password)).await
    }
}
