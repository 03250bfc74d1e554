//! What gauges gather between two exports: their mean, and their peak where it is marked.

use std::collections::HashMap;
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use perfwatch_model::{MetricDef, SeriesId, SeriesTable};

use super::points::Point;

struct Entry {
    metric: &'static MetricDef,
    attributes: Arc<[KeyValue]>,
    weighted: f64,
    weight: f64,
    peak: f64,
}

/// All gauges that leave. They say nothing about the past, so nothing of them outlives the agent.
#[derive(Default)]
pub(super) struct Gauges(HashMap<SeriesId, Entry>);

impl Gauges {
    pub(super) fn knows(&self, id: SeriesId) -> bool {
        self.0.contains_key(&id)
    }

    pub(super) fn meet(&mut self, id: SeriesId, metric: &'static MetricDef, attributes: Arc<[KeyValue]>) {
        let entry = Entry { metric, attributes, weighted: 0.0, weight: 0.0, peak: f64::NEG_INFINITY };
        self.0.insert(id, entry);
    }

    /// Takes in a value that stood for `dt_ns`.
    pub(super) fn add(&mut self, id: SeriesId, value: f64, dt_ns: u64) {
        let Some(entry) = self.0.get_mut(&id) else { return };
        if value.is_finite() {
            entry.weighted += value * dt_ns as f64;
            entry.weight += dt_ns as f64;
            entry.peak = entry.peak.max(value);
        }
    }

    /// The series is described anew.
    pub(super) fn describe(&mut self, id: SeriesId, attributes: &Arc<[KeyValue]>) {
        if let Some(entry) = self.0.get_mut(&id) {
            entry.attributes = Arc::clone(attributes);
        }
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.0.keys().copied()
    }

    /// The points of the interval that ends at `now`; one that could not be read has none. Then begins the next.
    pub(super) fn drain(&mut self, table: &SeriesTable, now: u64) -> Vec<(&'static MetricDef, SeriesId, Point)> {
        let mut points = Vec::with_capacity(self.0.len());
        for (id, entry) in self.0.iter_mut().filter(|(_, entry)| entry.weight > 0.0) {
            points.push((entry.metric, *id, Point::gauge(&entry.attributes, now, entry.weighted / entry.weight)));
            if let Some(peak) = entry.metric.peak {
                points.push((peak, *id, Point::gauge(&entry.attributes, now, entry.peak)));
            }
            (entry.weighted, entry.weight, entry.peak) = (0.0, 0.0, f64::NEG_INFINITY);
        }
        self.0.retain(|id, _| table.series_of(*id).is_some());
        points
    }
}
