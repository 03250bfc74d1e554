//! `kill -9` at every step of the outbox, while the receiver is away, refuses, or loses its answers: what arrived is what was
//! measured.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt as _;

use opentelemetry_proto::tonic::metrics::v1::{metric::Data, number_data_point::Value};
use perfwatch_export::Signal;
use perfwatch_export::receiver::{Answer, Received, Receiver};
use perfwatch_sdk::{Server, Stage};
use perfwatch_store::failpoint::POINTS;
use perfwatch_tests::wait_for;
use tokio::runtime::Runtime;

use super::mortal::Mortal;

/// A cumulative stream's points by their times: (start, value or count), per metric and attributes.
type Streams = BTreeMap<(String, String), BTreeMap<u64, (u64, f64)>>;

/// All cumulative points. Panics when one time of a stream has two values: then a resend was not the same.
fn streams(received: &Received) -> Streams {
    let mut streams = Streams::new();
    let scopes = received
        .metrics
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics);
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let mut note = |attributes: String, time: u64, start: u64, value: f64| {
            let stream = streams.entry((metric.name.clone(), attributes)).or_default();
            let before = stream.insert(time, (start, value));
            assert!(before.is_none_or(|before| before == (start, value)), "{}: {before:?}, then {value}", metric.name);
        };
        match metric.data.as_ref().expect("points") {
            Data::Sum(sum) => sum.data_points.iter().for_each(|point| {
                let value = match point.value.expect("a value") {
                    Value::AsInt(value) => value as f64,
                    Value::AsDouble(value) => value,
                };
                let times = (point.time_unix_nano, point.start_time_unix_nano);
                note(format!("{:?}", point.attributes), times.0, times.1, value);
            }),
            Data::ExponentialHistogram(all) => all.data_points.iter().for_each(|point| {
                let times = (point.time_unix_nano, point.start_time_unix_nano);
                note(format!("{:?}", point.attributes), times.0, times.1, point.count as f64);
            }),
            _ => {}
        }
    }
    streams
}

/// What a metric of the server amounts to: the newest value of each of its streams.
fn newest(streams: &Streams, metric: &str) -> f64 {
    let of = streams.iter().filter(|((name, _), _)| name == metric);
    of.filter_map(|(_, points)| points.values().last()).map(|(_, value)| value).sum()
}

fn record(server: &Server, requests: u64) {
    for _ in 0..requests {
        let mut request = server.request();
        request.enter(Stage::Compute);
        request.finish();
    }
}

#[allow(clippy::float_cmp, reason = "counts, exact in an f64")]
#[test]
fn kill_9_at_every_step_of_the_outbox_loses_nothing_and_counts_nothing_twice() {
    if !cfg!(debug_assertions) {
        return println!("skipped: this build has no failpoints");
    }
    let runtime = Runtime::new().expect("a runtime");
    let receiver = runtime.block_on(Receiver::start()).expect("loopback");
    let mut agent = Mortal::new();
    agent.env.push(("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", format!("{}/v1/metrics", receiver.http_endpoint())));
    agent.env.push(("OTEL_METRIC_EXPORT_INTERVAL", "1000".to_owned()));
    let server = agent.server("shipped");
    let mut recorded = 0;
    let steps = POINTS.iter().filter(|(point, _)| point.ships()).map(|(_, name)| *name);
    let steps: Vec<_> = steps.chain(["tick-taken", "transaction-due", "rows-written", "committed"]).collect();
    for (round, name) in steps.iter().enumerate() {
        record(&server, 7);
        recorded += 7;
        // Every other agent meets a receiver that loses answers or is away.
        match round % 3 {
            0 => receiver.script(Signal::Metrics, [Answer::Lose]),
            1 => receiver.script(Signal::Metrics, [Answer::Busy(None)]),
            _ => {}
        }
        agent.start_armed(Some(&format!("{name}:{}", 1 + round % 2)));
        let status = agent.end(&format!("the failpoint {name}"));
        assert_eq!(status.signal(), Some(9), "{name}: {status}");
    }
    agent.start();
    record(&server, 7);
    recorded += 7;
    let arrived = wait_for("everything at the receiver", || {
        let streams = streams(&receiver.received());
        let whole = newest(&streams, "perfwatch.server.request.duration") >= f64::from(recorded);
        whole.then_some(streams)
    });
    assert_eq!(newest(&arrived, "perfwatch.server.request.duration"), f64::from(recorded));
    assert_eq!(newest(&arrived, "perfwatch.server.requests.started"), f64::from(recorded));
    for ((metric, attributes), points) in &arrived {
        let values: Vec<_> = points.values().collect();
        let rises =
            values.windows(2).all(|pair| pair[0].0 <= pair[1].0 && (pair[0].0 < pair[1].0 || pair[0].1 <= pair[1].1));
        assert!(rises, "{metric} {attributes}: {points:?}");
        let (time, (start, value)) = points.first_key_value().expect("a stream has a point");
        assert!(time == start && *value == 0.0, "{metric} begins with a zero point: {points:?}");
    }
    agent.ask_to_stop();
    assert!(agent.end("the agent to stop when asked").success());
}
