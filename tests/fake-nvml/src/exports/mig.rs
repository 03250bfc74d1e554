//! A device that is cut into instances.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlDeviceAttributes_t, nvmlReturn_t};

use super::arguments::put;
use crate::codes::{INVALID_ARGUMENT, NOT_SUPPORTED};
use crate::session::{self, Session, device};

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
