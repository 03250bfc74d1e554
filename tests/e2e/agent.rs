//! The agent's life: start, take over, refuse, stop, be killed.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::time::Duration;

use perfwatch_tests::{Agent, get, perfwatch, run, wait_for};

use crate::{PERFWATCH, assert_is_allowed};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn an_agent_serves_a_snapshot_that_its_schema_allows() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let snapshot = wait_for("a snapshot with rates", || {
        let snapshot = agent.json("/v1/snapshot");
        snapshot["window_s"].as_f64().is_some_and(|window| window >= 1.0).then_some(snapshot)
    });
    assert_is_allowed(&snapshot);
    assert!(snapshot["host"]["memory_total_bytes"].as_u64().expect("every Linux has memory") > 0);
}

#[test]
fn every_path_of_the_local_api_answers_and_an_unknown_one_names_them() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    for path in ["/healthz", "/readyz", "/v1/catalog", "/v1/snapshot", "/v1/findings"] {
        let (status, body) = get(&agent.api_socket(), path).expect("an answer");
        assert_eq!(status, 200, "{path}: {body}");
    }
    let (status, body) = get(&agent.api_socket(), "/v1/snapshots").expect("an answer");
    assert_eq!(status, 404);
    assert!(body.contains("/v1/snapshot"), "{body}");
    let catalog = agent.json("/v1/catalog").to_string();
    for metric in perfwatch_model::metrics::all() {
        assert!(catalog.contains(metric.name), "{} is not in the catalogue", metric.name);
    }
}

#[test]
fn sigterm_ends_it_cleanly_and_takes_the_sockets_along() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let dir = agent.dir().to_owned();
    assert!(dir.join("api.sock").exists() && dir.join("probe.sock").exists());
    let keep = std::fs::File::open(&dir).expect("the folder is there");
    let (status, stderr) = agent.terminate();
    assert!(status.success(), "{status}: {stderr}");
    drop(keep);
    assert!(!dir.join("api.sock").exists() && !dir.join("probe.sock").exists());
}

#[test]
fn after_kill_9_the_next_agent_takes_the_same_folder_over() {
    let mut agent = Agent::spawn(PERFWATCH, &[], &[]);
    agent.kill();
    assert!(agent.api_socket().exists(), "a killed agent leaves its socket behind");
    let mut next = perfwatch(PERFWATCH, agent.dir()).arg("agent").spawn().expect("the binary starts");
    let ready = wait_for("the second agent", || get(&agent.api_socket(), "/readyz").ok());
    next.kill().expect("our child");
    next.wait().expect("our child");
    assert!(ready.0 == 200 || ready.0 == 503);
}

#[test]
fn a_second_agent_in_the_same_folder_is_refused_and_told_who_is_there() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut second = perfwatch(PERFWATCH, agent.dir());
    second.arg("agent");
    let output = run(second, LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&agent.pid().to_string()) && stderr.contains("hint:"), "{stderr}");
    assert_eq!(get(&agent.api_socket(), "/readyz").expect("an answer").0, 200, "the first one is undisturbed");
}

#[test]
fn a_socket_of_another_program_is_not_taken() {
    let dir = tempfile::tempdir().expect("a folder");
    let _other = UnixListener::bind(dir.path().join("probe.sock")).expect("a socket");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.arg("agent");
    let output = run(command, LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("probe.sock"), "{stderr}");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    if rustix::process::geteuid().is_root() {
        // Root writes anywhere; a path that runs through a file is refused to root as well.
        let file = tempfile::NamedTempFile::new().expect("a file");
        assert_refused(&file.path().join("run"));
    } else {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o500)).expect("our folder");
        assert_refused(&dir.path().join("run"));
    }
}

fn assert_refused(runtime: &std::path::Path) {
    let mut command = perfwatch(PERFWATCH, runtime);
    command.arg("agent");
    let output = run(command, LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains(&runtime.display().to_string()) && stderr.contains("hint:"), "{stderr}");
}
