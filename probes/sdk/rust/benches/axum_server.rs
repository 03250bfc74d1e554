//! Throughput and p99 of an axum server with and without the SDK, in alternating windows of one run.
//!
//! ```text
//! cargo bench -p perfwatch-sdk --features tower --bench axum_server            # 30 pairs of 2 s per workload: 4.5 min
//! cargo bench -p perfwatch-sdk --features tower --bench axum_server -- 5 0.5   # in short
//! ```
//!
//! Each window is a server of its own, asked by eight connections that wait for each answer before they ask again; the pairs
//! go without-with, with-without, and so on. The figure is the median of the pairs' ratios, with the interval in which 95 %
//! of the medians of resampled pairs lie (bootstrap). The client runs on the same CPUs as the server, which hides nothing:
//! what the SDK spends is missing to both.

#![allow(clippy::print_stdout, reason = "its figures are its output")]
#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Barrier;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Extension;
use axum::routing::get;
use perfwatch_sdk::tower::{Handle, Layer};
use perfwatch_sdk::{Server, Stage};

const CONNECTIONS: usize = 8;
/// Asked before the window begins.
const WARM_UP: usize = 200;
/// Rounds of mixing that take some 200 µs: little for a model, much for a handler.
const MODEL: u64 = 300_000;

type Request = Option<Extension<Handle>>;

fn enter(request: &Request, stage: Stage) {
    if let Some(Extension(request)) = request {
        request.enter(stage);
    }
}

/// Nothing to do: what the SDK adds is as visible as it can be.
async fn empty() -> &'static str {
    "ok"
}

/// A small model, with the stages that a server would name.
async fn model(request: Request) -> String {
    enter(&request, Stage::Preprocess);
    let input = black_box(7u64);
    enter(&request, Stage::Compute);
    let output = (0..MODEL).fold(input, |mixed, at| black_box(mixed.rotate_left(5) ^ at));
    enter(&request, Stage::Postprocess);
    format!("{output:020}")
}

/// What one window showed.
struct Window {
    per_second: f64,
    p99_ns: f64,
}

fn window(path: &str, instrumented: bool, length: Duration) -> Window {
    let agent = instrumented.then(|| support::Agent::start(|| ()));
    let server = agent.as_ref().map(|agent| Server::builder("bench").socket(&agent.socket).start());
    let app = Router::new().route("/empty", get(empty)).route("/model", get(model));
    let app = match &server {
        Some(server) => app.layer(Layer::new(server)),
        None => app,
    };
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
            tell.send(listener.local_addr().expect("it is bound")).expect("awaited");
            let stopped = async { stopped.await.unwrap_or(()) };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.expect("it serves");
        });
    });
    let address = told.recv().expect("it listens");
    let barrier = Barrier::new(CONNECTIONS);
    let mut latencies: Vec<u64> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..CONNECTIONS).map(|_| scope.spawn(|| ask(address, path, &barrier, length))).collect();
        clients.into_iter().flat_map(|client| client.join().expect("no panic")).collect()
    });
    stop.send(()).expect("it serves");
    serving.join().expect("no panic");
    if let (Some(server), Some(agent)) = (server, agent) {
        assert!(server.close(), "the agent has all of it");
        let counted = support::sum(&agent.flushes(), |flush| flush.requests_completed);
        assert_eq!(counted, (latencies.len() + CONNECTIONS * WARM_UP) as u64, "as many as the client counted");
    }
    let place = latencies.len() * 99 / 100;
    let (_, p99, _) = latencies.select_nth_unstable(place);
    Window { p99_ns: *p99 as f64, per_second: latencies.len() as f64 / length.as_secs_f64() }
}

/// One connection's requests during the window; how long each took, in nanoseconds.
fn ask(address: SocketAddr, path: &str, barrier: &Barrier, length: Duration) -> Vec<u64> {
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("a valid option");
    let request = format!("GET {path} HTTP/1.1\r\nhost: here\r\n\r\n");
    let mut answer = vec![0; 4_096];
    stream.write_all(request.as_bytes()).expect("it reads");
    // All answers are as long as the first.
    let size = stream.read(&mut answer).expect("it answers");
    let mut once = || {
        stream.write_all(request.as_bytes()).expect("it reads");
        stream.read_exact(&mut answer[..size]).expect("it answers");
    };
    (1..WARM_UP).for_each(|_| once());
    barrier.wait();
    let begin = Instant::now();
    let mut latencies = Vec::with_capacity(1 << 16);
    let mut before = Duration::ZERO;
    while before < length {
        once();
        let now = begin.elapsed();
        latencies.push(now.saturating_sub(before).as_nanos() as u64);
        before = now;
    }
    latencies
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) }
}

/// The median of the ratios, and where 95 % of the medians of as many drawn from them lie.
fn estimate(ratios: &[f64]) -> (f64, f64, f64) {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        (random % below as u64) as usize
    };
    let mut medians: Vec<f64> = (0..10_000)
        .map(|_| median(&mut (0..ratios.len()).map(|_| ratios[draw(ratios.len())]).collect::<Vec<_>>()))
        .collect();
    medians.sort_by(f64::total_cmp);
    (median(&mut ratios.to_vec()), medians[250], medians[9_749])
}

fn main() {
    // Cargo adds `--bench`.
    let numbers: Vec<f64> = std::env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let pairs = numbers.first().map_or(30, |pairs| *pairs as usize);
    let length = Duration::from_secs_f64(numbers.get(1).copied().unwrap_or(2.0));
    println!("{pairs} pairs of windows of {length:?}, {CONNECTIONS} connections; with the SDK over without");
    for path in ["/empty", "/model"] {
        let (mut throughput, mut p99, mut without) = (Vec::new(), Vec::new(), Vec::new());
        for pair in 0..pairs {
            let first = window(path, pair % 2 == 1, length);
            let second = window(path, pair % 2 == 0, length);
            let (plain, instrumented) = if pair % 2 == 1 { (second, first) } else { (first, second) };
            throughput.push(instrumented.per_second / plain.per_second);
            p99.push(instrumented.p99_ns / plain.p99_ns);
            without.push(plain);
        }
        let mut rates: Vec<f64> = without.iter().map(|window| window.per_second).collect();
        let mut tails: Vec<f64> = without.iter().map(|window| window.p99_ns / 1e3).collect();
        println!("{path}: without, {:.0} requests/s, p99 {:.0} µs", median(&mut rates), median(&mut tails));
        for (what, ratios) in [("throughput", throughput), ("p99", p99)] {
            let (middle, low, high) = estimate(&ratios);
            println!("{path}: {what} × {middle:.4} [{low:.4}, {high:.4}]");
        }
    }
}
