//! Requests as a server's own metrics count them: the metrics of the semantic conventions that mean a request.

use perfwatch_model::snapshot::LatencyView;
use perfwatch_model::{Attr, AttrValue, Histogram};

use super::stream;

/// Distributions of the duration of requests, one value each.
const DURATIONS: &[&str] =
    &["gen_ai.server.request.duration", "http.server.request.duration", "rpc.server.call.duration"];
/// Levels of the requests inside a server.
const INSIDE: &[&str] = &["http.server.active_requests"];
/// For how many of the sender's intervals a rate is shown.
const KEPT_INTERVALS: u64 = 3;

pub(super) fn is_duration(metric: &str) -> bool {
    DURATIONS.contains(&metric)
}

pub(super) fn is_inside(metric: &str) -> bool {
    INSIDE.contains(&metric)
}

/// True when a point's attributes say that its requests failed: `error.type`, or an HTTP status from 500.
pub(super) fn failed(attrs: &[Attr]) -> bool {
    attrs.iter().any(|attr| match (attr.key, &attr.value) {
        ("error.type", _) => true,
        ("http.response.status_code", AttrValue::Int(status)) => *status >= 500,
        _ => false,
    })
}

/// What was gained between two exports.
#[derive(Clone, Debug, PartialEq)]
struct Gain {
    durations: Option<Histogram>,
    /// Ended well, and in an error.
    requests: [u64; 2],
    interval_ns: u64,
    /// Time of the newest point, the sender's.
    end: u64,
}

/// Requests of one server, by its own metrics.
#[derive(Debug, Default)]
pub(super) struct Metered {
    now: Option<Gain>,
    newest: Option<(Gain, u64)>,
}

impl Metered {
    /// Adds what one series gained over `interval_ns` up to `end`.
    pub(super) fn add(&mut self, gained: &Histogram, failed: bool, interval_ns: u64, end: u64) {
        let now = self.now.get_or_insert(Gain { durations: None, requests: [0; 2], interval_ns: 0, end });
        // Series of one export cover the same time; those of the next one come on top.
        now.interval_ns =
            if end > now.end { now.interval_ns.saturating_add(interval_ns) } else { now.interval_ns.max(interval_ns) };
        now.end = now.end.max(end);
        let requests = &mut now.requests[usize::from(failed)];
        *requests = requests.saturating_add(stream::count(gained));
        match &mut now.durations {
            Some(durations) => _ = stream::join(durations, gained),
            none => *none = Some(gained.clone()),
        }
    }

    /// Ends a tick.
    pub(super) fn close(&mut self, mono_ns: u64) {
        if let Some(gain) = self.now.take() {
            self.newest = Some((gain, mono_ns));
        }
        let stale =
            |(gain, at): &(Gain, u64)| mono_ns.saturating_sub(*at) > gain.interval_ns.saturating_mul(KEPT_INTERVALS);
        if self.newest.as_ref().is_some_and(stale) {
            self.newest = None;
        }
    }

    /// Requests per second, ended well and in an error, over the sender's newest interval.
    pub(super) fn rates(&self) -> Option<(f64, f64)> {
        let (gain, _) = self.newest.as_ref().filter(|(gain, _)| gain.interval_ns > 0)?;
        let per_s = |requests: u64| requests as f64 / (gain.interval_ns as f64 / 1e9);
        Some((per_s(gain.requests[0]), per_s(gain.requests[1])))
    }

    /// Durations in the sender's newest interval, quantiles as the upper bounds of their buckets. `None` when some requests
    /// took longer than the last bound: nothing says how long.
    pub(super) fn latency(&self) -> Option<LatencyView> {
        latency(self.newest.as_ref()?.0.durations.as_ref()?)
    }

    /// True when some requests took longer than the last bound.
    pub(super) fn is_beyond_bounds(&self) -> bool {
        let durations = self.newest.as_ref().and_then(|(gain, _)| gain.durations.as_ref());
        matches!(durations, Some(Histogram::Bounded(durations)) if durations.counts.last().is_some_and(|open| *open > 0))
    }
}

fn latency(durations: &Histogram) -> Option<LatencyView> {
    let count = stream::count(durations);
    if count == 0 {
        return None;
    }
    let (sum_s, quantile): (f64, &dyn Fn(f64) -> Option<f64>) = match durations {
        Histogram::Hdr(hdr) => (hdr.sum() as f64 / 1e9, &|q| hdr.quantile(q).map(|ns| ns as f64 / 1e9)),
        Histogram::Bounded(bounded) => (bounded.sum, &|q| {
            let rank = ((q * count as f64).ceil() as u64).max(1);
            let mut seen = 0;
            let at = bounded.counts.iter().position(|count| {
                seen = count.saturating_add(seen);
                seen >= rank
            })?;
            bounded.bounds.get(at).copied()
        }),
    };
    Some(LatencyView {
        count,
        sum_s,
        p50_s: quantile(0.5)?,
        p90_s: quantile(0.9)?,
        p99_s: quantile(0.99)?,
        p999_s: quantile(0.999),
        max_s: quantile(1.0)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::Bounded;

    const SECOND: u64 = 1_000_000_000;

    fn durations(counts: [u64; 3]) -> Histogram {
        Histogram::Bounded(Bounded { bounds: vec![0.1, 1.0], counts: counts.to_vec(), sum: 3.0 })
    }

    #[test]
    fn rates_are_over_the_senders_interval_and_end_with_it() {
        let mut metered = Metered::default();
        metered.add(&durations([90, 10, 0]), false, 10 * SECOND, 100);
        metered.add(&durations([10, 0, 0]), true, 10 * SECOND, 100);
        metered.close(SECOND);
        assert_eq!(metered.rates(), Some((10.0, 1.0)));
        let latency = metered.latency().expect("all within bounds");
        assert_eq!((latency.count, latency.p50_s, latency.p99_s, latency.max_s), (110, 0.1, 1.0, 1.0));
        metered.close(31 * SECOND);
        assert!(metered.rates().is_some());
        metered.close(32 * SECOND);
        assert_eq!((metered.rates(), metered.latency()), (None, None));
    }

    #[test]
    fn what_took_longer_than_the_last_bound_is_not_guessed() {
        let mut metered = Metered::default();
        metered.add(&durations([1, 0, 1]), false, SECOND, 1);
        metered.close(0);
        assert!(metered.latency().is_none() && metered.is_beyond_bounds());
    }
}
