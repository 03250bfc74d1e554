//! Where numbers come from: host and GPU probes. Synchronous, no printing, no clock of their own.
//!
//! A probe is a [`ProbeKind`] (static: name, metrics, cadence) that opens into a [`Probe`] (holds file descriptors, fills
//! a [`perfwatch_model::Sample`]). What this host cannot supply comes back as a [`perfwatch_model::Reason`], never as 0.

pub mod gpu;
pub mod host;
pub mod inventory;
mod kernel;
pub mod ns;
mod probe;
mod process_list;
pub mod redact;

pub use host::{OpenProbe, open_all};
pub use probe::{Cadence, Probe, ProbeContext, ProbeKind};
pub use process_list::{ProcessList, ProcessRow};
