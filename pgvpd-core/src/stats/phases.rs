//! How long the phases of a login take.

use std::time::{Duration, Instant};

use super::histogram::{Histogram, Timing};

/// A phase of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Phase {
    /// From the accepted connection to the startup packet, without TLS.
    Accept,
    /// The TLS handshake with the client.
    Tls,
    /// The client proves who it is: to the proxy, or in passthrough to the server.
    Auth,
    /// To the upstream connection: from the pool, or in passthrough dialled.
    Checkout,
    /// Resolvers.
    Resolve,
    /// Setting the context and seeing it confirmed.
    Inject,
}

impl Phase {
    /// All of them, in the order of a login.
    pub const ALL: [Self; 6] = [Self::Accept, Self::Tls, Self::Auth, Self::Checkout, Self::Resolve, Self::Inject];

    /// Its name, as metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Accept => "accept",
            Self::Tls => "tls",
            Self::Auth => "auth",
            Self::Checkout => "checkout",
            Self::Resolve => "resolve",
            Self::Inject => "inject",
        }
    }
}

/// What the phases of all logins took.
#[derive(Debug, Default)]
pub(crate) struct Phases {
    histograms: [Histogram; Phase::ALL.len()],
}

impl Phases {
    pub(crate) fn observe(&self, phase: Phase, time: Duration) {
        if let Some(histogram) = self.histograms.get(phase as usize) {
            histogram.observe(time);
        }
    }

    /// Runs a phase and notes how long it took, however it ends.
    pub(crate) async fn time<T>(&self, phase: Phase, work: impl Future<Output = T>) -> T {
        let since = Instant::now();
        let done = work.await;
        self.observe(phase, since.elapsed());
        done
    }

    pub(crate) fn timings(&self) -> Vec<(Phase, Timing)> {
        Phase::ALL.into_iter().zip(self.histograms.iter().map(Histogram::timing)).collect()
    }
}
