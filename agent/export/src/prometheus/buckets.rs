//! Distributions as Prometheus takes them: classic buckets with fixed bounds, and native ones.

use perfwatch_model::{SparseHdr, Unit, histogram::layout};

use super::message;
use crate::otlp::exphist;

/// Classic bounds of times in seconds: three a decade, from what a batch takes in a queue to what a long answer takes.
const SECONDS: &[f64] = &[
    0.000_01, 0.000_025, 0.000_05, 0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5,
    1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0,
];
/// Classic bounds of counts: batch sizes and tokens.
const COUNTS: &[f64] = &[
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0,
    65536.0,
];

/// The classic bounds of a distribution in this unit.
pub(super) const fn bounds(unit: Unit) -> &'static [f64] {
    match unit {
        Unit::Seconds => SECONDS,
        _ => COUNTS,
    }
}

/// Classic buckets of a distribution: cumulative counts, one for each bound. An HDR bucket (0.8 % wide at most) through which
/// a bound goes counts as a whole, by its middle.
pub(super) fn cumulative(hdr: &SparseHdr, unit: Unit, out: &mut Vec<u64>) {
    out.clear();
    let (mut below, mut at) = (0_u64, 0);
    let buckets = hdr.buckets();
    for bound in bounds(unit) {
        while let Some((bucket, count)) = buckets.get(at) {
            if layout::middle(usize::from(*bucket)) as f64 * unit.scale() > *bound {
                break;
            }
            below = below.saturating_add(*count);
            at += 1;
        }
        out.push(below);
    }
}

/// An inside integer outside, as near to the decimal number as a float comes: a division rounds once, a factor of 1e-9 is
/// off itself.
pub(super) fn outside(exact: u128, unit: Unit) -> f64 {
    exact as f64 / (1.0 / unit.scale()).round()
}

/// The threshold below which Prometheus' OTLP receiver counts values as zero; the same here, so that a series does not
/// depend on its way.
const ZERO_THRESHOLD: f64 = 1e-128;
/// Empty buckets that are written out rather than skipped: a span costs as much.
const SHORT_GAP: usize = 2;

/// Puts the native buckets of a distribution into a message.
pub(super) fn native(hdr: &SparseHdr, unit: Unit, out: &mut message::Histogram) {
    let source = exphist::from_sparse(hdr, unit.scale());
    out.schema = source.scale;
    out.zero_threshold = ZERO_THRESHOLD;
    out.zero_count = source.zero_count;
    // OTLP's bucket i reaches from base^i to base^(i+1), Prometheus' from base^(i-1) to base^i.
    let mut next = 0_i64;
    let mut before = 0_i64;
    let mut from = 0;
    while let Some(first) = (from..source.counts.len()).find(|at| source.counts[*at] > 0) {
        let mut end = first + 1;
        while let Some(more) = (end..source.counts.len()).take(SHORT_GAP + 1).find(|at| source.counts[*at] > 0) {
            end = more + 1;
        }
        let index = i64::from(source.offset) + 1 + first as i64;
        let offset = i32::try_from(index - next).unwrap_or(i32::MAX);
        out.positive_span.push(message::BucketSpan { offset, length: (end - first) as u32 });
        for count in &source.counts[first..end] {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            out.positive_delta.push(count - before);
            before = count;
        }
        next = index + (end - first) as i64;
        from = end;
    }
    if out.positive_span.is_empty() {
        // Says that it is native although there is nothing in it.
        out.positive_span.push(message::BucketSpan { offset: 0, length: 0 });
    }
}
