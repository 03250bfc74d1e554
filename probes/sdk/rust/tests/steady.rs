//! Recording allocates nothing once a thread has its shards, and makes no system call.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::{c_int, c_long, c_ulong};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use perfwatch_sdk::{Server, Stage, Unit};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "a counting allocator is an allocator")]
// SAFETY: everything is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATIONS.try_with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Does it until the thread has its shards: it takes them when the gate is free, and the other tests use that too.
fn settle(work: &impl Fn()) {
    (0..100).for_each(|_| work());
}

/// Allocations of this thread during `work`; the flusher's own do not count.
fn allocations(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn recording_allocates_only_for_a_threads_first_values() {
    let server = Server::builder("steady").socket("/nonexistent/probe.sock").start();
    let histogram = server.histogram("own", Unit::Seconds);
    let record = || (0..42).for_each(|bit| histogram.record(1 << bit));
    assert!(allocations(|| settle(&record)) > 0, "the counter counts");
    assert_eq!(allocations(|| (0..1_000).for_each(|_| record())), 0);

    // Dropped, not finished: durations vary, and each octave's first value may allocate a page.
    let life = || {
        let mut request = server.request();
        request.enter(Stage::Queue);
        request.enter(Stage::Compute);
        drop(request);
        server.dispatch(4, 2);
    };
    settle(&life);
    assert_eq!(allocations(|| (0..10_000).for_each(|_| life())), 0);
}

#[allow(unsafe_code, reason = "only the C library offers them")]
// SAFETY: the signatures are the C library's.
unsafe extern "C" {
    fn prctl(option: c_int, argument: c_ulong, ...) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
}

/// What became of a thread that was forbidden to call the kernel.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Silent,
    Called,
    /// The kernel does not offer to forbid it.
    Unknown,
}

/// Runs `prepare`, then `work` in a thread that the kernel kills at its first system call.
fn forbidden(prepare: impl FnOnce() + Send + 'static, work: impl FnOnce() + Send + 'static) -> Verdict {
    /// Of the kernel's interface: `PR_SET_SECCOMP`, `SECCOMP_MODE_STRICT`, and the number of `exit`, the one call left.
    const SET_SECCOMP: c_int = 22;
    const STRICT: c_ulong = 1;
    const EXIT: c_long = if cfg!(target_arch = "x86_64") { 60 } else { 93 };
    let (tell, told) = std::sync::mpsc::channel();
    let done = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&done);
    std::thread::spawn(move || {
        prepare();
        tell.send(Some(rustix::thread::gettid())).expect("awaited");
        #[allow(unsafe_code, reason = "the kernel watches the calls")]
        // SAFETY: it takes the thread the right to call the kernel, and nothing else. A thread that may not return ends here,
        // leaving its stack behind.
        unsafe {
            if prctl(SET_SECCOMP, STRICT) != 0 {
                tell.send(None).expect("awaited");
                return;
            }
            work();
            mark.store(true, Ordering::Release);
            syscall(EXIT, 0);
        }
    });
    let thread = told.recv().expect("it begins").expect("its first word");
    let task = format!("/proc/self/task/{}", thread.as_raw_nonzero());
    while std::path::Path::new(&task).exists() && !done.load(Ordering::Acquire) {
        if told.try_recv() == Ok(None) {
            return Verdict::Unknown;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    if done.load(Ordering::Acquire) { Verdict::Silent } else { Verdict::Called }
}

#[test]
fn recording_makes_no_system_call() {
    let server = Server::builder("silent").socket("/nonexistent/probe.sock").start();
    let histogram = server.histogram("own", Unit::Seconds);
    let record = move || (0..42).for_each(|bit| histogram.record(1 << bit));
    let verdict = forbidden(move || settle(&record), move || (0..1_000).for_each(|_| record()));
    assert_ne!(verdict, Verdict::Called);

    let life = move || {
        let mut request = server.request();
        request.enter(Stage::Queue);
        request.enter(Stage::Compute);
        drop(request);
        server.dispatch(4, 2);
    };
    let read = || _ = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    // Where the kernel does not let programs read its clock by themselves, a request must ask it.
    if forbidden(read, read) == Verdict::Silent {
        let again = life.clone();
        assert_eq!(forbidden(move || settle(&life), move || (0..10_000).for_each(|_| again())), Verdict::Silent);
    }
}

#[test]
fn a_system_call_would_be_noticed() {
    let ask = || _ = rustix::process::getpid();
    assert_ne!(forbidden(ask, ask), Verdict::Silent);
}
