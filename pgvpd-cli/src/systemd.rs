//! What the service manager is told (sd_notify(3)). Without `NOTIFY_SOCKET` it is told nothing.

use sd_notify::NotifyState;
use tracing::debug;

use pgvpd_core::ProxyHandle;

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        debug!(%error, "the service manager cannot be told");
    }
}

/// It listens.
pub(crate) fn ready(proxy: &ProxyHandle) {
    let status = format!("Listening on {}", proxy.local_addr());
    tell(&[NotifyState::Ready, NotifyState::Status(&status)]);
}

/// It reads its configuration again; [`reloaded`] follows.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now]),
        Err(error) => debug!(%error, "the service manager cannot be told"),
    }
}

/// It has done so, or has kept the old one.
pub(crate) fn reloaded() {
    tell(&[NotifyState::Ready]);
}

/// It stops; sessions may finish.
pub(crate) fn stopping(sessions: usize) {
    let status = format!("Stopping; {sessions} sessions may finish");
    tell(&[NotifyState::Stopping, NotifyState::Status(&status)]);
}

/// Says that the proxy works, at twice the pace that the service manager asks for, as long as it does: the runtime gets to this,
/// and every lock of the proxy's can be had.
pub(crate) async fn watchdog(proxy: &ProxyHandle) {
    let Some(period) = sd_notify::watchdog_enabled() else { return std::future::pending().await };
    let mut pace = tokio::time::interval((period / 2).max(std::time::Duration::from_millis(1)));
    loop {
        pace.tick().await;
        let status = proxy.status(0);
        let text = format!("{} sessions of {} tenants", status.sessions.total, status.tenants.live);
        tell(&[NotifyState::Watchdog, NotifyState::Status(&text)]);
    }
}
