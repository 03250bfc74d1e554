//! Counters with 32 bits, which begin anew when they are full: in a type of 32 bits, or of 64.

use super::counter::Read;

/// What they never reach.
pub(super) const FULL: u64 = 1 << 32;
/// The driver's clock and the agent's go apart, and its counters are renewed now and then.
const SLACK: f64 = 1.1;
/// Where a counter may be full more than once from one read to the next, a step back is as well that of a driver that was loaded
/// anew. Who steps back so often, and never passes 32 bits, has no more of them.
const BELIEVED: u32 = 2;
/// From one tick to the next. In what lies longer between two reads a driver can have been loaded anew, or a device been reset.
const NEAR_NS: u64 = 1_500_000_000;

/// What a read says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing but its value.
    Plain,
    /// That the counter was full once, and rose by so much.
    Wrapped(u64),
    /// That nobody knows how often it was full.
    Unknown,
}

/// What is known of a counter that may have 32 bits.
#[derive(Debug, Default)]
pub(super) struct Short {
    before: Option<Read>,
    times: u32,
}

impl Short {
    /// What a read says of a counter that rises by no more than `rate` in a second. `since_ns` is when it began to rise to this, of
    /// one that is known to have 32 bits; else that was when it was read last.
    pub(super) fn step(&mut self, now: Read, since_ns: Option<u64>, rate: f64) -> Step {
        let Some(before) = self.before.replace(now) else { return Step::Plain };
        if before.raw >= FULL || now.raw >= FULL {
            self.times = 0;
            return Step::Plain;
        }
        let most = most(rate, now.at_ns.saturating_sub(since_ns.unwrap_or(before.at_ns)));
        let rose = FULL - before.raw + now.raw;
        let is_wrap = now.raw < before.raw && rose as f64 <= most;
        let is_near = now.at_ns.saturating_sub(before.at_ns) <= NEAR_NS;
        self.times = self.times.saturating_add(u32::from(is_wrap && is_near));
        if most >= FULL as f64 {
            return if since_ns.is_some() || self.is_believed() { Step::Unknown } else { Step::Plain };
        }
        if is_wrap { Step::Wrapped(rose) } else { Step::Plain }
    }

    /// Whether it has 32 bits by all that was seen of it.
    pub(super) fn is_believed(&self) -> bool {
        self.times >= BELIEVED
    }
}

/// How far a counter rises in so many nanoseconds, at most.
pub(super) fn most(rate: f64, ns: u64) -> f64 {
    rate * ns as f64 / 1e9 * SLACK
}

/// Whether a counter that rises by no more than this from one read to the next may be full in between.
pub(super) fn is_too_fast(rise: f64) -> bool {
    rise * SLACK >= FULL as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One read a second of a link with this rate.
    fn steps(rate: f64, raw: &[u64]) -> Vec<Step> {
        let mut short = Short::default();
        raw.iter().zip(0..).map(|(&raw, at)| short.step(Read { raw, at_ns: at * 1_000_000_000 }, None, rate)).collect()
    }

    #[test]
    fn a_step_back_from_as_far_below_the_end_as_the_link_can_have_moved_is_a_wrap() {
        use Step::{Plain, Wrapped};
        assert_eq!(steps(1e9, &[FULL - 500_000_000, 500_000_000]), [Plain, Wrapped(1_000_000_000)]);
        assert_eq!(steps(1e9, &[FULL - 1_000_000_000, 500_000_000]), [Plain, Plain], "more than it can have moved");
        assert_eq!(steps(1e9, &[FULL + 5, 5]), [Plain, Plain], "it has more than 32 bits");
    }

    #[test]
    fn a_counter_that_may_be_full_more_than_once_says_nothing_as_soon_as_it_is_known_to_have_32_bits() {
        use Step::{Plain, Unknown};
        assert_eq!(steps(16e9, &[FULL - 5, 5, 7]), [Plain, Plain, Plain], "the driver may have been loaded anew");
        assert_eq!(steps(16e9, &[FULL - 5, 5, 3, 9, FULL, 4]), [Plain, Plain, Unknown, Unknown, Plain, Plain]);
        let mut short = Short::default();
        let seldom = [FULL - 5, 5, 3, 1].iter().zip(0..);
        assert!(
            seldom
                .map(|(&raw, at)| short.step(Read { raw, at_ns: at * 3_000_000_000 }, None, 16e9))
                .all(|step| step == Plain)
        );
    }

    #[test]
    fn of_one_that_is_known_to_have_32_bits_a_wrap_is_told_when_it_is_read_in_time() {
        use Step::{Plain, Unknown, Wrapped};
        let mut short = Short::default();
        // At 32 GB/s it takes 0.13 s.
        let mut step = |raw, since_ms: u64, at_ms: u64| {
            short.step(Read { raw, at_ns: at_ms * 1_000_000 }, Some(since_ms * 1_000_000), 31.5e9)
        };
        assert_eq!([step(3_000_000_000, 0, 0), step(1_000_000_000, 0, 100)], [Plain, Wrapped(FULL - 2_000_000_000)]);
        assert_eq!([step(900_000_000, 100, 200), step(1_000_000_000, 200, 400)], [Plain, Unknown]);
        assert_eq!(step(1_100_000_000, 200, 500), Unknown, "it may not have been refreshed meanwhile");
    }
}
