//! Cumulative streams: each is its series' total in the journal less what that was when the stream began.
//!
//! The totals are exact across restarts and kills of the agent, so a stream only has to keep its start and its base, and it
//! goes on in the next agent as if nothing had happened. It begins with a point of 0, without which a backend would not
//! count what its first interval brought. A stream ends with its last value when its entity retires or is described anew;
//! should the series come back, it is another stream that begins at 0.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::{KeyValue, KeyValueList};
use perfwatch_model::{Bounded, Histogram, MetricDef, Number, SeriesId, SeriesTable};
use prost::Message as _;

use super::points::{Point, Span};
use super::totals::{Base, Stream, StreamId, Total, Totals};

/// Between the end of a tick and the start of a stream that begins with the next one: a backend that counts milliseconds
/// must not take the new stream's 0 for a second value of what ended there.
const APART_NS: u64 = 1_000_000;
/// A stream of a former agent whose series nobody has seen for so long has ended.
const PATIENCE_NS: u64 = 5 * 60 * 1_000_000_000;

/// A stream in this agent.
struct Live {
    metric: &'static MetricDef,
    attributes: Arc<[KeyValue]>,
    kept: Stream,
    /// `None` until the series of a former agent is seen again.
    series: Option<SeriesId>,
    /// When its counter was read last; 0 for one of a former agent that was not read yet.
    seen: u64,
    /// `kept` is not what the journal has.
    changed: bool,
}

impl Live {
    fn begin(
        metric: &'static MetricDef,
        attributes: Arc<[KeyValue]>,
        series: SeriesId,
        start_ns: u64,
        base: Base,
        bounded: Option<Bounded>,
    ) -> Self {
        let kept = Stream { start_ns, exported_ns: 0, base, bounded, attributes: pack(&attributes) };
        Self { metric, attributes, kept, series: Some(series), seen: 0, changed: true }
    }

    /// What it amounts to, as a point at `end`; nothing while its total is forgotten.
    fn point(&self, end: u64, total: Option<Total<'_>>) -> Option<Point> {
        let span = Span { start: self.kept.start_ns, end };
        if let Some(bounded) = &self.kept.bounded {
            return Some(Point::explicit(&self.attributes, span, bounded));
        }
        let (unit, attributes) = (self.metric.unit, &self.attributes);
        Some(match (total?, &self.kept.base) {
            (Total::Int(total), Base::Int(base)) => {
                Point::sum(attributes, span, whole(total.saturating_sub(*base)), unit)
            }
            (Total::Int(total), _) => Point::sum(attributes, span, whole(total), unit),
            (Total::Float(total), Base::Float(base)) => {
                Point::sum(attributes, span, Number::Float((total - base).max(0.0)), unit)
            }
            // The counter stopped being an integer since the stream began.
            (Total::Float(total), Base::Int(base)) => {
                let gained = total - *base as f64 * unit.scale();
                Point::sum(attributes, span, Number::Float(gained.max(0.0)), unit)
            }
            (Total::Float(total), _) => Point::sum(attributes, span, Number::Float(total), unit),
            (Total::Hdr(all), Base::Hdr(base)) => Point::exponential(attributes, span, &all.since(base), unit),
            (Total::Hdr(all), _) => Point::exponential(attributes, span, all, unit),
        })
    }

    /// Its point of 0 at the start.
    fn zero(&self, total: Option<Total<'_>>) -> Option<Point> {
        let span = Span { start: self.kept.start_ns, end: self.kept.start_ns };
        if let Some(bounded) = &self.kept.bounded {
            return Some(Point::explicit(&self.attributes, span, &emptied(bounded)));
        }
        Some(match total? {
            Total::Int(_) => Point::sum(&self.attributes, span, Number::Int(0), self.metric.unit),
            Total::Float(_) => Point::sum(&self.attributes, span, Number::Float(0.0), self.metric.unit),
            Total::Hdr(_) => {
                Point::exponential(&self.attributes, span, &perfwatch_model::SparseHdr::new(), self.metric.unit)
            }
        })
    }
}

fn whole(total: u128) -> Number {
    u64::try_from(total).map_or(Number::Float(total as f64), Number::Int)
}

fn emptied(histogram: &Bounded) -> Bounded {
    Bounded { bounds: histogram.bounds.clone(), counts: vec![0; histogram.counts.len()], sum: 0.0 }
}

fn pack(attributes: &[KeyValue]) -> Vec<u8> {
    KeyValueList { values: attributes.to_vec() }.encode_to_vec()
}

/// All cumulative streams.
#[derive(Default)]
pub(super) struct Streams {
    live: BTreeMap<StreamId, Live>,
    by_series: HashMap<SeriesId, StreamId>,
    /// Series that this tick brings for the first time, and whose number is not known before it is added up.
    new: Vec<(SeriesId, Live)>,
    /// Last points of what ended, which leave with the next export whatever comes.
    last: Vec<(&'static MetricDef, Point)>,
    ended: Vec<StreamId>,
    /// Streams of a former agent are waited for until then.
    patience_ends: Option<u64>,
}

impl Streams {
    /// Takes over a stream of a former agent.
    pub(super) fn restore(&mut self, number: StreamId, kept: Stream, metric: Option<&'static MetricDef>) {
        let attributes = KeyValueList::decode(kept.attributes.as_slice()).ok();
        match (metric, attributes) {
            (Some(metric), Some(list)) => {
                let attributes = list.values.into();
                let live = Live { metric, attributes, kept, series: None, seen: 0, changed: false };
                self.live.insert(number, live);
            }
            // Nobody knows what it was.
            _ => self.ended.push(number),
        }
    }

    pub(super) fn knows(&self, id: SeriesId) -> bool {
        self.by_series.contains_key(&id)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = SeriesId> + '_ {
        self.by_series.keys().copied()
    }

    /// True when something has ended that must not wait for the next export: what comes in its place has other numbers.
    pub(super) fn must_leave_now(&self) -> bool {
        !self.last.is_empty()
    }

    /// A series that this tick brings for the first time. `totals` are those before it is added, `start` its beginning.
    pub(super) fn meet(
        &mut self,
        id: SeriesId,
        about: (&'static MetricDef, Arc<[KeyValue]>),
        gained: Option<&Histogram>,
        start: u64,
        (table, totals): (&SeriesTable, &dyn Totals),
    ) {
        let (metric, attributes) = about;
        let bounded = match gained {
            Some(Histogram::Bounded(gained)) => Some(emptied(gained)),
            Some(Histogram::Hdr(_)) | None => None,
        };
        let number = totals.number(id, table).filter(|number| totals.total(*number).is_some());
        let Some(number) = number else {
            let live = Live::begin(metric, attributes, id, start + APART_NS, Base::Nothing, bounded);
            return self.new.push((id, live));
        };
        self.by_series.insert(id, number);
        if let Some(known) = self.live.get_mut(&number) {
            let same = known.kept.attributes == pack(&attributes)
                && match (&known.kept.bounded, &bounded) {
                    (None, None) => true,
                    (Some(old), Some(new)) => old.bounds == new.bounds,
                    _ => false,
                };
            if same {
                (known.series, known.metric) = (Some(id), metric);
                return;
            }
        }
        self.end(number, start, totals);
        let base = totals.total(number).map_or(Base::Nothing, Base::of);
        self.live.insert(number, Live::begin(metric, attributes, id, start + APART_NS, base, bounded));
    }

    /// The series is described anew: to a backend that is another series.
    pub(super) fn describe(&mut self, id: SeriesId, attributes: &Arc<[KeyValue]>, start: u64, totals: &dyn Totals) {
        let Some(number) = self.by_series.get(&id).copied() else { return };
        let Some(known) = self.live.get(&number).filter(|known| known.attributes != *attributes) else { return };
        let (metric, bounded) = (known.metric, known.kept.bounded.as_ref().map(emptied));
        self.end(number, start, totals);
        let base = totals.total(number).map_or(Base::Nothing, Base::of);
        self.live.insert(number, Live::begin(metric, Arc::clone(attributes), id, start + APART_NS, base, bounded));
    }

    /// A histogram is about to gain something with other bounds, or none of its own: another stream. Called with the totals
    /// before that.
    pub(super) fn expect(&mut self, id: SeriesId, gained: &Histogram, start: u64, totals: &dyn Totals) {
        let Some(number) = self.by_series.get(&id).copied() else { return };
        let Some(known) = self.live.get(&number) else { return };
        let bounded = match (&known.kept.bounded, gained) {
            (None, Histogram::Hdr(_)) => return,
            (Some(old), Histogram::Bounded(new)) if old.bounds == new.bounds => return,
            (_, Histogram::Bounded(new)) => Some(emptied(new)),
            (_, Histogram::Hdr(_)) => None,
        };
        let (metric, attributes) = (known.metric, Arc::clone(&known.attributes));
        self.end(number, start, totals);
        let base = totals.total(number).map_or(Base::Nothing, Base::of);
        self.live.insert(number, Live::begin(metric, attributes, id, start + APART_NS, base, bounded));
    }

    /// Ends a stream with what it amounts to at `at`, should that not have left yet.
    fn end(&mut self, number: StreamId, at: u64, totals: &dyn Totals) {
        let Some(known) = self.live.remove(&number) else { return };
        let total = totals.total(number);
        if known.kept.exported_ns == 0 && known.kept.start_ns < at {
            self.last.extend(known.zero(total).map(|point| (known.metric, point)));
        }
        if known.kept.exported_ns.max(known.kept.start_ns) < at {
            self.last.extend(known.point(at, total).map(|point| (known.metric, point)));
        }
    }

    /// Takes in what the tick brought; `totals` have it now.
    pub(super) fn add(
        &mut self,
        counters: impl Iterator<Item = SeriesId>,
        histograms: &[(SeriesId, Histogram)],
        end: u64,
        (table, totals): (&SeriesTable, &dyn Totals),
    ) {
        for (id, live) in std::mem::take(&mut self.new) {
            if let Some(number) = totals.number(id, table) {
                self.by_series.insert(id, number);
                self.live.insert(number, live);
            }
        }
        for id in counters {
            if let Some(live) = self.current(id, end, (table, totals)) {
                live.seen = end;
            }
        }
        for (id, gained) in histograms {
            let Some(live) = self.current(*id, end, (table, totals)) else { continue };
            let (Some(all), Histogram::Bounded(gained)) = (&mut live.kept.bounded, gained) else { continue };
            if all.bounds == gained.bounds {
                for (all, gained) in all.counts.iter_mut().zip(&gained.counts) {
                    // A backend takes a smaller total for a restart.
                    *all = all.saturating_add(*gained);
                }
                all.sum += gained.sum;
                live.changed = true;
            }
        }
    }

    /// The stream of a series; begun anew where the totals had forgotten it and counted from 0 since.
    fn current(&mut self, id: SeriesId, end: u64, (table, totals): (&SeriesTable, &dyn Totals)) -> Option<&mut Live> {
        let before = *self.by_series.get(&id)?;
        let now = totals.number(id, table)?;
        if before != now {
            let old = self.live.remove(&before)?;
            self.ended.push(before);
            self.by_series.insert(id, now);
            let start = end.saturating_sub(APART_NS).max(old.kept.exported_ns + APART_NS);
            let bounded = old.kept.bounded.as_ref().map(emptied);
            self.live.insert(now, Live::begin(old.metric, old.attributes, id, start, Base::Nothing, bounded));
        }
        self.live.get_mut(&now)
    }

    /// Hands out the points up to `now`, each series' in order of time, and notes that they left. A series that retired
    /// leaves for the last time.
    pub(super) fn drain(
        &mut self,
        table: &SeriesTable,
        totals: &dyn Totals,
        now: u64,
    ) -> Vec<(&'static MetricDef, StreamId, Point)> {
        let mut points: Vec<_> = self.last.drain(..).map(|(metric, point)| (metric, 0, point)).collect();
        let patience_ends = *self.patience_ends.get_or_insert(now.saturating_add(PATIENCE_NS));
        for (number, live) in &mut self.live {
            let total = totals.total(*number);
            // A counter is told as of when it was read, and not at all when it could not be; a histogram stands. What a
            // former agent had counted is told once, whether or not its series comes back.
            let is_counter = matches!(total, Some(Total::Int(_) | Total::Float(_)));
            let time = match (is_counter, live.seen) {
                (true, 0) if live.kept.exported_ns < now && live.series.is_none() => now,
                (true, seen) => seen,
                (false, _) => now,
            };
            if time > live.kept.exported_ns && time > live.kept.start_ns {
                if live.kept.exported_ns == 0 {
                    points.extend(live.zero(total).map(|point| (live.metric, *number, point)));
                }
                points.extend(live.point(time, total).map(|point| (live.metric, *number, point)));
                (live.kept.exported_ns, live.changed) = (time, true);
                live.seen = live.seen.max(1);
            }
            let gone = match live.series {
                Some(id) => table.series_of(id).is_none(),
                None => now >= patience_ends,
            };
            if gone || (total.is_none() && live.kept.bounded.is_none()) {
                self.ended.push(*number);
            }
        }
        for number in &self.ended {
            self.live.remove(number);
        }
        self.by_series.retain(|_, number| self.live.contains_key(number));
        points
    }

    /// What is to be kept that was not before; `None` for what ended.
    pub(super) fn changed(&mut self) -> Vec<(StreamId, Option<Stream>)> {
        let mut out: Vec<_> = std::mem::take(&mut self.ended).into_iter().map(|number| (number, None)).collect();
        for (number, live) in self.live.iter_mut().filter(|(_, live)| live.changed) {
            live.changed = false;
            out.push((*number, Some(live.kept.clone())));
        }
        out
    }

    /// All that is to be kept.
    pub(super) fn all(&self) -> Vec<(StreamId, Stream)> {
        self.live.iter().map(|(number, live)| (*number, live.kept.clone())).collect()
    }
}
