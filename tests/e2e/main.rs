//! The real binary, end to end: over its command line, its sockets and its local API.

#![allow(clippy::disallowed_methods, reason = "tests start processes and wait in real time")]

mod agent;
mod cli;
mod dashboards;
mod demo;
mod gpu;
mod hostile;
mod layering;
mod otlp;
mod readme;
mod sdk;
mod terminal;

/// The binary under test, built from this tree.
const PERFWATCH: &str = env!("CARGO_BIN_EXE_perfwatch");

/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
