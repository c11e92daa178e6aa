//! Which notifications a session hears: those of its own tenant's channels, where `notifications = tenant`.

use crate::config::Notifications;
use crate::wire::{NotificationFilter, WireError};

/// The filter of one session.
#[derive(Debug)]
pub(super) struct Hearing {
    filter: NotificationFilter,
    wanted: Notifications,
    tenant: Box<str>,
    /// The bytes of a channel's name are the characters that the tenant's name has.
    is_utf8: bool,
}

impl Hearing {
    /// A session of this tenant that hears these. `client_encoding` is what the server reported last.
    pub(super) fn new(wanted: Notifications, tenant: &str, client_encoding: Option<&[u8]>) -> Self {
        let mut hearing = Self { filter: NotificationFilter::default(), wanted, tenant: tenant.into(), is_utf8: false };
        hearing.set_encoding(client_encoding.unwrap_or_default());
        hearing
    }

    /// The server reports another `client_encoding`.
    pub(super) fn set_encoding(&mut self, encoding: &[u8]) {
        self.is_utf8 = encoding.eq_ignore_ascii_case(b"UTF8");
    }

    /// What of the server's next bytes the client gets; `None` for just these.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let Self { filter, wanted, tenant, is_utf8 } = self;
        match wanted {
            Notifications::All => Ok(None),
            Notifications::Off => filter.pass(chunk, |_| false),
            Notifications::Tenant => filter.pass(chunk, |channel| is_of(channel, tenant, *is_utf8)),
        }
    }
}

/// True for `acme` and `acme:…`. A tenant with a colon in its name has none: `a:b` would hear what is `a`'s.
fn is_of(channel: &[u8], tenant: &str, is_utf8: bool) -> bool {
    let is_distinct = !tenant.is_empty() && !tenant.contains(':') && (is_utf8 || tenant.is_ascii());
    is_distinct && channel.strip_prefix(tenant.as_bytes()).is_some_and(|rest| matches!(rest, [] | [b':', ..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_is_a_tenants_where_its_name_is_or_begins_with_a_colon_behind_it() {
        for (channel, tenant, is_utf8, heard) in [
            ("acme", "acme", false, true),
            ("acme:jobs", "acme", false, true),
            ("acme:", "acme", false, true),
            ("acmecorp", "acme", false, false),
            ("ACME", "acme", false, false),
            ("acme", "acme:jobs", false, false),
            ("acme:jobs", "acme:jobs", false, false),
            ("", "acme", false, false),
            (":acme", "", false, false),
            ("müller:x", "müller", true, true),
            ("müller:x", "müller", false, false),
        ] {
            assert_eq!(is_of(channel.as_bytes(), tenant, is_utf8), heard, "{channel} {tenant} {is_utf8}");
        }
    }
}
