//! A request that took long, from the guard in the server to what a person sees of it.

use std::thread::sleep;
use std::time::Duration;

use perfwatch_sdk::{Server, Stage};
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use serde_json::Value;

use crate::PERFWATCH;

/// The trace of the slow request, and what of it fits the screen.
pub(crate) const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

/// Many quick requests around one that waits, is reranked, and computes for long.
pub(crate) fn one_among_many(server: &Server) {
    let rerank = server.stage("rerank");
    (0..50).for_each(|_| server.request().finish());
    let mut slow = server.request();
    assert!(slow.traceparent(&format!("00-{TRACE}-00f067aa0ba902b7-01")));
    for (stage, milliseconds) in [(Stage::Queue, 30), (rerank, 20), (Stage::Compute, 150)] {
        slow.enter(stage);
        sleep(Duration::from_millis(milliseconds));
    }
    slow.fail_with("timeout");
    (0..50).for_each(|_| server.request().finish());
}

/// What `perfwatch snapshot --json` prints.
fn snapshot(agent: &Agent) -> Value {
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.args(["snapshot", "--json"]);
    let output = run(command, Duration::from_mins(1));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn a_slow_request_is_in_the_snapshot_with_its_stages_its_error_and_its_trace() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let server = Server::builder("slow").socket(agent.dir().join("probe.sock")).start();
    one_among_many(&server);
    let slowest = wait_for("the slow request", || {
        let snapshot = snapshot(&agent);
        let seen = snapshot["servers"].as_array()?.iter().find(|seen| seen["name"] == "slow")?.clone();
        seen["slowest"].as_array().cloned()
    });
    let first = &slowest[0];
    assert_eq!(first["trace_id"], TRACE, "{slowest:#?}");
    assert_eq!(first["error"], "timeout");
    let of = |request: &Value| request["duration_s"].as_f64().expect("seconds");
    assert!(of(first) >= 0.2, "{first:#}");
    assert!(slowest.windows(2).all(|pair| of(&pair[0]) >= of(&pair[1])), "slowest first: {slowest:#?}");
    let stages = first["stages"].as_array().expect("stages");
    let in_stage = |name: &str| stages.iter().find(|part| part["stage"] == name).and_then(|part| part["s"].as_f64());
    for (stage, least) in [("queue", 0.03), ("rerank", 0.02), ("compute", 0.15)] {
        assert!(in_stage(stage).is_some_and(|seconds| seconds >= least), "{stage} of {first:#}");
    }
    // Uncovered time is `other`, so that the parts are the whole.
    let sum: f64 = stages.iter().filter_map(|part| part["s"].as_f64()).sum();
    assert!((sum - of(first)).abs() < 1e-6, "{first:#}");
    assert!(slowest.iter().skip(1).all(|request| request.get("trace_id").is_none()), "{slowest:#?}");
}
