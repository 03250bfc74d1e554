//! A counter among the fields, as it is told: by the driver, or by GPM in its place.

use perfwatch_model::{MetricDef, Reading, SeriesId};

use super::counter::{Bound, Counter};
use super::fields::{self, Field};
use super::gpm::Unit;
use super::link_reads::LinkRead;
use super::readings::{DeviceReadings, NOT_READ};
use super::traffic::RATES;

/// A counter among the fields.
pub(super) struct Counted {
    pub(super) field: Field,
    pub(super) metric: &'static MetricDef,
    /// What one of the driver's units is in the metric's.
    scale: u64,
    pub(super) series: SeriesId,
    pub(super) counter: Counter,
    /// In the metric's unit, since the last read of what is not read each time.
    pub(super) total: Reading<u64>,
    /// Bytes that GPM told of, where the driver has no such counter.
    pub(super) moved: Option<u64>,
}

impl Counted {
    pub(super) fn new(field: Field, metric: &'static MetricDef, scale: u64, series: SeriesId) -> Self {
        let (counter, total) = (Counter::default(), Reading::Unavailable(NOT_READ));
        Self { field, metric, scale, series, counter, total, moved: None }
    }

    /// Whether it is among what is read seldom.
    pub(super) fn is_slow(&self) -> bool {
        fields::SLOW.contains(&self.field)
    }

    /// Takes in what a tick read.
    pub(super) fn count(&mut self, readings: &DeviceReadings) {
        self.total = match (&readings.fields[self.field as usize], self.moved) {
            (_, Some(bytes)) => told_by_gpm(bytes, readings),
            // Read by read, as they were read.
            (Reading::Value(_), None) if self.field.is_of_link() && readings.link_reads.are_by_slot => return,
            (Reading::Value(raw), None) => {
                let bound = self.field.bound(readings.link.rate());
                // What a link can have moved goes by when it was read, not by when that was asked for.
                let at_ns = if matches!(bound, Bound::Link(_)) { readings.fields_ns } else { readings.at_ns };
                let total = self.counter.total(*raw, at_ns, bound, self.metric.name);
                if self.counter.is_overrun()
                    && let Some(bytes) = by_gpm(self.field, readings)
                {
                    // GPM goes on where it ended.
                    let bytes = self.counter.counted().saturating_mul(self.scale).saturating_add(bytes);
                    self.moved = Some(bytes);
                    self.total = told_by_gpm(bytes, readings);
                    return;
                }
                total.map(|total| total.saturating_mul(self.scale))
            }
            (Reading::Unavailable(reason), None) => Reading::Unavailable(reason.clone()),
        };
    }

    /// Counts one read of a link that moves `rate` in a second, and returns what went over it since the read before, if that is
    /// known. Once it was full nobody knows how often, nothing is told of this tick.
    pub(super) fn count_read(
        &mut self,
        raw: u64,
        read: &LinkRead,
        (since_ns, rate): (u64, f64),
        was_lost: &mut bool,
    ) -> Option<u64> {
        // What is believed now is of the time before as well, where that was doubted.
        let (before, was_doubted) = (self.counter.counted(), self.counter.is_doubted());
        let total = self.counter.total(raw, read.told_ns, Bound::ShortLink { rate, since_ns }, self.metric.name);
        let is_known = total.as_value().is_some() && !was_doubted;
        if !*was_lost {
            self.total = total;
        }
        *was_lost |= self.counter.is_overrun();
        is_known.then(|| self.counter.counted() - before)
    }
}

/// What GPM says that went over a link since the last sample.
fn by_gpm(field: Field, readings: &DeviceReadings) -> Option<u64> {
    let at = RATES.iter().position(|(told, _)| *told == field)?;
    readings.moved[at]
}

/// A total that stands still because GPM tells nothing any more is none.
fn told_by_gpm(bytes: u64, readings: &DeviceReadings) -> Reading<u64> {
    match &readings.units[Unit::Graphics as usize] {
        Reading::Value(_) => Reading::Value(bytes),
        Reading::Unavailable(reason) => Reading::Unavailable(reason.clone()),
    }
}
