//! Everything that is said between two exports, encoded once.

use opentelemetry_proto::tonic::{common::v1::KeyValue, resource::v1::Resource};
use perfwatch_model::{EntityKind, Finding, SeriesTable, Tick};

use super::accumulate::{Accumulators, Interval};
use super::attributes::{is_refused, text, value_of, with_value};
use super::batch::{Batches, Encoded, MAX_REQUEST};
use super::logs::{ACTIVE, FindingLog};
use super::stamps::{Stamped, Stamps};

/// Turns ticks and findings into requests.
pub(crate) struct Encoder {
    base: Vec<(String, String)>,
    sums: Accumulators,
    findings: FindingLog,
    stamps: Stamps,
    behind_ns: Option<u64>,
    exported: Option<u64>,
}

impl Encoder {
    /// An encoder for a resource with these attributes; at level of detail `full` if so asked.
    pub(crate) fn new(resource: Vec<(String, String)>, full: bool) -> Self {
        Self {
            base: resource,
            sums: Accumulators::new(full),
            findings: FindingLog::default(),
            stamps: Stamps::default(),
            behind_ns: None,
            exported: None,
        }
    }

    /// Takes in a tick and what was found in it.
    pub(crate) fn offer(&mut self, tick: &Tick, table: &SeriesTable, findings: &[Finding]) {
        let before = self.stamps.last();
        let interval = match self.stamps.stamp(tick.end, tick.dt_ns) {
            Stamped::At(end) => {
                self.behind_ns = None;
                // After a gap the interval is the tick's own, never longer.
                let start = end.saturating_sub(tick.dt_ns).max(before.unwrap_or(0));
                Interval { start, end }
            }
            Stamped::Wait { behind_ns } => {
                self.behind_ns = Some(behind_ns);
                let last = before.unwrap_or(tick.end.wall_ns);
                Interval { start: last, end: last }
            }
        };
        self.sums.add(tick, table, interval);
        self.findings.observe(findings, table, interval.end);
    }

    /// How far the wall clock is behind what was exported, while export waits for it.
    pub(crate) fn waits_for_clock(&self) -> Option<u64> {
        self.behind_ns
    }

    /// Series that cannot leave because of an attribute.
    pub(crate) fn refused(&self) -> usize {
        self.sums.refused()
    }

    /// Everything measured since the last call, as requests that must be sent in this order; nothing while export waits
    /// for the wall clock.
    pub(crate) fn metrics(&mut self, table: &SeriesTable) -> Vec<Encoded> {
        let Some(now) = self.stamps.last().filter(|_| self.behind_ns.is_none()) else { return Vec::new() };
        // A second export of the same instant, as at the end, would repeat points; backends refuse those.
        if self.exported.replace(now) == Some(now) {
            return Vec::new();
        }
        let mut batches = Batches::new(self.resource(table), MAX_REQUEST);
        self.sums.drain(table, now, |metric, point| batches.push(metric, point));
        for point in self.findings.active_points(now) {
            batches.push(ACTIVE, point);
        }
        batches.finish()
    }

    /// What happened to findings since the last call; `None` when nothing did.
    pub(crate) fn events(&mut self, table: &SeriesTable) -> Option<Encoded> {
        if !self.findings.has_events() {
            return None;
        }
        Some(self.findings.drain(&self.resource(table)))
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
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    use perfwatch_model::{Entity, Histogram, SparseHdr, Stamp, metrics::server};
    use prost::Message as _;

    const SECOND: u64 = 1_000_000_000;

    /// (time in seconds, count) of the histogram points of an export.
    fn counts(requests: &[Encoded]) -> Vec<(u64, u64)> {
        let mut out = Vec::new();
        for request in requests {
            let request = ExportMetricsServiceRequest::decode(request.body.clone()).expect("we encoded it");
            for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
                if let Some(Data::ExponentialHistogram(data)) = &metric.data {
                    out.extend(data.data_points.iter().map(|point| (point.time_unix_nano / SECOND, point.count)));
                }
            }
        }
        out
    }

    #[test]
    fn a_clock_that_was_set_back_far_delays_export_and_loses_nothing() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Server, "shop"));
        let series = table.series(&server::REQUEST_DURATION, entity, &[]);
        let mut encoder = Encoder::new(Vec::new(), false);
        let mut export_at = |wall_s: u64| {
            let mut one = SparseHdr::new();
            one.record(SECOND);
            let tick = Tick {
                end: Stamp { mono_ns: 0, wall_ns: wall_s * SECOND },
                dt_ns: SECOND,
                histograms: vec![(series, Histogram::Hdr(one))],
                ..Tick::default()
            };
            encoder.offer(&tick, &table, &[]);
            (counts(&encoder.metrics(&table)), encoder.waits_for_clock().is_some())
        };
        assert_eq!(export_at(100_000), (vec![(99_999, 0), (100_000, 1)], false));
        assert_eq!(export_at(90_000), (vec![], true));
        assert_eq!(export_at(90_001), (vec![], true));
        assert_eq!(export_at(100_001), (vec![(100_001, 4)], false));
    }

    #[test]
    fn an_instant_is_exported_once() {
        let table = SeriesTable::new();
        let mut encoder = Encoder::new(Vec::new(), false);
        let finding = crate::otlp::logs::tests::finding(perfwatch_model::Severity::Note);
        encoder.offer(&Tick { end: Stamp { mono_ns: 0, wall_ns: 1 }, ..Tick::default() }, &table, &[finding]);
        assert_eq!(encoder.metrics(&table).len(), 1);
        assert_eq!(encoder.metrics(&table).len(), 0);
    }
}
