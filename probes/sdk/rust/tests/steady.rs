//! Recording allocates nothing once a thread has its shards.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

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
    let first = allocations(record);
    assert!(first > 0, "the counter counts");
    assert_eq!(allocations(|| (0..1_000).for_each(|_| record())), 0);

    // Dropped, not finished: durations vary, and each octave's first value may allocate a page.
    let life = || {
        let mut request = server.request();
        request.enter(Stage::Queue);
        request.enter(Stage::Compute);
        drop(request);
        server.dispatch(4, 2);
    };
    allocations(life);
    assert_eq!(allocations(|| (0..10_000).for_each(|_| life())), 0);
}
