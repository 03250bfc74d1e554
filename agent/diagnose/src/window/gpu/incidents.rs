//! What happened to a GPU and was over in a moment: XID errors, and errors of its memory that were not corrected.

use std::collections::{BTreeMap, VecDeque};

use serde::{Deserialize, Serialize};

use crate::facts::GpuFacts;
use crate::rules::says_nothing;

/// Incidents are told for so long after the last of their kind, in nanoseconds. Nothing shows them afterwards, and who
/// is to be woken by one is told only of what stands: a warning alerts after 10 minutes
/// (`dashboards/prometheus/rules.yml`).
pub const REMEMBERED_NS: u64 = 15 * MINUTE_NS;
/// Incidents of the same minute are remembered as one, with their number.
const MINUTE_NS: u64 = 60_000_000_000;
/// Kinds of XID errors that are remembered at once. NVIDIA lists some 170, of which a GPU that fails reports a handful.
const CODES: usize = 32;

/// What a GPU went through in the last quarter of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents {
    /// By code; those that say nothing of the device's health are left out.
    xids: BTreeMap<i64, Remembered>,
    uncorrected: Remembered,
}

/// When one kind of incident happened: minutes, each as its last moment and how many there were; oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered(VecDeque<(u64, u64)>);

impl Incidents {
    /// Takes in what a tick says that ended at this moment, and forgets what is too old by then, or was before the device
    /// began anew between two agents.
    pub fn add(&mut self, facts: &GpuFacts, end_ns: u64) {
        if facts.began_anew {
            *self = Self::default();
        }
        self.forget(end_ns);
        self.uncorrected.add(facts.uncorrected.get().unwrap_or(0), end_ns);
        for (code, count) in facts.xids.iter().filter(|(code, _)| !says_nothing(*code)) {
            if self.xids.len() < CODES || self.xids.contains_key(code) {
                self.xids.entry(*code).or_default().add(*count, end_ns);
            }
        }
    }

    /// Forgets what is too old by this moment.
    pub(crate) fn forget(&mut self, now_ns: u64) {
        self.uncorrected.forget(now_ns);
        self.xids.values_mut().for_each(|remembered| remembered.forget(now_ns));
        self.xids.retain(|_, remembered| !remembered.0.is_empty());
    }

    /// Whether there is nothing to remember.
    pub(crate) fn is_empty(&self) -> bool {
        self.xids.is_empty() && self.uncorrected.0.is_empty()
    }

    /// XID errors that are remembered, by code.
    pub fn xids(&self) -> BTreeMap<i64, u64> {
        self.xids.iter().map(|(code, remembered)| (*code, remembered.count())).collect()
    }

    /// Errors of the memory that were not corrected, as far as they are remembered.
    pub fn uncorrected(&self) -> u64 {
        self.uncorrected.count()
    }
}

impl Remembered {
    fn add(&mut self, count: u64, at_ns: u64) {
        if count == 0 {
            return;
        }
        match self.0.back_mut() {
            Some((last_ns, sum)) if *last_ns / MINUTE_NS == at_ns / MINUTE_NS => {
                *last_ns = at_ns;
                *sum = sum.saturating_add(count);
            }
            _ => self.0.push_back((at_ns, count)),
        }
    }

    /// What is later than now is of another boot of the machine.
    fn forget(&mut self, now_ns: u64) {
        self.0.retain(|(at_ns, _)| now_ns.checked_sub(*at_ns).is_some_and(|age_ns| age_ns < REMEMBERED_NS));
    }

    fn count(&self) -> u64 {
        self.0.iter().fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }
}
