//! A server that uses the SDK, seen through the whole agent.

use std::time::Duration;

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, perfwatch, run, sums_exactly, wait_for};
use serde_json::Value;

use crate::PERFWATCH;

/// A server of this test, found by name in the snapshot.
fn server_of(agent: &Agent, name: &str) -> Option<Value> {
    let snapshot = agent.json("/v1/snapshot");
    snapshot["servers"].as_array()?.iter().find(|server| server["name"] == name).cloned()
}

#[test]
fn a_server_appears_with_its_requests_and_ledgers_that_sum() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("clip").socket(agent.dir().join("probe.sock")).max_batch_size(4).start();
    let seen = wait_for("the server in a snapshot with latency and ledger", || {
        let mut request = server.request();
        request.enter(Stage::Queue);
        std::thread::sleep(Duration::from_millis(5));
        request.enter(Stage::Compute);
        server.dispatch(1, 1);
        std::thread::sleep(Duration::from_millis(5));
        request.finish();
        // A first flush that came late is in the latencies and in no closed tick's ledger.
        let seen = server_of(&agent, "clip")?;
        (seen["latency"]["count"].as_u64()? > 0 && seen["ledger"]["interval_ns"].as_u64()? > 0).then_some(seen)
    });
    assert_eq!(seen["kind"], "sdk");
    assert_eq!(seen["pid"], std::process::id());
    assert_eq!(seen["live"], true);
    assert!(sums_exactly(&seen["ledger"]), "{seen:#}");
    assert!(seen["latency"]["p50_s"].as_f64().expect("seconds") >= 0.009, "{seen:#}");
    let device = wait_for("its CPU device", || {
        let snapshot = agent.json("/v1/snapshot");
        let devices = snapshot["devices"].as_array()?.clone();
        devices.into_iter().find(|device| device["kind"] == "cpu" && device["ledger"].is_object())
    });
    assert!(device["id"].as_str().expect("an id").starts_with("cpu:clip/"), "{device:#}");
    assert!(sums_exactly(&device["ledger"]), "{device:#}");
}

#[test]
fn a_server_that_goes_away_is_shown_as_silent() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("gone").socket(agent.dir().join("probe.sock")).start();
    wait_for("the server", || server_of(&agent, "gone").filter(|server| server["live"] == true));
    server.close();
    wait_for("the server to be silent", || server_of(&agent, "gone").filter(|server| server["live"] == false));
}

#[test]
fn a_server_finds_the_agent_that_started_after_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let server = Server::builder("early").socket(dir.path().join("probe.sock")).start();
    server.request().finish();
    let mut command = perfwatch(PERFWATCH, dir.path());
    let mut child = command.arg("agent").spawn().expect("the binary starts");
    let socket = dir.path().join("api.sock");
    wait_for("the early server", || {
        let (_, body) = perfwatch_tests::get(&socket, "/v1/snapshot").ok()?;
        body.contains("\"early\"").then_some(())
    });
    child.kill().expect("our child");
    child.wait().expect("our child");
}

#[test]
fn why_names_the_server() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("resnet").socket(agent.dir().join("probe.sock")).start();
    wait_for("the server", || {
        server.request().finish();
        server_of(&agent, "resnet")
    });
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("why");
    let output = run(command, Duration::from_secs(30));
    let card = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(card.contains("resnet"), "{card}");
}
