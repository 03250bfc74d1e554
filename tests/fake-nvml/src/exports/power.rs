//! What a device draws, and what it may.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::arguments::gauge;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerUsage(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetPowerUsage", out, |device| device.power_mw.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetEnforcedPowerLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetEnforcedPowerLimit", out, |device| device.power_limit_mw.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetPowerManagementLimit", out, |device| {
        device.power_limit_set_mw.as_ref().or(device.power_limit_mw.as_ref())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetPowerManagementDefaultLimit(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetPowerManagementDefaultLimit", out, |device| {
        device.power_limit_default_mw.as_ref().or(device.power_limit_mw.as_ref())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetTotalEnergyConsumption(handle: nvmlDevice_t, out: Option<&mut c_ulonglong>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetTotalEnergyConsumption", out, |device| device.energy_mj.as_ref())
}
