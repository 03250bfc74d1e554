//! Whole agents that take in OTLP, from the OpenTelemetry SDK as a sender that knows nothing of perfwatch.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider as _;
use opentelemetry::trace::{Span as _, SpanKind, Status, TraceContextExt as _, Tracer as _, TracerProvider as _};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Compression, MetricExporter, Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _,
    WithTonicConfig as _,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::exporter::PushMetricExporter as _;
use opentelemetry_sdk::metrics::{
    Aggregation, InMemoryMetricExporterBuilder, Instrument, SdkMeterProvider, Stream, Temporality,
};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanExporter as _};
use perfwatch_agent::{Agent, Config, Environment, Flags, Role, Running, SystemClock};
use perfwatch_model::snapshot::ServerView;
use perfwatch_model::{Quality, Snapshot};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

/// Long enough for the slowest machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_mins(1);

/// The ways in.
const WAYS: &[Way] = &[Way::Socket, Way::Grpc, Way::Http];

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    /// gRPC on `otlp.sock`, uncompressed.
    Socket,
    /// gRPC on loopback, compressed.
    Grpc,
    /// HTTP on loopback, compressed.
    Http,
}

struct Rig {
    folder: tempfile::TempDir,
    agent: Running,
}

impl Rig {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let listening = [("intake.grpc", "127.0.0.1:0"), ("intake.http", "127.0.0.1:0")];
        let values = settings.iter().chain(&listening).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        let flags = Flags { file: None, values: values.collect() };
        let config = Config::load(&flags, Environment::default()).expect("a valid configuration");
        let role = Role::Private(folder.path().to_owned());
        let agent = Agent::start(config, role, Arc::new(SystemClock)).await.expect("the agent starts");
        Self { folder, agent }
    }

    fn endpoint(&self, way: Way) -> String {
        let [grpc, http] = self.agent.intake_addresses().map(|address| address.expect("configured"));
        match way {
            Way::Socket => format!("unix://{}/otlp.sock", self.folder.path().display()),
            Way::Grpc => format!("http://{grpc}"),
            Way::Http => format!("http://{http}"),
        }
    }

    fn spans(&self, way: Way) -> SpanExporter {
        let builder = SpanExporter::builder();
        let built = match way {
            Way::Socket => builder.with_tonic().with_endpoint(self.endpoint(way)).build(),
            Way::Grpc => {
                let builder = builder.with_tonic().with_compression(Compression::Gzip);
                builder.with_endpoint(self.endpoint(way)).build()
            }
            Way::Http => {
                let builder =
                    builder.with_http().with_protocol(Protocol::HttpBinary).with_compression(Compression::Gzip);
                let builder = builder.with_http_client(HyperClient::with_default_connector(PATIENCE, None));
                builder.with_endpoint(format!("{}/v1/traces", self.endpoint(way))).build()
            }
        };
        built.expect("an exporter")
    }

    fn metrics(&self, way: Way, temporality: Temporality) -> MetricExporter {
        let builder = MetricExporter::builder().with_temporality(temporality);
        let built = match way {
            Way::Socket => builder.with_tonic().with_endpoint(self.endpoint(way)).build(),
            Way::Grpc => {
                let builder = builder.with_tonic().with_compression(Compression::Gzip);
                builder.with_endpoint(self.endpoint(way)).build()
            }
            Way::Http => {
                let builder =
                    builder.with_http().with_protocol(Protocol::HttpBinary).with_compression(Compression::Gzip);
                let builder = builder.with_http_client(HyperClient::with_default_connector(PATIENCE, None));
                builder.with_endpoint(format!("{}/v1/metrics", self.endpoint(way))).build()
            }
        };
        built.expect("an exporter")
    }

    /// The first snapshot from now on in which the server of this name is as wanted.
    async fn server(&self, name: &str, wanted: impl Fn(&ServerView) -> bool) -> (Arc<Snapshot>, ServerView) {
        let mut snapshots = self.agent.subscribe();
        let found = async {
            loop {
                let snapshot = snapshots.next().await.expect("the agent runs");
                let view = snapshot.servers.iter().find(|server| server.name == name && wanted(server)).cloned();
                if let Some(view) = view {
                    return (snapshot, view);
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok();
        found.unwrap_or_else(|| panic!("{name} does not come; the last was {:?}", self.agent.snapshot()))
    }

    async fn ticks(&self) -> Value {
        let mut stream = UnixStream::connect(self.folder.path().join("api.sock")).await.expect("the api listens");
        let request = b"GET /v1/ticks HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await.expect("the api reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        serde_json::from_str(body).expect("JSON")
    }

    /// Waits until the ticks are as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let found = async {
            let mut snapshots = self.agent.subscribe();
            loop {
                let ticks = self.ticks().await;
                if wanted(&ticks) {
                    return ticks;
                }
                snapshots.next().await.expect("the agent runs");
            }
        };
        tokio::time::timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("no ticks in which {what}"))
    }
}

fn ids(ticks: &Value, metric: &str) -> Vec<u64> {
    let series = ticks["series"].as_array().expect("a list").iter();
    series.filter(|series| series["metric"] == metric).filter_map(|series| series["id"].as_u64()).collect()
}

/// The newest value of a metric, summed over its series.
fn newest(ticks: &Value, metric: &str) -> Option<f64> {
    let ids = ids(ticks, metric);
    let of = |pair: &&Value| ids.contains(&pair[0].as_u64().unwrap_or(u64::MAX));
    ticks["ticks"].as_array()?.iter().rev().find_map(|tick| {
        let values: Vec<f64> =
            tick["values"].as_array()?.iter().filter(of).filter_map(|pair| pair[1].as_f64()).collect();
        (!values.is_empty()).then(|| values.iter().sum())
    })
}

/// How many values a distribution gained in all ticks.
fn gained(ticks: &Value, metric: &str) -> u64 {
    let ids = ids(ticks, metric);
    let all = ticks["ticks"].as_array().expect("a list").iter().filter_map(|tick| tick["histograms"].as_array());
    all.flatten()
        .filter(|part| ids.contains(&part["series"].as_u64().unwrap_or(u64::MAX)))
        .filter_map(|part| part["count"].as_u64())
        .sum()
}

fn resource(service: &'static str) -> Resource {
    Resource::builder_empty()
        .with_attributes([KeyValue::new("service.name", service), KeyValue::new("service.instance.id", "1")])
        .build()
}

/// Sends requests of a server that names its stages: 10 ms each, 2 of them tokenising, 6 in the model.
async fn send_requests(exporter: &mut SpanExporter, service: &'static str, ok: usize, failing: usize) {
    let kept = InMemorySpanExporter::default();
    let provider =
        SdkTracerProvider::builder().with_resource(resource(service)).with_simple_exporter(kept.clone()).build();
    let tracer = provider.tracer("app");
    let at = |ms: u64| std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(ms);
    for number in 0..ok + failing {
        let mut root = tracer
            .span_builder("POST /v1/completions")
            .with_kind(SpanKind::Server)
            .with_start_time(at(0))
            .start(&tracer);
        if number >= ok {
            root.set_status(Status::error("boom"));
        }
        let context = opentelemetry::Context::new().with_span(root);
        for (name, from, to) in [("tokenize", 1, 3), ("model.inference", 3, 9)] {
            let builder = tracer.span_builder(name).with_kind(SpanKind::Internal).with_start_time(at(from));
            builder.start_with_context(&tracer, &context).end_with_timestamp(at(to));
        }
        context.span().end_with_timestamp(at(10));
    }
    exporter.set_resource(&resource(service));
    exporter.export(kept.get_finished_spans().expect("kept")).await.expect("the intake takes them");
}

#[tokio::test]
async fn traces_give_a_server_latency_stages_and_requests_on_every_way_in() {
    for way in WAYS {
        let rig = Rig::new(&[("intake.sampling", "1")]).await;
        send_requests(&mut rig.spans(*way), "app", 40, 10).await;
        // Only the socket knows whose process it is.
        let known = |server: &ServerView| server.pid.is_some() || *way != Way::Socket;
        let (_, view) = rig.server("app", |server| server.latency.is_some() && known(server)).await;
        assert_eq!((view.id.as_str(), view.kind.as_str(), view.live), ("server:app/1", "otlp", true), "{way:?}");
        let latency = view.latency.expect("just seen");
        assert_eq!(latency.count, 50);
        assert!((latency.p50_s - 0.010).abs() < 0.000_1 && (latency.sum_s - 0.5).abs() < 1e-9, "{latency:?}");
        let stages: Vec<_> = view.stages.iter().map(|stage| (stage.stage.as_str(), stage.latency.count)).collect();
        assert_eq!(stages, [("preprocess", 50), ("compute", 50)], "{way:?}");
        let ledger = view.ledger.expect("all stages are known");
        let entries: Vec<_> =
            ledger.entries.iter().map(|entry| (entry.stage.as_str(), entry.ns / 1_000_000, entry.quality)).collect();
        let exact = Quality::Scraped;
        assert_eq!(entries, [("preprocess", 100, exact), ("compute", 300, exact), ("other", 100, exact)]);
        assert_eq!(ledger.interval_ns, 500_000_000);
        let (ok, failed) = (view.requests_per_s.expect("all are traced"), view.errors_per_s.expect("all are traced"));
        assert!(ok > 0.0 && (ok / failed - 4.0).abs() < 1e-9, "{ok} and {failed}");
        assert_eq!(view.pid, (*way == Way::Socket).then(std::process::id), "{way:?}");
        let ticks = rig.ticks().await;
        assert_eq!(newest(&ticks, "perfwatch.server.requests"), Some(50.0));
        rig.agent.shutdown().await;
    }
}

#[tokio::test]
async fn without_a_word_on_sampling_stages_are_inferred_and_requests_are_not_counted() {
    let rig = Rig::new(&[]).await;
    send_requests(&mut rig.spans(Way::Socket), "app", 5, 0).await;
    let (snapshot, view) = rig.server("app", |server| server.ledger.is_some()).await;
    let ledger = view.ledger.expect("just seen");
    assert!(ledger.entries.iter().all(|entry| entry.quality == Quality::Inferred), "{ledger:?}");
    assert_eq!(view.requests_per_s, None);
    let why = snapshot.unavailable.iter().find(|gap| gap.metric == "perfwatch.server.requests").expect("a reason");
    assert!(why.entity == "server:app/1" && why.cure.contains("intake.sampling"), "{why:?}");
    rig.agent.shutdown().await;
}

/// Records and exports `rounds` rounds of metrics; in each, 10 requests take 50 ms and 2 fail after 2 s.
async fn send_metrics(rig: &Rig, way: Way, temporality: Temporality, rounds: u64) {
    let kept = InMemoryMetricExporterBuilder::new().with_temporality(temporality).build();
    let exponential = |instrument: &Instrument| {
        let aggregation = Aggregation::Base2ExponentialHistogram { max_size: 160, max_scale: 20, record_min_max: true };
        let stream = Stream::builder().with_aggregation(aggregation);
        (instrument.name() == "app.wait").then(|| stream.build().expect("valid"))
    };
    let provider = SdkMeterProvider::builder()
        .with_resource(resource("app"))
        .with_periodic_exporter(kept.clone())
        .with_view(exponential)
        .build();
    let meter = provider.meter("app");
    let duration = meter
        .f64_histogram("http.server.request.duration")
        .with_unit("s")
        .with_boundaries(vec![0.01, 0.1, 1.0, 10.0])
        .build();
    let wait = meter.f64_histogram("app.wait").with_unit("ms").build();
    let jobs = meter.u64_counter("app.jobs").with_unit("{job}").build();
    let active = meter.i64_up_down_counter("http.server.active_requests").with_unit("{request}").build();
    let load = meter.f64_gauge("app.load").with_unit("1").build();
    let exporter = rig.metrics(way, temporality);
    for round in 0..rounds {
        for _ in 0..10 {
            duration.record(0.05, &[]);
            wait.record(3.0, &[]);
        }
        (0..2).for_each(|_| duration.record(2.0, &[KeyValue::new("error.type", "timeout")]));
        jobs.add(7, &[KeyValue::new("kind", "a")]);
        active.add(1, &[]);
        load.record(0.25 * (round + 1) as f64, &[]);
        kept.reset();
        provider.force_flush().expect("in memory");
        for metrics in kept.get_finished_metrics().expect("in memory") {
            exporter.export(&metrics).await.expect("the intake takes them");
        }
    }
}

#[tokio::test]
async fn every_kind_of_metric_arrives_exactly_delta_and_cumulative() {
    for (way, temporality) in
        [(Way::Socket, Temporality::Cumulative), (Way::Grpc, Temporality::Delta), (Way::Http, Temporality::Cumulative)]
    {
        let rig = Rig::new(&[]).await;
        send_metrics(&rig, way, temporality, 3).await;
        let all = |ticks: &Value| {
            gained(ticks, "http.server.request.duration") == 36
                && gained(ticks, "app.wait") == 30
                && newest(ticks, "app.jobs") == Some(21.0)
                && newest(ticks, "http.server.active_requests") == Some(3.0)
                && newest(ticks, "app.load") == Some(0.75)
        };
        rig.until(&format!("everything has arrived by {way:?} as {temporality:?}"), all).await;
        let (_, view) = rig.server("app", |server| server.latency.is_some()).await;
        assert_eq!((view.kind.as_str(), view.in_flight), ("otlp", Some(3)));
        let latency = view.latency.expect("just seen");
        assert_eq!((latency.p50_s, latency.max_s), (0.1, 10.0), "the sender's own bounds");
        let (ok, failed) = (view.requests_per_s.expect("counted"), view.errors_per_s.expect("counted"));
        assert!((ok / failed - 5.0).abs() < 1e-9, "{ok} and {failed}");
        rig.agent.shutdown().await;
    }
}

#[tokio::test]
async fn a_servers_sdk_goes_before_its_traces() {
    let rig = Rig::new(&[("intake.sampling", "1")]).await;
    let socket = rig.folder.path().join("probe.sock");
    let server = perfwatch_sdk::Server::builder("app").instance("1").socket(socket).start();
    (0..3).for_each(|_| server.request().finish());
    rig.server("app", |server| server.kind == "sdk" && server.latency.is_some()).await;
    send_requests(&mut rig.spans(Way::Socket), "app", 40, 0).await;
    // Metrics after the spans on another way: once they are there, the spans had their tick.
    send_metrics(&rig, Way::Http, Temporality::Delta, 1).await;
    let ticks = rig.until("metrics arrived", |ticks| newest(ticks, "app.jobs") == Some(7.0)).await;
    assert_eq!(gained(&ticks, "perfwatch.server.request.duration"), 3, "requests are not counted twice");
    let (_, view) = rig.server("app", |_| true).await;
    assert_eq!(view.kind, "sdk");
    rig.agent.shutdown().await;
}
