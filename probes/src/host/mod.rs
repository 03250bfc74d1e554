//! The machine: CPUs, memory, pressure, disks, network, control groups, processes, and what model servers get of it.
//!
//! To add a probe, copy the nearest file, and add its `mod` line and its line in [`PROBES`].

mod cgroup;
mod cpu;
mod disk;
mod frequency;
mod load;
mod memory;
mod network;
mod numa;
mod paging;
mod pressure;
mod process;
mod run_queue;
mod served;

use perfwatch_model::{Reason, SeriesTable};

use crate::{Cadence, Probe, ProbeContext, ProbeKind};

pub use served::NO_QUOTA;

/// Every host probe.
pub const PROBES: &[&dyn ProbeKind] = &[
    &cgroup::Cgroup,
    &cpu::Cpu,
    &disk::Disk,
    &frequency::Frequency,
    &load::Load,
    &memory::Memory,
    &network::Network,
    &numa::Numa,
    &paging::Paging,
    &pressure::Pressure,
    &process::Processes,
    &run_queue::RunQueue,
    &served::Served,
];

/// A probe that could be opened here.
pub struct OpenProbe {
    /// Its kind's name.
    pub name: &'static str,
    /// How often it wants to be sampled.
    pub cadence: Cadence,
    /// The probe.
    pub probe: Box<dyn Probe>,
}

/// Opens every host probe; those that cannot be opened come back with the reason and its cure.
pub fn open_all(context: &ProbeContext, table: &mut SeriesTable) -> (Vec<OpenProbe>, Vec<(&'static str, Reason)>) {
    let mut open = Vec::new();
    let mut closed = Vec::new();
    for kind in PROBES {
        match kind.open(context, table) {
            Ok(probe) => open.push(OpenProbe { name: kind.name(), cadence: kind.cadence(), probe }),
            Err(reason) => closed.push((kind.name(), reason)),
        }
    }
    (open, closed)
}
