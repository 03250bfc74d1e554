//! The direction of dependencies is a build failure, not a review comment.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What each crate of the workspace may use of the workspace, in normal and build dependencies.
const ALLOWED: &[(&str, &[&str])] = &[
    ("perfwatch-model", &[]),
    ("perfwatch-wire", &["perfwatch-model"]),
    ("perfwatch-sdk", &["perfwatch-model", "perfwatch-wire"]),
    ("perfwatch-c", &["perfwatch-sdk"]),
    ("perfwatch-store", &["perfwatch-model"]),
    ("perfwatch-diagnose", &["perfwatch-model"]),
    ("perfwatch-probes", &["perfwatch-model"]),
    ("perfwatch-export", &["perfwatch-model"]),
    (
        "perfwatch-agent",
        &[
            "perfwatch-model",
            "perfwatch-store",
            "perfwatch-diagnose",
            "perfwatch-probes",
            "perfwatch-export",
            "perfwatch-wire",
        ],
    ),
    ("perfwatch-tui", &["perfwatch-model"]),
    ("perfwatch-demo", &["perfwatch-model", "perfwatch-sdk"]),
    ("perfwatch-dashboards", &["perfwatch-model"]),
    (
        "perfwatch",
        &[
            "perfwatch-model",
            "perfwatch-agent",
            "perfwatch-export",
            "perfwatch-tui",
            "perfwatch-demo",
            "perfwatch-dashboards",
            "perfwatch-wire",
        ],
    ),
    ("perfwatch-tests", &[]),
    ("fake-nvml", &[]),
];

/// Crates from outside that only these may use directly.
const RESERVED: &[(&str, &[&str], &str)] = &[
    ("ratatui", &["perfwatch-tui"], "only the TUI draws"),
    ("crossterm", &["perfwatch-tui"], "only the TUI owns the terminal"),
    ("clap", &["perfwatch"], "only the binary has a command line"),
    ("anyhow", &["perfwatch"], "libraries name their errors"),
    (
        "tokio",
        &["perfwatch-agent", "perfwatch-export", "perfwatch-tui", "perfwatch"],
        "model, probes, rules and the SDK stay synchronous",
    ),
    ("rusqlite", &["perfwatch-store"], "only the store knows how history lies on disk"),
    ("nvml-wrapper", &["perfwatch-probes"], "only the GPU probe talks to NVML"),
    ("tracing-subscriber", &["perfwatch", "perfwatch-export"], "only the binary decides where logs go"),
];

fn dependencies() -> BTreeMap<String, BTreeSet<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline", "--manifest-path"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml"))
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let mut edges = BTreeMap::new();
    for package in metadata["packages"].as_array().expect("packages") {
        let name = package["name"].as_str().expect("name").to_owned();
        let used = package["dependencies"]
            .as_array()
            .expect("dependencies")
            .iter()
            .filter(|dependency| dependency["kind"].as_str() != Some("dev"))
            .map(|dependency| dependency["name"].as_str().expect("name").to_owned())
            .collect();
        edges.insert(name, used);
    }
    edges
}

#[test]
fn each_crate_of_the_workspace_uses_exactly_those_it_may_know() {
    let edges = dependencies();
    let allowed: BTreeMap<_, _> = ALLOWED.iter().copied().collect();
    for (name, used) in &edges {
        let may = allowed.get(name.as_str()).unwrap_or_else(|| panic!("say in layering.rs what {name} may use"));
        for dependency in used.iter().filter(|dependency| edges.contains_key(*dependency)) {
            assert!(
                may.contains(&dependency.as_str()),
                "{name} must not depend on {dependency}: see DIRECTION in agent/README.md"
            );
        }
    }
    for (name, may) in ALLOWED {
        let used = edges.get(*name).unwrap_or_else(|| panic!("layering.rs lists {name}, which is gone"));
        let unused = may.iter().find(|dependency| !used.contains(**dependency));
        assert_eq!(unused, None, "{name} has a permission in layering.rs that it does not use");
    }
    assert_eq!(edges.len(), ALLOWED.len(), "layering.rs lists a crate that is gone");
}

#[test]
fn crates_from_outside_stay_where_they_belong() {
    for (name, used) in dependencies() {
        for (reserved, users, why) in RESERVED {
            assert!(
                !used.contains(*reserved) || users.contains(&name.as_str()),
                "{name} must not use {reserved}: {why}"
            );
        }
    }
}
