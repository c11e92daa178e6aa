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
    // The option comes with a later release, which refuses values that are not valid.
    let has_tls =
        proxy.settings().value("upstream_tls").is_some_and(|value| !["false", "off", "no", "0"].contains(&value));
    (!is_local && !has_tls).then(|| {
        let finding = "the proxy talks to this server without TLS: who can listen on the way reads every tenant's rows";
        let fix = "-- run the proxy on the server's machine, or have the way between them encrypted; with upstream_tls where there is it";
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
            let config = Config::from_settings(settings).expect(host);
            assert_eq!(finding(&config).is_some(), found, "{host}");
        }
    }
}
