//! Survives `fork`: pre-forking servers load the model once and then fork their workers.
//!
//! A child has only the thread that forked, so a lock that another thread held stays locked in it for ever. All of the
//! SDK's locks are therefore taken inside one process-wide gate, and the gate is held *during* a fork: in the child every
//! other lock is free. The recording path only ever tries the gate once and goes on without it; but the first records in
//! a child wait for the one among them that begins the child's session.

use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, Ordering};

static GATE: AtomicBool = AtomicBool::new(false);
static GENERATION: AtomicU32 = AtomicU32::new(0);
/// Open sockets of the flushers, closed in a child: a copy would keep the connection open after its owner died.
/// A process with more servers than this leaves the excess open until it exits.
static SOCKETS: [AtomicI32; 16] = [const { AtomicI32::new(-1) }; 16];

/// Right to take the SDK's locks; dropped, it opens the gate.
pub(crate) struct Pass(());

impl Drop for Pass {
    fn drop(&mut self) {
        GATE.store(false, Ordering::Release);
    }
}

/// Enters the gate if nobody is inside; never waits.
pub(crate) fn try_enter() -> Option<Pass> {
    GATE.compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed).is_ok().then(|| Pass(()))
}

/// Enters the gate, waiting for the microseconds that somebody else is inside. Never called while recording, but for a
/// child's first records.
pub(crate) fn enter() -> Pass {
    loop {
        if let Some(pass) = try_enter() {
            return pass;
        }
        std::thread::yield_now();
    }
}

/// Number of forks between the first process and this one.
#[inline]
pub(crate) fn generation() -> u32 {
    GENERATION.load(Ordering::Relaxed)
}

/// Remembers a socket until [`forget_socket`]; returns where.
pub(crate) fn remember_socket(descriptor: i32, _inside: &Pass) {
    for place in &SOCKETS {
        if place.compare_exchange(-1, descriptor, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

/// Forgets a socket that is about to be closed.
pub(crate) fn forget_socket(descriptor: i32, _inside: &Pass) {
    for place in &SOCKETS {
        if place.compare_exchange(descriptor, -1, Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            return;
        }
    }
}

extern "C" fn before() {
    std::mem::forget(enter());
}

extern "C" fn after_in_parent() {
    GATE.store(false, Ordering::Release);
}

extern "C" fn after_in_child() {
    for place in &SOCKETS {
        let descriptor = place.swap(-1, Ordering::Relaxed);
        if descriptor >= 0 {
            #[allow(unsafe_code, reason = "the flusher thread that owned this descriptor does not exist in the child")]
            // SAFETY: the descriptor was open at the fork and nothing in the child owns it.
            unsafe {
                rustix::io::close(descriptor);
            }
        }
    }
    GENERATION.fetch_add(1, Ordering::Relaxed);
    GATE.store(false, Ordering::Release);
}

/// Installs the fork handlers, once per process.
pub(crate) fn watch() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        #[allow(unsafe_code, reason = "only the C library can tell a library that its process forks")]
        // SAFETY: the signature is POSIX's; the handlers live as long as the program and use only atomics and close.
        unsafe {
            unsafe extern "C" {
                fn pthread_atfork(
                    prepare: extern "C" fn(),
                    parent: extern "C" fn(),
                    child: extern "C" fn(),
                ) -> std::ffi::c_int;
            }
            // It fails only without memory; then a child of a fork records nothing useful, and the parent is unharmed.
            let _ = pthread_atfork(before, after_in_parent, after_in_child);
        }
    });
}
