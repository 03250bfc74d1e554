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
    /// Time since the last sample was taken: what counters grew over, but for what this sample itself takes.
    pub(crate) dt_ns: u64,
    /// Whole seconds before this one that passed without a tick.
    pub(crate) missed: u64,
}

/// Knows which second is next and which were missed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    next: u64,
    sampled_at: u64,
}

/// A first tick is no shorter than this: counters of the kernel move in steps of 10 ms.
const SHORTEST_FIRST_TICK_NS: u64 = 100_000_000;

impl Schedule {
    /// The first tick ends on the first whole second that is not too near after `now`, when everything was read once.
    pub(crate) fn starting(now: Stamp) -> Self {
        let next = ((now.mono_ns + SHORTEST_FIRST_TICK_NS) / TICK_NS + 1) * TICK_NS;
        Self { next, sampled_at: now.mono_ns }
    }

    /// Notes that everything has been read at `now`; how long that took since [`take`](Self::take). Counters are as old as
    /// the end of the reading, so a stall inside it is time of this tick, not of the next.
    pub(crate) fn sampled(&mut self, now: Stamp) -> u64 {
        let took = now.mono_ns.saturating_sub(self.sampled_at);
        self.sampled_at = now.mono_ns;
        took
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
        let dt_ns = now.mono_ns.saturating_sub(self.sampled_at);
        self.sampled_at = now.mono_ns;
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
        assert_eq!((first.end, first.dt_ns, first.missed), (at(8_000), 702 * MS, 0));
        assert_eq!(Schedule::starting(at(7_950)).next(), 9_000 * MS, "50 ms would be no tick");
        let second = schedule.take(at(9_010)).expect("due");
        assert_eq!((second.end, second.dt_ns, second.missed), (at(9_000), 1_008 * MS, 0));
    }

    #[test]
    fn a_stall_inside_a_sample_belongs_to_its_own_tick() {
        let mut schedule = Schedule::starting(at(500));
        let mut stalled = schedule.take(at(1_000)).expect("due");
        stalled.dt_ns += schedule.sampled(at(18_300));
        assert_eq!(stalled.dt_ns, 17_800 * MS);
        let after = schedule.take(at(18_301)).expect("due");
        assert_eq!((after.dt_ns, after.missed), (MS, 16));
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
