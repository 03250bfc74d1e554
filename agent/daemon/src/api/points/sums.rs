//! Adds up what falls into each part of the time, of ticks and of minutes.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use perfwatch_model::{Histogram, Instrument, Number, SeriesId, SeriesTable, SparseHdr, Stamp, Tick};
use perfwatch_store::ArchivedMinute;

use super::super::answer::Problem;
use super::Range;
use crate::passing::Passing;

/// Parts of all series together.
const MAX_CELLS: usize = 200_000;
/// The same where each holds a distribution, of some hundred buckets.
const MAX_DISTRIBUTIONS: usize = 20_000;

/// One part of one series.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) ns: u64,
    pub(super) increase: f64,
    pub(super) increases: u64,
    /// In how much time the increase came about: more than was measured where a counter of the kernel went on alone.
    pub(super) gained_in_ns: u64,
    pub(super) weighted: f64,
    pub(super) min: f64,
    pub(super) max: f64,
    pub(super) hdr: SparseHdr,
    pub(super) bounded_count: u64,
    pub(super) bounded_sum: f64,
}

/// A series: its entity, and its attributes as a JSON object.
pub(super) type Key = (String, String);

#[derive(Debug, Default)]
pub(super) struct Line {
    /// The newest value, and when that was by [`Passing`].
    last: Option<(Number, u64)>,
    pub(super) cells: BTreeMap<u64, Cell>,
}

#[derive(Debug)]
pub(super) struct Sums {
    pub(super) range: Range,
    pub(super) step_ns: f64,
    pub(super) covered_ns: u64,
    cells: usize,
    /// The end of the newest minute, and the number of the tick after it.
    minute: Option<(Stamp, u64)>,
    passing: Passing,
    pub(super) lines: BTreeMap<Key, Line>,
}

impl Sums {
    pub(super) fn new(range: Range) -> Self {
        let step_ns = (range.to - range.from) as f64 / range.points as f64;
        Self {
            range,
            step_ns,
            covered_ns: 0,
            cells: 0,
            minute: None,
            passing: Passing::default(),
            lines: BTreeMap::new(),
        }
    }

    /// The part to which belongs what ended then.
    fn part(&self, wall_ns: u64) -> Option<u64> {
        (wall_ns > self.range.from && wall_ns <= self.range.to).then(|| {
            let at = ((wall_ns - self.range.from) as f64 / self.step_ns).ceil() as u64;
            at.saturating_sub(1).min(self.range.points - 1)
        })
    }

    /// Adds a tick. What its counters gained is the difference to the tick before, but for those in `gains`.
    pub(super) fn add(
        &mut self,
        tick: &Tick,
        gains: &[(SeriesId, Number)],
        table: &SeriesTable,
    ) -> Result<(), Problem> {
        let Some(part) = self.part(tick.end.wall_ns) else {
            self.count_from(tick, table);
            return Ok(());
        };
        self.covered_ns += tick.dt_ns;
        let read_at = self.passing.to(tick);
        for (id, number) in &tick.values {
            let Some(key) = self.key(*id, table) else { continue };
            let stated = gains.iter().find_map(|(of, gained)| (of == id).then_some(*gained));
            self.value(key, part, (*number, read_at), stated, tick)?;
        }
        for (id, gained) in &tick.histograms {
            let Some(key) = self.key(*id, table) else { continue };
            let cell = self.cell(key, part)?;
            cell.ns += tick.dt_ns;
            cell.gain(gained);
        }
        Ok(())
    }

    /// Takes a tick as that from which the counters of the next one are counted.
    pub(super) fn count_from(&mut self, tick: &Tick, table: &SeriesTable) {
        let read_at = self.passing.to(tick);
        for (id, number) in &tick.values {
            if let Some(key) = self.key(*id, table) {
                self.lines.entry(key).or_default().last = Some((*number, read_at));
            }
        }
    }

    /// Adds a minute, which like a tick belongs to the part in which it ends.
    pub(super) fn add_minute(&mut self, minute: &ArchivedMinute, table: &SeriesTable) -> Result<(), Problem> {
        let before = self.minute.replace((minute.end, minute.last_seq.saturating_add(1)));
        let before = before.filter(|(_, next)| *next == minute.first_seq);
        let gained_in_ns = before.map_or(minute.dt_ns, |(before, _)| minute.end.passed_since(before, minute.dt_ns));
        let Some(part) = self.part(minute.end.wall_ns) else { return Ok(()) };
        self.covered_ns += minute.dt_ns;
        for (id, gained) in &minute.counters {
            let Some(key) = self.key(*id, table) else { continue };
            let gained = self.range.metric.unit.outside(*gained);
            self.cell(key, part)?.count(gained, minute.dt_ns, gained_in_ns);
        }
        for (id, spread) in &minute.gauges {
            let Some(key) = self.key(*id, table) else { continue };
            // A gauge that could not be read in some of the seconds stands for the others.
            let ns = minute.dt_ns / minute.ticks.max(1) * u64::from(spread.count);
            self.cell(key, part)?.stand((spread.mean(), spread.least, spread.greatest), ns);
        }
        for (id, gained) in &minute.histograms {
            let Some(key) = self.key(*id, table) else { continue };
            let cell = self.cell(key, part)?;
            cell.ns += minute.dt_ns;
            for gained in gained {
                cell.gain(gained);
            }
        }
        Ok(())
    }

    fn key(&self, id: SeriesId, table: &SeriesTable) -> Option<Key> {
        let series = table.series_of(id)?;
        if series.metric.name != self.range.metric.name {
            return None;
        }
        let entity = table.entity_of(series.entity)?.to_string();
        if self.range.entity.as_ref().is_some_and(|asked| *asked != entity) {
            return None;
        }
        let attributes: serde_json::Map<_, _> = series
            .attrs
            .iter()
            .map(|attr| (attr.key.to_owned(), serde_json::Value::from(attr.value.to_string())))
            .collect();
        Some((entity, serde_json::Value::Object(attributes).to_string()))
    }

    fn value(
        &mut self,
        key: Key,
        part: u64,
        (number, read_at): (Number, u64),
        stated: Option<Number>,
        tick: &Tick,
    ) -> Result<(), Problem> {
        let unit = self.range.metric.unit;
        let before = self.lines.entry(key.clone()).or_default().last.replace((number, read_at));
        if self.range.metric.instrument != Instrument::Counter {
            let value = unit.outside(number);
            self.cell(key, part)?.stand((value, value, value), tick.dt_ns.max(1));
            return Ok(());
        }
        let gained = stated.map(|gained| unit.outside(gained)).or_else(|| {
            Some(match (before?.0, number) {
                // Exact where both are integers, however large.
                (Number::Int(before), Number::Int(now)) => {
                    unit.outside(Number::Int(now.checked_sub(before).unwrap_or(now)))
                }
                (before, now) => {
                    let (before, now) = (unit.outside(before), unit.outside(now));
                    if now >= before { now - before } else { now }
                }
            })
        });
        let gained_in_ns = before.map_or(tick.dt_ns, |(_, before)| read_at - before);
        let cell = self.cell(key, part)?;
        if let Some(gained) = gained {
            cell.count(gained, tick.dt_ns, gained_in_ns);
        }
        Ok(())
    }

    fn cell(&mut self, key: Key, part: u64) -> Result<&mut Cell, Problem> {
        let line = self.lines.entry(key).or_default();
        if !line.cells.contains_key(&part) {
            self.cells += 1;
            let most = match self.range.metric.instrument {
                Instrument::Histogram => MAX_DISTRIBUTIONS,
                _ => MAX_CELLS,
            };
            if self.cells > most {
                return Err(Problem::new(StatusCode::BAD_REQUEST, "that is too much for one answer")
                    .hint("add entity=kind:id, or ask for fewer points"));
            }
        }
        Ok(line.cells.entry(part).or_default())
    }
}

impl Cell {
    /// A counter gained this.
    fn count(&mut self, gained: f64, ns: u64, gained_in_ns: u64) {
        (self.ns, self.increase, self.increases) = (self.ns + ns, self.increase + gained, self.increases + 1);
        self.gained_in_ns += gained_in_ns;
    }

    /// A gauge stood at this mean, between these ends.
    fn stand(&mut self, (mean, least, greatest): (f64, f64, f64), ns: u64) {
        let first = self.ns == 0;
        self.min = if first { least } else { self.min.min(least) };
        self.max = if first { greatest } else { self.max.max(greatest) };
        self.weighted += mean * ns as f64;
        self.ns += ns;
    }

    /// A distribution gained this.
    fn gain(&mut self, gained: &Histogram) {
        match gained {
            Histogram::Hdr(gained) => self.hdr.add(gained),
            Histogram::Bounded(gained) => {
                self.bounded_count += gained.counts.iter().sum::<u64>();
                self.bounded_sum += gained.sum;
            }
        }
    }
}
