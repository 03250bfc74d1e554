//! The demo as scripts use it.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::time::Duration;

use perfwatch_tests::{perfwatch, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{PERFWATCH, one_demo_at_a_time};

/// The user that owns nothing.
const NOBODY: u32 = 65_534;
const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn the_name_of_a_fault_is_nowhere_in_what_the_agent_saw() {
    let _alone = one_demo_at_a_time();
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    // Too short for any rule to answer, so a name in the snapshot could only have come from outside.
    command.args(["demo", "--fault", "no-batching", "--duration", "4", "--json"]);
    let output = run(command, LIMIT);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let mut snapshot: Value = serde_json::from_str(&text).expect("one JSON document and nothing else on stdout");
    assert!(snapshot["findings"].as_array().expect("a list").is_empty(), "{snapshot:#}");
    // The rules that had too little time are listed by name, among them one that is called as its fault.
    snapshot["undecided"] = Value::Null;
    assert!(!snapshot.to_string().contains("no-batching"), "{snapshot:#}");
    assert_eq!(snapshot["servers"][0]["name"], "demo-mlp");
}

#[test]
fn a_demo_that_is_told_to_stop_reports_and_leaves_nothing_running() {
    let _alone = one_demo_at_a_time();
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["demo", "--duration", "600"]);
    let mut child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stderr = std::io::BufReader::new(child.stderr.take().expect("piped"));
    let mut line = String::new();
    while !line.contains("loading it with") {
        line.clear();
        let read = std::io::BufRead::read_line(&mut stderr, &mut line).expect("text");
        assert!(read > 0, "the demo ended before it loaded the server");
    }
    std::thread::sleep(Duration::from_secs(3));
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("our child");
    assert_eq!(output.status.code(), Some(130));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.contains("What the load generator saw"), "{text}");
}

#[test]
fn a_fault_that_nobody_feels_exits_3_and_says_so() {
    let _alone = one_demo_at_a_time();
    // "Too much load" at a fifth of the capacity is no fault. A burst of other work can still spoil the tail, so any of
    // three runs will do.
    let felt: Vec<String> = (1..=3)
        .map_while(|seed| {
            let dir = tempfile::tempdir().expect("a folder");
            let mut command = perfwatch(PERFWATCH, dir.path());
            command.args(["demo", "--fault", "overload", "--load", "0.2", "--duration", "5", "--json"]);
            command.args(["--seed", &seed.to_string()]);
            let output = run(command, LIMIT);
            let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
            match output.status.code() {
                Some(3) => {
                    assert!(stderr.contains("did not bite"), "{stderr}");
                    None
                }
                code => {
                    assert_eq!(code, Some(0), "{stderr}");
                    Some(stderr)
                }
            }
        })
        .collect();
    assert!(felt.len() < 3, "{felt:#?}");
}

#[test]
fn a_fault_that_cannot_be_injected_exits_2_and_says_what_it_needs() {
    if !rustix::process::geteuid().is_root() {
        // Only root can be sure to become somebody who may not limit a control group.
        return;
    }
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::set_permissions(dir.path(), PermissionsExt::from_mode(0o755)).expect("our folder");
    let binary = dir.path().join("perfwatch");
    std::fs::copy(PERFWATCH, &binary).expect("a copy that everybody may run");
    let mut command = perfwatch(binary.to_str().expect("UTF-8"), dir.path());
    command.args(["demo", "--fault", "cpu-quota", "--duration", "3"]).uid(NOBODY).gid(NOBODY);
    let output = run(command, LIMIT);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("cannot inject `cpu-quota` here") && stderr.contains("it needs"), "{stderr}");
}
