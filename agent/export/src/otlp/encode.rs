//! Everything that is said between two exports, encoded once.

use std::collections::HashSet;
use std::sync::Arc;

use opentelemetry_proto::tonic::{common::v1::KeyValue, resource::v1::Resource};
use perfwatch_model::{
    EntityKind, Finding, Histogram, Instrument, Level, MetricDef, SeriesId, SeriesTable, Tick, metrics,
};

use super::attributes::{self, is_refused, text, value_of, with_value};
use super::batch::{Batches, Encoded, MAX_REQUEST};
use super::gauges::Gauges;
use super::logs::{ACTIVE, FindingLog};
use super::points::Span;
use super::stamps::{Stamped, Stamps};
use super::streams::Streams;
use super::totals::{Stream, StreamId, Totals};
use crate::config::OtlpConfig;

/// From one tick to the next while export waits for the wall clock: room for the end of a stream and the start of another.
const BETWEEN_NS: u64 = 4_000_000;

/// What a tick gives to export: requests that are to be kept before they are sent, and what must be kept with them.
#[derive(Debug, Default)]
pub struct Exported {
    /// Requests with metrics, to be sent in this order.
    pub metrics: Vec<Encoded>,
    /// A request with findings, should one have changed.
    pub logs: Option<Encoded>,
    /// Streams that began, moved on, or ended (`None`).
    pub streams: Vec<(StreamId, Option<Stream>)>,
    /// The newest stamp that left, when metrics did.
    pub stamp_ns: Option<u64>,
}

/// Turns ticks and findings into requests. Pure: it sends nothing and reads no clock.
///
/// Each tick passes through [`Encoder::before`], then is added to the totals, then through [`Encoder::after`].
pub struct Encoder {
    base: Vec<(String, String)>,
    full: bool,
    metrics: bool,
    logs: bool,
    gauges: Gauges,
    streams: Streams,
    refused: HashSet<SeriesId>,
    generation: u64,
    findings: FindingLog,
    stamps: Stamps,
    interval: Span,
    behind_ns: Option<u64>,
    /// Ticks since export waits.
    waited: u64,
    exported: Option<u64>,
    interval_ns: u64,
    due_ns: Option<u64>,
}

impl Encoder {
    /// An encoder for what `config` wants; at level of detail `full`, or the default one that leaves out processes, single
    /// cores, and what servers measure by themselves.
    pub fn new(config: &OtlpConfig, full: bool) -> Self {
        Self {
            base: config.resource.clone(),
            full,
            metrics: config.metrics.is_some(),
            logs: config.logs.is_some(),
            gauges: Gauges::default(),
            streams: Streams::default(),
            refused: HashSet::new(),
            generation: 0,
            findings: FindingLog::default(),
            stamps: Stamps::default(),
            interval: Span { start: 0, end: 0 },
            behind_ns: None,
            waited: 0,
            exported: None,
            interval_ns: u64::try_from(config.interval.as_nanos()).unwrap_or(u64::MAX),
            due_ns: None,
        }
    }

    /// Goes on where a former agent stopped: with its streams, and with no stamp before the last one it gave.
    pub fn restore(
        &mut self,
        streams: impl IntoIterator<Item = (StreamId, Stream)>,
        stamp_ns: Option<u64>,
        totals: &dyn Totals,
    ) {
        self.stamps = Stamps::after(stamp_ns);
        if self.metrics {
            for (number, stream) in streams {
                self.streams.restore(number, stream, totals.metric(number));
            }
        }
    }

    /// True when there is nowhere to export to.
    pub fn is_off(&self) -> bool {
        !self.metrics && !self.logs
    }

    /// How far the wall clock is behind what was exported, while export waits for it.
    pub fn waits_for_clock(&self) -> Option<u64> {
        self.behind_ns
    }

    /// Series that cannot leave because of an attribute.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// All streams as they stand, for where nothing is kept any more of what [`Exported::streams`] said.
    pub fn all_streams(&self) -> Vec<(StreamId, Stream)> {
        self.streams.all()
    }

    fn leaves(&self, metric: &MetricDef) -> bool {
        // Whether a finding stands is told from the findings themselves.
        (self.full || metric.level == Level::Default) && metric.name != metrics::finding::ACTIVE.name
    }

    fn stamp(&mut self, tick: &Tick) -> Span {
        let before = self.stamps.last();
        match self.stamps.stamp(tick.end, tick.dt_ns) {
            Stamped::At(end) => {
                (self.behind_ns, self.waited) = (None, 0);
                // After a gap the interval is the tick's own, never longer.
                let told = before.unwrap_or(0).max(self.interval.end);
                Span { start: end.saturating_sub(tick.dt_ns).max(told), end }
            }
            Stamped::Wait { behind_ns } => {
                (self.behind_ns, self.waited) = (Some(behind_ns), self.waited + 1);
                // What ends meanwhile needs stamps of its own, between the last one and the next that is given.
                let between = self.waited.saturating_mul(BETWEEN_NS).min(tick.dt_ns / 2);
                let start = before.unwrap_or(tick.end.wall_ns).saturating_add(between);
                Span { start, end: start.saturating_add(BETWEEN_NS / 2) }
            }
        }
    }

    /// Sees a tick before it is added to the totals: what begins with it, and what ends.
    pub fn before(&mut self, tick: &Tick, table: &SeriesTable, totals: &dyn Totals) {
        if self.is_off() {
            return;
        }
        self.interval = self.stamp(tick);
        if !self.metrics {
            return;
        }
        self.follow(table, totals);
        for (id, _) in &tick.values {
            self.meet(*id, None, table, totals);
        }
        for (id, gained) in &tick.histograms {
            self.streams.expect(*id, gained, self.interval.start, totals);
            self.meet(*id, Some(gained), table, totals);
        }
    }

    fn meet(&mut self, id: SeriesId, gained: Option<&Histogram>, table: &SeriesTable, totals: &dyn Totals) {
        if self.streams.knows(id) || self.gauges.knows(id) || self.refused.contains(&id) {
            return;
        }
        let Some(series) = table.series_of(id).filter(|series| self.leaves(series.metric)) else { return };
        let Some(entity) = table.entity_of(series.entity) else { return };
        let attributes: Arc<[KeyValue]> = match attributes::of_series(entity, &series.attrs) {
            Ok(attributes) => attributes.into(),
            Err(key) => {
                tracing::warn!(metric = series.metric.name, key, "series not exported: attribute key is refused");
                self.refused.insert(id);
                return;
            }
        };
        match series.metric.instrument {
            Instrument::Gauge => self.gauges.meet(id, series.metric, attributes),
            Instrument::Counter | Instrument::Histogram => {
                let about = (series.metric, attributes);
                self.streams.meet(id, about, gained, self.interval.start, (table, totals));
            }
        }
    }

    /// Takes over what the table says anew about entities.
    fn follow(&mut self, table: &SeriesTable, totals: &dyn Totals) {
        if self.generation == table.generation() {
            return;
        }
        self.generation = table.generation();
        self.refused.retain(|id| table.series_of(*id).is_some());
        let ids: Vec<_> = self.gauges.ids().chain(self.streams.ids()).collect();
        for id in ids {
            let Some(series) = table.series_of(id) else { continue };
            let Some(entity) = table.entity_of(series.entity) else { continue };
            if let Ok(attributes) = attributes::of_series(entity, &series.attrs) {
                let attributes: Arc<[KeyValue]> = attributes.into();
                self.gauges.describe(id, &attributes);
                self.streams.describe(id, &attributes, self.interval.start, totals);
            }
        }
    }

    /// Takes in the tick that the totals have now, and what stands found after it. Findings that changed leave at once,
    /// metrics when the interval is over, or when this is the `last` tick.
    pub fn after(
        &mut self,
        tick: &Tick,
        table: &SeriesTable,
        totals: &dyn Totals,
        findings: &[Finding],
        last: bool,
    ) -> Exported {
        let mut out = Exported::default();
        if self.is_off() {
            return out;
        }
        self.findings.observe(findings, table, self.interval.end);
        if self.metrics {
            self.add(tick, table, totals);
            if self.is_due(tick) | self.streams.must_leave_now() || last {
                (out.metrics, out.stamp_ns) = self.encode(table, totals);
            }
            out.streams = self.streams.changed();
        }
        if self.findings.has_events() {
            let events = self.findings.drain(&self.resource(table));
            out.logs = self.logs.then_some(events);
        }
        out
    }

    /// Everything since the last export, where no further tick comes.
    pub fn rest(&mut self, table: &SeriesTable, totals: &dyn Totals) -> Exported {
        let mut out = Exported::default();
        if self.metrics {
            (out.metrics, out.stamp_ns) = self.encode(table, totals);
            out.streams = self.streams.changed();
        }
        out
    }

    fn add(&mut self, tick: &Tick, table: &SeriesTable, totals: &dyn Totals) {
        let mut counters = Vec::new();
        for (id, number) in &tick.values {
            match table.series_of(*id).map(|series| (series.metric.instrument, series.metric.unit)) {
                Some((Instrument::Gauge, unit)) => self.gauges.add(*id, unit.outside(*number), tick.dt_ns),
                Some((Instrument::Counter, _)) => counters.push(*id),
                Some((Instrument::Histogram, _)) | None => {}
            }
        }
        self.streams.add(counters.into_iter(), &tick.histograms, self.interval.end, (table, totals));
    }

    fn is_due(&mut self, tick: &Tick) -> bool {
        let now = tick.end.mono_ns;
        // Ticks end within milliseconds of a whole second; one that is a little early is the one that was meant.
        let slack = tick.dt_ns / 2;
        let first_due = now.saturating_sub(tick.dt_ns).saturating_add(self.interval_ns);
        let due = *self.due_ns.get_or_insert(first_due);
        let is_due = now.saturating_add(slack) >= due;
        if is_due {
            self.due_ns = Some(now.saturating_add(self.interval_ns));
        }
        is_due
    }

    /// Everything measured since the last call, and the stamp it bears; nothing while export waits for the wall clock.
    fn encode(&mut self, table: &SeriesTable, totals: &dyn Totals) -> (Vec<Encoded>, Option<u64>) {
        let Some(now) = self.stamps.last().filter(|_| self.behind_ns.is_none()) else { return (Vec::new(), None) };
        // A second export of the same instant would repeat points; backends refuse those.
        if self.exported.replace(now) == Some(now) {
            return (Vec::new(), None);
        }
        let gauges = self.gauges.drain(table, now).into_iter().map(|(metric, id, point)| (metric, id.0, point));
        let mut points = self.streams.drain(table, totals, now);
        points.extend(gauges);
        points.extend(self.findings.active_points(now).into_iter().map(|point| (ACTIVE, 0, point)));
        // Stable: the points of a series stay in the order of their times.
        points.sort_by(|left, right| (left.0.name, left.1).cmp(&(right.0.name, right.1)));
        let mut batches = Batches::new(self.resource(table), MAX_REQUEST);
        for (metric, _, point) in points {
            batches.push(metric, point);
        }
        (batches.finish(), Some(now))
    }

    /// The configured resource, completed by what is known about the host.
    fn resource(&self, table: &SeriesTable) -> Resource {
        let mut attributes: Vec<KeyValue> =
            self.base.iter().map(|(key, value)| text(key.clone(), value.clone())).collect();
        let host = table.entities().find(|(_, entity)| entity.kind == EntityKind::Host);
        for attr in host.map_or(&[][..], |(_, host)| &host.attributes) {
            if !is_refused(attr.key) && attributes.iter().all(|known| known.key != attr.key) {
                attributes.push(with_value(attr.key, value_of(&attr.value)));
            }
        }
        Resource { attributes, ..Resource::default() }
    }
}

#[cfg(test)]
mod tests;
