//! When what happens: ticks on whole seconds, probes in their cadence, all inside a budget.

mod budget;
mod probes;
mod schedule;

pub(crate) use probes::ProbeSet;
pub(crate) use schedule::{CLOSE_AFTER_NS, Due, Schedule, TICK_NS};
