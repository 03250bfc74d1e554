//! Everything that was sent: taken in by the listeners, given to the tick.

use std::collections::BTreeMap;
use std::time::Duration;

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::metrics::v1::{ResourceMetrics, metric::Data};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use perfwatch_model::snapshot::ServerView;
use perfwatch_model::{EntityId, SeriesTable, Stamp, Tick};

use super::gate::Gate;
use super::metrics;
use super::names::Names;
use super::resource::{self, Identity};
use super::server::Server;
use super::spans::{self, Computes};
use super::watch::Watch;

/// Servers that one agent knows at a time by what they send.
const MAX_SERVERS: usize = 256;

/// Scope under which agents sign what they export.
const AGENT: &str = "perfwatch";
const FROM_AGENT: &str =
    "an agent's own export is not taken in: it would come back with the next; set otlp.endpoint to a collector";

/// What of a request was not taken, and why; the first reason stands for all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Refused {
    pub(super) count: i64,
    pub(super) why: String,
}

impl Refused {
    pub(super) fn add(&mut self, count: u64, why: &str) {
        if self.count == 0 {
            why.clone_into(&mut self.why);
        }
        self.count = self.count.saturating_add(count as i64);
    }

    /// The parts of a partial success; `None` when everything was taken.
    pub(super) fn partial(self) -> Option<(i64, String)> {
        (self.count > 0).then_some((self.count, self.why))
    }
}

/// Running totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Points and spans that were malformed or that nothing here can hold.
    pub(crate) rejected: u64,
    /// Points beyond the limit of series.
    pub(crate) series: u64,
    /// Requests that were told to come again.
    pub(crate) deferred: u64,
}

#[derive(Debug)]
pub(super) struct Book {
    servers: BTreeMap<(String, String), Server>,
    names: Names,
    computes: Computes,
    gate: Gate,
    sampling: Option<f64>,
    start: Stamp,
    watch: Watch,
    pub(super) counts: Counts,
}

impl Book {
    pub(super) fn new(sampling: Option<f64>, now: Stamp) -> Self {
        Self {
            servers: BTreeMap::new(),
            names: Names::default(),
            computes: Computes::default(),
            gate: Gate::new(now.mono_ns),
            sampling,
            start: now,
            watch: Watch::new(now.wall_ns),
            counts: Counts::default(),
        }
    }

    /// Lets a request of so many points or spans in, or says when to come again.
    pub(super) fn admit(&mut self, points: u64, mono_ns: u64) -> Result<(), Duration> {
        self.gate.admit(points, mono_ns).inspect_err(|_| self.counts.deferred += 1)
    }

    /// The server behind a resource; `None` when there are too many.
    fn server<'a>(
        servers: &'a mut BTreeMap<(String, String), Server>,
        watch: &mut Watch,
        resource: Option<&Resource>,
        hint: Option<&'static str>,
        peer: Option<u32>,
        mono_ns: u64,
    ) -> Result<&'a mut Server, String> {
        let attributes = resource.map_or(&[][..], |resource| &resource.attributes);
        let identity = Identity::of(attributes, hint, peer);
        let key = (identity.service.clone(), identity.instance.clone());
        if servers.len() >= MAX_SERVERS && !servers.contains_key(&key) {
            return Err(format!("this agent knows {MAX_SERVERS} servers already"));
        }
        let fresh = |key: &_| Server::new(identity.clone(), watch.begin(key));
        let server = servers.entry(key).or_insert_with_key(fresh);
        server.hear(identity, mono_ns);
        Ok(server)
    }

    fn refuse(&mut self, count: u64, why: &str) -> Refused {
        let mut refused = Refused::default();
        refused.add(count, why);
        self.counts.rejected += count;
        refused
    }

    pub(super) fn take_metrics(&mut self, sent: &ResourceMetrics, peer: Option<u32>, mono_ns: u64) -> Refused {
        let mut refused = Refused::default();
        let all = || sent.scope_metrics.iter().flat_map(|scope| &scope.metrics);
        if sent.scope_metrics.iter().any(|scope| is_from_agent(scope.scope.as_ref())) {
            return self.refuse(all().map(points_of).sum(), FROM_AGENT);
        }
        let hint = all().find_map(|metric| resource::kind(&metric.name));
        let taken_before: usize = self.servers.values().map(|server| server.weight).sum();
        let server = match Self::server(&mut self.servers, &mut self.watch, sent.resource.as_ref(), hint, peer, mono_ns)
        {
            Ok(server) => server,
            Err(why) => return self.refuse(all().map(points_of).sum(), &why),
        };
        let mut reader =
            metrics::Reader { server, names: &mut self.names, others: taken_before, refused: &mut refused, beyond: 0 };
        reader.others -= reader.server.weight;
        all().for_each(|metric| reader.take(metric));
        let beyond = reader.beyond;
        self.counts.series += beyond;
        self.counts.rejected += (refused.count as u64).saturating_sub(beyond);
        refused
    }

    pub(super) fn take_spans(&mut self, sent: &ResourceSpans, peer: Option<u32>, mono_ns: u64) -> Refused {
        let mut refused = Refused::default();
        if sent.scope_spans.iter().any(|scope| is_from_agent(scope.scope.as_ref())) {
            return self.refuse(spans_of(sent), FROM_AGENT);
        }
        let hint = spans::kind(&sent.scope_spans);
        let server = match Self::server(&mut self.servers, &mut self.watch, sent.resource.as_ref(), hint, peer, mono_ns)
        {
            Ok(server) => server,
            Err(why) => return self.refuse(spans_of(sent), &why),
        };
        let traced = &mut server.traced;
        let malformed = spans::read(&sent.scope_spans, &mut self.computes, self.sampling, |saying| traced.add(saying));
        if malformed > 0 {
            refused.add(malformed, "a span has no valid ids, or ends before it starts");
            self.counts.rejected += malformed;
        }
        refused
    }

    /// Appends everything that came to a tick. `sdk` tells whether the SDK speaks for an entity.
    pub(super) fn close(&mut self, tick: &mut Tick, table: &mut SeriesTable, sdk: &impl Fn(EntityId) -> bool) {
        self.gate.drained(tick.end.mono_ns);
        for server in self.servers.values_mut() {
            server.close(tick, table, sdk);
        }
    }

    /// Forgets servers that were silent for long.
    pub(super) fn retire(&mut self, mono_ns: u64, table: &mut SeriesTable) {
        let Self { servers, watch, start, .. } = self;
        servers.retain(|key, server| {
            let stays = !server.is_forgotten(mono_ns);
            if let Some(entity) = server.entity().filter(|_| !stays && !server.has_sdk()) {
                table.retire(entity);
            }
            if !stays {
                let heard_ns = start.wall_ns.saturating_add(server.heard_ns().saturating_sub(start.mono_ns));
                watch.forget(key.clone(), heard_ns);
            }
            stays
        });
    }

    /// Servers whose process is known.
    pub(super) fn pids(&self) -> Vec<(EntityId, Vec<u32>)> {
        let known = self.servers.values().filter(|server| !server.has_sdk());
        known.filter_map(|server| Some((server.entity()?, vec![server.pid()?]))).collect()
    }

    pub(super) fn complete(&self, entity: EntityId, view: &mut ServerView, mono_ns: u64) {
        if let Some(server) = self.servers.values().find(|server| server.entity() == Some(entity)) {
            server.complete(view, mono_ns);
        }
    }
}

fn is_from_agent(scope: Option<&InstrumentationScope>) -> bool {
    scope.is_some_and(|scope| scope.name == AGENT)
}

/// Data points of a metric.
pub(super) fn points_of(metric: &opentelemetry_proto::tonic::metrics::v1::Metric) -> u64 {
    let points = match &metric.data {
        Some(Data::Gauge(data)) => data.data_points.len(),
        Some(Data::Sum(data)) => data.data_points.len(),
        Some(Data::Histogram(data)) => data.data_points.len(),
        Some(Data::ExponentialHistogram(data)) => data.data_points.len(),
        Some(Data::Summary(data)) => data.data_points.len(),
        None => 0,
    };
    points as u64
}

/// Spans of a resource.
pub(super) fn spans_of(sent: &ResourceSpans) -> u64 {
    sent.scope_spans.iter().map(|scope| scope.spans.len() as u64).sum()
}
