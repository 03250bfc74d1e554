//! Requests that were being prepared over a window: preprocessed, and waiting for data.

use perfwatch_model::Quality;

use super::{Record, covers};
use crate::Fact;

/// How close to its maximum the number of requests at the loaders must stay to call them saturated. A loader that takes
/// the next request at once is idle only for the moment between two, far below a tenth of the time.
pub const FLAT: f64 = 0.9;
/// Share of the loaders' time that must go into loading, where they preprocess as well.
const MOSTLY_LOADING: f64 = 0.5;

/// How many requests loaders had at a time.
///
/// A loader may be a thread that only waits for data, or one that preprocesses the request as well: then the number of
/// requests in `data_load` varies while the number in both stages stands still. Where requests wait for loaders, the
/// maximum is how many loaders there are.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Loaders {
    /// Requests in `data_load`, on average and at most (as the mean of a slot of 100 ms).
    pub loading: Occupancy,
    /// Requests in `preprocess` or `data_load`, likewise.
    pub preparing: Occupancy,
}

/// A number of requests over time.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Occupancy {
    /// On average.
    pub mean: f64,
    /// At most.
    pub max: f64,
}

impl Occupancy {
    /// Share of the maximum at which the number stood on average; 0 when it was always 0.
    pub fn flatness(&self) -> f64 {
        if self.max > 0.0 { self.mean / self.max } else { 0.0 }
    }
}

impl Loaders {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Fact<Self> {
        let mut loaders = Self::default();
        let (mut count, mut known_ns, mut quality) = (0_u32, 0, Quality::Sdk);
        for facts in records.iter().map(|record| &record.facts) {
            let Some(slots) = facts.slots.value() else { continue };
            for slot in &slots.preparing {
                loaders.loading.add(slot.data_load);
                loaders.preparing.add(slot.preprocess + slot.data_load);
                count += 1;
            }
            known_ns += facts.dt_ns;
            quality = quality.worst(facts.slots.quality);
        }
        if count == 0 || !covers(known_ns, span_ns) {
            return Fact::missing("the server reported too little of this window");
        }
        loaders.loading.mean /= f64::from(count);
        loaders.preparing.mean /= f64::from(count);
        Fact::known(loaders, quality)
    }

    /// The occupancy that tells how many loaders there are and how busy: of both stages where the same threads do both.
    pub fn busiest(&self) -> Occupancy {
        let both = self.loading.mean >= self.preparing.mean * MOSTLY_LOADING
            && self.preparing.flatness() > self.loading.flatness();
        if both { self.preparing } else { self.loading }
    }

    /// True when no loader ever had nothing to do.
    pub fn are_saturated(&self) -> bool {
        let busiest = self.busiest();
        // Less than one at a time means that the only loader had pauses.
        busiest.max >= FLAT && busiest.flatness() >= FLAT
    }
}

impl Occupancy {
    /// Adds a slot; `mean` is a sum until all are in.
    fn add(&mut self, requests: f64) {
        self.mean += requests;
        self.max = self.max.max(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn occupancy(mean: f64, max: f64) -> Occupancy {
        Occupancy { mean, max }
    }

    #[test]
    fn loaders_that_always_have_a_request_are_saturated_whether_or_not_they_preprocess() {
        let only_load = Loaders { loading: occupancy(1.98, 2.0), preparing: occupancy(2.4, 3.5) };
        assert!(only_load.are_saturated());
        let do_both = Loaders { loading: occupancy(1.5, 1.9), preparing: occupancy(1.99, 2.0) };
        assert!(do_both.are_saturated());
        assert!((do_both.busiest().max - 2.0).abs() < f64::EPSILON, "two threads");
    }

    #[test]
    fn threads_that_mostly_preprocess_are_no_loaders() {
        assert!(!Loaders { loading: occupancy(0.3, 0.9), preparing: occupancy(2.0, 2.0) }.are_saturated());
    }

    #[test]
    fn loaders_with_pauses_are_not_saturated() {
        assert!(!Loaders { loading: occupancy(1.6, 2.0), preparing: occupancy(1.7, 2.0) }.are_saturated());
        assert!(!Loaders { loading: occupancy(0.6, 0.6), preparing: occupancy(0.6, 0.6) }.are_saturated());
        assert!(!Loaders::default().are_saturated());
    }
}
