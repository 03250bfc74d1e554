//! What each series gathers between two exports, and the running totals of those that leave cumulative.

use std::collections::{HashMap, HashSet};

use opentelemetry_proto::tonic::common::v1::KeyValue;
use perfwatch_model::{
    Bounded, Histogram, Instrument, Level, MetricDef, Number, SeriesId, SeriesTable, SparseHdr, Tick, metrics,
};

use super::attributes;
use super::points::{Point, Span};

/// Counters whose totals are perfwatch's own and begin at 0 with the series. They get a zero point at their start, without
/// which a backend would not count what the first tick brought. All others are totals of a kernel or driver, older than
/// this agent; a zero point would turn their whole past into an increase.
const BEGIN_AT_ZERO: &[&MetricDef] = &[
    &metrics::server::STAGE_TIME,
    &metrics::server::STATE_TIME,
    &metrics::server::REQUESTS,
    &metrics::server::REQUESTS_STARTED,
    &metrics::server::BATCH_DISPATCHES,
    &metrics::server::BATCH_READY2,
    &metrics::agent::PROBE_TIME,
    &metrics::agent::TICKS_MISSED,
    &metrics::agent::DROPPED,
];

/// A tick's interval in export time. Start and end are equal while export waits for the wall clock.
pub(crate) type Interval = Span;

enum State {
    Gauge { weighted: f64, weight: f64 },
    Counter { total: Number, seen: u64 },
    Hdr(SparseHdr),
    Bounded(Bounded),
}

struct Entry {
    metric: &'static MetricDef,
    attributes: Vec<KeyValue>,
    state: State,
    /// Start of the cumulative stream.
    start: u64,
    /// Time of the newest point that left; 0 before the first.
    exported: u64,
    /// Points that go before the next one: zero points and the last ones before a restart.
    before: Vec<Point>,
}

impl Entry {
    /// The stream's present total as a point at `end`; `None` for a gauge.
    fn total(&self, end: u64) -> Option<Point> {
        let span = Span { start: self.start, end };
        let attributes = &self.attributes;
        match &self.state {
            State::Gauge { .. } => None,
            State::Counter { total, .. } => Some(Point::sum(attributes, span, *total, self.metric.unit)),
            State::Hdr(total) => Some(Point::exponential(attributes, span, total, self.metric.unit)),
            State::Bounded(total) => Some(Point::explicit(attributes, span, total)),
        }
    }

    /// Closes the stream at `at` and begins a new one there.
    fn restart(&mut self, at: u64) {
        if self.exported < at && self.start < at {
            self.before.extend(self.total(at));
            self.exported = at;
        }
        self.start = at.max(self.exported);
    }
}

/// All series that leave.
pub(crate) struct Accumulators {
    full: bool,
    entries: HashMap<SeriesId, Entry>,
    refused: HashSet<SeriesId>,
    generation: u64,
}

impl Accumulators {
    /// Accumulators for what leaves by default, or at level of detail `full`.
    pub(crate) fn new(full: bool) -> Self {
        Self { full, entries: HashMap::new(), refused: HashSet::new(), generation: 0 }
    }

    /// Series that cannot leave because an attribute's key is refused.
    pub(crate) fn refused(&self) -> usize {
        self.refused.len()
    }

    fn leaves(&self, metric: &MetricDef) -> bool {
        // Whether a finding stands is told from the findings themselves.
        (self.full || metric.level == Level::Default) && metric.name != metrics::finding::ACTIVE.name
    }

    fn entry(
        &mut self,
        id: SeriesId,
        table: &SeriesTable,
        start: u64,
        state: impl FnOnce() -> State,
    ) -> Option<(&mut Entry, bool)> {
        use std::collections::hash_map::Entry::{Occupied, Vacant};
        let series = table.series_of(id)?;
        if !self.leaves(series.metric) || self.refused.contains(&id) {
            return None;
        }
        match self.entries.entry(id) {
            Occupied(known) => Some((known.into_mut(), false)),
            Vacant(place) => match attributes::of_series(table.entity_of(series.entity)?, &series.attrs) {
                Ok(attributes) => {
                    let (metric, state) = (series.metric, state());
                    let entry = Entry { metric, attributes, state, start, exported: 0, before: Vec::new() };
                    Some((place.insert(entry), true))
                }
                Err(key) => {
                    tracing::warn!(metric = series.metric.name, key, "series not exported: attribute key is refused");
                    self.refused.insert(id);
                    None
                }
            },
        }
    }

    /// Takes in a tick.
    pub(crate) fn add(&mut self, tick: &Tick, table: &SeriesTable, interval: Interval) {
        for (id, number) in &tick.values {
            match table.series_of(*id).map(|series| series.metric.instrument) {
                Some(Instrument::Gauge) => self.add_gauge(*id, *number, tick.dt_ns, table, interval),
                Some(Instrument::Counter) => self.add_counter(*id, *number, table, interval),
                Some(Instrument::Histogram) | None => {}
            }
        }
        for (id, histogram) in &tick.histograms {
            self.add_histogram(*id, histogram, table, interval);
        }
    }

    fn add_gauge(&mut self, id: SeriesId, number: Number, dt_ns: u64, table: &SeriesTable, interval: Interval) {
        let fresh = || State::Gauge { weighted: 0.0, weight: 0.0 };
        let Some((entry, _)) = self.entry(id, table, interval.start, fresh) else { return };
        let value = entry.metric.unit.outside(number);
        if let State::Gauge { weighted, weight } = &mut entry.state
            && value.is_finite()
        {
            *weighted += value * dt_ns as f64;
            *weight += dt_ns as f64;
        }
    }

    fn add_counter(&mut self, id: SeriesId, number: Number, table: &SeriesTable, interval: Interval) {
        let fresh = || State::Counter { total: number, seen: interval.end };
        let Some((entry, new)) = self.entry(id, table, interval.start, fresh) else { return };
        if new {
            if BEGIN_AT_ZERO.iter().any(|metric| metric.name == entry.metric.name) {
                let span = Span { start: entry.start, end: entry.start };
                entry.before.push(Point::sum(&entry.attributes, span, Number::Int(0), entry.metric.unit));
                entry.exported = entry.start;
            }
            return;
        }
        let State::Counter { total, seen } = entry.state else { return };
        if number.as_f64() < total.as_f64() {
            entry.restart(seen);
        }
        entry.state = State::Counter { total: number, seen: interval.end };
    }

    fn add_histogram(&mut self, id: SeriesId, gained: &Histogram, table: &SeriesTable, interval: Interval) {
        let fresh = || match gained {
            Histogram::Hdr(_) => State::Hdr(SparseHdr::new()),
            Histogram::Bounded(gained) => State::Bounded(emptied(gained)),
        };
        let Some((entry, new)) = self.entry(id, table, interval.start, fresh) else { return };
        if new {
            entry.before.extend(entry.total(interval.start));
            entry.exported = interval.start;
        }
        match (&mut entry.state, gained) {
            (State::Hdr(total), Histogram::Hdr(gained)) => total.add(gained),
            (State::Bounded(total), Histogram::Bounded(gained)) if total.bounds == gained.bounds => {
                for (total, gained) in total.counts.iter_mut().zip(&gained.counts) {
                    // A backend takes a smaller total for a restart.
                    *total = total.saturating_add(*gained);
                }
                total.sum += gained.sum;
            }
            // The server was restarted with other bounds: another stream.
            (_, Histogram::Bounded(gained)) => {
                entry.restart(interval.start);
                entry.state = State::Bounded(gained.clone());
            }
            (_, Histogram::Hdr(gained)) => {
                entry.restart(interval.start);
                entry.state = State::Hdr(gained.clone());
            }
        }
    }

    /// Hands all points up to `now` to `each`, those of a metric together, each series' in order of time; then begins the
    /// next interval. A series that retired leaves for the last time.
    pub(crate) fn drain(&mut self, table: &SeriesTable, now: u64, mut each: impl FnMut(&'static MetricDef, Point)) {
        self.follow(table);
        let mut entries: Vec<_> = self.entries.iter_mut().collect();
        entries.sort_unstable_by_key(|(id, entry)| (entry.metric.name, **id));
        for (_, entry) in entries {
            for point in entry.before.drain(..) {
                each(entry.metric, point);
            }
            if let State::Gauge { weighted, weight } = &mut entry.state {
                if *weight > 0.0 {
                    each(entry.metric, Point::gauge(&entry.attributes, now, *weighted / *weight));
                }
                (*weighted, *weight) = (0.0, 0.0);
                continue;
            }
            // A counter is reported as of when it was read, and not at all when it could not be; a histogram stands.
            let time = if let State::Counter { seen, .. } = entry.state { seen } else { now };
            if time > entry.exported {
                if let Some(total) = entry.total(time) {
                    each(entry.metric, total);
                }
                entry.exported = time;
            }
        }
        self.entries.retain(|id, _| table.series_of(*id).is_some());
    }

    /// Takes over what the table says anew about entities.
    fn follow(&mut self, table: &SeriesTable) {
        if self.generation == table.generation() {
            return;
        }
        self.generation = table.generation();
        self.refused.retain(|id| table.series_of(*id).is_some());
        for (id, entry) in &mut self.entries {
            let Some(series) = table.series_of(*id) else { continue };
            let Some(entity) = table.entity_of(series.entity) else { continue };
            if let Ok(attributes) = attributes::of_series(entity, &series.attrs) {
                entry.attributes = attributes;
            }
        }
    }
}

fn emptied(histogram: &Bounded) -> Bounded {
    Bounded { bounds: histogram.bounds.clone(), counts: vec![0; histogram.counts.len()], sum: 0.0 }
}

#[cfg(test)]
mod tests;
