//! What counters gained from one tick to the next.

use std::collections::HashMap;

use perfwatch_model::{SeriesId, Tick};

use crate::scheduler::TICK_NS;

/// The counters of one tick, and what they gained since the one before it.
#[derive(Debug, Default)]
pub(super) struct Totals {
    mono_ns: u64,
    /// How long after the end of that tick its counters were read, as far as the ticks tell.
    late_ns: u64,
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
        let seconds = self.passed(tick) as f64 / 1e9;
        let before = std::mem::take(&mut self.known);
        for id in counters {
            let Some(now) = tick.value(id).and_then(perfwatch_model::Number::as_int) else { continue };
            let gained = before.get(&id).and_then(|before| now.checked_sub(before.now));
            let per_second = gained.filter(|_| seconds > 0.0).map(|gained| gained as f64 / seconds);
            self.known.insert(id, Total { now, per_second });
        }
    }

    /// Nanoseconds in which the counters gained what they did. Ticks end on whole seconds, however late they are read: of one
    /// that follows at once only its own length tells. Where ticks are missing in between, the distance of the ends does.
    fn passed(&mut self, tick: &Tick) -> u64 {
        let apart = tick.end.mono_ns.saturating_sub(self.mono_ns);
        let reach = self.late_ns.saturating_add(tick.dt_ns);
        let follows = apart <= TICK_NS.max(reach.saturating_add(reach / 2));
        self.mono_ns = tick.end.mono_ns;
        self.late_ns = if follows { reach.saturating_sub(apart) } else { 0 };
        if follows && apart > 0 { tick.dt_ns } else { apart }
    }

    /// What a counter gained in the newest tick, per second.
    pub(super) fn per_second(&self, id: SeriesId) -> Option<f64> {
        self.known.get(&id)?.per_second
    }
}
