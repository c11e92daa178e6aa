//! What the service manager is told (sd_notify(3)). Without `NOTIFY_SOCKET` it is told nothing. One that reads nothing is not waited for.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use sd_notify::NotifyState;
use tracing::debug;

use pgvpd_core::ProxyHandle;

/// How long a message may wait for room. Until then nothing else is done, signals included.
const SEND_TIMEOUT: Duration = Duration::from_millis(200);

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = send(state) {
        debug!(%error, "the service manager cannot be told");
    }
}

/// As `sd_notify::notify`, which waits for room without an end.
fn send(state: &[NotifyState<'_>]) -> io::Result<()> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(()) };
    let message: String = state.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(SEND_TIMEOUT))?;
    socket.send_to(message.as_bytes(), path)?;
    Ok(())
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
    let mut pace = tokio::time::interval((period / 2).max(Duration::from_millis(1)));
    loop {
        pace.tick().await;
        let status = proxy.status(0);
        let text = format!("{} sessions of {} tenants", status.sessions.total, status.tenants.live);
        tell(&[NotifyState::Watchdog, NotifyState::Status(&text)]);
    }
}
