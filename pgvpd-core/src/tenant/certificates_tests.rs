//! What fits a map, what does not, and that there is one way to fit.

use proptest::prelude::*;

use super::*;

fn map(rules: &[(&str, &str, &str, &str)]) -> Result<CertMap, String> {
    let block = |(kind, name, role, tenant): &(&str, &str, &str, &str)| {
        format!("[[identity]]\n{kind} = '{name}'\nrole = '{role}'\ntenant = '{tenant}'\n")
    };
    CertMap::parse(&rules.iter().map(block).collect::<String>())
}

fn cn(name: &str) -> CertificateNames {
    CertificateNames { common_name: Some(name.into()), ..CertificateNames::default() }
}

fn dns(name: &str) -> CertificateNames {
    CertificateNames { dns: vec!["other.example.org".into(), name.into()], ..CertificateNames::default() }
}

fn uri(name: &str) -> CertificateNames {
    CertificateNames { uris: vec![name.into()], ..CertificateNames::default() }
}

#[test]
fn a_star_is_of_one_part_and_what_it_stands_for_can_be_claimed() -> Result<(), String> {
    let map = map(&[
        ("uri", "spiffe://example.org/tenant/*", "app_user", "$1"),
        ("dns", "*.app.Example.org", "app_$1", "*"),
        ("cn", "svc-*", "app_user", "$1-*"),
    ])?;
    for (names, role, tenant, permitted) in [
        (uri("spiffe://example.org/tenant/acme"), "app_user", "acme", true),
        (uri("spiffe://example.org/tenant/acme"), "app_user", "globex", false),
        (uri("spiffe://example.org/tenant/acme"), "admin", "acme", false),
        (uri("spiffe://example.org/tenant/acme/globex"), "app_user", "acme/globex", false),
        (uri("spiffe://example.org/tenant/"), "app_user", "", false),
        (uri("spiffe://example.com/tenant/acme"), "app_user", "acme", false),
        (uri("SPIFFE://example.org/tenant/acme"), "app_user", "acme", false),
        (dns("web.app.example.ORG"), "app_web", "anyone", true),
        (dns("web.app.example.org"), "app_web", "", false),
        (dns("a.web.app.example.org"), "app_a.web", "anyone", false),
        (dns("app.example.org"), "app_", "anyone", false),
        (cn("svc-acme"), "app_user", "acme-eu", true),
        (cn("svc-acme"), "app_user", "acme-", false),
        (cn("svc-acme"), "app_user", "acme", false),
        (cn("svc-"), "app_user", "-eu", false),
        (cn("xsvc-acme"), "app_user", "acme-eu", false),
        // A name of one kind is none of another.
        (cn("spiffe://example.org/tenant/acme"), "app_user", "acme", false),
        (dns("svc-acme"), "app_user", "acme-eu", false),
        (CertificateNames::default(), "app_user", "acme", false),
    ] {
        assert_eq!(map.permits(&names, role, tenant), permitted, "{names}: {role} {tenant}");
    }
    Ok(())
}

#[test]
fn a_star_in_a_certificate_is_a_character() -> Result<(), String> {
    let map = map(&[("dns", "*.example.org", "app_user", "$1")])?;
    let names = dns("*.example.org");
    assert!(!map.permits(&names, "app_user", "acme") && map.permits(&names, "app_user", "*"));
    Ok(())
}

#[test]
fn a_certificate_stands_for_a_tenant_where_it_can_claim_no_other() -> Result<(), String> {
    let map = map(&[
        ("cn", "svc-*", "app_user", "$1"),
        ("cn", "svc-both", "app_user", "globex"),
        ("cn", "svc-ops", "app_user", "*"),
        ("cn", "svc-acme", "admin", "*"),
    ])?;
    assert_eq!(map.only_tenant(&cn("svc-acme"), "app_user").as_deref(), Some("acme"));
    assert_eq!(map.only_tenant(&cn("svc-acme"), "admin"), None);
    for none in ["svc-both", "svc-ops", "other"] {
        assert_eq!(map.only_tenant(&cn(none), "app_user"), None, "{none}");
    }
    Ok(())
}

#[test]
fn what_could_not_be_meant_is_refused_with_its_place() {
    for (text, expected) in [
        ("", "no [[identity]] block"),
        ("[[identity]]\ncn = 'a'\nrole = 'r'", "tenant"),
        ("[[identity]]\ncn = 'a'\ndns = 'b'\nrole = 'r'\ntenant = 't'", "one of cn, dns and uri"),
        ("[[identity]]\nrole = 'r'\ntenant = 't'", "one of cn, dns and uri"),
        ("[[identity]]\ncn = 'a'\nrole = 'r'\ntenant = '$1'", "block 1: tenant has $1, and the name has 0 *"),
        ("[[identity]]\ncn = 'a*'\nrole = 'r'\ntenant = '$0'", "$0"),
        ("[[identity]]\ncn = 'a*b*'\nrole = 'r'\ntenant = 't'", "two *"),
        ("[[identity]]\ncn = 'a'\nrole = 'r'\ntenant = '*x*'", "more than one *"),
        ("[[identity]]\ncn = ''\nrole = 'r'\ntenant = 't'", "not a name"),
        ("[[identity]]\ncn = 'a'\nrole = ''\ntenant = 't'", "never be claimed"),
        ("[[identity]]\ncommon_name = 'a'\nrole = 'r'\ntenant = 't'", "common_name"),
        ("[[identities]]\n", "identities"),
    ] {
        let error = CertMap::parse(text).expect_err(text);
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

proptest! {
    /// What a certificate may claim for one tenant, it may claim for that one alone.
    #[test]
    fn a_captured_name_opens_exactly_that_tenant(name in "[^/\\p{Cc}]{1,12}", other in "\\PC{0,12}") {
        let map = map(&[("uri", "spiffe://e/t/*", "app_user", "$1")]).expect("a map");
        let names = uri(&format!("spiffe://e/t/{name}"));
        prop_assert!(map.permits(&names, "app_user", &name));
        prop_assert_eq!(map.permits(&names, "app_user", &other), other == name);
        prop_assert_eq!(map.only_tenant(&names, "app_user"), Some(name));
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "\\PC*") {
        let _ = CertMap::parse(&text);
        let _ = map(&[("cn", &text.replace('\'', ""), &text.replace('\'', ""), "$1")]);
    }
}
