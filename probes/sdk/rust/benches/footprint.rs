//! What an instrumented server pays without recording anything: memory, the bytes of a flush, the flusher's CPU time.
//!
//! ```text
//! cargo bench -p perfwatch-sdk --bench footprint
//! ```
//!
//! Memory is what the kernel has given the process (private dirty pages), each figure the difference to the same process
//! without perfwatch, the median of several. `tests/memory.rs` holds the limits, byte by byte as the allocator counts them.

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
    println!("private dirty memory, KiB:");
    println!("{:>8} {:>22} {:>30}", "threads", "server, never recorded", "per thread and series recorded");
    for threads in [1, 64, 512] {
        let bare = measured("bare", threads);
        let started = measured("started", threads) - bare;
        let recorded = measured("recorded", threads) - bare - started;
        println!("{threads:>8} {started:>22} {:>30.1}", recorded as f64 / (threads as i64 * SERIES) as f64);
    }
}

/// The median over several processes, in KiB.
fn measured(mode: &str, threads: usize) -> i64 {
    let mut figures: Vec<i64> = (0..REPEATS)
        .map(|_| {
            let agent = (mode != "bare").then(|| support::Agent::start(|| ()));
            let socket = agent.as_ref().map_or_else(|| "-".into(), |agent| agent.socket.clone());
            let mut command = Command::new(std::env::current_exe().expect("a running program"));
            let output = command.args(["child", mode, &threads.to_string()]).arg(socket).output().expect("it starts");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            agent.map(support::Agent::flushes);
            String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number")
        })
        .collect();
    figures.sort_unstable();
    figures[REPEATS / 2]
}

/// A process with so many threads; prints its memory when all of them have done what the mode says.
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
        if let Some(server) = &server {
            (0..3).for_each(|_| assert!(server.flush_now(), "the agent listens"));
        }
        let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("Linux has it");
        let line = rollup.lines().find_map(|line| line.strip_prefix("Private_Dirty:")).expect("it is listed");
        println!("{}", line.trim().trim_end_matches(" kB"));
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
    assert!(server.flush_now(), "the agent listens");
    let begin = flusher_ns();
    let (mut random, rounds) = (1u64, 20u32);
    for round in 0..=rounds {
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
    let spent = flusher_ns() - begin;
    assert!(server.close());
    let flushes = agent.flushes();
    println!("\nflushes:");
    let busy = flushes.iter().filter(|flush| flush.requests_completed > 100);
    for (what, flush) in
        busy.map(|flush| ("a second of requests", flush)).chain(flushes.last().map(|last| ("8 alone", last)))
    {
        let buckets: usize = flush.histograms.iter().map(|histogram| histogram.counts.len()).sum();
        println!(
            "{what}: {} bytes, {} histograms with {buckets} buckets, {} slots, {} slow requests",
            flush.encoded_len(),
            flush.histograms.len(),
            flush.slots.len(),
            flush.slow.len(),
        );
    }
    println!("the flusher's CPU time: {} µs per flush", spent / 1_000 / flushes.len() as u64);
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
