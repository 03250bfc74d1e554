//! The recent past of a server's latency: one distribution per tick, for the heatmap.

use std::collections::VecDeque;

use super::LENGTH;

/// Durations of requests that ended in one tick, in few buckets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Column {
    /// (log2 of the upper bound in seconds, count), ascending.
    buckets: Vec<(f64, u64)>,
}

impl Column {
    /// Of `[upper bound in seconds, count]`, ascending, as a snapshot carries them. Bounds that are no positive numbers, and
    /// empty buckets, are left out.
    pub fn new(buckets: &[(f64, u64)]) -> Self {
        let valid = buckets.iter().filter(|(bound, count)| bound.is_finite() && *bound > 0.0 && *count > 0);
        Self { buckets: valid.map(|(bound, count)| (bound.log2(), *count)).collect() }
    }

    /// (log2 of the upper bound in seconds, count), ascending.
    pub fn buckets(&self) -> &[(f64, u64)] {
        &self.buckets
    }

    /// Requests in it. Saturates, as counts come from elsewhere.
    pub fn count(&self) -> u64 {
        self.buckets.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// log2 of the upper bound of the bucket in which the share `q` (0 to 1) of all requests is reached; `None` when there
    /// are none.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut seen = 0_u64;
        self.buckets.iter().find_map(|(bound, count)| {
            seen = seen.saturating_add(*count);
            (seen >= rank).then_some(*bound)
        })
    }
}

/// Columns over time; `None` where the server reported nothing.
#[derive(Clone, Debug, Default)]
pub struct Columns(VecDeque<Option<Column>>);

impl Columns {
    /// Oldest first; the last is the newest tick.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Option<&Column>> + ExactSizeIterator + '_ {
        self.0.iter().map(Option::as_ref)
    }

    /// The column so many ticks before the newest; `None` when there is none, or nothing is known.
    pub fn before(&self, ticks: usize) -> Option<&Column> {
        self.0.iter().rev().nth(ticks)?.as_ref()
    }

    pub(super) fn advance(&mut self, steps: usize) {
        for _ in 0..steps {
            if self.0.len() == LENGTH {
                self.0.pop_front();
            }
            self.0.push_back(None);
        }
    }

    pub(super) fn put(&mut self, column: Option<Column>) {
        if self.0.is_empty() {
            self.0.push_back(None);
        }
        if let (Some(newest), Some(column)) = (self.0.back_mut(), column) {
            *newest = Some(column);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_buckets() {
        let column = Column::new(&[(0.25, 50), (0.5, 49), (8.0, 1)]);
        assert_eq!(column.count(), 100);
        assert_eq!([0.0, 0.5, 0.51, 0.99, 1.0].map(|q| column.quantile(q)), [-2.0, -2.0, -1.0, -1.0, 3.0].map(Some));
        assert_eq!(Column::default().quantile(0.5), None);
    }

    #[test]
    fn what_no_histogram_can_hold_is_left_out() {
        let column = Column::new(&[(f64::NAN, 1), (-1.0, 1), (0.0, 1), (f64::INFINITY, 1), (1.0, 0), (2.0, u64::MAX)]);
        assert_eq!(column.buckets(), [(1.0, u64::MAX)]);
    }
}
