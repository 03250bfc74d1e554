//! Export time: wall time that never goes back.
//!
//! Backends refuse a series' point that is not newer than its last one, and everything that lies more than ten minutes
//! ahead of their own clock. So after the wall clock was set back, export time runs on from where it was and lets the
//! wall clock catch up; when it would run too far ahead, export waits.

use perfwatch_model::Stamp;

/// How far export time may run ahead of the wall clock: under the ten minutes that backends accept.
const MAX_AHEAD_NS: u64 = 9 * 60 * 1_000_000_000;
/// While ahead, export time advances by 1/32 less than real time: rates read 3 % high, and 9 minutes are made good in
/// under 5 hours.
const CATCH_UP: u64 = 32;

/// The stamp of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stamped {
    /// Nanoseconds since the epoch, later than every stamp before.
    At(u64),
    /// The wall clock went back too far: wait until it is within nine minutes. Carries how far it is ahead.
    Wait {
        /// How far behind the last stamp the wall clock is.
        behind_ns: u64,
    },
}

/// Gives each tick its stamp.
#[derive(Debug, Default)]
pub(crate) struct Stamps {
    last: Option<u64>,
}

impl Stamps {
    /// Goes on after a stamp that was given before.
    pub(crate) fn after(last: Option<u64>) -> Self {
        Self { last }
    }

    /// The stamp of a tick that ended at `end` and lasted `dt_ns`.
    pub(crate) fn stamp(&mut self, end: Stamp, dt_ns: u64) -> Stamped {
        let Some(last) = self.last.filter(|last| *last >= end.wall_ns) else {
            self.last = Some(end.wall_ns);
            return Stamped::At(end.wall_ns);
        };
        let behind_ns = last - end.wall_ns;
        if behind_ns > MAX_AHEAD_NS {
            return Stamped::Wait { behind_ns };
        }
        let next = last + (dt_ns - dt_ns / CATCH_UP).max(1);
        self.last = Some(next);
        Stamped::At(next)
    }

    /// The newest stamp given.
    pub(crate) fn last(&self) -> Option<u64> {
        self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(wall_s: u64) -> Stamp {
        Stamp { mono_ns: 0, wall_ns: wall_s * SECOND }
    }

    #[test]
    fn stamps_follow_the_wall_clock_and_adopt_a_step_forward() {
        let mut stamps = Stamps::default();
        assert_eq!(stamps.stamp(at(1_000), SECOND), Stamped::At(1_000 * SECOND));
        assert_eq!(stamps.stamp(at(1_001), SECOND), Stamped::At(1_001 * SECOND));
        assert_eq!(stamps.stamp(at(9_000), SECOND), Stamped::At(9_000 * SECOND));
    }

    #[test]
    fn after_a_step_back_stamps_rise_until_the_wall_clock_has_caught_up() {
        let mut stamps = Stamps::default();
        stamps.stamp(at(1_000), SECOND);
        let mut before = 1_000 * SECOND;
        let mut wall = 940;
        let caught_up = loop {
            wall += 1;
            let Stamped::At(now) = stamps.stamp(at(wall), SECOND) else { panic!("a minute is no reason to wait") };
            assert!(now > before);
            before = now;
            if now == wall * SECOND {
                break wall;
            }
        };
        // Once it is less than a tick ahead, the wall clock itself is later than the last stamp.
        assert!((59 * 32..60 * 32).contains(&(caught_up - 940)), "after {} s", caught_up - 940);
    }

    #[test]
    fn a_long_step_back_waits_and_goes_on_when_it_is_within_bounds() {
        let mut stamps = Stamps::default();
        stamps.stamp(at(10_000), SECOND);
        assert_eq!(stamps.stamp(at(9_000), SECOND), Stamped::Wait { behind_ns: 1_000 * SECOND });
        assert_eq!(stamps.stamp(at(9_459), SECOND), Stamped::Wait { behind_ns: 541 * SECOND });
        assert!(matches!(stamps.stamp(at(9_460), SECOND), Stamped::At(next) if next > 10_000 * SECOND));
    }
}
