//! NVML's return codes and their names, which scenarios may use in place of numbers.

use std::ffi::CStr;

use nvml_wrapper_sys::bindings::nvmlReturn_t;

pub(crate) const SUCCESS: nvmlReturn_t = 0;
pub(crate) const UNINITIALIZED: nvmlReturn_t = 1;
pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
pub(crate) const TIMEOUT: nvmlReturn_t = 10;
pub(crate) const GPU_IS_LOST: nvmlReturn_t = 15;
pub(crate) const ARGUMENT_VERSION_MISMATCH: nvmlReturn_t = 25;
pub(crate) const UNKNOWN: nvmlReturn_t = 999;

/// Every code of the CUDA 13 header with its name, less the `NVML_ERROR_` prefix.
const CODES: &[(nvmlReturn_t, &CStr)] = &[
    (SUCCESS, c"SUCCESS"),
    (UNINITIALIZED, c"UNINITIALIZED"),
    (INVALID_ARGUMENT, c"INVALID_ARGUMENT"),
    (NOT_SUPPORTED, c"NOT_SUPPORTED"),
    (4, c"NO_PERMISSION"),
    (5, c"ALREADY_INITIALIZED"),
    (NOT_FOUND, c"NOT_FOUND"),
    (INSUFFICIENT_SIZE, c"INSUFFICIENT_SIZE"),
    (8, c"INSUFFICIENT_POWER"),
    (9, c"DRIVER_NOT_LOADED"),
    (TIMEOUT, c"TIMEOUT"),
    (11, c"IRQ_ISSUE"),
    (12, c"LIBRARY_NOT_FOUND"),
    (13, c"FUNCTION_NOT_FOUND"),
    (14, c"CORRUPTED_INFOROM"),
    (GPU_IS_LOST, c"GPU_IS_LOST"),
    (16, c"RESET_REQUIRED"),
    (17, c"OPERATING_SYSTEM"),
    (18, c"LIB_RM_VERSION_MISMATCH"),
    (19, c"IN_USE"),
    (20, c"MEMORY"),
    (21, c"NO_DATA"),
    (22, c"VGPU_ECC_NOT_SUPPORTED"),
    (23, c"INSUFFICIENT_RESOURCES"),
    (24, c"FREQ_NOT_SUPPORTED"),
    (ARGUMENT_VERSION_MISMATCH, c"ARGUMENT_VERSION_MISMATCH"),
    (26, c"DEPRECATED"),
    (27, c"NOT_READY"),
    (28, c"GPU_NOT_FOUND"),
    (29, c"INVALID_STATE"),
    (30, c"RESET_TYPE_NOT_SUPPORTED"),
    (UNKNOWN, c"UNKNOWN"),
];

/// The code that bears `name`.
pub(crate) fn by_name(name: &str) -> Option<nvmlReturn_t> {
    CODES.iter().find(|(_, known)| known.to_bytes() == name.as_bytes()).map(|(code, _)| *code)
}

/// The name of `code`, as `nvmlErrorString` answers it.
pub(crate) fn name(code: nvmlReturn_t) -> &'static CStr {
    CODES.iter().find(|(known, _)| *known == code).map_or(c"UNKNOWN", |(_, name)| name)
}
