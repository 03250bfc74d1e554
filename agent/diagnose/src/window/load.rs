//! Requests that came, went and stayed over a window.

use perfwatch_model::{Quality, Reason};

use super::{Mean, Record, covers, seconds};
use crate::Fact;
use crate::facts::{RequestFacts, ServerFacts};

/// Backlog growth that counts, as a share of the arrivals. In the measured runs healthy servers show 0 and the weakest
/// overload .07; in between lies what a burst at the end of a window can do.
pub const GROWTH: f64 = 0.05;
/// Fewer requests than this over a window are chance, whatever share of a small load they are.
const MIN_UNSERVED: f64 = 5.0;
/// Share of arrivals that may fail before users are being hurt. A client's own mistakes stay below it on most services.
pub const FAILING: f64 = 0.01;

/// Rates are per second.
#[derive(Clone, Debug)]
pub struct LoadWindow {
    /// Requests that began.
    pub arrivals: Fact<f64>,
    /// Requests that ended well.
    pub completions: Fact<f64>,
    /// Requests that ended in an error, rejections included.
    pub failures: Fact<f64>,
    /// Requests that their client cancelled or that were dropped without an end.
    pub cancellations: Fact<f64>,
    /// Requests inside at the end of the window.
    pub in_flight: Fact<u64>,
    /// Slope of the requests inside, by least squares over the ticks.
    pub growth: Fact<f64>,
    /// Demand that was not served, as a share of the arrivals: the growth of the backlog, and what was turned away. A full
    /// queue does not grow: what it rejects is the growth. 0 when nothing arrived.
    pub unserved: Fact<f64>,
    /// Share of arrivals that ended in an error; 0 when nothing arrived.
    pub failing: Fact<f64>,
    span_s: f64,
}

impl LoadWindow {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Self {
        let rate = |count: fn(&RequestFacts) -> u64| {
            Mean::over(records, span_ns, 0.0, |facts| {
                let requests = facts.requests.known_or_reason()?;
                Ok((count(requests) as f64, seconds(facts.dt_ns), facts.requests.quality))
            })
        };
        let arrivals = rate(|requests| requests.started);
        let failures = rate(|requests| requests.failed);
        let growth = backlog_slope(records, span_ns);
        let of_arrivals = |number: f64| arrivals.get().filter(|rate| *rate > 0.0).map_or(0.0, |rate| number / rate);
        let unserved = match (growth.get(), failures.get()) {
            (Some(growth), Some(failed)) => {
                Fact::known(of_arrivals(growth.max(0.0) + failed), arrivals.quality.worst(failures.quality))
            }
            (None, _) => growth.clone(),
            (_, None) => failures.clone(),
        };
        Self {
            unserved,
            failing: failures.clone().map(of_arrivals),
            completions: rate(|requests| requests.completed),
            cancellations: rate(|requests| requests.cancelled + requests.abandoned),
            in_flight: in_flight(records),
            arrivals,
            failures,
            growth,
            span_s: seconds(span_ns),
        }
    }

    /// Whether more came than was served, beyond chance.
    pub fn outgrown(&self) -> Result<bool, Reason> {
        let (unserved, arrivals) = (self.unserved.known_or_reason()?, self.arrivals.known_or_reason()?);
        Ok(*unserved > GROWTH && unserved * arrivals * self.span_s >= MIN_UNSERVED)
    }

    /// Whether users get errors, or wait longer and longer.
    pub fn users_are_hurt(&self) -> bool {
        let failing = self.failing.get().is_some_and(|share| share >= FAILING);
        failing || self.outgrown() == Ok(true)
    }
}

fn in_flight(records: &[&Record]) -> Fact<u64> {
    match records.last().map(|record| &record.facts.requests) {
        Some(requests) => requests.clone().map(|requests| requests.inside()),
        None => Fact::missing("there is no tick"),
    }
}

/// Slope of the requests inside over time, in requests per second.
fn backlog_slope(records: &[&Record], span_ns: u64) -> Fact<f64> {
    let mut points = Vec::with_capacity(records.len());
    let (mut now_ns, mut known_ns, mut quality) = (0, 0, None);
    let mut reason = Reason::fixed("a slope needs two ticks", "");
    for ServerFacts { dt_ns, requests, .. } in records.iter().map(|record| &record.facts) {
        now_ns += dt_ns;
        match requests.known_or_reason() {
            Ok(known) => {
                points.push((seconds(now_ns), known.inside() as f64));
                known_ns += dt_ns;
                quality = Some(quality.map_or(requests.quality, |worst: Quality| worst.worst(requests.quality)));
            }
            Err(why) => reason = why,
        }
    }
    match (slope(&points), quality) {
        (Some(slope), Some(quality)) if covers(known_ns, span_ns) => Fact::known(slope, quality),
        _ => Fact::unknown(reason),
    }
}

/// Least squares; `None` for fewer than two instants.
fn slope(points: &[(f64, f64)]) -> Option<f64> {
    let count = points.len() as f64;
    let (sum_x, sum_y) = points.iter().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (mean_x, mean_y) = (sum_x / count, sum_y / count);
    let spread: f64 = points.iter().map(|(x, _)| (x - mean_x).powi(2)).sum();
    let joint: f64 = points.iter().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    (spread > 0.0).then(|| joint / spread)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_is_that_of_the_line_through_the_points() {
        let line: Vec<(f64, f64)> = (1..=10).map(|x| (f64::from(x), 3.0 * f64::from(x) + 7.0)).collect();
        assert!((slope(&line).expect("ten points") - 3.0).abs() < 1e-9);
        assert_eq!(slope(&line[..1]), None);
        assert_eq!(slope(&[]), None);
    }

    #[test]
    fn a_burst_that_comes_and_goes_is_no_slope() {
        let burst: Vec<(f64, f64)> = [0.0, 0.0, 0.0, 0.0, 40.0, 40.0, 0.0, 0.0, 0.0, 0.0]
            .iter()
            .enumerate()
            .map(|(x, y)| (x as f64, *y))
            .collect();
        assert!(slope(&burst).expect("ten points").abs() < 1e-9);
    }
}
