//! Batches over a window.

use perfwatch_model::SparseHdr;

use super::{Mean, Record, merged};
use crate::Fact;
use crate::facts::ServerFacts;

/// Batches executed over a window.
#[derive(Clone, Debug)]
pub struct BatchWindow {
    /// How many.
    pub dispatches: Fact<u64>,
    /// Their mean size; unknown when there was none.
    pub mean: Fact<f64>,
    /// Share formed while two or more requests stood ready; unknown when there was none.
    pub ready2: Fact<f64>,
    /// The largest batch the server is configured to form, where it said so.
    pub configured_max: Option<u32>,
    /// Their sizes.
    pub sizes: SparseHdr,
}

impl BatchWindow {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Self {
        // Known batches, not known time: a window needs reports, and batches are few or many in them.
        let reported = Mean::over(records, span_ns, 0.0, |facts| {
            let batches = facts.batches.known_or_reason()?;
            Ok((batches.dispatches as f64, 1.0, facts.batches.quality))
        });
        let known = || records.iter().filter_map(|record| record.facts.batches.value());
        let dispatches: u64 = known().map(|batches| batches.dispatches).sum();
        let sizes = merged(known().map(|batches| &batches.sizes));
        let per_batch = |count: fn(&ServerFacts) -> f64| {
            if dispatches == 0 && reported.value().is_some() {
                return Fact::missing("no batch was executed");
            }
            Mean::over(records, span_ns, 0.0, |facts| {
                let batches = facts.batches.known_or_reason()?;
                Ok((count(facts), batches.dispatches as f64, facts.batches.quality))
            })
        };
        Self {
            mean: per_batch(|facts| facts.batches.value().map_or(0.0, |batches| batches.sizes.sum() as f64)),
            ready2: per_batch(|facts| facts.batches.value().map_or(0.0, |batches| batches.ready2 as f64)),
            configured_max: known().filter_map(|batches| batches.max).next_back(),
            dispatches: reported.map(|_| dispatches),
            sizes,
        }
    }

    /// The largest batch there can be: as configured, else the largest seen.
    pub fn max(&self) -> Option<f64> {
        match self.configured_max {
            Some(max) => Some(f64::from(max)),
            None => self.sizes.max().map(|largest| largest as f64),
        }
    }
}
