//! What counters gained from one tick to the next.

use std::collections::HashMap;

use perfwatch_model::{SeriesId, Tick};

use crate::passing::Passing;

/// The counters of one tick, and what they gained since the one before it.
#[derive(Debug, Default)]
pub(super) struct Totals {
    passing: Passing,
    /// When they were read, by that.
    read_ns: u64,
    known: HashMap<SeriesId, Total>,
}

#[derive(Clone, Copy, Debug)]
struct Total {
    now: u64,
    per_second: Option<f64>,
}

impl Totals {
    /// Takes in a tick. A counter that was not in the one before has gained nothing that is known, nor has one that went back.
    pub(super) fn advance(&mut self, tick: &Tick, counters: impl Iterator<Item = SeriesId>) {
        let before_ns = std::mem::replace(&mut self.read_ns, self.passing.to(tick));
        let seconds = self.read_ns.saturating_sub(before_ns) as f64 / 1e9;
        let before = std::mem::take(&mut self.known);
        for id in counters {
            let Some(now) = tick.value(id).and_then(perfwatch_model::Number::as_int) else { continue };
            let gained = before.get(&id).and_then(|before| now.checked_sub(before.now));
            let per_second = gained.filter(|_| seconds > 0.0).map(|gained| gained as f64 / seconds);
            self.known.insert(id, Total { now, per_second });
        }
    }

    /// What a counter gained in the newest tick, per second.
    pub(super) fn per_second(&self, id: SeriesId) -> Option<f64> {
        self.known.get(&id)?.per_second
    }
}
