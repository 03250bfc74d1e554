//! A whole agent inside the test's process: real probes, real sockets, a real SDK client.

use std::cell::Cell;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use perfwatch_agent::{Agent, Config, Environment, Flags, ROUTES, Role, Running, SystemClock};
use perfwatch_export::receiver::Receiver;
use perfwatch_model::Snapshot;
use perfwatch_model::snapshot::{GpuView, ServerView};
use perfwatch_sdk::{Server, Stage};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

/// Long enough for the slowest machine; nothing waits for it when all is well.
const PATIENCE: Duration = Duration::from_mins(1);

struct Rig {
    folder: tempfile::TempDir,
    agent: Running,
}

async fn start(folder: &Path, settings: &[(&str, &str)]) -> Result<Running, perfwatch_agent::Error> {
    let values = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let config = Config::load(&Flags { file: None, values }, Environment::default()).expect("a valid configuration");
    Agent::start(config, Role::Private(folder.to_owned()), Arc::new(SystemClock)).await
}

impl Rig {
    async fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let agent = start(folder.path(), settings).await.expect("the agent starts");
        Self { folder, agent }
    }

    /// The first snapshot from now on that is as wanted.
    async fn until(&self, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
        let mut snapshots = self.agent.subscribe();
        let found = async {
            loop {
                let snapshot = snapshots.next().await.expect("the agent runs");
                if wanted(&snapshot) {
                    return snapshot;
                }
            }
        };
        let found = tokio::time::timeout(PATIENCE, found).await.ok();
        found.unwrap_or_else(|| panic!("no snapshot in which {what}; the last was {:?}", self.agent.snapshot()))
    }

    async fn connect(&self, path: &str) -> UnixStream {
        let mut stream = UnixStream::connect(self.folder.path().join("api.sock")).await.expect("the api listens");
        let request = format!("GET {path} HTTP/1.1\r\nHost: perfwatch\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the api reads");
        stream
    }

    /// Status and body, of which a recording is no text.
    async fn get(&self, path: &str) -> (u16, String) {
        let mut answer = Vec::new();
        self.connect(path).await.read_to_end(&mut answer).await.expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).expect("a status line").parse().expect("a number");
        (status, body.to_owned())
    }

    async fn json(&self, path: &str) -> (u16, Value) {
        let (status, body) = self.get(path).await;
        (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error} in {body}")))
    }

    fn server(&self, instance: &str) -> Server {
        let socket = self.folder.path().join("probe.sock");
        Server::builder("shop").instance(instance).max_batch_size(4).socket(socket).start()
    }
}

/// A request that passes through every kind of stage; the pauses are what its ledger is made of.
fn serve_one(server: &Server) {
    let mut request = server.request();
    request.enter(Stage::Queue);
    request.enter(Stage::BatchWait);
    std::thread::sleep(Duration::from_millis(1));
    server.dispatch(1, 1);
    request.enter(Stage::Compute);
    std::thread::sleep(Duration::from_millis(4));
    request.enter(Stage::Send);
    request.finish();
}

#[tokio::test]
async fn a_servers_ledger_sums_to_its_interval_and_its_requests_are_counted_exactly() {
    const REQUESTS: u64 = 300;
    let rig = Rig::new(&[]).await;
    let server = rig.server("1");
    let serving = std::thread::spawn(move || {
        (0..REQUESTS).for_each(|_| serve_one(&server));
        server.request().fail();
        server
    });
    // The window forgets, so the sums are taken of the raw ticks' running totals.
    let completed = |snapshot: &Snapshot| snapshot.servers.iter().any(|server| server.latency.is_some());
    rig.until("requests have ended", completed).await;
    let server = serving.join().expect("the server thread ends");
    let mut seen = 0;
    let snapshots = rig.agent.subscribe();
    let totals = async {
        let mut snapshots = snapshots;
        loop {
            let snapshot = snapshots.next().await.expect("the agent runs");
            for server in &snapshot.servers {
                let Some(ledger) = &server.ledger else { continue };
                assert_eq!(ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(), ledger.interval_ns);
                seen += 1;
            }
            for device in &snapshot.devices {
                let Some(ledger) = &device.ledger else { continue };
                assert_eq!(
                    ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(),
                    ledger.interval_ns,
                    "{}",
                    device.id
                );
            }
            let (_, ticks) = rig.json("/v1/ticks").await;
            if total(&ticks, "perfwatch.server.requests") == Some((REQUESTS + 1) as f64) {
                return (snapshot, ticks);
            }
        }
    };
    let (snapshot, ticks) = tokio::time::timeout(PATIENCE, totals).await.expect("every request arrives, once");
    assert!(seen > 0, "there was a ledger to check");
    assert_eq!(total(&ticks, "perfwatch.server.requests.started"), Some((REQUESTS + 1) as f64));
    assert_eq!(total(&ticks, "perfwatch.server.batch.dispatches"), Some(REQUESTS as f64));
    assert_eq!(distribution(&ticks, "perfwatch.server.request.duration"), REQUESTS + 1);
    let view = &snapshot.servers[0];
    assert_eq!((view.id.as_str(), view.kind.as_str(), view.live), ("server:shop/1", "sdk", true));
    assert_eq!(view.pids, [std::process::id()]);
    let ledger = view.ledger.as_ref().expect("requests were served within the window");
    let share = |stage: &str| {
        let ns: u64 = ledger.entries.iter().filter(|entry| entry.stage == stage).map(|entry| entry.ns).sum();
        ns as f64 / ledger.interval_ns as f64
    };
    assert!(share("compute") > share("batch_wait"), "four milliseconds against one: {ledger:?}");
    assert!(rig.agent.snapshot().expect("there is one").devices.iter().any(|device| device.id == "cpu:shop/1"));
    drop(server);
    rig.agent.shutdown().await;
}

/// The newest total of a counter, summed over its series.
fn total(ticks: &Value, metric: &str) -> Option<f64> {
    let ids: Vec<u64> = ids(ticks, metric);
    let newest = ticks["ticks"].as_array()?.last()?;
    let of = |pair: &&Value| ids.contains(&pair[0].as_u64().unwrap_or(u64::MAX));
    let values: Vec<f64> = newest["values"].as_array()?.iter().filter(of).filter_map(|pair| pair[1].as_f64()).collect();
    (!values.is_empty()).then(|| values.iter().sum())
}

/// How many values a histogram's ticks gained together.
fn distribution(ticks: &Value, metric: &str) -> u64 {
    let ids = ids(ticks, metric);
    let all =
        ticks["ticks"].as_array().expect("a list").iter().filter_map(|tick| tick["histograms"].as_array()).flatten();
    all.filter(|part| ids.contains(&part["series"].as_u64().unwrap_or(u64::MAX)))
        .filter_map(|part| part["count"].as_u64())
        .sum()
}

fn ids(ticks: &Value, metric: &str) -> Vec<u64> {
    let series = ticks["series"].as_array().expect("a list").iter();
    series.filter(|series| series["metric"] == metric).filter_map(|series| series["id"].as_u64()).collect()
}

#[tokio::test]
async fn a_snapshot_keeps_to_the_published_schema() {
    let schema: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/snapshot.schema.json")).expect("the schema is JSON");
    let schema = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let rig = Rig::new(&[("otlp.endpoint", "http://127.0.0.1:9")]).await;
    let server = rig.server("schema");
    let check = |snapshot: &Value| {
        let problems: Vec<_> =
            schema.iter_errors(snapshot).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(problems.is_empty(), "{problems:#?} in {snapshot:#}");
    };
    let first = rig.until("anything is known", |_| true).await;
    check(&serde_json::to_value(&*first).expect("serialisable"));
    (0..20).for_each(|_| serve_one(&server));
    let mut stream = server.request();
    stream.prompt_tokens(90);
    stream.token();
    stream.token();
    stream.finish();
    server.cache_hit();
    server.cache_miss();
    server.request().fail_with("timeout");
    rig.until("all that a server tells is known", |snapshot| {
        let told = |server: &ServerView| {
            let times = server.time_to_first_token.is_some() && server.inter_token.is_some();
            times && server.tokens.is_some() && server.cache.is_some() && !server.errors_by_kind.is_empty()
        };
        snapshot.servers.iter().any(|server| server.latency.is_some() && told(server))
    })
    .await;
    let (status, full) = rig.json("/v1/snapshot").await;
    assert_eq!(status, 200);
    check(&full);
    let shown = &full["servers"][0];
    assert!(shown["tokens"]["input_per_s"].as_f64() > shown["tokens"]["output_per_s"].as_f64(), "{shown:#}");
    assert_eq!(shown["cache"]["hit_ratio"], 0.5);
    assert_eq!(shown["errors_by_kind"][0]["kind"], "timeout");
    assert!(full["host"]["memory_total_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    assert!(full["agent"]["rss_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
    assert!(full["agent"]["probes"].as_array().is_some_and(|probes| probes.len() >= 5));
    assert_eq!(full["agent"]["exports"][0]["sent"], 0, "nobody listens there");
    // A key that the schema does not know is noticed.
    let mut more = full.clone();
    more["host"]["surprise"] = Value::from(1);
    assert!(!schema.is_valid(&more));
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_taken_folder_is_refused_with_the_pid_of_its_agent() {
    let rig = Rig::new(&[]).await;
    let error = start(rig.folder.path(), &[]).await.expect_err("taken");
    let words = format!("another agent (pid {}) serves {}", std::process::id(), rig.folder.path().display());
    assert_eq!(error.to_string(), words);
    assert!(error.is_usage() && error.hint().is_some_and(|hint| hint.contains("perfwatch top")));
    rig.until("the first agent goes on", |_| true).await;
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_folder_that_cannot_be_used_is_refused() {
    let base = tempfile::tempdir().expect("a temporary folder");
    let file = base.path().join("file");
    std::fs::write(&file, "").expect("writable");
    let error = start(&file.join("below"), &[]).await.expect_err("below a file");
    let words = format!("cannot use the runtime folder {}/below: Not a directory (os error 20)", file.display());
    assert_eq!(error.to_string(), words);
}

#[tokio::test]
async fn a_setting_that_nothing_can_follow_is_refused_before_anything_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let error = start(folder.path(), &[("probes_off", "cpu,gpus")]).await.expect_err("unknown");
    assert!(
        error.to_string().starts_with("--probes-off: `probes_off` names the unknown probe `gpus`; there are: "),
        "{error}"
    );
    let error = start(folder.path(), &[("otlp.endpoint", "no url")]).await.expect_err("not a url");
    assert!(error.to_string().starts_with("--otlp-endpoint: `otlp.endpoint` `no url` has no scheme"), "{error}");
    assert!(!folder.path().join("api.sock").exists());
}

#[tokio::test]
async fn an_agent_takes_over_from_one_that_was_killed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["api.sock", "probe.sock"] {
        drop(std::os::unix::net::UnixListener::bind(folder.path().join(name)).expect("a free name"));
    }
    std::fs::write(folder.path().join("agent.lock"), "1\n").expect("writable");
    let agent = start(folder.path(), &[]).await.expect("leftovers do not matter");
    let rig = Rig { folder, agent };
    assert_eq!(rig.get("/healthz").await, (200, "ok\n".to_owned()));
    rig.agent.shutdown().await;
    assert!(!rig.folder.path().join("api.sock").exists() && !rig.folder.path().join("probe.sock").exists());
}

#[tokio::test]
async fn every_route_answers_and_a_wrong_one_says_what_exists() {
    let rig = Rig::new(&[]).await;
    // The first snapshot is of the opening, which is no tick.
    let seen = Cell::new(0);
    rig.until("a tick has closed", |_| seen.replace(seen.get() + 1) == 1).await;
    for (path, _) in ROUTES.iter().filter(|(path, _)| *path != "/v1/stream") {
        assert_eq!(rig.get(path).await.0, 200, "{path}");
    }
    let (status, problem) = rig.json("/v2/snapshot").await;
    assert_eq!((status, problem["error"]["message"].as_str()), (404, Some("nothing at /v2/snapshot")));
    assert!(problem["error"]["hint"].as_str().is_some_and(|hint| hint.contains("/v1/snapshot")));
    let (status, problem) = rig.json("/v1/ticks?from=yesterday").await;
    let words = "`from` takes seconds since 1970, not `yesterday`";
    assert_eq!((status, problem["error"]["message"].as_str()), (400, Some(words)));
    let (status, problem) = rig.json("/v1/query?since=yesterday").await;
    assert_eq!(status, 400);
    assert!(problem["error"]["message"].as_str().is_some_and(|words| words.contains("since")), "{problem}");
    assert!(problem["error"]["hint"].as_str().is_some_and(|hint| hint.contains("buckets=true")), "{problem}");
    let (_, catalog) = rig.json("/v1/catalog").await;
    assert_eq!(catalog.as_array().map(Vec::len), Some(perfwatch_model::metrics::all().count()));
    let (_, config) = rig.json("/v1/config").await;
    assert!(
        config
            .as_array()
            .is_some_and(|keys| keys.iter().any(|key| key["key"] == "budget" && key["origin"] == "default"))
    );
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn the_stream_gives_a_snapshot_a_line_and_ends_with_the_agent() {
    let rig = Rig::new(&[]).await;
    let mut lines = BufReader::new(rig.connect("/v1/stream").await).lines();
    let mut times = Vec::new();
    while times.len() < 2 {
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.expect("in time").expect("text");
        let line = line.expect("the stream goes on");
        if line.starts_with('{') {
            let snapshot: Snapshot = serde_json::from_str(&line).expect("a whole snapshot");
            times.push(snapshot.time);
        }
    }
    assert!(times[0] < times[1], "{times:?}");
    rig.agent.shutdown().await;
    let rest = async { while let Ok(Some(_)) = lines.next_line().await {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the stream ends");
}

#[tokio::test]
async fn a_dead_export_endpoint_harms_nothing() {
    let receiver = Receiver::start().await.expect("a free port");
    let rig = Rig::new(&[("otlp.endpoint", &receiver.http_endpoint())]).await;
    rig.until("anything is known", |_| true).await;
    drop(receiver);
    let before = rig.agent.snapshot().expect("there is one").agent.uptime_s;
    let after = rig.until("ticks went on", |snapshot| snapshot.agent.uptime_s >= before + 2.0).await;
    assert_eq!(after.agent.exports.len(), 2, "metrics and findings");
    tokio::time::timeout(PATIENCE, rig.agent.shutdown()).await.expect("the flush is bounded");
}

#[tokio::test]
async fn what_was_measured_last_is_shipped_at_the_stop() {
    let receiver = Receiver::start().await.expect("a free port");
    let rig = Rig::new(&[("otlp.endpoint", &receiver.http_endpoint())]).await;
    let mut snapshots = rig.agent.subscribe();
    rig.until("a tick has closed", |snapshot| snapshot.window_s > 0.0).await;
    rig.agent.shutdown().await;
    while snapshots.next().await.is_some() {}
    let requests = receiver.received();
    let names: Vec<_> = requests
        .metrics
        .iter()
        .flat_map(|request| &request.resource_metrics)
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics)
        .map(|metric| metric.name.as_str())
        .collect();
    for wanted in ["system.cpu.time", "system.memory.usage", "perfwatch.agent.cpu.time"] {
        assert!(names.contains(&wanted), "{wanted} is missing in {names:?}");
    }
}

#[tokio::test]
async fn a_process_without_the_sdk_can_be_watched() {
    let own = std::process::id().to_string();
    let rig = Rig::new(&[("watch", &own)]).await;
    // Its first tick has no counters to compare with and is all unknown.
    let used = |snapshot: &Snapshot| {
        let ledgers = snapshot.devices.iter().filter_map(|device| device.ledger.as_ref());
        ledgers.flat_map(|ledger| &ledger.entries).any(|entry| entry.cause == "used")
    };
    let snapshot = rig.until("the process has used something", used).await;
    let view = &snapshot.servers[0];
    assert_eq!((view.kind.as_str(), view.live, view.pid), ("process", true, Some(std::process::id())));
    let ledger = snapshot.devices[0].ledger.as_ref().expect("seen above");
    let causes: Vec<_> = ledger.entries.iter().map(|entry| entry.cause.as_str()).collect();
    assert!(causes.contains(&"used") && causes.contains(&"idle_unknown"), "{causes:?}");
    assert_eq!(ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(), ledger.interval_ns);
    rig.agent.shutdown().await;
}

#[tokio::test]
async fn a_gpu_is_shown_with_its_readings_and_keeps_to_the_schema() {
    let driver = tempfile::tempdir().expect("a temporary folder");
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-1", "name": "H100", "utilization": {{"gpu": 60, "memory": 20}},
            "memory": {{"total": 80000000000, "reserved": 0, "used": 30000000000}},
            "power_mw": 350000, "power_limit_mw": 700000, "temperature_c": 61, "temperature_margin_c": -2,
            "clocks_mhz": {{"sm": 1200, "memory": 2619}}, "max_clocks_mhz": {{"sm": 1980}}, "throttle_reasons": 4,
            "gpm": {{"1": 60, "2": 50, "3": 30, "5": 20, "10": 40}}, "xids": [[0, 13]],
            "fields": [{{"id": 82, "type": "unsigned_int", "value": 66}},
                {{"id": 197, "type": "unsigned_long_long", "value": {{"start": 0, "per_second": 1000000}}}},
                {{"id": 138, "scope": 4294967295, "type": "unsigned_long_long", "value": {{"start": 0, "per_second": 1000}}}},
                {{"id": 74, "type": "unsigned_long_long", "value": {{"start": 0, "per_second": 500000000}}}},
                {{"id": 4, "type": "unsigned_long_long", "value": 2}}, {{"id": 142, "type": "unsigned_int", "value": 1}},
                {{"id": 144, "type": "unsigned_int", "value": 1}}, {{"id": 30, "type": "unsigned_int", "value": 3}}],
            "processes": {{"compute": [{{"pid": {}, "used": 1000000}}]}}}}]}}"#,
        std::process::id()
    );
    let library = fake_nvml::install(driver.path(), &scenario).expect("the fake driver installs");
    let rig = Rig::new(&[("nvml_lib", library.to_str().expect("a plain path"))]).await;
    let server = rig.server("resident");
    let of_server = |gpu: &GpuView| gpu.processes.iter().any(|process| process.server.is_some());
    let whole = |gpu: &GpuView| gpu.pcie.is_some() && gpu.activity.is_some() && of_server(gpu);
    let known = |snapshot: &Snapshot| snapshot.devices.iter().filter_map(|device| device.gpu.as_ref()).any(whole);
    let snapshot = rig.until("the GPU is known, with what needs two ticks", known).await;
    drop(server);
    let device = &snapshot.devices[0];
    assert_eq!((device.id.as_str(), device.name.as_str()), ("gpu:GPU-1", "H100"));
    let gpu = device.gpu.as_ref().expect("a GPU's view");
    assert_eq!((gpu.utilization, gpu.memory_used_bytes), (Some(0.6), Some(30_000_000_000)));
    assert_eq!(
        (gpu.power_watts, gpu.power_limit_watts, gpu.temperature_celsius),
        (Some(350.0), Some(700.0), Some(61.0))
    );
    assert_eq!(gpu.temperature_margin_celsius, Some(-2.0));
    assert_eq!(gpu.sm_clock_hertz, Some(1.2e9));
    assert_eq!(gpu.throttle_reasons.len(), 1, "{:?}", gpu.throttle_reasons);
    assert_eq!((gpu.sm_clock_limit_hertz, gpu.memory_clock_hertz), (Some(1.98e9), Some(2.619e9)));
    assert_eq!(gpu.activity.and_then(|activity| activity.tensor_active), Some(0.2));
    assert!(gpu.nvlink.is_some_and(|nvlink| nvlink.transmit_bytes_per_s.is_some_and(|rate| rate > 0.0)), "{gpu:?}");
    let capped = gpu.throttled.iter().find(|one| one.reason == "sw_power_cap").expect("its time is counted");
    assert!(capped.share > 0.2 && capped.share <= 1.0, "{capped:?}");
    assert_eq!((gpu.faults.as_slice(), gpu.xids[0].code), (["row_remap_pending".to_owned()].as_slice(), 13));
    assert_eq!(gpu.memory_errors.and_then(|errors| errors.uncorrected), Some(2));
    assert_eq!(gpu.retired_pages.and_then(|pages| pages.uncorrected), Some(3));
    assert_eq!(gpu.processes[0].server.as_deref(), snapshot.servers.first().map(|server| server.id.as_str()));
    let schema: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/snapshot.schema.json")).expect("the schema is JSON");
    let value = serde_json::to_value(&*snapshot).expect("serialisable");
    assert!(jsonschema::is_valid(&schema, &value), "{value:#}");
    rig.agent.shutdown().await;
}
