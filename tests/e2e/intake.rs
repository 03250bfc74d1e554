//! OTLP from servers that are instrumented already, taken in by the real binary.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use perfwatch_tests::{Agent, run, sums_exactly, wait_for};
use serde_json::{Value, json};

use crate::{PERFWATCH, ROOT};

/// An address that nobody listens on, for an agent that is told one.
fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    listener.local_addr().expect("bound")
}

fn server_of(agent: &Agent, id: &str) -> Option<Value> {
    let snapshot = agent.json("/v1/snapshot");
    snapshot["servers"].as_array()?.iter().find(|server| server["id"] == id).cloned()
}

/// Stages in nanoseconds by name, each with its quality.
fn stages(server: &Value) -> Vec<(String, u64, String)> {
    let entries = server["ledger"]["entries"].as_array().expect("a ledger").iter();
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let mut stages: Vec<_> = entries
        .map(|entry| (text(&entry["stage"]), entry["ns"].as_u64().expect("ns"), text(&entry["quality"])))
        .collect();
    stages.sort();
    stages
}

fn named(stages: &[(&str, u64)]) -> Vec<(String, u64, String)> {
    stages.iter().map(|(stage, ns)| ((*stage).to_owned(), *ns, "scraped".to_owned())).collect()
}

/// `PERFWATCH_TEST_PYTHON` names a Python that has OpenTelemetry's SDK; else `python3` is tried.
fn python() -> Command {
    Command::new(std::env::var("PERFWATCH_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned()))
}

/// Sends with OpenTelemetry's SDK for Python; false where there is none.
fn sent_by_python(way: &str, endpoint: &str) -> bool {
    let mut command = python();
    command.arg(format!("{ROOT}/tests/peers/otlp_sender.py")).args([way, endpoint]);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    if command.get_program() == "python3" && Command::new("python3").arg("--version").output().is_err() {
        return false;
    }
    let output = run(command, Duration::from_mins(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    match output.status.code() {
        Some(0) => true,
        Some(3) => {
            assert!(std::env::var_os("PERFWATCH_TEST_PYTHON").is_none(), "a Python was promised: {stderr}");
            false
        }
        _ => panic!("{way} to {endpoint}: {stderr}"),
    }
}

#[test]
fn what_vllms_exporter_sends_arrives_over_the_socket_and_over_loopback() {
    let (grpc, http) = (free(), free());
    let agent = Agent::spawn(
        PERFWATCH,
        &[],
        &[
            ("PERFWATCH_INTAKE_GRPC", &grpc.to_string()),
            ("PERFWATCH_INTAKE_HTTP", &http.to_string()),
            ("PERFWATCH_INTAKE_SAMPLING", "1"),
        ],
    );
    let socket = format!("unix://{}", agent.dir().join("otlp.sock").display());
    for (way, endpoint) in [("grpc", &socket), ("http", &format!("http://{http}"))] {
        if !sent_by_python(way, endpoint) {
            println!("skipped: no Python with opentelemetry-sdk and opentelemetry-exporter-otlp");
            return;
        }
        let id = format!("server:vllm/{way}");
        // Its metrics come after its spans.
        let server = wait_for("the requests and the level", || {
            server_of(&agent, &id).filter(|server| server["latency"].is_object() && server["in_flight"] == 2)
        });
        assert_eq!((&server["kind"], &server["live"]), (&"vllm".into(), &true.into()));
        assert_eq!(server["latency"]["count"], 3);
        assert!((server["latency"]["p50_s"].as_f64().expect("s") - 1.0).abs() < 0.01, "{server:#}");
        let wanted =
            [("decode", 1_800_000_000), ("other", 150_000_000), ("prefill", 750_000_000), ("queue", 300_000_000)];
        assert_eq!(stages(&server), named(&wanted), "as vLLM says it, for all three");
        assert!(sums_exactly(&server["ledger"]));
        let rates =
            [&server["requests_per_s"], &server["errors_per_s"]].map(|rate| rate.as_f64().expect("all are traced"));
        assert!((rates[0] - 2.0 * rates[1]).abs() < 1e-9, "{server:#}");
    }
    // The same over gRPC on loopback is the same server, and it goes on.
    assert!(sent_by_python("grpc", &format!("http://{grpc}")));
    wait_for("the requests of the second run", || {
        server_of(&agent, "server:vllm/grpc").filter(|server| server["latency"]["count"].as_u64() >= Some(3))
    });
}

/// Status of a POST.
fn post(address: SocketAddr, path: &str, kind: &str, body: &str) -> u16 {
    let mut stream = TcpStream::connect(address).expect("the intake listens");
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("text");
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// One span as Triton's exporter posts it, which is opentelemetry-cpp's with its default format: JSON with the names of the
/// `.proto` files.
fn triton(span: &Value) -> String {
    json!({"resource_spans": [{
        "resource": {"attributes": [
            {"key": "service.name", "value": {"string_value": "triton-inference-server"}},
            {"key": "service.instance.id", "value": {"string_value": "0"}}]},
        "scope_spans": [{"scope": {"name": "triton-server"}, "spans": [span]}]}]})
    .to_string()
}

#[test]
fn what_tritons_exporter_posts_gives_stages() {
    const BASE: u64 = 1_700_000_000_000_000_000;
    let http = free();
    let agent = Agent::spawn(
        PERFWATCH,
        &[],
        &[("PERFWATCH_INTAKE_HTTP", &http.to_string()), ("PERFWATCH_INTAKE_SAMPLING", "1")],
    );
    let at = |us: u64| BASE + us * 1_000;
    let span = |id: &str, parent: &str, name: &str, (start, end): (u64, u64), events: &[(&str, u64)]| {
        let events: Vec<Value> =
            events.iter().map(|(name, us)| json!({"name": name, "time_unix_nano": at(*us)})).collect();
        json!({
            "trace_id": "0102030405060708090a0b0c0d0e0f10", "span_id": id, "parent_span_id": parent, "name": name,
            "kind": 2, "start_time_unix_nano": at(start), "end_time_unix_nano": at(end).to_string(), "events": events,
        })
    };
    let (root, model, compute) = ("0000000000000001", "0000000000000002", "0000000000000003");
    // In the order in which they end, each in a message of its own, as its simple processor sends them.
    for (id, parent, name, times, events) in [
        (
            compute,
            model,
            "compute",
            (303, 2_957),
            &[
                ("COMPUTE_START", 303),
                ("COMPUTE_INPUT_END", 2_569),
                ("COMPUTE_OUTPUT_START", 2_913),
                ("COMPUTE_END", 2_957),
            ][..],
        ),
        (model, root, "simple", (201, 3_059), &[("REQUEST_START", 201), ("QUEUE_START", 207), ("REQUEST_END", 3_059)]),
        (root, "", "InferRequest", (0, 3_130), &[("HTTP_SEND_START", 3_097), ("HTTP_SEND_END", 3_128)]),
    ] {
        assert_eq!(post(http, "/v1/traces", "application/json", &triton(&span(id, parent, name, times, events))), 200);
    }
    let server = wait_for("the request", || {
        server_of(&agent, "server:triton-inference-server/0").filter(|server| server["latency"].is_object())
    });
    assert_eq!((&server["kind"], &server["latency"]["count"]), (&"triton".into(), &1.into()));
    let wanted =
        [("compute", 344_000), ("other", 349_000), ("queue", 96_000), ("send", 31_000), ("transfer", 2_310_000)];
    assert_eq!(stages(&server), named(&wanted));
}

#[test]
fn what_is_refused_is_counted_by_reason() {
    let http = free();
    let agent = Agent::spawn(PERFWATCH, &[], &[("PERFWATCH_INTAKE_HTTP", &http.to_string())]);
    let body = json!({"resourceMetrics": [{"scopeMetrics": [{"metrics": [
        {"name": "perfwatch.mine", "unit": "1", "gauge": {"dataPoints": [{"asInt": 1}, {"asInt": 2}]}}]}]}]});
    assert_eq!(post(http, "/v1/metrics", "application/json", &body.to_string()), 200, "a partial success");
    assert_eq!(post(http, "/v1/metrics", "text/plain", "hello"), 415);
    wait_for("two refused points in perfwatch.agent.dropped", || {
        let ticks = agent.json("/v1/ticks");
        let reason = |series: &&Value| {
            series["metric"] == "perfwatch.agent.dropped" && series["attributes"].to_string().contains("otlp_rejected")
        };
        let id = &ticks["series"].as_array()?.iter().find(reason)?["id"];
        let newest = ticks["ticks"].as_array()?.last()?["values"].as_array()?;
        newest.iter().find(|pair| pair[0] == *id && pair[1].as_f64() == Some(2.0)).map(|_| ())
    });
}
