//! `/metrics`, as scrapers ask for it, and a real Prometheus that scrapes it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, DEADLINE, peer, perfwatch, run, wait_for};
use serde_json::Value;

use crate::PERFWATCH;

const REQUESTS: u64 = 40;
const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

/// A GET of anything on loopback: status, head and body.
fn ask(mut stream: impl Read + Write, path: &str, accept: &str) -> std::io::Result<(u16, String, Vec<u8>)> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("no end of headers"))?;
    let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, head, answer[end + 4..].to_vec()))
}

fn scrape(agent: &Agent, path: &str, accept: &str) -> (u16, String, String) {
    let socket = UnixStream::connect(agent.api_socket()).expect("the agent listens");
    let (status, head, body) = ask(socket, path, accept).expect("an answer");
    (status, head, String::from_utf8_lossy(&body).into_owned())
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("loopback").port()
}

/// A server with so many requests behind it, each with a trace.
fn busy_server(agent: &Agent) -> Server {
    let server = Server::builder("shop").instance("1").socket(agent.dir().join("probe.sock")).start();
    for _ in 0..REQUESTS {
        let mut request = server.request();
        request.trace_id([0xcd; 16]);
        request.enter(Stage::Compute);
        request.finish();
    }
    server
}

const COMPLETED: &str = "perfwatch_server_requests_total{perfwatch_outcome=\"completed\",perfwatch_server_instance=\"1\",\
    perfwatch_server_name=\"shop\"} 40";

#[test]
fn a_scraper_gets_the_format_it_asks_for_and_never_an_empty_200() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let _server = busy_server(&agent);
    let (status, head, body) = scrape(&agent, "/metrics", "*/*");
    if status == 503 {
        assert!(head.contains("retry-after: 1") && body.contains("tick"), "{head}\n{body}");
    }
    wait_for("all requests in text", || {
        let (status, head, body) = scrape(&agent, "/metrics", "*/*");
        assert!(status == 503 || (status == 200 && !body.is_empty()), "{status}: {body}");
        assert!(status == 503 || head.contains("content-type: text/plain; version=0.0.4"), "{head}");
        body.lines().any(|line| line == COMPLETED).then_some(())
    });
    let (_, head, body) = scrape(&agent, "/metrics", OPEN_METRICS);
    assert!(head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{head}");
    assert!(body.ends_with("# EOF\n"), "{body}");
    let exemplar = format!("# {{trace_id=\"{}\"}}", "cd".repeat(16));
    assert!(body.contains(&exemplar), "no exemplar in\n{body}");
    let (status, _, body) = scrape(&agent, "/metrics?level=all", "*/*");
    assert!(status == 400 && body.contains("level=full"), "{body}");
    let (_, _, default) = scrape(&agent, "/metrics?level=default", "*/*");
    let (_, _, full) = scrape(&agent, "/metrics?level=full", "*/*");
    assert!(full.len() > default.len());
}

#[test]
fn counters_go_on_over_a_restart_of_the_agent() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = busy_server(&agent);
    wait_for("all requests", || scrape(&agent, "/metrics", "*/*").2.contains(COMPLETED).then_some(()));
    let created = |text: &str| {
        let line = text.lines().find(|line| line.starts_with("perfwatch_server_requests_created{"));
        line.and_then(|line| line.rsplit(' ').next().map(str::to_owned))
    };
    let before = created(&scrape(&agent, "/metrics", OPEN_METRICS).2).expect("a time of creation");
    let mut agent = agent;
    agent.kill();
    let mut next = perfwatch(PERFWATCH, agent.dir()).arg("agent").stderr(Stdio::null()).spawn().expect("it starts");
    let text = wait_for("the totals of the agent before", || {
        let socket = UnixStream::connect(agent.api_socket()).ok()?;
        let text = String::from_utf8(ask(socket, "/metrics", OPEN_METRICS).ok()?.2).ok()?;
        text.contains("perfwatch_server_requests_total").then_some(text)
    });
    assert!(text.contains(COMPLETED), "{text}");
    assert_eq!(created(&text), Some(before));
    drop(server);
    next.kill().expect("our child");
    next.wait().expect("our child");
}

#[test]
fn over_tcp_only_metrics_and_health_are_served_and_only_on_loopback() {
    let port = free_port();
    let agent = Agent::spawn(PERFWATCH, &["--metrics-listen", &format!("127.0.0.1:{port}")], &[]);
    let get =
        |path: &str| ask(TcpStream::connect(("127.0.0.1", port)).expect("it listens"), path, "*/*").expect("an answer");
    wait_for("something to scrape", || (get("/metrics").0 == 200).then_some(()));
    assert_eq!(get("/healthz").0, 200);
    for path in ["/v1/snapshot", "/v1/config", "/"] {
        assert_eq!(get(path).0, 404, "{path}");
    }
    // The port is taken now, which is no matter of who may reach it.
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["agent", "--metrics-listen", &format!("127.0.0.1:{port}")]);
    let output = run(command, Duration::from_secs(30));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("metrics.listen") && stderr.contains("another port"), "{stderr}");
    drop(agent);
    for command in ["agent", "config"] {
        let mut refused = perfwatch(PERFWATCH, dir.path());
        refused.args([command, "--metrics-listen", "0.0.0.0:0"]);
        let output = run(refused, Duration::from_secs(30));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains("loopback") && stderr.contains("metrics.reach"), "{command}: {stderr}");
    }
}

#[test]
fn promtool_finds_nothing_to_complain_of() {
    let Some(promtool) = peer("promtool") else { return };
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let _server = busy_server(&agent);
    wait_for("all requests", || scrape(&agent, "/metrics", "*/*").2.contains(COMPLETED).then_some(()));
    let (_, _, text) = scrape(&agent, "/metrics?level=full", "*/*");
    let mut child = Command::new(promtool)
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool starts");
    child.stdin.take().expect("piped").write_all(text.as_bytes()).expect("promtool reads");
    let output = child.wait_with_output().expect("promtool ends");
    let said = String::from_utf8_lossy(&output.stderr);
    // What is named after an OpenTelemetry convention keeps its name; promtool would have some of them otherwise.
    let complaints: Vec<_> = said.lines().filter(|line| !is_convention(line)).collect();
    assert!(complaints.is_empty(), "{complaints:#?}");
    assert!(!said.contains("error while linting"), "{said}");
}

/// The linter reserves `_count` for distributions; the convention has `system.cpu.logical.count`.
fn is_convention(complaint: &str) -> bool {
    complaint.ends_with("non-histogram and non-summary metrics should not have \"_count\" suffix")
}

/// A Prometheus that scrapes one address. Killed when dropped.
struct Prometheus {
    child: Child,
    port: u16,
    _data: tempfile::TempDir,
}

impl Prometheus {
    fn scraping(binary: &Path, target: u16) -> Self {
        let data = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let config = format!(
            "global: {{scrape_interval: 1s, scrape_native_histograms: true}}\n\
             scrape_configs:\n- job_name: perfwatch\n  static_configs: [{{targets: ['127.0.0.1:{target}']}}]\n"
        );
        let file = data.path().join("prometheus.yml");
        std::fs::write(&file, config).expect("the folder can be written");
        let child = Command::new(binary)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", data.path().join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--enable-feature=native-histograms,exemplar-storage")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Prometheus starts");
        Self { child, port, _data: data }
    }

    /// The answer's `data`; `None` while there is none.
    fn ask(&self, path: &str) -> Option<Value> {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        stream.set_read_timeout(Some(DEADLINE)).ok()?;
        let (status, _, body) = ask_once(stream, path).ok()?;
        let answer: Value = serde_json::from_slice(&body).ok()?;
        (status == 200).then(|| answer["data"].clone())
    }

    /// The value of the one series that a query finds.
    fn value(&self, query: &str) -> Option<f64> {
        let data = self.ask(&format!("/api/v1/query?query={}", escaped(query)))?;
        match data["result"].as_array()?.as_slice() {
            [one] => one["value"][1].as_str()?.parse().ok(),
            _ => None,
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// In HTTP/1.0, so that the body comes in one piece.
fn ask_once(mut stream: TcpStream, path: &str) -> std::io::Result<(u16, String, Vec<u8>)> {
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::other("no end of headers"))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    Ok((status.ok_or_else(|| std::io::Error::other("no status"))?, head, answer[end + 4..].to_vec()))
}

fn escaped(query: &str) -> String {
    query.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
#[allow(clippy::float_cmp, reason = "counts, exact in an f64")]
fn a_real_prometheus_gets_native_histograms_exemplars_and_exact_counts() {
    let Some(binary) = peer("prometheus") else { return };
    let port = free_port();
    let agent = Agent::spawn(PERFWATCH, &["--metrics-listen", &format!("127.0.0.1:{port}")], &[]);
    let _server = busy_server(&agent);
    let prometheus = Prometheus::scraping(&binary, port);
    wait_for("all requests in Prometheus", || {
        let completed = "perfwatch_server_requests_total{perfwatch_outcome=\"completed\"}";
        (prometheus.value(completed)? == REQUESTS as f64).then_some(())
    });
    let count = prometheus.value("histogram_count(perfwatch_server_request_duration_seconds)");
    assert_eq!(count, Some(REQUESTS as f64), "a native histogram with each request");
    let p50 = prometheus.value("histogram_quantile(0.5, perfwatch_server_request_duration_seconds)").expect("a median");
    let exact = agent.json("/v1/query?metric=perfwatch.server.request.duration&buckets=true");
    let mut seen = 0;
    let buckets = exact["series"][0]["buckets"].as_array().expect("buckets").clone();
    let median = buckets.iter().find(|bucket| {
        seen += bucket[2].as_u64().expect("a count");
        seen * 2 >= REQUESTS
    });
    let median = median.expect("half of all requests")[1].as_u64().expect("nanoseconds") as f64 / 1e9;
    // A bucket is 2.2 % wide, and where half of the values lie between two buckets either is right.
    assert!((p50 / median - 1.0).abs() < 0.05, "{p50} s in Prometheus, {median} s measured");
    assert_eq!(prometheus.value("up"), Some(1.0));
    let exemplars = wait_for("an exemplar", || {
        let query = "perfwatch_server_request_duration_seconds";
        let data = prometheus.ask(&format!("/api/v1/query_exemplars?query={query}&start=0&end=9999999999"))?;
        data.as_array().filter(|found| !found.is_empty()).cloned()
    });
    assert_eq!(exemplars[0]["exemplars"][0]["labels"]["trace_id"], "cd".repeat(16));
    let metadata =
        prometheus.ask("/api/v1/metadata?metric=perfwatch_server_request_duration_seconds").expect("metadata");
    assert_eq!(metadata["perfwatch_server_request_duration_seconds"][0]["type"], "histogram");
}
