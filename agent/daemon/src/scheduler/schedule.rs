//! The arithmetic of ticks.

use perfwatch_model::Stamp;

/// Length of a tick.
pub(crate) const TICK_NS: u64 = 1_000_000_000;
/// How long after its end a tick stays open for what model servers send: their flushes leave within 300 ms.
pub(crate) const CLOSE_AFTER_NS: u64 = 500_000_000;

/// A tick that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// The whole second that it ends on.
    pub(crate) end: Stamp,
    /// Time since the last sample was taken: what counters grew over.
    pub(crate) dt_ns: u64,
    /// Whole seconds before this one that passed without a tick.
    pub(crate) missed: u64,
}

/// Knows which second is next and which were missed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    next: u64,
    sampled_at: Option<u64>,
}

impl Schedule {
    /// The first tick ends on the first whole second after `now`.
    pub(crate) fn starting(now: Stamp) -> Self {
        Self { next: (now.mono_ns / TICK_NS + 1) * TICK_NS, sampled_at: None }
    }

    /// When the next sample is due, `CLOCK_MONOTONIC`.
    pub(crate) fn next(&self) -> u64 {
        self.next
    }

    /// The tick to take at `now`, if one is due. A sampler that comes more than a second late (suspended, stalled) takes
    /// one tick for the newest second, as long as the time since the last.
    pub(crate) fn take(&mut self, now: Stamp) -> Option<Due> {
        let late = now.mono_ns.checked_sub(self.next)?;
        let missed = late / TICK_NS;
        let end = self.next + missed * TICK_NS;
        // Nothing precedes the first tick; servers report it by whole seconds, so it counts as one.
        let dt_ns = self.sampled_at.map_or(TICK_NS, |before| now.mono_ns - before);
        self.sampled_at = Some(now.mono_ns);
        self.next = end + TICK_NS;
        let wall_ns = now.wall_ns.saturating_sub(now.mono_ns - end);
        Some(Due { end: Stamp { mono_ns: end, wall_ns }, dt_ns, missed })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn at(ms: u64) -> Stamp {
        Stamp { mono_ns: ms * MS, wall_ns: 1_700_000_000_000 * MS + ms * MS }
    }

    #[test]
    fn ticks_end_on_whole_seconds_and_measure_their_own_length() {
        let mut schedule = Schedule::starting(at(7_300));
        assert_eq!(schedule.next(), 8_000 * MS);
        assert_eq!(schedule.take(at(7_999)), None);
        let first = schedule.take(at(8_002)).expect("due");
        assert_eq!((first.end, first.dt_ns, first.missed), (at(8_000), TICK_NS, 0));
        let second = schedule.take(at(9_010)).expect("due");
        assert_eq!((second.end, second.dt_ns, second.missed), (at(9_000), 1_008 * MS, 0));
    }

    #[test]
    fn a_stall_becomes_one_long_tick_and_counts_what_it_swallowed() {
        let mut schedule = Schedule::starting(at(500));
        schedule.take(at(1_000)).expect("due");
        let late = schedule.take(at(5_400)).expect("due");
        assert_eq!((late.end, late.dt_ns, late.missed), (at(5_000), 4_400 * MS, 3));
        assert_eq!(schedule.next(), 6_000 * MS);
        let after = schedule.take(at(6_000)).expect("due");
        assert_eq!((after.dt_ns, after.missed), (600 * MS, 0), "the rate is taken over what was really measured");
    }
}
