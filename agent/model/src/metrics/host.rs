//! The machine and its control groups.
//!
//! Of a server whose processes the agent cannot see, the memory and the pressure of its control group are about the server:
//! its processes tell them.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Hertz, Ratio, Seconds};

/// By `cpu.mode`.
pub const CPU_TIME: MetricDef = MetricDef::counter("system.cpu.time", Seconds, "CPU time of the machine by mode.");
/// By `cpu.logical_number` and `cpu.mode`. Not `system.cpu.time`, which leaves without the former: points of one name both
/// with and without an attribute would double every sum over it.
pub const CPU_CORE_TIME: MetricDef =
    MetricDef::counter("perfwatch.cpu.core.time", Seconds, "CPU time of each logical CPU by mode.").full();
/// Share of all CPU time that was not idle.
pub const CPU_UTILIZATION: MetricDef =
    MetricDef::gauge("system.cpu.utilization", Ratio, "Share of the last interval's CPU time that was not idle.")
        .with_peak(&CPU_UTILIZATION_MAX);
/// The busiest second of an export's interval.
pub const CPU_UTILIZATION_MAX: MetricDef = MetricDef::gauge(
    "system.cpu.utilization.max",
    Ratio,
    "Share of CPU time that was not idle in the busiest second since the last export.",
);
/// Online logical CPUs.
pub const CPU_COUNT: MetricDef =
    MetricDef::gauge("system.cpu.logical.count", Count("{cpu}"), "Logical CPUs that are online.");
/// Mean of the online CPUs. Not `system.cpu.frequency`, which is of each.
pub const CPU_FREQUENCY_MEAN: MetricDef = MetricDef::gauge(
    "perfwatch.cpu.frequency.mean",
    Hertz,
    "Operating frequency, mean of the logical CPUs that are online.",
);
/// By `cpu.logical_number`.
pub const CPU_FREQUENCY: MetricDef =
    MetricDef::gauge("system.cpu.frequency", Hertz, "Operating frequency of each logical CPU.").full();
/// The lowest of what policy (power saving, thermal limits) allows any CPU.
pub const CPU_FREQUENCY_LIMIT: MetricDef = MetricDef::gauge(
    "perfwatch.cpu.frequency.limit",
    Hertz,
    "Highest frequency that policy allows, of the logical CPU that is limited most.",
);
/// Load average of a minute.
pub const LOAD_1M: MetricDef = MetricDef::gauge(
    "system.cpu.load_average.1m",
    Count("{thread}"),
    "Threads that ran, waited for a CPU or were in uninterruptible sleep, averaged over 1 minute.",
);
/// Load average of five minutes.
pub const LOAD_5M: MetricDef = MetricDef::gauge(
    "system.cpu.load_average.5m",
    Count("{thread}"),
    "Threads that ran, waited for a CPU or were in uninterruptible sleep, averaged over 5 minutes.",
)
.full();
/// Load average of fifteen minutes.
pub const LOAD_15M: MetricDef = MetricDef::gauge(
    "system.cpu.load_average.15m",
    Count("{thread}"),
    "Threads that ran, waited for a CPU or were in uninterruptible sleep, averaged over 15 minutes.",
)
.full();
/// Running or waiting for a CPU, the agent's own thread not counted: it always runs when it looks.
pub const THREADS_RUNNABLE: MetricDef = MetricDef::gauge(
    "perfwatch.threads.runnable",
    Count("{thread}"),
    "Threads of the machine that run or wait for a CPU, without the agent's own that looks.",
);
/// Threads there are.
pub const THREADS: MetricDef =
    MetricDef::gauge("perfwatch.threads.count", Count("{thread}"), "Threads of the machine.").full();
/// In uninterruptible sleep for a block device.
pub const THREADS_BLOCKED: MetricDef = MetricDef::gauge(
    "perfwatch.threads.blocked",
    Count("{thread}"),
    "Threads of the machine that wait for a block device.",
);
/// Of the machine.
pub const CONTEXT_SWITCHES: MetricDef = MetricDef::counter(
    "perfwatch.cpu.context_switches",
    Count("{context_switch}"),
    "Times that a CPU of the machine changed from one thread to another.",
)
.full();
/// What `/proc/stat` calls processes: threads count too.
pub const PROCESS_CREATED: MetricDef =
    MetricDef::counter("system.process.created", Count("{process}"), "Processes and threads that were created.").full();
/// Σ over CPUs.
pub const RUN_DELAY: MetricDef = MetricDef::counter(
    "perfwatch.cpu.run_delay",
    Seconds,
    "Time that threads of the machine were ready to run and waited for a CPU, summed over threads.",
);
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
/// By `system.paging.state`.
pub const PAGING_USAGE: MetricDef = MetricDef::gauge("system.paging.usage", Bytes, "Swap space by state.").full();
/// By `system.paging.fault.type`.
pub const PAGING_FAULTS: MetricDef =
    MetricDef::counter("system.paging.faults", Count("{fault}"), "Page faults of the machine by type.").full();
/// By `system.paging.direction`. Pages that went to and from swap, not file pages.
pub const PAGING_OPERATIONS: MetricDef = MetricDef::counter(
    "system.paging.operations",
    Count("{operation}"),
    "Pages that were written to (out) and read from (in) swap space.",
);
/// Of the machine, whatever its control group.
pub const OOM_KILLS: MetricDef = MetricDef::counter(
    "perfwatch.memory.oom_kills",
    Count("{process}"),
    "Processes that were killed because memory ran out, in any control group.",
);
/// By `perfwatch.numa.node` and `system.memory.state`.
pub const NUMA_MEMORY: MetricDef =
    MetricDef::gauge("perfwatch.numa.memory.usage", Bytes, "Memory of each NUMA node by state.").full();
/// By `perfwatch.numa.node` and `perfwatch.numa.cpus`, the kernel's list of them.
pub const NUMA_CPUS: MetricDef =
    MetricDef::gauge("perfwatch.numa.cpu.count", Count("{cpu}"), "Logical CPUs of each NUMA node.").full();
/// By `perfwatch.numa.node` and `perfwatch.numa.allocation` (`hit`, `miss`, `foreign`, `interleave_hit`, `local`, `other`).
pub const NUMA_ALLOCATIONS: MetricDef = MetricDef::counter(
    "perfwatch.numa.allocations",
    Count("{page}"),
    "Pages allocated on each NUMA node, by whether the node was the wanted one.",
)
.full();
/// Σ over nodes of what was allocated elsewhere than wanted.
pub const NUMA_MISSES: MetricDef = MetricDef::counter(
    "perfwatch.numa.misses",
    Count("{page}"),
    "Pages that were allocated on another NUMA node than the wanted one.",
)
.full();
/// By `perfwatch.pressure.resource` (cpu, memory, io) and `perfwatch.pressure.kind` (some, full).
pub const PRESSURE_TIME: MetricDef = MetricDef::counter(
    "perfwatch.pressure.time",
    Seconds,
    "Time in which tasks waited for a resource (pressure stall information).",
);
/// CPU time of a control group.
pub const CGROUP_CPU_TIME: MetricDef =
    MetricDef::counter("perfwatch.cgroup.cpu.time", Seconds, "CPU time used by the control group.").full();
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
)
.full();
/// Quota periods in which something ran.
pub const CGROUP_PERIODS: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.cpu.periods",
    Count("{period}"),
    "Quota periods in which the control group had something to run.",
)
.full();
/// Time spent throttled.
pub const CGROUP_THROTTLED_TIME: MetricDef = MetricDef::counter(
    "perfwatch.cgroup.cpu.throttled.time",
    Seconds,
    "Time that the control group's run queues stood throttled, summed over CPUs.",
)
.full();
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
    &CPU_FREQUENCY_MEAN,
    &CPU_FREQUENCY,
    &CPU_FREQUENCY_LIMIT,
    &LOAD_1M,
    &LOAD_5M,
    &LOAD_15M,
    &THREADS_RUNNABLE,
    &THREADS,
    &THREADS_BLOCKED,
    &CONTEXT_SWITCHES,
    &PROCESS_CREATED,
    &RUN_DELAY,
    &MEMORY_USAGE,
    &MEMORY_LIMIT,
    &MEMORY_AVAILABLE,
    &PAGING_USAGE,
    &PAGING_FAULTS,
    &PAGING_OPERATIONS,
    &OOM_KILLS,
    &NUMA_MEMORY,
    &NUMA_CPUS,
    &NUMA_ALLOCATIONS,
    &NUMA_MISSES,
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
