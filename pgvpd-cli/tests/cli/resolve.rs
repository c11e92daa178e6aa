//! `pgvpd resolve`, and what `pgvpd check` says of resolvers.

use tempfile::TempDir;

use crate::check::{Checked, Said};
use crate::support::{TestResult, run, write_private};

/// `@role@` is a test's own: others log in as `app_user` at the same time.
const TABLES: &str = "
    CREATE ROLE @role@ LOGIN PASSWORD 'app';
    CREATE TABLE members (org text, user_id text, is_admin boolean); GRANT SELECT ON members TO @role@;
    INSERT INTO members VALUES ('acme', '42', true), ('acme', '7', false), (E'a\\x1b[2Jb', '1', true);
    CREATE TABLE teams (org text, team text); GRANT SELECT ON teams TO @role@; INSERT INTO teams VALUES ('acme', 'red');
    SELECT pgvpd_protect('teams', 'org')";

const RESOLVERS: &str = r#"
[[resolver]]
name = "member"
query = "SELECT CASE WHEN is_admin THEN org END AS admin_of FROM members WHERE org = $1 AND user_id = $2"
params = ["app.current_tenant_id", "app.user_id"]
inject = { "app.admin_of" = "admin_of" }
required = true
cache_ttl = 60

[[resolver]]
name = "teams"
query = "SELECT array_agg(team)::text AS teams FROM teams WHERE $1 <> ''"
params = ["app.admin_of"]
inject = { "app.teams" = "teams" }
"#;

struct Site {
    database: Checked,
    directory: TempDir,
    name: String,
    role: String,
}

impl Site {
    async fn new(name: &str) -> Self {
        let database = Checked::installed(name).await;
        let role = format!("{name}_app");
        database.execute(&TABLES.replace("@role@", &role)).await;
        let site = Self { database, directory: tempfile::tempdir().expect("a directory"), name: name.to_owned(), role };
        site.write(RESOLVERS, "");
        site
    }

    fn path(&self, file: &str) -> String {
        self.directory.path().join(file).display().to_string()
    }

    fn write(&self, resolvers: &str, more: &str) {
        std::fs::write(self.path("resolvers.toml"), resolvers).expect("written");
        let port = self.database.server().port();
        let text = format!(
            "upstream_port = {port}\ncontext_variables = app.current_tenant_id,app.user_id\nresolvers = {}\n{more}\n",
            self.path("resolvers.toml")
        );
        write_private(self.path("pgvpd.conf"), text);
    }

    /// As this tenant and user of the test's role.
    fn resolve(&self, payload: &str) -> Said {
        self.resolve_as(&format!("{}.{payload}", self.role))
    }

    fn resolve_as(&self, user: &str) -> Said {
        let config = self.path("pgvpd.conf");
        let arguments = ["resolve", user, "--database", &self.name, "--config", &config];
        let ended = run(&arguments, &[("PGPASSWORD", "app")]);
        let output = ended.get_output();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
        Said { code: output.status.code().expect("a code"), out: text(&output.stdout), err: text(&output.stderr) }
    }

    fn check(&self) -> Said {
        self.database.check(&["--config", &self.path("pgvpd.conf")])
    }
}

#[tokio::test]
async fn each_resolver_is_shown_with_what_it_was_given_and_found() -> TestResult {
    let site = Site::new("resolve_shown").await;
    let said = site.resolve("acme:42");
    assert_eq!(said.code, 0, "{said:?}");
    for line in [
        "resolve_shown_app.acme:42 in database resolve_shown: resolvers run as resolve_shown_app, on the session's own connection",
        "  $1 app.current_tenant_id = acme",
        "  $2 app.user_id = 42",
        "  -> app.admin_of = acme",
        "  $1 app.admin_of = acme",
        "  -> app.teams = {red}",
        "The login would have this context.",
    ] {
        assert!(said.out.lines().any(|found| found == line), "{line}\n{}", said.out);
    }
    assert!(said.out.contains("required, not cached here; the proxy keeps it for 60 s"), "{}", said.out);

    let said = site.resolve("acme:7");
    assert_eq!(said.code, 0, "{said:?}");
    assert!(said.out.contains("-> app.admin_of = (empty)"), "{}", said.out);
    assert!(said.out.contains("-> not run, since a parameter is empty"), "{}", said.out);

    let said = site.resolve("acme:8");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(said.out.contains("-> no row") && said.out.contains("refused because of member"), "{}", said.out);

    let said = site.resolve("a\u{1b}[2Jb:1");
    assert!(said.code == 0 && !said.out.contains('\u{1b}') && said.out.contains("a\\u{1b}[2Jb"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn with_a_role_of_the_proxys_own_it_needs_no_other_password() -> TestResult {
    let site = Site::new("resolve_account").await;
    site.database
        .execute(
            "CREATE ROLE asking LOGIN PASSWORD 'asks'; GRANT SELECT ON members, teams TO asking;
             REVOKE SELECT ON members FROM resolve_account_app",
        )
        .await;
    assert_eq!(site.resolve("acme:42").code, 1, "the tables are closed to the application");
    site.write(RESOLVERS, "resolver_user = asking\nresolver_password = asks");
    let said = site.resolve("acme:42");
    assert!(said.code == 0 && said.out.contains("resolvers run as asking (resolver_user)"), "{said:?}");
    assert!(said.out.contains("-> app.teams = {red}"), "under the tenant's context: {}", said.out);
    Ok(())
}

#[tokio::test]
async fn what_keeps_it_from_being_shown_is_said() -> TestResult {
    let site = Site::new("resolve_refused").await;
    let said = site.resolve_as("app_user");
    assert!(said.code == 2 && said.err.contains("names no tenant"), "{said:?}");
    site.write("", "");
    let said = site.resolve("acme:42");
    assert!(said.code == 2 && said.err.contains("no resolvers are configured"), "{said:?}");
    site.write(RESOLVERS, "resolver_user = resolve_refused_app\nresolver_password = wrong");
    let said = site.resolve("acme:42");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(
        said.out.contains("could not be asked") && said.out.contains("password authentication failed"),
        "{}",
        said.out
    );
    site.write("[[resolver]]\nname = 1", "");
    let said = site.resolve("acme:42");
    assert!(said.code == 2 && said.err.contains("resolvers.toml"), "{said:?}");
    Ok(())
}

#[tokio::test]
async fn the_check_finds_resolvers_that_do_not_fit_the_database() -> TestResult {
    let site = Site::new("check_resolvers").await;
    assert!(!site.check().out.contains("P10"), "{}", site.check().out);
    let of = |query: &str| {
        format!(
            "[[resolver]]\nname = \"bad\"\nquery = \"{query}\"\nparams = [\"app.user_id\"]\ninject = {{ \"app.x\" = \"x\" }}\n"
        )
    };
    for (query, expected) in [
        ("SELECT x FROM nowhere WHERE $1 = ''", "relation \"nowhere\" does not exist"),
        ("SELECT $1::text AS y", "returns no column x, for app.x; it returns y"),
        ("SELECT $1::text AS x, 2 AS x", "returns several columns x"),
        ("SELECT 'v' AS x", "has 0 parameters, and params gives 1"),
        ("SELECT $1::text AS x WHERE $2 = ''", "has 2 parameters, and params gives 1"),
        ("SELECT $1::bytea AS x", "its column x is of type bytea"),
        ("SELECT m AS x FROM members m WHERE user_id = $1", "its column x is of type members"),
    ] {
        site.write(&of(query), "");
        let said = site.check();
        assert!(said.has("P10", "resolver bad") && said.out.contains(expected), "{query}: {}", said.out);
    }
    site.write(&of("SELECT $1::int AS x"), "");
    assert!(!site.check().out.contains("P10"));
    Ok(())
}
