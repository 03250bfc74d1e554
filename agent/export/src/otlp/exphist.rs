//! Sparse HDR histograms to exponential histograms.
//!
//! Bucket `i` at scale `s` holds `base^i < x <= base^(i+1)` with `base = 2^(2^-s)`. A step down in scale halves an index
//! (perfect subsetting), so that a series may be made coarser at any time without touching what was counted.

use std::sync::OnceLock;

use perfwatch_model::{SparseHdr, histogram::layout};

/// The finest scale that leaves. Buckets are 2.2 % wide: coarser than the HDR buckets they come from, and finer than the
/// SDK's customary 160 buckets give for latencies. Prometheus places sparse buckets wrongly above scale 8.
pub const MAX_SCALE: i32 = 5;
/// Most buckets in a point; 20 octaves at [`MAX_SCALE`], which 50 µs to 50 s are. Beyond that the scale goes down.
pub const MAX_BUCKETS: usize = 640;

/// An exponential histogram without negative values.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpHistogram {
    /// Fineness of the buckets.
    pub scale: i32,
    /// How many values were 0.
    pub zero_count: u64,
    /// Index of the first bucket in `counts`.
    pub offset: i32,
    /// Counts of consecutive buckets.
    pub counts: Vec<u64>,
    /// Number of values: zeros and buckets together.
    pub count: u64,
    /// Sum of all values, in the unit that leaves.
    pub sum: f64,
    /// Smallest and largest value within the source's resolution; `None` when empty.
    pub range: Option<(f64, f64)>,
}

/// Splits `x` (finite, above 0) into `m * 2^e` with `0.5 <= m < 1`.
fn mantissa_exponent(x: f64) -> (f64, i32) {
    const EXPONENT: u64 = 0x7ff << 52;
    let bits = x.to_bits();
    let exponent = ((bits & EXPONENT) >> 52) as i32;
    if exponent == 0 {
        // A subnormal number; 2^64 brings it into the normal range.
        let (m, e) = mantissa_exponent(x * 18_446_744_073_709_551_616.0);
        return (m, e - 64);
    }
    (f64::from_bits((bits & !EXPONENT) | (0x3fe << 52)), exponent - 0x3fe)
}

/// The bound `2^(step / steps - 1)` inside the octave from 0.5 to 1, with the fraction in lowest terms: bounds that two
/// scales share are then the same number.
fn bound_in_octave(step: i64, steps: i64) -> f64 {
    if step == 0 {
        return 0.5;
    }
    let common = step.trailing_zeros().min(steps.trailing_zeros());
    0.5 * f64::exp2((step >> common) as f64 / (steps >> common) as f64)
}

/// The bucket of a finite number above 0 at any scale from -10 to 20. Exact: bounds belong to the bucket below them.
pub fn index(x: f64, scale: i32) -> i32 {
    debug_assert!(x > 0.0 && x.is_finite(), "only positive numbers have a bucket");
    let (m, e) = mantissa_exponent(x);
    let power_of_two = m.to_bits() == 0.5_f64.to_bits();
    if scale <= 0 {
        let at_scale_0 = if power_of_two { e - 2 } else { e - 1 };
        return at_scale_0 >> -scale;
    }
    let steps = 1_i64 << scale;
    let octave = i64::from(e - 1) * steps;
    if power_of_two {
        return (octave - 1) as i32;
    }
    // The logarithm guesses, the bounds decide.
    let mut step = (((m.log2() + 1.0) * steps as f64).ceil() as i64 - 1).clamp(0, steps - 1);
    while step > 0 && m <= bound_in_octave(step, steps) {
        step -= 1;
    }
    while step < steps - 1 && m > bound_in_octave(step + 1, steps) {
        step += 1;
    }
    (octave + step) as i32
}

/// The lower, exclusive bound of a bucket.
pub fn lower_bound(index: i32, scale: i32) -> f64 {
    f64::exp2(f64::from(index) * f64::exp2(f64::from(-scale)))
}

/// Indices at [`MAX_SCALE`] of the middles of all HDR buckets but that of 0, which has none.
fn indices(unit: f64) -> Vec<i32> {
    (0..layout::BUCKETS).map(|bucket| index(layout::middle(bucket).max(1) as f64 * unit, MAX_SCALE)).collect()
}

/// The table of [`indices`] for a unit; the two units that perfwatch records in are computed once.
fn with_indices<T>(unit: f64, read: impl FnOnce(&[i32]) -> T) -> T {
    static NANOSECONDS: OnceLock<Vec<i32>> = OnceLock::new();
    static ONES: OnceLock<Vec<i32>> = OnceLock::new();
    if unit.to_bits() == 1e-9_f64.to_bits() {
        read(NANOSECONDS.get_or_init(|| indices(1e-9)))
    } else if unit.to_bits() == 1.0_f64.to_bits() {
        read(ONES.get_or_init(|| indices(1.0)))
    } else {
        read(&indices(unit))
    }
}

/// Converts a histogram whose integers are worth `unit` each outside. Totals are exact; a value moves by at most half an
/// HDR bucket (0.4 %) and then belongs to a bucket of the chosen scale.
pub fn from_sparse(source: &SparseHdr, unit: f64) -> ExpHistogram {
    from_sparse_within(source, unit, MAX_BUCKETS)
}

/// As [`from_sparse`], with at most `max_buckets` (2 or more) buckets.
pub fn from_sparse_within(source: &SparseHdr, unit: f64, max_buckets: usize) -> ExpHistogram {
    let buckets = source.buckets();
    let (zero_count, positive) = match buckets.first() {
        Some((0, count)) => (*count, &buckets[1..]),
        _ => (0, buckets),
    };
    let mut out = ExpHistogram {
        scale: MAX_SCALE,
        zero_count,
        offset: 0,
        counts: Vec::new(),
        count: source.count(),
        sum: source.sum() as f64 * unit,
        range: source.min().zip(source.max()).map(|(min, max)| (min as f64 * unit, max as f64 * unit)),
    };
    let (Some(first), Some(last)) = (positive.first(), positive.last()) else { return out };
    with_indices(unit, |indices| {
        let (mut low, mut high) = (indices[first.0 as usize], indices[last.0 as usize]);
        let mut shift = 0;
        while (high - low) as usize >= max_buckets {
            (low, high, shift) = (low >> 1, high >> 1, shift + 1);
        }
        out.scale -= shift;
        out.offset = low;
        out.counts = vec![0; (high - low) as usize + 1];
        for (bucket, count) in positive {
            let sum = &mut out.counts[((indices[*bucket as usize] >> shift) - low) as usize];
            *sum = sum.saturating_add(*count);
        }
    });
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bounds_belong_to_the_bucket_below_them() {
        for scale in -10..=20 {
            for exponent in [-40, -10, -1, 0, 1, 7, 30] {
                let x = f64::exp2(f64::from(exponent));
                let per_octave = f64::exp2(f64::from(scale));
                let at = f64::from(exponent) * per_octave;
                assert_eq!(index(x, scale), (at.ceil() - 1.0) as i32, "2^{exponent} at scale {scale}");
                assert_eq!(index(x.next_up(), scale), at.floor() as i32, "just above 2^{exponent} at scale {scale}");
            }
        }
    }

    #[test]
    fn a_subnormal_number_has_its_bucket() {
        assert_eq!(index(f64::from_bits(1), 0), -1075);
        assert_eq!(index(f64::from_bits(3), 0), -1073);
    }

    fn record(values: &[u64]) -> SparseHdr {
        let mut histogram = SparseHdr::new();
        for value in values {
            histogram.record(*value);
        }
        histogram
    }

    /// The quantile as a backend finds it: exponential interpolation inside the bucket.
    fn quantile(histogram: &ExpHistogram, q: f64) -> f64 {
        let rank = q * histogram.count as f64;
        let mut seen = histogram.zero_count as f64;
        for (at, count) in histogram.counts.iter().enumerate() {
            if *count > 0 && seen + *count as f64 >= rank {
                let inside = (rank - seen) / *count as f64;
                let low = lower_bound(histogram.offset + at as i32, histogram.scale);
                let high = lower_bound(histogram.offset + at as i32 + 1, histogram.scale);
                return low * (high / low).powf(inside);
            }
            seen += *count as f64;
        }
        panic!("the rank lies outside");
    }

    #[test]
    fn quantiles_keep_within_a_bucket_of_the_exact_ones() {
        // 50 µs to 50 s, evenly spread over the logarithm.
        let values: Vec<u64> = (0..100_000).map(|at| (50_000.0 * 1e6_f64.powf(f64::from(at) / 1e5)) as u64).collect();
        let out = from_sparse(&record(&values), 1e-9);
        assert_eq!(out.scale, MAX_SCALE, "20 octaves fit at the finest scale");
        for q in [0.01, 0.25, 0.5, 0.9, 0.99, 0.999] {
            let exact = values[(q * values.len() as f64) as usize] as f64 * 1e-9;
            let error = (quantile(&out, q) / exact - 1.0).abs();
            assert!(error < 0.011, "p{q}: off by {error}");
        }
    }

    #[test]
    fn nothing_recorded_is_an_empty_histogram() {
        let out = from_sparse(&SparseHdr::new(), 1e-9);
        assert_eq!((out.count, out.zero_count, out.counts.len(), out.range), (0, 0, 0, None));
    }

    #[test]
    fn everything_that_can_be_recorded_fits() {
        let out = from_sparse(&record(&[0, 1, layout::MAX, u64::MAX]), 1e-9);
        assert!(out.counts.len() <= MAX_BUCKETS);
        assert_eq!((out.scale, out.zero_count, out.count), (3, 1, 4));
    }

    proptest! {
        #[test]
        fn a_coarser_scale_halves_the_index(x in 1e-12_f64..1e12, scale in -10_i32..20) {
            prop_assert_eq!(index(x, scale), index(x, 20) >> (20 - scale));
        }

        #[test]
        fn a_value_lies_within_its_bucket(x in 1e-12_f64..1e12, scale in 0_i32..=8) {
            let at = index(x, scale);
            prop_assert!(lower_bound(at, scale) <= x * (1.0 + 1e-13));
            prop_assert!(x <= lower_bound(at + 1, scale) * (1.0 + 1e-13));
        }

        #[test]
        fn no_value_is_lost_and_each_is_where_its_middle_belongs(
            values in prop::collection::vec(0_u64..layout::MAX, 1..200),
            max_buckets in 2_usize..700,
        ) {
            let source = record(&values);
            let out = from_sparse_within(&source, 1e-9, max_buckets);
            prop_assert!(out.counts.len() <= max_buckets);
            prop_assert_eq!(out.zero_count + out.counts.iter().sum::<u64>(), values.len() as u64);
            prop_assert_eq!(out.count, values.len() as u64);
            let mut expected = vec![0; out.counts.len()];
            for value in values.iter().filter(|value| **value > 0) {
                let middle = layout::middle(layout::index(*value)) as f64 * 1e-9;
                expected[(index(middle, out.scale) - out.offset) as usize] += 1;
            }
            prop_assert_eq!(out.counts, expected);
        }
    }
}
