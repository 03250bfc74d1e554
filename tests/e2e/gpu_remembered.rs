//! What a GPU went through outlives the agent that saw it.

use std::path::Path;
use std::time::Duration;

use perfwatch_agent::Replay;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};
use serde_json::Value;

use crate::PERFWATCH;

/// An agent beside a GPU that works at its ease, with these XID errors.
fn agent_with(dir: &Path, xids: &str, journal: &Path) -> Agent {
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-7", "name": "NVIDIA A100", "utilization": {{"gpu": 90, "memory": 30}},
            "memory": {{"total": 85899345920, "used": 42949672960}}, "xids": {xids}}}]}}"#
    );
    std::fs::create_dir_all(dir).expect("a folder");
    let library = fake_nvml::install(dir, &scenario).expect("a scenario");
    let [library, journal] = [library.as_path(), journal].map(|path| path.to_str().expect("UTF-8"));
    Agent::spawn(PERFWATCH, &["--nvml-lib", library, "--journal-path", journal], &[])
}

/// The finding about the GPU's health.
fn unhealthy(agent: &Agent) -> Option<Value> {
    let findings = agent.json("/v1/findings");
    findings.as_array()?.iter().find(|finding| finding["id"] == "gpu-unhealthy").cloned()
}

/// Whether the journal's newest tick has the finding.
fn is_kept(journal: &Path) -> bool {
    let newest = || {
        let mut replay = Replay::open(journal).ok()?;
        let end = replay.span().ok()?.last_seq + 1;
        replay.frames_to(end, 1).ok()?.pop()
    };
    newest().is_some_and(|frame| frame.snapshot.findings.iter().any(|finding| finding.id == "gpu-unhealthy"))
}

fn ticks(agent: &Agent) -> u64 {
    agent.json("/v1/ticks")["ticks"].as_array().expect("a list").len() as u64
}

#[test]
fn an_xid_error_stands_whichever_agent_saw_it_and_a_replay_says_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let journal = dir.path().join("journal.db");
    let mut first = agent_with(&dir.path().join("first"), "[[2, 95]]", &journal);
    let then = wait_for("the error", || unhealthy(&first));
    wait_for("what was shown to be kept too", || is_kept(&journal).then_some(()));
    first.kill();
    // It has no error of its own to tell.
    for name in ["second", "third"] {
        let next = agent_with(&dir.path().join(name), "[]", &journal);
        let finding = wait_for("what the one before knew", || unhealthy(&next));
        assert_eq!(finding["detail"], then["detail"]);
        // Past what an agent that goes on could say of its own.
        wait_for("a full window and more", || (ticks(&next) > 24).then_some(()));
        assert_eq!(unhealthy(&next).expect("it stands still")["detail"], then["detail"]);
        if name == "second" {
            let (status, stderr) = next.terminate();
            assert!(status.success(), "{stderr}");
        } else {
            // What is compared begins thirty seconds after a start.
            wait_for("ticks that can be compared", || (ticks(&next) > 34).then_some(()));
        }
    }
    let mut check = perfwatch(PERFWATCH, dir.path());
    check.args(["replay", "--check"]).arg(&journal);
    let output = run(check, Duration::from_mins(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success() && said.contains("as recorded"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
