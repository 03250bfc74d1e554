//! How long to wait before the next attempt.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Bounds of the waits between attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// The wait after the first attempt.
    pub first: Duration,
    /// The longest wait that doubling leads to.
    pub most: Duration,
}

impl Default for RetryPolicy {
    /// 1 s doubling to 30 s: an endpoint that restarts is found again within a tick or two, and one that is down for an
    /// hour is not knocked at every second by two thousand agents.
    fn default() -> Self {
        Self { first: Duration::from_secs(1), most: Duration::from_secs(30) }
    }
}

/// Longest wait that a receiver can impose; a mistaken date must not silence an agent for days.
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// The waits of one request.
pub(crate) struct Backoff {
    policy: RetryPolicy,
    next: Duration,
}

impl Backoff {
    pub(crate) fn new(policy: RetryPolicy) -> Self {
        Self { policy, next: policy.first }
    }

    /// The next wait: what the receiver asked for, else the doubled one; with jitter, so that agents which lost the same
    /// receiver do not come back together. Never shorter than what was asked for.
    pub(crate) fn wait(&mut self, asked: Option<Duration>) -> Duration {
        let base = self.next.min(self.policy.most);
        self.next = base.saturating_mul(2).min(self.policy.most);
        match asked {
            Some(asked) => asked.min(MAX_RETRY_AFTER) + self.policy.first.mul_f64(0.5 * random()),
            None => base.mul_f64(0.5 + 0.5 * random()),
        }
    }
}

/// A number from 0 to 1, not reproducible; a hasher's random keys are all the randomness that jitter needs.
fn random() -> f64 {
    RandomState::new().hash_one(0) as f64 / u64::MAX as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_most_and_differ() {
        let policy = RetryPolicy { first: Duration::from_secs(1), most: Duration::from_secs(8) };
        for _ in 0..50 {
            let mut backoff = Backoff::new(policy);
            for full in [1, 2, 4, 8, 8, 8] {
                let (wait, full) = (backoff.wait(None), Duration::from_secs(full));
                assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
            }
        }
        let waits: std::collections::HashSet<_> = (0..20).map(|_| Backoff::new(policy).wait(None)).collect();
        assert!(waits.len() > 10, "no jitter");
    }

    #[test]
    fn what_the_receiver_asks_for_is_honoured_within_reason() {
        let mut backoff = Backoff::new(RetryPolicy::default());
        let wait = backoff.wait(Some(Duration::from_secs(7)));
        assert!(wait >= Duration::from_secs(7) && wait <= Duration::from_millis(7_500));
        assert!(backoff.wait(Some(Duration::from_hours(24))) <= Duration::from_secs(301));
    }
}
