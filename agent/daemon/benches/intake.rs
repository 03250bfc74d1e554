//! What an export costs the agent, from its bytes to what is kept of it, and what a tick costs then.
//!
//! The metrics are 1,000 points of one server: 600 counters, 300 gauges, 50 explicit histograms of 16 buckets and 50
//! exponential ones of 80. The spans are 500: 100 requests of a server with 4 stages each, and 500 of vLLM, which are
//! requests. Decoding alone stands beside them.

#![allow(missing_docs, reason = "criterion's macros generate undocumented items")]

use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint,
    Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use perfwatch_agent::intake::Inlet;
use perfwatch_model::{SeriesTable, Stamp, Tick};
use prost::Message as _;

const SECOND: u64 = 1_000_000_000;
const WALL: u64 = 1_700_000_000 * SECOND;
const CUMULATIVE: i32 = AggregationTemporality::Cumulative as i32;

fn attribute(key: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value)) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn metric(name: &str, unit: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}

/// The export of second `at`.
fn metrics(at: u64) -> Vec<u8> {
    let attributes = |number: u64| {
        vec![attribute("http.route", format!("/v1/models/{number}")), attribute("gen_ai.request.model", "llama".into())]
    };
    let (start, end) = (WALL, WALL + at * SECOND);
    let number = |number: u64| NumberDataPoint {
        attributes: attributes(number),
        start_time_unix_nano: start,
        time_unix_nano: end,
        value: Some(number_data_point::Value::AsInt((at * 7 + number) as i64)),
        ..NumberDataPoint::default()
    };
    let explicit = |number: u64| HistogramDataPoint {
        attributes: attributes(number),
        start_time_unix_nano: start,
        time_unix_nano: end,
        count: at * 16,
        sum: Some(at as f64),
        bucket_counts: vec![at; 16],
        explicit_bounds: (0..15).map(f64::from).collect(),
        ..HistogramDataPoint::default()
    };
    let exponential = |number: u64| ExponentialHistogramDataPoint {
        attributes: attributes(number),
        start_time_unix_nano: start,
        time_unix_nano: end,
        count: at * 80,
        sum: Some(at as f64),
        scale: 3,
        positive: Some(Buckets { offset: -40, bucket_counts: vec![at; 80] }),
        ..ExponentialHistogramDataPoint::default()
    };
    let counters =
        Sum { data_points: (0..600).map(number).collect(), aggregation_temporality: CUMULATIVE, is_monotonic: true };
    let metrics = vec![
        metric("app.jobs", "{job}", Data::Sum(counters)),
        metric("app.level", "{item}", Data::Gauge(Gauge { data_points: (0..300).map(number).collect() })),
        metric(
            "http.server.request.duration",
            "s",
            Data::Histogram(Histogram {
                data_points: (0..50).map(explicit).collect(),
                aggregation_temporality: CUMULATIVE,
            }),
        ),
        metric(
            "app.wait",
            "s",
            Data::ExponentialHistogram(ExponentialHistogram {
                data_points: (0..50).map(exponential).collect(),
                aggregation_temporality: CUMULATIVE,
            }),
        ),
    ];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn traces(spans: Vec<Span>) -> Vec<u8> {
    let scope_spans = vec![ScopeSpans { spans, ..ScopeSpans::default() }];
    let resource_spans = vec![ResourceSpans { scope_spans, ..ResourceSpans::default() }];
    ExportTraceServiceRequest { resource_spans }.encode_to_vec()
}

fn span(trace: u64, id: u64, parent: u64, kind: i32, name: &str) -> Span {
    Span {
        trace_id: u128::from(trace + 1).to_be_bytes().to_vec(),
        span_id: (id + 1).to_be_bytes().to_vec(),
        parent_span_id: if parent == 0 { Vec::new() } else { parent.to_be_bytes().to_vec() },
        kind,
        name: name.to_owned(),
        start_time_unix_nano: WALL + id * 1_000,
        end_time_unix_nano: WALL + id * 1_000 + 5_000_000,
        attributes: vec![attribute("http.route", "/v1/completions".into()), attribute("server.port", "8000".into())],
        ..Span::default()
    }
}

fn requests_with_stages() -> Vec<u8> {
    let request = |trace: u64| {
        let stages = ["tokenize", "queue", "inference", "detokenize"];
        let inner = (1..).zip(stages).map(move |(id, name)| span(trace, id, 1, 1, name));
        inner.chain([span(trace, 0, 0, 2, "POST /v1/completions")])
    };
    traces((0..100).flat_map(request).collect())
}

fn requests_of_vllm() -> Vec<u8> {
    let request = |trace: u64| {
        let mut span = span(trace, 0, 0, 2, "llm_request");
        for name in ["e2e", "time_in_queue", "time_in_model_prefill", "time_in_model_decode", "time_to_first_token"] {
            let value = Some(AnyValue { value: Some(Value::DoubleValue(0.25)) });
            span.attributes.push(KeyValue { key: format!("gen_ai.latency.{name}"), value, ..KeyValue::default() });
        }
        span
    };
    traces((0..500).map(request).collect())
}

fn now(mono_ns: u64) -> Stamp {
    Stamp { mono_ns, wall_ns: WALL }
}

/// An intake that has seen the export before this one.
fn inlet() -> Inlet {
    let mut inlet = Inlet::new(now(0), Some(1.0));
    assert_eq!(inlet.metrics(&metrics(1), 0), Ok(0));
    close(&mut inlet, &mut SeriesTable::new(), SECOND);
    inlet
}

fn close(inlet: &mut Inlet, table: &mut SeriesTable, mono_ns: u64) -> Tick {
    let mut tick = Tick { end: now(mono_ns), dt_ns: SECOND, ..Tick::default() };
    inlet.close(&mut tick, table);
    tick
}

fn points(c: &mut Criterion) {
    let message = metrics(2);
    let mut group = c.benchmark_group("intake of 1,000 points");
    group.throughput(Throughput::Elements(1_000));
    group.bench_function("decoded and no more", |b| {
        b.iter(|| ExportMetricsServiceRequest::decode(black_box(&message[..])).expect("valid"));
    });
    group.bench_function("taken in", |b| {
        b.iter_batched_ref(inlet, |inlet| inlet.metrics(black_box(&message), SECOND), BatchSize::LargeInput);
    });
    group.bench_function("and closed into a tick", |b| {
        let prepare = || {
            let mut table = SeriesTable::new();
            let mut inlet = inlet();
            close(&mut inlet, &mut table, SECOND);
            assert_eq!(inlet.metrics(&message, SECOND), Ok(0));
            (inlet, table)
        };
        b.iter_batched_ref(prepare, |(inlet, table)| close(inlet, table, 2 * SECOND), BatchSize::LargeInput);
    });
    group.finish();
}

fn spans(c: &mut Criterion) {
    let mut group = c.benchmark_group("intake of 500 spans");
    group.throughput(Throughput::Elements(500));
    for (name, message) in [("100 requests, 4 stages each", requests_with_stages()), ("of vLLM", requests_of_vllm())] {
        group.bench_function(format!("{name}: decoded and no more"), |b| {
            b.iter(|| ExportTraceServiceRequest::decode(black_box(&message[..])).expect("valid"));
        });
        group.bench_function(format!("{name}: taken in"), |b| {
            b.iter_batched_ref(inlet, |inlet| inlet.traces(black_box(&message), SECOND), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, points, spans);
criterion_main!(benches);
