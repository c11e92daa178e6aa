//! A file of resolvers: read, checked, and ordered.

use pgvpd_core::{Config, Resolver, Source};

/// Reads the bytes as a file of resolvers.
pub fn run(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let resolvers = match Resolver::from_toml(text) {
        Ok(resolvers) => resolvers,
        Err(problems) => return told(&problems),
    };
    assert_eq!(Ok(&resolvers), Resolver::from_toml(text).as_ref(), "read twice");
    for resolver in &resolvers {
        assert!(matches!(&resolver.source, Source::Sql(query) if !query.trim().is_empty() && !query.contains('\0')));
    }
    match Config::default().with_resolvers(resolvers.clone()) {
        Ok(config) => {
            assert_eq!(config.resolvers.all(), resolvers);
            let mut given: Vec<&str> =
                resolvers.iter().flat_map(|it| &it.inject).map(|(name, _)| name.as_str()).collect();
            let mut kept: Vec<&str> = config.identity.resolved.iter().map(|name| name.as_str()).collect();
            given.sort_unstable();
            kept.sort_unstable();
            assert_eq!(given, kept, "a client may set none of them");
            given.dedup();
            assert_eq!(given.len(), kept.len(), "each has one that gives it");
            let named = &config.identity.variables;
            assert!(named.iter().all(|name| !given.contains(&name.as_str())), "none is the user name's");
        }
        Err(error) => told(&error.problems.into_iter().map(|problem| problem.message).collect::<Vec<_>>()),
    }
}

fn told(problems: &[String]) {
    assert!(!problems.is_empty() && problems.iter().all(|problem| !problem.is_empty()), "{problems:?}");
}
