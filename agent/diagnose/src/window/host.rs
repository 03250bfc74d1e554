//! The machine over the last seconds: everything that a rule about it may look at.

use std::sync::Arc;

use perfwatch_model::{EntityId, Evidence};

use super::{evidence, seconds};
use crate::Fact;
use crate::facts::{DriverFacts, HostFacts};

/// The machine in one tick, as far as it is judged.
#[derive(Clone, Debug)]
pub struct HostRecord {
    /// Which machine.
    pub entity: EntityId,
    /// Length of the tick in nanoseconds.
    pub dt_ns: u64,
    /// The driver of its GPUs.
    pub driver: DriverFacts,
}

impl HostRecord {
    /// What is kept of a tick of this length; `None` where the machine was not sampled.
    pub fn of(facts: &HostFacts, dt_ns: u64) -> Option<Self> {
        Some(Self { entity: facts.entity?, dt_ns, driver: facts.driver.clone() })
    }
}

/// The machine over the last seconds.
#[derive(Clone, Debug)]
pub struct HostWindow {
    /// Which machine.
    pub entity: EntityId,
    /// Nanoseconds covered.
    pub span_ns: u64,
    /// True when the history is as long as a window must be for a rule to judge it.
    pub full: bool,
    /// The driver of its GPUs at the end.
    pub driver: DriverFacts,
}

impl HostWindow {
    /// The window that consists of these records, oldest first. `None` without a record.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Arc<HostRecord>>, full: bool) -> Option<Self> {
        let records: Vec<_> = records.into_iter().collect();
        let last = records.last()?;
        let span_ns = records.iter().map(|record| record.dt_ns).sum();
        Some(Self { entity: last.entity, span_ns, full, driver: last.driver.clone() })
    }

    /// A fact of this window as evidence; `None` when it is not known.
    pub fn evidence(
        &self,
        name: &'static str,
        fact: &Fact<f64>,
        threshold: Option<f64>,
        unit: &'static str,
    ) -> Option<Evidence> {
        evidence(seconds(self.span_ns), name, fact, threshold, unit)
    }
}
