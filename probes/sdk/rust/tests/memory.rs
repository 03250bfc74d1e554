//! What an instrumented server costs in memory: before anything was recorded, and per thread that records.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

use perfwatch_sdk::{Server, Stage, Unit};

struct Counting;

/// Bytes alive in the whole process, threads that asked not to be counted apart.
static ALIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static COUNTED: Cell<bool> = const { Cell::new(true) };
    /// Bytes that this thread allocated, less those it freed.
    static MINE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    if COUNTED.try_with(Cell::get).unwrap_or(true) {
        ALIVE.fetch_add(bytes, Ordering::Relaxed);
        let _ = MINE.try_with(|mine| mine.set(mine.get() + bytes));
    }
}

#[allow(unsafe_code, reason = "a counting allocator is an allocator")]
// SAFETY: everything is passed on to the system's allocator unchanged; `realloc` is made of the two by default.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is the system allocator's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const KIB: i64 = 1_024;

/// Bytes that a new thread keeps when it has done this.
fn kept_by_a_thread(work: impl FnOnce() + Send) -> i64 {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let before = MINE.get();
            work();
            MINE.get() - before
        });
        thread.join().expect("no panic")
    })
}

/// One test, so that nothing else allocates meanwhile.
#[test]
fn a_silent_server_stays_within_64_kib_and_a_threads_shards_within_8_kib_each() {
    let agent = support::Agent::start(|| COUNTED.set(false));
    let before = ALIVE.load(Ordering::Relaxed);
    let server = Server::builder("silent").socket(&agent.socket).start();
    // Collections, flushes, receipts: everything that a server does without being used.
    for _ in 0..3 {
        assert!(server.flush_now());
    }
    let silent = ALIVE.load(Ordering::Relaxed) - before;
    assert!(silent > 0, "the counter counts");
    assert!(silent <= 64 * KIB, "a server that never recorded keeps {silent} bytes");

    // Latencies from 1 ms to 16 ms: four octaves.
    let own = server.histogram("own", Unit::Seconds);
    let series = kept_by_a_thread(|| (0..10_000).for_each(|at| own.record(1_000_000 + at * 1_500)));
    assert!(series > KIB && series <= 8 * KIB, "a thread's part of a distribution takes {series} bytes");

    // Every counter and every stage, no distribution.
    let activity = kept_by_a_thread(|| {
        let mut request = server.request();
        Stage::all().for_each(|stage| request.enter(stage));
        request.prompt_tokens(1_000);
        request.generated_tokens(1_000);
        request.cancel();
        server.cache_hit();
        server.cache_miss();
    });
    assert!(activity > KIB && activity <= 8 * KIB, "a thread's part of a server's activity takes {activity} bytes");
    assert!(server.close());
    drop(agent.flushes());
}
