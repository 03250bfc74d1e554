//! Adds ticks up as the agent's journal does, for tests.

use std::collections::HashMap;

use perfwatch_model::{Histogram, Instrument, MetricDef, Number, SeriesId, SeriesTable, SparseHdr, Tick};

use crate::{StreamId, Total, Totals};

#[derive(Clone, Debug)]
enum Sum {
    Int { total: u128, last: Option<u64> },
    Float { total: f64, last: Option<f64> },
    Hdr(SparseHdr),
}

/// Totals of everything that was added. Counters count from 0 with their first value if `from_zero`, else from it.
#[derive(Clone, Debug, Default)]
pub struct Adder {
    sums: Vec<Option<(&'static MetricDef, Sum)>>,
    names: HashMap<String, StreamId>,
    /// The same for series of this agent that were added before, so that a benchmark does not measure this test's aid.
    known: HashMap<SeriesId, StreamId>,
    /// Whether counters had begun at 0 just before their first value.
    pub from_zero: bool,
}

fn name(series: SeriesId, table: &SeriesTable) -> Option<String> {
    let series = table.series_of(series)?;
    let entity = table.entity_of(series.entity)?;
    Some(format!("{}|{}|{:?}", series.metric.name, entity, series.attrs))
}

impl Adder {
    /// Nothing is added up yet, and counters begin at 0.
    pub fn new() -> Self {
        Self { from_zero: true, ..Self::default() }
    }

    /// Adds a tick.
    pub fn add(&mut self, tick: &Tick, table: &SeriesTable) {
        for (series, number) in &tick.values {
            let from_zero = self.from_zero;
            let Some(sum) = self.sum(*series, table) else { continue };
            match (sum, number) {
                (Sum::Int { total, last }, Number::Int(now)) => {
                    let before = last.unwrap_or(if from_zero { 0 } else { *now });
                    *total += u128::from(now.checked_sub(before).unwrap_or(*now));
                    *last = Some(*now);
                }
                (Sum::Float { total, last }, Number::Float(now)) => {
                    let before = last.unwrap_or(if from_zero { 0.0 } else { *now });
                    *total += if *now >= before { now - before } else { *now };
                    *last = Some(*now);
                }
                (sum, Number::Float(now)) => *sum = Sum::Float { total: *now, last: Some(*now) },
                _ => {}
            }
        }
        for (series, gained) in &tick.histograms {
            if let (Some(Sum::Hdr(all)), Histogram::Hdr(gained)) = (self.sum(*series, table), gained) {
                all.add(gained);
            }
        }
    }

    fn sum(&mut self, series: SeriesId, table: &SeriesTable) -> Option<&mut Sum> {
        let metric = table.series_of(series)?.metric;
        let fresh = match metric.instrument {
            Instrument::Gauge => return None,
            Instrument::Counter => Sum::Int { total: 0, last: None },
            Instrument::Histogram => Sum::Hdr(SparseHdr::new()),
        };
        let next = self.sums.len() as StreamId;
        let number = match self.known.get(&series) {
            Some(number) => *number,
            None => *self.names.entry(name(series, table)?).or_insert(next),
        };
        self.known.insert(series, number);
        if number == next {
            self.sums.push(Some((metric, fresh)));
        }
        self.sums[number as usize].as_mut().map(|(_, sum)| sum)
    }

    /// The agent ends and another begins: what it adds up itself begins at 0 again, and what was added up stays.
    pub fn restart(&mut self) {
        self.known.clear();
        for (_, sum) in self.sums.iter_mut().flatten() {
            match sum {
                Sum::Int { last, .. } => *last = None,
                Sum::Float { last, .. } => *last = None,
                Sum::Hdr(_) => {}
            }
        }
    }

    /// Forgets a series, as when there are too many.
    pub fn forget(&mut self, series: SeriesId, table: &SeriesTable) {
        if let Some(number) = name(series, table).and_then(|name| self.names.remove(&name)) {
            self.sums[number as usize] = None;
            self.known.remove(&series);
        }
    }
}

impl Totals for Adder {
    fn number(&self, series: SeriesId, table: &SeriesTable) -> Option<StreamId> {
        self.known.get(&series).or_else(|| self.names.get(&name(series, table)?)).copied()
    }

    fn total(&self, number: StreamId) -> Option<Total<'_>> {
        let (_, sum) = self.sums.get(number as usize)?.as_ref()?;
        Some(match sum {
            Sum::Int { total, .. } => Total::Int(*total),
            Sum::Float { total, .. } => Total::Float(*total),
            Sum::Hdr(all) => Total::Hdr(all),
        })
    }

    fn metric(&self, number: StreamId) -> Option<&'static MetricDef> {
        self.sums.get(number as usize)?.as_ref().map(|(metric, _)| *metric)
    }
}
