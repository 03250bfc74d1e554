//! What an instrumented server costs in memory: before anything was recorded, and per thread that records.

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Barrier;
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

/// Bytes that each of these threads keeps when all of them have done this, and all are alive.
fn kept_by_threads(threads: usize, work: impl Fn() + Sync) -> Vec<i64> {
    let alive = Barrier::new(threads);
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    let before = MINE.get();
                    work();
                    let kept = MINE.get() - before;
                    // Had one ended before, the next would take over what it leaves.
                    alive.wait();
                    kept
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
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
    told(&format!("a server that never recorded: {silent} bytes"));
    assert!(silent > 0, "the counter counts");
    assert!(silent <= 64 * KIB, "a server that never recorded keeps {silent} bytes");

    for threads in [1, 64, 512] {
        // Latencies from 1 ms to 16 ms: four octaves.
        let own = server.histogram(&format!("own.{threads}"), Unit::Seconds);
        let kept = kept_by_threads(threads, || (0..10_000).for_each(|at| own.record(1_000_000 + at * 1_500)));
        let (sum, most) = (kept.iter().sum::<i64>(), kept.into_iter().max().unwrap_or(0));
        told(&format!("{threads} threads, a distribution: {} bytes each", sum / threads as i64));
        // A list that grows does so for one of them.
        assert!(sum / threads as i64 > KIB && sum / threads as i64 <= 8 * KIB, "{sum} bytes for {threads} threads");
        assert!(most <= 16 * KIB, "{most} bytes for one of {threads} threads");
    }
    for threads in [1, 64, 512] {
        // Every counter and every stage, no distribution. A server of its own, whose shards are not there yet.
        let server = Server::builder("active").socket("/nonexistent/probe.sock").start();
        let kept = kept_by_threads(threads, || {
            let mut request = server.request();
            Stage::all().for_each(|stage| request.enter(stage));
            request.prompt_tokens(1_000);
            request.generated_tokens(1_000);
            request.cancel();
            server.cache_hit();
            server.cache_miss();
        });
        let sum = kept.iter().sum::<i64>();
        told(&format!("{threads} threads, a server's activity: {} bytes each", sum / threads as i64));
        assert!(sum / threads as i64 > KIB && sum / threads as i64 <= 8 * KIB, "{sum} bytes for {threads} threads");
    }
    assert!(server.close());
    drop(agent.flushes());
}

/// Shown by `cargo test -- --nocapture`.
fn told(figure: &str) {
    #[allow(clippy::print_stdout, reason = "the figures of the documentation come from here")]
    {
        println!("{figure}");
    }
}
