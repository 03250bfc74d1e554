//! One model server of many, for `fleet_cost.py`: an ordinary client of the SDK in a process of its own.
//!
//! `fleet load [VALUES]` records once a second, at a moment of its own: eight histograms change in every flush, four of
//! them the server's own with VALUES values each, spread over two decades. `fleet paced MILLISECONDS` finishes one request
//! at a time at random gaps of that mean, and writes when: a line per request, in nanoseconds of the monotonic clock.
//!
//! Both end when their standard input does, so that nothing outlives whoever started them. Service, instance and socket
//! come from the environment, as for every server.

#![allow(clippy::disallowed_methods, reason = "a program under measurement lives in real time")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program of its own, which speaks through them")]

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use perfwatch_sdk::{Request, Server, Stage, Unit};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

/// Values per histogram and second where the command line does not say.
const VALUES: u64 = 200;
/// Requests of each process and second; they also stand for its batches.
const REQUESTS: usize = 8;

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let mode = args.next().unwrap_or_default();
    let number = args.next().and_then(|text| text.parse().ok());
    match (mode.as_str(), number) {
        ("load", values) => load(values.unwrap_or(VALUES)),
        ("paced", Some(milliseconds)) => paced(Duration::from_millis(milliseconds)),
        _ => {
            eprintln!("usage: fleet load [VALUES] | fleet paced MILLISECONDS");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn server() -> Server {
    let service = std::env::var("OTEL_SERVICE_NAME").unwrap_or_else(|_| "fleet".to_owned());
    Server::builder(service).max_batch_size(REQUESTS as u32).start()
}

/// Eight histograms a second: `request.duration`, `stage.duration` of two stages, `batch.size`, and four of its own.
fn load(values: u64) {
    let server = server();
    let own = ["fleet.prompt", "fleet.answer", "fleet.rows", "fleet.wait"];
    let own = own.map(|name| server.histogram(name, Unit::Count("{item}")));
    let mut random = Random::seeded();
    // Not all at once: real servers do not work in step.
    let mut open: Vec<Request> = Vec::new();
    let mut wait = Duration::from_millis(random.below(1_000));
    while input_stays_open_for(wait) {
        wait = Duration::from_secs(1);
        for mut request in std::mem::take(&mut open) {
            request.enter(Stage::Compute);
            request.finish();
        }
        server.dispatch(REQUESTS as u32, REQUESTS as u32);
        open.extend((0..REQUESTS).map(|_| {
            let mut request = server.request();
            request.enter(Stage::Queue);
            request
        }));
        for histogram in &own {
            for _ in 0..values {
                // Two decades in equal steps of the logarithm: 100 to 10,000.
                let exponent = 2.0 + random.below(20_000) as f64 / 10_000.0;
                histogram.record(10_f64.powf(exponent) as u64);
            }
        }
    }
}

/// Requests one after the other, each told when it finished.
fn paced(mean: Duration) {
    let server = server();
    let mut random = Random::seeded();
    let mut out = io::stdout().lock();
    loop {
        let mut request = server.request();
        request.enter(Stage::Compute);
        // Uniform from nothing to twice the mean, so that finishes meet every moment of a second.
        let open = input_stays_open_for(Duration::from_micros(random.below(2 * mean.as_micros() as u64 + 1)));
        // Before it is recorded, else a tick could seem to bring it too early.
        let now = clock_gettime(ClockId::Monotonic);
        request.finish();
        if !open || writeln!(out, "{}", now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64).is_err() {
            return;
        }
        let _ = out.flush();
    }
}

/// Waits that long; false as soon as standard input has ended.
fn input_stays_open_for(wait: Duration) -> bool {
    let stdin = io::stdin();
    let mut ends = [PollFd::new(&stdin, PollFlags::IN)];
    let wait = Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: i64::from(wait.subsec_nanos()) };
    // Nobody writes: readable means ended. A signal only shortens one wait.
    matches!(poll(&mut ends, Some(&wait)), Ok(0) | Err(rustix::io::Errno::INTR))
}

/// Numbers that differ between processes; xorshift is random enough to spread them.
struct Random(u64);

impl Random {
    fn seeded() -> Self {
        Self(0x9e37_79b9_7f4a_7c15 ^ (u64::from(std::process::id()) << 20))
    }

    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }
}
