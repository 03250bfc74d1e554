//! What a minute's ticks amount to: counters by what they gained, gauges by their spread, histograms merged exactly.

use std::collections::BTreeMap;

use perfwatch_model::{Bounded, Histogram, Instrument, Number};

use crate::codec::StoredTick;
use crate::totals::JournalId;

/// The values of a gauge.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// How many.
    pub count: u32,
    /// Their sum, in the metric's unit.
    pub sum: f64,
    /// The least.
    pub least: f64,
    /// The greatest.
    pub greatest: f64,
}

impl Spread {
    /// Their mean.
    pub fn mean(&self) -> f64 {
        self.sum / f64::from(self.count)
    }
}

/// Ticks as one.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Minute {
    /// What each counter gained: an integer in the metric's inside unit, else a number in its unit.
    pub counters: BTreeMap<JournalId, Number>,
    /// The spread of each gauge.
    pub gauges: BTreeMap<JournalId, Spread>,
    /// What each histogram gained; several where a server's bounds changed.
    pub histograms: BTreeMap<JournalId, Vec<Histogram>>,
}

impl Minute {
    /// All its series.
    pub(crate) fn series(&self) -> impl Iterator<Item = JournalId> + '_ {
        self.counters.keys().chain(self.gauges.keys()).chain(self.histograms.keys()).copied()
    }
}

/// Adds up ticks that follow each other.
#[derive(Debug, Default)]
pub(crate) struct Folding {
    /// Raw values of the tick before, by series.
    before: BTreeMap<JournalId, Number>,
    minute: Minute,
}

impl Folding {
    /// Begins after a tick, which is not part of it.
    pub(crate) fn after(before: Option<&StoredTick>) -> Self {
        Self { before: before.map_or_else(BTreeMap::new, raw), minute: Minute::default() }
    }

    /// Adds the next tick. Series that `kind` does not know are left out: nothing names them.
    pub(crate) fn add(&mut self, tick: &StoredTick, kind: impl Fn(JournalId) -> Option<(Instrument, f64)>) {
        for (series, number) in &tick.values {
            match kind(*series) {
                Some((Instrument::Counter, scale)) => self.count(tick, *series, *number, scale),
                Some((Instrument::Gauge, scale)) => self.spread(*series, outside(*number, scale)),
                Some((Instrument::Histogram, _)) | None => {}
            }
        }
        for (series, gained) in &tick.histograms {
            if kind(*series).is_some() {
                merge(self.minute.histograms.entry(*series).or_default(), gained);
            }
        }
        self.before = raw(tick);
    }

    fn count(&mut self, tick: &StoredTick, series: JournalId, now: Number, scale: f64) {
        let stated = tick.gains.binary_search_by_key(&series, |(id, _)| *id).ok().map(|at| tick.gains[at].1);
        let gained = stated.or_else(|| difference(*self.before.get(&series)?, now));
        let Some(gained) = gained else { return };
        let total = self.minute.counters.entry(series).or_insert(Number::Int(0));
        *total = match (*total, gained) {
            (Number::Int(total), Number::Int(gained)) => Number::Int(total.saturating_add(gained)),
            // A counter that turns from integers to fractions within the minute.
            (total, gained) => Number::Float(outside(total, scale) + outside(gained, scale)),
        };
    }

    fn spread(&mut self, series: JournalId, value: f64) {
        let first = Spread { count: 0, sum: 0.0, least: f64::INFINITY, greatest: f64::NEG_INFINITY };
        let spread = self.minute.gauges.entry(series).or_insert(first);
        spread.count += 1;
        spread.sum += value;
        spread.least = spread.least.min(value);
        spread.greatest = spread.greatest.max(value);
    }

    /// What they amount to so far.
    pub(crate) fn minute(&self) -> &Minute {
        &self.minute
    }
}

/// In the metric's unit.
fn outside(number: Number, scale: f64) -> f64 {
    match number {
        Number::Int(value) => value as f64 * scale,
        Number::Float(value) => value,
    }
}

fn raw(tick: &StoredTick) -> BTreeMap<JournalId, Number> {
    tick.values.iter().copied().collect()
}

/// What a counter gained from one tick to the next; one that went back began anew at 0.
pub(crate) fn difference(before: Number, now: Number) -> Option<Number> {
    match (before, now) {
        (Number::Int(before), Number::Int(now)) => Some(Number::Int(now.checked_sub(before).unwrap_or(now))),
        (Number::Float(before), Number::Float(now)) => {
            Some(Number::Float(if now >= before { now - before } else { now }))
        }
        _ => None,
    }
}

/// Adds a histogram to the one of its kind: bounds that differ stay apart.
fn merge(all: &mut Vec<Histogram>, gained: &Histogram) {
    for known in &mut *all {
        match (known, gained) {
            (Histogram::Hdr(known), Histogram::Hdr(gained)) => return known.add(gained),
            (Histogram::Bounded(known), Histogram::Bounded(gained)) if known.bounds == gained.bounds => {
                return add_bounded(known, gained);
            }
            _ => {}
        }
    }
    all.push(gained.clone());
}

fn add_bounded(known: &mut Bounded, gained: &Bounded) {
    known.sum += gained.sum;
    for (known, gained) in known.counts.iter_mut().zip(&gained.counts) {
        *known = known.saturating_add(*gained);
    }
}
