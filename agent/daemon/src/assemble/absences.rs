//! What could not be read, each once, for as long as that holds.

use perfwatch_model::metrics::gpu;
use perfwatch_model::snapshot::Unavailable;
use perfwatch_model::{EntityId, MetricDef, Reason, SeriesTable, Tick};
use perfwatch_probes::host::NO_QUOTA;

/// Ticks for which an absence is believed without being repeated: slow probes say it only when they run, and the slowest
/// runs every minute, stretched every few. GPUs are told of in each tick, and by other entities when they are there.
const BELIEVED: u64 = 600;

struct Known {
    metric: &'static str,
    entity: EntityId,
    reason: Reason,
    /// Tick in which it was last said; `None` for a probe that could not be opened.
    said: Option<u64>,
    /// Ticks for which it is believed from then on.
    believed: u64,
}

/// All absences that hold.
pub(super) struct Absences {
    known: Vec<Known>,
    tick: u64,
}

impl Absences {
    pub(super) fn new(host: EntityId, closed: impl Iterator<Item = (&'static MetricDef, Reason)>) -> Self {
        let known =
            closed.map(|(metric, reason)| Known { metric: metric.name, entity: host, reason, said: None, believed: 0 });
        Self { known: known.collect(), tick: 0 }
    }

    /// Takes in what a tick says, and forgets what it refutes. That no quota is set is a fact and not a gap.
    pub(super) fn update(&mut self, tick: &Tick, table: &SeriesTable) {
        self.tick += 1;
        for absence in tick.absent.iter().filter(|absence| absence.reason != NO_QUOTA) {
            let same = |known: &&mut Known| known.metric == absence.metric && known.entity == absence.entity;
            match self.known.iter_mut().find(same) {
                Some(known) => {
                    known.said = Some(self.tick);
                    if known.reason != absence.reason {
                        known.reason.clone_from(&absence.reason);
                    }
                }
                None => self.known.push(Known {
                    metric: absence.metric,
                    entity: absence.entity,
                    reason: absence.reason.clone(),
                    said: Some(self.tick),
                    believed: if gpu::ALL.iter().any(|metric| metric.name == absence.metric) { 0 } else { BELIEVED },
                }),
            }
        }
        let now = self.tick;
        self.known.retain(|known| match known.said {
            None => true,
            Some(said) if said == now => true,
            Some(said) => {
                let has_value = || {
                    table.iter().any(|(id, series)| {
                        series.entity == known.entity && series.metric.name == known.metric && tick.value(id).is_some()
                    })
                };
                now - said <= known.believed && table.entity_of(known.entity).is_some() && !has_value()
            }
        });
    }

    pub(super) fn views(&self, table: &SeriesTable) -> Vec<Unavailable> {
        self.known
            .iter()
            .filter_map(|known| {
                Some(Unavailable {
                    metric: known.metric.to_owned(),
                    entity: table.entity_of(known.entity)?.to_string(),
                    reason: known.reason.text.to_string(),
                    cure: known.reason.cure.to_string(),
                    kind: known.reason.kind,
                })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::metrics::host;
    use perfwatch_model::{Absence, AbsenceKind, Entity, EntityKind, Number};

    const WHY: Reason = Reason::fixed("no such file", "mount it").by_failure();

    #[test]
    fn an_absence_is_listed_once_until_a_value_comes() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Host, "here"));
        let series = table.series(&host::MEMORY_LIMIT, entity, &[]);
        let mut absences = Absences::new(entity, std::iter::empty());
        let absent = Absence { metric: host::MEMORY_LIMIT.name, entity, reason: WHY };
        let said = Tick { absent: vec![absent.clone(), absent], ..Tick::default() };
        absences.update(&said, &table);
        absences.update(&said, &table);
        let views = absences.views(&table);
        assert_eq!(views.len(), 1);
        let view = &views[0];
        assert_eq!(
            (view.entity.as_str(), view.cure.as_str(), view.kind),
            ("host:here", "mount it", AbsenceKind::Failed)
        );
        absences.update(&Tick::default(), &table);
        assert_eq!(absences.views(&table).len(), 1, "a slow probe did not run in this tick");
        absences.update(&Tick { values: vec![(series, Number::Int(1))], ..Tick::default() }, &table);
        assert_eq!(absences.views(&table).len(), 0);
    }

    #[test]
    fn that_a_driver_starts_is_no_gap_any_more_when_its_gpus_are_there() {
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "here"));
        let mut absences = Absences::new(host, std::iter::empty());
        let absent = Absence { metric: gpu::XIDS.name, entity: host, reason: WHY };
        absences.update(&Tick { absent: vec![absent], ..Tick::default() }, &table);
        assert_eq!(absences.views(&table).len(), 1);
        absences.update(&Tick::default(), &table);
        assert_eq!(absences.views(&table).len(), 0);
    }

    #[test]
    fn what_a_closed_probe_would_have_measured_stays_listed() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Host, "here"));
        let mut absences = Absences::new(entity, [(&host::MEMORY_LIMIT, WHY)].into_iter());
        for _ in 0..BELIEVED + 2 {
            absences.update(&Tick::default(), &table);
        }
        assert_eq!(absences.views(&table)[0].metric, "system.memory.limit");
    }
}
