//! Kernel counters that sometimes go back, as running totals that never do.

/// A running total fed by a counter that may be reset or step back (a CPU that was unplugged, `iowait`, a new group of
/// the same name). A step back adds nothing; counting goes on from there.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rising {
    next: Next,
    total: u64,
}

/// What the next value is compared with.
#[derive(Clone, Copy, Debug, Default)]
enum Next {
    /// It is the total so far.
    #[default]
    Whole,
    /// It was counted elsewhere, or by nobody: counting begins there.
    Baseline,
    After(u64),
    /// Its source is away.
    Away(u64),
}

impl Rising {
    /// For a source that is counted from now on: what it counted before is not this total's.
    pub(crate) const fn from_now() -> Self {
        Self { next: Next::Baseline, total: 0 }
    }

    /// Takes the counter's present value and returns the total.
    pub(crate) fn follow(&mut self, value: u64) -> u64 {
        self.grow(value);
        self.total
    }

    /// Likewise, and returns what that added.
    pub(crate) fn grow(&mut self, value: u64) -> u64 {
        let added = match self.next {
            Next::Whole => value,
            Next::After(last) => value.saturating_sub(last),
            Next::Baseline | Next::Away(_) => 0,
        };
        self.next = Next::After(value);
        self.total += added;
        added
    }

    /// Before the values of a source that may have been away. Where any of its counters is lower than it was, the source is a
    /// new one, and all of them count whole. Else they may have gone on where nobody looked (a network card that was lent
    /// to a container), and counting begins anew.
    pub(crate) fn back(counters: &mut [Self], values: &[u64]) {
        let anew = counters.iter().zip(values).any(|(counter, value)| match counter.next {
            Next::Away(last) => *value < last,
            _ => false,
        });
        for counter in counters {
            if let Next::Away(_) = counter.next {
                counter.next = if anew { Next::After(0) } else { Next::Baseline };
            }
        }
    }

    /// Likewise for a counter that the kernel keeps in 32 bits and that begins again at 0 when they are full. Only a fall
    /// from the last sixteenth of the range into the first is taken for that, any other step back for a reset.
    pub(crate) fn grow_u32(&mut self, value: u64) -> u64 {
        const RANGE: u64 = 1 << 32;
        let mut wrapped = 0;
        if let Next::After(last) = self.next
            && (RANGE / 16 * 15..RANGE).contains(&last)
            && value < RANGE / 16
        {
            wrapped = RANGE - last;
            self.total += wrapped;
            self.next = Next::After(0);
        }
        wrapped + self.grow(value)
    }

    /// The total so far.
    pub(crate) const fn total(&self) -> u64 {
        self.total
    }

    /// What fed it is not there any more; one of the same name may come.
    pub(crate) const fn gone(&mut self) {
        if let Next::After(last) = self.next {
            self.next = Next::Away(last);
        }
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
        let added: Vec<u64> = [full - 9, 5, 4, 10].into_iter().map(|value| total.grow_u32(value)).collect();
        assert_eq!((added, total.total()), (vec![full - 9, 15, 0, 6], full + 12));
    }

    #[test]
    fn what_comes_back_counts_whole_where_any_of_it_began_anew_and_from_now_where_it_may_have_gone_on() {
        let mut totals = [Rising::from_now(), Rising::from_now()];
        let mut take = |away: bool, values: [u64; 2]| {
            if away {
                totals.iter_mut().for_each(Rising::gone);
                totals.iter_mut().for_each(Rising::gone);
            }
            Rising::back(&mut totals, &values);
            totals.iter_mut().zip(values).for_each(|(total, value)| _ = total.grow(value));
            [totals[0].total(), totals[1].total()]
        };
        assert_eq!(take(true, [100, 10]), [0, 0], "it was never there");
        assert_eq!(take(false, [110, 10]), [10, 0]);
        assert_eq!(take(true, [500, 10]), [10, 0]);
        assert_eq!(take(false, [503, 10]), [13, 0]);
        // Another disk: it has read less and written more than the one before it.
        assert_eq!(take(true, [5, 20]), [18, 20]);
        assert_eq!(take(false, [3, 21]), [18, 21], "a step back without an absence adds nothing");
    }

    #[test]
    fn what_appears_amid_counting_begins_there() {
        let mut total = Rising::from_now();
        assert_eq!([1000, 1007].map(|value| total.follow(value)), [0, 7]);
    }

    #[test]
    fn the_first_value_of_a_step_counts_only_when_it_began_at_zero() {
        assert_eq!(Step::default().take(7), 0);
        assert_eq!(Step::from_zero().take(7), 7);
    }
}
