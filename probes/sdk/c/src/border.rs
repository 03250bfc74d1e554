//! Where values cross from C to Rust and back.

use std::borrow::Cow;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs `work`; should it panic, the caller gets `otherwise` and never learns: unwinding into C is undefined, and a
/// measurement is not worth a server. The panic's message has been printed by then.
#[inline]
pub(crate) fn guard<T>(otherwise: T, work: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(otherwise)
}

/// Moves a value to where C can hold it.
pub(crate) fn give<T>(value: T) -> *mut T {
    Box::into_raw(Box::new(value))
}

/// Takes back what [`give`] gave; `None` for null.
///
/// # Safety
/// `handle` is null or was made by [`give`] and not taken back yet.
#[allow(unsafe_code, reason = "a handle is a pointer")]
pub(crate) unsafe fn take<T>(handle: *mut T) -> Option<T> {
    // SAFETY: promised by the caller.
    (!handle.is_null()).then(|| *unsafe { Box::from_raw(handle) })
}

/// A string from C, with replacement characters for what is not UTF-8; `None` for null.
///
/// # Safety
/// `text` is null or points to a null-terminated string that outlives the answer.
#[allow(unsafe_code, reason = "a string is a pointer")]
pub(crate) unsafe fn text<'a>(text: *const c_char) -> Option<Cow<'a, str>> {
    // SAFETY: promised by the caller.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_does_not_cross_the_border() {
        assert_eq!(guard(7, || panic!("on purpose")), 7);
        assert_eq!(guard(7, || 8), 8);
    }

    #[test]
    #[allow(unsafe_code, reason = "the functions under test are unsafe")]
    fn what_is_given_is_taken_back_once_and_null_is_nothing() {
        let handle = give(String::from("x"));
        // SAFETY: made by `give` just now.
        assert_eq!(unsafe { take(handle) }.as_deref(), Some("x"));
        // SAFETY: null is allowed.
        assert_eq!(unsafe { take(std::ptr::null_mut::<String>()) }, None);
    }

    #[test]
    #[allow(unsafe_code, reason = "the function under test is unsafe")]
    fn a_string_that_is_not_utf_8_is_repaired() {
        // SAFETY: a literal with its null; null is allowed.
        let (broken, none) = unsafe { (text(c"a\xffb".as_ptr()), text(std::ptr::null())) };
        assert_eq!(broken.as_deref(), Some("a\u{fffd}b"));
        assert_eq!(none, None);
    }
}
