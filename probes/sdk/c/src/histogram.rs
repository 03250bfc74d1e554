//! A distribution of the server's own.

use std::ffi::c_char;

use perfwatch_sdk::{Histogram, Unit};

use crate::border::{give, guard, take, text};
use crate::server::perfwatch_server;
use crate::vocabulary;

/// A handle to record values into one distribution of a server. Any thread may use it.
pub struct perfwatch_histogram(Histogram);

/// A handle to a distribution of the server's own, as `llm.prompt_length`. Get it once, record often. The same name gives
/// the same distribution, and the unit given first holds. `unit` is a `perfwatch_unit`. Null if `server` or `name` is. There
/// is room for 236 names; the handle of a further one records nothing, and the agent is told that it was asked for.
///
/// Release it with `perfwatch_histogram_free`.
///
/// # Safety
/// `server` is null or a live server; `name` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_histogram_new(
    server: *const perfwatch_server,
    name: *const c_char,
    unit: u8,
) -> *mut perfwatch_histogram {
    guard(std::ptr::null_mut(), || {
        // SAFETY: promised by the caller.
        let (Some(server), Some(name)) = (unsafe { (server.as_ref(), text(name)) }) else {
            return std::ptr::null_mut();
        };
        let unit: Unit = vocabulary::unit(unit);
        give(perfwatch_histogram(server.0.histogram(&name, unit)))
    })
}

/// Records one value, in the unit of the histogram (time: nanoseconds). Never blocks; allocates only on a thread's first
/// value in an octave (a factor of two). Values above 3.6e12 (one hour) are counted as that, while the sum stays exact.
///
/// # Safety
/// `histogram` is null or a live handle.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_histogram_record(histogram: *const perfwatch_histogram, value: u64) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(histogram) = unsafe { histogram.as_ref() } {
            histogram.0.record(value);
        }
    });
}

/// Releases the handle. What it recorded stays recorded.
///
/// # Safety
/// `histogram` is null or a live handle, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_histogram_free(histogram: *mut perfwatch_histogram) {
    guard((), || {
        // SAFETY: promised by the caller.
        let _ = unsafe { take(histogram) };
    });
}
