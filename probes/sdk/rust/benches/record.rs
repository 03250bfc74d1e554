//! What recording costs the model server: through a handle, and per stage transition, beside the usual alternatives.
//!
//! Two threads record into the *same* distribution; the figure is the time per record and thread.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use criterion::{Criterion, criterion_group, criterion_main};
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

/// Latencies from 1 µs to 1 ms, so that several octaves are in use.
#[inline]
fn value(at: u64) -> u64 {
    1_000 + (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44)
}

fn server() -> Server {
    Server::builder("bench").socket("/nonexistent/probe.sock").start()
}

fn record(c: &mut Criterion) {
    let server = server();
    let mut group = c.benchmark_group("record");

    let handle = server.histogram("bench.duration", Unit::Seconds);
    let perfwatch = |iterations: u64| (0..iterations).for_each(|at| handle.record(black_box(value(at))));
    group.bench_function("perfwatch, 1 thread", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            perfwatch(iterations);
            start.elapsed()
        });
    });
    group.bench_function("perfwatch, 2 threads", |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| perfwatch(iterations)));
    });

    let mut hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 2).expect("valid bounds");
    group.bench_function("hdrhistogram (one owner, not shared), 1 thread", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            for at in 0..iterations {
                hdr.record(black_box(value(at))).expect("in range");
            }
            start.elapsed()
        });
    });
    let shared = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 3_600_000_000_000, 2).expect("valid bounds");
    let shared = shared.into_sync();
    let recorders = [shared.recorder(), shared.recorder()].map(std::sync::Mutex::new);
    group.bench_function("hdrhistogram recorders, 2 threads", |b| {
        b.iter_custom(|iterations| {
            two_threads(iterations, |thread, iterations| {
                let mut recorder = recorders[thread].lock().expect("no panic");
                (0..iterations).for_each(|at| recorder.record(black_box(value(at))).expect("in range"));
            })
        });
    });
    drop(recorders);

    let bounds = prometheus_client::metrics::histogram::exponential_buckets(1e-6, 2.0, 20);
    let prometheus = Arc::new(prometheus_client::metrics::histogram::Histogram::new(bounds));
    let observe = |iterations: u64| {
        (0..iterations).for_each(|at| prometheus.observe(black_box(value(at)) as f64 * 1e-9));
    };
    group.bench_function("prometheus-client, 1 thread", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            observe(iterations);
            start.elapsed()
        });
    });
    group.bench_function("prometheus-client, 2 threads", |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| observe(iterations)));
    });
    group.finish();
}

fn stages(c: &mut Criterion) {
    let server = server();
    let mut group = c.benchmark_group("stage transition");
    let transitions = |server: &Server, iterations: u64| {
        let mut request = server.request();
        for at in 0..iterations {
            request.enter(if at % 2 == 0 { Stage::Queue } else { Stage::Compute });
        }
        request.finish();
    };
    group.bench_function("1 thread", |b| {
        b.iter_custom(|iterations| {
            let start = Instant::now();
            transitions(&server, iterations);
            start.elapsed()
        });
    });
    group.bench_function("2 threads", |b| {
        b.iter_custom(|iterations| two_threads(iterations, |_, iterations| transitions(&server, iterations)));
    });
    group.bench_function("whole request with 4 stages, 1 thread", |b| {
        b.iter(|| {
            let mut request = server.request();
            for stage in [Stage::Queue, Stage::Preprocess, Stage::Compute, Stage::Send] {
                request.enter(stage);
            }
            request.finish();
        });
    });
    group.finish();
}

criterion_group!(benches, record, stages);
criterion_main!(benches);
