//! Questions about the last seconds. Every answer is `None` when the history is too short to give it.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::{Histogram, Number, SeriesId, SparseHdr, Tick};

/// The newest ticks of a history, oldest first.
#[derive(Clone, Copy, Debug)]
pub struct Window<'a> {
    ticks: &'a VecDeque<Arc<Tick>>,
}

impl<'a> Window<'a> {
    /// A window on ticks that are ordered from oldest to newest.
    pub fn new(ticks: &'a VecDeque<Arc<Tick>>) -> Self {
        Self { ticks }
    }

    /// The newest tick.
    pub fn latest(&self) -> Option<&'a Tick> {
        self.ticks.back().map(Arc::as_ref)
    }

    /// The ticks that make up the last `span_ns`, oldest first; `None` when the history is shorter than that.
    pub fn last(&self, span_ns: u64) -> Option<impl ExactSizeIterator<Item = &'a Tick> + Clone + use<'a>> {
        let mut covered = 0;
        for (back, tick) in self.ticks.iter().rev().enumerate() {
            covered += tick.dt_ns;
            // Ticks are a second long within the scheduler's jitter; half a tick short still counts as the whole span.
            if covered + tick.dt_ns / 2 >= span_ns {
                let first = self.ticks.len() - 1 - back;
                return Some(self.ticks.range(first..).map(Arc::as_ref));
            }
        }
        None
    }

    /// Mean of a gauge, weighted by the length of the ticks that have a value; `None` when none has.
    pub fn mean(&self, series: SeriesId, span_ns: u64) -> Option<f64> {
        let (mut sum, mut weight) = (0.0, 0.0);
        for tick in self.last(span_ns)? {
            if let Some(value) = tick.value(series) {
                sum += value.as_f64() * tick.dt_ns as f64;
                weight += tick.dt_ns as f64;
            }
        }
        (weight > 0.0).then(|| sum / weight)
    }

    /// Largest value of a gauge.
    pub fn max(&self, series: SeriesId, span_ns: u64) -> Option<f64> {
        self.last(span_ns)?.filter_map(|tick| tick.value(series)).map(Number::as_f64).reduce(f64::max)
    }

    /// Increase of a counter per second, in the counter's inside unit. A total that went back began anew at 0.
    pub fn rate(&self, series: SeriesId, span_ns: u64) -> Option<f64> {
        let ticks = self.last(span_ns)?;
        let first = self.ticks.len() - ticks.len();
        let mut before = first.checked_sub(1).and_then(|at| self.ticks[at].value(series)).and_then(Number::as_int);
        let (mut gained, mut ns) = (0_u64, 0_u64);
        for tick in ticks {
            let now = tick.value(series).and_then(Number::as_int);
            if let (Some(before), Some(now)) = (before, now) {
                gained = u64::saturating_add(gained, if now >= before { now - before } else { now });
                ns += tick.dt_ns;
            }
            before = now;
        }
        (ns > 0).then(|| gained as f64 / (ns as f64 / 1e9))
    }

    /// All values that a histogram series gained; `None` when it gained none.
    pub fn merged(&self, series: SeriesId, span_ns: u64) -> Option<SparseHdr> {
        let mut whole = SparseHdr::new();
        for tick in self.last(span_ns)? {
            if let Some(Histogram::Hdr(part)) = tick.histogram(series) {
                whole.add(part);
            }
        }
        (!whole.is_empty()).then_some(whole)
    }

    /// A quantile (0 to 1) of what a histogram series gained, in the series' inside unit.
    pub fn quantile(&self, series: SeriesId, q: f64, span_ns: u64) -> Option<u64> {
        self.merged(series, span_ns)?.quantile(q)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const SERIES: SeriesId = SeriesId(3);

    fn history(values: &[Option<Number>]) -> VecDeque<Arc<Tick>> {
        values
            .iter()
            .map(|value| {
                let values = value.map(|value| (SERIES, value)).into_iter().collect();
                Arc::new(Tick { dt_ns: SECOND, values, ..Tick::default() })
            })
            .collect()
    }

    #[test]
    fn a_short_history_gives_no_answer() {
        let ticks = history(&[Some(Number::Float(1.0)); 3]);
        let window = Window::new(&ticks);
        assert_eq!(window.mean(SERIES, 4 * SECOND), None);
        assert_eq!(window.mean(SERIES, 3 * SECOND), Some(1.0));
    }

    #[test]
    fn a_missing_value_is_not_a_zero() {
        let ticks = history(&[Some(Number::Float(4.0)), None, Some(Number::Float(2.0))]);
        let window = Window::new(&ticks);
        assert_eq!(window.mean(SERIES, 3 * SECOND), Some(3.0));
        assert_eq!(window.max(SERIES, 3 * SECOND), Some(4.0));
        assert_eq!(window.mean(SeriesId(9), 3 * SECOND), None);
    }

    #[test]
    fn a_counter_that_restarts_counts_from_zero() {
        let ticks = history(&[10, 20, 5, 15].map(|total| Some(Number::Int(total))));
        assert_eq!(Window::new(&ticks).rate(SERIES, 3 * SECOND), Some(25.0 / 3.0));
    }

    #[test]
    fn the_rate_over_a_gap_divides_by_the_time_that_was_seen() {
        let ticks = history(&[Some(Number::Int(0)), Some(Number::Int(10)), None, Some(Number::Int(40))]);
        assert_eq!(Window::new(&ticks).rate(SERIES, 3 * SECOND), Some(10.0));
    }
}
