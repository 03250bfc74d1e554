//! A driver that fails under a running agent: that hangs, that is upgraded, that a container cannot reach.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use perfwatch_export::receiver::Receiver;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::PERFWATCH;

/// As long as the driver hangs.
const HANG: Duration = Duration::from_secs(30);

/// Plays a scenario to an agent.
fn agent_with(dir: &Path, scenario: &str, args: &[&str]) -> (Agent, PathBuf) {
    let library = fake_nvml::install(dir, scenario).expect("a scenario");
    let args = [&["--nvml-lib", library.to_str().expect("UTF-8")], args].concat();
    (Agent::spawn(PERFWATCH, &args, &[("OTEL_METRIC_EXPORT_INTERVAL", "1000")]), library)
}

/// What the snapshot shows of the only GPU.
fn gpu(agent: &Agent) -> Option<Value> {
    let snapshot = agent.json("/v1/snapshot");
    let devices = snapshot["devices"].as_array()?;
    devices.iter().find(|device| device["kind"] == "gpu").map(|device| device["gpu"].clone())
}

/// Why a metric has no value.
fn reason(agent: &Agent, metric: &str) -> Option<String> {
    let snapshot = agent.json("/v1/snapshot");
    let missing = snapshot["unavailable"].as_array()?.iter().find(|missing| missing["metric"] == metric)?.clone();
    missing["reason"].as_str().map(str::to_owned)
}

fn power(agent: &Agent) -> Option<f64> {
    gpu(agent)?["power_watts"].as_f64()
}

/// The finding about the GPU's health.
fn unhealthy(agent: &Agent) -> Option<Value> {
    let findings = agent.json("/v1/findings");
    findings.as_array()?.iter().find(|finding| finding["id"] == "gpu-unhealthy").cloned()
}

/// What a command prints, which must not take long.
fn printed(agent: &Agent, args: &[&str]) -> String {
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.args(args);
    String::from_utf8(run(command, HANG / 2).stdout).expect("UTF-8")
}

/// When each snapshot of the agent's stream came, for as long as it lasts.
fn watch(agent: &Agent) -> Arc<Mutex<Vec<Instant>>> {
    let mut stream = UnixStream::connect(agent.api_socket()).expect("the agent listens");
    write!(stream, "GET /v1/stream HTTP/1.1\r\nHost: perfwatch\r\n\r\n").expect("the agent reads");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let theirs = Arc::clone(&seen);
    std::thread::spawn(move || {
        // Between the snapshots stand the lengths of HTTP's chunks.
        for line in BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.starts_with('{')) {
            assert!(line.ends_with('}'), "a line is a whole snapshot");
            theirs.lock().expect("no panic").push(Instant::now());
        }
    });
    seen
}

#[test]
fn while_a_call_hangs_everything_else_goes_on_and_afterwards_the_gpu_is_back() {
    let runtime = Runtime::new().expect("a runtime");
    let receiver = runtime.block_on(Receiver::start()).expect("loopback");
    let dir = tempfile::tempdir().expect("a folder");
    let hang_ms = HANG.as_millis();
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "utilization": {{"gpu": 90, "memory": 30}},
            "memory": {{"total": 85899345920, "used": 42949672960}}, "power_mw": 350000, "gpm": {{"1": 90, "2": 80, "10": 60}},
            "delays_ms": {{"nvmlDeviceGetPowerUsage": {{"at": [[0, 0], [4, {hang_ms}], [20, 0]]}}}}}}]}}"#
    );
    let (agent, _) = agent_with(dir.path(), &scenario, &["--otlp-endpoint", &receiver.http_endpoint()]);
    wait_for("the GPU", || power(&agent));
    let snapshots = watch(&agent);
    let hung = wait_for("the hang", || reason(&agent, "hw.power").filter(|text| text.contains("unresponsive")));
    assert!(hung.contains("`nvmlDeviceGetPowerUsage` has not returned"), "{hung}");
    let (began, exported) = (Instant::now(), receiver.received().metrics.len());

    let finding = wait_for("the finding", || unhealthy(&agent));
    assert_eq!((&finding["entity"], &finding["severity"]), (&"gpu:GPU-a".into(), &"critical".into()), "{finding:#}");
    assert!(finding["detail"].as_str().is_some_and(|text| text.contains("its driver does not answer")), "{finding:#}");
    let why = printed(&agent, &["why"]);
    assert!(why.contains("gpu-unhealthy") && why.contains("its driver does not answer"), "{why}");
    let top = printed(&agent, &["top", "--once", "--view", "gpus"]);
    assert!(top.contains("no answer") && top.contains("nvmlDeviceGetPowerUsage"), "{top}");
    assert_eq!(gpu(&agent).expect("it stays in sight")["faults"], serde_json::json!(["unresponsive"]));
    std::thread::sleep((HANG * 2 / 3).saturating_sub(began.elapsed()));
    assert!(
        reason(&agent, "hw.power").is_some_and(|text| text == hung),
        "the text stays the same for as long as it hangs"
    );

    // Still amid the hang. A tick comes each second; a machine that runs other tests may be late now and then.
    let seconds = began.elapsed().as_secs_f64();
    let exported = receiver.received().metrics.len() - exported;
    assert!(exported as f64 > seconds * 0.7, "{exported} exports in {seconds} s");
    let came: Vec<_> = snapshots.lock().expect("no panic").iter().copied().filter(|came| *came >= began).collect();
    assert!(came.len() as f64 > seconds * 0.8, "{} snapshots in {seconds} s", came.len());
    let longest = came.windows(2).map(|pair| pair[1] - pair[0]).max().expect("several");
    assert!(longest < Duration::from_secs(3), "{longest:?} between two snapshots");
    let missed = agent.json("/v1/snapshot")["agent"]["ticks_missed"].as_u64();
    assert!(missed.is_some_and(|missed| missed <= 1), "{missed:?} ticks missed");

    wait_for("the readings to be back", || power(&agent).filter(|watts| (watts - 350.0).abs() < 1.0));
    assert!(began.elapsed() < HANG + Duration::from_secs(5), "{:?}", began.elapsed());
    wait_for("the finding to go", || unhealthy(&agent).is_none().then_some(()));
    assert!(gpu(&agent).expect("it is back")["faults"].is_null());
}

#[test]
fn a_gpu_beside_one_that_hangs_is_said_to_wait_for_it_by_number_and_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let hang_ms = HANG.as_millis();
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "power_mw": 350000,
            "delays_ms": {{"nvmlDeviceGetPowerUsage": {{"at": [[0, 0], [4, {hang_ms}]]}}}}}},
            {{"uuid": "GPU-b", "name": "NVIDIA H100 80GB HBM3", "power_mw": 350000}}]}}"#
    );
    let (agent, _) = agent_with(dir.path(), &scenario, &[]);
    let waits = |of: &str| {
        let snapshot = agent.json("/v1/snapshot");
        let missing = snapshot["unavailable"].as_array()?.iter().find(|missing| missing["entity"] == of)?.clone();
        missing["reason"].as_str().filter(|reason| reason.starts_with("waits for")).map(str::to_owned)
    };
    let kept = wait_for("the hang", || waits("gpu:GPU-b"));
    assert!(
        kept.starts_with("waits for GPU-a: "),
        "what is kept and shipped has the id that is the same everywhere: {kept}"
    );
    for args in [&["why"][..], &["doctor"], &["top", "--once", "--view", "gpus"]] {
        let text = printed(&agent, args);
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("waits for GPU 0 H100: `nvmlDeviceGetP"), "{args:?}:\n{text}");
    }
}

#[test]
fn a_driver_that_is_upgraded_under_the_agent_is_read_by_its_own_numbers() {
    // From 580.82 on field 252 is 270; what the other number means to each is none of the clocks' reasons.
    let scenario = |driver: &str, heat: u32, other: u32, more: &str| {
        format!(
            r#"{{"driver": "{driver}", "devices": [{{"uuid": "GPU-a", "power_mw": 350000, "temperature_c": 60, {more}
                "fields": [{{"id": {heat}, "type": "unsigned_long_long", "value": {{"start": 0, "per_second": 500000000}}}},
                    {{"id": {other}, "type": "unsigned_long_long", "value": 7}}]}}]}}"#
        )
    };
    let dir = tempfile::tempdir().expect("a folder");
    let mismatch = r#""errors": {"nvmlDeviceGetTemperature": {"at": [[0, 0], [5, "LIB_RM_VERSION_MISMATCH"]]}},"#;
    let (agent, library) = agent_with(dir.path(), &scenario("575.57.08", 252, 270, mismatch), &[]);
    fake_nvml::rewrite(&library, r#"{"init": "LIB_RM_VERSION_MISMATCH"}"#).expect("rewritten");
    let is_hot = |gpu: &Value| {
        let held_down = gpu["throttled"].as_array()?.iter().find(|held| held["reason"] == "hw_thermal")?;
        held_down["share"].as_f64().filter(|share| (share - 0.5).abs() < 0.1)
    };
    wait_for("heat by the old number", || is_hot(&gpu(&agent)?));
    let text = "NVML and the loaded NVIDIA kernel driver are of different versions";
    wait_for("the upgrade", || reason(&agent, "hw.power").filter(|reason| reason == text));
    fake_nvml::rewrite(&library, &scenario("580.95.05", 270, 252, "")).expect("rewritten");
    // It is tried again after 10 s, or after 20 s more where that was too early.
    wait_for("the new driver", || power(&agent));
    wait_for("heat by the new number", || is_hot(&gpu(&agent)?));
    assert!(reason(&agent, "hw.power").is_none());
}

#[test]
fn a_driver_that_fails_from_the_start_is_a_finding_about_the_machine_until_its_gpus_are_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let (agent, library) = agent_with(dir.path(), r#"{"init": "LIB_RM_VERSION_MISMATCH"}"#, &[]);
    let finding = wait_for("the finding", || unhealthy(&agent));
    assert!(finding["entity"].as_str().is_some_and(|entity| entity.starts_with("host:")), "{finding:#}");
    assert_eq!(finding["severity"], "critical", "{finding:#}");
    let mut why = perfwatch(PERFWATCH, agent.dir());
    why.arg("why");
    let why = run(why, HANG / 2);
    let card = String::from_utf8(why.stdout).expect("UTF-8");
    assert_eq!(why.status.code(), Some(12), "{card}");
    assert!(card.contains("No GPU can be seen: NVML and the loaded NVIDIA kernel driver are of different"), "{card}");
    let doctor = printed(&agent, &["doctor"]);
    assert!(doctor.contains("\ngpus       none: NVML and the loaded NVIDIA kernel driver"), "{doctor}");
    wait_for("the finding to be scraped", || {
        let (_, metrics) = perfwatch_tests::get(&agent.api_socket(), "/metrics").expect("the local API answers");
        metrics.lines().any(|line| line.contains("gpu-unhealthy") && line.ends_with(" 1")).then_some(())
    });

    fake_nvml::rewrite(&library, r#"{"devices": [{"uuid": "GPU-a", "name": "NVIDIA H100", "power_mw": 350000}]}"#)
        .expect("rewritten");
    wait_for("the GPU", || power(&agent));
    wait_for("the finding to go", || unhealthy(&agent).is_none().then_some(()));
    let doctor = printed(&agent, &["doctor"]);
    assert!(doctor.contains("\ngpu 0      NVIDIA H100, ") && doctor.contains("GPU-a\n"), "{doctor}");
    let (_, log) = agent.terminate();
    let told = |words: &[&str]| log.lines().filter(|line| words.iter().all(|word| line.contains(word))).count();
    assert_eq!(told(&["WARN", "no GPU: its driver fails reason=", "different versions"]), 1, "{log}");
    assert_eq!(told(&["GPU found", "gpu:GPU-a", "NVIDIA H100"]), 1, "{log}");
}

#[test]
fn a_container_that_loses_its_gpus_to_a_reload_is_told_so_and_has_them_back_when_it_may_open_them() {
    let dir = tempfile::tempdir().expect("a folder");
    // All that was open answers nothing any more, and nothing can be opened.
    let every_call = fake_nvml::SYMBOLS.iter().filter(|symbol| symbol.starts_with("nvmlDeviceGet"));
    let kept =
        |symbol: &&&str| ["Handle", "Count", "UUID", "Name", "PciInfo"].iter().all(|part| !symbol.contains(part));
    let errors: serde_json::Map<_, _> = every_call
        .filter(kept)
        .map(|symbol| ((*symbol).to_owned(), serde_json::json!({"at": [[0, 0], [4, "UNKNOWN"]]})))
        .collect();
    let well = r#"{"devices": [{"uuid": "GPU-a", "power_mw": 350000, "temperature_c": 60}]}"#;
    let reloaded =
        serde_json::json!({"devices": [{"uuid": "GPU-a", "power_mw": 350_000, "temperature_c": 60, "errors": errors}]});
    let (agent, library) = agent_with(dir.path(), &reloaded.to_string(), &[]);
    wait_for("the GPU", || power(&agent));
    fake_nvml::rewrite(&library, r#"{"init": "UNKNOWN"}"#).expect("rewritten");
    let finding = wait_for("the finding", || unhealthy(&agent));
    assert_eq!(finding["entity"], "gpu:GPU-a", "{finding:#}");
    let text = printed(&agent, &["doctor"]);
    // Elsewhere an unknown error is one.
    let in_container = ["/.dockerenv", "/run/.containerenv"].iter().any(|mark| Path::new(mark).exists());
    let said = if in_container { "no_device_in_container" } else { "unknown error" };
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(said) || words.contains("no_device_in_container"), "{said} is missing:\n{text}");
    assert!(words.contains("to get it:"), "{text}");
    fake_nvml::rewrite(&library, well).expect("rewritten");
    wait_for("the GPU to be back", || power(&agent));
    wait_for("the finding to go", || unhealthy(&agent).is_none().then_some(()));
}
