//! What a GPU does, draws, holds and suffers.

use serde::{Deserialize, Serialize};

/// A GPU's readings, or those of one MIG instance.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuView {
    /// Share of time in which any kernel ran, 0 to 1.
    pub utilization: Option<f64>,
    /// Which units were busy in the newest tick; absent where the device cannot tell.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub activity: Option<GpuActivityView>,
    /// Memory in use.
    pub memory_used_bytes: Option<u64>,
    /// Memory there is.
    pub memory_limit_bytes: Option<u64>,
    /// Power drawn.
    pub power_watts: Option<f64>,
    /// Power it may draw.
    pub power_limit_watts: Option<f64>,
    /// Power it may draw unless somebody sets another limit.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub default_power_limit_watts: Option<f64>,
    /// Core temperature.
    pub temperature_celsius: Option<f64>,
    /// How far that is below the temperature from which the clocks are held down, below 0 where it is above; absent where the
    /// driver tells neither.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub temperature_margin_celsius: Option<f64>,
    /// Temperature of the memory; absent where it has no sensor of its own.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_temperature_celsius: Option<f64>,
    /// SM clock.
    pub sm_clock_hertz: Option<f64>,
    /// The highest clock that the SMs may have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sm_clock_limit_hertz: Option<f64>,
    /// Clock of the memory.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_clock_hertz: Option<f64>,
    /// Why its clocks are held down now, in NVML's words.
    pub throttle_reasons: Vec<String>,
    /// For how much of the newest tick they were, by every reason whose time is counted; empty where none is.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub throttled: Vec<ThrottleView>,
    /// Its link to the host; absent while nothing of it is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pcie: Option<PcieView>,
    /// All its links to other GPUs; absent where it has none, or nothing of them is known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub nvlink: Option<TransferView>,
    /// Faults that the device or its driver has now, by the names of `perfwatch.gpu.fault`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub faults: Vec<String>,
    /// XID errors since the agent began to listen, by code.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub xids: Vec<XidView>,
    /// Errors of its memory since the driver was loaded; absent where they are not counted.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub memory_errors: Option<ErrorCountsView>,
    /// Rows of its memory that were replaced for such errors in the life of the device.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub remapped_rows: Option<ErrorCountsView>,
    /// Pages of its memory that were taken out of use for such errors, where the device cannot replace rows.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub retired_pages: Option<ErrorCountsView>,
    /// Processes that hold memory on it: of hundreds those that hold most.
    pub processes: Vec<GpuProcessView>,
    /// How many more do.
    #[serde(skip_serializing_if = "is_default", default)]
    pub processes_left_out: u64,
    /// Why it is not known who holds memory on it; absent where it is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub processes_unknown: Option<String>,
    /// Where it is plugged in, as `domain:bus:device.function`: by this `nvidia-smi -i` takes it too, whatever its index is.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pci_bus_id: Option<String>,
    /// Of a MIG instance: the device that it is a part of, as [`DeviceView::id`](super::DeviceView::id).
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub parent: Option<String>,
    /// How its processes share it: `alone`, `time_sliced`, `mps` or `mig`; absent while that is not known.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sharing: Option<String>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Shares of the newest tick in which units of a GPU were busy, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuActivityView {
    /// Time in which any application was active.
    pub graphics_active: Option<f64>,
    /// The SMs' cycles in which at least one warp was on the SM.
    pub sm_active: Option<f64>,
    /// Warps on the SMs, of the most they hold.
    pub sm_occupancy: Option<f64>,
    /// Cycles in which the tensor cores were busy; about 0.93 is as much as they do.
    pub tensor_active: Option<f64>,
    /// The memory's bandwidth on paper; about 0.80 is as much as can be had.
    pub dram_active: Option<f64>,
    /// Cycles in which each of the other pipes was busy.
    pub pipes: GpuPipesView,
}

/// Shares of cycles in which the pipes beside the tensor cores were busy, 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuPipesView {
    /// Double precision.
    pub fp64: Option<f64>,
    /// Single precision.
    pub fp32: Option<f64>,
    /// Half precision.
    pub fp16: Option<f64>,
    /// Integers.
    pub int: Option<f64>,
}

/// A reason for which clocks were held down. Reasons overlap, so their shares may not be added.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ThrottleView {
    /// By the names of `perfwatch.gpu.throttle.reason`.
    pub reason: String,
    /// Share of the newest tick, 0 to 1.
    pub share: f64,
}

/// The link of a GPU to its host.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct PcieView {
    /// Bytes per second from the device to the host.
    pub transmit_bytes_per_s: Option<f64>,
    /// Bytes per second from the host to the device.
    pub receive_bytes_per_s: Option<f64>,
    /// Generation that the link runs at now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation: Option<u32>,
    /// The highest that device and slot both have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub generation_max: Option<u32>,
    /// Lanes that the link runs over now.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub width: Option<u32>,
    /// The most that device and slot both have.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub width_max: Option<u32>,
}

/// Bytes that go and come.
#[derive(Clone, Copy, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct TransferView {
    /// Bytes per second that the device sent.
    pub transmit_bytes_per_s: Option<f64>,
    /// Bytes per second that it received.
    pub receive_bytes_per_s: Option<f64>,
}

/// How often an XID error was reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XidView {
    /// Its code.
    pub code: u64,
    /// How many.
    pub count: u64,
}

/// Errors, or what was done about them, by whether the memory could correct them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ErrorCountsView {
    /// Corrected.
    pub corrected: Option<u64>,
    /// Not corrected.
    pub uncorrected: Option<u64>,
}

/// A process on a GPU.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct GpuProcessView {
    /// Process id as the driver knows it.
    pub pid: u32,
    /// Name, escaped; `null` when the process is not visible from here.
    pub name: Option<String>,
    /// GPU memory it holds; `null` when the driver will not say.
    pub memory_bytes: Option<u64>,
    /// Share of the SMs' time that it used, 0 to 1; absent when the driver does not tell it by process.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub sm_share: Option<f64>,
    /// The model server that it is of, as [`ServerView::id`](super::ServerView::id); absent when it is of none.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub server: Option<String>,
    /// Hexadecimal id of its container, where it is known to run in one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container: Option<String>,
    /// UID of its Kubernetes pod, where it is known to run in one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pod: Option<String>,
    /// Its process id inside of its container; absent where that is the same.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub container_pid: Option<u32>,
}
