//! perfwatch on a machine with a real NVIDIA GPU: what the probe reads, what it costs, and what it does to others.
//!
//! ```text
//! cargo build --release
//! cargo test -p perfwatch-tests --features gpu --test gpu -- --nocapture --test-threads 1 --skip effect
//! cargo test -p perfwatch-tests --features gpu --test gpu -- --nocapture effect
//! ```
//!
//! The first takes some three minutes, the second seven. What they tell is kept line by line in `report.txt`, beside recordings of each
//! workload and scenarios for the scripted NVML, in `target/gpu-run` or where `PERFWATCH_TEST_KEEP` says: a run that is cut short
//! leaves what it had. Both binaries can be built elsewhere; `PERFWATCH_TEST_BINARY` names the agent, `PERFWATCH_TEST_PYTHON` a
//! `python3` that has PyTorch.
//!
//! Whoever asks for the feature has such a machine: without `nvidia-smi`, or without PyTorch in `python3` where a test needs it, a
//! test fails and says so. Everything is about the first GPU that `nvidia-smi` lists, which nobody else may use meanwhile.

#![allow(clippy::disallowed_methods, reason = "tests start processes, wait and measure in real time")]
#![allow(clippy::print_stdout, reason = "what was measured is for whoever runs this")]

#[macro_use]
mod keep;

mod binary;
mod cost;
mod driver;
mod effect;
mod fixture;
mod interval;
mod raw;
mod readings;
mod smi;
mod tenants;
mod torch;
mod watch;
mod workloads;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Tests that run side by side would spoil each other's measurements.
fn alone() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}
