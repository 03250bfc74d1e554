//! How much time lies between the readings of two ticks.

use perfwatch_model::{Stamp, Tick};

use crate::scheduler::TICK_NS;

/// A clock that goes as long as ticks were, one after the other, and jumps over what lies between them.
///
/// Ticks end on whole seconds, however late their counters were read: a tick that was read 950 ms late is 1.95 s long, and the
/// next one, whose end is a second after its end, is .05 s long.
#[derive(Debug, Default)]
pub(crate) struct Passing {
    /// End of the newest tick.
    newest: Option<Stamp>,
    /// How long after that its counters were read, as far as the ticks tell.
    late_ns: u64,
    passed_ns: u64,
}

impl Passing {
    /// Moves on to a tick. The difference of two answers is the time between the readings of their ticks.
    pub(crate) fn to(&mut self, tick: &Tick) -> u64 {
        let Some(before) = self.newest.replace(tick.end) else { return self.passed_ns };
        let reach = self.late_ns.saturating_add(tick.dt_ns);
        let apart = tick.end.mono_ns.checked_sub(before.mono_ns);
        let following = apart.filter(|apart| *apart <= TICK_NS.max(reach.saturating_add(reach / 2)));
        self.late_ns = following.map_or(0, |apart| reach.saturating_sub(apart));
        self.passed_ns += match following {
            Some(_) => tick.dt_ns,
            // Something lies between, perhaps a restart of the machine.
            None => tick.end.passed_since(before, tick.dt_ns),
        };
        self.passed_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    /// What passed between the ticks that end then and are so long, both in milliseconds.
    fn passed(ticks: &[(u64, u64)]) -> Vec<u64> {
        let mut passing = Passing::default();
        let mut at = |(end, long): &(u64, u64)| {
            let end = Stamp { mono_ns: end * MS, wall_ns: end * MS };
            passing.to(&Tick { end, dt_ns: long * MS, ..Tick::default() }) / MS
        };
        let answers: Vec<_> = ticks.iter().map(&mut at).collect();
        answers.windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    #[test]
    fn a_tick_after_a_late_one_is_as_long_as_it_was_measured() {
        assert_eq!(passed(&[(4_000, 1_000), (5_000, 1_950), (6_000, 50), (7_000, 1_000)]), [1_950, 50, 1_000]);
        assert_eq!(passed(&[(5_000, 1_950), (6_000, 50)]), [50], "of the first one nobody knows that it was late");
    }

    #[test]
    fn what_passed_without_a_tick_is_time_too_but_for_a_stall_that_was_measured() {
        assert_eq!(passed(&[(1_000, 1_000), (6_000, 1_000), (7_000, 1_000)]), [5_000, 1_000]);
        // One was read for 16 s; the next has its 1 ms, though its end is 17 s later.
        assert_eq!(passed(&[(1_000, 1_000), (2_000, 17_800), (19_000, 1), (20_000, 1_000)]), [17_800, 1, 1_000]);
    }
}
