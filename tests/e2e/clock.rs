//! An agent that is stopped and let go on (SIGSTOP and SIGCONT, a suspended machine, a stall): the tick that covers the gap
//! is as long as the gap, so every rate stays true, and nothing that was counted meanwhile is lost.

use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use perfwatch_export::receiver::{Received, Receiver};
use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, wait_for};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::PERFWATCH;

/// A signal is for the test's own child.
fn signal(agent: &Agent, signal: Signal) {
    let pid = Pid::from_raw(agent.pid().cast_signed()).expect("a child has a pid");
    kill_process(pid, signal).expect("our child can be signalled");
}

/// Length of each tick, and CPU seconds that the machine had in it per second and CPU: 1, whoever used them.
fn lengths_and_rates(agent: &Agent) -> Vec<(f64, f64)> {
    let answer = agent.json("/v1/ticks?from=0&to=99999999999");
    let ids = |metric: &str| -> Vec<u64> {
        let series = answer["series"].as_array().expect("a list").iter();
        series.filter(|series| series["metric"] == metric).filter_map(|series| series["id"].as_u64()).collect()
    };
    let (times, counts) = (ids("system.cpu.time"), ids("system.cpu.logical.count"));
    let sum = |tick: &Value, ids: &[u64]| -> f64 {
        let values = tick["values"].as_array().expect("a list").iter();
        values.filter(|pair| ids.contains(&pair[0].as_u64().unwrap_or(0))).filter_map(|pair| pair[1].as_f64()).sum()
    };
    let ticks = answer["ticks"].as_array().expect("a list");
    ticks
        .iter()
        .zip(&ticks[1..])
        .map(|(before, after)| {
            let dt_s = after["dt_s"].as_f64().expect("a length");
            (dt_s, (sum(after, &times) - sum(before, &times)) / dt_s / sum(after, &counts))
        })
        .collect()
}

fn metrics<'a>(received: &'a Received, name: &'a str) -> impl Iterator<Item = &'a Metric> {
    let resources = received.metrics.iter().flat_map(|request| &request.resource_metrics);
    let all = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
    all.filter(move |metric| metric.name == name)
}

/// Requests of the newest point that arrived, and the stamps of all of them.
fn requests(received: &Received) -> (u64, Vec<u64>) {
    let points = metrics(received, "perfwatch.server.request.duration").filter_map(|metric| match &metric.data {
        Some(Data::ExponentialHistogram(histogram)) => histogram.data_points.last(),
        _ => None,
    });
    let points: Vec<_> = points.map(|point| (point.count, point.time_unix_nano)).collect();
    (points.last().map_or(0, |(count, _)| *count), points.into_iter().map(|(_, stamp)| stamp).collect())
}

fn serve(server: &Server, count: u64) {
    for _ in 0..count {
        let mut request = server.request();
        request.enter(Stage::Compute);
        request.finish();
    }
}

fn missed(agent: &Agent) -> u64 {
    agent.json("/v1/snapshot")["agent"]["ticks_missed"].as_u64().expect("a number")
}

fn stopped_for(seconds: u64) {
    let runtime = Runtime::new().expect("a runtime");
    let receiver = runtime.block_on(Receiver::start()).expect("loopback");
    let endpoint = receiver.http_endpoint();
    let args = ["--otlp-endpoint", &endpoint];
    let agent = Agent::spawn(PERFWATCH, &args, &[("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    let server = Server::builder("stalled").socket(agent.dir().join("probe.sock")).start();
    serve(&server, 40);
    wait_for("the first requests at the receiver", || (requests(&receiver.received()).0 == 40).then_some(()));
    let before = missed(&agent);

    signal(&agent, Signal::STOP);
    serve(&server, 30);
    std::thread::sleep(Duration::from_secs(seconds));
    signal(&agent, Signal::CONT);
    serve(&server, 5);

    wait_for("all requests at the receiver", || (requests(&receiver.received()).0 == 75).then_some(()));
    let ticks = wait_for("ticks after the gap", || {
        let ticks = lengths_and_rates(&agent);
        let gap = ticks.iter().position(|(dt_s, _)| *dt_s > seconds as f64 - 1.0)?;
        (ticks.len() >= gap + 3).then_some(ticks)
    });
    for (dt_s, rate) in &ticks {
        // The kernel counts in steps of 10 ms, by mode and CPU.
        assert!((rate - 1.0).abs() <= 0.1 + 0.08 / dt_s, "{rate} in a tick of {dt_s} s: {ticks:?}");
    }
    assert!(missed(&agent) >= before + seconds - 1, "the seconds without a tick are counted");
    let (_, stamps) = requests(&receiver.received());
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    let (status, stderr) = agent.terminate();
    assert!(status.success(), "{stderr}");
}

#[test]
fn an_agent_that_is_suspended_and_resumed_loses_nothing_and_invents_no_rate() {
    stopped_for(3);
}

#[test]
fn a_stall_of_ten_seconds_is_one_long_tick_with_true_rates() {
    stopped_for(10);
}
