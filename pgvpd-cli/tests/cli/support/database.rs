//! One PostgreSQL for all tests of a run, with the rows of two tenants, and logins through a proxy.

use std::net::SocketAddr;

use pgvpd_core::sql::SETUP;
use pgvpd_core::testing::Postgres;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, Error, NoTls};

use super::within;

/// Password of every role; a word that stands nowhere by chance.
pub(crate) const PASSWORD: &str = "correct-horse-7391";

const DATABASE: &str = "shop";

/// Each way in which a password goes through the proxy.
const HBA: [&str; 3] = [
    "host all md5_user 127.0.0.1/32 md5",
    "host all plain_user 127.0.0.1/32 password",
    "host all all 127.0.0.1/32 scram-sha-256",
];

/// The run's PostgreSQL, started by whoever asks first. It ends with this process.
pub(crate) async fn postgres() -> &'static Postgres {
    static POSTGRES: OnceCell<Postgres> = OnceCell::const_new();
    POSTGRES.get_or_init(start).await
}

async fn start() -> Postgres {
    let postgres = Postgres::builder().hba(HBA).start().await.expect("PostgreSQL starts");
    postgres.create_database(DATABASE).await.expect("database");
    let roles = format!(
        "ALTER ROLE app_user PASSWORD '{PASSWORD}';
         CREATE ROLE plain_user LOGIN PASSWORD '{PASSWORD}';
         SET password_encryption = 'md5';
         CREATE ROLE md5_user LOGIN PASSWORD '{PASSWORD}';"
    );
    let orders = "
         CREATE TABLE orders (tenant_id text NOT NULL);
         INSERT INTO orders VALUES ('acme'), ('acme'), ('acme'), ('globex'), ('globex');
         SELECT pgvpd_protect('orders');
         GRANT SELECT ON orders TO app_user, plain_user, md5_user;";
    for sql in [SETUP, &roles, orders] {
        postgres.execute(DATABASE, sql).await.expect("set-up");
    }
    postgres
}

/// Logs in through a proxy.
pub(crate) async fn log_in(proxy: SocketAddr, user: &str) -> Result<Client, Error> {
    log_in_with(proxy, user, PASSWORD).await
}

/// Logs in through a proxy with another password.
pub(crate) async fn log_in_with(proxy: SocketAddr, user: &str, password: &str) -> Result<Client, Error> {
    let mut config = tokio_postgres::Config::new();
    config.host(proxy.ip().to_string()).port(proxy.port()).user(user).password(password).dbname(DATABASE);
    let (client, connection) = within("login", config.connect(NoTls)).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// How many orders a session sees.
pub(crate) async fn orders(client: &Client) -> Result<i64, Error> {
    let row = within("orders", client.query_one("SELECT count(*) FROM orders", &[])).await?;
    Ok(row.get(0))
}
