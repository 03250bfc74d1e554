//! The link between a device and its host.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use super::arguments::gauge;
use crate::codes::NOT_SUPPORTED;
use crate::session::device;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkGeneration(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetCurrPcieLinkGeneration", out, |device| device.pcie.generation.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetCurrPcieLinkWidth(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetCurrPcieLinkWidth", out, |device| device.pcie.width.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkGeneration(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetMaxPcieLinkGeneration", out, |device| device.pcie.max_generation.as_ref())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMaxPcieLinkWidth(handle: nvmlDevice_t, out: Option<&mut c_uint>) -> nvmlReturn_t {
    gauge(handle, "nvmlDeviceGetMaxPcieLinkWidth", out, |device| device.pcie.max_width.as_ref())
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
