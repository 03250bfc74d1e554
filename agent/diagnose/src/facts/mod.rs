//! What one tick says, typed: every number a value or the reason there is none, with its source.
//!
//! Ledgers and rules see facts, never raw series. Counters arrive as running totals and leave as what they gained in the
//! tick; a counter that went back belongs to something that restarted, and is unknown for that tick.

mod fact;
mod gpu;
mod handles;
mod host;
mod reader;
mod server;
mod told;

pub use fact::Fact;
pub use gpu::{Bearing, GpuFacts, GpuSpan, GpuUnits};
pub use host::{DriverFacts, HostFacts, Pressure};
pub use reader::FactReader;
pub use server::{BatchFacts, CpuFacts, GroupFacts, Preparing, RequestFacts, ServerFacts, SlotFacts};
pub use told::{ToldCounts, ToldFacts};

use perfwatch_model::Stamp;

/// Everything that one tick says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// End of the tick.
    pub end: Stamp,
    /// Its measured length in nanoseconds.
    pub dt_ns: u64,
    /// The machine.
    pub host: HostFacts,
    /// Every server known, in the order in which they became known; those that sent nothing included.
    pub servers: Vec<ServerFacts>,
    /// Every GPU known, in the order in which they became known.
    pub gpus: Vec<GpuFacts>,
}
