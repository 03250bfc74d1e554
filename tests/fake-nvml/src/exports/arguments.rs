//! What callers pass, and how answers get into it: the same for all symbols.

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};

use crate::codes::{ARGUMENT_VERSION_MISMATCH, INSUFFICIENT_SIZE, INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS};
use crate::scenario::Device;
use crate::series::Series;
use crate::session;

pub(super) type Answer = Result<(), nvmlReturn_t>;

/// Writes to an out parameter, which a caller may not leave null.
pub(super) fn put<T>(out: Option<&mut T>, value: T) -> Answer {
    *out.ok_or(INVALID_ARGUMENT)? = value;
    Ok(())
}

/// Plays a series into an out parameter; without one the device does not support the call.
pub(super) fn play<T: Whole>(out: Option<&mut T>, series: Option<&Series>, elapsed_s: f64) -> Answer {
    let out = out.ok_or(INVALID_ARGUMENT)?;
    *out = T::nearest(series.ok_or(NOT_SUPPORTED)?.next(elapsed_s));
    Ok(())
}

/// A type of NVML's readings, which are whole numbers. Only `as` makes one of any float, and it wants each type by its name.
pub(super) trait Whole {
    fn nearest(value: f64) -> Self;
}

impl Whole for c_uint {
    fn nearest(value: f64) -> Self {
        value.round() as Self
    }
}

impl Whole for c_int {
    fn nearest(value: f64) -> Self {
        value.round() as Self
    }
}

impl Whole for c_ulonglong {
    fn nearest(value: f64) -> Self {
        value.round() as Self
    }
}

/// Answers a call that asks a device for one number alone, and plays one series.
pub(super) fn gauge<T: Whole>(
    handle: nvmlDevice_t,
    symbol: &'static str,
    out: Option<&mut T>,
    series: fn(&Device) -> Option<&Series>,
) -> nvmlReturn_t {
    session::device(handle, symbol, |device, elapsed_s| play(out, series(device), elapsed_s))
}

/// Writes a C string of at most `room` bytes, the final zero included.
pub(super) fn text(out: *mut c_char, room: c_uint, text: &str) -> Answer {
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
pub(super) fn list<T>(out: *mut T, count: Option<&mut c_uint>, items: Vec<T>) -> Answer {
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
pub(super) fn given<'a>(text: *const c_char) -> Result<&'a str, nvmlReturn_t> {
    if text.is_null() {
        return Err(INVALID_ARGUMENT);
    }
    // SAFETY: not null, and a C string that outlives the call by the header's contract.
    unsafe { CStr::from_ptr(text) }.to_str().map_err(|_| INVALID_ARGUMENT)
}

/// Refuses a struct whose version, as the caller gives it, is not the one that is known here.
pub(super) fn same_version(given: c_uint, known: c_uint) -> Answer {
    if given == known { Ok(()) } else { Err(ARGUMENT_VERSION_MISMATCH) }
}

/// The version of most of NVML's structs: their number with their size below it.
pub(super) const fn version_of<T>(number: c_uint) -> c_uint {
    size_of::<T>() as c_uint | number << 24
}

/// What the caller holds of this library's by a pointer that it cannot look behind.
pub(super) fn held<'a, T>(pointer: *mut T) -> Result<&'a mut T, nvmlReturn_t> {
    // SAFETY: null, or from the symbol that makes a `T`, and used by one thread at a time, by the header's contract.
    unsafe { pointer.as_mut() }.ok_or(INVALID_ARGUMENT)
}

/// Takes back what the caller held.
pub(super) fn free<T>(pointer: *mut T) -> nvmlReturn_t {
    if pointer.is_null() {
        return INVALID_ARGUMENT;
    }
    // SAFETY: not null, from the symbol that makes a `T`, and freed once, by the header's contract.
    drop(unsafe { Box::from_raw(pointer) });
    SUCCESS
}
