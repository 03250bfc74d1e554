//! The faults that a demo can inject, one file each.
//!
//! To add one: a file with a [`Fault`], and two lines here. A fault changes the server's ordinary options, confines its
//! process, or disturbs it from outside. Its name stays in this process: neither the server's command line, environment
//! or report, nor anything else that the agent sees, carries it. What is wrong must be read from the measurements.

mod cgroup;
mod cpu_neighbour;
mod cpu_quota;
mod no_batching;
mod overload;
mod slow_data_loading;

use std::fmt;

use crate::child::{Program, Tied};
use crate::error::DemoError;
use crate::placement::Placement;
use crate::server::ServerOptions;

pub use cgroup::Group;

/// Every fault, in the order in which they are listed to people.
pub const FAULTS: &[&dyn Fault] = &[
    &slow_data_loading::SlowDataLoading,
    &no_batching::NoBatching,
    &cpu_quota::CpuQuota,
    &overload::Overload,
    &cpu_neighbour::CpuNeighbour,
];

/// The load of a healthy demo, and of a fault that does not ask for another.
pub const DEFAULT_LOAD: f64 = 0.6;

/// Something that can be wrong with a model server.
pub trait Fault: fmt::Debug + Sync {
    /// Stable lowercase name, as on the command line.
    fn name(&self) -> &'static str;

    /// One sentence: what is done to the server.
    fn brief(&self) -> &'static str;

    /// The load, as a share of the healthy capacity, at which the fault shows.
    fn load(&self) -> f64 {
        DEFAULT_LOAD
    }

    /// Fails if this machine does not allow it, before anything is started.
    fn check(&self) -> Result<(), DemoError> {
        Ok(())
    }

    /// Changes how the server runs; `offered` is the coming load in requests per second.
    fn shape(&self, _options: &mut ServerOptions, _offered: f64) {}

    /// Confines the server's process before it starts to serve; undone when the answer is dropped.
    fn confine(&self, _pid: u32) -> Result<Option<Group>, DemoError> {
        Ok(None)
    }

    /// Starts a process that disturbs the server while it is under load; ended when the answer is dropped.
    fn disturb(&self, _program: &Program, _placement: &Placement) -> Result<Option<Tied>, DemoError> {
        Ok(None)
    }
}

/// The fault with this name.
pub fn find(name: &str) -> Result<&'static dyn Fault, DemoError> {
    FAULTS.iter().copied().find(|fault| fault.name() == name).ok_or_else(|| {
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.name()).collect();
        DemoError::Usage(format!("unknown fault `{name}`; there are {}", names.join(", ")))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_file_is_a_listed_fault_with_a_name_of_its_own() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/faults");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().replace('_', "-"))
            .filter(|name| !["mod", "cgroup"].contains(&name.as_str()))
            .collect();
        let listed: BTreeSet<String> = FAULTS.iter().map(|fault| fault.name().to_owned()).collect();
        assert_eq!(files, listed);
        assert_eq!(listed.len(), FAULTS.len());
        assert!(FAULTS.iter().all(|fault| fault.brief().ends_with('.')));
    }

    #[test]
    fn an_unknown_fault_lists_the_known_ones() {
        assert_eq!(find("overload").unwrap().name(), "overload");
        let error = find("gremlins").unwrap_err();
        assert!(error.to_string().contains("slow-data-loading, no-batching"), "{error}");
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn no_fault_writes_its_name_where_the_agent_could_read_it() {
        for fault in FAULTS {
            let mut options = ServerOptions::new("/data".into(), 1);
            fault.shape(&mut options, 300.0);
            for arg in options.to_args() {
                let arg = arg.to_str().unwrap();
                assert!(!arg.contains(fault.name()), "{arg}");
                assert!(
                    !["fault", "slow", "quota", "overload", "neighbour"].iter().any(|word| arg.contains(word)),
                    "{arg}"
                );
            }
        }
    }
}
