//! The demo as scripts use it.

use std::time::Duration;

use perfwatch_tests::{perfwatch, run};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::PERFWATCH;

const LIMIT: Duration = Duration::from_mins(3);

#[test]
fn the_name_of_a_fault_is_nowhere_in_what_the_agent_saw() {
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
