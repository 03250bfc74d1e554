//! The agent: its cost and its health.

use serde::{Deserialize, Serialize};

/// perfwatch itself.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct AgentView {
    /// Version of the agent.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// Seconds since it started.
    pub uptime_s: f64,
    /// Seconds between ticks.
    pub interval_s: f64,
    /// CPU it used, as a share of one core.
    pub cpu_cores: Option<f64>,
    /// Its resident memory.
    pub rss_bytes: Option<u64>,
    /// How late the newest tick closed.
    pub late_s: f64,
    /// Ticks it could not take since it started.
    pub ticks_missed: u64,
    /// Messages and values it had to drop since it started, for whatever reason.
    pub dropped: u64,
    /// Where its history is: `memory`, or the journal's path.
    pub store: String,
    /// Cost per probe.
    pub probes: Vec<ProbeView>,
    /// Where it ships to; empty when nothing is configured.
    pub exports: Vec<ExportView>,
}

/// What one probe costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeView {
    /// Its name.
    pub name: String,
    /// Mean time per run.
    pub mean_s: f64,
    /// Longest run.
    pub max_s: f64,
    /// Seconds between runs; more than the interval when it is slow-moving or was stretched to stay in budget.
    pub every_s: f64,
    /// True when it was stretched.
    pub stretched: bool,
}

/// One destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportView {
    /// Its endpoint, without credentials.
    pub endpoint: String,
    /// `ok`, `waiting`, or what went wrong last.
    pub state: String,
    /// Data points it accepted.
    pub sent: u64,
    /// Data points it refused or that had to be dropped.
    pub dropped: u64,
}
