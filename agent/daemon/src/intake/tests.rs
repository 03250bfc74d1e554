//! The intake itself: limits, refusals and answers. `tests/intake.rs` has whole agents with an independent sender.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use axum::http::uri::PathAndQuery;
use flate2::write::GzEncoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse, metrics_service_client::MetricsServiceClient,
};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics,
    ScopeMetrics, Sum, Summary, SummaryDataPoint, metric::Data, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::ResourceSpans;
use perfwatch_model::{AttrValue, EntityKind, Number, Stamp};
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Channel, Endpoint};
use tonic_types::StatusExt as _;

mod limits;

const SECOND: u64 = 1_000_000_000;

/// A clock that stands until it is set.
#[derive(Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Stamp {
        let mono_ns = self.0.load(Ordering::Relaxed);
        Stamp { mono_ns, wall_ns: 1_700_000_000 * SECOND + mono_ns }
    }
}

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<Hand>,
    intake: Intake,
    table: SeriesTable,
}

impl Rig {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let socket = UnixListener::bind(folder.path().join(SOCKET)).expect("a free name");
        socket.set_nonblocking(true).expect("a socket");
        let free = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        let settings = Settings { intake_grpc: free, intake_http: free, ..Settings::default() };
        let clock = Arc::new(Hand::default());
        let intake = Intake::start(socket, &settings, Arc::<Hand>::clone(&clock)).expect("it starts");
        Self { folder, clock, intake, table: SeriesTable::new() }
    }

    async fn channel(&self) -> Channel {
        let path = format!("unix://{}", self.folder.path().join(SOCKET).display());
        Endpoint::from_shared(path).expect("a path").connect().await.expect("the intake listens")
    }

    async fn metrics(&self, metrics: Vec<Metric>) -> Result<ExportMetricsServiceResponse, tonic::Status> {
        let mut client = MetricsServiceClient::new(self.channel().await);
        client.export(request(metrics)).await.map(tonic::Response::into_inner)
    }

    async fn refused(&self, metrics: Vec<Metric>) -> (i64, String) {
        let partial = self.metrics(metrics).await.expect("taken in part").partial_success.expect("partial");
        (partial.rejected_data_points, partial.error_message)
    }

    fn tick(&mut self) -> Tick {
        let end = self.clock.now();
        let mut tick = Tick { end, dt_ns: SECOND, ..Tick::default() };
        self.intake.close(&mut tick, &mut self.table, &|_| false);
        self.intake.retire(end.mono_ns, &mut self.table);
        tick.seal();
        tick
    }

    /// Values of a tick by the first attribute of their series; only those of this metric.
    fn values(&self, tick: &Tick, metric: &str) -> HashMap<String, Number> {
        let of = |(series, number): &(_, Number)| {
            let series = self.table.series_of(*series).filter(|series| series.metric.name == metric)?;
            let name = series.attrs.first().map(|attr| match (&attr.key, &attr.value) {
                (&"otel.metric.overflow", _) => "overflow".to_owned(),
                (_, AttrValue::Text(text)) => text.to_string(),
                (_, value) => value.to_string(),
            });
            Some((name.unwrap_or_default(), *number))
        };
        tick.values.iter().filter_map(of).collect()
    }

    /// Status and body of an HTTP request with these headers.
    async fn post(&self, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let address = self.intake.http().expect("configured");
        let mut stream = tokio::net::TcpStream::connect(address).await.expect("the intake listens");
        let length = body.len();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("it reads");
        // What is refused early is not read to its end.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let at = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8_lossy(&answer[..at]).into_owned();
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, head, answer[at + 4..].to_vec())
    }
}

fn attribute(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}

fn shop() -> Resource {
    let attributes = vec![attribute("service.name", "shop"), attribute("service.instance.id", "1")];
    Resource { attributes, ..Resource::default() }
}

fn request(metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource_metrics =
        vec![ResourceMetrics { resource: Some(shop()), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }
}

fn point(value: i64, route: &str) -> NumberDataPoint {
    NumberDataPoint {
        attributes: vec![attribute("route", route)],
        value: Some(number_data_point::Value::AsInt(value)),
        ..NumberDataPoint::default()
    }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), unit: "{item}".to_owned(), data: Some(data), ..Metric::default() }
}

fn sum(name: &str, temporality: AggregationTemporality, points: Vec<NumberDataPoint>) -> Metric {
    let aggregation_temporality = temporality as i32;
    metric(name, Data::Sum(Sum { data_points: points, aggregation_temporality, is_monotonic: true }))
}

fn gauge(name: &str, points: Vec<NumberDataPoint>) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points: points }))
}

#[tokio::test]
async fn what_cannot_be_taken_is_counted_and_the_rest_is_kept() {
    let mut rig = Rig::new();
    let summary = Data::Summary(Summary { data_points: vec![SummaryDataPoint::default(); 3] });
    let metrics = vec![
        metric("latency.summary", summary),
        gauge("perfwatch.mine", vec![point(1, "a")]),
        gauge("level", vec![point(7, "a"), NumberDataPoint::default()]),
    ];
    let (count, why) = rig.refused(metrics).await;
    assert_eq!(count, 5);
    assert!(why.contains("summary"), "the first reason: {why}");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "level"), HashMap::from([("a".to_owned(), Number::Float(7.0))]));
    assert_eq!(rig.intake.counts().rejected, 5);
}

#[tokio::test]
async fn an_agent_does_not_take_in_what_it_exports() {
    let mut rig = Rig::new();
    let mut sent = request(vec![gauge("system.memory.limit", vec![point(1, "a")])]);
    let scope = InstrumentationScope { name: "perfwatch".to_owned(), ..InstrumentationScope::default() };
    sent.resource_metrics[0].scope_metrics[0].scope = Some(scope);
    let mut client = MetricsServiceClient::new(rig.channel().await);
    let answer = client.export(sent).await.expect("in part").into_inner().partial_success.expect("partial");
    assert!(answer.rejected_data_points == 1 && answer.error_message.contains("otlp.endpoint"), "{answer:?}");
    let spans = vec![spans::tests::scope("perfwatch", vec![spans::tests::span("tick", (1, 0), (0, 5))])];
    let resource_spans = vec![ResourceSpans { scope_spans: spans, ..ResourceSpans::default() }];
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let (_, _, answer) = rig.post("/v1/traces", "Content-Type: application/x-protobuf\r\n", &body).await;
    let answer = ExportTraceServiceResponse::decode(&answer[..]).expect("an answer");
    assert_eq!(answer.partial_success.map(|partial| partial.rejected_spans), Some(1));
    rig.tick();
    assert_eq!(rig.table.entities().count(), 0, "and it is no server");
}

#[tokio::test]
async fn totals_begin_at_0_with_each_agent_and_after_a_long_silence() {
    let start = 1_700_000_000 * SECOND;
    let send = |value, (from, to): (u64, u64)| {
        let times = |point| NumberDataPoint { start_time_unix_nano: from, time_unix_nano: to, ..point };
        vec![sum("jobs", AggregationTemporality::Cumulative, vec![times(point(value, "a"))])]
    };
    let mut total = None;
    for (sent, gained) in [([1_000, 1_010], 10), ([1_020, 1_025], 5)] {
        let mut rig = Rig::new();
        rig.metrics(send(sent[0], (start - SECOND, start + SECOND))).await.expect("taken");
        let tick = rig.tick();
        assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(0));
        rig.metrics(send(sent[1], (start - SECOND, start + 2 * SECOND))).await.expect("taken");
        let tick = rig.tick();
        assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(gained));
        total = Some(rig);
    }
    let mut rig = total.expect("two agents");
    rig.clock.0.store(700 * SECOND, Ordering::Relaxed);
    rig.tick();
    assert_eq!(rig.table.entities().count(), 0, "forgotten");
    rig.metrics(send(1_030, (start + SECOND / 2, start + 700 * SECOND))).await.expect("taken");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(1_030), "restarted since it was heard last");
    rig.clock.0.store(1_400 * SECOND, Ordering::Relaxed);
    rig.tick();
    rig.metrics(send(1_040, (start + SECOND / 2, start + 1_400 * SECOND))).await.expect("taken");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(0), "what was counted before is not counted again");
}

#[tokio::test]
async fn what_was_counted_before_the_sdk_left_is_not_counted_again() {
    let mut rig = Rig::new();
    let jobs = |value| vec![sum("jobs", AggregationTemporality::Delta, vec![point(value, "a")])];
    rig.metrics(jobs(10)).await.expect("taken");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(10));
    // The entity is the SDK's as well, and ends when that has been silent for a minute; the sender goes on.
    let entity = rig.table.find_entity(EntityKind::Server, "shop/1").expect("it is known");
    rig.table.retire(entity);
    rig.metrics(jobs(3)).await.expect("taken");
    let tick = rig.tick();
    assert_eq!(rig.values(&tick, "jobs")["a"], Number::Int(3));
}

#[tokio::test]
async fn http_says_what_is_wrong_with_a_message() {
    let rig = Rig::new();
    let protobuf = "Content-Type: application/x-protobuf\r\n";
    let packed = format!("{protobuf}Content-Encoding: gzip\r\n");
    let fine = request(vec![gauge("level", vec![point(1, "a")])]).encode_to_vec();
    let swollen = request(vec![gauge("level", vec![NumberDataPoint::default(); 600_000])]).encode_to_vec();
    let mut bomb = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    bomb.write_all(&vec![0; 5 << 20]).expect("in memory");
    let bomb = bomb.finish().expect("in memory");
    for (path, headers, body, status, words) in [
        ("/v1/metrics", "Content-Type: text/plain\r\n", &b"{}"[..], 415, "application/x-protobuf or application/json"),
        ("/v1/metrics", protobuf, &b"\x0a\xff"[..], 400, "not an OTLP message"),
        ("/v1/metrics", &packed, &fine[..], 400, "not gzip"),
        ("/v1/traces", &packed, &bomb[..], 413, "4 MiB, unpacked"),
        ("/v1/metrics", protobuf, &vec![0; (4 << 20) + 1][..], 413, "4 MiB"),
        ("/v1/metrics", &format!("{protobuf}Content-Encoding: zstd\r\n"), &fine[..], 415, "gzip"),
        ("/v1/metrics", protobuf, &swollen[..], 413, "more parts than fit"),
        ("/v1/logs", protobuf, &fine[..], 404, "/v1/metrics and /v1/traces"),
    ] {
        let (got, _, answer) = rig.post(path, headers, body).await;
        let told = tonic_types::Status::decode(&answer[..]).expect("a status in protobuf").message;
        assert_eq!(got, status, "{told}");
        assert!(told.contains(words), "{told}");
    }
    let (status, _, answer) = rig.post("/v1/metrics", protobuf, &fine).await;
    let answer = ExportMetricsServiceResponse::decode(&answer[..]).expect("an answer in protobuf");
    assert_eq!((status, answer.partial_success), (200, None), "the others do not notice");
}

#[tokio::test]
async fn http_takes_json_and_answers_in_it() {
    let rig = Rig::new();
    let json = "Content-Type: application/json; charset=utf-8\r\n";
    let sent = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[
        {"name":"level","unit":"1","gauge":{"dataPoints":[{"asDouble":0.5},{}]}}]}]}]}"#;
    let (status, head, answer) = rig.post("/v1/metrics", json, sent.as_bytes()).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, &answer["partialSuccess"]["rejectedDataPoints"]), (200, &1.into()), "{answer}");
    assert!(head.contains("application/json"), "{head}");
    let (status, _, answer) = rig.post("/v1/traces", json, b"{\"resourceSpans\":7}").await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).expect("JSON");
    assert_eq!((status, &answer["code"]), (400, &3.into()), "{answer}");
    assert!(answer["message"].as_str().is_some_and(|told| told.starts_with("not an OTLP message")), "{answer}");
}

#[tokio::test]
async fn grpc_refuses_what_is_no_message_for_good() {
    let rig = Rig::new();
    let mut client = tonic::client::Grpc::new(rig.channel().await);
    client.ready().await.expect("connected");
    let path = PathAndQuery::from_static("/opentelemetry.proto.collector.metrics.v1.MetricsService/Export");
    // Where resources belong there is a byte that begins no field.
    let garbage = tonic::Request::new(AnyValue { value: Some(Value::StringValue("\u{7f}".to_owned())) });
    let codec = tonic_prost::ProstCodec::<AnyValue, ExportMetricsServiceResponse>::default();
    let status = client.unary(garbage, path, codec).await.expect_err("no request");
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "which no sender repeats");
    assert!(status.message().starts_with("not an OTLP message"), "{status:?}");
    let swollen = vec![gauge("level", vec![NumberDataPoint::default(); 600_000])];
    let status = rig.metrics(swollen).await.expect_err("many times as large in memory");
    assert_eq!((status.code(), status.message()), (tonic::Code::InvalidArgument, bulk::TOO_MANY));
    let huge = vec![gauge("level", vec![point(1, &"x".repeat(5 << 20))])];
    let status = rig.metrics(huge).await.expect_err("too large");
    assert_eq!(status.code(), tonic::Code::OutOfRange);
}

#[tokio::test]
async fn malformed_spans_are_a_partial_success() {
    let rig = Rig::new();
    let bad = spans::tests::span("x", (1, 0), (5, 1));
    let resource_spans = vec![ResourceSpans {
        resource: Some(shop()),
        scope_spans: vec![spans::tests::scope("vllm.llm_engine", vec![bad, spans::tests::vllm_request()])],
        ..ResourceSpans::default()
    }];
    let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
    let (status, _, answer) = rig.post("/v1/traces", "Content-Type: application/x-protobuf\r\n", &body).await;
    let answer = ExportTraceServiceResponse::decode(&answer[..]).expect("an answer in protobuf");
    assert_eq!((status, answer.partial_success.map(|partial| partial.rejected_spans)), (200, Some(1)));
}

#[tokio::test]
async fn a_server_that_fell_silent_is_forgotten_with_its_series() {
    let mut rig = Rig::new();
    rig.metrics(vec![gauge("level", vec![point(1, "a")])]).await.expect("taken");
    rig.tick();
    assert_eq!(rig.table.entities().count(), 1);
    rig.clock.0.store(599 * SECOND, Ordering::Relaxed);
    rig.tick();
    assert_eq!(rig.table.entities().count(), 1);
    rig.clock.0.store(601 * SECOND, Ordering::Relaxed);
    rig.tick();
    assert_eq!((rig.table.entities().count(), rig.table.len()), (0, 0));
}

#[tokio::test]
async fn a_server_that_fell_silent_is_shown_as_such_before() {
    let mut rig = Rig::new();
    rig.metrics(vec![gauge("level", vec![point(1, "a")])]).await.expect("taken");
    rig.tick();
    let entity = rig.table.entities().next().expect("the sender").0;
    let live_after = |seconds: u64| {
        rig.clock.0.store(seconds * SECOND, Ordering::Relaxed);
        let mut view: ServerView = serde_json::from_value(serde_json::json!({
            "id": "server:shop/1", "kind": "sdk", "name": "shop", "pids": [], "pid": null, "live": true, "ledger": null,
            "latency": null, "stages": [], "requests_per_s": null, "errors_per_s": null, "arrivals_per_s": null,
            "in_flight": null, "batch": null,
        }))
        .expect("a view");
        rig.intake.complete(entity, &mut view);
        (view.kind, view.live)
    };
    assert_eq!(live_after(90), ("otlp".to_owned(), true), "metrics come every minute");
    assert_eq!(live_after(91), ("otlp".to_owned(), false));
}
