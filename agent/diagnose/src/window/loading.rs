//! Requests that were loading data over a window.

use perfwatch_model::Quality;

use super::{Record, covers};
use crate::Fact;

/// How close to its maximum the number of loading requests must stay to call the loaders saturated. A loader that takes
/// the next request at once is idle only for the moment between two, far below a tenth of the time.
pub const FLAT: f64 = 0.9;

/// How many requests were loading data at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loaders {
    /// On average.
    pub mean: f64,
    /// At most, as the mean of a slot of 100 ms. Where requests wait for loaders, this is how many there are.
    pub max: f64,
}

impl Loaders {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Fact<Self> {
        let (mut sum, mut count, mut max, mut known_ns, mut quality) = (0.0, 0_u32, 0.0_f64, 0, Quality::Sdk);
        for facts in records.iter().map(|record| &record.facts) {
            let Some(slots) = facts.slots.value() else { continue };
            for loading in &slots.loading {
                sum += loading;
                count += 1;
                max = max.max(*loading);
            }
            known_ns += facts.dt_ns;
            quality = quality.worst(facts.slots.quality);
        }
        if count == 0 || !covers(known_ns, span_ns) {
            return Fact::missing("the server reported too little of this window");
        }
        Fact::known(Self { mean: sum / f64::from(count), max }, quality)
    }

    /// Share of its maximum at which the number of loading requests stood on average; 0 when none was loading.
    pub fn flatness(&self) -> f64 {
        if self.max > 0.0 { self.mean / self.max } else { 0.0 }
    }

    /// True when no loader ever had nothing to do.
    pub fn are_saturated(&self) -> bool {
        // Less than one at a time means that the only loader had pauses.
        self.max >= FLAT && self.flatness() >= FLAT
    }
}
