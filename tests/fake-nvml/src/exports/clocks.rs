//! How fast a device's clocks run, and what holds them down.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::arguments::{gauge, play};
use crate::codes::INVALID_ARGUMENT;
use crate::scenario::{Clocks, Device};
use crate::session::device;

/// The calls for a clock differ in which clocks they ask for; `kind` says which one of those.
fn clock(
    handle: nvmlDevice_t,
    symbol: &'static str,
    kind: c_uint,
    out: Option<&mut c_uint>,
    which: fn(&Device) -> &Clocks,
) -> nvmlReturn_t {
    device(handle, symbol, |device, elapsed_s| {
        let clocks = which(device);
        // In the order of `nvmlClockType_t`.
        let known = [&clocks.graphics, &clocks.sm, &clocks.memory, &clocks.video];
        let series = known.get(kind as usize).ok_or(INVALID_ARGUMENT)?;
        play(out, series.as_ref(), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetClockInfo(handle: nvmlDevice_t, kind: c_uint, out: Option<&mut c_uint>) -> nvmlReturn_t {
    clock(handle, "nvmlDeviceGetClockInfo", kind, out, |device| &device.clocks_mhz)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxClockInfo(handle: nvmlDevice_t, kind: c_uint, out: Option<&mut c_uint>) -> nvmlReturn_t {
    clock(handle, "nvmlDeviceGetMaxClockInfo", kind, out, |device| &device.max_clocks_mhz)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetApplicationsClock(
    handle: nvmlDevice_t,
    kind: c_uint,
    out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    clock(handle, "nvmlDeviceGetApplicationsClock", kind, out, |device| &device.application_clocks_mhz)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDefaultApplicationsClock(
    handle: nvmlDevice_t,
    kind: c_uint,
    out: Option<&mut c_uint>,
) -> nvmlReturn_t {
    clock(handle, "nvmlDeviceGetDefaultApplicationsClock", kind, out, |device| &device.default_application_clocks_mhz)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksThrottleReasons(
    handle: nvmlDevice_t,
    out: Option<&mut c_ulonglong>,
) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetCurrentClocksThrottleReasons", out, |device| device.throttle_reasons.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrentClocksEventReasons(
    handle: nvmlDevice_t,
    out: Option<&mut c_ulonglong>,
) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetCurrentClocksEventReasons", out, |device| device.throttle_reasons.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPerformanceState(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetPerformanceState", out, |device| device.performance_state.as_ref())
}
