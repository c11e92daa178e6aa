//! Metrics: what is known at one moment, in the text formats of OpenMetrics and Prometheus.
//!
//! Names end as Prometheus wants them, and those of counters in `_total`. One does not fit: `pgvpd_pool_connections_total` is how many
//! connections there are, kept by that name for dashboards that know it. It has no type.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeLabelSet, MetricEncoder, NoLabelSet, prometheus_text, text,
};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::resolve::{RESOLVER_LATENCY_BOUNDS, ResolverStats};
use crate::stats::{TIME_BOUNDS, Timing};
use crate::status::{PoolStatusByRole, ProxyState, Status};

/// What a tenant's label says for all tenants that have none of their own.
const OTHER: &str = "other";

/// A text format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    OpenMetrics,
    /// Version 0.0.4, for whoever does not ask for the other.
    Prometheus,
}

impl Form {
    /// What this `Accept` header asks for.
    pub(super) fn wanted(accept: Option<&str>) -> Self {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Self::OpenMetrics,
            _ => Self::Prometheus,
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }
}

/// The text.
pub(super) fn encode(status: Status, form: Form) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Sheet(status)));
    let mut text = String::with_capacity(16 * 1024);
    match form {
        Form::OpenMetrics => text::encode(&mut text, &registry)?,
        Form::Prometheus => prometheus_text::encode(&mut text, &registry)?,
    }
    Ok(text)
}

/// What is known.
#[derive(Debug)]
struct Sheet(Status);

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut out = Out(&mut encoder);
        self.proxy(&mut out)?;
        self.clients(&mut out)?;
        self.pools(&mut out)?;
        self.resolvers(&mut out)?;
        self.tenants(&mut out)
    }
}

impl Sheet {
    fn proxy(&self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        let Self(status) = self;
        out.0
            .encode_descriptor("pgvpd_build", "The release", None, MetricType::Info)?
            .encode_info(&[("version", status.version)])?;
        out.gauge("pgvpd_uptime_seconds", "Time since the start", status.uptime)?;
        let is_draining = status.state == ProxyState::Draining;
        out.gauge("pgvpd_draining", "1 while no more clients are accepted", f64::from(u8::from(is_draining)))?;
        let errors = status.stats.audit_errors_total;
        out.counter("pgvpd_audit_errors", "Events that could not be written to the audit stream", errors)?;
        let lost = status.stats.log_lines_lost_total;
        out.counter("pgvpd_log_lines_lost", "Lines missing from the log because nothing took them in time", lost)
    }

    fn clients(&self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        let Self(status) = self;
        let stats = &status.stats;
        out.counter("pgvpd_connections", "Connections accepted, cancel requests included", stats.connections_total)?;
        let active = count(stats.sessions_active);
        out.gauge("pgvpd_connections_active", "Sessions of authenticated clients", active)?;
        out.counter("pgvpd_sessions", "Logins that led to a session", stats.sessions_total)?;
        let states = status.sessions.by_state.iter().map(|(state, number)| ([("state", *state)], count(*number)));
        out.gauges("pgvpd_session_states", "Clients by what they do", states)?;
        let logins = status.logins.by_state().into_iter();
        let logins = logins.map(|(state, number)| ([("state", state)], count(number)));
        out.gauges("pgvpd_logins_in_progress", "Connections of clients that are not authenticated, by state", logins)?;
        let refused = status.refused.iter().map(|(code, number)| ([("sqlstate", *code)], *number));
        let help = "Logins refused, by SQLSTATE; server: by the server; tls: in the TLS handshake";
        out.counters("pgvpd_logins_refused", help, refused)?;
        let wrong = stats.failed_logins_total;
        out.counter("pgvpd_authentication_failures", "Wrong proofs, where the proxy judges them", wrong)?;
        let rejections = &status.tenant_rejections;
        let rejected = [("deny", rejections.deny), ("limit", rejections.limit), ("rate", rejections.rate)];
        let rejected = rejected.into_iter().map(|(reason, number)| ([("reason", reason)], number));
        out.counters("pgvpd_tenant_rejected", "Logins refused for their tenant: denied, or at a limit", rejected)?;
        let timeouts = stats.tenant_timeouts_total;
        let help = "Sessions closed and requests cancelled by tenant_query_timeout";
        out.counter("pgvpd_tenant_timeouts", help, timeouts)?;
        let help = "LISTENs to channels whose notifications do not reach the session";
        out.counter("pgvpd_unheard_listens", help, stats.unheard_listens_total)?;
        let bytes = [
            ([("direction", "from_client")], stats.bytes_from_clients_total),
            ([("direction", "to_client")], stats.bytes_to_clients_total),
        ];
        out.counters("pgvpd_bytes", "Bytes relayed in sessions", bytes.into_iter())?;
        out.counter("pgvpd_requests", "Requests, where messages are seen", stats.requests_total)?;
        let phases = status.phases.iter().map(|(phase, timing)| ([("phase", *phase)], timing));
        out.timings("pgvpd_handshake", "Time that the phases of logins took", phases)
    }

    fn pools(&self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        let Self(status) = self;
        let pools = status.pools_by_role();
        let labels = |pool: &PoolStatusByRole| [("database", pool.database.clone()), ("role", pool.role.clone())];
        let all = |figure: fn(&PoolStatusByRole) -> usize| {
            pools.iter().map(move |pool| (labels(pool), count(figure(pool)))).collect::<Vec<_>>()
        };
        let help = "Upstream connections of a pool: idle, used or being made";
        out.untyped("pgvpd_pool_connections_total", help, all(|pool| pool.total))?;
        out.gauges("pgvpd_pool_connections_idle", "Those that nobody uses", all(|pool| pool.idle).into_iter())?;
        out.gauges("pgvpd_pool_clients_waiting", "Clients that wait for one", all(|pool| pool.waiting).into_iter())?;
        let stats = &status.pool_stats;
        out.counter("pgvpd_pool_checkouts", "Connections given to sessions", stats.checkouts)?;
        out.counter("pgvpd_pool_reuses", "Those that another session had before", stats.reuses)?;
        out.counter("pgvpd_pool_creates", "Connections made", stats.creates)?;
        out.counter("pgvpd_pool_checkins", "Connections given back and reset", stats.checkins)?;
        out.counter("pgvpd_pool_discards", "Connections closed", stats.discards)?;
        let failed = status.stats.failed_resets_total;
        out.counter("pgvpd_pool_reset_failures", "Connections closed because they could not be reset", failed)?;
        let is_paused = f64::from(u8::from(status.pools_paused));
        out.gauge("pgvpd_pools_paused", "1 while pools give no connections", is_paused)?;
        let waits = std::iter::once((NO_LABELS, &status.pool_wait));
        out.timings("pgvpd_pool_wait", "Time that clients waited for a connection of a pool", waits)
    }

    fn resolvers(&self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        let Self(status) = self;
        let all = |figure: fn(&ResolverStats) -> u64| {
            status.resolvers.iter().map(move |stats| ([("resolver", stats.name.clone())], figure(stats)))
        };
        out.counters("pgvpd_resolver_hits", "Results that were in the cache", all(|stats| stats.hits))?;
        out.counters("pgvpd_resolver_misses", "Results that were not", all(|stats| stats.misses))?;
        out.counters("pgvpd_resolver_executions", "Queries run", all(|stats| stats.executions))?;
        out.counters("pgvpd_resolver_errors", "Queries that failed", all(|stats| stats.errors))?;
        let mut family =
            out.family("pgvpd_resolver", "Time that queries took", MetricType::Histogram, Some(&Unit::Seconds))?;
        for stats in &status.resolvers {
            let classes = RESOLVER_LATENCY_BOUNDS.into_iter().chain([f64::INFINITY]).zip(stats.latency);
            let classes: Vec<_> = classes.collect();
            let labels = [("resolver", stats.name.as_str())];
            family.encode_family(&labels)?.encode_histogram::<NoLabelSet>(
                stats.latency_sum,
                stats.latency.iter().sum(),
                &classes,
                None,
            )?;
        }
        Ok(())
    }

    fn tenants(&self, out: &mut Out<'_, '_>) -> Result<(), Error> {
        let tenants = &self.0.tenants;
        out.gauge("pgvpd_tenants_active", "Tenants that have a session", count(tenants.live))?;
        // A tenant of that very name counts with the others: one series cannot be both.
        let (same, own): (Vec<_>, Vec<_>) = tenants.busiest.iter().partition(|tenant| tenant.tenant == OTHER);
        let mut others = tenants.others.clone();
        same.into_iter().for_each(|tenant| others.add(tenant));
        let all = || own.iter().map(|tenant| (tenant.tenant.as_str(), *tenant)).chain([(OTHER, &others)]);
        let active = all().map(|(name, tenant)| ([("tenant", name)], count(tenant.sessions_active)));
        out.gauges("pgvpd_tenant_connections_active", "Clients of the busiest tenants", active)?;
        let sessions = all().map(|(name, tenant)| ([("tenant", name)], tenant.done.sessions_total));
        out.counters("pgvpd_tenant_sessions", "Logins of the busiest tenants that led to a session", sessions)?;
        let bytes = all().flat_map(|(name, tenant)| {
            [("from_client", tenant.done.from_client), ("to_client", tenant.done.to_client)]
                .map(|(direction, bytes)| ([("tenant", name), ("direction", direction)], bytes))
        });
        out.counters("pgvpd_tenant_bytes", "Bytes relayed for the busiest tenants", bytes)
    }
}

const NO_LABELS: [(&str, &str); 0] = [];

#[expect(clippy::cast_precision_loss, reason = "nobody has 2^53 connections")]
fn count(number: usize) -> f64 {
    number as f64
}

/// Families, one by one.
struct Out<'o, 'e>(&'o mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn family<'s>(
        &'s mut self,
        name: &'s str,
        help: &str,
        kind: MetricType,
        unit: Option<&'s Unit>,
    ) -> Result<MetricEncoder<'s>, Error> {
        self.0.encode_descriptor(name, help, unit, kind)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        self.family(name, help, MetricType::Counter, None)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> Result<(), Error> {
        self.family(name, help, MetricType::Gauge, None)?.encode_gauge(&value)
    }

    fn counters<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, u64)>,
    ) -> Result<(), Error> {
        let mut family = self.family(name, help, MetricType::Counter, None)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_counter::<NoLabelSet, u64, u64>(&value, None)?;
        }
        Ok(())
    }

    fn gauges<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        values: impl Iterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        self.values(name, help, MetricType::Gauge, values)
    }

    fn untyped<L: EncodeLabelSet>(&mut self, name: &str, help: &str, values: Vec<(L, f64)>) -> Result<(), Error> {
        self.values(name, help, MetricType::Unknown, values.into_iter())
    }

    fn values<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        values: impl Iterator<Item = (L, f64)>,
    ) -> Result<(), Error> {
        let mut family = self.family(name, help, kind, None)?;
        for (labels, value) in values {
            family.encode_family(&labels)?.encode_gauge(&value)?;
        }
        Ok(())
    }

    fn timings<'t, L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        timings: impl Iterator<Item = (L, &'t Timing)>,
    ) -> Result<(), Error> {
        let mut family = self.family(name, help, MetricType::Histogram, Some(&Unit::Seconds))?;
        for (labels, timing) in timings {
            let classes: Vec<_> = TIME_BOUNDS.into_iter().chain([f64::INFINITY]).zip(timing.classes).collect();
            let mut metric = family.encode_family(&labels)?;
            metric.encode_histogram::<NoLabelSet>(timing.sum, timing.count, &classes, None)?;
        }
        Ok(())
    }
}
