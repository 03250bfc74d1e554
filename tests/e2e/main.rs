//! The real binary, end to end: over its command line, its sockets and its local API.

#![allow(clippy::disallowed_methods, reason = "tests start processes and wait in real time")]

use std::sync::{Mutex, MutexGuard, PoisonError};

mod agent;
mod cli;
mod clock;
mod dashboards;
mod demo;
mod demo_replays;
mod gpu;
mod gpu_hang;
mod gpu_released;
mod gpu_remembered;
mod hostile;
mod intake;
mod journal;
mod layering;
mod metrics;
mod otlp;
mod readme;
mod reload;
mod replay;
mod sdk;
mod secrets;
mod sidecar;
mod slow;
mod terminal;

/// The binary under test, built from this tree.
const PERFWATCH: &str = env!("CARGO_BIN_EXE_perfwatch");

/// Demos pin their servers to the same CPU, so that two at once would spoil each other's measurements.
fn one_demo_at_a_time() -> MutexGuard<'static, ()> {
    static RUNNING: Mutex<()> = Mutex::new(());
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Panics when the schema of snapshots does not allow one.
fn assert_is_allowed(snapshot: &serde_json::Value) {
    let schema = include_str!("../fixtures/snapshot.schema.json");
    let schema = serde_json::from_str(schema).expect("the schema is JSON");
    let validator = jsonschema::validator_for(&schema).expect("the schema is a schema");
    let errors: Vec<_> = validator.iter_errors(snapshot).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:#?}\n{snapshot:#}");
}

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
