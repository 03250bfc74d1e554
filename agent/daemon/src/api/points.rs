//! `/v1/query` over time: what a metric did in each of so many equal parts of a time.
//!
//! ```json
//! {"from": "2026-11-24T12:00:00.000Z", "to": "2026-11-24T12:10:00.000Z", "step_s": 5.0, "store": "/var/lib/perfwatch/journal.db",
//!  "resolution_s": 1.0, "covered_s": 598.0, "oldest": "2026-11-24T12:00:02.000Z", "metric": "system.cpu.time", "unit": "s", "series": [
//!   {"entity": "host:here", "attributes": {"cpu.mode": "user"}, "points": [
//!     {"time": "2026-11-24T12:00:05.000Z", "covered_s": 3.0, "increase": 1.2, "per_s": 0.4}, null]}]}
//! ```
//!
//! A point stands for the part that ends at its `time`; `null` where nothing was measured. Of a counter it has `increase` and
//! `per_s`; of a gauge `mean`, `min` and `max`; of a distribution `count`, `sum` and, where the buckets are ours, `p50`, `p90`,
//! `p99`, `p999` and `max`, of all values of that part together. `covered_s` is how much of the part was measured.
//! A counter that falls began anew: what it shows then is its increase. In memory, the first reading of a counter only says from
//! where it counts; the journal knows what it gained. What a counter of the kernel gained while nobody looked is told with the
//! next tick, and `per_s` divides it by all the time in which it came about. A time that came twice, because the wall clock was
//! set back, is the sum of both.
//!
//! Where seconds are not kept any more, and where parts are a minute or longer, the answer is made of minutes
//! (`resolution_s` is 60 then); like a second, a minute belongs to the part in which it ends. Counters and distributions of
//! minutes are exact, gauges have the mean, least and greatest of their seconds.

mod sums;

use std::collections::BTreeMap;
use std::path::Path;

use axum::http::StatusCode;
use perfwatch_model::{Clock, Instrument, MetricDef, metrics};
use perfwatch_store::{Archive, ArchivedMinute, Place};
use serde::Serialize;
use tokio::sync::Semaphore;

use super::Api;
use super::answer::Problem;
use super::ticks::seconds;
use crate::time::rfc3339;
use sums::{Cell, Key, Line, Sums};

/// Without `from`, as much as memory holds.
const SPAN_NS: u64 = 120_000_000_000;
/// Without `points`.
const POINTS: u64 = 120;
/// More is no downsampling.
const MAX_POINTS: u64 = 2000;
/// Parts that are no shorter are made of minutes: a day has 86,400 seconds, and these parts show no more of them.
const MINUTE_NS: f64 = 60e9;

/// What is asked.
#[derive(Debug)]
pub(super) struct Range {
    metric: &'static MetricDef,
    entity: Option<String>,
    from: u64,
    to: u64,
    points: u64,
}

impl Range {
    pub(super) fn of(
        metric: Option<String>,
        entity: Option<String>,
        [from, to, points]: [Option<&str>; 3],
        clock: &dyn Clock,
    ) -> Result<Self, Problem> {
        let bad = |message: String| Problem::new(StatusCode::BAD_REQUEST, message);
        let ns = |seconds: f64| (seconds.clamp(0.0, 1e10) * 1e9) as u64;
        let to = seconds("to", to)?.map_or_else(|| clock.now().wall_ns, ns);
        let from = seconds("from", from)?.map_or_else(|| to.saturating_sub(SPAN_NS), ns);
        let points = match points.map(str::parse::<u64>) {
            None => POINTS,
            Some(Ok(points)) if (1..=MAX_POINTS).contains(&points) => points,
            Some(_) => return Err(bad(format!("`points` takes 1 to {MAX_POINTS}"))),
        };
        if from >= to {
            return Err(bad("`from` must be earlier than `to`".to_owned()));
        }
        let name = metric.ok_or_else(|| {
            bad("over time one metric is asked for".to_owned()).hint("add metric=name; /v1/catalog lists them")
        })?;
        let metric = metrics::find(&name)
            .ok_or_else(|| bad(format!("there is no metric `{name}`")).hint("/v1/catalog lists them"))?;
        Ok(Self { metric, entity, from, to, points })
    }
}

#[derive(Debug, Serialize)]
pub(super) struct OverTime {
    from: String,
    to: String,
    step_s: f64,
    /// Where it comes from: the journal's path, or `memory`.
    store: String,
    /// Length of what was measured at once.
    resolution_s: f64,
    /// How much of the time was measured.
    covered_s: f64,
    /// End of the oldest tick or minute that is kept there.
    oldest: Option<String>,
    metric: &'static str,
    unit: &'static str,
    series: Vec<SeriesPoints>,
}

#[derive(Debug, Serialize)]
struct SeriesPoints {
    entity: String,
    attributes: serde_json::Map<String, serde_json::Value>,
    points: Vec<Option<PointView>>,
}

#[derive(Debug, Default, PartialEq, Serialize)]
struct PointView {
    time: String,
    covered_s: f64,
    #[serde(flatten)]
    values: BTreeMap<&'static str, f64>,
}

/// One answer is made at a time, the others wait: what it takes to make one is bounded, not how many ask.
static ONE: Semaphore = Semaphore::const_new(1);

/// Answers from memory where it reaches back far enough, else from the journal.
pub(super) async fn over_time(api: &Api, range: Range) -> Result<OverTime, Problem> {
    let (ticks, table) = api.history.view(0.0, f64::INFINITY);
    let oldest = ticks.first().map(|tick| tick.end.wall_ns.saturating_sub(tick.dt_ns));
    let journal = match api.journal.status().place {
        Place::Disk(path) if oldest.is_none_or(|oldest| range.from < oldest) => Some(path),
        _ => None,
    };
    let work = move || match journal {
        None => {
            let mut sums = Sums::new(range);
            ticks.iter().try_for_each(|tick| sums.add(tick, &[], &table))?;
            Ok(sums.answer("memory".to_owned(), ticks.first().map(|tick| tick.end.wall_ns), 1.0))
        }
        Some(path) => from_journal(&path, Sums::new(range)),
    };
    let _alone = ONE.acquire().await;
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the query failed"))?
}

/// Of seconds as far as they reach back, and of minutes before them; of minutes alone where the parts are no shorter.
fn from_journal(path: &Path, mut sums: Sums) -> Result<OverTime, Problem> {
    /// Ticks that are read at once.
    const AT_ONCE: usize = 256;
    let failed = |error| Problem::new(StatusCode::SERVICE_UNAVAILABLE, format!("the journal: {error}"));
    let archive = Archive::open(path).map_err(failed)?;
    let [from, to] = [sums.range.from, sums.range.to];
    let span = archive.span().map_err(failed)?.filter(|_| sums.step_ns < MINUTE_NS);
    // With the minute of the oldest second: what its counters are counted from is not there any more.
    let minutes_before = match span {
        None => u64::MAX,
        Some(span) if from >= span.first.wall_ns => 0,
        Some(span) => span.first_seq.saturating_add(1),
    };
    let (mut next, mut added) = (None, Ok(()));
    let show = |minute: ArchivedMinute| {
        if added.is_ok() {
            next = Some(minute.last_seq.saturating_add(1));
            added = sums.add_minute(&minute, &archive.table());
        }
    };
    archive.each_minute((from.saturating_add(1), to), minutes_before, show).map_err(failed)?;
    added?;
    let resolution_s = if next.is_some() { 60.0 } else { 1.0 };
    // Where the wall clock was set back there are others between these, which `Sums` passes over.
    if let Some((first, last)) = archive.reach(from.saturating_add(1), to).map_err(failed)? {
        let first = next.unwrap_or(0).max(first);
        // One before, from which counters are counted. What it gained itself is told already, or before the time.
        let mut at = archive.before(first.saturating_sub(1), 0).map_err(failed)?;
        while at <= last {
            let ticks = archive.ticks(at, AT_ONCE).map_err(failed)?;
            let Some(newest) = ticks.last() else { break };
            at = newest.seq.saturating_add(1);
            for read in ticks.iter().filter(|read| read.seq <= last) {
                if read.seq < first {
                    sums.count_from(&read.tick, &archive.table());
                } else {
                    sums.add(&read.tick, &read.gains, &archive.table())?;
                }
            }
        }
    }
    Ok(sums.answer(path.display().to_string(), archive.oldest().map_err(failed)?, resolution_s))
}

impl Sums {
    fn answer(self, store: String, oldest: Option<u64>, resolution_s: f64) -> OverTime {
        let Self { range, step_ns, covered_ns, lines, .. } = self;
        let view = |((entity, attributes), line): (Key, Line)| {
            let mut cells = line.cells;
            let points = (0..range.points).map(|at| {
                let end = range.from + ((at + 1) as f64 * step_ns) as u64;
                cells.remove(&at).and_then(|cell| cell.view(range.metric, end))
            });
            let points: Vec<_> = points.collect();
            let attributes = serde_json::from_str(&attributes).unwrap_or_default();
            SeriesPoints { entity, attributes, points }
        };
        OverTime {
            from: rfc3339(range.from),
            to: rfc3339(range.to),
            step_s: step_ns / 1e9,
            store,
            resolution_s,
            covered_s: covered_ns as f64 / 1e9,
            oldest: oldest.map(rfc3339),
            metric: range.metric.name,
            unit: range.metric.unit.ucum(),
            series: lines.into_iter().map(view).filter(|series| series.points.iter().any(Option::is_some)).collect(),
        }
    }
}

impl Cell {
    fn view(self, metric: &MetricDef, end: u64) -> Option<PointView> {
        let mut values = BTreeMap::new();
        let seconds = self.ns as f64 / 1e9;
        let scale = metric.unit.scale();
        match metric.instrument {
            Instrument::Counter if self.increases == 0 => return None,
            Instrument::Counter => {
                values.insert("increase", self.increase);
                if self.gained_in_ns > 0 {
                    values.insert("per_s", self.increase / (self.gained_in_ns as f64 / 1e9));
                }
            }
            Instrument::Histogram => {
                values.insert("count", (self.hdr.count() + self.bounded_count) as f64);
                values.insert("sum", self.hdr.sum() as f64 * scale + self.bounded_sum);
                for (name, q) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p999", 0.999)] {
                    // Quantiles of bounds that a server chose would be guesses.
                    if let Some(value) = self.hdr.quantile(q).filter(|_| self.bounded_count == 0) {
                        values.insert(name, value as f64 * scale);
                    }
                }
                if let Some(max) = self.hdr.max().filter(|_| self.bounded_count == 0) {
                    values.insert("max", max as f64 * scale);
                }
            }
            Instrument::Gauge => {
                if self.ns == 0 {
                    return None;
                }
                values.insert("mean", self.weighted / self.ns as f64);
                values.insert("min", self.min);
                values.insert("max", self.max);
            }
        }
        Some(PointView { time: rfc3339(end), covered_s: seconds, values })
    }
}

#[cfg(test)]
mod tests;
