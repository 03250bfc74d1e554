//! The README promises; this test keeps the promises.

use std::time::Duration;

use perfwatch_tests::{perfwatch, run};

use crate::{PERFWATCH, ROOT, one_demo_at_a_time};

/// The demo calibrates, runs for 20 s and reports; a debug build on a busy machine needs a while longer.
const LIMIT: Duration = Duration::from_mins(4);

fn readme() -> String {
    std::fs::read_to_string(format!("{ROOT}/README.md")).expect("the README can be read")
}

/// Lines of the README's blocks of this language.
fn blocks(text: &str, language: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        if let Some(fence) = line.strip_prefix("```") {
            inside = !inside && fence == language;
        } else if inside {
            lines.push(line.to_owned());
        }
    }
    lines
}

#[test]
fn every_command_in_the_readme_works() {
    let _alone = one_demo_at_a_time();
    let commands = blocks(&readme(), "sh");
    assert!(!commands.is_empty());
    let script = std::fs::read_to_string(format!("{ROOT}/.ci/run")).expect(".ci/run can be read");
    for line in commands {
        let command = line.split(" #").next().unwrap_or_default().trim();
        if let Some(args) = command.strip_prefix("cargo run --release -- ") {
            let dir = tempfile::tempdir().expect("a folder");
            let mut command = perfwatch(PERFWATCH, dir.path());
            command.args(args.split_whitespace());
            let output = run(command, LIMIT);
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "`perfwatch {args}` ended with {}: {stderr}", output.status);
            assert!(!output.stdout.is_empty(), "`perfwatch {args}` printed nothing");
        } else if command.starts_with("cargo test") {
            assert!(script.lines().any(|line| line == command), ".ci/run does not call `{command}`");
        } else {
            assert!(command.is_empty(), "teach tests/e2e/readme.rs to run `{command}`");
        }
    }
}

#[test]
fn the_first_command_runs_the_demo_and_the_second_all_tests() {
    let commands = blocks(&readme(), "sh");
    let commands: Vec<_> = commands.iter().map(|line| line.split(" #").next().unwrap_or_default().trim()).collect();
    assert_eq!(commands[..2], ["cargo run --release -- demo", "cargo test --workspace"]);
}

#[test]
fn every_block_of_the_readme_is_of_a_language_that_something_checks() {
    // `sh` is run here, `rust` is a doctest of perfwatch-sdk, `text` promises nothing.
    let text = readme();
    let fences: Vec<_> = text.lines().filter_map(|line| line.trim_start().strip_prefix("```")).collect();
    for pair in fences.chunks(2) {
        assert!(matches!(pair, ["sh" | "rust" | "text", ""]), "nothing checks the block {pair:?} of the README");
    }
}

#[test]
fn the_map_of_the_readme_names_every_folder() {
    let text = readme();
    for folder in ["agent", "tui", "probes", "dashboards", "tests"] {
        assert!(text.contains(&format!("`{folder}/`")), "the README's map lacks {folder}/");
    }
}

#[test]
fn the_table_of_the_local_api_is_that_of_the_agent() {
    let text = std::fs::read_to_string(format!("{ROOT}/agent/README.md")).expect("agent/README.md can be read");
    for (path, answers) in perfwatch_agent::ROUTES {
        assert!(text.contains(&format!("| `{path}` | {answers} |")), "agent/README.md lacks {path}: {answers}");
    }
}
