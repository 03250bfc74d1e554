//! The message inside a minute's blob. Tags are for ever.

use std::io;

use super::rows::HistogramRow;
use crate::minute::{Minute, Spread};
use perfwatch_model::Number;
use prost::Message as _;

/// What a minute's ticks amount to, in columns.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct MinuteRow {
    /// Counters: what they gained, in the inside unit.
    #[prost(uint32, repeated, tag = "1")]
    int_series: Vec<u32>,
    #[prost(uint64, repeated, tag = "2")]
    ints: Vec<u64>,
    /// Counters that were not always integers: what they gained, in their unit.
    #[prost(uint32, repeated, tag = "3")]
    float_series: Vec<u32>,
    #[prost(double, repeated, tag = "4")]
    floats: Vec<f64>,
    /// Gauges: how many values, their sum, the least and the greatest.
    #[prost(uint32, repeated, tag = "5")]
    gauge_series: Vec<u32>,
    #[prost(uint32, repeated, tag = "6")]
    gauge_counts: Vec<u32>,
    #[prost(double, repeated, tag = "7")]
    gauge_sums: Vec<f64>,
    #[prost(double, repeated, tag = "8")]
    gauge_least: Vec<f64>,
    #[prost(double, repeated, tag = "9")]
    gauge_greatest: Vec<f64>,
    /// Histograms, merged.
    #[prost(message, repeated, tag = "10")]
    histograms: Vec<HistogramRow>,
}

impl MinuteRow {
    pub(super) fn of(minute: &Minute) -> Self {
        let mut row = Self::default();
        for (series, gained) in &minute.counters {
            match gained {
                Number::Int(gained) => {
                    row.int_series.push(*series);
                    row.ints.push(*gained);
                }
                Number::Float(gained) => {
                    row.float_series.push(*series);
                    row.floats.push(*gained);
                }
            }
        }
        for (series, spread) in &minute.gauges {
            row.gauge_series.push(*series);
            row.gauge_counts.push(spread.count);
            row.gauge_sums.push(spread.sum);
            row.gauge_least.push(spread.least);
            row.gauge_greatest.push(spread.greatest);
        }
        let histograms = minute.histograms.iter();
        row.histograms =
            histograms.flat_map(|(series, all)| all.iter().map(|gained| HistogramRow::of(*series, gained))).collect();
        row
    }

    fn minute(self) -> Option<io::Result<Minute>> {
        let lengths = [
            (self.int_series.len(), self.ints.len()),
            (self.float_series.len(), self.floats.len()),
            (self.gauge_series.len(), self.gauge_counts.len()),
            (self.gauge_series.len(), self.gauge_sums.len()),
            (self.gauge_series.len(), self.gauge_least.len()),
            (self.gauge_series.len(), self.gauge_greatest.len()),
        ];
        if lengths.iter().any(|(series, values)| series != values) {
            return None;
        }
        let ints = self.int_series.into_iter().zip(self.ints.into_iter().map(Number::Int));
        let floats = self.float_series.into_iter().zip(self.floats.into_iter().map(Number::Float));
        let mut minute = Minute { counters: ints.chain(floats).collect(), ..Minute::default() };
        for (at, series) in self.gauge_series.iter().enumerate() {
            let spread = Spread {
                count: self.gauge_counts[at],
                sum: self.gauge_sums[at],
                least: self.gauge_least[at],
                greatest: self.gauge_greatest[at],
            };
            minute.gauges.insert(*series, spread);
        }
        for row in self.histograms {
            match row.histogram() {
                Ok((series, gained)) => minute.histograms.entry(series).or_default().push(gained),
                Err(error) => return Some(Err(error)),
            }
        }
        Some(Ok(minute))
    }
}

pub(super) fn decode(plain: &[u8]) -> io::Result<Minute> {
    let row = MinuteRow::decode(plain).map_err(|error| super::invalid(&error.to_string()))?;
    row.minute().unwrap_or_else(|| Err(super::invalid("a minute has more series than values")))
}
