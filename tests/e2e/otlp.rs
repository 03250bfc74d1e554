//! What leaves over OTLP, received by a receiver of our own.

use std::time::Duration;

use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point::Value};
use perfwatch_export::receiver::{Received, Receiver};
use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use tokio::runtime::Runtime;

use crate::PERFWATCH;

const REQUESTS: u64 = 40;
/// Of the fixture.
const ONE_GPU: &str = "GPU-11111111-2222-3333-4444-555555555555";

/// The newest point of a metric, as the receiver has it.
fn newest<'a>(received: &'a Received, name: &str) -> Option<&'a Metric> {
    let requests = received.metrics.iter().rev();
    requests
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .find(|metric| metric.name == name)
}

/// Number of requests in the newest exponential histogram of request durations.
fn requests_counted(received: &Received) -> Option<u64> {
    match newest(received, "perfwatch.server.request.duration")?.data.as_ref()? {
        Data::ExponentialHistogram(histogram) => histogram.data_points.first().map(|point| point.count),
        _ => None,
    }
}

fn exports_everything_by(protocol: &str, endpoint: impl FnOnce(&Receiver) -> String) {
    let runtime = Runtime::new().expect("a runtime");
    let receiver = runtime.block_on(Receiver::start()).expect("loopback");
    let endpoint = endpoint(&receiver);
    let agent = Agent::spawn(
        PERFWATCH,
        &["--otlp-endpoint", &endpoint, "--otlp-protocol", protocol],
        &[("OTEL_METRIC_EXPORT_INTERVAL", "1000")],
    );
    let server = Server::builder("shipped").socket(agent.dir().join("probe.sock")).start();
    for _ in 0..REQUESTS {
        let mut request = server.request();
        request.enter(Stage::Compute);
        request.finish();
    }
    wait_for("every request at the receiver", || {
        (requests_counted(&receiver.received()) == Some(REQUESTS)).then_some(())
    });
    let arrived = receiver.received();
    let memory = newest(&arrived, "system.memory.limit").expect("the host leaves as well");
    assert_eq!(memory.unit, "By");
    let Some(Data::Gauge(gauge)) = &memory.data else { panic!("memory is a gauge: {memory:?}") };
    let value = gauge.data_points.first().and_then(|point| point.value.as_ref());
    assert!(
        matches!(value, Some(Value::AsInt(bytes)) if *bytes > 0)
            || matches!(value, Some(Value::AsDouble(bytes)) if *bytes > 0.0)
    );
    let (status, stderr) = agent.terminate();
    assert!(status.success(), "{stderr}");
    wait_for("the agent's own log", || (!receiver.received().logs.is_empty()).then_some(()));
    wait_for("the agent's own spans", || (!receiver.received().traces.is_empty()).then_some(()));
}

#[test]
fn everything_leaves_over_http() {
    exports_everything_by("http/protobuf", Receiver::http_endpoint);
}

#[test]
fn everything_leaves_over_grpc() {
    exports_everything_by("grpc", Receiver::grpc_endpoint);
}

#[test]
fn an_endpoint_that_is_no_url_is_refused_and_named() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.arg("agent").env("OTEL_EXPORTER_OTLP_ENDPOINT", "collector;4317");
    let output = run(command, Duration::from_secs(30));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{stderr}");
}

#[test]
fn an_endpoint_that_nobody_answers_at_disturbs_nothing_and_is_told() {
    let agent =
        Agent::spawn(PERFWATCH, &["--otlp-endpoint", "http://127.0.0.1:9"], &[("OTEL_METRIC_EXPORT_INTERVAL", "1000")]);
    let export = wait_for("a word about the endpoint", || {
        let snapshot = agent.json("/v1/snapshot");
        let exports = snapshot["agent"]["exports"].as_array()?.clone();
        exports.into_iter().find(|export| export["state"] != "ok" && export["state"] != "waiting")
    });
    assert!(export["endpoint"].as_str().expect("text").contains("127.0.0.1:9"), "{export:#}");
    assert!(agent.json("/v1/snapshot")["agent"]["ticks_missed"] == 0);
}

/// Exported series: metrics with different attributes.
fn series(received: &Received) -> std::collections::BTreeSet<(String, String)> {
    let scopes = received
        .metrics
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics);
    let mut all = std::collections::BTreeSet::new();
    for metric in scopes.flat_map(|scope| &scope.metrics) {
        let mut note = |attributes: &[_]| all.insert((metric.name.clone(), format!("{attributes:?}")));
        match metric.data.as_ref().expect("points") {
            Data::Gauge(data) => data.data_points.iter().for_each(|point| _ = note(&point.attributes)),
            Data::Sum(data) => data.data_points.iter().for_each(|point| _ = note(&point.attributes)),
            Data::Histogram(data) => data.data_points.iter().for_each(|point| _ = note(&point.attributes)),
            Data::ExponentialHistogram(data) => data.data_points.iter().for_each(|point| _ = note(&point.attributes)),
            Data::Summary(_) => panic!("there are no summaries"),
        }
    }
    all
}

/// A GPU of which all is told, with this process on it and one that no server answers for; its clocks are held down.
fn shared_gpu() -> String {
    let me = std::process::id();
    let use_of = |pid: u32, sm: u32| {
        format!(r#"{{"pid": {pid}, "timestamp_us": {{"start": 1, "per_second": 1000000}}, "sm": {sm}}}"#)
    };
    let both = format!("[{}, {}]", use_of(1, 10), use_of(me, 20));
    include_str!("../fixtures/one-gpu.json")
        .replace(r#""clocks_mhz": { "sm": 1980"#, r#""clocks_mhz": { "sm": 1200"#)
        .replace(r#""2": 31"#, r#""2": 38"#)
        .replace(r#""throttle_reasons": 0"#, r#""throttle_reasons": 4"#)
        .replace(
            r#"{ "pid": 1, "used": 42000000000 }"#,
            &format!(r#"{{"pid": 1, "used": 1}}, {{"pid": {me}, "used": 2}}"#),
        )
        .replace(r#""processes": {"#, &format!(r#""process_utilization": {both}, "processes": {{"#))
}

#[test]
fn a_pod_has_at_most_150_series_by_default_and_more_with_full_detail() {
    let counted = |level: &str| {
        let runtime = Runtime::new().expect("a runtime");
        let receiver = runtime.block_on(Receiver::start()).expect("loopback");
        let folder = tempfile::tempdir().expect("a folder");
        let nvml = fake_nvml::install(folder.path(), &shared_gpu()).expect("a scenario");
        let agent = Agent::spawn(
            PERFWATCH,
            &["--otlp-endpoint", &receiver.http_endpoint()],
            &[
                ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
                ("PERFWATCH_OTLP_LEVEL", level),
                ("PERFWATCH_NVML_LIB", nvml.to_str().expect("a plain path")),
            ],
        );
        let server = Server::builder("pod").socket(agent.dir().join("probe.sock")).start();
        let stages = [
            Stage::Queue,
            Stage::Preprocess,
            Stage::DataLoad,
            Stage::BatchWait,
            Stage::Transfer,
            Stage::Prefill,
            Stage::Decode,
            Stage::Postprocess,
            Stage::Send,
        ];
        for _ in 0..REQUESTS {
            let mut request = server.request();
            for stage in stages {
                request.enter(stage);
                // Long enough for the ledger to see it.
                std::thread::sleep(Duration::from_millis(if stage == Stage::Decode { 60 } else { 10 }));
            }
            request.finish();
        }
        wait_for("every request at the receiver", || {
            (requests_counted(&receiver.received()) == Some(REQUESTS)).then_some(())
        });
        // Slower probes have their turn, and the ledgers their causes.
        std::thread::sleep(Duration::from_secs(6));
        series(&receiver.received())
    };
    let (default, full) = (counted("default"), counted("full"));
    let mut by_metric = std::collections::BTreeMap::<_, usize>::new();
    for (name, _) in &default {
        *by_metric.entry(name).or_default() += 1;
    }
    let causes = default.iter().filter(|(name, _)| name == "perfwatch.device.time");
    for cause in ["host_compute", "starved.queue", "starved.send", "no_demand", "other_tenant", "throttled", "idle"] {
        assert!(
            causes.clone().any(|(_, attributes)| attributes.contains(&format!("\"{cause}\""))),
            "{cause}: {default:#?}"
        );
    }
    // By the UUID they join with what DCGM's exporter tells of the same GPU.
    let of_gpus = |name: &str| name.starts_with("hw.") || name.starts_with("perfwatch.gpu.");
    let named = |attributes: &str| attributes.contains("\"hw.id\"") && attributes.contains(&format!("\"{ONE_GPU}\""));
    for (name, attributes) in full.iter().filter(|(name, _)| of_gpus(name)) {
        assert!(named(attributes), "{name}: {attributes}");
    }
    for name in ["utilization", "memory.usage", "memory.limit", "io"].map(|name| format!("hw.gpu.{name}")) {
        assert!(full.iter().any(|(known, _)| *known == name), "{name}");
    }
    for name in ["hw.power", "hw.energy", "hw.temperature", "hw.status", "perfwatch.gpu.sm.active"] {
        assert!(full.iter().any(|(known, _)| known == name), "{name}");
    }
    println!("{} series by default, {} with full detail", default.len(), full.len());
    assert!((50..=150).contains(&default.len()), "{} series: {by_metric:#?}", default.len());
    assert!(full.len() > default.len(), "{} series with full detail", full.len());
}
