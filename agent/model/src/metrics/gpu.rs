//! GPUs. Names follow OpenTelemetry's `hw.*`; what has no name there is `perfwatch.gpu.*`.

use crate::MetricDef;
use crate::Unit::{Bytes, Celsius, Count, Hertz, Joules, Ratio, Seconds, Watts};

/// By `hw.gpu.task` (general; encoder and decoder from their first use on).
pub const UTILIZATION: MetricDef = MetricDef::gauge(
    "hw.gpu.utilization",
    Ratio,
    "Share of the driver's last sampling period in which any kernel ran, or the encoder or decoder worked.",
)
.with_peak(&UTILIZATION_MAX);
/// The highest of an export's interval.
pub const UTILIZATION_MAX: MetricDef = MetricDef::gauge(
    "hw.gpu.utilization.max",
    Ratio,
    "Largest share of a sampling period in which any kernel ran since the last export.",
);
/// NVML's memory utilisation: not how full, but how busy.
pub const MEMORY_BUSY: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.memory.busy",
    Ratio,
    "Share of the driver's last sampling period in which device memory was read or written.",
)
.full();
/// Memory in use.
pub const MEMORY_USAGE: MetricDef =
    MetricDef::gauge("hw.gpu.memory.usage", Bytes, "Device memory in use.").with_peak(&MEMORY_USAGE_MAX);
/// The most of an export's interval.
pub const MEMORY_USAGE_MAX: MetricDef =
    MetricDef::gauge("hw.gpu.memory.usage.max", Bytes, "Most device memory in use since the last export.");
/// Memory there is.
pub const MEMORY_LIMIT: MetricDef = MetricDef::gauge("hw.gpu.memory.limit", Bytes, "Device memory there is.");
/// Memory that is neither free nor in use.
pub const MEMORY_RESERVED: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.memory.reserved",
    Bytes,
    "Device memory that driver and firmware keep for themselves, which is no part of what is in use.",
)
.full();
/// With `hw.type` = gpu.
pub const POWER: MetricDef = MetricDef::gauge(
    "hw.power",
    Watts,
    "Power drawn: the energy of the time between two readings, or the driver's average where it does not count energy.",
);
/// Power it may draw.
pub const POWER_LIMIT: MetricDef =
    MetricDef::gauge("perfwatch.gpu.power.limit", Watts, "Power that the device may draw, as enforced now.");
/// What the device comes with.
pub const POWER_LIMIT_DEFAULT: MetricDef =
    MetricDef::gauge("perfwatch.gpu.power.limit.default", Watts, "Power that the device may draw by default.").full();
/// With `hw.type` = gpu.
pub const ENERGY: MetricDef = MetricDef::counter("hw.energy", Joules, "Energy drawn since the driver was loaded.");
/// By `hw.sensor_location` (core, memory).
pub const TEMPERATURE: MetricDef = MetricDef::gauge("hw.temperature", Celsius, "Temperature of the device.");
/// Of the core. Below 0 where it is warmer than that.
pub const TEMPERATURE_MARGIN: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.temperature.margin",
    Celsius,
    "How far the temperature is below the one from which the clocks are held down.",
)
.full();
/// By `perfwatch.gpu.clock` (sm, memory).
pub const CLOCK: MetricDef = MetricDef::gauge("perfwatch.gpu.clock.frequency", Hertz, "Clock frequency now.");
/// By `perfwatch.gpu.clock` (sm, memory).
pub const CLOCK_LIMIT: MetricDef =
    MetricDef::gauge("perfwatch.gpu.clock.limit", Hertz, "Highest clock frequency of the device.").full();
/// By `perfwatch.gpu.throttle.reason`.
pub const THROTTLE_ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.throttle.active",
    Ratio,
    "Whether the clocks are held down for this reason at this moment: 1 or 0.",
)
.full();
/// By `perfwatch.gpu.throttle.reason` (`sw_power_cap`, `sync_boost`, `sw_thermal`, `hw_thermal`, `hw_power_brake`).
pub const THROTTLE_TIME: MetricDef = MetricDef::counter(
    "perfwatch.gpu.throttle.time",
    Seconds,
    "Time for which the clocks were held down for this reason since the driver was loaded. Reasons overlap.",
)
.full();
/// GPM: NVML's performance monitoring, from Hopper on.
pub const GRAPHICS_ACTIVE: MetricDef =
    MetricDef::gauge("perfwatch.gpu.graphics.active", Ratio, "Share of the time in which any application was active.")
        .full();
/// GPM.
pub const SM_ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.sm.active",
    Ratio,
    "Share of the SMs' cycles in which at least one warp was on the SM.",
);
/// GPM.
pub const SM_OCCUPANCY: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.sm.occupancy",
    Ratio,
    "Warps on the SMs, as a share of the most they hold. More is not always better.",
)
.full();
/// GPM.
pub const TENSOR_ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.tensor.active",
    Ratio,
    "Share of the cycles in which the tensor cores were busy; about 0.93 is as much as they do.",
);
/// GPM, by `perfwatch.gpu.pipe` (fp64, fp32, fp16, int).
pub const PIPE_ACTIVE: MetricDef =
    MetricDef::gauge("perfwatch.gpu.pipe.active", Ratio, "Share of the cycles in which this pipe was busy.").full();
/// GPM.
pub const DRAM_ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.dram.active",
    Ratio,
    "Share of the memory's bandwidth on paper that was used; about 0.80 is as much as can be had.",
);
/// By `network.io.direction`: transmit is from the device to the host.
pub const PCIE_IO: MetricDef = MetricDef::counter(
    "hw.gpu.io",
    Bytes,
    "Bytes over the PCIe link since the driver was loaded; where only GPM tells them, since the agent began to look.",
)
.full();
/// Lower while the device is idle, to save power.
pub const PCIE_GENERATION: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.pcie.generation",
    Count("{generation}"),
    "Generation that the PCIe link runs at now. Idle devices lower it to save power.",
)
.full();
/// What slot and device have in common.
pub const PCIE_GENERATION_LIMIT: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.pcie.generation.limit",
    Count("{generation}"),
    "Highest generation of the PCIe link with this device in this machine.",
)
.full();
/// Lanes.
pub const PCIE_WIDTH: MetricDef =
    MetricDef::gauge("perfwatch.gpu.pcie.width", Count("{lane}"), "Lanes that the PCIe link has now.").full();
/// What slot and device have in common; where nothing is known of the slot, the most that there were since the agent began.
pub const PCIE_WIDTH_LIMIT: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.pcie.width.limit",
    Count("{lane}"),
    "Most lanes of the PCIe link with this device in this machine.",
)
.full();
/// By `network.io.direction`: transmit is to other devices.
pub const NVLINK_IO: MetricDef = MetricDef::counter(
    "perfwatch.gpu.nvlink.io",
    Bytes,
    "Bytes over all NVLinks since the driver was loaded; where only GPM tells them, since the agent began to look.",
)
.full();
/// Packets that had to be sent again.
pub const PCIE_REPLAYS: MetricDef = MetricDef::counter(
    "perfwatch.gpu.pcie.replays",
    Count("{packet}"),
    "Packets of the PCIe link that had to be sent again since the driver was loaded.",
)
.full();
/// By `error.type` (corrected, uncorrected).
pub const ERRORS: MetricDef =
    MetricDef::counter("hw.errors", Count("{error}"), "Errors of the memory since the driver was loaded.").full();
/// By `error.type` (corrected, uncorrected).
pub const REMAPPED_ROWS: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.remapped_rows",
    Count("{row}"),
    "Rows of the memory that were replaced for such errors in the life of the device.",
)
.full();
/// By `error.type` (corrected, uncorrected). Before Ampere, whose devices replace rows.
pub const RETIRED_PAGES: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.retired_pages",
    Count("{page}"),
    "Pages of the memory that were taken out of use for such errors in the life of the device.",
)
.full();
/// By `perfwatch.gpu.fault` (`lost`, `reset_required`, `unresponsive`, `driver_failed`, `row_remap_pending`, `row_remap_failed`,
/// `page_retirement_pending`, `recovery_needed`, `pcie_link_degraded`; and what somebody has set: `power_limit_lowered`,
/// `power_limit_by_platform`, `clocks_locked`). Of the machine, where a driver that fails or is silent shows no device.
pub const FAULT: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.fault.active",
    Ratio,
    "Whether the device or its driver has this fault at this moment: 1 or 0. What cannot be told has no value.",
)
.full();
/// By `hw.state` (ok, degraded, `predicted_failure`, failed), with `hw.type` = gpu. The worst that the faults say.
pub const STATUS: MetricDef = MetricDef::gauge(
    "hw.status",
    Ratio,
    "Whether this is the state of the device, by its faults: 1 for one of the states, 0 for the others.",
)
.full();
/// By `perfwatch.gpu.xid.code`.
pub const XIDS: MetricDef = MetricDef::counter(
    "perfwatch.gpu.xids",
    Count("{error}"),
    "XID errors that the driver reported of the device, or of what ran on it, by their code.",
)
.since_start()
.full();

/// All of them.
pub const ALL: &[&MetricDef] = &[
    &UTILIZATION,
    &MEMORY_BUSY,
    &MEMORY_USAGE,
    &MEMORY_LIMIT,
    &MEMORY_RESERVED,
    &POWER,
    &POWER_LIMIT,
    &POWER_LIMIT_DEFAULT,
    &ENERGY,
    &TEMPERATURE,
    &TEMPERATURE_MARGIN,
    &CLOCK,
    &CLOCK_LIMIT,
    &THROTTLE_ACTIVE,
    &THROTTLE_TIME,
    &GRAPHICS_ACTIVE,
    &SM_ACTIVE,
    &SM_OCCUPANCY,
    &TENSOR_ACTIVE,
    &PIPE_ACTIVE,
    &DRAM_ACTIVE,
    &PCIE_IO,
    &PCIE_GENERATION,
    &PCIE_GENERATION_LIMIT,
    &PCIE_WIDTH,
    &PCIE_WIDTH_LIMIT,
    &NVLINK_IO,
    &PCIE_REPLAYS,
    &ERRORS,
    &REMAPPED_ROWS,
    &RETIRED_PAGES,
    &FAULT,
    &STATUS,
    &XIDS,
];
