//! What an instrumented server pays without recording anything: memory, the bytes of a flush, the flusher's CPU time.
//!
//! ```text
//! cargo bench -p perfwatch-sdk --bench footprint
//! ```
//!
//! Memory is what the kernel has given the process (anonymous pages: heap, the flusher's stack and its part of the allocator's
//! arenas), each figure the difference to the same process without perfwatch, the median of several. `tests/memory.rs` holds
//! the limits, byte by byte as the program asks for them: what the pages hold besides is the allocator's.

#![allow(clippy::print_stdout, reason = "its figures are its output")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock and starts processes of its own")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use perfwatch_sdk::{Server, Stage, Unit};
use prost::Message as _;

/// Processes per figure.
const REPEATS: usize = 5;
/// Distributions that each thread of a recording process touches: one request through these stages, one of its own.
const STAGES: [Stage; 4] = [Stage::Queue, Stage::Preprocess, Stage::Compute, Stage::Send];
const SERIES: i64 = 1 + STAGES.len() as i64 + 1;

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments[1..] {
        [word, mode, threads, socket] if word == "child" => {
            child(mode, threads.parse().expect("a number"), Path::new(socket));
        }
        _ => {
            memory();
            flushes();
        }
    }
}

fn memory() {
    println!("anonymous memory, KiB:");
    println!("threads | never recorded | per thread and series recorded | CPU time of a flush, µs: idle | recorded");
    for threads in [1, 64, 512] {
        let (bare, _) = measured("bare", threads);
        let (started, idle) = measured("started", threads);
        let (recorded, spent) = measured("recorded", threads);
        let each = (recorded - started) as f64 / (threads as i64 * SERIES) as f64;
        println!("{threads} | {} | {each:.1} | {idle} | {spent}", started - bare);
    }
}

/// Medians over several processes: KiB, and microseconds of the flusher per flush.
fn measured(mode: &str, threads: usize) -> (i64, i64) {
    let (mut memory, mut spent): (Vec<i64>, Vec<i64>) = (0..REPEATS)
        .map(|_| {
            let agent = (mode != "bare").then(|| support::Agent::start(|| ()));
            let socket = agent.as_ref().map_or_else(|| "-".into(), |agent| agent.socket.clone());
            let mut command = Command::new(std::env::current_exe().expect("a running program"));
            let output = command.args(["child", mode, &threads.to_string()]).arg(socket).output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            agent.map(support::Agent::flushes);
            let text = String::from_utf8_lossy(&output.stdout);
            let (memory, spent) = text.trim().split_once(' ').expect("two numbers");
            (memory.parse::<i64>().expect("a number"), spent.parse::<i64>().expect("a number"))
        })
        .unzip();
    memory.sort_unstable();
    spent.sort_unstable();
    (memory[REPEATS / 2], spent[REPEATS / 2])
}

/// A process with so many threads; prints its memory when all of them have done what the mode says, and what a flush takes.
fn child(mode: &str, threads: usize, socket: &Path) {
    let server = (mode != "bare").then(|| Server::builder("footprint").socket(socket).start());
    let (begin, done) = (Barrier::new(threads + 1), Barrier::new(threads + 1));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                begin.wait();
                if let Some(server) = server.as_ref().filter(|_| mode == "recorded") {
                    record(server);
                }
                done.wait();
                done.wait(); // Alive until it is measured.
            });
        }
        begin.wait();
        done.wait();
        let flush = |server: &Server| assert!(server.flush_now(), "the agent listens");
        if let Some(server) = &server {
            (0..3).for_each(|_| flush(server));
        }
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux has it");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Anonymous:")).expect("it is listed");
        let spent = server.as_ref().map_or(0, |server| {
            let before = flusher_ns();
            (0..10).for_each(|_| flush(server));
            (flusher_ns() - before) / 10_000
        });
        println!("{} {spent}", line.trim().trim_end_matches(" kB"));
        done.wait();
    });
    drop(server);
}

/// A request's stages take some microseconds each; the values of the server's own distribution span four octaves.
fn record(server: &Server) {
    let own = server.histogram("own", Unit::Seconds);
    (0..1_000).for_each(|at| own.record(1_000_000 + at * 15_000));
    let mut request = server.request();
    for stage in STAGES {
        request.enter(stage);
        std::thread::yield_now();
    }
    request.finish();
}

fn flushes() {
    let agent = support::Agent::start(|| ());
    let server = Server::builder("footprint").socket(&agent.socket).start();
    let histograms: Vec<_> = (0..8).map(|at| server.histogram(&format!("own.{at}"), Unit::Seconds)).collect();
    let mut random = 1u64;
    for round in 0..3 {
        for histogram in &histograms {
            // A thousand latencies around 10 ms, as the product of four uniform numbers spreads them.
            for _ in 0..1_000 {
                let value = (0..4).fold(10_000_000.0, |value, _| {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    value * (0.5 + (random >> 40) as f64 / (1u64 << 24) as f64)
                });
                histogram.record(value as u64);
            }
        }
        if round == 0 {
            // In the middle of its life, with slots to tell: two seconds of requests.
            let until = Instant::now() + Duration::from_secs(2);
            while Instant::now() < until {
                let mut request = server.request();
                for stage in STAGES {
                    request.enter(stage);
                    std::thread::sleep(Duration::from_micros(500));
                }
                request.finish();
            }
        }
        assert!(server.flush_now(), "the agent listens");
    }
    assert!(server.close());
    let flushes = agent.flushes();
    println!("\nflushes:");
    let whole = flushes.iter().find(|flush| flush.slots.len() == 10).map(|flush| ("a second of 400 requests", flush));
    let own = flushes.iter().rfind(|flush| flush.histograms.len() == 8).map(|flush| ("8 histograms", flush));
    for (what, flush) in own.into_iter().chain(whole) {
        let buckets: usize = flush.histograms.iter().map(|histogram| histogram.counts.len()).sum();
        println!(
            "{what}: {} bytes, {} histograms with {buckets} buckets, {} slots, {} slow requests",
            flush.encoded_len(),
            flush.histograms.len(),
            flush.slots.len(),
            flush.slow.len(),
        );
    }
}

/// CPU time of the SDK's thread until now, nanoseconds.
fn flusher_ns() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").expect("Linux has it").flatten().map(|task| task.path());
    let named = |path: &std::path::PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|name| name.trim() == "perfwatch-sdk")
    };
    let task = tasks.into_iter().find(named).expect("it is started");
    let schedstat = fs::read_to_string(task.join("schedstat")).expect("Linux has it");
    schedstat.split(' ').next().and_then(|ns| ns.parse().ok()).expect("a number")
}
