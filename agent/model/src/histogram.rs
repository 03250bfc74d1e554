//! Histograms: sparse `HdrHistogram`s of our own, and the bounded ones that other servers expose.
//!
//! The bucket layout is `HdrHistogram`'s with 2 significant digits and lowest discernible value 1: buckets are at most
//! 0.8 % wide, finer than the exponential histogram that leaves. The `hdrhistogram` crate is the reference; tests hold
//! this layout against it value by value.

/// `HdrHistogram`'s bucket layout for 2 significant digits.
pub mod layout {
    /// Bits of a value that a bucket tells apart: 2 digits need 200 steps, so 256.
    const SUB_BITS: u32 = 8;
    /// Values below this have a bucket each.
    pub const LINEAR: u64 = 1 << SUB_BITS;
    /// Buckets per octave above [`LINEAR`]: one page of a recorder.
    pub const PAGE: usize = 1 << (SUB_BITS - 1);
    /// Largest value that is told apart: one hour in nanoseconds. Larger ones are counted as this.
    pub const MAX: u64 = 3_600_000_000_000;
    /// How many buckets there are.
    pub const BUCKETS: usize = index(MAX) + 1;
    /// How many pages of [`PAGE`] buckets hold them.
    pub const PAGES: usize = BUCKETS.div_ceil(PAGE);

    /// The bucket of a value; values above [`MAX`] share the last one.
    pub const fn index(value: u64) -> usize {
        let value = if value > MAX { MAX } else { value };
        let shift = (64 - SUB_BITS) - (value | (LINEAR - 1)).leading_zeros();
        ((shift as usize) << (SUB_BITS - 1)) + (value >> shift) as usize
    }

    /// The smallest value of a bucket.
    pub const fn lowest(index: usize) -> u64 {
        if index < LINEAR as usize {
            return index as u64;
        }
        let shift = (index >> (SUB_BITS - 1)) - 1;
        ((index & (PAGE - 1)) + PAGE) as u64 * (1 << shift)
    }

    /// How many values share a bucket.
    pub const fn width(index: usize) -> u64 {
        if index < LINEAR as usize { 1 } else { 1 << ((index >> (SUB_BITS - 1)) - 1) }
    }

    /// The largest value of a bucket.
    pub const fn highest(index: usize) -> u64 {
        lowest(index) + width(index) - 1
    }

    /// The value that stands for a bucket: its middle, as `HdrHistogram` takes it.
    pub const fn middle(index: usize) -> u64 {
        lowest(index) + (width(index) >> 1)
    }
}

/// A histogram in [`layout`], holding only buckets that have counts.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SparseHdr {
    /// (bucket, count), sorted by bucket; no count is 0.
    buckets: Vec<(u16, u64)>,
    /// Exact sum of all values.
    sum: u128,
}

impl SparseHdr {
    /// An empty histogram.
    pub const fn new() -> Self {
        Self { buckets: Vec::new(), sum: 0 }
    }

    /// A histogram of buckets that are sorted, distinct, in range and not empty; `None` otherwise.
    pub fn from_buckets(buckets: Vec<(u16, u64)>, sum: u128) -> Option<Self> {
        let sorted = buckets.windows(2).all(|pair| pair[0].0 < pair[1].0);
        let valid = buckets.iter().all(|(bucket, count)| (*bucket as usize) < layout::BUCKETS && *count > 0);
        (sorted && valid).then_some(Self { buckets, sum })
    }

    /// Adds one value.
    pub fn record(&mut self, value: u64) {
        self.add_count(layout::index(value) as u16, 1);
        self.sum = self.sum.saturating_add(u128::from(value));
    }

    fn add_count(&mut self, bucket: u16, count: u64) {
        match self.buckets.binary_search_by_key(&bucket, |(known, _)| *known) {
            Ok(at) => self.buckets[at].1 = self.buckets[at].1.saturating_add(count),
            Err(at) => self.buckets.insert(at, (bucket, count)),
        }
    }

    /// (bucket, count), sorted by bucket.
    pub fn buckets(&self) -> &[(u16, u64)] {
        &self.buckets
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum: u64, (_, count)| sum.saturating_add(*count))
    }

    /// Exact sum of all values.
    pub fn sum(&self) -> u128 {
        self.sum
    }

    /// True when nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Mean of all values; `None` when there are none.
    pub fn mean(&self) -> Option<f64> {
        let count = self.count();
        (count > 0).then(|| self.sum as f64 / count as f64)
    }

    /// The value below or at which `q` (0 to 1) of all values lie, as the top of its bucket (`HdrHistogram`'s convention);
    /// `None` when there are none.
    pub fn quantile(&self, q: f64) -> Option<u64> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in &self.buckets {
            seen = count.saturating_add(seen);
            if seen >= rank {
                return Some(layout::highest(*bucket as usize));
            }
        }
        self.max()
    }

    /// Top of the highest bucket with a count.
    pub fn max(&self) -> Option<u64> {
        self.buckets.last().map(|(bucket, _)| layout::highest(*bucket as usize))
    }

    /// Bottom of the lowest bucket with a count.
    pub fn min(&self) -> Option<u64> {
        self.buckets.first().map(|(bucket, _)| layout::lowest(*bucket as usize))
    }

    /// Adds all values of another histogram; counts stay at 2^64 - 1 and the sum at 2^128 - 1, which only a peer that lies can
    /// reach. Allocates only when it brings new buckets.
    pub fn add(&mut self, other: &Self) {
        self.sum = self.sum.saturating_add(other.sum);
        if self.buckets.is_empty() {
            self.buckets.extend_from_slice(&other.buckets);
            return;
        }
        let new = self.add_known(&other.buckets);
        if new > 0 {
            self.make_room_for(new, &other.buckets);
        }
    }

    /// What was added since it was `earlier`. Where that has more, as after a restart, it is nothing.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bucket: u16| {
            earlier.buckets.binary_search_by_key(&bucket, |(known, _)| *known).map_or(0, |at| earlier.buckets[at].1)
        };
        let gained = self.buckets.iter().map(|(bucket, count)| (*bucket, count.saturating_sub(before(*bucket))));
        Self { buckets: gained.filter(|(_, count)| *count > 0).collect(), sum: self.sum.saturating_sub(earlier.sum) }
    }

    /// Adds the counts of buckets that are there already; how many are not.
    fn add_known(&mut self, others: &[(u16, u64)]) -> usize {
        let (mut at, mut new) = (0, 0);
        for &(bucket, count) in others {
            while at < self.buckets.len() && self.buckets[at].0 < bucket {
                at += 1;
            }
            match self.buckets.get_mut(at) {
                Some((known, sum)) if *known == bucket => *sum = sum.saturating_add(count),
                _ => new += 1,
            }
        }
        new
    }

    /// Puts the `new` ones of `others` that are not there into their places. From the back, so that each bucket moves once:
    /// a thousand processes' histograms are merged every second.
    fn make_room_for(&mut self, new: usize, others: &[(u16, u64)]) {
        let mut old = self.buckets.len();
        self.buckets.resize(old + new, (0, 0));
        let mut to = self.buckets.len();
        for &(bucket, count) in others.iter().rev() {
            while old > 0 && self.buckets[old - 1].0 > bucket {
                (old, to) = (old - 1, to - 1);
                self.buckets[to] = self.buckets[old];
            }
            if old > 0 && self.buckets[old - 1].0 == bucket {
                continue;
            }
            to -= 1;
            self.buckets[to] = (bucket, count);
            if to == old {
                return;
            }
        }
    }
}

/// A histogram with bounds of its server's choosing; kept as it is, never rebinned.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Bounded {
    /// Upper bounds, ascending, in the metric's unit; one more bucket reaches to infinity.
    pub bounds: Vec<f64>,
    /// Counts per bucket, `bounds.len() + 1` of them, not cumulative.
    pub counts: Vec<u64>,
    /// Sum of all values, in the metric's unit.
    pub sum: f64,
}

/// A distribution of values.
#[derive(Clone, Debug, PartialEq)]
pub enum Histogram {
    /// Recorded by us: integers in the metric's inside unit (nanoseconds for a metric in seconds).
    Hdr(SparseHdr),
    /// Exposed by a server with bounds of its own.
    Bounded(Bounded),
}

#[cfg(test)]
mod tests {
    use super::{SparseHdr, layout};
    use hdrhistogram::Histogram;
    use proptest::prelude::*;

    fn reference() -> Histogram<u64> {
        Histogram::new_with_bounds(1, layout::MAX, 2).expect("valid bounds")
    }

    #[test]
    fn the_layout_is_that_of_hdrhistogram() {
        let reference = reference();
        let mut values: Vec<u64> = (0..5_000).collect();
        for bit in 8..42 {
            for near in [-1_i64, 0, 1, 77] {
                values.push((1_u64 << bit).wrapping_add_signed(near).min(layout::MAX));
            }
        }
        for value in values {
            let index = layout::index(value);
            assert_eq!(layout::lowest(index), reference.lowest_equivalent(value), "lowest of {value}");
            assert_eq!(layout::highest(index), reference.highest_equivalent(value), "highest of {value}");
            assert_eq!(layout::middle(index), reference.median_equivalent(value), "middle of {value}");
        }
    }

    #[test]
    fn buckets_are_contiguous_and_every_index_is_its_own() {
        for index in 0..layout::BUCKETS {
            assert_eq!(layout::index(layout::lowest(index)), index);
            if index + 1 < layout::BUCKETS {
                assert_eq!(layout::highest(index) + 1, layout::lowest(index + 1));
            }
        }
        assert_eq!(layout::index(u64::MAX), layout::BUCKETS - 1);
    }

    proptest! {
        #[test]
        fn quantiles_counts_and_sums_equal_those_of_hdrhistogram(
            values in prop::collection::vec(0_u64..layout::MAX, 1..400),
            q in 0.0_f64..=1.0,
        ) {
            let mut ours = SparseHdr::new();
            let mut theirs = reference();
            for value in &values {
                ours.record(*value);
                theirs.record(*value).expect("in range");
            }
            prop_assert_eq!(ours.count(), theirs.len());
            prop_assert_eq!(ours.sum(), values.iter().map(|v| u128::from(*v)).sum::<u128>());
            prop_assert_eq!(ours.quantile(q), Some(theirs.value_at_quantile(q)));
            prop_assert_eq!(ours.max(), Some(theirs.max()));
        }

        #[test]
        fn adding_histograms_equals_recording_everything_in_one(
            left in prop::collection::vec(0_u64..100_000, 0..100),
            right in prop::collection::vec(0_u64..100_000_000, 0..100),
        ) {
            let record = |values: &[u64]| {
                let mut histogram = SparseHdr::new();
                for value in values {
                    histogram.record(*value);
                }
                histogram
            };
            let mut sum = record(&left);
            sum.add(&record(&right));
            prop_assert_eq!(sum, record(&[left, right].concat()));
        }
    }

    proptest! {
        #[test]
        fn what_was_added_since_is_what_was_recorded_since(
            before in prop::collection::vec(0_u64..100_000, 0..100),
            after in prop::collection::vec(0_u64..100_000_000, 0..100),
        ) {
            let mut all = SparseHdr::new();
            for value in before {
                all.record(value);
            }
            let earlier = all.clone();
            let mut gained = SparseHdr::new();
            for value in after {
                all.record(value);
                gained.record(value);
            }
            prop_assert_eq!(all.since(&earlier), gained);
            prop_assert_eq!(earlier.since(&all), SparseHdr::new());
        }
    }

    #[test]
    fn counts_and_sums_stay_at_their_largest() {
        let most = SparseHdr::from_buckets(vec![(7, u64::MAX)], u128::MAX).expect("valid");
        let mut all = most.clone();
        all.add(&most);
        all.record(7);
        assert_eq!(all, most);
    }

    #[test]
    fn buckets_from_outside_are_checked() {
        assert!(SparseHdr::from_buckets(vec![(1, 1), (5, 2)], 11).is_some());
        assert!(SparseHdr::from_buckets(vec![(5, 1), (1, 2)], 7).is_none(), "not sorted");
        assert!(SparseHdr::from_buckets(vec![(5, 0)], 0).is_none(), "empty bucket");
        assert!(SparseHdr::from_buckets(vec![(u16::MAX, 1)], 1).is_none(), "out of range");
    }
}
