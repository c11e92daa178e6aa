//! Which notifications a session hears: those of its own tenant's channels, where `notifications = tenant`.

use crate::config::Notifications;
use crate::wire::{NotificationFilter, Verdict, WireError};

/// The filter of one session.
#[derive(Debug)]
pub(super) struct Hearing {
    filter: NotificationFilter,
    wanted: Notifications,
    tenant: Box<str>,
}

impl Hearing {
    /// A session of this tenant that hears these. `client_encoding` is what the server reported last.
    pub(super) fn new(wanted: Notifications, tenant: &str, client_encoding: Option<&[u8]>) -> Self {
        let filter = NotificationFilter::new(client_encoding.unwrap_or_default());
        Self { filter, wanted, tenant: tenant.into() }
    }

    /// What of the server's next bytes the client gets; `None` for just these.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let Self { filter, wanted, tenant } = self;
        match wanted {
            Notifications::All => Ok(None),
            Notifications::Off => filter.pass(chunk, |_| Verdict::Drop),
            Notifications::Tenant => filter.pass(chunk, |channel| judge(channel, tenant)),
        }
    }
}

/// `acme` and `acme:…` pass. A tenant with a colon in its name has none: `a:b` would hear what is `a`'s.
fn judge(channel: &[u8], tenant: &str) -> Verdict {
    let is_distinct = !tenant.is_empty() && !tenant.contains(':');
    match channel.strip_prefix(tenant.as_bytes()) {
        Some([] | [b':', ..]) if is_distinct && is_the_same_everywhere(tenant) => Verdict::Pass,
        Some([] | [b':', ..]) if is_distinct => Verdict::PassInUtf8,
        _ => Verdict::Drop,
    }
}

/// True if the bytes of this name stand for it in every encoding that a client may have. PostgreSQL converts U+00A5 to a backslash and
/// U+203E to a tilde in SJIS and SHIFT_JIS_2004, and nothing else to ASCII.
fn is_the_same_everywhere(tenant: &str) -> bool {
    tenant.bytes().all(|byte| byte.is_ascii() && !matches!(byte, b'\\' | b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_tenants_where_its_name_is_or_begins_with_a_colon_behind_it() {
        for (channel, tenant, verdict) in [
            ("acme", "acme", Verdict::Pass),
            ("acme:jobs", "acme", Verdict::Pass),
            ("acme:jö\\bs", "acme", Verdict::Pass),
            ("acme:", "acme", Verdict::Pass),
            ("acmecorp", "acme", Verdict::Drop),
            ("ACME", "acme", Verdict::Drop),
            ("acme", "acme:jobs", Verdict::Drop),
            ("acme:jobs", "acme:jobs", Verdict::Drop),
            ("", "acme", Verdict::Drop),
            (":acme", "", Verdict::Drop),
            ("müller:x", "müller", Verdict::PassInUtf8),
            ("a\\b", "a\\b", Verdict::PassInUtf8),
            ("a~:b", "a~", Verdict::PassInUtf8),
            ("mueller", "müller", Verdict::Drop),
        ] {
            assert_eq!(judge(channel.as_bytes(), tenant), verdict, "{channel} {tenant}");
        }
    }
}
