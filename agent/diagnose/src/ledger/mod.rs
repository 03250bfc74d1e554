//! Where every nanosecond of a tick went: a server's CPUs, its requests, and a GPU.
//!
//! All ledgers sum to their interval exactly, in integers, because [`perfwatch_model::Split`] can make no other. The
//! ledger of a window is the sum of the ledgers of its ticks.

mod cpu;
mod gpu;
mod parts;
mod request;

pub use cpu::{Stalls, cpu_ledger, stalls};
pub use gpu::{DRAM_PEAK, TENSOR_PEAK, busy_ns, gpu_ledger, with_lost_to_clocks};
pub use parts::Bounds;
pub use request::request_ledger;

use perfwatch_model::State;

/// CPU time that the server's processes used. Not the same as progress.
pub const USED: &str = "used";
/// Time that a quota kept the server off its CPUs.
pub const QUOTA: &str = "quota";
/// Time that the server's threads waited while other processes ran on its CPUs.
pub const RUN_QUEUE_WAIT: &str = "run_queue_wait";
/// Time that a hypervisor kept from the server's CPUs.
pub const STEAL: &str = "steal";
/// Idle because there was no request.
pub const NO_DEMAND: &str = "no_demand";
/// Idle while a request was inside the model: the model does not use all CPUs that it may.
pub const UNUSED_PARALLELISM: &str = "unused_parallelism";
/// Not used, and a reading or the server's own report is missing that would tell why.
pub const IDLE_UNKNOWN: &str = "idle_unknown";
/// A GPU computed: its tensor cores or other pipes, as a share of what they do at most.
pub const COMPUTE: &str = "compute";
/// A GPU moved data to and from its memory, as a share of the bandwidth that can be had.
pub const MEMORY_BANDWIDTH: &str = "memory_bandwidth";
/// Warps were on the SMs of a GPU, and neither computed nor moved data.
pub const SM_STALLED: &str = "sm_stalled";
/// An application was active on a GPU, and some SMs had nothing of it.
pub const SM_IDLE_RESIDENT: &str = "sm_idle_resident";
/// Busy time that a GPU's clocks cost because they were held down.
pub const THROTTLED: &str = "throttled";
/// A GPU was idle while a request was inside the model: it waited for the host, or for another device.
pub const HOST_COMPUTE: &str = "host_compute";
/// A GPU worked for processes that belong to none of the watched servers on it.
pub const OTHER_TENANT: &str = "other_tenant";
/// A GPU was used, and nothing says how much of it.
pub const BUSY_UNKNOWN: &str = "busy_unknown";
/// Not even known whether it was used.
pub const UNKNOWN: &str = "unknown";

/// The cause that idle CPU time has while the server is in a state.
pub const fn idle_cause(state: State) -> &'static str {
    match state {
        State::None => NO_DEMAND,
        State::Compute => UNUSED_PARALLELISM,
        State::Transfer => "starved.transfer",
        State::BatchWait => "starved.batch_wait",
        State::DataLoad => "starved.data_load",
        State::Preprocess => "starved.preprocess",
        State::Queue => "starved.queue",
        State::Postprocess => "starved.postprocess",
        State::Send => "starved.send",
        State::Other => "starved.other",
    }
}
