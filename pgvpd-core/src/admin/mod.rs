//! HTTP for administrators and monitoring: what is shown, and what can be changed.
//!
//! It only reads what `ProxyHandle` gives too. Who may do what is in `access`, what there is in `routes`; `server` keeps slow
//! and hostile clients from doing harm.

mod access;
mod dashboard;
mod metrics;
mod pace;
mod readiness;
mod routes;
mod server;

use std::sync::Arc;

use self::readiness::Readiness;
use crate::net::Addresses;
use crate::net::BoundAdmin;
use crate::shared::Shared;

/// What the requests to one proxy's listener share.
#[derive(Debug)]
struct Admin {
    shared: Arc<Shared>,
    addresses: Addresses,
    /// Nobody on another machine reaches the listener.
    is_loopback: bool,
    readiness: Readiness,
}

/// Serves until the proxy has stopped: it can be watched while it drains.
pub(crate) fn serve(bound: BoundAdmin, addresses: Addresses, shared: &Arc<Shared>) {
    let is_local = |listener: &tokio::net::TcpListener| {
        listener.local_addr().is_ok_and(|address| address.ip().to_canonical().is_loopback())
    };
    let is_loopback = bound.listeners.iter().all(is_local);
    let admin = Admin { shared: Arc::clone(shared), addresses, is_loopback, readiness: Readiness::default() };
    let admin = Arc::new(admin);
    let app = routes::router(&admin);
    let places = Arc::<server::Places>::default();
    for listener in bound.listeners {
        shared.background.spawn(server::accept(listener, app.clone(), Arc::clone(&places), Arc::clone(&admin)));
    }
}
