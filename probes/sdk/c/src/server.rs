//! The handle that a model server holds, and how it is described.

use std::ffi::{OsStr, c_char};
use std::os::unix::ffi::OsStrExt as _;

use perfwatch_sdk::{Builder, Server, Status};

use crate::border::{give, guard, take, text};
use crate::vocabulary::{self, perfwatch_status};

/// A model server that perfwatch watches. Any thread may use it.
pub struct perfwatch_server(pub(crate) Server);

/// What a server says about itself before it starts. One thread at a time may use it.
pub struct perfwatch_options(Option<Builder>);

/// Starts recording, and a thread that sends a flush per second to the agent beside the server, now or whenever one
/// appears. `service` is what the server is called ("llama-70b"), at most 128 bytes; null means "unnamed".
///
/// # Safety
/// `service` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_start(service: *const c_char) -> *mut perfwatch_server {
    guard(std::ptr::null_mut(), || {
        // SAFETY: promised by the caller.
        give(perfwatch_server(Server::builder(unsafe { name(service) }).start()))
    })
}

/// Describes a server before it starts; end it with `perfwatch_options_start`. `service` as in `perfwatch_server_start`.
///
/// # Safety
/// `service` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_new(service: *const c_char) -> *mut perfwatch_options {
    guard(std::ptr::null_mut(), || {
        // SAFETY: promised by the caller.
        give(perfwatch_options(Some(Server::builder(unsafe { name(service) }))))
    })
}

/// Which of the service's instances this is. Worker processes that give the same are one server. Without it the SDK takes
/// `PERFWATCH_INSTANCE`, the parent process when it runs the same executable, or the process itself.
///
/// # Safety
/// `options` is null or live; `instance` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_instance(options: *mut perfwatch_options, instance: *const c_char) {
    // SAFETY: promised by the caller.
    if let Some(instance) = unsafe { text(instance) } {
        // SAFETY: promised by the caller.
        unsafe { change(options, |builder| builder.instance(instance)) }
    }
}

/// The most requests the server puts into one batch.
///
/// # Safety
/// `options` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_max_batch_size(options: *mut perfwatch_options, requests: u32) {
    // SAFETY: promised by the caller.
    unsafe { change(options, |builder| builder.max_batch_size(requests)) }
}

/// A setting of the server that a finding may name. No secrets: it is shown as it is. At most 64 leave.
///
/// # Safety
/// `options` is null or live; `key` and `value` are null or null-terminated strings.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_config(
    options: *mut perfwatch_options,
    key: *const c_char,
    value: *const c_char,
) {
    // SAFETY: promised by the caller.
    if let (Some(key), Some(value)) = unsafe { (text(key), text(value)) } {
        // SAFETY: promised by the caller.
        unsafe { change(options, |builder| builder.config(key, value)) }
    }
}

/// The agent's probe socket, instead of the usual places.
///
/// # Safety
/// `options` is null or live; `path` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_socket(options: *mut perfwatch_options, path: *const c_char) {
    if path.is_null() {
        return;
    }
    // SAFETY: promised by the caller. A path is bytes, not text.
    let path = OsStr::from_bytes(unsafe { std::ffi::CStr::from_ptr(path) }.to_bytes());
    // SAFETY: promised by the caller.
    unsafe { change(options, |builder| builder.socket(path)) }
}

/// Starts the server as described, and releases the description. Null if `options` is.
///
/// # Safety
/// `options` is null or live, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_options_start(options: *mut perfwatch_options) -> *mut perfwatch_server {
    guard(std::ptr::null_mut(), || {
        // SAFETY: promised by the caller.
        let builder = unsafe { take(options) }.and_then(|options| options.0);
        builder.map_or(std::ptr::null_mut(), |builder| give(perfwatch_server(builder.start())))
    })
}

/// A batch of `size` requests was executed, formed when `ready` requests were waiting for it (in stage `batch_wait`, with
/// nothing left to do before the model). `ready` tells a server that cannot batch from one that need not.
///
/// # Safety
/// `server` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_dispatch(server: *const perfwatch_server, size: u32, ready: u32) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(server) = unsafe { server.as_ref() } {
            server.0.dispatch(size, ready);
        }
    });
}

/// A look-up in a cache (of results, prefixes, embeddings) was answered from it.
///
/// # Safety
/// `server` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_cache_hit(server: *const perfwatch_server) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(server) = unsafe { server.as_ref() } {
            server.0.cache_hit();
        }
    });
}

/// A look-up in a cache was not answered from it.
///
/// # Safety
/// `server` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_cache_miss(server: *const perfwatch_server) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(server) = unsafe { server.as_ref() } {
            server.0.cache_miss();
        }
    });
}

/// The number of a stage by its name: a built-in one (`data_load`) or one of the server's own. There is room for five of
/// these; a sixth gives `PERFWATCH_OTHER`. Get it once, enter often.
///
/// # Safety
/// `server` is null or live; `name` is null or a null-terminated string.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_stage(server: *const perfwatch_server, name: *const c_char) -> u8 {
    let other = perfwatch_sdk::Stage::Other.index() as u8;
    guard(other, || {
        // SAFETY: promised by the caller.
        match unsafe { (server.as_ref(), text(name)) } {
            (Some(server), Some(name)) => server.0.stage(&name).index() as u8,
            _ => other,
        }
    })
}

/// What became of the connection to the agent.
///
/// # Safety
/// `server` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_status(server: *const perfwatch_server) -> perfwatch_status {
    guard(perfwatch_status::PERFWATCH_IS_DISABLED, || {
        // SAFETY: promised by the caller.
        let server = unsafe { server.as_ref() };
        vocabulary::status(&server.map_or(Status::Disabled, |server| server.0.status()))
    })
}

/// Sends everything up to now instead of waiting for the whole second, and waits up to four seconds for the agent's
/// receipt. True when the agent has it. For tests and orderly shutdown.
///
/// # Safety
/// `server` is null or live.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_flush(server: *const perfwatch_server) -> bool {
    // SAFETY: promised by the caller.
    guard(false, || unsafe { server.as_ref() }.is_some_and(|server| server.0.flush_now()))
}

/// Sends what is left, waits up to four seconds for the agent's receipt, ends the server's thread and releases the handle.
/// True when the agent has everything. Requests and histograms of the server may still be used and released, but what they
/// record is not sent any more.
///
/// # Safety
/// `server` is null or live, which it is no more afterwards.
#[allow(unsafe_code, reason = "the C interface")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn perfwatch_server_close(server: *mut perfwatch_server) -> bool {
    // SAFETY: promised by the caller.
    guard(false, || unsafe { take(server) }.is_some_and(|server| server.0.close()))
}

/// # Safety
/// As for [`text`].
#[allow(unsafe_code, reason = "a string is a pointer")]
unsafe fn name(service: *const c_char) -> String {
    // SAFETY: promised by the caller.
    let name = unsafe { text(service) }.filter(|name| !name.is_empty());
    name.map_or_else(|| "unnamed".to_owned(), std::borrow::Cow::into_owned)
}

/// # Safety
/// `options` is null or live.
#[allow(unsafe_code, reason = "a handle is a pointer")]
unsafe fn change(options: *mut perfwatch_options, with: impl FnOnce(Builder) -> Builder) {
    guard((), || {
        // SAFETY: promised by the caller.
        if let Some(options) = unsafe { options.as_mut() } {
            options.0 = options.0.take().map(with);
        }
    });
}
