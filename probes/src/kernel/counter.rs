//! Kernel counters that sometimes go back, as running totals that never do.

/// A running total fed by a counter that may be reset or step back (a CPU that was unplugged, `iowait`, a new group of
/// the same name). A step back adds nothing; counting goes on from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rising {
    last: Option<u64>,
    total: u64,
}

impl Rising {
    /// Takes the counter's present value and returns the total. The first value is the total so far.
    pub(crate) fn follow(&mut self, value: u64) -> u64 {
        self.total += match self.last {
            Some(last) => value.saturating_sub(last),
            None => value,
        };
        self.last = Some(value);
        self.total
    }
}

/// Difference to the last value; the first one and steps back count as nothing.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Step {
    last: Option<u64>,
}

impl Step {
    /// A counter whose whole value is still to be counted, because it began at 0 since the last look.
    pub(crate) const fn from_zero() -> Self {
        Self { last: Some(0) }
    }

    /// What was added since the last call.
    pub(crate) fn take(&mut self, value: u64) -> u64 {
        let added = self.last.map_or(0, |last| value.saturating_sub(last));
        self.last = Some(value);
        added
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_that_goes_back_neither_lowers_nor_freezes_the_total() {
        let mut total = Rising::default();
        let seen: Vec<u64> = [100, 130, 10, 15].into_iter().map(|value| total.follow(value)).collect();
        assert_eq!(seen, [100, 130, 130, 135]);
    }

    #[test]
    fn the_first_value_of_a_step_counts_only_when_it_began_at_zero() {
        assert_eq!(Step::default().take(7), 0);
        assert_eq!(Step::from_zero().take(7), 7);
    }
}
