//! The worked example of `docs/resolvers.md`.

use std::io::Write;

use pgvpd_core::sql::HELPERS;
use tempfile::NamedTempFile;
use tokio_postgres::Client;

use crate::Cluster;

/// Its tables and rows, and a role that asks. The page has the same, but for the rows.
pub const EXAMPLE: &str = r#"
    CREATE ROLE resolver LOGIN PASSWORD 'secret';
    CREATE TABLE members (org text NOT NULL, user_id text NOT NULL, is_admin boolean NOT NULL, PRIMARY KEY (org, user_id));
    CREATE TABLE team_members (org text NOT NULL, team_id text NOT NULL, user_id text NOT NULL, PRIMARY KEY (org, team_id, user_id));
    CREATE TABLE doc_grants (org text NOT NULL, doc_id int NOT NULL, user_id text NOT NULL, PRIMARY KEY (org, doc_id, user_id));
    CREATE TABLE docs (tenant_id text NOT NULL, id int NOT NULL, created_by text, team_id text, title text, PRIMARY KEY (tenant_id, id));
    GRANT SELECT ON members, team_members, doc_grants TO app_user, resolver;
    GRANT SELECT, INSERT, UPDATE, DELETE ON docs TO app_user;
    SELECT pgvpd_protect('docs');
    SELECT pgvpd_protect_acl('docs', '[
        {"column": "created_by", "var": "app.user_id", "type": "text"},
        {"column": "id", "var": "app.granted_docs", "type": "text_array"},
        {"column": "team_id", "var": "app.team_ids", "type": "text_array"},
        {"column": "tenant_id", "var": "app.admin_of", "type": "text"}]');
    INSERT INTO members VALUES ('acme', '1', false), ('acme', '2', false), ('acme', '3', true), ('acme', '4', false), ('globex', '5', true);
    INSERT INTO team_members VALUES ('acme', 'red', '1'), ('globex', 'red', '5');
    INSERT INTO doc_grants VALUES ('acme', 3, '2');
    INSERT INTO docs VALUES ('acme', 1, '1', NULL, 'one'), ('acme', 2, NULL, 'red', 'two'), ('acme', 3, NULL, NULL, 'three'),
        ('globex', 9, NULL, 'red', 'nine');
"#;

/// Its resolvers.
pub const RESOLVERS: &str = include_str!("../../../resolvers.toml.example");

/// The proxies' key, and the statement that installs it.
pub const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
/// See [`KEY`].
pub const INSTALL: &str =
    "SELECT pgvpd.install_key('1', decode('000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f', 'hex'))";

/// A server of a test's own with the example, and an administrator's connection to it.
pub async fn site() -> (Cluster, Client) {
    let own = Cluster::start().await;
    let admin = own.admin().await;
    for sql in [HELPERS, EXAMPLE] {
        admin.batch_execute(sql).await.expect("the example");
    }
    (own, admin)
}

/// A file that is removed with this value.
pub struct ResolverFile {
    file: NamedTempFile,
    path: String,
}

impl ResolverFile {
    /// For the option `resolvers`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Writes other resolvers into it.
    pub fn rewrite(&mut self, text: &str) {
        std::fs::write(self.file.path(), text).expect("written");
    }
}

/// The example's resolvers, and these.
pub fn file(more: &str) -> ResolverFile {
    file_of(&format!("{RESOLVERS}\n{more}"))
}

/// A file of these resolvers.
pub fn file_of(text: &str) -> ResolverFile {
    let mut file = NamedTempFile::new().expect("a temporary file");
    file.write_all(text.as_bytes()).expect("written");
    let path = file.path().display().to_string();
    ResolverFile { file, path }
}
