//! What outlives an agent: errors of a GPU are told for a quarter of an hour, and starting a new agent takes a second.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::window::Incidents;

/// What has to be known of GPUs by whoever goes on after an engine, in the same boot of the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recollection(BTreeMap<String, GpuRecollection>);

/// Of one GPU, by its entity (`gpu:<UUID>`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct GpuRecollection {
    /// What it went through.
    #[serde(skip_serializing_if = "Incidents::is_empty")]
    pub(crate) incidents: Incidents,
    /// Whether a finding stood about it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) stands: bool,
    /// The driver's own totals.
    #[serde(flatten)]
    pub(crate) totals: DriverTotals,
}

/// Totals that the driver counts since the device was last initialised, as they were last told. What they gain while no agent
/// runs is told by the next; and where one is lower than the agent before told it, the device began anew, then or already in
/// that agent's life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct DriverTotals {
    /// Errors of the memory that were not corrected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) uncorrected: Option<u64>,
    /// Of all energy, in the metric's smallest unit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) energy: Option<u64>,
}

impl Recollection {
    /// True where there is nothing that anybody has to know.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds what is known of a GPU, if there is anything.
    pub(crate) fn add(&mut self, id: String, known: GpuRecollection) {
        if known != GpuRecollection::default() {
            self.0.insert(id, known);
        }
    }

    /// Forgets what is too old by this moment.
    pub(crate) fn forget(&mut self, now_ns: u64) {
        for known in self.0.values_mut() {
            known.incidents.forget(now_ns);
            known.stands &= !known.incidents.is_empty();
        }
        self.0.retain(|_, known| *known != GpuRecollection::default());
    }

    /// What is known of this GPU; it is taken out.
    pub(crate) fn take(&mut self, id: &str) -> Option<GpuRecollection> {
        self.0.remove(id)
    }

    /// The totals of each.
    pub(crate) fn totals(&self) -> BTreeMap<String, DriverTotals> {
        self.0.iter().map(|(id, known)| (id.clone(), known.totals)).collect()
    }
}
