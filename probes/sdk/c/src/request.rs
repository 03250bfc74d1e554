//! One request's life, from arrival to its end.

use std::ffi::c_char;

use perfwatch_sdk::Request;

use crate::border::{give, guard, take, text};
use crate::server::perfwatch_server;
use crate::vocabulary;

/// A request that is inside the server, in exactly one stage at any instant. One thread at a time may use it.
pub struct perfwatch_request(Request);

/// A request arrived; it is in stage `other` until it enters another. End it with `perfwatch_request_finish`, `_fail`,
/// `_fail_with`, `_cancel` or `_abandon`. Null if `server` is.
///
/// # Safety
/// `server` is null or a live server. The request may outlive it.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_begin(server: *const perfwatch_server) -> *mut perfwatch_request {
    guard(std::ptr::null_mut(), || {
        // SAFETY: promised by the caller.
        let server = unsafe { server.as_ref() };
        server.map_or(std::ptr::null_mut(), |server| give(perfwatch_request(server.0.request())))
    })
}

/// Goes to another stage, and so out of the present one. `stage` is a `perfwatch_stage` or the answer of
/// `perfwatch_server_stage`; any other number means `other`.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_enter(request: *mut perfwatch_request, stage: u8) {
    // SAFETY: promised by the caller.
    unsafe { with(request, |request| request.enter(vocabulary::stage(stage))) }
}

/// One more token was generated. The first one gives the time to first token (since the request's arrival), each later one
/// the time since the one before.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_token(request: *mut perfwatch_request) {
    // SAFETY: promised by the caller.
    unsafe { with(request, Request::token) }
}

/// A step of the stream brought this many tokens: one time is recorded for the step, and all tokens are counted. A step of
/// 0 tokens is none.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_tokens(request: *mut perfwatch_request, count: u32) {
    // SAFETY: promised by the caller.
    unsafe { with(request, |request| request.tokens(count)) }
}

/// Says how many tokens the prompt has. Said again, only what is more than before counts.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_prompt_tokens(request: *mut perfwatch_request, total: u64) {
    // SAFETY: promised by the caller.
    unsafe { with(request, |request| request.prompt_tokens(total)) }
}

/// Says how many tokens were generated in all, for servers that learn it at the end. What `perfwatch_request_token` and
/// `perfwatch_request_tokens` counted already does not count twice.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_generated_tokens(request: *mut perfwatch_request, total: u64) {
    // SAFETY: promised by the caller.
    unsafe { with(request, |request| request.generated_tokens(total)) }
}

/// Takes the trace id out of a `traceparent` header of W3C Trace Context, so that a slow request can be looked up; what is
/// none is ignored.
///
/// # Safety
/// `request` is null or a live request, which no other thread is using; `header` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_traceparent(request: *mut perfwatch_request, header: *const c_char) {
    // SAFETY: promised by the caller.
    if let Some(header) = unsafe { text(header) } {
        // SAFETY: promised by the caller.
        unsafe { with(request, |request| _ = request.traceparent(&header)) }
    }
}

/// Ends it well, and releases the handle.
///
/// # Safety
/// `request` is null or a live request, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_finish(request: *mut perfwatch_request) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(request) = unsafe { take(request) } {
            request.0.finish();
        }
    });
}

/// Ends it with an error of kind `other`, and releases the handle.
///
/// # Safety
/// `request` is null or a live request, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_fail(request: *mut perfwatch_request) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(request) = unsafe { take(request) } {
            request.0.fail();
        }
    });
}

/// Ends it with an error of this kind, as OpenTelemetry's `error.type`, and releases the handle: a short name out of a small
/// set, such as `timeout` or `503`, never a message. There is room for 15 names of at most 128 bytes; further ones count as
/// `other`, as null does.
///
/// # Safety
/// `request` is null or a live request, which it is no more afterwards; `kind` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_fail_with(request: *mut perfwatch_request, kind: *const c_char) {
    guard((), || {
        // SAFETY: promised by the caller.
        match unsafe { (take(request), text(kind)) } {
            (Some(request), Some(kind)) => request.0.fail_with(&kind),
            (Some(request), None) => request.0.fail(),
            (None, _) => {}
        }
    });
}

/// Ends it because its client went away, and releases the handle.
///
/// # Safety
/// `request` is null or a live request, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_cancel(request: *mut perfwatch_request) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(request) = unsafe { take(request) } {
            request.0.cancel();
        }
    });
}

/// Ends it without a verdict, and releases the handle. It counts as abandoned, apart from all others, and its duration
/// is not recorded.
///
/// # Safety
/// `request` is null or a live request, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_request_abandon(request: *mut perfwatch_request) {
    // SAFETY: promised by the caller.
    guard((), || drop(unsafe { take(request) }));
}

/// # Safety
/// `request` is null or a live request, which no other thread is using.
#[allow(unsafe_code, reason = "a handle is a pointer")]
unsafe fn with(request: *mut perfwatch_request, work: impl FnOnce(&mut Request)) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(request) = unsafe { request.as_mut() } {
            work(&mut request.0);
        }
    });
}
