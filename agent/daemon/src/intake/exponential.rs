//! Exponential histograms: checked, compared, and taken over into perfwatch's own form.

use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use perfwatch_model::histogram::layout;
use perfwatch_model::{Bounded, Histogram, SparseHdr};

use super::units::Scale;

/// Most buckets that are taken; SDKs send 160 unless told otherwise.
const MAX_BUCKETS: usize = 2_048;

/// An exponential histogram of values that are not negative. Bucket `i` holds what is above `base^i` up to `base^(i+1)`,
/// with base = 2^(2^-scale).
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Exponential {
    scale: i32,
    zero: u64,
    offset: i64,
    counts: Vec<u64>,
    sum: f64,
}

impl Exponential {
    /// A data point that keeps to the rules.
    pub(super) fn read(point: &ExponentialHistogramDataPoint) -> Result<Self, &'static str> {
        if point.negative.as_ref().is_some_and(|buckets| buckets.bucket_counts.iter().any(|count| *count > 0)) {
            return Err("a distribution has negative values");
        }
        if !(-10..=20).contains(&point.scale) {
            return Err("an exponential histogram's scale is not between -10 and 20");
        }
        let (offset, counts) = point
            .positive
            .as_ref()
            .map_or((0, Vec::new()), |buckets| (i64::from(buckets.offset), buckets.bucket_counts.clone()));
        if counts.len() > MAX_BUCKETS {
            return Err("an exponential histogram has more than 2048 buckets");
        }
        let exponential = Self { scale: point.scale, zero: point.zero_count, offset, counts, sum: 0.0 };
        if !exponential.is_of_numbers() {
            return Err("an exponential histogram has buckets in which no number can be");
        }
        let Some(sum) = point.sum.filter(|sum| sum.is_finite() && *sum >= 0.0) else {
            return Err("a distribution has no sum, or one that is not a positive number");
        };
        let exponential = Self { sum, ..exponential };
        if exponential.checked_count() != Some(point.count) {
            return Err("a histogram's count is not the sum of its buckets");
        }
        Ok(exponential)
    }

    /// Whether each bucket holds some of the numbers that there are: none is above all of them, or so low that it ends at 0.
    fn is_of_numbers(&self) -> bool {
        let end = self.offset + self.counts.len() as i64;
        self.counts.is_empty() || (self.edge(self.offset + 1) > 0.0 && self.edge(end - 1).is_finite())
    }

    pub(super) fn sum(&self) -> f64 {
        self.sum
    }

    fn checked_count(&self) -> Option<u64> {
        self.counts.iter().try_fold(self.zero, |sum, count| sum.checked_add(*count))
    }

    pub(super) fn count(&self) -> u64 {
        self.checked_count().unwrap_or(u64::MAX)
    }

    /// The same with buckets of a lower scale: each step joins two neighbours, which loses no count.
    fn at_scale(&self, scale: i32) -> Self {
        let steps = (self.scale - scale).clamp(0, 62) as u32;
        let offset = self.offset >> steps;
        let mut counts = Vec::new();
        for (at, count) in self.counts.iter().enumerate() {
            let to = (((self.offset + at as i64) >> steps) - offset) as usize;
            counts.resize(counts.len().max(to + 1), 0);
            counts[to] = u64::saturating_add(counts[to], *count);
        }
        Self { scale: scale.min(self.scale), offset, counts, ..self.clone() }
    }

    /// What was gained since `earlier`; `None` when a bucket went back. A sender lowers the scale as its range grows, so both
    /// are compared at the lower one.
    pub(super) fn since(&self, earlier: &Self) -> Option<Self> {
        let scale = self.scale.min(earlier.scale);
        let (mut gained, before) = (self.at_scale(scale), earlier.at_scale(scale));
        for (at, count) in before.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let place = usize::try_from(before.offset + at as i64 - gained.offset).ok()?;
            let now = gained.counts.get_mut(place)?;
            *now = now.checked_sub(*count)?;
        }
        gained.zero = gained.zero.checked_sub(before.zero)?;
        gained.sum = (gained.sum - before.sum).max(0.0);
        Some(gained)
    }

    /// Lower edge of a bucket, in the sender's unit.
    fn edge(&self, bucket: i64) -> f64 {
        (bucket as f64 * (-f64::from(self.scale)).exp2()).exp2()
    }

    /// The same as perfwatch keeps it. Where values are integers inside (times, bytes, counts), a bucket's values go to the
    /// bucket of perfwatch's that holds its geometric middle; that is off by half the sender's bucket and half of ours
    /// (0.4 %) at most. Where they are fractions, perfwatch's buckets do not fit, and the sender's are kept as bounds.
    pub(super) fn taken_over(&self, scale: Scale) -> Histogram {
        if !scale.is_integral() {
            return Histogram::Bounded(self.bounded(scale));
        }
        let mut buckets: Vec<(u16, u64)> = Vec::new();
        if self.zero > 0 {
            buckets.push((0, self.zero));
        }
        for (at, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            let low = self.offset + at as i64;
            let middle = ((low as f64 + 0.5) * (-f64::from(self.scale)).exp2()).exp2() * scale.inside();
            let bucket = layout::index(middle.round() as u64) as u16;
            match buckets.last_mut() {
                Some((last, sum)) if *last == bucket => *sum = sum.saturating_add(*count),
                _ => buckets.push((bucket, *count)),
            }
        }
        let sum = (self.sum * scale.inside()).round() as u128;
        Histogram::Hdr(SparseHdr::from_buckets(buckets, sum).unwrap_or_default())
    }

    fn bounded(&self, scale: Scale) -> Bounded {
        // The outermost buckets may reach beyond what a number can be, which their values do not.
        let edge = |bucket| (self.edge(bucket) * scale.outside).clamp(f64::MIN_POSITIVE, f64::MAX);
        let mut bounds = vec![edge(self.offset)];
        let mut counts = vec![self.zero];
        for (at, count) in self.counts.iter().enumerate() {
            let bound = edge(self.offset + at as i64 + 1);
            if bounds.last().is_none_or(|last| *last < bound) {
                bounds.push(bound);
                counts.push(*count);
            } else if let Some(last) = counts.last_mut() {
                *last = last.saturating_add(*count);
            }
        }
        counts.push(0);
        Bounded { bounds, counts, sum: self.sum * scale.outside }
    }
}

#[cfg(test)]
mod tests {
    use super::super::units::known;
    use super::*;
    use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
    use proptest::prelude::*;

    /// An exponential histogram as an SDK would make it of these values.
    fn recorded(values: &[f64], scale: i32) -> Exponential {
        let index = |value: f64| (value.log2() * f64::from(scale).exp2()).ceil() as i64 - 1;
        let positive: Vec<f64> = values.iter().copied().filter(|value| *value > 0.0).collect();
        let offset = positive.iter().map(|value| index(*value)).min().unwrap_or(0);
        let mut counts = Vec::new();
        for value in &positive {
            let at = (index(*value) - offset) as usize;
            counts.resize(counts.len().max(at + 1), 0);
            counts[at] += 1;
        }
        Exponential { scale, zero: (values.len() - positive.len()) as u64, offset, counts, sum: values.iter().sum() }
    }

    proptest! {
        #[test]
        fn what_was_gained_is_what_was_recorded_in_between(
            early in prop::collection::vec(1e-6_f64..1e3, 0..60),
            late in prop::collection::vec(1e-6_f64..1e3, 0..60),
            (scale, lowered) in (0_i32..6, 0_i32..4),
        ) {
            let all: Vec<f64> = early.iter().chain(&late).copied().collect();
            let gained = recorded(&all, scale - lowered).since(&recorded(&early, scale)).expect("nothing went back");
            prop_assert_eq!(gained.count(), late.len() as u64);
            let wanted = recorded(&late, scale - lowered);
            for (at, count) in wanted.counts.iter().enumerate() {
                let place = (wanted.offset + at as i64 - gained.offset) as usize;
                prop_assert_eq!(gained.counts[place], *count);
            }
        }

        #[test]
        fn taking_over_keeps_every_count_and_moves_no_value_out_of_its_bucket(
            values in prop::collection::vec(1e-6_f64..1e3, 1..100),
            scale in 0_i32..8,
            q in 0.0_f64..=1.0,
        ) {
            let exponential = recorded(&values, scale);
            let Histogram::Hdr(taken) = exponential.taken_over(known("s").expect("known")) else { panic!("seconds") };
            prop_assert_eq!(taken.count(), values.len() as u64);
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = ((q * values.len() as f64).ceil() as usize).max(1) - 1;
            let exact = sorted[rank] * 1e9;
            let got = taken.quantile(q).expect("not empty") as f64;
            // Half a bucket of the sender's either way, and one of ours.
            let off = (0.5 * (-f64::from(scale)).exp2()).exp2() * 1.009;
            prop_assert!(got <= exact * off + 1.0 && got >= exact / off - 1.0, "{} for {}", got, exact);
        }
    }

    #[test]
    fn fractions_keep_the_senders_edges() {
        let point = ExponentialHistogramDataPoint {
            count: 4,
            sum: Some(2.0),
            scale: 0,
            zero_count: 1,
            positive: Some(Buckets { offset: -2, bucket_counts: vec![1, 2] }),
            ..ExponentialHistogramDataPoint::default()
        };
        let exponential = Exponential::read(&point).expect("valid");
        let wanted = Bounded { bounds: vec![0.25, 0.5, 1.0], counts: vec![1, 1, 2, 0], sum: 2.0 };
        assert_eq!(exponential.taken_over(known("1").expect("known")), Histogram::Bounded(wanted));
    }

    #[test]
    fn edges_are_numbers_that_ascend_and_buckets_without_numbers_are_refused() {
        let read = |scale, offset, counts: &[u64]| {
            Exponential::read(&ExponentialHistogramDataPoint {
                count: counts.iter().sum(),
                sum: Some(2.0),
                scale,
                positive: Some(Buckets { offset, bucket_counts: counts.to_vec() }),
                ..ExponentialHistogramDataPoint::default()
            })
        };
        for (scale, offset) in [(0, 3_000), (0, -3_000), (20, i32::MAX), (20, i32::MIN), (-10, 1), (-10, i32::MIN)] {
            assert!(
                read(scale, offset, &[1, 1]).expect_err("no such numbers").contains("no number"),
                "{scale} {offset}"
            );
        }
        for (scale, offset) in [(0, 1_022), (0, -1_075), (-10, -1), (-9, -2), (5, 0)] {
            let taken = read(scale, offset, &[1, 1]).expect("numbers").taken_over(known("%").expect("known"));
            let Histogram::Bounded(taken) = taken else { panic!("a fraction") };
            assert!(taken.bounds.iter().all(|bound| bound.is_normal()), "{taken:?}");
            assert!(taken.bounds.windows(2).all(|pair| pair[0] < pair[1]), "{taken:?}");
            assert_eq!((taken.counts.iter().sum::<u64>(), taken.counts.len()), (2, taken.bounds.len() + 1));
        }
    }

    #[test]
    fn a_point_that_breaks_the_rules_says_which() {
        let fine = ExponentialHistogramDataPoint { sum: Some(0.0), ..ExponentialHistogramDataPoint::default() };
        assert!(Exponential::read(&fine).is_ok());
        let refused = |change: fn(&mut ExponentialHistogramDataPoint)| {
            let mut point = fine.clone();
            change(&mut point);
            Exponential::read(&point).expect_err("refused")
        };
        assert!(refused(|point| point.count = 1).contains("count"));
        assert!(refused(|point| point.scale = 21).contains("scale"));
        assert!(refused(|point| point.sum = None).contains("sum"));
        let negative = |point: &mut ExponentialHistogramDataPoint| {
            point.negative = Some(Buckets { offset: 0, bucket_counts: vec![1] });
        };
        assert!(refused(negative).contains("negative"));
    }
}
