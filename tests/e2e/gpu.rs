//! GPUs, through the real NVML wrapper and the library that stands in for the driver.

use perfwatch_sdk::Server;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use serde_json::Value;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::{PERFWATCH, assert_is_allowed};

/// The reason why there is no GPU utilisation.
fn reason(agent: &Agent) -> Option<Value> {
    let snapshot = agent.json("/v1/snapshot");
    let unavailable = snapshot["unavailable"].as_array()?.clone();
    unavailable.into_iter().find(|missing| missing["metric"] == "hw.gpu.utilization")
}

/// An agent whose driver plays a scenario.
fn agent_with(scenario: &str) -> (Agent, tempfile::TempDir) {
    let dir = tempfile::tempdir().expect("a folder");
    let library = fake_nvml::install(dir.path(), scenario).expect("a scenario");
    let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", library.to_str().expect("UTF-8")], &[]);
    (agent, dir)
}

#[test]
fn without_a_driver_the_reason_and_the_cure_are_told() {
    let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", "/nowhere/libnvidia-ml.so.1"], &[]);
    let missing = wait_for("the reason", || reason(&agent));
    assert!(missing["reason"].as_str().expect("text").contains("/nowhere/libnvidia-ml.so.1"), "{missing:#}");
    assert!(!missing["cure"].as_str().expect("text").is_empty(), "{missing:#}");
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("doctor");
    let text = String::from_utf8(run(command, Duration::from_secs(30)).stdout).expect("UTF-8");
    assert!(text.contains("hw.gpu.utilization") && text.contains("to get it:"), "{text}");
}

#[test]
fn a_driver_that_was_upgraded_under_the_library_is_told_as_that() {
    let (agent, _dir) = agent_with(r#"{ "init": 18 }"#);
    let missing = wait_for("the reason", || reason(&agent));
    assert!(missing["reason"].as_str().expect("text").contains("version"), "{missing:#}");
}

#[test]
fn a_gpu_shows_what_its_driver_says() {
    let (agent, _dir) = agent_with(include_str!("../fixtures/one-gpu.json"));
    let gpu = wait_for("the GPU", || {
        let snapshot = agent.json("/v1/snapshot");
        let devices = snapshot["devices"].as_array()?.clone();
        devices.into_iter().find(|device| device["kind"] == "gpu" && device["gpu"]["utilization"].is_number())
    });
    assert_eq!(gpu["id"], "gpu:GPU-11111111-2222-3333-4444-555555555555");
    assert_eq!(gpu["gpu"]["utilization"], 0.42, "{gpu:#}");
    assert_eq!(gpu["gpu"]["power_watts"], 350.0, "{gpu:#}");
    assert_eq!(gpu["gpu"]["memory_limit_bytes"], 85_899_345_920_u64, "{gpu:#}");
}

#[test]
fn a_server_is_joined_to_its_process_its_group_and_its_gpus() {
    const GPU: &str = "gpu:GPU-11111111-2222-3333-4444-555555555555";
    // What the server started holds memory on the GPU, as the engine of a server of many processes does.
    let mut engine = Command::new("sleep").arg("600").spawn().expect("sleep starts");
    let scenario =
        include_str!("../fixtures/one-gpu.json").replace("\"pid\": 1,", &format!("\"pid\": {},", engine.id()));
    let (agent, _dir) = agent_with(&scenario);
    let socket = agent.dir().join("probe.sock");
    let _server = Server::builder("engine").socket(&socket).start();
    // Another one says which GPU it was given.
    let data = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("model-server").arg("--data").arg(data.path()).env("PERFWATCH_SOCKET", &socket);
    command.env("CUDA_VISIBLE_DEVICES", "GPU-11111111").stdin(Stdio::piped()).stdout(Stdio::null());
    let mut given = command.spawn().expect("the binary starts");
    writeln!(given.stdin.as_mut().expect("piped"), "start").expect("the server reads");
    let server = |name: &str| {
        let snapshot = agent.json("/v1/snapshot");
        snapshot["servers"].as_array()?.iter().find(|server| server["name"] == name).cloned()
    };
    let joined = |name: &str| {
        wait_for("the server on its GPU", || server(name).filter(|server| server["place"]["gpus"][0] == GPU))
    };
    let seen = joined("engine");
    assert_eq!(seen["pids"], serde_json::json!([std::process::id()]), "{seen:#}");
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("procfs");
    let group = seen["place"]["cgroup"].as_str().expect("a path");
    assert!(own.lines().any(|line| line.ends_with(&format!(":{group}"))), "{group} in {own}");
    assert_is_allowed(&agent.json("/v1/snapshot"));
    assert_eq!(joined("demo-mlp")["pids"], serde_json::json!([given.id()]));
    for child in [&mut engine, &mut given] {
        child.kill().expect("our child");
        child.wait().expect("our child");
    }
    wait_for("the one that was killed to be silent", || server("demo-mlp").filter(|server| server["live"] == false));
}
