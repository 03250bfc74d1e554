//! GPUs that the running agent lets go of for a while: `perfwatch gpus release` and `take`.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Output;

use perfwatch_tests::{Agent, DEADLINE, perfwatch, run, wait_for};
use serde_json::{Value, json};

use crate::{PERFWATCH, assert_is_allowed};

const GPU: &str = "gpu:GPU-a";
const NOBODY: u32 = 65_534;

/// A GPU, and a file in which each call is a line.
fn scenario(log: &Path) -> Value {
    json!({"call_log": log, "devices": [{"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "power_mw": 350_000,
        "temperature_c": 60, "utilization": {"gpu": 90, "memory": 30}, "gpm": {"1": 90, "2": 80, "10": 60},
        "energy_mj": {"start": 1_000, "per_second": 350_000}, "processes": {"compute": [{"pid": 1, "used": 5}]}}]})
}

fn agent_with(dir: &Path, scenario: &Value, args: &[&str]) -> Agent {
    let library = fake_nvml::install(dir, &scenario.to_string()).expect("a scenario");
    let args = [&["--nvml-lib", library.to_str().expect("UTF-8")], args].concat();
    Agent::spawn(PERFWATCH, &args, &[])
}

/// What `perfwatch gpus` does for the agent that has this runtime folder.
fn gpus(runtime: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = perfwatch(PERFWATCH, runtime);
    command.arg("gpus").args(args);
    let Output { status, stdout, stderr } = run(command, DEADLINE);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// Lets go, however busy the machine is: an agent that was too slow is asked again, and does it all the same.
fn release(agent: &Agent, args: &[&str]) -> String {
    let args = [&["release"], args].concat();
    wait_for("the agent to let go", || {
        let (code, told, _) = gpus(agent.dir(), &args);
        (code == Some(0)).then_some(told)
    })
}

fn calls(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn power(agent: &Agent) -> Option<f64> {
    let snapshot = agent.json("/v1/snapshot");
    snapshot["devices"].as_array()?.iter().find(|device| device["id"] == GPU)?["gpu"]["power_watts"].as_f64()
}

/// Why the GPU, or the machine, has no power.
fn reason(agent: &Agent) -> Option<String> {
    let snapshot = agent.json("/v1/snapshot");
    let missing = snapshot["unavailable"].as_array()?.iter().find(|missing| missing["metric"] == "hw.power")?.clone();
    missing["reason"].as_str().map(str::to_owned)
}

fn is_let_go(agent: &Agent) -> Option<String> {
    reason(agent).filter(|reason| reason.starts_with("let go of until "))
}

/// Joules since the journal began.
fn energy(agent: &Agent) -> f64 {
    agent.json("/v1/query?metric=hw.energy")["series"][0]["total"].as_f64().unwrap_or(0.0)
}

/// Status and body of a request without a body of its own.
fn request(agent: &Agent, method: &str, path: &str) -> (u16, Value) {
    let mut stream = UnixStream::connect(agent.api_socket()).expect("the agent listens");
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: perfwatch\r\n\r\n").expect("the agent reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("headers");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, serde_json::from_str(body).unwrap_or_else(|_| panic!("JSON: {body}")))
}

#[test]
fn the_gpus_are_let_go_of_and_taken_back_while_all_else_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("calls");
    let agent = agent_with(dir.path(), &scenario(&log), &[]);
    wait_for("the GPU", || power(&agent));
    wait_for("energy to be counted", || (energy(&agent) > 0.0).then_some(()));

    let told = release(&agent, &["--for", "2h"]);
    let made = calls(&log);
    assert!(told.contains("GPU"), "{told}");
    assert_eq!(made.last().map(String::as_str), Some("nvmlShutdown"), "shut down before the command ends");
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", agent.pid())).expect("our child");
    assert!(!maps.contains("libnvidia-ml"), "and unloaded");
    let let_go = wait_for("the reason", || is_let_go(&agent));
    assert!(let_go.ends_with(" UTC by this agent"), "{let_go}");
    let drawn = energy(&agent);
    let time = |agent: &Agent| agent.json("/v1/snapshot")["time"].as_str().expect("a time").to_owned();
    // The rules look at ten seconds; in twelve they would find what there is to find.
    let mut times = vec![time(&agent)];
    wait_for("twelve more ticks", || {
        let now = time(&agent);
        if times.last() != Some(&now) {
            times.push(now);
        }
        (times.len() > 12).then_some(())
    });
    let snapshot = agent.json("/v1/snapshot");
    assert_is_allowed(&snapshot);
    let findings = snapshot["findings"].as_array().expect("a list");
    let of_gpus = |finding: &&Value| finding["id"].as_str().is_some_and(|id| id.starts_with("gpu-"));
    assert!(findings.iter().find(of_gpus).is_none(), "{findings:#?}");
    let device = snapshot["devices"].as_array().and_then(|all| all.iter().find(|device| device["id"] == GPU));
    let device = device.expect("it stays in sight");
    let entries = device["ledger"]["entries"].as_array().expect("a ledger");
    assert!(entries.iter().all(|entry| entry["cause"] == "unknown"), "unknown, and not idle: {device:#}");
    assert_eq!(device["gpu"]["processes_unknown"], let_go.as_str(), "{device:#}");
    let mut why = perfwatch(PERFWATCH, agent.dir());
    why.arg("why");
    let why = run(why, DEADLINE);
    let card = String::from_utf8(why.stdout).expect("UTF-8");
    assert_eq!(why.status.code(), Some(3), "neither well nor broken: {card}");
    assert!(card.contains("let go of until"), "{card}");
    assert_eq!(calls(&log), made, "not one call");

    let (code, told, stderr) = gpus(agent.dir(), &["take"]);
    assert_eq!((code, told.as_str()), (Some(0), "the agent reads the GPU again\n"), "{stderr}");
    wait_for("the GPU", || power(&agent));
    wait_for("energy to be counted on", || (energy(&agent) > drawn).then_some(()));
    assert!(energy(&agent) - drawn < 350.0 * 120.0, "and without a leap: {} J more", energy(&agent) - drawn);
    assert_eq!(agent.json("/v1/query?metric=hw.energy")["series"].as_array().map(Vec::len), Some(1), "the same series");
    let (_, told, _) = gpus(agent.dir(), &["take"]);
    assert_eq!(told, "the agent had not let go of the GPUs\n");
    let (_, log) = agent.terminate();
    assert!(log.contains("GPUs let go of until=") && log.contains("GPUs taken back"), "{log}");
    assert_eq!(log.matches("GPU found").count(), 1, "it was there all the time: {log}");
}

#[test]
fn a_gpu_that_does_not_come_back_is_named_by_who_takes_them_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let one = scenario(&dir.path().join("calls"));
    let mut two = one.clone();
    two["devices"].as_array_mut().expect("a list").push(json!({"uuid": "GPU-other", "power_mw": 5000}));
    let agent = agent_with(dir.path(), &two, &[]);
    let seen = || agent.json("/v1/snapshot")["devices"].as_array().map(Vec::len);
    wait_for("both", || seen().filter(|count| *count == 2));
    release(&agent, &[]);
    fake_nvml::rewrite(&dir.path().join("libnvidia-ml.so.1"), &one.to_string()).expect("rewritten");
    let (code, told, stderr) = gpus(agent.dir(), &["take"]);
    assert_eq!((code, told.as_str()), (Some(1), ""), "{stderr}");
    assert!(stderr.contains("1 of 2 GPUs did not come back: gpu:GPU-other"), "{stderr}");
    wait_for("the other", || power(&agent));
}

#[test]
fn a_time_ends_by_itself_and_one_that_it_does_not_take_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let agent = agent_with(dir.path(), &scenario(&dir.path().join("calls")), &[]);
    wait_for("the GPU", || power(&agent));
    for wrong in ["0", "25h", "soon", "-5m", ""] {
        let (code, _, stderr) = gpus(agent.dir(), &["release", "--for", wrong]);
        assert_eq!(code, Some(2), "{wrong}: {stderr}");
        assert!(stderr.contains("takes 1 s to 24 h, as 90 or 90s, 15m or 2h"), "{wrong}: {stderr}");
    }
    for wrong in ["for=0", "for=86401", "for=soon", "for=", "four=4"] {
        let (status, refused) = request(&agent, "POST", &format!("/v1/gpus/release?{wrong}"));
        assert_eq!(status, 400, "{wrong}: {refused}");
        assert_eq!(refused["error"]["hint"], "for takes 1 to 86400 seconds, 600 without it", "{wrong}");
    }
    for path in ["/v1/gpus/release", "/v1/gpus/take"] {
        let (status, refused) = request(&agent, "GET", path);
        assert_eq!((status, &refused["error"]["hint"]), (405, &json!("use POST")), "{path}");
    }
    assert!(is_let_go(&agent).is_none(), "what was refused changes nothing");
    release(&agent, &[]);
    let first = wait_for("ten minutes", || is_let_go(&agent));
    release(&agent, &["--for", "4s"]);
    wait_for("the time that counts now", || is_let_go(&agent).filter(|reason| *reason != first));
    wait_for("the GPU to be back by itself", || power(&agent));
}

#[test]
fn a_driver_that_hangs_is_said_to_be_open_still_and_is_let_go_of_when_it_answers() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("calls");
    let mut hanging = scenario(&log);
    hanging["devices"][0]["delays_ms"] =
        json!({"nvmlDeviceGetUtilizationRates": {"at": [[0, 0], [4, 30_000], [20, 0]]}});
    let agent = agent_with(dir.path(), &hanging, &[]);
    wait_for("the hang", || reason(&agent).filter(|reason| reason.contains("unresponsive")));
    let (code, _, stderr) = gpus(agent.dir(), &["release"]);
    assert_eq!(code, Some(1), "{stderr}");
    let said = "error: the agent still has the NVIDIA driver open: `nvmlDeviceGetUtilizationRates` has not returned\n";
    assert!(stderr.starts_with(said) && stderr.contains("  hint: it lets go as soon as that call returns"), "{stderr}");
    assert!(reason(&agent).is_some_and(|reason| reason.contains("unresponsive")), "it hangs on, and the fault stands");
    wait_for("the release", || is_let_go(&agent));
    assert_eq!(calls(&log).last().map(String::as_str), Some("nvmlShutdown"));
}

#[test]
fn without_a_gpu_without_its_probe_without_an_agent_and_with_an_old_one_it_is_said_how_things_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let nowhere = dir.path().join("libnvidia-ml.so.1");
    let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", nowhere.to_str().expect("UTF-8")], &[]);
    wait_for("the reason", || reason(&agent).filter(|reason| reason.contains("there is no NVML")));
    let (code, told, _) = gpus(agent.dir(), &["release"]);
    assert_eq!(code, Some(0), "the driver is not open, which is what was asked for");
    assert!(told.starts_with("the agent has no GPU open, and opens none until "), "{told}");
    wait_for("the release", || is_let_go(&agent));

    let agent = Agent::spawn(PERFWATCH, &["--probes-off", "nvidia"], &[]);
    let (code, told, _) = gpus(agent.dir(), &["release"]);
    assert_eq!(code, Some(0));
    assert_eq!(told, "the agent has no probe of GPUs (`probes_off`): there is nothing to let go of\n");

    for what in ["release", "take"] {
        let (code, _, stderr) = gpus(dir.path(), &[what]);
        assert_eq!(code, Some(1), "{what}");
        assert!(stderr.starts_with("error: no perfwatch agent runs here\n  hint: "), "{what}: {stderr}");
    }

    // An agent of before answers as it does to any path that it does not know.
    let old = tempfile::tempdir().expect("a folder");
    let listener = UnixListener::bind(old.path().join("api.sock")).expect("a socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut asked = [0; 1024];
            // Who only looks whether anybody is there asks nothing.
            if stream.read(&mut asked).is_ok_and(|length| length > 0) {
                let _ = stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}");
            }
        }
    });
    let (code, _, stderr) = gpus(old.path(), &["release"]);
    assert_eq!(code, Some(1), "{stderr}");
    assert!(stderr.contains("is older than this perfwatch, and cannot let go of GPUs"), "{stderr}");
    assert!(stderr.contains("probes_off"), "{stderr}");
}

#[test]
fn an_agent_that_is_started_anew_has_the_gpus_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let scenario = scenario(&dir.path().join("calls"));
    let journal = dir.path().join("journal.db");
    let args = ["--journal-path", journal.to_str().expect("UTF-8")];
    let agent = agent_with(dir.path(), &scenario, &args);
    wait_for("the GPU", || power(&agent));
    release(&agent, &[]);
    wait_for("the release", || is_let_go(&agent));
    agent.terminate();
    let agent = agent_with(&dir.path().join("again"), &scenario, &args);
    wait_for("the GPU", || power(&agent));
}

#[test]
fn a_script_goes_on_only_when_the_gpus_are_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let log = dir.path().join("calls");
    let mut hanging = scenario(&log);
    hanging["devices"][0]["delays_ms"] = json!({"nvmlDeviceGetTemperature": {"at": [[0, 0], [4, 15_000]]}});
    let agent = agent_with(dir.path(), &hanging, &[]);
    wait_for("the GPU", || power(&agent));
    wait_for("a call that hangs", || reason(&agent).filter(|reason| reason.contains("`nvmlDeviceGetTemperature`")));
    let (code, told, stderr) = gpus(agent.dir(), &["release"]);
    assert_eq!((code, told.as_str()), (Some(1), ""), "{stderr}");
    assert!(
        stderr.contains("still has the NVIDIA driver open: `nvmlDeviceGetTemperature` has not returned"),
        "{stderr}"
    );
    // It does it all the same, as soon as it can.
    release(&agent, &[]);
    assert_eq!(calls(&log).last().map(String::as_str), Some("nvmlShutdown"));
}

#[test]
fn another_user_may_read_and_not_make_the_agent_blind() {
    if !rustix::process::geteuid().is_root() {
        // Only root can become somebody else.
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    let binary = dir.path().join("perfwatch");
    std::fs::copy(PERFWATCH, &binary).expect("a copy that everybody may run");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("our folder");
    let log = dir.path().join("calls");
    let agent = agent_with(dir.path(), &scenario(&log), &["--socket-mode", "0666"]);
    std::fs::set_permissions(agent.dir(), PermissionsExt::from_mode(0o755)).expect("our folder");
    wait_for("the GPU", || power(&agent));
    let of_nobody = |args: &[&str]| {
        let mut command = perfwatch(binary.to_str().expect("UTF-8"), agent.dir());
        command.args(args).uid(NOBODY).gid(NOBODY);
        run(command, DEADLINE)
    };
    for what in ["release", "take"] {
        let refused = of_nobody(&["gpus", what]);
        let stderr = String::from_utf8_lossy(&refused.stderr);
        assert_eq!(refused.status.code(), Some(1), "{what}: {stderr}");
        assert!(stderr.contains("user 65534 may read what the agent knows, and not do this"), "{what}: {stderr}");
    }
    assert!(of_nobody(&["snapshot", "--json"]).status.success(), "it may read");
    assert!(!calls(&log).contains(&"nvmlShutdown".to_owned()), "and nothing was done");
}
