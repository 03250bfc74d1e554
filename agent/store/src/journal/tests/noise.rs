//! Gauges whose values do not compress, to fill a journal with.

use perfwatch_model::metrics::host;
use perfwatch_model::{Attr, EntityKind, Number, SeriesId};

use super::Run;

pub(super) struct Noise {
    gauges: Vec<SeriesId>,
    state: u64,
}

impl Noise {
    /// So many gauges of the machine.
    pub(super) fn of(run: &mut Run, gauges: i64) -> Self {
        let host = run.table.find_entity(EntityKind::Host, "here").expect("known");
        let gauge = |at| run.table.series(&host::MEMORY_LIMIT, host, &[Attr::int("at", at)]);
        Self { gauges: (0..gauges).map(gauge).collect(), state: 1 }
    }

    /// A tick's values of all of them: 8 bytes each.
    pub(super) fn values(&mut self) -> Vec<(SeriesId, Number)> {
        let state = &mut self.state;
        let value = |series: &SeriesId| {
            // Knuth's linear congruential generator.
            *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (*series, Number::Float(f64::from_bits(*state >> 2)))
        };
        self.gauges.iter().map(value).collect()
    }
}
