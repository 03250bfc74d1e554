//! One series of a sender: delta or cumulative points in, perfwatch's totals and gains out.

use opentelemetry_proto::tonic::metrics::v1::HistogramDataPoint;
use perfwatch_model::{Bounded, Histogram, MetricDef, Number, SeriesId, SparseHdr, Tick};

use super::exponential::Exponential;
use super::units::Scale;

/// Most bounds of an explicit histogram.
const MAX_BOUNDS: usize = 1_024;
/// Distributions with different bounds that one series may gain within a tick.
const MAX_PENDING: usize = 4;
/// Largest number that a counter or the sum of a distribution may be, in perfwatch's units: 2^100. A server that adds up
/// nanoseconds would take some 10^13 years; what is beyond would make sums of such numbers infinite.
pub(super) const MAX_NUMBER: f64 = (1_u128 << 100) as f64;
/// Most values of a distribution: 2^48, nine years of a million a second.
pub(super) const MAX_COUNT: u64 = 1 << 48;

/// When a point's value began to gather, and as of when it holds: nanoseconds since the epoch, 0 where not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) end: u64,
}

/// How a sender's points relate to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Temporality {
    /// Each says what came since the last.
    Delta,
    /// Each says what came since its start.
    Cumulative,
}

/// What a point did.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Taken<T> {
    /// It had been there before: senders repeat what they got no answer to.
    Before,
    /// It is the first of a total that is older than this agent: nothing can be said of what was gained.
    Baseline,
    /// It brought this much, over so many nanoseconds of the sender's time.
    Gained(T, u64),
}

/// Where in its sender's time a series is.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u64,
    end: u64,
}

enum Order {
    Before,
    Goes { restarted: bool, interval_ns: u64 },
}

impl Place {
    /// Finds out how a point follows the last one and moves on to it.
    fn follow(&mut self, span: Span, temporality: Temporality) -> Result<Order, &'static str> {
        let cumulative = temporality == Temporality::Cumulative;
        if span.end != 0 && span.end <= self.end {
            // A total that comes late is in the newer one. A change is not: it may be new, or the repetition of one from
            // before the last, and adding it could count it twice.
            let lost = !cumulative && span.end < self.end;
            return if lost { Err(LATE) } else { Ok(Order::Before) };
        }
        if cumulative && span.start != 0 && span.start < self.start {
            return Err("two senders write the same series: give each a service.instance.id of its own");
        }
        let restarted = cumulative && self.end != 0 && span.start > self.start;
        let since = if cumulative && !restarted && self.end != 0 { self.end } else { span.start };
        *self = Self { start: span.start, end: span.end };
        let interval_ns = if since == 0 { 0 } else { span.end.saturating_sub(since) };
        Ok(Order::Goes { restarted, interval_ns })
    }
}

#[derive(Debug)]
enum State {
    Gauge {
        value: f64,
        fresh: bool,
    },
    /// `told`: of the total, what stands in ticks.
    Counter {
        total: Number,
        told: Number,
        last: Option<Number>,
    },
    Explicit {
        last: Option<Bounded>,
        gained: Vec<Histogram>,
    },
    Exponential {
        last: Option<Exponential>,
        gained: Vec<Histogram>,
    },
}

/// One series.
#[derive(Debug)]
pub(super) struct Stream {
    pub(super) metric: &'static MetricDef,
    scale: Scale,
    place: Place,
    state: State,
    pub(super) series: Option<SeriesId>,
    /// What it counts for in the limits of series.
    pub(super) weight: usize,
}

/// What a series counts for that holds so many buckets: a few copies of 64 are as much as everything else of one.
pub(super) fn weight(buckets: usize) -> usize {
    1 + buckets / 64
}

/// What a new series holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Gauge,
    Counter,
    Explicit,
    Exponential,
}

const LATE: &str = "a delta came after a later one of its series; senders must keep the order";
const OTHER_KIND: &str = "a series was of another kind before";
const ABSURD: &str = "a point is not a number, or larger than anything that can be counted";

impl Stream {
    pub(super) fn new(metric: &'static MetricDef, scale: Scale, kind: Kind) -> Self {
        let state = match kind {
            Kind::Gauge => State::Gauge { value: 0.0, fresh: false },
            Kind::Counter => State::Counter { total: Number::Int(0), told: Number::Int(0), last: None },
            Kind::Explicit => State::Explicit { last: None, gained: Vec::new() },
            Kind::Exponential => State::Exponential { last: None, gained: Vec::new() },
        };
        Self { metric, scale, place: Place::default(), state, series: None, weight: 0 }
    }

    /// Forgets where in its sender's time the series is: in an overflow series many senders' points mix.
    pub(super) fn forget_place(&mut self) {
        self.place = Place::default();
    }

    /// A gauge's value; of an up-down counter, its total (cumulative) or its change (delta).
    pub(super) fn level(&mut self, value: f64, span: Span, temporality: Temporality) -> Result<(), &'static str> {
        let State::Gauge { value: held, fresh } = &mut self.state else { return Err(OTHER_KIND) };
        let value = value * self.scale.outside;
        let level = if temporality == Temporality::Delta { *held + value } else { value };
        if !level.is_finite() {
            return Err("a point is not a finite number");
        }
        if matches!(self.place.follow(Span { start: 0, ..span }, temporality)?, Order::Goes { .. }) {
            *held = level;
            *fresh = true;
        }
        Ok(())
    }

    /// The value of a gauge that has one.
    pub(super) fn held(&self) -> Option<f64> {
        match self.state {
            State::Gauge { value, .. } => Some(value),
            _ => None,
        }
    }

    /// A counter's point. Ours begins at 0 when the series is first seen, whatever its sender's is by then, unless that began
    /// after `since_ns`, when this agent began to watch the server: all of it is new then. A total that begins anew, or goes
    /// back, counts from 0 again; ours goes on.
    pub(super) fn count(
        &mut self,
        value: Number,
        span: Span,
        temporality: Temporality,
        since_ns: u64,
    ) -> Result<Taken<Number>, &'static str> {
        let State::Counter { total, last, .. } = &mut self.state else { return Err(OTHER_KIND) };
        if value.as_f64() < 0.0 {
            return Err("a counter's point is negative");
        }
        if !is_sane(value.as_f64()) {
            return Err(ABSURD);
        }
        let Order::Goes { restarted, interval_ns } = self.place.follow(span, temporality)? else {
            return Ok(Taken::Before);
        };
        let gained = match (temporality, *last) {
            (Temporality::Cumulative, Some(last)) if !restarted && value.as_f64() >= last.as_f64() => less(value, last),
            (Temporality::Cumulative, None) if !is_younger(span, since_ns) => less(value, value),
            _ => value,
        };
        let is_baseline = last.is_none() && temporality == Temporality::Cumulative && !is_younger(span, since_ns);
        *total = more(*total, gained);
        *last = Some(value);
        Ok(if is_baseline { Taken::Baseline } else { Taken::Gained(gained, interval_ns) })
    }

    /// An explicit histogram's point. `since_ns` is when this agent began to listen: a total that began later is all gain.
    pub(super) fn explicit(
        &mut self,
        point: &HistogramDataPoint,
        temporality: Temporality,
        since_ns: u64,
    ) -> Result<Taken<Histogram>, &'static str> {
        let State::Explicit { last, gained: pending } = &mut self.state else { return Err(OTHER_KIND) };
        let now = read_explicit(point, self.scale)?;
        let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
        let Order::Goes { restarted, interval_ns } = self.place.follow(span, temporality)? else {
            return Ok(Taken::Before);
        };
        let gained = match (temporality, last.as_ref()) {
            (Temporality::Delta, _) => Some(now.clone()),
            (_, Some(_)) if restarted => Some(now.clone()),
            (_, Some(before)) if before.bounds == now.bounds => {
                let fewer = sum_of(&now.counts) < sum_of(&before.counts);
                if fewer { Some(now.clone()) } else { difference(&now, before) }
            }
            (_, None) if is_younger(span, since_ns) => Some(now.clone()),
            // Other bounds under the same start, or a total older than this agent.
            _ => None,
        };
        *last = Some(now);
        keep(gained.map(Histogram::Bounded), interval_ns, pending)
    }

    /// An exponential histogram's point; see [`Self::explicit`].
    pub(super) fn exponential(
        &mut self,
        now: Exponential,
        span: Span,
        temporality: Temporality,
        since_ns: u64,
    ) -> Result<Taken<Histogram>, &'static str> {
        let State::Exponential { last, gained: pending } = &mut self.state else { return Err(OTHER_KIND) };
        if now.count() > MAX_COUNT || !is_sane(now.sum() * self.scale.inside()) {
            return Err(ABSURD);
        }
        let Order::Goes { restarted, interval_ns } = self.place.follow(span, temporality)? else {
            return Ok(Taken::Before);
        };
        let gained = match (temporality, last.as_ref()) {
            (Temporality::Delta, _) => Some(now.taken_over(self.scale)),
            (_, Some(before)) if restarted || now.count() < before.count() => Some(now.taken_over(self.scale)),
            (_, Some(before)) => now.since(before).map(|gained| gained.taken_over(self.scale)),
            (_, None) if is_younger(span, since_ns) => Some(now.taken_over(self.scale)),
            (_, None) => None,
        };
        *last = Some(now);
        keep(gained, interval_ns, pending)
    }

    /// Its entity ended and begins anew: a new series begins at 0, with what no tick has held yet.
    pub(super) fn begin_anew(&mut self) {
        self.series = None;
        if let State::Counter { total, told, .. } = &mut self.state {
            (*total, *told) = (less(*total, *told), Number::Int(0));
        }
    }

    /// Appends what a tick should hold of this series.
    pub(super) fn report(&mut self, series: SeriesId, tick: &mut Tick) {
        match &mut self.state {
            State::Gauge { value, fresh } => {
                if std::mem::take(fresh) {
                    tick.values.push((series, Number::Float(*value)));
                }
            }
            State::Counter { total, told, last } => {
                if last.is_some() {
                    *told = *total;
                    tick.values.push((series, *total));
                }
            }
            State::Explicit { gained, .. } | State::Exponential { gained, .. } => {
                tick.histograms.extend(gained.drain(..).map(|gained| (series, gained)));
            }
        }
    }
}

/// True when a total began after the agent began to watch.
fn is_younger(span: Span, since_ns: u64) -> bool {
    span.start != 0 && span.start >= since_ns
}

fn is_sane(value: f64) -> bool {
    value.abs() <= MAX_NUMBER
}

fn sum_of(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn more(total: Number, gained: Number) -> Number {
    match (total, gained) {
        (Number::Int(total), Number::Int(gained)) => Number::Int(total.saturating_add(gained)),
        // Nothing was counted yet: the total takes the kind of what comes.
        (Number::Int(0), gained) => gained,
        (total, gained) => Number::Float(total.as_f64() + gained.as_f64()),
    }
}

fn less(value: Number, last: Number) -> Number {
    match (value, last) {
        (Number::Int(value), Number::Int(last)) => Number::Int(value.saturating_sub(last)),
        (value, last) => Number::Float(value.as_f64() - last.as_f64()),
    }
}

fn read_explicit(point: &HistogramDataPoint, scale: Scale) -> Result<Bounded, &'static str> {
    if point.explicit_bounds.len() > MAX_BOUNDS {
        return Err("a histogram has more than 1024 bounds");
    }
    // Checked as they are kept: what ascends may not after it was multiplied.
    let bounds: Vec<f64> = point.explicit_bounds.iter().map(|bound| bound * scale.outside).collect();
    if !bounds.iter().all(|bound| bound.is_finite()) || !bounds.windows(2).all(|pair| pair[0] < pair[1]) {
        return Err("a histogram's bounds do not ascend");
    }
    let counts = match &point.bucket_counts[..] {
        [] if bounds.is_empty() => vec![point.count],
        counts if counts.len() == bounds.len() + 1 => counts.to_vec(),
        _ => return Err("a histogram does not have one bucket more than bounds"),
    };
    if counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count)) != Some(point.count) {
        return Err("a histogram's count is not the sum of its buckets");
    }
    let Some(sum) = point.sum.filter(|sum| sum.is_finite()) else {
        return Err("a distribution has no sum, or one that is not a number");
    };
    if point.count > MAX_COUNT || !is_sane(sum * scale.inside()) {
        return Err(ABSURD);
    }
    Ok(Bounded { bounds, counts, sum: sum * scale.outside })
}

fn difference(now: &Bounded, before: &Bounded) -> Option<Bounded> {
    let counts: Option<Vec<u64>> =
        now.counts.iter().zip(&before.counts).map(|(now, before)| now.checked_sub(*before)).collect();
    Some(Bounded { bounds: now.bounds.clone(), counts: counts?, sum: now.sum - before.sum })
}

fn keep(
    gained: Option<Histogram>,
    interval_ns: u64,
    pending: &mut Vec<Histogram>,
) -> Result<Taken<Histogram>, &'static str> {
    let Some(gained) = gained else { return Ok(Taken::Baseline) };
    let joined = pending.iter_mut().any(|known| join(known, &gained));
    if !joined && count(&gained) > 0 {
        if pending.len() >= MAX_PENDING {
            return Err("a histogram changes its bounds all the time");
        }
        pending.push(gained.clone());
    }
    Ok(Taken::Gained(gained, interval_ns))
}

/// Adds a distribution to another where both have the same buckets.
pub(super) fn join(into: &mut Histogram, from: &Histogram) -> bool {
    match (into, from) {
        (Histogram::Hdr(into), Histogram::Hdr(from)) => into.add(from),
        (Histogram::Bounded(into), Histogram::Bounded(from)) if into.bounds == from.bounds => {
            into.counts.iter_mut().zip(&from.counts).for_each(|(into, from)| *into = into.saturating_add(*from));
            into.sum += from.sum;
        }
        _ => return false,
    }
    true
}

/// How many values a distribution has.
pub(super) fn count(histogram: &Histogram) -> u64 {
    match histogram {
        Histogram::Hdr(histogram) => SparseHdr::count(histogram),
        Histogram::Bounded(histogram) => sum_of(&histogram.counts),
    }
}

#[cfg(test)]
mod tests;
