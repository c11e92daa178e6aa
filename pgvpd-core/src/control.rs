//! What an administrator can have done to a running proxy, whichever way it is asked for: by HTTP, in the console, by the library.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::pool::Retired;
use crate::sessions::SessionId;
use crate::shared::Shared;

impl Shared {
    /// Ends a tenant's sessions, those that log in as well. Gives how many there were.
    pub(crate) fn disconnect_tenant(&self, tenant: &str) -> usize {
        let sessions = self.live.end(|record| record.info.tenant.as_deref() == Some(tenant));
        info!(tenant, sessions, "a tenant's sessions are ended");
        sessions
    }

    /// Ends one session. False where there is none of that number.
    pub(crate) fn disconnect_session(&self, session: SessionId) -> bool {
        self.live.end(|record| record.info.id == session) > 0
    }

    /// Has server connections to this database closed, or all: those that nobody uses at once, others when they are released.
    pub(crate) fn reconnect(&self, database: Option<&str>) -> Retired {
        self.close_own_connections(database);
        self.pools.reconnect(database)
    }

    /// The same, and none to this database is made before a client comes, so that nothing holds it.
    pub(crate) fn close_database(&self, database: &str) -> Retired {
        self.close_own_connections(Some(database));
        self.pools.close_database(database)
    }

    /// Those of `auth_query` and of resolvers.
    fn close_own_connections(&self, database: Option<&str>) {
        self.secrets.close_connection(database);
        if let Some(resolving) = self.resolving_so_far() {
            resolving.close_connections(database);
        }
    }

    /// Begins to stop. Gives how many sessions there are, and how long they may go on.
    pub(crate) fn begin_to_drain(shared: &Arc<Self>) -> (usize, Duration) {
        let sessions = shared.sessions.taken();
        let timeout = shared.config.load().shutdown_timeout;
        info!(sessions, timeout = timeout.as_secs_f64(), "draining; sessions may finish");
        Self::drain(shared);
        (sessions, timeout)
    }
}
