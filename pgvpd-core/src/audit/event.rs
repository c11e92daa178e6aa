//! What is told, and its form.

use std::time::SystemTime;

use serde::Serialize;

use crate::address::ClientAddress;
use crate::sessions::{Record, SessionId, SessionInfo};

/// The longest text of a client's that is kept.
const MAX_TEXT: usize = 256;

/// Something that is told. `docs/operations.md` describes the fields.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Event<'a> {
    /// A tenant's login is let in.
    LoginAccepted(Subject<'a>),
    /// A bypass user's is: its session is not held to any tenant.
    SuperuserBypass(Subject<'a>),
    /// An administrator is let in to the console.
    ConsoleLogin(Subject<'a>),
    /// A login is refused.
    LoginRefused {
        #[serde(flatten)]
        subject: Subject<'a>,
        /// The SQLSTATE; `None` where the server has refused it, or the TLS handshake failed.
        sqlstate: Option<&'a str>,
        reason: &'a str,
    },
    /// Further logins and requests of one client were refused, and not written one by one.
    Refusals {
        /// Its address; `None` for clients of many addresses together.
        client: Option<&'a str>,
        refused: u64,
        /// In so many seconds.
        period: u64,
    },
    /// An administrator wants something changed.
    AdminAction {
        action: &'a str,
        /// By HTTP, or in the console: from where. By a signal: `signal`.
        client: &'a str,
        /// In the console: who.
        #[serde(skip_serializing_if = "Option::is_none")]
        user: Option<&'a str>,
        outcome: AdminOutcome,
        reason: Option<&'a str>,
    },
    /// A session's right to go on was taken back.
    Revocation {
        #[serde(flatten)]
        subject: Subject<'a>,
        reason: &'a str,
    },
    /// A tenant's session has changed a role, and was ended for it.
    RoleChange {
        #[serde(flatten)]
        subject: Subject<'a>,
        reason: &'a str,
    },
    /// `tenant_query_timeout` has cancelled a request, or ended a session.
    TimeLimit {
        #[serde(flatten)]
        subject: Subject<'a>,
        reason: &'a str,
    },
}

/// What becomes of an administrator's wish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum AdminOutcome {
    /// It is about to be done.
    Accepted,
    /// It is not: the token is missing or wrong.
    #[cfg_attr(not(feature = "admin"), expect(dead_code, reason = "without the feature nobody asks by HTTP"))]
    Refused,
}

/// Whom it is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Subject<'a> {
    pub(crate) session: SessionId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) database: Option<&'a str>,
    pub(crate) client: String,
    pub(crate) tls: bool,
}

impl<'a> Subject<'a> {
    /// A client that is admitted.
    pub(crate) fn of(record: &'a Record) -> Self {
        let SessionInfo { id, tenant, role, database, address, is_tls, user: _ } = &record.info;
        Self {
            session: *id,
            user: None,
            tenant: tenant.as_deref(),
            role: Some(role),
            database: Some(&**database).filter(|database| !database.is_empty()),
            client: address.to_string(),
            tls: *is_tls,
        }
    }

    /// One that says this of itself.
    pub(crate) fn claiming(
        session: SessionId,
        (user, database): (Option<&'a str>, Option<&'a str>),
        address: ClientAddress,
        tls: bool,
    ) -> Self {
        let [user, database] = [user, database].map(|text| text.map(shortened));
        Self { session, user, tenant: None, role: None, database, client: address.to_string(), tls }
    }
}

/// So that nobody fills the disk with one login.
pub(crate) fn shortened(text: &str) -> &str {
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= MAX_TEXT).last().unwrap_or(0);
    text.get(..end).unwrap_or_default()
}

impl Event<'_> {
    /// Its name.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::LoginAccepted(_) => "login_accepted",
            Self::SuperuserBypass(_) => "superuser_bypass",
            Self::ConsoleLogin(_) => "console_login",
            Self::LoginRefused { .. } => "login_refused",
            Self::Refusals { .. } => "refusals",
            Self::AdminAction { .. } => "admin_action",
            Self::Revocation { .. } => "revocation",
            Self::RoleChange { .. } => "role_change",
            Self::TimeLimit { .. } => "time_limit",
        }
    }

    /// The line, with its end.
    pub(crate) fn line(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct Line<'e, 'a> {
            time: String,
            #[serde(flatten)]
            event: &'e Event<'a>,
        }
        let time = humantime::format_rfc3339_millis(SystemTime::now()).to_string();
        let mut line = serde_json::to_vec(&Line { time, event: self }).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_object_whatever_a_client_calls_itself() {
        let user = format!("a\"\n\u{1b}{}", "é".repeat(1000));
        let subject = Subject::claiming(SessionId(7), (Some(&user), None), ClientAddress::Unix, false);
        let event = Event::LoginRefused { subject, sqlstate: Some("28000"), reason: "x" };
        let line = event.line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let read: serde_json::Value = serde_json::from_slice(&line).expect("JSON");
        assert_eq!(read["event"], "login_refused");
        assert_eq!(read["event"], event.name());
        assert_eq!((&read["session"], &read["client"], &read["tls"]), (&7.into(), &"unix".into(), &false.into()));
        let user = read["user"].as_str().expect("text");
        assert!(user.starts_with("a\"\n\u{1b}é") && user.len() <= MAX_TEXT);
        assert!(read["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{read}");
    }
}
