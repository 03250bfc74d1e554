//! How warm a device is, and may become.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlMarginTemperature_t, nvmlReturn_t};

use super::arguments::{play, same_version, version_of};
use crate::codes::INVALID_ARGUMENT;
use crate::session::device;

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
        same_version(out.version, version_of::<nvmlMarginTemperature_t>(1))?;
        play(Some(&mut out.marginTemperature), device.temperature_margin_c.as_ref(), elapsed_s)
    })
}
