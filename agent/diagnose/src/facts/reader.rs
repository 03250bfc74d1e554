//! Reads facts from ticks.

use std::collections::BTreeMap;

use perfwatch_model::{EntityId, MetricDef, Number, Quality, Reason, SeriesId, SeriesTable, Tick};

use super::handles::{GpuHandles, Handles};
use super::{Fact, Facts, GpuFacts, HostFacts, ServerFacts};
use crate::recollection::DriverTotals;

/// Turns each tick once into [`Facts`]. Remembers the totals of the tick before, because counters are differenced.
///
/// Belongs to one [`SeriesTable`]: handles of another table would name other series.
#[derive(Clone, Debug, Default)]
pub struct FactReader {
    handles: Handles,
    before: Vec<(SeriesId, Number)>,
    before_end_ns: Option<u64>,
    /// Totals that GPUs' errors are told by, as they last were, however long ago.
    errors: BTreeMap<SeriesId, u64>,
    /// The same from before the first tick, of GPUs of which they are yet to be told, by entity.
    recalled: BTreeMap<String, DriverTotals>,
}

impl FactReader {
    /// A reader that has seen nothing: counters are unknown in the first tick.
    pub fn new() -> Self {
        Self::default()
    }

    /// What the driver's totals of GPUs were before the first tick.
    pub(crate) fn recall(&mut self, totals: BTreeMap<String, DriverTotals>) {
        self.recalled = totals;
    }

    /// What the driver's totals of a GPU last were.
    pub(crate) fn totals(&self, entity: EntityId, id: &str) -> DriverTotals {
        let Some(handles) = self.handles.gpus.get(&entity) else { return DriverTotals::default() };
        let last = |series: Option<SeriesId>| self.errors.get(&series?).copied();
        let recalled = self.recalled.get(id).copied().unwrap_or_default();
        DriverTotals {
            uncorrected: last(handles.uncorrected).or(recalled.uncorrected),
            energy: last(handles.energy).or(recalled.energy),
        }
    }

    /// The facts of the next tick, which must be sealed.
    pub fn read(&mut self, tick: &Tick, table: &SeriesTable) -> Facts {
        self.handles.refresh(table);
        // Totals that are further apart than the tick is long gained part of their difference outside of it.
        let apart = self.before_end_ns.map_or(0, |end| tick.end.mono_ns.saturating_sub(end));
        let gap = apart > tick.dt_ns + tick.dt_ns / 2;
        if gap {
            self.before.clear();
        }
        let source = Source { tick, before: &self.before, gap };
        let host = HostFacts::read(&source, &self.handles.host, !self.handles.gpus.is_empty());
        let servers = self
            .handles
            .servers
            .iter()
            .map(|(entity, handles)| {
                let reported = tick.servers.iter().find(|server| server.entity == *entity);
                ServerFacts::read(&source, *entity, handles, reported)
            })
            .collect();
        let first = self.before_end_ns.is_none();
        self.errors.retain(|series, _| table.series_of(*series).is_some());
        let mut gpus = Vec::with_capacity(self.handles.gpus.len());
        for (entity, handles) in &self.handles.gpus {
            let mut gpu = GpuFacts::read(&source, *entity, handles);
            let id = || table.entity_of(*entity).map(ToString::to_string).unwrap_or_default();
            recall(&mut self.recalled, id, handles, &mut self.errors);
            gpu.read_errors(&source, handles, &mut self.errors, first);
            gpu.read_energy(&source, handles, &mut self.errors);
            gpus.push(gpu);
        }
        self.before.clone_from(&tick.values);
        self.before_end_ns = Some(tick.end.mono_ns);
        Facts { end: tick.end, dt_ns: tick.dt_ns, host, servers, gpus }
    }
}

/// Begins with what was recalled of a GPU, as far as there are series for it: it may be some ticks until all have been told.
fn recall(
    recalled: &mut BTreeMap<String, DriverTotals>,
    id: impl Fn() -> String,
    handles: &GpuHandles,
    errors: &mut BTreeMap<SeriesId, u64>,
) {
    if recalled.is_empty() {
        return;
    }
    let id = id();
    let Some(DriverTotals { uncorrected, energy }) = recalled.get_mut(&id) else { return };
    for (series, total) in [(handles.uncorrected, uncorrected), (handles.energy, energy)] {
        if let Some(series) = series
            && let Some(total) = total.take()
        {
            errors.entry(series).or_insert(total);
        }
    }
    recalled.retain(|_, totals| *totals != DriverTotals::default());
}

/// A tick and the totals before it.
pub(super) struct Source<'a> {
    tick: &'a Tick,
    before: &'a [(SeriesId, Number)],
    /// True when the totals before are not those of the tick before.
    gap: bool,
}

impl<'a> Source<'a> {
    pub(super) fn dt_ns(&self) -> u64 {
        self.tick.dt_ns
    }

    pub(super) fn tick(&self) -> &'a Tick {
        self.tick
    }

    /// What a counter gained in the tick.
    pub(super) fn counter(&self, series: Option<SeriesId>, metric: &MetricDef, entity: EntityId) -> Fact<u64> {
        let Some(now) = self.number(series).and_then(Number::as_int) else { return self.absent(metric, entity) };
        let before = series.and_then(|series| self.earlier(series));
        match before.map(|before| now.checked_sub(before)) {
            Some(Some(gained)) => Fact::known(gained, Quality::Counter),
            Some(None) => Fact::missing("the counter went back: what it counts has restarted"),
            None => Fact::missing("the counter has no earlier value to compare with yet"),
        }
    }

    /// What a total gained that is counted here, from the first message on: one without an earlier value began in this tick.
    pub(super) fn total(&self, series: SeriesId) -> Fact<u64> {
        let Some(now) = self.number(Some(series)).and_then(Number::as_int) else {
            return Fact::missing("the total is not in this tick");
        };
        let before = match self.earlier(series) {
            None if self.gap => return Fact::missing("the total has no earlier value to compare with yet"),
            before => before.unwrap_or(0),
        };
        match now.checked_sub(before) {
            Some(gained) => Fact::known(gained, Quality::Sdk),
            None => Fact::missing("the total went back: what it counts has restarted"),
        }
    }

    /// False for a total that is in neither tick: that there is a series says nothing, a later tick may have brought it.
    pub(super) fn has_begun(&self, series: SeriesId) -> bool {
        self.number(Some(series)).is_some() || self.earlier(series).is_some()
    }

    fn earlier(&self, series: SeriesId) -> Option<u64> {
        let at = self.before.binary_search_by_key(&series, |(id, _)| *id).ok()?;
        self.before[at].1.as_int()
    }

    /// A gauge in its metric's unit.
    pub(super) fn gauge(&self, series: Option<SeriesId>, metric: &MetricDef, entity: EntityId) -> Fact<f64> {
        match self.number(series) {
            Some(number) => Fact::known(metric.unit.outside(number), Quality::Counter),
            None => self.absent(metric, entity),
        }
    }

    /// A gauge that counts bytes.
    pub(super) fn bytes(&self, series: Option<SeriesId>, metric: &MetricDef, entity: EntityId) -> Fact<u64> {
        self.gauge(series, metric, entity).map(|bytes| bytes as u64)
    }

    fn number(&self, series: Option<SeriesId>) -> Option<Number> {
        series.and_then(|series| self.tick.value(series))
    }

    /// Why there is no value of a metric in this tick.
    pub(super) fn absent<T>(&self, metric: &MetricDef, entity: EntityId) -> Fact<T> {
        let said = self.tick.absent.iter().find(|absence| absence.entity == entity && absence.metric == metric.name);
        match said {
            Some(absence) => Fact::unknown(absence.reason.clone()),
            None => Fact::unknown(Reason::new(format!("{} was not measured in this tick", metric.name), "")),
        }
    }
}
