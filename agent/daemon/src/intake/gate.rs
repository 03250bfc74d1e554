//! How much is let in: so many points per second, and nothing while nobody takes them away.

use std::time::Duration;

/// Points and spans per second, over all senders together. vLLM sends one span per request and a metrics SDK some hundred
/// points a minute; this is two orders of magnitude above a busy node, and costs a few percent of a core.
pub(super) const POINTS_PER_SECOND: u64 = 20_000;
/// Seconds' worth of points that may come at once: senders batch for up to a minute.
const BURST_S: u64 = 5;
/// When ticks have not closed for this long, what comes would only pile up.
const STALLED_NS: u64 = 5_000_000_000;
const NS_PER_POINT: u64 = 1_000_000_000 / POINTS_PER_SECOND;

/// Decides whether a request may come in.
#[derive(Debug)]
pub(super) struct Gate {
    /// When the bucket would be empty again, on the monotonic clock.
    free_at_ns: u64,
    drained_at_ns: u64,
}

impl Gate {
    pub(super) fn new(mono_ns: u64) -> Self {
        Self { free_at_ns: mono_ns, drained_at_ns: mono_ns }
    }

    /// Notes that a tick has taken everything away.
    pub(super) fn drained(&mut self, mono_ns: u64) {
        self.drained_at_ns = mono_ns;
    }

    /// Lets a request of so many points in, whole, or says when to try again. A request larger than the burst passes when
    /// the bucket has room at all, and the next ones wait for it: refusing it would refuse it for ever.
    pub(super) fn admit(&mut self, points: u64, mono_ns: u64) -> Result<(), Duration> {
        if mono_ns.saturating_sub(self.drained_at_ns) > STALLED_NS {
            return Err(Duration::from_secs(1));
        }
        self.free_at_ns = self.free_at_ns.max(mono_ns);
        let ahead_ns = self.free_at_ns - mono_ns;
        let over_ns = ahead_ns.saturating_sub(BURST_S * 1_000_000_000);
        if over_ns > 0 {
            return Err(Duration::from_nanos(over_ns).max(Duration::from_millis(100)));
        }
        self.free_at_ns += points * NS_PER_POINT;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flood_is_told_when_to_come_back_and_then_let_in() {
        let mut gate = Gate::new(0);
        assert_eq!(gate.admit(POINTS_PER_SECOND * BURST_S, 0), Ok(()));
        assert_eq!(gate.admit(POINTS_PER_SECOND, 0), Ok(()), "the bucket was just full, not over");
        let wait = gate.admit(1, 0).expect_err("over");
        assert_eq!(wait, Duration::from_secs(1));
        gate.drained(SECOND);
        assert_eq!(gate.admit(1, SECOND), Ok(()));
    }

    #[test]
    fn nothing_comes_in_while_nobody_takes_it_away() {
        let mut gate = Gate::new(0);
        assert_eq!(gate.admit(1, 5 * SECOND), Ok(()));
        assert!(gate.admit(1, 6 * SECOND).is_err());
        gate.drained(6 * SECOND);
        assert_eq!(gate.admit(1, 6 * SECOND), Ok(()));
    }
}
