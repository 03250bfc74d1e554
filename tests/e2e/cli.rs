//! What a person types, rightly and wrongly.

use std::time::Duration;

use perfwatch_tests::{Agent, perfwatch, run};

use crate::PERFWATCH;

const LIMIT: Duration = Duration::from_mins(1);

/// Exit code, stdout and stderr of a command in an empty runtime folder.
fn perfwatch_in_nowhere(args: &[&str], envs: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = perfwatch(PERFWATCH, dir.path());
    command.args(args).envs(envs.iter().copied());
    let output = run(command, LIMIT);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("perfwatch writes UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[test]
fn wrong_usage_exits_2_and_says_what_would_be_right() {
    for (args, told) in [
        (&["dmeo"][..], "demo"),
        (&["top", "--onec"], "--once"),
        (&["demo", "--fault", "gremlins"], "slow-data-loading"),
        (&["demo", "--duration", "never"], "20, 90s or 2m"),
        (&["demo", "--load", "99"], "0.01 and 10"),
        (&["agent", "--budget", "200%"], "share of one core"),
        (&["agent", "--socket-mode", "rw"], "octal"),
        (&["agent", "--config", "/nowhere/perfwatch.toml"], "/nowhere/perfwatch.toml"),
    ] {
        let (code, stdout, stderr) = perfwatch_in_nowhere(args, &[]);
        assert_eq!(code, Some(2), "{args:?}: {stderr}");
        assert!(stdout.is_empty() && stderr.contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn an_unknown_key_is_named_with_its_line_and_the_nearest_known_one() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "budget = 0.02\n\n[otlp]\nendpiont = \"http://127.0.0.1:4318\"\n").expect("our file");
    let path = file.path().to_str().expect("UTF-8");
    let (code, _, stderr) = perfwatch_in_nowhere(&["agent", "--config", path], &[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains(&format!("{path}:4")) && stderr.contains("otlp.endpoint"), "{stderr}");
}

#[test]
fn config_shows_where_each_value_came_from() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "budget = 0.02\n").expect("our file");
    let path = file.path().to_str().expect("UTF-8");
    let args = ["config", "--config", path, "--socket-mode", "0600"];
    let (code, stdout, stderr) = perfwatch_in_nowhere(&args, &[("PERFWATCH_LOG_LEVEL", "debug")]);
    assert_eq!(code, Some(0), "{stderr}");
    let line = |key: &str| stdout.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned();
    assert!(line("budget").contains("0.02") && line("budget").contains(&format!("{path}:1")), "{stdout}");
    assert!(line("socket_mode").contains("0600") && line("socket_mode").contains("flag"), "{stdout}");
    assert!(line("log.level").contains("debug") && line("log.level").contains("$PERFWATCH_LOG_LEVEL"), "{stdout}");
    assert!(line("nvml_lib").contains("default"), "{stdout}");
}

#[test]
fn the_default_configuration_is_itself_valid() {
    let (_, text, _) = perfwatch_in_nowhere(&["config", "--default"], &[]);
    let uncommented: String = text
        .lines()
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line))
        .map(|line| format!("{line}\n"))
        .collect();
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), &uncommented).expect("our file");
    let path = file.path().to_str().expect("UTF-8");
    let (code, _, stderr) = perfwatch_in_nowhere(&["config", "--config", path], &[]);
    assert_eq!(code, Some(0), "{stderr}\n{uncommented}");
}

#[test]
fn without_a_terminal_top_points_to_once() {
    let (code, _, stderr) = perfwatch_in_nowhere(&["top"], &[]);
    assert_eq!(code, Some(2), "{stderr}");
    assert!(stderr.contains("--once"), "{stderr}");
}

#[test]
fn one_shot_commands_work_without_an_agent() {
    let (code, stdout, stderr) = perfwatch_in_nowhere(&["snapshot", "--json"], &[]);
    assert_eq!(code, Some(0), "{stderr}");
    let snapshot: serde_json::Value = serde_json::from_str(&stdout).expect("one JSON document");
    assert_eq!(snapshot["schema_version"], 1);
    let (code, stdout, stderr) = perfwatch_in_nowhere(&["doctor"], &[]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stdout.contains("not running"), "{stdout}");
}

#[test]
fn why_answers_at_once_from_a_running_agent_and_is_undecided_without_a_server() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.arg("why");
    let output = run(command, LIMIT);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn top_once_without_a_server_shows_the_two_lines_that_add_one() {
    let agent = Agent::spawn(PERFWATCH, &[], &[]);
    let mut command = perfwatch(PERFWATCH, agent.dir());
    command.args(["top", "--once", "--ascii"]);
    let output = run(command, LIMIT);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("Server::builder") && text.contains("server.request()"), "{text}");
    assert!(text.is_ascii() && !text.contains('\x1b'), "{text}");
}

#[test]
fn completions_and_the_manual_know_every_subcommand() {
    let (_, bash, _) = perfwatch_in_nowhere(&["completions", "bash"], &[]);
    let (_, man, _) = perfwatch_in_nowhere(&["man"], &[]);
    let (_, help, _) = perfwatch_in_nowhere(&["--help"], &[]);
    for command in ["top", "why", "demo", "agent", "snapshot", "doctor", "gpus", "config", "dashboards"] {
        assert!(bash.contains(command) && man.contains(command) && help.contains(command), "{command}");
    }
    assert!(!help.contains("model-server"), "hidden commands stay hidden");
}
