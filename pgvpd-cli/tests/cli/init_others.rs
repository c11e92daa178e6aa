//! `pgvpd init` where something is there already: names, roles and passwords that belong to somebody else.

use crate::support::{Site, TestResult, logging};

/// A server of a test's own, since a role's password belongs to the whole server, with databases `first` and `second`.
async fn sites() -> Result<(Site, Site), Box<dyn std::error::Error>> {
    let postgres: &'static _ = Box::leak(Box::new(logging().start().await?));
    for database in ["first", "second"] {
        postgres.create_database(database).await?;
    }
    let of = |name| Site::of(postgres, name, postgres.superuser(), postgres.password());
    Ok((of("first"), of("second")))
}

async fn kept_password(site: &Site) -> Vec<String> {
    site.column("SELECT coalesce(rolpassword, '') FROM pg_authid WHERE rolname = 'app_user'").await
}

#[tokio::test]
async fn a_second_database_gives_app_user_no_new_password() -> TestResult {
    let (first, second) = sites().await?;
    first.done(&["init", "--app-password-file", "password"]);
    let kept = kept_password(&first).await;
    for arguments in
        [&["init", "--app-password-file", "password"][..], &["init", "--dry-run", "--app-password-file", "password"]]
    {
        let said = second.refused(arguments);
        assert!(
            said.contains("role app_user has a password already, and there is no password that holds it"),
            "{said}"
        );
        assert!(said.contains("--force"), "{said}");
    }
    std::fs::write(second.path("password"), "another\n")?;
    let said = second.refused(&["init", "--app-password-file", "password"]);
    assert!(said.contains("has a password already, and password holds another one"), "{said}");
    assert_eq!(
        second.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(),
        0,
        "refused before anything"
    );
    assert_eq!(second.files(), ["password"]);
    assert_eq!(kept_password(&first).await, kept);
    assert!(
        first.log_in("app_user", first.read("password").trim()).await.is_ok(),
        "the first application logs in as before"
    );

    // The file that holds it, and none.
    std::fs::copy(first.path("password"), second.path("password"))?;
    let said = second.done(&["init", "--app-password-file", "password"]);
    assert!(said.contains("kept the password of app_user, which is the one in password"), "{said}");
    second.done(&["init"]);
    assert_eq!(kept_password(&first).await, kept, "not even another verifier of it");

    std::fs::set_permissions(second.path("password"), std::os::unix::fs::PermissionsExt::from_mode(0o644))?;
    std::fs::write(second.path("password"), "another\n")?;
    let said = second.done(&["init", "--app-password-file", "password", "--force"]);
    assert!(
        said.contains("WARNING:  password can be read by everybody, and holds a password: chmod 600 password"),
        "{said}"
    );
    assert!(first.log_in("app_user", "another").await.is_ok());
    Ok(())
}

#[tokio::test]
async fn a_role_without_a_password_is_given_one() -> TestResult {
    let (first, second) = sites().await?;
    first.done(&["init"]);
    assert_eq!(kept_password(&first).await, [""]);
    for text in ["", "\n", "one\ntwo\n"] {
        std::fs::write(second.path("password"), text)?;
        let said = second.refused(&["init", "--app-password-file", "password"]);
        assert!(said.contains("does not hold one line"), "{said}");
    }
    std::fs::write(second.path("password"), "two words\n")?;
    let said = second.done(&["init", "--dry-run", "--app-password-file", "password"]);
    assert!(said.contains("would give app_user the password in password"), "{said}");
    second.done(&["init", "--no-signing", "--force", "--app-password-file", "password"]);
    assert!(first.log_in("app_user", "two words").await.is_ok());
    Ok(())
}

#[tokio::test]
async fn the_applications_own_function_stops_init_and_nothing_changes() -> TestResult {
    let site = Site::new("init_own_function").await;
    site.execute(
        "CREATE FUNCTION current_tenant_id() RETURNS text LANGUAGE sql STABLE AS $$ SELECT current_setting('shop.tenant', true) $$;
         CREATE TABLE orders (tenant_id text); ALTER TABLE orders ENABLE ROW LEVEL SECURITY;
         CREATE POLICY own_tenant ON orders USING (tenant_id = current_tenant_id())",
    )
    .await;
    let body = "SELECT prosrc FROM pg_proc WHERE proname = 'current_tenant_id'";
    let before = site.column(body).await;
    for arguments in [&["init", "--app-password-file", "password", "--force"][..], &["init", "--dry-run"]] {
        let said = site.refused(arguments);
        for part in [
            "setup.sql: function public.current_tenant_id() is not one of pgvpd's own: it belongs to role ",
            "detail: Used by policy own_tenant on table public.orders.",
            "hint: Nothing was changed. Rename it: ALTER ROUTINE public.current_tenant_id() RENAME TO",
        ] {
            assert!(said.contains(part), "{part:?} is not in:\n{said}");
        }
        assert!(site.files().is_empty(), "{:?}", site.files());
        assert_eq!(site.column(body).await, before);
        assert_eq!(site.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(), 0);
    }
    // A name of one of the later files: what the first has done is taken back, too.
    site.execute("ALTER FUNCTION current_tenant_id() RENAME TO app_tenant; CREATE FUNCTION pgvpd_audit() RETURNS int LANGUAGE sql AS 'SELECT 1'").await;
    let said = site.refused(&["init"]);
    assert!(said.contains("function public.pgvpd_audit() is not one of pgvpd's own"), "{said}");
    assert_eq!(site.column("SELECT nspname::text FROM pg_namespace WHERE nspname = 'pgvpd'").await.len(), 0);
    Ok(())
}

/// What init says to do next can be pasted into a shell as it stands.
#[tokio::test]
async fn the_next_steps_can_be_run_as_they_are_printed() -> TestResult {
    let site = Site::new("it's a shop/é").await;
    site.execute(
        "CREATE SCHEMA sales; CREATE TABLE sales.orders (tenant_id text); CREATE TABLE shared (tenant_id text); CREATE TABLE mine (tenant_id text);
         GRANT SELECT ON shared TO pg_monitor",
    )
    .await;
    std::fs::write(site.path("my proxy.conf"), "port = 7001\nlisten_host = ::\n")?;
    let said = site.done(&["init", "--no-signing", "--config", "my proxy.conf"]);
    for part in [
        r"-d 'it'\''s a shop/é' mine sales.orders shared",
        r"-d 'it'\''s a shop/é' -c 'GRANT USAGE ON SCHEMA sales TO app_user; GRANT SELECT, INSERT, UPDATE, DELETE ON shared TO app_user;'",
        "pgvpd --config 'my proxy.conf'",
        "psql 'postgresql://app_user.acme@[::1]:7001/it%27s%20a%20shop%2F%C3%A9'",
        r"pgvpd check -d 'it'\''s a shop/é' --config 'my proxy.conf'",
        "auth_file",
    ] {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
    // As printed, in order, from protect to the rights that it leaves to others.
    let steps = said.lines().filter_map(|line| line.trim_start().split_once(". ").map(|(_, step)| step.to_owned()));
    for step in steps.filter(|step| step.starts_with("pgvpd protect") || step.contains("GRANT")) {
        let program = crate::support::bare_command().get_program().to_owned();
        let script = step.replacen("pgvpd protect", "\"$0\" protect", 1);
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", &script]).arg(program);
        let output = site.command(&shell).output()?;
        assert!(output.status.success(), "{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let rights = "SELECT t FROM unnest('{mine,shared,sales.orders}'::text[]) t WHERE has_table_privilege('app_user', t, 'SELECT')
                  AND has_table_privilege('app_user', t, 'INSERT') AND has_schema_privilege('app_user', 'sales', 'USAGE') ORDER BY 1";
    assert_eq!(site.column(rights).await, ["mine", "sales.orders", "shared"]);
    Ok(())
}
