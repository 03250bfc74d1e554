//! The driver's counters, kept from going back.

use perfwatch_model::{Reading, Reason};

/// Makes a counter of NVML's, which restarts when the driver is loaded anew, one that only rises.
///
/// A value below the last one has no reading. If the next value is still below, the counter has restarted, and what it counts
/// from there is added to the old total; if not, the low value was a glitch and is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Last raw value that was believed.
    last: u64,
    /// Sum of the totals before each restart.
    offset: u64,
    suspect: bool,
}

impl Counter {
    /// The total for a raw value. `what` is the counter's name for people.
    pub(crate) fn total(&mut self, raw: u64, what: &str) -> Reading<u64> {
        if raw < self.last && !self.suspect {
            self.suspect = true;
            let text = format!("the counter of {what} went back from {} to {raw}", self.last);
            return Reading::Unavailable(Reason::new(text, "none needed: it counts on from the next sample"));
        }
        if raw < self.last {
            self.offset = self.offset.saturating_add(self.last);
        }
        self.suspect = false;
        self.last = raw;
        Reading::Value(self.offset.saturating_add(raw))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn totals(raw: &[u64]) -> Vec<Option<u64>> {
        let mut counter = Counter::default();
        raw.iter().map(|&raw| counter.total(raw, "energy (mJ)").value()).collect()
    }

    #[test]
    fn a_restarted_counter_counts_on() {
        assert_eq!(totals(&[100, 150, 5, 25, 30]), [Some(100), Some(150), None, Some(175), Some(180)]);
    }

    #[test]
    fn one_low_value_is_a_glitch() {
        assert_eq!(totals(&[100, 0, 160, 170]), [Some(100), None, Some(160), Some(170)]);
    }
}
