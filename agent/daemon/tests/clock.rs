//! A wall clock that is set forward and back while a whole agent measures: what is measured here divides by the monotonic
//! clock and stays true; what leaves is stamped with wall time that never goes back, and waits where a backend would refuse
//! it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value as Point};
use perfwatch_agent::{Agent, Config, Environment, Flags, Role, Running, SystemClock};
use perfwatch_export::receiver::{Received, Receiver};
use perfwatch_model::{Clock, Stamp};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

const PATIENCE: Duration = Duration::from_mins(1);
const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
/// How far a stamp may lie ahead of the wall clock: backends refuse ten minutes.
const MAX_AHEAD_S: f64 = 9.0 * 60.0;

/// The machine's clocks, with a wall clock that a test sets.
#[derive(Default)]
struct SetClock {
    offset_s: AtomicI64,
}

impl SetClock {
    fn set(&self, offset_s: i64) {
        self.offset_s.store(offset_s, Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Stamp {
        let now = SystemClock.now();
        let offset_ns = self.offset_s.load(Ordering::Relaxed) * 1_000_000_000;
        Stamp { wall_ns: now.wall_ns.saturating_add_signed(offset_ns), ..now }
    }
}

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<SetClock>,
    agent: Running,
}

impl Rig {
    async fn new(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let clock = Arc::new(SetClock::default());
        let agent = start(folder.path(), endpoint, Arc::clone(&clock)).await;
        Self { folder, clock, agent }
    }

    /// Lets this many ticks close.
    async fn ticks(&self, count: usize) {
        let mut snapshots = self.agent.subscribe();
        for _ in 0..=count {
            tokio::time::timeout(PATIENCE, snapshots.next()).await.expect("ticks go on").expect("the agent runs");
        }
    }

    /// All ticks of the ring, whatever the wall clock said when they ended.
    async fn history(&self) -> Vec<LocalTick> {
        let mut stream = UnixStream::connect(self.folder.path().join("api.sock")).await.expect("the api listens");
        let request = b"GET /v1/ticks?from=0&to=99999999999 HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("the api reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        local_ticks(&serde_json::from_str(body).expect("JSON"))
    }
}

async fn start(folder: &Path, endpoint: &str, clock: Arc<SetClock>) -> Running {
    let values = [("otlp.endpoint", endpoint), ("journal.mode", "memory")];
    let values = values.map(|(key, value)| (key.to_owned(), value.to_owned())).into_iter().collect();
    let environment = [("OTEL_METRIC_EXPORT_INTERVAL", "1000")];
    let environment: Environment = environment.into_iter().collect();
    let config = Config::load(&Flags { file: None, values }, environment).expect("a valid configuration");
    Agent::start(config, Role::Private(folder.to_owned()), clock).await.expect("the agent starts")
}

/// What a tick says of the machine's CPU time: in every second each CPU has one second of it, idle or not. No better known
/// truth can be had of a running machine.
struct LocalTick {
    dt_s: f64,
    cpu_s: f64,
    cpus: f64,
}

fn local_ticks(answer: &Value) -> Vec<LocalTick> {
    let ids = |metric: &str| -> Vec<u64> {
        let series = answer["series"].as_array().expect("a list").iter();
        series.filter(|series| series["metric"] == metric).filter_map(|series| series["id"].as_u64()).collect()
    };
    let (times, counts) = (ids("system.cpu.time"), ids("system.cpu.logical.count"));
    let sum = |tick: &Value, ids: &[u64]| -> f64 {
        let values = tick["values"].as_array().expect("a list").iter();
        values.filter(|pair| ids.contains(&pair[0].as_u64().unwrap_or(0))).filter_map(|pair| pair[1].as_f64()).sum()
    };
    let ticks = answer["ticks"].as_array().expect("a list").iter();
    ticks
        .map(|tick| LocalTick {
            dt_s: tick["dt_s"].as_f64().expect("a length"),
            cpu_s: sum(tick, &times),
            cpus: sum(tick, &counts),
        })
        .collect()
}

/// Each tick's rate is what it must be.
fn assert_rates_are_true(ticks: &[LocalTick]) {
    for (before, after) in ticks.iter().zip(&ticks[1..]) {
        let rate = (after.cpu_s - before.cpu_s) / after.dt_s;
        // The kernel counts in steps of 10 ms, by mode and CPU.
        let tolerance = after.cpus * (0.1 + 0.08 / after.dt_s);
        assert!((rate - after.cpus).abs() <= tolerance, "{rate} CPU seconds a second on {} CPUs", after.cpus);
    }
}

/// By stamp in seconds: the machine's CPU time over all modes, as it left.
fn exported(received: &Received) -> Vec<(f64, f64)> {
    let mut by_request = Vec::new();
    for request in &received.metrics {
        let mut sums: BTreeMap<u64, f64> = BTreeMap::new();
        let metrics = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        for metric in metrics.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == "system.cpu.time") {
            let Some(Data::Sum(sum)) = &metric.data else { panic!("{metric:?} is a sum") };
            for point in &sum.data_points {
                // The zero that a cumulative series begins with says nothing about the machine.
                if point.time_unix_nano > point.start_time_unix_nano {
                    let value = match point.value {
                        Some(Point::AsDouble(value)) => value,
                        Some(Point::AsInt(value)) => value as f64,
                        None => panic!("{point:?} has a value"),
                    };
                    *sums.entry(point.time_unix_nano).or_default() += value;
                }
            }
        }
        by_request.extend(sums.into_iter().map(|(stamp, sum)| (stamp as f64 / 1e9, sum)));
    }
    by_request
}

fn wall_s(clock: &SetClock) -> f64 {
    clock.now().wall_ns as f64 / 1e9
}

#[tokio::test]
async fn an_hour_forth_and_back_leaves_rates_true_stamps_rising_and_totals_whole() {
    let receiver = Receiver::start().await.expect("a free port");
    let rig = Rig::new(&receiver.http_endpoint()).await;
    rig.ticks(3).await;

    // Forward by an hour: adopted, with a gap.
    let before = exported(&receiver.received()).last().copied();
    rig.clock.set(HOUR);
    let adopted = wall_s(&rig.clock);
    let arrived =
        receiver.wait_for(|received| exported(received).last().is_some_and(|(stamp, _)| *stamp >= adopted - 2.0));
    let arrived = arrived.await.expect("points of the new hour arrive");
    assert!(before.is_none_or(|(stamp, _)| exported(&arrived).iter().any(|(later, _)| later - stamp > 3500.0)));
    rig.ticks(2).await;

    // Back again: an hour is more than backends bear, so nothing leaves, and nothing is lost.
    rig.clock.set(0);
    rig.ticks(2).await;
    let held = exported(&receiver.received()).len();
    rig.ticks(4).await;
    assert_eq!(
        exported(&receiver.received()).len(),
        held,
        "a stamp an hour ahead of the clock, or one that went back, left"
    );

    // The clock is right again, and then five minutes slow, which stamps make up for by running ahead.
    rig.clock.set(HOUR);
    let resumed = receiver.wait_for(|received| exported(received).len() > held).await;
    let resumed = exported(&resumed.expect("export goes on"))[held];
    assert!((resumed.0 - wall_s(&rig.clock)).abs() < 30.0, "stamped with the present");
    rig.ticks(2).await;
    rig.clock.set(HOUR - 5 * MINUTE);
    let slow = exported(&receiver.received()).len();
    receiver.wait_for(|received| exported(received).len() >= slow + 3).await.expect("export goes on");
    let ahead_of = wall_s(&rig.clock);
    let points = exported(&receiver.received());
    let newest = points.last().expect("points arrived").0;
    assert!(newest > ahead_of + 200.0 && newest < ahead_of + MAX_AHEAD_S, "{newest} beside {ahead_of}");

    for (before, after) in points.iter().zip(&points[1..]) {
        assert!(after.0 > before.0, "stamps {} and {}", before.0, after.0);
        assert!(after.1 >= before.1, "totals {} and {}", before.1, after.1);
    }
    let ticks = rig.history().await;
    assert!(ticks.len() >= 12, "{} ticks", ticks.len());
    assert_rates_are_true(&ticks);
    // What left between the first and the last point is what was measured between two ticks, to the last of the kernel's
    // hundredths: the wait in the middle lost nothing.
    let (first, last) = (points[0].1, points[points.len() - 1].1);
    let gained = last - first;
    let matches = |from: &LocalTick| ticks.iter().any(|to| (to.cpu_s - from.cpu_s - gained).abs() < 1e-6);
    assert!(ticks.iter().any(matches), "{gained} s left, which no two ticks are apart");
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_clock_that_was_wrong_at_the_start_is_followed_when_it_is_set() {
    let receiver = Receiver::start().await.expect("a free port");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = Arc::new(SetClock::default());
    // As on a board without a battery: decades behind until the network tells the time.
    clock.set(-30 * 365 * 24 * HOUR);
    let agent = start(folder.path(), &receiver.http_endpoint(), Arc::clone(&clock)).await;
    let rig = Rig { folder, clock, agent };
    rig.ticks(3).await;
    rig.clock.set(0);
    let now = wall_s(&rig.clock);
    let arrived = receiver.wait_for(|received| exported(received).last().is_some_and(|(stamp, _)| *stamp >= now - 2.0));
    let points = exported(&arrived.await.expect("points of the present arrive"));
    assert!(points.iter().zip(&points[1..]).all(|(before, after)| after.0 > before.0 && after.1 >= before.1));
    rig.ticks(2).await;
    assert_rates_are_true(&rig.history().await);
    rig.agent.shutdown().await;
}
