//! What recording costs the model server: one observation, a timed span, a stage transition, a request; the first two beside
//! the usual alternatives.
//!
//! ```text
//! cargo bench -p perfwatch-sdk --bench record
//! ```
//!
//! With two threads both record into the *same* distribution; the figure is the time per record and thread, the slower
//! thread's.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

mod c_library;
mod peers;

use std::hint::black_box;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main};
use perfwatch_sdk::{Server, Stage, Unit};

/// Runs `work(thread, iterations)` on two threads at once; the slower one counts.
fn two_threads(iterations: u64, work: impl Fn(usize, u64) + Sync) -> Duration {
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        let run = |thread| {
            let (barrier, work) = (&barrier, &work);
            move || {
                work(thread, 1_000); // First touches allocate.
                barrier.wait();
                let start = Instant::now();
                work(thread, iterations);
                start.elapsed()
            }
        };
        let other = scope.spawn(run(1));
        let mine = run(0)();
        mine.max(other.join().expect("no panic"))
    })
}

fn one_thread(iterations: u64, work: impl FnOnce(u64)) -> Duration {
    let start = Instant::now();
    work(iterations);
    start.elapsed()
}

/// Latencies from 1 µs to 1 ms in nanoseconds, so that several octaves and buckets are in use.
#[inline]
fn value(at: u64) -> u64 {
    1_000 + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44)
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}

fn server() -> Server {
    Server::builder("bench").socket("/nonexistent/probe.sock").start()
}

/// Measures a recorder that threads share, with one thread and with two.
fn shared(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, record: impl Fn(u64) + Sync) {
    let many = |iterations: u64| (0..iterations).for_each(|at| record(black_box(value(at))));
    group.bench_function(format!("{name}, 1 thread"), |b| b.iter_custom(|iterations| one_thread(iterations, many)));
    group.bench_function(format!("{name}, 2 threads"), |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| many(iterations)));
    });
}

/// What the loop itself takes, and what cannot be shared between threads.
fn unshared(group: &mut BenchmarkGroup<'_, WallTime>) {
    group.bench_function("the loop alone, 1 thread", |b| {
        b.iter_custom(|iterations| {
            one_thread(iterations, |iterations| (0..iterations).for_each(|at| _ = black_box(black_box(value(at)))))
        });
    });
    let mut hdr = peers::hdr();
    group.bench_function("hdrhistogram (one owner), 1 thread", |b| {
        b.iter_custom(|iterations| {
            one_thread(iterations, |iterations| {
                (0..iterations).for_each(|at| hdr.record(black_box(value(at))).expect("in range"));
            })
        });
    });
    let shared = peers::hdr().into_sync();
    let recorders = [shared.recorder(), shared.recorder()].map(std::sync::Mutex::new);
    group.bench_function("hdrhistogram (a recorder per thread), 2 threads", |b| {
        b.iter_custom(|iterations| {
            two_threads(iterations, |thread, iterations| {
                let mut recorder = recorders[thread].lock().expect("no panic");
                (0..iterations).for_each(|at| recorder.record(black_box(value(at))).expect("in range"));
            })
        });
    });
}

fn observations(c: &mut Criterion) {
    let server = server();
    let mut group = c.benchmark_group("one observation");
    unshared(&mut group);
    let own = server.histogram("bench.duration", Unit::Seconds);
    shared(&mut group, "perfwatch, Rust", |value| own.record(value));
    for (how, c) in [("linked", c_library::Histogram::linked()), ("through dlopen", c_library::Histogram::open())] {
        shared(&mut group, &format!("perfwatch, C, {how}"), |value| c.record(value));
    }
    let prometheus = peers::prometheus();
    shared(&mut group, "prometheus-client", |value| prometheus.observe(seconds(value)));
    for (kind, histogram) in [("explicit", peers::explicit()), ("exponential", peers::exponential())] {
        let attributes = peers::attributes();
        shared(&mut group, &format!("opentelemetry-sdk, {kind}"), |value| {
            histogram.record(seconds(value), &attributes);
        });
        let bound = histogram.bind(&attributes);
        shared(&mut group, &format!("opentelemetry-sdk, {kind}, bound"), |value| bound.record(seconds(value)));
    }
    group.finish();
}

/// Two readings of the clock and a record.
fn spans(c: &mut Criterion) {
    let server = server();
    let mut group = c.benchmark_group("timed span");
    let own = server.histogram("bench.duration", Unit::Seconds);
    group.bench_function("two readings of the clock alone", |b| b.iter(|| Instant::now().elapsed()));
    group.bench_function("perfwatch", |b| {
        b.iter(|| {
            let start = Instant::now();
            own.record(start.elapsed().as_nanos() as u64);
        });
    });
    let prometheus = peers::prometheus();
    group.bench_function("prometheus-client", |b| {
        b.iter(|| {
            let start = Instant::now();
            prometheus.observe(start.elapsed().as_secs_f64());
        });
    });
    let (histogram, attributes) = (peers::explicit(), peers::attributes());
    group.bench_function("opentelemetry-sdk, explicit", |b| {
        b.iter(|| {
            let start = Instant::now();
            histogram.record(start.elapsed().as_secs_f64(), &attributes);
        });
    });
    group.finish();
}

fn stages(c: &mut Criterion) {
    let server = server();
    let mut group = c.benchmark_group("stage transition");
    let transitions = |iterations: u64| {
        let mut request = server.request();
        for at in 0..iterations {
            request.enter(if at % 2 == 0 { Stage::Queue } else { Stage::Compute });
        }
        request.finish();
    };
    group.bench_function("1 thread", |b| b.iter_custom(|iterations| one_thread(iterations, transitions)));
    group.bench_function("2 threads", |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| transitions(iterations)));
    });
    group.finish();

    let mut group = c.benchmark_group("whole request");
    let requests = |iterations: u64| {
        for _ in 0..iterations {
            let mut request = server.request();
            for stage in [Stage::Queue, Stage::Preprocess, Stage::Compute, Stage::Send] {
                request.enter(stage);
            }
            request.finish();
        }
    };
    group.bench_function("4 stages, 1 thread", |b| b.iter_custom(|iterations| one_thread(iterations, requests)));
    group.bench_function("4 stages, 2 threads", |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| requests(iterations)));
    });
    group.finish();
}

criterion_group!(benches, observations, spans, stages);
criterion_main!(benches);
