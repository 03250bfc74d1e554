//! Histograms with few buckets, for pictures: a snapshot is sent each second to everybody who watches.

use perfwatch_model::SparseHdr;
use perfwatch_model::histogram::layout;

/// Half octaves around 1 s: bounds are `2^(step / 2)` seconds.
const FIRST_STEP: i32 = -34;
/// The bound above the longest duration that is told apart.
const LAST_STEP: i32 = 24;
/// Batches up to this size are counted for themselves; the larger ones, by powers of 2.
const EXACT_SIZES: u64 = 16;

/// Durations in nanoseconds by half octaves, as `(upper bound in seconds, count)`. The middle of a fine bucket, which is at
/// most 0.8 % wide, decides where all of it goes; counts are kept exactly.
pub(super) fn latency_buckets(durations: &SparseHdr) -> Vec<(f64, u64)> {
    let mut coarse: Vec<(i32, u64)> = Vec::new();
    for (bucket, count) in durations.buckets() {
        let seconds = layout::middle(usize::from(*bucket)) as f64 / 1e9;
        let step = ((seconds.log2() * 2.0).ceil() as i32).clamp(FIRST_STEP, LAST_STEP);
        add(&mut coarse, step, *count);
    }
    coarse.into_iter().map(|(step, count)| ((f64::from(step) / 2.0).exp2(), count)).collect()
}

/// Batch sizes as `(largest size of the bucket, count)`.
pub(super) fn size_buckets(sizes: &SparseHdr) -> Vec<(u64, u64)> {
    let mut coarse = Vec::new();
    for (bucket, count) in sizes.buckets() {
        let size = layout::middle(usize::from(*bucket));
        add(&mut coarse, if size <= EXACT_SIZES { size } else { size.next_power_of_two() }, *count);
    }
    coarse
}

/// Fine buckets come in order, so the coarse one is the last or a new one.
fn add<K: PartialEq>(coarse: &mut Vec<(K, u64)>, key: K, count: u64) {
    match coarse.last_mut() {
        Some((last, sum)) if *last == key => *sum += count,
        _ => coarse.push((key, count)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn recorded(values: &[u64]) -> SparseHdr {
        let mut histogram = SparseHdr::new();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    #[test]
    fn durations_fall_into_half_octaves_around_a_second() {
        let buckets = latency_buckets(&recorded(&[0, 1, 900_000_000, 990_000_000, 1_300_000_000, layout::MAX]));
        let bounds: Vec<f64> = buckets.iter().map(|(bound, _)| *bound).collect();
        let root = std::f64::consts::SQRT_2;
        let expected = [(-17.0_f64).exp2(), 1.0, root, 4096.0];
        assert!(bounds.iter().zip(expected).all(|(bound, expected)| (bound - expected).abs() < 1e-9), "{bounds:?}");
        assert_eq!(buckets.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 2, 1, 1]);
    }

    #[test]
    fn sizes_are_exact_while_they_are_small() {
        let sizes = size_buckets(&recorded(&[1, 3, 3, 16, 17, 32, 33, 200]));
        assert_eq!(sizes, [(1, 1), (3, 2), (16, 1), (32, 2), (64, 1), (256, 1)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_there_are_at_most_59_buckets(values in prop::collection::vec(any::<u64>(), 0..300)) {
            let buckets = latency_buckets(&recorded(&values));
            prop_assert_eq!(buckets.iter().map(|(_, count)| *count).sum::<u64>(), values.len() as u64);
            prop_assert!(buckets.len() < 60);
            prop_assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0));
        }

        #[test]
        fn a_duration_lies_in_its_bucket_but_for_a_percent(ns in 8_000..layout::MAX) {
            let (bound, _) = latency_buckets(&recorded(&[ns]))[0];
            let seconds = ns as f64 / 1e9;
            prop_assert!(seconds <= bound * 1.01 && seconds > bound / std::f64::consts::SQRT_2 * 0.99, "{seconds} {bound}");
        }
    }
}
