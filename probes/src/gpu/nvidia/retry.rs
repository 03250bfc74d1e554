//! When to try a failed driver again.

use perfwatch_model::Stamp;

/// Soon enough that a driver loaded by hand is found at once, by a person's measure.
const FIRST_NS: u64 = 10_000_000_000;

/// Waits 10 s after a failure, then twice as long after each further one, up to a limit.
#[derive(Debug)]
pub(crate) struct Retry {
    /// Nanoseconds.
    limit: u64,
    wait_ns: u64,
    due_ns: u64,
}

impl Retry {
    /// Of a driver that shows nothing: up to a minute.
    pub(crate) const fn of_driver() -> Self {
        Self { limit: 60_000_000_000, wait_ns: 0, due_ns: 0 }
    }

    /// Of a device beside others that work: up to ten minutes. Initialising NVML over and over has been seen to hang drivers, and
    /// would take the others along.
    pub(crate) const fn of_device() -> Self {
        Self { limit: 600_000_000_000, ..Self::of_driver() }
    }

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
        self.wait_ns = if self.wait_ns == 0 { FIRST_NS } else { (self.wait_ns * 2).min(self.limit) };
        self.due_ns = now.mono_ns.saturating_add(self.wait_ns);
    }

    /// Notes that it worked: the next failure waits 10 s again.
    pub(crate) fn succeeded(&mut self) {
        (self.wait_ns, self.due_ns) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_from_10_seconds_to_the_limit_and_start_over_after_a_success() {
        let at = |seconds: u64| Stamp { mono_ns: seconds * 1_000_000_000, wall_ns: 0 };
        let waits: [(Retry, &[u64]); 2] =
            [(Retry::of_driver(), &[10, 20, 40, 60, 60]), (Retry::of_device(), &[10, 20, 40, 80, 160, 320, 600, 600])];
        for (mut retry, waits) in waits {
            assert!(retry.is_due(at(0)));
            let mut now = 0;
            for wait in waits {
                retry.failed(at(now));
                assert!(!retry.is_due(at(now + wait - 1)) && retry.is_due(at(now + wait)), "{wait}");
                now += wait;
            }
            retry.succeeded();
            retry.failed(at(now));
            assert!(retry.is_due(at(now + 10)));
        }
    }
}
