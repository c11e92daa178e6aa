//! A client that is not authenticated yet: what is known of it, for the audit stream, and its place among such clients.

use std::sync::Arc;

use super::Ended;
use super::leg::Leg;
use crate::address::ClientAddress;
use crate::audit::{Event, Subject};
use crate::error::Refusal;
use crate::logins::{Bounds, Login, Logins};
use crate::sessions::SessionId;
use crate::shared::Shared;
use crate::wire::StartupMessage;

/// A client as it says that it is.
pub(super) struct Visitor {
    pub(super) id: SessionId,
    pub(super) address: ClientAddress,
    user: Option<Box<str>>,
    database: Option<Box<str>>,
    is_tls: bool,
    /// Its place; `None` before it has one.
    pub(super) login: Option<Arc<Login>>,
}

impl Visitor {
    pub(super) fn new(id: SessionId, address: ClientAddress) -> Self {
        Self { id, address, user: None, database: None, is_tls: false, login: None }
    }

    /// Takes a place among connections that are not sessions yet, and gives an earlier one back.
    pub(super) fn take_place(&mut self, logins: &Arc<Logins>, bounds: Bounds) -> Result<Arc<Login>, Ended> {
        self.login = None;
        let login = logins.enter(self.id, self.address, bounds).map_err(|_| Refusal::too_many_logins())?;
        Ok(Arc::clone(self.login.insert(Arc::new(login))))
    }

    /// Takes down what its startup message says.
    pub(super) fn says(&mut self, message: &StartupMessage, leg: &Leg) {
        self.user = message.parameter("user").map(Into::into);
        self.database = message.parameter("database").map(Into::into);
        self.is_tls = leg.is_tls;
    }

    /// Writes into the audit stream that it is not let in.
    pub(super) async fn refused(&self, sqlstate: Option<&str>, reason: &str, shared: &Shared) {
        if !shared.audit.is_open() || !shared.refusals.is_written(self.address) {
            return;
        }
        let claims = (self.user.as_deref(), self.database.as_deref());
        let subject = Subject::claiming(self.id, claims, self.address, self.is_tls);
        shared.audit_past(&Event::LoginRefused { subject, sqlstate, reason }).await;
    }
}
