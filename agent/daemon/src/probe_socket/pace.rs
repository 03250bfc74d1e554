//! How fast one peer may send: a bucket of messages that refills steadily.

use std::time::Duration;

use perfwatch_wire::limits::{MAX_MESSAGES_PER_SECOND, RATE_WINDOW_S};
use tokio::time::Instant;

/// One peer's allowance. Beyond it the peer is not cut off but read later: its socket fills, and its SDK waits.
#[derive(Debug)]
pub(super) struct Pace {
    /// When the bucket would be full again.
    full_at: Instant,
}

const PER_MESSAGE: Duration = Duration::from_millis(1_000 / MAX_MESSAGES_PER_SECOND as u64);
const WINDOW: Duration = Duration::from_secs(RATE_WINDOW_S as u64);

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Counts one message; how long to wait before it is looked at.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        self.full_at = self.full_at.max(now) + PER_MESSAGE;
        (self.full_at - now).saturating_sub(WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_a_flood_is_slowed_to_the_limit() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        for _ in 0..MAX_MESSAGES_PER_SECOND * RATE_WINDOW_S {
            assert_eq!(pace.take(start), Duration::ZERO);
        }
        assert_eq!(pace.take(start), PER_MESSAGE);
        assert_eq!(pace.take(start), PER_MESSAGE * 2);
        assert_eq!(pace.take(start + WINDOW * 2), Duration::ZERO, "and recovers");
    }
}
