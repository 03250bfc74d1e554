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

    /// Likewise for a counter that the kernel keeps in 32 bits and that begins again at 0 when they are full. Only a fall
    /// from the last sixteenth of the range into the first is taken for that, any other step back for a reset.
    pub(crate) fn follow_u32(&mut self, value: u64) -> u64 {
        const RANGE: u64 = 1 << 32;
        if let Some(last) = self.last
            && (RANGE / 16 * 15..RANGE).contains(&last)
            && value < RANGE / 16
        {
            self.total += RANGE - last;
            self.last = Some(0);
        }
        self.follow(value)
    }

    /// The total so far.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// What fed it is gone: should one of the same name come, its whole value is still to be counted.
    pub(crate) fn gone(&mut self) {
        self.last = self.last.map(|_| 0);
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
    fn a_full_32_bit_counter_goes_on_and_a_reset_one_adds_nothing() {
        let mut total = Rising::default();
        let full = u64::from(u32::MAX);
        let seen: Vec<u64> = [full - 9, 5, 4, 10].into_iter().map(|value| total.follow_u32(value)).collect();
        assert_eq!(seen, [full - 9, full + 6, full + 6, full + 12]);
    }

    #[test]
    fn what_comes_back_under_a_name_counts_from_zero() {
        let mut total = Rising::default();
        total.gone();
        assert_eq!(total.follow(100), 100);
        total.gone();
        assert_eq!((total.total(), total.follow(120)), (100, 220));
    }

    #[test]
    fn the_first_value_of_a_step_counts_only_when_it_began_at_zero() {
        assert_eq!(Step::default().take(7), 0);
        assert_eq!(Step::from_zero().take(7), 7);
    }
}
