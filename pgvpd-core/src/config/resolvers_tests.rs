use std::io::Write;

use super::super::Settings;
use super::*;

const PLAN: &str = "[[resolver]]\nname = \"plan\"\nquery = \"SELECT plan FROM plans WHERE tenant_id = $1\"\n\
    params = [\"app.current_tenant_id\"]\ninject = { \"app.plan\" = \"plan\" }\n";

fn config(text: &str, pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let path =
        std::env::temp_dir().join(format!("pgvpd-resolvers-{}-{:?}", std::process::id(), std::thread::current().id()));
    std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
    let mut settings = Settings::new();
    settings.set("resolvers", path.display())?;
    for (name, value) in pairs {
        settings.set(name, value)?;
    }
    let config = Config::from_settings(settings);
    std::fs::remove_file(&path).expect("removed");
    config
}

const ACCOUNT: &[(&str, &str)] = &[("resolver_user", "resolver"), ("resolver_password", "hunter2")];

#[test]
fn resolvers_are_read_and_their_variables_are_no_clients() -> Result<(), ConfigError> {
    let config = config(PLAN, &[ACCOUNT, &[("resolver_notify", "true"), ("resolver_cache_size", "1")]].concat())?;
    assert_eq!(config.resolvers.all().len(), 1);
    assert!(config.identity.resolved.iter().any(|variable| variable.as_str() == "app.plan"));
    assert_eq!((config.resolvers.timeout, config.resolvers.cache_bytes), (Duration::from_secs(5), 1 << 20));
    assert!(!format!("{config:?}").contains("hunter2"));
    Ok(())
}

#[test]
fn options_that_have_no_effect_or_cannot_have_it_are_refused() {
    let refreshed = format!("{PLAN}on_change = \"refresh\"\n");
    for (text, pairs, expected) in [
        (PLAN, &[("resolver_password", "x")][..], "needs resolver_user"),
        (PLAN, &[("resolver_notify", "true")], "needs resolver_user"),
        (PLAN, &[("resolver_pool_size", "2")], "needs resolver_user"),
        (PLAN, &[("resolver_timeout", "0")], "resolver_timeout"),
        (PLAN, &[("resolver_cache_size", "0")], "give 1 or more"),
        (PLAN, &[("resolvers", "/nonexistent")], "cannot read /nonexistent"),
        (PLAN, &[("context_variables", "app.tenant")], "unknown parameter app.current_tenant_id"),
        (PLAN, &[("context_variables", "app.current_tenant_id,app.plan")], "app.plan is filled by the user name"),
        (&refreshed, &[], "on_change needs resolver_user"),
        ("x", &[], "TOML parse error"),
    ] {
        let error = config(text, pairs).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(config(&refreshed, ACCOUNT).is_ok());
    assert!(config(PLAN, &[("resolver_notify", "false")]).is_ok());
}

#[test]
fn a_programs_own_resolvers_come_beside_those_of_the_file() -> Result<(), Box<dyn std::error::Error>> {
    let more = Resolver::from_query("more", "SELECT $1 AS x", &["app.plan"], &[("app.more", "x")])?;
    let config = config(PLAN, &[])?.with_resolvers(vec![more.clone()])?;
    assert_eq!(config.resolvers.plan.levels().len(), 2);
    assert!(config.identity.resolved.len() == 2);
    let error = config.with_resolvers(vec![more]).map(drop).expect_err("twice");
    assert!(error.to_string().contains("another one has this name"), "{error}");
    Ok(())
}
