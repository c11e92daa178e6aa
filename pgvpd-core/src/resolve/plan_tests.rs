use proptest::prelude::*;

use super::*;
use crate::resolve::Source;

fn given() -> Vec<VariableName> {
    ["app.tenant", "app.user"].map(|name| VariableName::new(name).expect("valid")).to_vec()
}

fn resolver(name: &str, params: &[&str], inject: &[&str], depends_on: &[&str]) -> Resolver {
    let inject: Vec<(&str, &str)> = inject.iter().map(|variable| (*variable, "x")).collect();
    let resolver = Resolver::new(name, Source::Sql("SELECT 1 AS x".into()), params, &inject).expect("valid names");
    Resolver { depends_on: depends_on.iter().map(|name| (*name).to_owned()).collect(), ..resolver }
}

fn levels(resolvers: Vec<Resolver>) -> Result<Vec<Vec<String>>, Vec<String>> {
    let plan = Plan::new(resolvers, &given())?;
    Ok(plan.levels().iter().map(|level| level.iter().map(|resolver| resolver.name.clone()).collect()).collect())
}

#[test]
fn those_that_need_nothing_of_each_other_run_at_once_and_others_after_what_they_need() {
    let found = levels(vec![
        resolver("docs", &["app.team"], &["app.docs"], &[]),
        resolver("org", &["app.tenant"], &["app.org"], &[]),
        resolver("team", &["app.user", "app.org"], &["app.team"], &[]),
        resolver("plan", &[], &["app.plan"], &["org"]),
        resolver("user", &["app.user"], &["app.name", "app.mail"], &[]),
    ]);
    let expected = [&["org", "user"][..], &["team", "plan"], &["docs"]];
    assert_eq!(found, Ok(expected.map(|names| names.iter().map(|name| (*name).to_owned()).collect()).to_vec()));
}

#[test]
fn what_contradicts_itself_is_refused_all_of_it_at_once() {
    let cases = [
        (
            vec![resolver("a", &["app.nothing"], &["app.a"], &[])],
            "unknown parameter app.nothing; there are app.tenant, app.user, app.a",
        ),
        (vec![resolver("a", &[], &["app.a"], &[]), resolver("a", &[], &["app.b"], &[])], "another one has this name"),
        (vec![resolver("a", &[], &["app.a"], &["b"])], "depends_on names \"b\""),
        (vec![resolver("a", &[], &["app.a"], &["a"])], "wait for each other: a"),
        (vec![resolver("a", &["app.a"], &["app.a"], &[])], "wait for each other: a"),
        (
            vec![resolver("a", &["app.b"], &["app.a"], &[]), resolver("b", &[], &["app.b"], &["a"])],
            "wait for each other: a, b",
        ),
        (vec![resolver("a", &[], &["app.a"], &[]), resolver("b", &[], &["app.a"], &[])], "app.a is given by \"a\" too"),
        (vec![resolver("a", &[], &["app.user"], &[])], "app.user is filled by the user name"),
        (vec![resolver("a", &[], &[], &[])], "inject is empty"),
        (vec![resolver("a b", &[], &["app.a"], &[])], "its name is not"),
    ];
    for (resolvers, expected) in cases {
        let problems = levels(resolvers).expect_err(expected).join("\n");
        assert!(problems.contains(expected), "{problems}");
    }
    let both = levels(vec![resolver("a", &["app.x"], &["app.user"], &["z"])]).expect_err("three problems");
    assert_eq!(both.len(), 3, "{both:?}");
}

#[test]
fn a_file_is_read_and_what_is_wrong_with_it_is_named() {
    let read = Resolver::from_toml(
        "[[resolver]]\nname = \"a\"\nquery = '''SELECT 1 AS x'''\nparams = [\"app.user\"]\ninject = { \"app.a\" = \"x\" }\n\
         required = true\ncache_ttl = 1.5\ncache_negative = true\non_change = \"refresh\"\n",
    );
    let read = read.expect("valid");
    assert_eq!(read.len(), 1);
    let resolver = read.first().expect("one");
    assert!(resolver.required && resolver.cache_negative);
    assert_eq!(resolver.cache_ttl, std::time::Duration::from_millis(1500));
    assert_eq!(resolver.on_change, crate::resolve::OnChange::Refresh);
    assert_eq!(Resolver::from_toml("").expect("none"), []);
    let of = |more: &str| format!("[[resolver]]\nname = \"a\"\nquery = \"SELECT 1\"\n{more}\n");
    for (text, expected) in [
        ("[[resolvers]]", "unknown field `resolvers`"),
        ("x", "TOML parse error"),
        (&of(""), "missing field `inject`"),
        (&of("inject = { \"app.a\" = \"x\" }\nparms = []"), "unknown field `parms`"),
        (&of("inject = { app = \"x\" }"), "\"app\" is not a variable name"),
        (&of("inject = { \"pgvpd.a\" = \"x\" }"), "kept for the proxy"),
        (&of("inject = { \"app.a\" = \"x\" }\nparams = [\"X\"]"), "\"X\" is not a variable name"),
        (&of("inject = { \"app.a\" = \"x\" }\ncache_ttl = -1"), "cache_ttl = -1"),
        (&of("inject = { \"app.a\" = \"x\" }\ncache_ttl = nan"), "cache_ttl"),
        (&of("inject = { \"app.a\" = \"x\" }\ncache_negative = true"), "has no effect without cache_ttl"),
        (&of("inject = { \"app.a\" = \"x\" }\non_change = \"other\""), "unknown variant `other`"),
        ("[[resolver]]\nname = \"a\"\nquery = \" \"\ninject = { \"app.a\" = \"x\" }", "query is empty"),
    ] {
        let problems = Resolver::from_toml(text).expect_err(expected).join("\n");
        assert!(problems.contains(expected), "{text}: {problems}");
    }
}

proptest! {
    /// Whatever depends on whatever: each runs once, after all that it needs, or the whole is refused.
    #[test]
    fn any_graph_is_ordered_or_refused(edges in prop::collection::vec((0_usize..8, 0_usize..8), 0..16)) {
        let name = |index: usize| format!("r{index}");
        let resolvers: Vec<Resolver> = (0..8)
            .map(|index| {
                let variable = format!("app.v{index}");
                let needs: Vec<String> = edges.iter().filter(|(of, _)| *of == index).map(|(_, on)| name(*on)).collect();
                let needs: Vec<&str> = needs.iter().map(String::as_str).collect();
                resolver(&name(index), &[], &[&variable], &needs)
            })
            .collect();
        match levels(resolvers) {
            Ok(levels) => {
                let place = |index: usize| levels.iter().position(|level| level.contains(&name(index)));
                prop_assert_eq!(levels.iter().flatten().count(), 8);
                for (of, on) in &edges {
                    prop_assert!(place(*on) < place(*of), "{levels:?}");
                }
            }
            Err(problems) => prop_assert!(problems.iter().all(|problem| problem.contains("wait for each other"))),
        }
    }

    #[test]
    fn any_text_is_a_file_or_is_refused(text in "\\PC{0,200}") {
        let _ = Resolver::from_toml(&text);
    }
}
