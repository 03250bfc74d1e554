//! The machine and its control groups.
//!
//! Of a server whose processes the agent cannot see, the memory and the pressure of its control group are about the server:
//! its processes tell them.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Ratio, Seconds};

/// By `cpu.mode`.
pub const CPU_TIME: MetricDef = MetricDef::counter("system.cpu.time", Seconds, "CPU time of the machine by mode.");
/// By `cpu.logical_number` and `cpu.mode`. Not `system.cpu.time`, which leaves without the former: points of one name both
/// with and without an attribute would double every sum over it.
pub const CPU_CORE_TIME: MetricDef =
    MetricDef::counter("perfwatch.cpu.core.time", Seconds, "CPU time of each logical CPU by mode.").full();
/// Share of all CPU time that was not idle.
pub const CPU_UTILIZATION: MetricDef =
    MetricDef::gauge("system.cpu.utilization", Ratio, "Share of the last interval's CPU time that was not idle.");
/// Online logical CPUs.
pub const CPU_COUNT: MetricDef =
    MetricDef::gauge("system.cpu.logical.count", Count("{cpu}"), "Logical CPUs that are online.");
/// By `system.memory.state`.
pub const MEMORY_USAGE: MetricDef = MetricDef::gauge("system.memory.usage", Bytes, "Memory by state.");
/// Memory there is.
pub const MEMORY_LIMIT: MetricDef = MetricDef::gauge("system.memory.limit", Bytes, "Memory the machine has.");
/// What a new program could have.
pub const MEMORY_AVAILABLE: MetricDef = MetricDef::gauge(
    "system.memory.linux.available",
    Bytes,
    "Memory that new programs could take without swapping, as the kernel estimates it.",
);
/// By `perfwatch.pressure.resource` (cpu, memory, io) and `perfwatch.pressure.kind` (some, full).
pub const PRESSURE_TIME: MetricDef = MetricDef::counter(
    "perfwatch.pressure.time",
    Seconds,
    "Time in which tasks waited for a resource (pressure stall information).",
);
/// CPU time of a control group.
pub const CGROUP_CPU_TIME: MetricDef =
    MetricDef::counter("perfwatch.cgroup.cpu.time", Seconds, "CPU time used by the control group.");
/// CPUs the quota allows.
pub const CGROUP_CPU_LIMIT: MetricDef = MetricDef::gauge(
    "perfwatch.cgroup.cpu.limit",
    Count("{cpu}"),
    "CPUs that the control group's quota allows, the tightest of its ancestors included.",
);
/// Quota periods that ran out.
pub const CGROUP_THROTTLED_PERIODS: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.cpu.throttled.periods",
    Count("{period}"),
    "Quota periods in which the control group was throttled.",
);
/// Quota periods in which something ran.
pub const CGROUP_PERIODS: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.cpu.periods",
    Count("{period}"),
    "Quota periods in which the control group had something to run.",
);
/// Time spent throttled.
pub const CGROUP_THROTTLED_TIME: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.cpu.throttled.time",
    Seconds,
    "Time that the control group's run queues stood throttled, summed over CPUs.",
);
/// Memory of a control group.
pub const CGROUP_MEMORY_USAGE: MetricDef =
    MetricDef::gauge("perfwatch.cgroup.memory.usage", Bytes, "Memory charged to the control group.");
/// Memory it may use.
pub const CGROUP_MEMORY_LIMIT: MetricDef = MetricDef::gauge(
    "perfwatch.cgroup.memory.limit",
    Bytes,
    "Memory that the control group may use, the tightest of its ancestors included.",
);
/// By `perfwatch.cgroup.event` (`oom_kill`, `max` …).
pub const CGROUP_MEMORY_EVENTS: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.memory.events",
    Count("{event}"),
    "Times the control group hit a memory limit or had a process killed, by event.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[
    &CPU_TIME,
    &CPU_CORE_TIME,
    &CPU_UTILIZATION,
    &CPU_COUNT,
    &MEMORY_USAGE,
    &MEMORY_LIMIT,
    &MEMORY_AVAILABLE,
    &PRESSURE_TIME,
    &CGROUP_CPU_TIME,
    &CGROUP_CPU_LIMIT,
    &CGROUP_THROTTLED_PERIODS,
    &CGROUP_PERIODS,
    &CGROUP_THROTTLED_TIME,
    &CGROUP_MEMORY_USAGE,
    &CGROUP_MEMORY_LIMIT,
    &CGROUP_MEMORY_EVENTS,
];
