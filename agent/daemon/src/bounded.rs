//! Distributions with bounds of a server's own, summed up since this agent began: the journal's totals know no buckets of
//! theirs.

use std::collections::BTreeMap;

use perfwatch_model::{Bounded, Histogram, SeriesId, SeriesTable, Tick};

/// By series: the sum, and when it was empty.
#[derive(Clone, Debug, Default)]
pub(crate) struct BoundedTotals(BTreeMap<SeriesId, (Bounded, u64)>);

impl BoundedTotals {
    /// Adds what a tick brought; forgets what retired.
    pub(crate) fn add(&mut self, tick: &Tick, table: &SeriesTable) {
        for (series, gained) in &tick.histograms {
            let Histogram::Bounded(gained) = gained else { continue };
            let begin = || (Bounded { counts: vec![0; gained.counts.len()], sum: 0.0, ..gained.clone() }, start(tick));
            let known = self.0.entry(*series).or_insert_with(begin);
            if known.0.bounds != gained.bounds {
                // The server was restarted with other bounds: it begins anew.
                *known = begin();
            }
            for (total, gained) in known.0.counts.iter_mut().zip(&gained.counts) {
                *total = total.saturating_add(*gained);
            }
            known.0.sum += gained.sum;
        }
        self.0.retain(|series, _| table.series_of(*series).is_some());
    }

    pub(crate) fn of(&self, series: SeriesId) -> Option<(&Bounded, u64)> {
        self.0.get(&series).map(|(total, since_wall_ns)| (total, *since_wall_ns))
    }
}

fn start(tick: &Tick) -> u64 {
    tick.end.wall_ns.saturating_sub(tick.dt_ns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{Entity, EntityKind, Stamp, metrics::server};

    #[test]
    fn gains_add_up_and_other_bounds_begin_anew() {
        let mut table = SeriesTable::new();
        let entity = table.entity(Entity::new(EntityKind::Server, "a/1"));
        let series = table.series(&server::REQUEST_DURATION, entity, &[]);
        let tick = |wall_ns: u64, bounds: &[f64], counts: &[u64]| Tick {
            end: Stamp { wall_ns, mono_ns: wall_ns },
            dt_ns: 1,
            histograms: vec![(
                series,
                Histogram::Bounded(Bounded { bounds: bounds.to_vec(), counts: counts.to_vec(), sum: 1.5 }),
            )],
            ..Tick::default()
        };
        let mut totals = BoundedTotals::default();
        totals.add(&tick(10, &[0.1], &[1, 2]), &table);
        totals.add(&tick(20, &[0.1], &[3, 0]), &table);
        let (total, since) = totals.of(series).expect("known");
        assert_eq!((total.counts.as_slice(), total.sum, since), ([4, 2].as_slice(), 3.0, 9));
        totals.add(&tick(30, &[0.2], &[1, 1]), &table);
        let (total, since) = totals.of(series).expect("known");
        assert_eq!((total.counts.as_slice(), total.sum, since), ([1, 1].as_slice(), 1.5, 29));
        table.retire(entity);
        totals.add(&Tick::default(), &table);
        assert!(totals.of(series).is_none(), "what retired is forgotten");
    }
}
