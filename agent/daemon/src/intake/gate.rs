//! How much is let in: so many points per second, and nothing while nobody takes them away.

use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::ResourceMetrics;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;

use super::book::points_of;

/// Points and spans per second, over all senders together. vLLM sends one span per request and a metrics SDK some hundred
/// points a minute; this is two orders of magnitude above a busy node, and costs a few percent of a core.
pub(super) const POINTS_PER_SECOND: u64 = 20_000;
/// Seconds' worth of points that may come at once: senders batch for up to a minute.
const BURST_S: u64 = 5;
/// When ticks have not closed for this long, what comes would only pile up.
const STALLED_NS: u64 = 5_000_000_000;
const NS_PER_POINT: u64 = 1_000_000_000 / POINTS_PER_SECOND;

/// What a message counts for: its points. Each part without any counts for one, as it costs as much to read.
pub(super) fn metrics_in(sent: &[ResourceMetrics]) -> u64 {
    let scopes = |part: &ResourceMetrics| {
        at_least_one(
            part.scope_metrics
                .iter()
                .map(|scope| at_least_one(scope.metrics.iter().map(|metric| points_of(metric).max(1)))),
        )
    };
    at_least_one(sent.iter().map(scopes))
}

/// The same of a message of spans.
pub(super) fn spans_in(sent: &[ResourceSpans]) -> u64 {
    let scopes =
        |part: &ResourceSpans| at_least_one(part.scope_spans.iter().map(|scope| (scope.spans.len() as u64).max(1)));
    at_least_one(sent.iter().map(scopes))
}

fn at_least_one(parts: impl Iterator<Item = u64>) -> u64 {
    parts.sum::<u64>().max(1)
}

/// Decides whether a request may come in.
#[derive(Debug)]
pub(super) struct Gate {
    /// When the bucket would be empty again, on the monotonic clock.
    free_at_ns: u64,
    drained_at_ns: u64,
}

impl Gate {
    pub(super) fn new(mono_ns: u64) -> Self {
        Self { free_at_ns: mono_ns, drained_at_ns: mono_ns }
    }

    /// Notes that a tick has taken everything away.
    pub(super) fn drained(&mut self, mono_ns: u64) {
        self.drained_at_ns = mono_ns;
    }

    /// Lets a request of so many points in, whole, or says when to try again. A request larger than the burst passes when
    /// the bucket has room at all, and the next ones wait for it: refusing it would refuse it for ever.
    pub(super) fn admit(&mut self, points: u64, mono_ns: u64) -> Result<(), Duration> {
        if mono_ns.saturating_sub(self.drained_at_ns) > STALLED_NS {
            return Err(Duration::from_secs(1));
        }
        self.free_at_ns = self.free_at_ns.max(mono_ns);
        let ahead_ns = self.free_at_ns - mono_ns;
        let over_ns = ahead_ns.saturating_sub(BURST_S * 1_000_000_000);
        if over_ns > 0 {
            return Err(Duration::from_nanos(over_ns).max(Duration::from_millis(100)));
        }
        self.free_at_ns += points * NS_PER_POINT;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::metrics::v1::{Gauge, Metric, NumberDataPoint, ScopeMetrics, metric::Data};
    use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};

    #[test]
    fn parts_without_points_count_too() {
        let of = |points| {
            let data = Some(Data::Gauge(Gauge { data_points: vec![NumberDataPoint::default(); points] }));
            Metric { data, ..Metric::default() }
        };
        let scope = |metrics| ScopeMetrics { metrics, ..ScopeMetrics::default() };
        let resource = |scope_metrics| ResourceMetrics { scope_metrics, ..ResourceMetrics::default() };
        assert_eq!(metrics_in(&[]), 1);
        assert_eq!(metrics_in(&[resource(vec![]), resource(vec![scope(vec![]), scope(vec![])])]), 3);
        assert_eq!(metrics_in(&[resource(vec![scope(vec![Metric::default(), of(0), of(5)])])]), 7);
        let scope = |spans| ScopeSpans { spans: vec![Span::default(); spans], ..ScopeSpans::default() };
        let resource = |scope_spans| ResourceSpans { scope_spans, ..ResourceSpans::default() };
        assert_eq!(spans_in(&[resource(vec![]), resource(vec![scope(0), scope(4)])]), 6);
    }

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_flood_is_told_when_to_come_back_and_then_let_in() {
        let mut gate = Gate::new(0);
        assert_eq!(gate.admit(POINTS_PER_SECOND * BURST_S, 0), Ok(()));
        assert_eq!(gate.admit(POINTS_PER_SECOND, 0), Ok(()), "the bucket was just full, not over");
        let wait = gate.admit(1, 0).expect_err("over");
        assert_eq!(wait, Duration::from_secs(1));
        gate.drained(SECOND);
        assert_eq!(gate.admit(1, SECOND), Ok(()));
    }

    #[test]
    fn nothing_comes_in_while_nobody_takes_it_away() {
        let mut gate = Gate::new(0);
        assert_eq!(gate.admit(1, 5 * SECOND), Ok(()));
        assert!(gate.admit(1, 6 * SECOND).is_err());
        gate.drained(6 * SECOND);
        assert_eq!(gate.admit(1, 6 * SECOND), Ok(()));
    }
}
