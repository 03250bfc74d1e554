//! GPUs. Names follow OpenTelemetry's `hw.*`; what has no name there is `perfwatch.gpu.*`.

use crate::MetricDef;
use crate::Unit::{Bytes, Celsius, Hertz, Joules, Ratio, Watts};

/// By `hw.gpu.task` (general).
pub const UTILIZATION: MetricDef = MetricDef::gauge(
    "hw.gpu.utilization",
    Ratio,
    "Share of the driver's last sampling period in which any kernel ran.",
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
);
/// Memory in use.
pub const MEMORY_USAGE: MetricDef =
    MetricDef::gauge("hw.gpu.memory.usage", Bytes, "Device memory in use.").with_peak(&MEMORY_USAGE_MAX);
/// The most of an export's interval.
pub const MEMORY_USAGE_MAX: MetricDef =
    MetricDef::gauge("hw.gpu.memory.usage.max", Bytes, "Most device memory in use since the last export.");
/// Memory there is.
pub const MEMORY_LIMIT: MetricDef = MetricDef::gauge("hw.gpu.memory.limit", Bytes, "Device memory there is.");
/// With `hw.type` = gpu.
pub const POWER: MetricDef = MetricDef::gauge("hw.power", Watts, "Power drawn.");
/// Power it may draw.
pub const POWER_LIMIT: MetricDef =
    MetricDef::gauge("perfwatch.gpu.power.limit", Watts, "Power that the device may draw, as enforced now.");
/// With `hw.type` = gpu.
pub const ENERGY: MetricDef = MetricDef::counter("hw.energy", Joules, "Energy drawn since the driver was loaded.");
/// By `hw.sensor_location` (core).
pub const TEMPERATURE: MetricDef = MetricDef::gauge("hw.temperature", Celsius, "Temperature of the device.");
/// By `perfwatch.gpu.clock` (sm, memory).
pub const CLOCK: MetricDef = MetricDef::gauge("perfwatch.gpu.clock.frequency", Hertz, "Clock frequency now.");
/// By `perfwatch.gpu.clock` (sm, memory).
pub const CLOCK_LIMIT: MetricDef =
    MetricDef::gauge("perfwatch.gpu.clock.limit", Hertz, "Highest clock frequency of the device.");
/// By `perfwatch.gpu.throttle.reason`.
pub const THROTTLE_ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.gpu.throttle.active",
    Ratio,
    "Whether the clocks are held down for this reason: 1 or 0.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[
    &UTILIZATION,
    &MEMORY_BUSY,
    &MEMORY_USAGE,
    &MEMORY_LIMIT,
    &POWER,
    &POWER_LIMIT,
    &ENERGY,
    &TEMPERATURE,
    &CLOCK,
    &CLOCK_LIMIT,
    &THROTTLE_ACTIVE,
];
