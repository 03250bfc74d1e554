//! How busy a device is, and how full its memory.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlMemory_t, nvmlMemory_v2_t, nvmlReturn_t, nvmlUtilization_t};

use super::arguments::{play, put, same_version, version_of};
use crate::codes::{INVALID_ARGUMENT, NOT_SUPPORTED};
use crate::scenario::Device;
use crate::series::Series;
use crate::session::device;

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

/// A share of time is told with the period that it is of.
fn with_period(
    handle: nvmlDevice_t,
    symbol: &'static str,
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
    series: fn(&Device) -> Option<&Series>,
) -> nvmlReturn_t {
    device(handle, symbol, |device, elapsed_s| {
        put(period_us, 167_000)?;
        play(share, series(device), elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEncoderUtilization(
    handle: nvmlDevice_t,
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
) -> nvmlReturn_t {
    with_period(handle, "nvmlDeviceGetEncoderUtilization", share, period_us, |device| device.encoder.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetDecoderUtilization(
    handle: nvmlDevice_t,
    share: Option<&mut c_uint>,
    period_us: Option<&mut c_uint>,
) -> nvmlReturn_t {
    with_period(handle, "nvmlDeviceGetDecoderUtilization", share, period_us, |device| device.decoder.as_ref())
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
        same_version(out.version, version_of::<nvmlMemory_v2_t>(2))?;
        let memory = device.memory.as_ref().ok_or(NOT_SUPPORTED)?;
        out.total = memory.total;
        out.reserved = memory.reserved;
        out.used = memory.used.next(elapsed_s).round() as c_ulonglong;
        out.free = memory.total.saturating_sub(memory.reserved).saturating_sub(out.used);
        Ok(())
    })
}
