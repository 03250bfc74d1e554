//! Latencies as a client sees them.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency told apart, in microseconds: an hour, longer than any demo.
const LONGEST_US: u64 = 3_600_000_000;

/// A distribution of latencies, in bounded memory, exact to three digits.
#[derive(Clone)]
pub struct Latency {
    histogram: Histogram<u64>,
}

impl Latency {
    /// No latencies yet.
    pub fn new() -> Self {
        Self { histogram: Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are valid constants") }
    }

    /// Adds one; above an hour it counts as an hour.
    pub fn record(&mut self, latency: Duration) {
        self.histogram.saturating_record(latency.as_micros().clamp(1, u128::from(LONGEST_US)) as u64);
    }

    /// How many.
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The latency that a share `q` of requests did not exceed; 0 without requests.
    pub fn quantile(&self, q: f64) -> Duration {
        Duration::from_micros(self.histogram.value_at_quantile(q))
    }

    /// The longest.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.histogram.max())
    }
}

impl Default for Latency {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Latency({} requests, p50 {:?}, p99 {:?})", self.count(), self.quantile(0.5), self.quantile(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_within_a_thousandth() {
        let mut latency = Latency::new();
        for ms in 1..=1_000 {
            latency.record(Duration::from_millis(ms));
        }
        for (q, expected) in [(0.5, 0.5), (0.99, 0.99), (1.0, 1.0)] {
            let got = latency.quantile(q).as_secs_f64();
            assert!((got / expected - 1.0).abs() < 2e-3, "{q}: {got}");
        }
        latency.record(Duration::from_secs(100_000));
        assert_eq!(latency.max().as_secs(), 3_600);
        assert_eq!(Latency::new().quantile(0.99), Duration::ZERO);
    }
}
