//! When to try a failed driver again.

use perfwatch_model::Stamp;

/// Soon enough that a driver loaded by hand is found at once, by a person's measure.
const FIRST_NS: u64 = 10_000_000_000;
/// Seldom enough to cost nothing: initialising NVML over and over has been seen to hang drivers.
const LONGEST_NS: u64 = 60_000_000_000;

/// Waits 10 s after a failure, then twice as long after each further one, up to 60 s.
#[derive(Debug, Default)]
pub(crate) struct Retry {
    wait_ns: u64,
    due_ns: u64,
}

impl Retry {
    /// Whether it is time to try.
    pub(crate) fn is_due(&self, now: Stamp) -> bool {
        now.mono_ns >= self.due_ns
    }

    /// Whether something failed and nothing worked since.
    pub(crate) fn is_waiting(&self) -> bool {
        self.wait_ns > 0
    }

    /// Notes a failure.
    pub(crate) fn failed(&mut self, now: Stamp) {
        self.wait_ns = if self.wait_ns == 0 { FIRST_NS } else { (self.wait_ns * 2).min(LONGEST_NS) };
        self.due_ns = now.mono_ns.saturating_add(self.wait_ns);
    }

    /// Notes that it worked: the next failure waits 10 s again.
    pub(crate) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_10_to_60_seconds_and_start_over_after_a_success() {
        let at = |seconds: u64| Stamp { mono_ns: seconds * 1_000_000_000, wall_ns: 0 };
        let mut retry = Retry::default();
        assert!(retry.is_due(at(0)));
        let mut now = 0;
        for wait in [10, 20, 40, 60, 60] {
            retry.failed(at(now));
            assert!(!retry.is_due(at(now + wait - 1)) && retry.is_due(at(now + wait)), "{wait}");
            now += wait;
        }
        retry.succeeded();
        retry.failed(at(now));
        assert!(retry.is_due(at(now + 10)));
    }
}
