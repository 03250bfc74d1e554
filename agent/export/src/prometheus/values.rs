//! Gauges and exemplars out of the newest ticks.

use std::collections::HashMap;

use perfwatch_model::{EntityId, Instrument, MetricDef, Number, SeriesId, SlowRequest, Tick, metrics::server};

use super::Source;
use super::families::Family;

/// A request that led to a trace.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exemplar {
    pub(super) seconds: f64,
    pub(super) ended_wall_ns: u64,
    pub(super) trace_id: String,
}

/// What totals do not tell.
#[derive(Debug, Default)]
pub(super) struct Values {
    gauges: HashMap<SeriesId, Number>,
    slow: HashMap<EntityId, Vec<Exemplar>>,
}

impl Values {
    pub(super) fn gather(families: &[Family], source: &Source<'_>) -> Self {
        let mut values = Self::default();
        values.gather_gauges(families, source);
        for tick in source.ticks {
            for server in &tick.servers {
                let exemplars = server.slow.iter().filter_map(|slow| exemplar(slow, tick));
                values.slow.entry(server.entity).or_default().extend(exemplars);
            }
        }
        // A tick may have a request that ended long before it.
        values.slow.values_mut().for_each(|slow| slow.sort_by_key(|exemplar| exemplar.ended_wall_ns));
        values
    }

    /// Most probes have a value in each tick; of those that run less often the last one stands, unless the probe has said
    /// since that there is none any more.
    fn gather_gauges(&mut self, families: &[Family], source: &Source<'_>) {
        let gauges = families.iter().filter(|family| family.metric.instrument == Instrument::Gauge);
        let mut missing: Vec<(SeriesId, EntityId, &'static MetricDef)> = gauges
            .flat_map(|family| family.series.iter().map(|series| (series.id, series.entity, family.metric)))
            .collect();
        self.gauges.reserve(missing.len());
        for tick in source.ticks.iter().rev() {
            missing.retain(|(id, entity, metric)| match tick.value(*id) {
                Some(number) => {
                    self.gauges.insert(*id, number);
                    false
                }
                None => !tick.absent.iter().any(|absent| absent.entity == *entity && absent.metric == metric.name),
            });
            if missing.is_empty() {
                return;
            }
        }
    }

    pub(super) fn gauge(&self, series: SeriesId) -> Option<Number> {
        self.gauges.get(&series).copied()
    }

    /// Requests whose durations are in this distribution, oldest first.
    pub(super) fn exemplars(&self, metric: &MetricDef, entity: EntityId) -> &[Exemplar] {
        if metric.name != server::REQUEST_DURATION.name {
            return &[];
        }
        self.slow.get(&entity).map_or(&[], Vec::as_slice)
    }
}

fn exemplar(slow: &SlowRequest, tick: &Tick) -> Option<Exemplar> {
    let id = slow.trace_id?;
    let ago = tick.end.mono_ns.saturating_sub(slow.end_ns);
    Some(Exemplar {
        seconds: slow.duration_ns as f64 / 1e9,
        ended_wall_ns: tick.end.wall_ns.saturating_sub(ago),
        trace_id: id.iter().map(|byte| format!("{byte:02x}")).collect(),
    })
}

/// The newest exemplar of the classic bucket that reaches from above `over` up to `bound`.
pub(super) fn within(exemplars: &[Exemplar], over: f64, bound: f64) -> Option<&Exemplar> {
    exemplars.iter().rev().find(|exemplar| exemplar.seconds > over && exemplar.seconds <= bound)
}
