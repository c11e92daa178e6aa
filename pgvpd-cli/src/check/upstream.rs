//! The proxy's way to the server.

use std::net::IpAddr;

use pgvpd_core::Config;

use super::finding::{Finding, Severity};
use super::rules;

/// A finding where rows and passwords cross a network that others may listen on.
pub(super) fn finding(proxy: &Config) -> Option<Finding> {
    let host = &proxy.upstream.host;
    let is_local = host.starts_with('/')
        || host == "localhost"
        || host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback());
    let has_tls = proxy.upstream.tls.is_some();
    (!is_local && !has_tls).then(|| {
        let finding = "the proxy talks to this server without TLS: who can listen on the way reads every tenant's rows";
        let fix =
            "-- upstream_tls = true, and upstream_tls_ca where the server's certificate is by an authority of your own";
        Finding::new(rules::PLAIN_UPSTREAM, Severity::High, format!("upstream_host {host}"), finding, fix)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgvpd_core::Settings;

    #[test]
    fn only_a_way_over_a_network_counts() {
        for (host, found) in [
            ("127.0.0.1", false),
            ("::1", false),
            ("localhost", false),
            ("/run/postgresql", false),
            ("10.0.0.5", true),
            ("db.internal", true),
        ] {
            let mut settings = Settings::new();
            settings.set("upstream_host", host).expect(host);
            let config = Config::from_settings(settings.clone()).expect(host);
            assert_eq!(finding(&config).is_some(), found, "{host}");
            if found {
                settings.set("upstream_tls", "true").expect(host);
                settings.set("upstream_tls_verify", "false").expect(host);
                let config = Config::from_settings(settings).expect(host);
                assert!(finding(&config).is_none(), "{host}");
            }
        }
    }
}
