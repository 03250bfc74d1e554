//! What export tells about itself, as metrics like any other.

use perfwatch_model::metrics::export;
use perfwatch_model::{Attr, Entity, EntityId, EntityKind, Sample, SeriesTable, Tick};

use super::Shipped;

/// The series of export's own metrics.
pub(crate) struct ExportMetrics {
    entity: EntityId,
}

impl ExportMetrics {
    pub(crate) fn new(table: &mut SeriesTable) -> Self {
        Self { entity: table.entity(Entity::new(EntityKind::Agent, "perfwatch")) }
    }

    /// Says what arrived, what did not, and what waits; nothing where nothing is exported.
    pub(crate) fn sample(&self, shipped: &Shipped, table: &mut SeriesTable, tick: &mut Tick) {
        if shipped.views.is_empty() {
            return;
        }
        let mut out = Sample::new(table, tick);
        for (signal, items) in &shipped.sent {
            let series = out.series(&export::SENT, self.entity, &[Attr::fixed("perfwatch.signal", signal)]);
            out.counter(series, *items);
        }
        for (signal, reason, items) in &shipped.dropped {
            let attrs = [Attr::fixed("perfwatch.signal", signal), Attr::fixed("perfwatch.reason", reason)];
            let series = out.series(&export::DROPPED, self.entity, &attrs);
            out.counter(series, *items);
        }
        let gauges = [
            (&export::REFUSED_SERIES, shipped.refused_series),
            (&export::OUTBOX_REQUESTS, shipped.outbox.requests),
            (&export::OUTBOX_SIZE, shipped.outbox.bytes),
        ];
        for (metric, value) in gauges {
            let series = out.series(metric, self.entity, &[]);
            out.gauge_int(series, value);
        }
        let series = out.series(&export::OUTBOX_AGE, self.entity, &[]);
        out.gauge(series, shipped.outbox.oldest_s);
    }
}
