//! perfwatch and real backends: Prometheus, the OpenTelemetry Collector, `VictoriaMetrics`.
//!
//! `tests/peers/install.sh` installs them. A test whose backend is not there prints `skipped: …`.

#![allow(clippy::disallowed_methods, reason = "tests start processes and wait in real time")]
#![allow(clippy::print_stdout, reason = "tests tell what they skip and what they measured")]

mod dashboards;
mod http;
mod load;
mod names;
mod otlp;
mod outage;
mod peers;
mod proxy;
mod quantiles;
mod table;
mod wire;

/// The agent that dies and the known sequence of requests, as the journal's tests have them.
#[path = "../e2e/journal/mortal.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod mortal;
#[path = "../e2e/journal/sequence.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod sequence;

/// The binary under test, built from this tree.
const PERFWATCH: &str = env!("CARGO_BIN_EXE_perfwatch");
/// The root of the workspace.
const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
