//! What was measured under a fault, recorded and shown again.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use perfwatch_agent::Replay;
use perfwatch_model::Snapshot;
use perfwatch_tests::{Agent, get, perfwatch, run, wait_for};
use perfwatch_tui::{Options, render_once};
use rustix::process::{Pid, Signal, kill_process};

use crate::{PERFWATCH, one_demo_at_a_time};

const LIMIT: Duration = Duration::from_mins(3);

/// Exit code, stdout and stderr.
fn said(command: Command) -> (Option<i32>, String, String) {
    let output = run(command, LIMIT);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("perfwatch writes UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn replay(dir: &Path, args: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let mut command = perfwatch(PERFWATCH, dir);
    command.arg("replay").args(args).arg(file);
    said(command)
}

fn record(dir: &Path, args: &[&str], file: &Path) -> (Option<i32>, String, String) {
    let mut command = perfwatch(PERFWATCH, dir);
    command.arg("record").args(args).arg("-o").arg(file);
    said(command)
}

fn socket_below(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir).ok()?.flatten().find_map(|entry| {
        let path = entry.path();
        if path.is_dir() { socket_below(&path) } else { (path.file_name()? == "api.sock").then_some(path) }
    })
}

/// What probes cost is kept once a minute, and is on no screen.
fn without_costs(mut snapshot: Snapshot) -> Snapshot {
    for probe in &mut snapshot.agent.probes {
        (probe.mean_s, probe.max_s) = (0.0, 0.0);
    }
    snapshot
}

/// Of a snapshot's thousands of lines those that differ: whatever prints a failed test cuts long ones.
fn differing_lines(then: &Snapshot, now: &Snapshot) -> String {
    let lines = |snapshot| serde_json::to_string_pretty(snapshot).expect("JSON");
    let (then, now) = (lines(then), lines(now));
    let pairs = then.lines().zip(now.lines()).enumerate().filter(|(_, (then, now))| then != now);
    let told: Vec<_> = pairs.take(12).map(|(at, (then, now))| format!("{at}: {then} | {now}")).collect();
    format!("{} and {} lines\n{}", then.lines().count(), now.lines().count(), told.join("\n"))
}

#[test]
fn under_a_fault_ledgers_findings_and_frames_are_those_of_the_live_screen() {
    let _alone = one_demo_at_a_time();
    let dir = tempfile::tempdir().expect("a folder");
    let journal = dir.path().join("journal.db");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.env("TMPDIR", dir.path()).args(["demo", "--fault", "no-batching", "--duration", "60", "--json"]);
    command.arg("--journal-path").arg(&journal);
    let demo = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts");
    let socket = wait_for("the demo's agent", || socket_below(dir.path()));
    let live = std::thread::spawn(move || get(&socket, "/v1/stream").expect("a stream").1);
    // While the agent writes it.
    wait_for("a journal with ticks", || Replay::open(&journal).ok());
    let (code, frame, stderr) = replay(dir.path(), &["--once"], &journal);
    assert!(code == Some(0) && frame.contains("perfwatch"), "{frame}{stderr}");
    assert!(demo.wait_with_output().expect("our child").status.success());

    let shown: BTreeMap<String, Snapshot> = live
        .join()
        .expect("read")
        .lines()
        // Between them stand the lengths of HTTP's chunks.
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str::<Snapshot>(line).expect("a snapshot"))
        .map(|snapshot| (snapshot.time.clone(), snapshot))
        .collect();
    let (code, told, stderr) = replay(dir.path(), &["--check"], &journal);
    assert!(code == Some(0) && told.contains("are as recorded"), "{told}{stderr}");

    let mut again = Replay::open(&journal).expect("a journal");
    let (mut compared, mut found) = (0, 0);
    while let Some(frame) = again.next_frame().expect("whole") {
        // The first half minute fills the rules' windows: the agent had read everything once before its first tick.
        let (Some(then), Some(_)) = (shown.get(&frame.snapshot.time), frame.as_recorded) else { continue };
        let (then, now) = (without_costs(then.clone()), without_costs((*frame.snapshot).clone()));
        assert!(then == now, "tick {}: {}", frame.seq, differing_lines(&then, &now));
        let screen = |snapshot: Snapshot| render_once(&[snapshot], 120, 40, &Options::default());
        found += now.findings.len();
        assert_eq!(screen(then), screen(now));
        compared += 1;
    }
    assert!(compared >= 20 && found > 0, "{compared} ticks, {found} findings");

    let (code, json, _) = replay(dir.path(), &["--json", "--at", "-20s"], &journal);
    let at: Snapshot = serde_json::from_str(&json).expect("a snapshot");
    let then = shown.get(&at.time).expect("it was live");
    assert_eq!((code, without_costs(at.clone())), (Some(0), without_costs(then.clone())));
}

#[test]
fn a_running_agent_gives_what_it_kept_and_the_recording_is_judged_the_same() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let dir = agent.dir();
    std::thread::sleep(Duration::from_secs(40));
    let file = dir.join("a.pwrec");
    let (code, told, stderr) = record(dir, &["--last", "5s"], &file);
    assert!(code == Some(0) && told.contains("a.pwrec: "), "{told}{stderr}");
    assert_eq!(std::fs::metadata(&file).expect("there").permissions().mode() & 0o777, 0o600);
    let recording = Replay::open(&file).expect("a recording");
    let span = recording.span().expect("ticks");
    assert!((3..=6).contains(&(span.last_seq + 1 - span.first_seq)), "{span:?}");
    let (code, told, _) = replay(dir, &["--check"], &file);
    assert!(code == Some(0) && told.contains("are as recorded"), "{told}");
    let (code, _, stderr) = record(dir, &["--last", "5s"], &file);
    assert!(code == Some(2) && stderr.contains("File exists"), "never over another: {stderr}");
    let (code, told, stderr) = record(dir, &["--duration", "2s"], &dir.join("b.pwrec"));
    assert!(code == Some(0) && told.contains("b.pwrec: "), "{told}{stderr}");
}

#[test]
fn without_an_agent_one_runs_inside_and_ctrl_c_keeps_what_is_there() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("memory-leak.pwrec");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(["record", "-o"]).arg(&file);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
    wait_for("three ticks", || {
        let span = Replay::open(&file).ok()?.span().ok()?;
        (span.last_seq >= span.first_seq + 2).then_some(())
    });
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let output = child.wait_with_output().expect("our child");
    let text = String::from_utf8_lossy(&output.stdout);
    let ended = output.status.success() && text.contains("memory-leak.pwrec: ");
    assert!(ended, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let (code, frame, _) = replay(dir.path(), &["--once"], &file);
    assert!(code == Some(0) && frame.contains("Machine"), "{frame}");
    let left: Vec<_> = std::fs::read_dir(dir.path())
        .expect("a folder")
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("memory-leak"))
        .collect();
    assert_eq!(left, ["memory-leak.pwrec"], "one file");
}

/// A recording that goes on until it is told to end.
fn recording(dir: &Path, file: &Path) -> Child {
    let mut command = perfwatch(PERFWATCH, dir);
    command.args(["record", "--duration", "5m", "-o"]).arg(file);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
}

/// Exit code, stdout and stderr once it has ended.
fn ended(child: Child) -> (Option<i32>, String, String) {
    let output = child.wait_with_output().expect("our child");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn an_agent_that_is_killed_amid_a_recording_is_missed_at_once_and_what_it_had_is_kept() {
    let mut agent = Agent::spawn(PERFWATCH, &[], &[]);
    let dir = agent.dir().to_owned();
    std::thread::sleep(Duration::from_secs(5));
    let file = dir.join("short.pwrec");
    let child = recording(&dir, &file);
    std::thread::sleep(Duration::from_secs(5));
    agent.kill();
    std::thread::sleep(Duration::from_secs(3));
    kill_process(Pid::from_child(&child), Signal::INT).expect("our child");
    let (code, told, stderr) = ended(child);
    assert!(code == Some(0) && stderr.contains("is gone after") && stderr.contains("journal.db"), "{told}{stderr}");
    let span = Replay::open(&file).expect("a recording").span().expect("ticks");
    let seconds = span.last_seq + 1 - span.first_seq;
    assert!((2..=6).contains(&seconds), "what was before the recording, or after it, is not in it: {span:?}");
    // Another agent goes on with the journal; what lies between is told.
    let mut command = perfwatch(PERFWATCH, &dir);
    let mut next = command.arg("agent").stderr(Stdio::null()).spawn().expect("the binary starts");
    wait_for("an agent that measures", || {
        let (status, body) = get(&agent.api_socket(), "/v1/snapshot").ok()?;
        (status == 200 && serde_json::from_str::<Snapshot>(&body).ok()?.agent.uptime_s > 3.0).then_some(())
    });
    let (code, told, stderr) = record(&dir, &["--last", "1m"], &dir.join("both.pwrec"));
    next.kill().expect("our child");
    next.wait().expect("our child");
    assert!(code == Some(0) && stderr.contains("s of that time are missing"), "{told}{stderr}");
}

#[test]
fn a_recording_of_an_agent_without_a_journal_ends_with_the_agent() {
    let mut agent = Agent::spawn(PERFWATCH, &["--journal-mode", "memory"], &[]);
    let dir = agent.dir().to_owned();
    std::thread::sleep(Duration::from_secs(4));
    let child = recording(&dir, &dir.join("none.pwrec"));
    std::thread::sleep(Duration::from_secs(3));
    agent.kill();
    let (code, _, stderr) = ended(child);
    assert!(code == Some(1) && stderr.contains("is gone, and so is what it measured"), "{stderr}");
    assert!(!dir.join("none.pwrec").exists());
}

#[test]
fn what_cannot_be_recorded_or_replayed_says_why_and_what_to_do() {
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name);
    let (code, _, stderr) = record(dir.path(), &["--last", "10s"], &path("a"));
    assert!(code == Some(2) && stderr.contains("no agent runs") && stderr.contains("hint"), "{stderr}");
    let (code, _, stderr) = record(dir.path(), &["--duration", "2s"], &path("no/such/folder/a"));
    assert!(code == Some(2) && stderr.contains("cannot write") && stderr.contains("-o"), "{stderr}");
    std::fs::write(path("text"), "not a database, though long enough to be one".repeat(100)).expect("written");
    std::fs::write(path("empty"), "").expect("written");
    for (name, told) in
        [("none", "cannot read"), ("text", "not a journal"), ("empty", "not a journal"), (".", "cannot read")]
    {
        let (code, _, stderr) = replay(dir.path(), &["--once"], &path(name));
        assert!(code == Some(1) && stderr.contains(told) && stderr.contains("hint"), "{name}: {stderr}");
    }
    for wrong in ["25:99", "yesterday", "-0s"] {
        let (code, _, stderr) = replay(dir.path(), &["--once", "--at", wrong], &path("none"));
        assert!(code == Some(2) && stderr.contains("14:02:31"), "{wrong}: {stderr}");
    }
}

#[test]
fn queries_over_time_answer_points_and_name_what_they_do_not_take() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    std::thread::sleep(Duration::from_secs(6));
    let ask = |path: &str| get(&agent.api_socket(), path).expect("an answer");
    let (status, body) = ask("/v1/query?metric=system.cpu.time&points=4");
    let answer: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((status, &answer["unit"], &answer["resolution_s"]), (200, &"s".into(), &1.0.into()));
    let points = answer["series"][0]["points"].as_array().expect("points");
    assert_eq!(points.len(), 4);
    assert!(points[3]["increase"].as_f64().expect("a counter") >= 0.0 && points[0].is_null(), "{body}");
    for (path, named) in [
        ("/v1/query?points=4", "metric"),
        ("/v1/query?metric=no.such&points=4", "no.such"),
        ("/v1/query?metric=system.cpu.time&points=0", "points"),
        ("/v1/query?metric=system.cpu.time&points=9999", "2000"),
        ("/v1/query?metric=system.cpu.time&from=x", "from"),
        ("/v1/query?metric=system.cpu.time&from=20&to=10", "earlier"),
        ("/v1/query?metrics=a", "metrics"),
        ("/v1/ticks?form=1", "form"),
        ("/v1/recording?until=1", "until"),
        ("/v1/recording?from=9&to=1", "later"),
        ("/v1/recording?from=9&last=1", "last"),
    ] {
        let (status, body) = ask(path);
        assert!(status == 400 && body.contains(named), "{path}: {status} {body}");
    }
    assert_eq!(ask("/v1/recording?from=1&to=2").0, 404);
}
