//! Devices: the GPUs, and the CPUs of servers.

use crate::MetricDef;
use crate::Unit::Seconds;

/// The device ledger, by `perfwatch.device.kind` (cpu, gpu) and `perfwatch.device.cause`. The causes of a device sum to its
/// capacity: 1 s per second for a GPU, the number of its CPUs for a server.
pub const TIME: MetricDef = MetricDef::counter(
    "perfwatch.device.time",
    Seconds,
    "Device-seconds by what they were used for or lost to; the causes sum to the capacity.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[&TIME];
