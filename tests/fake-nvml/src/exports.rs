//! The C symbols. Each takes its place in [`SYMBOLS`] and plays one key of the scenario.
//!
//! Out parameters are `Option<&mut T>`, which C sees as a pointer that may be null; that the caller passes null or a valid pointer
//! is the header's contract.

#![allow(unsafe_code, reason = "C symbols are exported unmangled, and their arrays and strings come as pointers")]
#![allow(non_snake_case, reason = "the names are NVML's")]

use std::ffi::{c_char, c_int, c_longlong, c_uint, c_ulonglong};
use std::sync::atomic::Ordering;

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlDeviceAttributes_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError,
    nvmlFieldValue_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlMarginTemperature_t, nvmlMemory_t,
    nvmlMemory_v2_t, nvmlPciInfo_t, nvmlProcessDetail_v1_t, nvmlProcessInfo_t, nvmlProcessUtilizationSample_t,
    nvmlReturn_t, nvmlSample_t, nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES as UTILIZATION_SAMPLES,
    nvmlSamplingType_t, nvmlUtilization_t, nvmlValue_t, nvmlValueType_t,
};

use crate::codes::{
    self, ARGUMENT_VERSION_MISMATCH, GPU_IS_LOST, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED,
    SUCCESS, TIMEOUT,
};
use crate::scenario::{Clocks, Device, Field, FieldType, NO_INSTANCE, Process, ProcessUtilization, Processes};
use crate::series::Series;
use crate::session::{self, Session, device, system};

/// Every symbol this library exports; what a scenario's `errors` and `delays_ms` may name.
pub const SYMBOLS: &[&str] = &[
    "nvmlInit_v2",
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlErrorString",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId_v2",
    "nvmlDeviceGetIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetSerial",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetPowerManagementDefaultLimit",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetDefaultApplicationsClock",
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPcieThroughput",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
];

type Answer = Result<(), nvmlReturn_t>;

/// Writes to an out parameter, which a caller may not leave null.
fn put<T>(out: Option<&mut T>, value: T) -> Answer {
    *out.ok_or(INVALID_ARGUMENT)? = value;
    Ok(())
}

/// Plays a series into an out parameter; without one the device does not support the call.
fn play(out: Option<&mut c_uint>, series: Option<&Series>, elapsed_s: f64) -> Answer {
    let out = out.ok_or(INVALID_ARGUMENT)?;
    *out = series.ok_or(NOT_SUPPORTED)?.next(elapsed_s).round() as c_uint;
    Ok(())
}

/// As [`play`], for the 64-bit readings.
fn play_long(out: Option<&mut c_ulonglong>, series: Option<&Series>, elapsed_s: f64) -> Answer {
    let out = out.ok_or(INVALID_ARGUMENT)?;
    *out = series.ok_or(NOT_SUPPORTED)?.next(elapsed_s).round() as c_ulonglong;
    Ok(())
}

/// Writes a C string of at most `room` bytes, the final zero included.
fn text(out: *mut c_char, room: c_uint, text: &str) -> Answer {
    if out.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    if text.len() >= room as usize {
        return Err(INSUFFICIENT_SIZE);
    }
    // SAFETY: `out` is valid for `room` bytes by the header's contract, and `text` with its zero fits.
    unsafe {
        std::ptr::copy_nonoverlapping(text.as_ptr().cast(), out, text.len());
        *out.add(text.len()) = 0;
    }
    Ok(())
}

/// Fills a caller's array under the protocol shared by all lists: `count` says how much fits and then how much there is.
fn list<T>(out: *mut T, count: Option<&mut c_uint>, items: Vec<T>) -> Answer {
    let count = count.ok_or(INVALID_ARGUMENT)?;
    let room = *count as usize;
    *count = items.len() as c_uint;
    if room < items.len() {
        return Err(INSUFFICIENT_SIZE);
    }
    if out.is_null() && !items.is_empty() {
        return Err(INVALID_ARGUMENT);
    }
    for (index, item) in items.into_iter().enumerate() {
        // SAFETY: `out` is not null and valid for `room` elements by the header's contract; `index` is below `room`.
        unsafe { out.add(index).write(item) };
    }
    Ok(())
}

/// The caller's C string.
fn given<'a>(text: *const c_char) -> Result<&'a str, nvmlReturn_t> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and a C string that outlives the call by the header's contract.
    unsafe { std::ffi::CStr::from_ptr(text) }.to_str().map_err(|_| INVALID_ARGUMENT)
}

fn find(session: &Session, found: impl Fn(&Device) -> bool, out: Option<&mut nvmlDevice_t>) -> Answer {
    let index = session.scenario.devices.iter().position(found).ok_or(NOT_FOUND)?;
    put(out, session.handle(index)?)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    session::init("nvmlInit_v2")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlInitWithFlags(_flags: c_uint) -> nvmlReturn_t {
    session::init("nvmlInitWithFlags")
}

#[unsafe(no_mangle)]
extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    match system("nvmlShutdown", |_| Ok(())) {
        SUCCESS => session::shutdown(),
        code => code,
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlErrorString(code: nvmlReturn_t) -> *const c_char {
    codes::name(code).as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetDriverVersion(out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    system("nvmlSystemGetDriverVersion", |session| text(out, room, &session.scenario.driver))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetNVMLVersion(out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    // NVML's own version is the CUDA major version followed by the driver's.
    system("nvmlSystemGetNVMLVersion", |session| text(out, room, &format!("13.{}", session.scenario.driver)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlSystemGetCudaDriverVersion_v2(out: Option<&mut c_int>) -> nvmlReturn_t {
    system("nvmlSystemGetCudaDriverVersion_v2", |_| put(out, 13_000))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCount_v2(out: Option<&mut c_uint>) -> nvmlReturn_t {
    system("nvmlDeviceGetCount_v2", |session| put(out, session.scenario.devices.len() as c_uint))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByIndex_v2", |session| put(out, session.handle(index as usize)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByUUID(uuid: *const c_char, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByUUID", |session| {
        let uuid = given(uuid)?;
        find(session, |device| device.uuid == uuid, out)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetHandleByPciBusId_v2(bus_id: *const c_char, out: Option<&mut nvmlDevice_t>) -> nvmlReturn_t {
    system("nvmlDeviceGetHandleByPciBusId_v2", |session| {
        let bus_id = given(bus_id)?;
        find(session, |device| device.pci.as_ref().is_some_and(|pci| pci.text.eq_ignore_ascii_case(bus_id)), out)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetIndex(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetIndex", |_, _| put(out, Session::index_of(handle)))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetName(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetName", |device, _| text(out, room, device.name.as_deref().ok_or(NOT_SUPPORTED)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUUID(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetUUID", |device, _| text(out, room, &device.uuid))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSerial(handle: nvmlDevice_t, out: *mut c_char, room: c_uint) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetSerial", |device, _| text(out, room, device.serial.as_deref().ok_or(NOT_SUPPORTED)?))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPciInfo_v3(handle: nvmlDevice_t, out: Option<&mut nvmlPciInfo_t>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetPciInfo_v3", |device, _| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        let pci = device.pci.as_ref().ok_or(NOT_SUPPORTED)?;
        (out.domain, out.bus, out.device) = (pci.domain, pci.bus, pci.device);
        // 0x10de is NVIDIA's PCI vendor id.
        (out.pciDeviceId, out.pciSubSystemId) = (0x2330_10de, 0x16c1_10de);
        text(out.busIdLegacy.as_mut_ptr(), 16, &format!("{:04X}:{:02X}:{:02X}.0", pci.domain, pci.bus, pci.device))?;
        text(out.busId.as_mut_ptr(), 32, &pci.text)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetUtilizationRates(handle: nvmlDevice_t, out: Option<&mut nvmlUtilization_t>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetUtilizationRates", |device, elapsed_s| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        let utilization = device.utilization.as_ref().ok_or(NOT_SUPPORTED)?;
        out.gpu = utilization.gpu.next(elapsed_s).round() as c_uint;
        out.memory = utilization.memory.next(elapsed_s).round() as c_uint;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo(handle: nvmlDevice_t, out: Option<&mut nvmlMemory_t>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMemoryInfo", |device, elapsed_s| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        let memory = device.memory.as_ref().ok_or(NOT_SUPPORTED)?;
        // The first version tells what is reserved as in use.
        out.total = memory.total;
        out.used = memory.reserved + memory.used.next(elapsed_s).round() as c_ulonglong;
        out.free = memory.total.saturating_sub(out.used);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMemoryInfo_v2(handle: nvmlDevice_t, out: Option<&mut nvmlMemory_v2_t>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMemoryInfo_v2", |device, elapsed_s| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        if out.version != (size_of::<nvmlMemory_v2_t>() as c_uint | 2 << 24) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let memory = device.memory.as_ref().ok_or(NOT_SUPPORTED)?;
        out.total = memory.total;
        out.reserved = memory.reserved;
        out.used = memory.used.next(elapsed_s).round() as c_ulonglong;
        out.free = memory.total.saturating_sub(memory.reserved).saturating_sub(out.used);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetPowerUsage", |device, elapsed_s| play(out, device.power_mw.as_ref(), elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEnforcedPowerLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    let symbol = "nvmlDeviceGetEnforcedPowerLimit";
    device(handle, symbol, |device, elapsed_s| play(out, device.power_limit_mw.as_ref(), elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetPowerManagementLimit", |device, elapsed_s| {
        play(out, device.power_limit_set_mw.as_ref().or(device.power_limit_mw.as_ref()), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetPowerManagementDefaultLimit", |device, elapsed_s| {
        play(out, device.power_limit_default_mw.as_ref().or(device.power_limit_mw.as_ref()), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEnergyConsumption(handle: nvmlDevice_t, out: Option<&mut c_ulonglong>) -> nvmlReturn_t {
    let symbol = "nvmlDeviceGetTotalEnergyConsumption";
    device(handle, symbol, |device, elapsed_s| play_long(out, device.energy_mj.as_ref(), elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperature(handle: nvmlDevice_t, sensor: c_uint, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetTemperature", |device, elapsed_s| match sensor {
        0 => play(out, device.temperature_c.as_ref(), elapsed_s),
        _ => Err(INVALID_ARGUMENT),
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTemperatureThreshold(
    handle: nvmlDevice_t,
    kind: c_uint,
    out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetTemperatureThreshold", |device, elapsed_s| {
        let limits = &device.temperature_limits_c;
        // In the header's order; what comes after is of cards for desktops.
        let known = [&limits.shutdown, &limits.slowdown, &limits.memory_max, &limits.gpu_max];
        play(out, known.get(kind as usize).and_then(|series| series.as_ref()), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMarginTemperature(
    handle: nvmlDevice_t,
    out: Option<&mut nvmlMarginTemperature_t>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMarginTemperature", |device, elapsed_s| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        if out.version != (size_of::<nvmlMarginTemperature_t>() as c_uint | 1 << 24) {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let margin = device.temperature_margin_c.as_ref().ok_or(NOT_SUPPORTED)?;
        out.marginTemperature = margin.next(elapsed_s).round() as c_int;
        Ok(())
    })
}

/// The clock of an `nvmlClockType_t`.
fn clock(clocks: &Clocks, kind: c_uint) -> Result<Option<&Series>, nvmlReturn_t> {
    match kind {
        0 => Ok(clocks.graphics.as_ref()),
        1 => Ok(clocks.sm.as_ref()),
        2 => Ok(clocks.memory.as_ref()),
        3 => Ok(clocks.video.as_ref()),
        _ => Err(INVALID_ARGUMENT),
    }
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(handle: nvmlDevice_t, kind: c_uint, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetClockInfo", |device, elapsed_s| play(out, clock(&device.clocks_mhz, kind)?, elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(handle: nvmlDevice_t, kind: c_uint, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMaxClockInfo", |device, elapsed_s| {
        play(out, clock(&device.max_clocks_mhz, kind)?, elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetApplicationsClock(
    handle: nvmlDevice_t,
    kind: c_uint,
    out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetApplicationsClock", |device, elapsed_s| {
        play(out, clock(&device.application_clocks_mhz, kind)?, elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDefaultApplicationsClock(
    handle: nvmlDevice_t,
    kind: c_uint,
    out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetDefaultApplicationsClock", |device, elapsed_s| {
        play(out, clock(&device.default_application_clocks_mhz, kind)?, elapsed_s)
    })
}

/// A share of time, and the period it is of.
fn play_share(
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
    series: Option<&Series>,
    elapsed_s: f64,
) -> Answer {
    put(period_us, 167_000)?;
    play(share, series, elapsed_s)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEncoderUtilization(
    handle: nvmlDevice_t,
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetEncoderUtilization", |device, elapsed_s| {
        play_share(share, period_us, device.encoder.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDecoderUtilization(
    handle: nvmlDevice_t,
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetDecoderUtilization", |device, elapsed_s| {
        play_share(share, period_us, device.decoder.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetCurrPcieLinkGeneration", |device, elapsed_s| {
        play(out, device.pcie.generation.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkWidth(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetCurrPcieLinkWidth", |device, elapsed_s| {
        play(out, device.pcie.width.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkGeneration(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMaxPcieLinkGeneration", |device, elapsed_s| {
        play(out, device.pcie.max_generation.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkWidth(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMaxPcieLinkWidth", |device, elapsed_s| {
        play(out, device.pcie.max_width.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    handle: nvmlDevice_t,
    out: Option<&mut c_ulonglong>,
) -> nvmlReturn_t {
    let symbol = "nvmlDeviceGetCurrentClocksThrottleReasons";
    device(handle, symbol, |device, elapsed_s| play_long(out, device.throttle_reasons.as_ref(), elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(
    handle: nvmlDevice_t,
    out: Option<&mut c_ulonglong>,
) -> nvmlReturn_t {
    let symbol = "nvmlDeviceGetCurrentClocksEventReasons";
    device(handle, symbol, |device, elapsed_s| play_long(out, device.throttle_reasons.as_ref(), elapsed_s))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPerformanceState(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    let symbol = "nvmlDeviceGetPerformanceState";
    device(handle, symbol, |device, elapsed_s| play(out, device.performance_state.as_ref(), elapsed_s))
}

/// The lists of processes differ in which key they play, and in the rows that they write.
fn processes(
    handle: nvmlDevice_t,
    symbol: &'static str,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
    which: fn(&Processes) -> &[Process],
) -> nvmlReturn_t {
    device(handle, symbol, |device, _| {
        let processes = which(device.processes.as_ref().ok_or(NOT_SUPPORTED)?);
        let entry = |process: &Process| nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.used.unwrap_or(u64::MAX),
            gpuInstanceId: process.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: process.gpu_instance.map_or(NO_INSTANCE, |_| 0),
        };
        let entries = processes.iter().map(entry);
        if symbol.ends_with("_v3") && session::writes_long_rows() {
            let long = |row: nvmlProcessInfo_t| nvmlProcessDetail_v1_t {
                pid: row.pid,
                usedGpuMemory: row.usedGpuMemory,
                gpuInstanceId: row.gpuInstanceId,
                computeInstanceId: row.computeInstanceId,
                usedGpuCcProtectedMemory: 0,
            };
            return list(out.cast(), count, entries.map(long).collect());
        }
        list(out, count, entries.collect())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetComputeRunningProcesses_v2", count, out, |processes| &processes.compute)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetGraphicsRunningProcesses_v2", count, out, |processes| &processes.graphics)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetMPSComputeRunningProcesses_v2", count, out, |processes| &processes.mps)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetComputeRunningProcesses_v3", count, out, |processes| &processes.compute)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetGraphicsRunningProcesses_v3", count, out, |processes| &processes.graphics)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetMPSComputeRunningProcesses_v3", count, out, |processes| &processes.mps)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    handle: nvmlDevice_t,
    out: *mut nvmlProcessUtilizationSample_t,
    count: Option<&mut c_uint>,
    since_us: c_ulonglong,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetProcessUtilization", |device, elapsed_s| {
        let samples = device.process_utilization.as_ref().ok_or(NOT_SUPPORTED)?;
        let taken = samples.iter().map(|sample| (sample, sample.timestamp_us.next(elapsed_s).round() as c_ulonglong));
        let newer: Vec<_> = taken.filter(|(_, taken_us)| *taken_us > since_us).collect();
        if newer.is_empty() {
            return Err(NOT_FOUND);
        }
        // What only the length was asked of takes no step.
        let fits = !out.is_null() && count.as_ref().is_some_and(|room| **room as usize >= newer.len());
        let entry = |(sample, taken_us): (&ProcessUtilization, c_ulonglong)| nvmlProcessUtilizationSample_t {
            pid: sample.pid,
            timeStamp: taken_us,
            smUtil: if fits { sample.sm.next(elapsed_s).round() as c_uint } else { 0 },
            memUtil: sample.memory,
            encUtil: sample.encoder,
            decUtil: sample.decoder,
        };
        list(out, count, newer.into_iter().map(entry).collect())
    })
}

/// Samples of utilisation that a driver keeps.
const SAMPLES_KEPT: u64 = 120;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSamples(
    handle: nvmlDevice_t,
    kind: nvmlSamplingType_t,
    since_us: c_ulonglong,
    value_type: Option<&mut nvmlValueType_t>,
    count: Option<&mut c_uint>,
    out: *mut nvmlSample_t,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetSamples", |device, elapsed_s| {
        let samples =
            device.utilization_samples.as_ref().filter(|_| kind == UTILIZATION_SAMPLES).ok_or(NOT_SUPPORTED)?;
        let count = count.ok_or(INVALID_ARGUMENT)?;
        put(value_type, FieldType::UnsignedInt as nvmlValueType_t)?;
        if out.is_null() {
            return put(Some(count), SAMPLES_KEPT as c_uint);
        }
        let (now_us, period_us) = (session::wall_us(), u64::from(samples.period_ms.get()) * 1000);
        let began_us = now_us - (elapsed_s * 1e6) as u64;
        let newest = now_us / period_us;
        let newer: Vec<_> = (newest.saturating_sub(SAMPLES_KEPT - 1)..=newest)
            .map(|number| number * period_us)
            .filter(|taken_us| *taken_us > since_us && *taken_us >= began_us)
            .map(|taken_us| {
                let percent = samples.percent.next((taken_us - began_us) as f64 / 1e6).round() as c_uint;
                nvmlSample_t { timeStamp: taken_us, sampleValue: nvmlValue_t { ullVal: percent.into() } }
            })
            .take(*count as usize)
            .collect();
        if newer.is_empty() { Err(NOT_FOUND) } else { list(out, Some(count), newer) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetFieldValues(
    handle: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetFieldValues", |device, elapsed_s| {
        let count = usize::try_from(count).map_err(|_| INVALID_ARGUMENT)?;
        if values.is_null() {
            return Err(INVALID_ARGUMENT);
        }
        // SAFETY: not null, and valid for `count` initialised elements by the header's contract.
        let asked = unsafe { std::slice::from_raw_parts_mut(values, count) };
        for value in asked {
            value.timestamp = (elapsed_s * 1e6) as c_longlong;
            match device.fields.iter().find(|field| field.id == value.fieldId && field.scope == value.scopeId) {
                Some(field) => {
                    (value.valueType, value.value) = field_value(field, elapsed_s);
                    value.nvmlReturn = SUCCESS;
                }
                None => value.nvmlReturn = NOT_SUPPORTED,
            }
        }
        Ok(())
    })
}

fn field_value(field: &Field, elapsed_s: f64) -> (c_uint, nvmlValue_t) {
    let value = field.value.next(elapsed_s);
    let whole = value.round();
    // Written whole, so that the bytes beyond a short value are zero rather than the caller's.
    let mut out = nvmlValue_t { ullVal: 0 };
    match field.kind {
        FieldType::Double => out.dVal = value,
        FieldType::UnsignedInt => out.uiVal = whole as _,
        FieldType::UnsignedLong => out.ulVal = whole as _,
        FieldType::UnsignedLongLong => out.ullVal = whole as _,
        FieldType::SignedLongLong => out.sllVal = whole as _,
        FieldType::SignedInt => out.siVal = whole as _,
        FieldType::UnsignedShort => out.usVal = whole as _,
    }
    (field.kind as c_uint, out)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPcieThroughput(
    handle: nvmlDevice_t,
    _counter: c_uint,
    _out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    // Here so that a call log can prove that nobody makes this call, which blocks a real caller for 20 ms.
    device(handle, "nvmlDeviceGetPcieThroughput", |_, _| Err(NOT_SUPPORTED))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigMode(
    handle: nvmlDevice_t,
    current: Option<&mut c_uint>,
    pending: Option<&mut c_uint>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMigMode", |device, _| {
        device.mig.as_ref().ok_or(NOT_SUPPORTED)?;
        put(current, 1)?;
        put(pending, 1)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxMigDeviceCount(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetMaxMigDeviceCount", |device, _| {
        put(out, device.mig.as_ref().map_or(0, |mig| mig.instances.len()) as c_uint)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    handle: nvmlDevice_t,
    index: c_uint,
    out: Option<&mut nvmlDevice_t>,
) -> nvmlReturn_t {
    session::instance(handle, "nvmlDeviceGetMigDeviceHandleByIndex", index as usize, |instance| put(out, instance))
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetAttributes_v2(
    handle: nvmlDevice_t,
    out: Option<&mut nvmlDeviceAttributes_t>,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetAttributes_v2", |device, _| {
        let out = out.ok_or(INVALID_ARGUMENT)?;
        let attributes = device.attributes.as_ref().ok_or(NOT_SUPPORTED)?;
        out.gpuInstanceSliceCount = attributes.slices;
        out.computeInstanceSliceCount = attributes.compute_slices;
        out.memorySizeMB = attributes.memory_mb;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGpuInstanceId(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetGpuInstanceId", |device, _| {
        let slot = Session::slot_of(handle).ok_or(INVALID_ARGUMENT)?;
        put(out, device.gpu_instance(slot))
    })
}

/// What a set of events holds: the devices that are in it, and how many of the errors of each were told.
#[derive(Default)]
struct EventSet {
    devices: Vec<(nvmlDevice_t, usize)>,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetCreate(out: Option<&mut nvmlEventSet_t>) -> nvmlReturn_t {
    system("nvmlEventSetCreate", |_| put(out, Box::into_raw(Box::<EventSet>::default()).cast()))
}

/// The caller's set.
fn event_set<'a>(set: nvmlEventSet_t) -> Result<&'a mut EventSet, nvmlReturn_t> {
    // SAFETY: null, or from `nvmlEventSetCreate` and used by one thread at a time, by the header's contract.
    unsafe { set.cast::<EventSet>().as_mut() }.ok_or(INVALID_ARGUMENT)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceRegisterEvents(handle: nvmlDevice_t, types: c_ulonglong, set: nvmlEventSet_t) -> nvmlReturn_t {
    device(handle, "nvmlDeviceRegisterEvents", |device, elapsed_s| {
        let set = event_set(set)?;
        if device.xids.is_none() || types & u64::from(nvmlEventTypeXidCriticalError) == 0 {
            return Err(NOT_SUPPORTED);
        }
        let is_first = !device.is_listened_to.swap(true, Ordering::Relaxed);
        let before = device.xids.iter().flatten().take_while(|xid| !is_first && xid.second <= elapsed_s);
        let missed = before.count();
        set.devices.push((handle, missed));
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetWait_v2(
    set: nvmlEventSet_t,
    out: Option<&mut nvmlEventData_t>,
    timeout_ms: c_uint,
) -> nvmlReturn_t {
    system("nvmlEventSetWait_v2", |session| {
        let (set, out) = (event_set(set)?, out.ok_or(INVALID_ARGUMENT)?);
        if set.devices.iter().any(|(handle, _)| session.is_lost(Session::index_of(*handle) as usize)) {
            return Err(GPU_IS_LOST);
        }
        for (handle, told) in &mut set.devices {
            let device = session.scenario.devices.get(Session::index_of(*handle) as usize).ok_or(INVALID_ARGUMENT)?;
            let next = device.xids.iter().flatten().nth(*told).filter(|xid| xid.second <= session.elapsed_s());
            if let Some(xid) = next {
                *told += 1;
                *out = nvmlEventData_t {
                    device: *handle,
                    eventType: u64::from(nvmlEventTypeXidCriticalError),
                    eventData: xid.code,
                    gpuInstanceId: xid.instance.0,
                    computeInstanceId: xid.instance.1,
                };
                return Ok(());
            }
        }
        std::thread::sleep(std::time::Duration::from_millis(timeout_ms.into()));
        Err(TIMEOUT)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlEventSetFree(set: nvmlEventSet_t) -> nvmlReturn_t {
    if set.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, from `nvmlEventSetCreate`, and freed once, by the header's contract.
    drop(unsafe { Box::from_raw(set.cast::<EventSet>()) });
    SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmQueryDeviceSupport(handle: nvmlDevice_t, out: Option<&mut nvmlGpmSupport_t>) -> nvmlReturn_t {
    device(handle, "nvmlGpmQueryDeviceSupport", |device, _| {
        whole(handle)?;
        let out = out.ok_or(INVALID_ARGUMENT)?;
        if out.version != 1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let of_instances = device.mig.iter().flat_map(|mig| mig.instances.iter().flatten());
        let supports = !device.gpm.is_empty() || of_instances.into_iter().any(|instance| !instance.gpm.is_empty());
        out.isSupportedDevice = c_uint::from(supports);
        Ok(())
    })
}

/// GPM is asked for with a GPU's handle: with an instance's a real driver has been seen to break that handle.
fn whole(handle: nvmlDevice_t) -> Answer {
    if Session::slot_of(handle).is_some() { Err(INVALID_ARGUMENT) } else { Ok(()) }
}

/// What a sample of GPM's holds: whose it is, and when it was taken.
struct GpmSample {
    device: nvmlDevice_t,
    taken_s: f64,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(out: Option<&mut nvmlGpmSample_t>) -> nvmlReturn_t {
    system("nvmlGpmSampleAlloc", |_| {
        let sample = Box::new(GpmSample { device: std::ptr::null_mut(), taken_s: f64::NAN });
        put(out, Box::into_raw(sample).cast())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    if sample.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, from `nvmlGpmSampleAlloc`, and freed once, by the header's contract.
    drop(unsafe { Box::from_raw(sample.cast::<GpmSample>()) });
    SUCCESS
}

/// The caller's sample.
fn sample<'a>(sample: nvmlGpmSample_t) -> Result<&'a mut GpmSample, nvmlReturn_t> {
    // SAFETY: null, or from `nvmlGpmSampleAlloc` and used by one thread at a time, by the header's contract.
    unsafe { sample.cast::<GpmSample>().as_mut() }.ok_or(INVALID_ARGUMENT)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleGet(handle: nvmlDevice_t, out: nvmlGpmSample_t) -> nvmlReturn_t {
    device(handle, "nvmlGpmSampleGet", |device, elapsed_s| {
        whole(handle)?;
        if device.gpm.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        *sample(out)? = GpmSample { device: handle, taken_s: elapsed_s };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(handle: nvmlDevice_t, id: c_uint, out: nvmlGpmSample_t) -> nvmlReturn_t {
    session::instance_of_id(handle, "nvmlGpmMigSampleGet", id, |handle, instance, elapsed_s| {
        if instance.gpm.is_empty() {
            return Err(NOT_SUPPORTED);
        }
        *sample(out)? = GpmSample { device: handle, taken_s: elapsed_s };
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMetricsGet(asked: Option<&mut nvmlGpmMetricsGet_t>) -> nvmlReturn_t {
    let Some(asked) = asked else { return INVALID_ARGUMENT };
    let (Ok(older), Ok(newer)) = (sample(asked.sample1), sample(asked.sample2)) else { return INVALID_ARGUMENT };
    if older.device != newer.device {
        return INVALID_ARGUMENT;
    }
    device(newer.device, "nvmlGpmMetricsGet", |device, _| {
        if asked.version != 1 {
            return Err(ARGUMENT_VERSION_MISMATCH);
        }
        let count = asked.numMetrics as usize;
        for metric in asked.metrics.get_mut(..count).ok_or(INVALID_ARGUMENT)? {
            match device.gpm.get(&metric.metricId) {
                Some(series) => {
                    // Without a refresh of the counters between them, both samples are the same.
                    let until = device.gpm_until_s.unwrap_or(f64::INFINITY);
                    let refresh = |sample: &GpmSample| (sample.taken_s.min(until) / 0.1).floor();
                    let valid = refresh(newer) > refresh(older);
                    metric.value = if valid { series.next(newer.taken_s) } else { f64::NAN };
                    metric.nvmlReturn = SUCCESS;
                }
                None => metric.nvmlReturn = NOT_SUPPORTED,
            }
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exported_function_is_in_symbols() {
        let source = include_str!("exports.rs");
        let mut functions = Vec::new();
        for line in source.lines() {
            if let Some(rest) = line.strip_prefix("extern \"C\" fn ") {
                functions.push(rest.split('(').next().unwrap_or(rest));
            }
        }
        assert!(!functions.is_empty());
        assert_eq!(functions, SYMBOLS, "list the function in SYMBOLS, in the order of the file");
    }
}
