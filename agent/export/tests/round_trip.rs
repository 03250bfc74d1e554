//! What the receiver decodes is what was offered, over both protocols.

mod feed;

use std::collections::BTreeMap;

use feed::{EPOCH, Feed, PATIENCE, PROTOCOLS, SECOND, endpoint, exporter, overload};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use perfwatch_export::receiver::{Received, Receiver};
use perfwatch_export::{Signal, exphist};
use perfwatch_model::metrics::server;
use perfwatch_model::{Bounded, Histogram, Number, SparseHdr, histogram::layout};

fn texts(attributes: &[KeyValue]) -> BTreeMap<String, String> {
    attributes
        .iter()
        .map(|attribute| match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => (attribute.key.clone(), text.clone()),
            other => panic!("{} is {other:?}", attribute.key),
        })
        .collect()
}

fn metrics(received: &Received, name: &str) -> Vec<Metric> {
    let scopes = received
        .metrics
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics);
    scopes.flat_map(|scope| &scope.metrics).filter(|metric| metric.name == name).cloned().collect()
}

/// (start, time, value) of a metric's number points, times in seconds since the feed began.
fn numbers(received: &Received, name: &str) -> Vec<(u64, u64, f64)> {
    let seconds = |ns: u64| ns.saturating_sub(EPOCH) / SECOND;
    let points = metrics(received, name).into_iter().flat_map(|metric| match metric.data {
        Some(Data::Gauge(gauge)) => gauge.data_points,
        Some(Data::Sum(sum)) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{name} is a cumulative, monotonic sum");
            sum.data_points
        }
        other => panic!("{name} is {other:?}"),
    });
    points
        .map(|point| {
            let value = match point.value {
                Some(number_data_point::Value::AsInt(value)) => value as f64,
                Some(number_data_point::Value::AsDouble(value)) => value,
                None => panic!("{name} has a point without a value"),
            };
            (seconds(point.start_time_unix_nano), seconds(point.time_unix_nano), value)
        })
        .collect()
}

/// 5,000 latencies and some zeros, recorded in two ticks.
fn latencies(seed: u64) -> (Vec<u64>, SparseHdr) {
    let mut state = seed;
    let values: Vec<u64> = (0..2_500)
        .map(|at| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            if at % 100 == 0 { 0 } else { (state >> 33) % 1_000_000_000 + 50_000 }
        })
        .collect();
    let mut histogram = SparseHdr::new();
    for value in &values {
        histogram.record(*value);
    }
    (values, histogram)
}

#[tokio::test]
async fn what_arrives_is_what_was_offered() {
    for protocol in PROTOCOLS {
        for compression in ["gzip", "none"] {
            round_trip(protocol, compression).await;
        }
    }
}

async fn round_trip(protocol: &str, compression: &str) {
    let receiver = Receiver::start().await.expect("loopback has free ports");
    let more = [("OTEL_EXPORTER_OTLP_COMPRESSION", compression), ("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=team%20a")];
    let mut exporter = exporter(&endpoint(&receiver, protocol), protocol, &more);
    let mut feed = Feed::new();
    let gauge = feed.series(&server::IN_FLIGHT);
    let started = feed.series(&server::REQUESTS_STARTED);
    let cpu = feed.series(&server::CPU_TIME);
    let duration = feed.series(&server::REQUEST_DURATION);
    let batch = feed.series(&server::BATCH_SIZE);
    let bounded = Bounded { bounds: vec![1.0, 8.0], counts: vec![3, 2, 1], sum: 30.0 };

    let mut all = Vec::new();
    for second in 1..=2_u64 {
        let (values, histogram) = latencies(second);
        all.extend(values);
        let numbers = [
            (gauge, Number::Float(second as f64 / 2.0)),
            (started, Number::Int(second * 10)),
            (cpu, Number::Int(second * SECOND / 4)),
        ];
        let histograms = [(duration, Histogram::Hdr(histogram)), (batch, Histogram::Bounded(bounded.clone()))];
        let tick = feed.tick(&numbers, &histograms);
        exporter.offer(&tick, &feed.table, &[overload()]);
    }
    exporter.flush(&feed.table, PATIENCE).await;
    let arrived = receiver.received();
    let case = format!("{protocol} {compression}: {}", exporter.state());

    assert_eq!(numbers(&arrived, "perfwatch.server.requests.in_flight"), [(0, 1, 0.5), (0, 2, 1.0)], "{case}");
    assert_eq!(numbers(&arrived, "perfwatch.server.requests.in_flight.max"), [(0, 1, 0.5), (0, 2, 1.0)], "{case}");
    assert_eq!(
        numbers(&arrived, "perfwatch.server.requests.started"),
        [(0, 0, 0.0), (0, 1, 10.0), (0, 2, 20.0)],
        "{case}"
    );
    assert_eq!(numbers(&arrived, "perfwatch.server.cpu.time"), [(0, 0, 0.0), (0, 1, 0.25), (0, 2, 0.5)], "{case}");
    check_exponential(&arrived, &all);
    check_bounded(&arrived, &bounded);

    let resource = arrived.metrics[0].resource_metrics[0].resource.as_ref().expect("a resource");
    let resource = texts(&resource.attributes);
    assert_eq!(resource["service.name"], "perfwatch");
    assert_eq!(resource["host.name"], "node-7");
    assert_eq!(resource["host.arch"], "amd64", "what is known about the host completes the resource");

    let record = &arrived.logs[0].resource_logs[0].scope_logs[0].log_records[0];
    assert_eq!((arrived.logs.len(), record.event_name.as_str()), (1, "perfwatch.finding"), "{case}");
    assert_eq!(texts(&record.attributes[..3])["perfwatch.server.name"], "shop");
    assert_eq!(numbers(&arrived, "perfwatch.finding.active"), [(0, 1, 1.0), (0, 2, 1.0)], "{case}");

    for attempt in arrived.attempts(Signal::Metrics) {
        assert_eq!(attempt.header("x-scope"), Some("team a"), "{case}");
        assert!(attempt.header("user-agent").is_some_and(|agent| agent.starts_with("perfwatch/")), "{case}");
        let encoding = attempt.header("content-encoding").or(attempt.header("grpc-encoding"));
        assert_eq!(encoding.unwrap_or("none"), compression, "{case}");
    }
    assert_eq!((exporter.state().as_str(), exporter.rejected), ("ok", 0), "{case}");
    // A gauge and its peak, two sums, two histograms, the findings' gauge; zero points included. One record comes on top.
    let offered: u64 = 2 + 2 + 3 + 3 + 3 + 3 + 2;
    assert_eq!(exporter.sent, offered + 1, "{case}");
}

fn check_exponential(received: &Received, values: &[u64]) {
    let mut points = Vec::new();
    for metric in metrics(received, "perfwatch.server.request.duration") {
        assert_eq!(metric.unit, "s");
        let Some(Data::ExponentialHistogram(data)) = metric.data else { panic!("not exponential") };
        assert_eq!(data.aggregation_temporality, 2);
        points.extend(data.data_points);
    }
    assert_eq!(points.iter().map(|point| point.count).collect::<Vec<_>>(), [0, 2_500, 5_000]);
    assert!(points.windows(2).all(|pair| pair[0].time_unix_nano < pair[1].time_unix_nano));
    let last = points.pop().expect("three points");
    let exact: u128 = values.iter().map(|value| u128::from(*value)).sum();
    let sum = last.sum.expect("a sum");
    assert!((sum / (exact as f64 * 1e-9) - 1.0).abs() < 1e-12, "the sum is exact");
    assert_eq!(last.zero_count, 50);

    let positive = last.positive.expect("values above 0");
    let mut expected = vec![0_u64; positive.bucket_counts.len()];
    for value in values.iter().filter(|value| **value > 0) {
        let middle = layout::middle(layout::index(*value)) as f64 * 1e-9;
        expected[usize::try_from(exphist::index(middle, last.scale) - positive.offset).expect("within")] += 1;
    }
    assert_eq!(positive.bucket_counts, expected);
}

fn check_bounded(received: &Received, gained: &Bounded) {
    let mut points = Vec::new();
    for metric in metrics(received, "perfwatch.server.batch.size") {
        let Some(Data::Histogram(data)) = metric.data else { panic!("not with bounds") };
        points.extend(data.data_points);
    }
    let counts: Vec<_> = points.iter().map(|point| point.bucket_counts.clone()).collect();
    assert_eq!(counts, [vec![0, 0, 0], vec![3, 2, 1], vec![6, 4, 2]]);
    let last = points.pop().expect("three points");
    assert_eq!((last.count, last.sum, last.explicit_bounds), (12, Some(60.0), gained.bounds.clone()));
}
