//! The beginning and the end, and what is asked of the driver as a whole.

use std::ffi::{c_char, c_int, c_uint};

use nvml_wrapper_sys::bindings::nvmlReturn_t;

use super::arguments::{put, text};
use crate::codes::{self, SUCCESS};
use crate::session::{self, system};

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
