//! Where a probe puts what it read.

use crate::{Absence, Attr, Entity, EntityId, MetricDef, Number, Reason, SeriesId, SeriesTable, Tick};

/// The tick being filled, with the table that names its series.
///
/// A probe interns its series when it opens or meets something new, keeps the handles, and in the steady state only
/// pushes numbers: nothing here allocates once the tick's buffers have grown to size.
pub struct Sample<'a> {
    table: &'a mut SeriesTable,
    tick: &'a mut Tick,
}

impl<'a> Sample<'a> {
    /// A sample that fills `tick` and interns into `table`.
    pub fn new(table: &'a mut SeriesTable, tick: &'a mut Tick) -> Self {
        Self { table, tick }
    }

    /// The table, for everything that names things.
    pub fn table(&mut self) -> &mut SeriesTable {
        self.table
    }

    /// The handle of an entity, new or known.
    pub fn entity(&mut self, entity: Entity) -> EntityId {
        self.table.entity(entity)
    }

    /// The handle of a series, new or known.
    pub fn series(&mut self, metric: &'static MetricDef, entity: EntityId, attrs: &[Attr]) -> SeriesId {
        self.table.series(metric, entity, attrs)
    }

    /// A value in the metric's unit (seconds, ratio, watts …).
    pub fn gauge(&mut self, series: SeriesId, value: f64) {
        self.tick.values.push((series, Number::Float(value)));
    }

    /// An exact integer: a byte count, or nanoseconds for a metric in seconds.
    pub fn gauge_int(&mut self, series: SeriesId, value: u64) {
        self.tick.values.push((series, Number::Int(value)));
    }

    /// The running total of a counter; nanoseconds for a metric in seconds.
    pub fn counter(&mut self, series: SeriesId, total: u64) {
        self.tick.values.push((series, Number::Int(total)));
    }

    /// Says that a metric has no value here, and why.
    pub fn unavailable(&mut self, metric: &'static MetricDef, entity: EntityId, reason: Reason) {
        self.tick.absent.push(Absence { metric: metric.name, entity, reason });
    }
}
