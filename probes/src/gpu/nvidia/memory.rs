//! How much memory a device has, by the newest call that its driver knows.

use nvml_wrapper::Device;
use nvml_wrapper::error::{NvmlError, nvml_sym, nvml_try};
use nvml_wrapper_sys::bindings::nvmlMemory_t;
use perfwatch_model::Reason;

/// Why it is not known what driver and firmware keep for themselves.
pub(super) const NOT_APART: Reason = Reason::fixed(
    "the driver does not tell what it keeps of the memory for itself: that is in what is in use",
    "update the NVIDIA driver: from 510 on it is told apart",
);

/// In bytes.
pub(super) struct Memory {
    pub(super) total: u64,
    /// Without what is reserved, where that is told.
    pub(super) used: u64,
    pub(super) reserved: Option<u64>,
}

/// The name of the call, which drivers before 510 have only in its first version.
pub(super) fn call(device: &Device<'_>) -> &'static str {
    let lib = device.nvml().lib();
    match (&lib.nvmlDeviceGetMemoryInfo_v2, &lib.nvmlDeviceGetMemoryInfo) {
        (Err(_), Ok(_)) => "nvmlDeviceGetMemoryInfo",
        _ => "nvmlDeviceGetMemoryInfo_v2",
    }
}

/// Makes the call.
#[allow(unsafe_code, reason = "the wrapper offers the call in its second version alone")]
pub(super) fn ask(device: &Device<'_>) -> Result<Memory, NvmlError> {
    let lib = device.nvml().lib();
    if lib.nvmlDeviceGetMemoryInfo_v2.is_ok() || lib.nvmlDeviceGetMemoryInfo.is_err() {
        let memory = device.memory_info()?;
        return Ok(Memory { total: memory.total, used: memory.used, reserved: Some(memory.reserved) });
    }
    let first = nvml_sym(lib.nvmlDeviceGetMemoryInfo.as_ref())?;
    let mut memory = nvmlMemory_t { total: 0, free: 0, used: 0 };
    // SAFETY: the device is one of this library's, and `memory` a valid place for the answer.
    nvml_try(unsafe { first(device.handle(), &raw mut memory) })?;
    Ok(Memory { total: memory.total, used: memory.used, reserved: None })
}
