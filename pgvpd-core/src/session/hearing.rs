//! Which notifications a session hears: those of its own tenant's channels, where `notifications = tenant`.

use crate::config::Notifications;
use crate::error::Refusal;
use crate::resets::{channels, may_listen};
use crate::stats::Counters;
use crate::wire::{NotificationFilter, Severity, Verdict, WireError, tag};

/// The filter of one session.
#[derive(Debug)]
pub(super) struct Hearing {
    filter: NotificationFilter,
    wanted: Notifications,
    tenant: Box<str>,
    /// A channel that the client has asked for, and whose notifications do not reach it.
    unheard: Option<Unheard>,
    /// The client knows of one.
    is_told: bool,
}

/// A channel whose notifications do not reach the client.
#[derive(Debug)]
struct Unheard {
    channel: String,
    /// The LISTEN is a prepared statement: the server may be asked for it at any time.
    is_prepared: bool,
}

impl Hearing {
    /// A session of this tenant that hears these. `client_encoding` is what the server reported last.
    pub(super) fn new(wanted: Notifications, tenant: &str, client_encoding: Option<&[u8]>) -> Self {
        let filter = NotificationFilter::new(client_encoding.unwrap_or_default());
        Self { filter, wanted, tenant: tenant.into(), unheard: None, is_told: false }
    }

    /// The client sends this text for the server to run or to prepare. Of several LISTENs on their way the last counts.
    fn on_text(&mut self, text: &[u8], is_prepared: bool) {
        let mut channels = channels(text).peekable();
        if self.wanted == Notifications::All || channels.peek().is_none() {
            return;
        }
        let channel = channels.find(|channel| !self.may_pass(channel));
        self.unheard =
            channel.map(|channel| Unheard { channel: String::from_utf8_lossy(&channel).into_owned(), is_prepared });
    }

    /// Every request has been answered: a LISTEN that is not complete has failed, or is yet to be executed.
    pub(super) fn on_settled(&mut self) {
        self.unheard.take_if(|unheard| !unheard.is_prepared);
    }

    /// A LISTEN of the client's is complete. Where nothing of its channel reaches the client, that is counted, and the notice for the
    /// client put into `notice`, once.
    pub(super) fn on_listen(&mut self, counters: Option<&Counters>, notice: &mut Vec<u8>) {
        let Some(Unheard { channel, .. }) = self.unheard.take() else { return };
        counters.into_iter().for_each(Counters::count_unheard_listen);
        if std::mem::replace(&mut self.is_told, true) {
            return;
        }
        self.notice(&channel).encode_as(Severity::Notice, notice);
    }

    fn may_pass(&self, channel: &[u8]) -> bool {
        match self.wanted {
            Notifications::All => true,
            Notifications::Off => false,
            Notifications::Tenant => match judge(channel, &self.tenant) {
                Verdict::Pass => true,
                Verdict::PassInUtf8 => self.filter.is_utf8(),
                Verdict::Drop => false,
            },
        }
    }

    /// What is said of a channel whose notifications do not reach the client.
    fn notice(&self, channel: &str) -> Refusal {
        // In another encoding than UTF-8 other characters would not be what they are.
        let plain = |name: &str| match self.filter.is_utf8() {
            true => name.to_owned(),
            false => name.replace(|letter: char| !letter.is_ascii(), "?"),
        };
        let (channel, tenant) = (plain(channel), plain(&self.tenant));
        let hint = match self.wanted {
            Notifications::Off => "The proxy passes no notifications on. (notifications = off)".to_owned(),
            _ if tenant.contains(':') => {
                "A tenant with a colon in its name gets no notifications. (notifications = tenant)".to_owned()
            }
            _ if !is_the_same_everywhere(&self.tenant) && !self.filter.is_utf8() => {
                "This tenant gets notifications only while client_encoding is UTF8. (notifications = tenant)".to_owned()
            }
            _ => format!(
                "A tenant's session gets those of the channel \"{tenant}\" and of channels that begin with \"{tenant}:\". \
                 Use the channel \"{tenant}:{channel}\" for LISTEN and NOTIFY. (notifications = tenant)"
            ),
        };
        Refusal::unheard_channel(&channel).hint(hint)
    }

    /// What of the server's next bytes the client gets; `None` for just these.
    pub(super) fn pass(&mut self, chunk: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let Self { filter, wanted, tenant, .. } = self;
        match wanted {
            Notifications::All => Ok(None),
            Notifications::Off => filter.pass(chunk, |_| Verdict::Drop),
            Notifications::Tenant => filter.pass(chunk, |channel| judge(channel, tenant)),
        }
    }
}

/// Shows the text of a Query or Parse to a filter, where all of it is in these bytes, which begin with the message's header.
pub(super) fn listens(hearing: &mut Hearing, message: &[u8]) {
    const HEADER: usize = 5;
    let Some((header, body)) = message.split_at_checked(HEADER) else { return };
    let end_of = |text: &[u8]| text.iter().position(|&byte| byte == 0);
    let is_prepared = header.first() == Some(&tag::PARSE);
    let text = if is_prepared { end_of(body).and_then(|end| body.get(end + 1..)) } else { Some(body) };
    // Most texts are not read beyond their first letter.
    if let Some(text) = text.filter(|text| may_listen(text))
        && let Some(text) = end_of(text).and_then(|end| text.get(..end))
    {
        hearing.on_text(text, is_prepared);
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
