//! The recordings that the demo carries.

use std::time::Duration;

use perfwatch_agent::Replay;
use perfwatch_demo::replays::{REPLAYS, Recorded};
use perfwatch_model::Snapshot;
use perfwatch_tests::{Agent, perfwatch, run, wait_for};

use crate::{PERFWATCH, assert_is_allowed};

const LIMIT: Duration = Duration::from_mins(1);

/// Exit code, stdout and stderr; nothing may be left in the folder for temporary files.
fn demo(args: &[&str]) -> (Option<i32>, String, String) {
    let (dir, temporary) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.env("TMPDIR", temporary.path()).arg("demo").args(args);
    let output = run(command, LIMIT);
    let left: Vec<_> = std::fs::read_dir(temporary.path()).expect("our folder").collect();
    assert!(left.is_empty(), "{left:?}");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("perfwatch writes UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// The newest second of a recording, all of which is judged anew.
fn newest(recorded: &Recorded) -> Snapshot {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("a.pwrec");
    std::fs::write(&file, recorded.unpack().expect("packed")).expect("our folder");
    let mut replay = Replay::open(&file).expect("a recording");
    let result = replay.compare().expect("whole");
    assert!(result.compared >= 30 && result.differ == 0, "{}: {result:?}", recorded.name);
    replay.seek(replay.span().expect("ticks").first_seq).expect("whole");
    let mut newest = None;
    while let Some(frame) = replay.next_frame().expect("whole") {
        let of_maker = frame.snapshot.findings.iter().find(|finding| finding.id.starts_with("cpu-"));
        assert!(of_maker.is_none(), "{}: the machine that it was made on was busy: {of_maker:?}", recorded.name);
        newest = Some((*frame.snapshot).clone());
    }
    newest.expect("a second")
}

#[test]
fn every_recording_is_judged_as_it_was_and_shows_what_its_name_promises() {
    for recorded in REPLAYS {
        let (name, snapshot) = (recorded.name, newest(recorded));
        let device = snapshot.devices.iter().find(|device| device.gpu.is_some()).expect("a GPU");
        assert!(snapshot.host.name == "scripted" && device.name.ends_with("(scripted)"), "{name}: it says what it is");
        let ledger = device.ledger.as_ref().expect("a ledger");
        let share = |cause: &str| {
            let ns: u64 = ledger.entries.iter().filter(|entry| entry.cause == cause).map(|entry| entry.ns).sum();
            ns as f64 / ledger.interval_ns as f64
        };
        let largest = ledger.entries.iter().max_by_key(|entry| entry.ns).map_or("", |entry| &entry.cause);
        let found = |id: &str| snapshot.findings.iter().any(|finding| finding.id == id && finding.entity == device.id);
        let kept = match name {
            "h100-decode" => largest == "memory_bandwidth" && found("gpu-memory-bandwidth-bound"),
            "h100-prefill" => largest == "compute" && found("gpu-compute-bound"),
            "h100-throttled" => share("throttled") > 0.1 && found("gpu-throttled"),
            "h100-starved" => largest == "starved.preprocess" && found("gpu-starved-by-host"),
            "h100-shared" => share("other_tenant") > 0.2 && found("gpu-noisy-neighbour"),
            _ => panic!("say here what {name} promises"),
        };
        assert!(kept, "{name}: {ledger:#?}\n{:#?}", snapshot.findings);
    }
}

#[test]
fn a_script_answers_all_that_a_driver_of_an_h100_does() {
    for recorded in REPLAYS {
        let script = format!("{}/../../tests/replays/{}.json", env!("CARGO_MANIFEST_DIR"), recorded.name);
        let script = std::fs::read_to_string(script).expect("a script by its name");
        let now_us = std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_micros();
        let own = std::process::id().to_string();
        let script = script.replace("\"SERVER\"", &own).replace("\"OTHER\"", "1");
        let script = script.replace("\"NOW_US\"", &now_us.to_string());
        let dir = tempfile::tempdir().expect("a folder");
        let library = fake_nvml::install(dir.path(), &script).expect("a scenario");
        let agent = Agent::spawn(PERFWATCH, &["--nvml-lib", library.to_str().expect("UTF-8")], &[]);
        // Some readings need a second sample.
        wait_for(&format!("every reading of {}", recorded.name), || {
            let snapshot: Snapshot = serde_json::from_value(agent.json("/v1/snapshot")).expect("a snapshot");
            let gpu = snapshot.devices.iter().find_map(|device| device.gpu.as_ref())?;
            let missing = snapshot.unavailable.iter().filter(|missing| missing.entity.starts_with("gpu:")).count();
            (missing == 0 && gpu.nvlink.is_some() && gpu.activity.is_some()).then_some(())
        });
    }
}

#[test]
fn without_a_terminal_the_last_second_is_told_at_once_and_where_it_comes_from() {
    for recorded in REPLAYS {
        let (code, card, stderr) = demo(&["--replay", recorded.name]);
        assert_eq!(code, Some(0), "{stderr}");
        let origin = format!("demo: {}: {}\n", recorded.name, recorded.origin);
        let experimental = stderr.strip_prefix(&origin).unwrap_or_else(|| panic!("{stderr}"));
        // Each of them shows what an agent tells only when it is asked to.
        assert!(experimental.contains("only with --rules all") && card.contains("(Experimental:"), "{stderr}{card}");
        assert!(card.contains("scripted") && card.contains("GPU  ") && card.contains("Try: "), "{card}");
    }
}

#[test]
fn json_is_one_document_and_a_duration_ends_earlier() {
    let snapshot = |args: &[&str]| {
        let (code, json, stderr) = demo(&[&["--replay", "h100-decode", "--json"], args].concat());
        assert!(code == Some(0) && stderr.contains("a scripted recording"), "{stderr}");
        assert_is_allowed(&serde_json::from_str(&json).expect("one JSON document and nothing else on stdout"));
        serde_json::from_str::<Snapshot>(&json).expect("a snapshot")
    };
    let (early, late) = (snapshot(&["--duration", "5"]), snapshot(&[]));
    assert!(early.time < late.time, "{} and {}", early.time, late.time);
    assert_eq!(snapshot(&["--duration", "2h"]).time, late.time, "there is no more of it");
}

#[test]
fn a_recording_of_another_name_lists_those_that_there_are_and_nothing_is_broken_in_one() {
    let (code, stdout, stderr) = demo(&["--replay", "h300-decode"]);
    assert!(code == Some(2) && stdout.is_empty(), "{stderr}");
    let (_, help, _) = demo(&["--help"]);
    for recorded in REPLAYS {
        assert!(stderr.contains(recorded.name), "{stderr}");
        let first = recorded.brief.split(' ').take(2).collect::<Vec<_>>().join(" ");
        assert!(help.contains(&format!("{}:", recorded.name)) && help.contains(&first), "{help}");
    }
    for other in [&["--fault", "overload"][..], &["--load", "0.5"], &["--seed", "1"], &["--report", "/tmp/r.json"]] {
        let (code, _, stderr) = demo(&[&["--replay", "h100-decode"], other].concat());
        assert!(code == Some(2) && stderr.contains("cannot be used with"), "{other:?}: {stderr}");
    }
}

#[test]
fn without_a_terminal_a_view_is_text_and_ascii_is_ascii() {
    let (code, view, stderr) = demo(&["--replay", "h100-decode", "--view", "gpus", "--ascii"]);
    assert!(code == Some(0) && view.is_ascii() && view.contains("GPU 0: NVIDIA H100"), "{view}{stderr}");
    let (_, card, _) = demo(&["--replay", "h100-decode", "--ascii"]);
    assert!(card.is_ascii() && card.starts_with("perfwatch scripted, "), "{card}");
}

#[test]
fn what_would_have_no_effect_is_refused() {
    for look in [&["--ascii"][..], &["--view", "gpus"], &["--theme", "dark"]] {
        let (code, stdout, stderr) = demo(&[&["--replay", "h100-decode", "--json"], look].concat());
        assert!(code == Some(2) && stdout.is_empty() && stderr.contains("cannot be used with"), "{look:?}: {stderr}");
    }
    let settings = ["--journal-path", "--rules", "--watch", "--nvml-lib"];
    for setting in settings {
        let (code, stdout, stderr) = demo(&["--replay", "h100-decode", setting, "all"]);
        let told =
            stderr.contains(&format!("error: {setting} has no effect on a recording")) && stderr.contains("hint: ");
        assert!(code == Some(2) && stdout.is_empty() && told, "{setting}: {stderr}");
        let dir = tempfile::tempdir().expect("a folder");
        let mut command = perfwatch(PERFWATCH, dir.path());
        command.args(["replay", "a-file", setting, "all"]);
        let stderr = String::from_utf8(run(command, LIMIT).stderr).expect("perfwatch writes UTF-8");
        assert!(stderr.contains(&format!("{setting} has no effect")), "replay {setting}: {stderr}");
    }
    // A script names its file in every call.
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("perfwatch.toml");
    std::fs::write(&file, "budget = 0.01\n").expect("written");
    let (code, _, stderr) = demo(&["--replay", "h100-decode", "--config", file.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{stderr}");
    let (_, _, stderr) = demo(&["--replay", "h100-decode", "--rules", "all", "--budget", "0.01"]);
    assert!(
        stderr.contains("error: --budget, --rules have no effect") || stderr.contains("--rules, --budget"),
        "{stderr}"
    );
}
