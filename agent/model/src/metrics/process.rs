//! Processes.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Seconds};

/// By `cpu.mode`.
pub const CPU_TIME: MetricDef =
    MetricDef::counter("process.cpu.time", Seconds, "CPU time of the process by mode.").full();
/// Resident memory.
pub const MEMORY_USAGE: MetricDef =
    MetricDef::gauge("process.memory.usage", Bytes, "Physical memory that the process holds.").full();
/// Threads.
pub const THREAD_COUNT: MetricDef =
    MetricDef::gauge("process.thread.count", Count("{thread}"), "Threads of the process.").full();
/// Waiting for a CPU.
pub const RUN_DELAY: MetricDef = MetricDef::counter(
    "perfwatch.process.run_delay",
    Seconds,
    "Time that the process's threads were ready to run and waited for a CPU, summed over threads.",
)
.full();

/// By `disk.io.direction`. What reached a block device, not what the page cache answered.
pub const DISK_IO: MetricDef =
    MetricDef::counter("process.disk.io", Bytes, "Bytes that the process had read from and written to block devices.")
        .full();
/// By `process.context_switch.type`.
pub const CONTEXT_SWITCHES: MetricDef = MetricDef::counter(
    "process.context_switches",
    Count("{context_switch}"),
    "Times that a thread of the process gave up its CPU, by whether it chose to.",
)
.full();
/// By `system.paging.fault.type`.
pub const PAGING_FAULTS: MetricDef =
    MetricDef::counter("process.paging.faults", Count("{fault}"), "Page faults of the process by type.").full();

/// All of them.
pub const ALL: &[&MetricDef] =
    &[&CPU_TIME, &MEMORY_USAGE, &THREAD_COUNT, &RUN_DELAY, &DISK_IO, &CONTEXT_SWITCHES, &PAGING_FAULTS];
