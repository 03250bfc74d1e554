//! One server that sends OTLP.

use std::collections::HashMap;

use perfwatch_model::metrics::server;
use perfwatch_model::snapshot::ServerView;
use perfwatch_model::{
    Absence, Attr, Entity, EntityId, EntityKind, Histogram, MetricDef, Number, Reason, SeriesTable, SparseHdr, Tick,
};

use super::metered::{self, Metered};
use super::resource::Identity;
use super::stream::Stream;
use super::traced::Traced;

/// Silence after which a server is not live: metrics come every minute unless a sender is told otherwise.
const SILENCE_NS: u64 = 90_000_000_000;
/// Silence after which it is forgotten.
const FORGET_NS: u64 = 600_000_000_000;

const SHARE_UNKNOWN: Reason = Reason::fixed(
    "its requests are known from traces, and nothing says how many of them are traced",
    "set intake.sampling to the share that it traces (1 for all), or have it send metrics",
);
const BEYOND_BOUNDS: Reason =
    Reason::fixed("some requests took longer than the last bound of its histogram", "give the histogram higher bounds");

/// A series' metric and attributes.
pub(super) type Key = (&'static str, Vec<Attr>);

#[derive(Debug)]
pub(super) struct Server {
    identity: Identity,
    entity: Option<EntityId>,
    heard_ns: u64,
    /// Since when it is watched, nanoseconds since the epoch.
    pub(super) since_ns: u64,
    pub(super) streams: HashMap<Key, Stream>,
    /// What its series count for together.
    pub(super) weight: usize,
    pub(super) traced: Traced,
    pub(super) metered: Metered,
    /// The SDK speaks for this server too: what it counts is exact, and shown instead of what traces say.
    has_sdk: bool,
}

impl Server {
    pub(super) fn new(identity: Identity, since_ns: u64) -> Self {
        Self {
            identity,
            entity: None,
            heard_ns: 0,
            since_ns,
            streams: HashMap::new(),
            weight: 0,
            traced: Traced::default(),
            metered: Metered::default(),
            has_sdk: false,
        }
    }

    /// Notes that something came, and what it says about its sender.
    pub(super) fn hear(&mut self, identity: Identity, mono_ns: u64) {
        self.heard_ns = mono_ns;
        let kind = identity.kind.or(self.identity.kind);
        let pid = identity.pid.or(self.identity.pid);
        self.identity = Identity { pid, kind, ..identity };
    }

    /// When something came last, on the monotonic clock.
    pub(super) fn heard_ns(&self) -> u64 {
        self.heard_ns
    }

    pub(super) fn is_forgotten(&self, mono_ns: u64) -> bool {
        mono_ns.saturating_sub(self.heard_ns) > FORGET_NS
    }

    pub(super) fn entity(&self) -> Option<EntityId> {
        self.entity
    }

    /// True when this agent's own SDK listener has the entity; its life is not ours to end then.
    pub(super) fn has_sdk(&self) -> bool {
        self.has_sdk
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.identity.pid
    }

    fn intern(&mut self, table: &mut SeriesTable) -> EntityId {
        if let Some(entity) = self.entity.filter(|entity| table.entity_of(*entity).is_some()) {
            return entity;
        }
        let Identity { service, instance, about, pid, .. } = &self.identity;
        let id = format!("{service}/{instance}");
        // The SDK's own description of a server stands.
        let known = table.find_entity(EntityKind::Server, &id);
        let entity = known.unwrap_or_else(|| {
            let mut entity = Entity::new(EntityKind::Server, id)
                .with("service.name", service.clone())
                .with("service.instance.id", instance.clone());
            for (key, value) in about {
                entity = entity.with(key, value.clone());
            }
            if let Some(pid) = pid {
                entity = entity.with("process.pid", *pid);
            }
            table.entity(entity)
        });
        self.streams.values_mut().for_each(Stream::begin_anew);
        self.traced.begin_anew();
        self.entity = Some(entity);
        entity
    }

    /// Appends what came for a tick. `sdk` tells whether the SDK speaks for an entity.
    pub(super) fn close(&mut self, tick: &mut Tick, table: &mut SeriesTable, sdk: &impl Fn(EntityId) -> bool) {
        let entity = self.intern(table);
        self.has_sdk = sdk(entity);
        for ((_, attrs), stream) in &mut self.streams {
            let series = *stream.series.get_or_insert_with(|| table.series(stream.metric, entity, attrs));
            stream.report(series, tick);
        }
        self.traced.close(tick.dt_ns);
        self.metered.close(tick.end.mono_ns);
        let mut push = |metric: &'static MetricDef, attrs: &[Attr], gained: &mut SparseHdr| {
            if !gained.is_empty() {
                tick.histograms.push((table.series(metric, entity, attrs), Histogram::Hdr(std::mem::take(gained))));
            }
        };
        let first_token = &server::TIME_TO_FIRST_TOKEN;
        if self.has_sdk || self.streams.keys().any(|(metric, _)| *metric == first_token.name) {
            self.traced.first_tokens = SparseHdr::new();
        }
        if self.has_sdk {
            self.traced.durations = SparseHdr::new();
            self.traced.stages.clear();
            // The SDK counts these requests: they are told, and must not be again when it leaves.
            self.traced.tell();
            return;
        }
        push(first_token, &[], &mut self.traced.first_tokens);
        push(&server::REQUEST_DURATION, &[], &mut self.traced.durations);
        for (stage, gained) in &mut self.traced.stages {
            push(&server::STAGE_DURATION, &[Attr::text("perfwatch.stage", stage.to_string())], gained);
        }
        if let Some([completed, failed]) = self.traced.tell() {
            for (outcome, total) in [("completed", completed), ("failed", failed)] {
                let series = table.series(&server::REQUESTS, entity, &[Attr::fixed("perfwatch.outcome", outcome)]);
                tick.values.push((series, Number::Int(total)));
            }
        }
        if self.traced.is_share_unknown() && self.metered.rates().is_none() {
            tick.absent.push(Absence { metric: server::REQUESTS.name, entity, reason: SHARE_UNKNOWN });
        }
        if !self.traced.any && self.metered.is_beyond_bounds() {
            tick.absent.push(Absence { metric: server::REQUEST_DURATION.name, entity, reason: BEYOND_BOUNDS });
        }
    }

    /// Adds what only this knows to a server's view. Metrics count every request and go before traces.
    pub(super) fn complete(&self, view: &mut ServerView, mono_ns: u64) {
        if self.has_sdk {
            return;
        }
        self.identity.kind.unwrap_or("otlp").clone_into(&mut view.kind);
        view.live = mono_ns.saturating_sub(self.heard_ns) <= SILENCE_NS;
        if let Some((_, id)) = self.identity.about.iter().find(|(key, _)| *key == "container.id") {
            view.place.get_or_insert_default().container.get_or_insert_with(|| id.clone());
        }
        if view.ledger.is_none() {
            view.ledger = self.traced.ledger();
        }
        if view.latency.is_none() {
            view.latency = self.metered.latency();
        }
        if let Some((completed, failed)) = self.metered.rates().or_else(|| self.traced.rates()) {
            (view.requests_per_s, view.errors_per_s) = (Some(completed), Some(failed));
        }
        let inside = self.streams.iter().filter(|((metric, _), _)| metered::is_inside(metric));
        let inside = inside.filter_map(|(_, stream)| stream.held()).reduce(|sum, level| sum + level);
        view.in_flight = inside.map(|level| level.max(0.0).round() as u64).or(view.in_flight);
    }
}
