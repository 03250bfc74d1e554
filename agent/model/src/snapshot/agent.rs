//! The agent: its cost and its health.

use std::collections::BTreeMap;

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
    /// End of the oldest second that the journal has, RFC 3339 in UTC, as of the last full minute; `null` without a journal.
    pub seconds_since: Option<String>,
    /// The same of its minutes; `null` before the first is over.
    pub minutes_since: Option<String>,
    /// Cost per probe.
    pub probes: Vec<ProbeView>,
    /// Where it ships to; empty when nothing is configured.
    pub exports: Vec<ExportView>,
}

impl AgentView {
    /// Whether its history is in memory alone, as asked or for want of a disk: `memory`, or `memory (why)`. A journal's path
    /// is absolute and never reads so.
    pub fn keeps_in_memory(&self) -> bool {
        self.store == "memory" || self.store.starts_with("memory (")
    }
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExportView {
    /// Its endpoint, without credentials.
    pub endpoint: String,
    /// What goes there: `metrics` or `logs`.
    #[serde(default)]
    pub signal: String,
    /// `ok`, `waiting`, or what went wrong last.
    pub state: String,
    /// Data points it accepted.
    pub sent: u64,
    /// Data points it refused or that had to be dropped.
    pub dropped: u64,
    /// The same by reason.
    #[serde(default)]
    pub dropped_by_reason: BTreeMap<String, u64>,
    /// What is not delivered yet.
    #[serde(default)]
    pub outbox: OutboxView,
}

impl ExportView {
    /// How it stands, in a few words: its state, what waits, and what was dropped and why.
    pub fn standing(&self) -> String {
        let mut words = self.state.clone();
        // One is always about to leave.
        if self.outbox.requests > 1 {
            let (requests, seconds) = (self.outbox.requests, self.outbox.oldest_s);
            words.push_str(&format!(", {requests} requests wait, the oldest for {seconds:.0} s"));
        }
        if self.dropped > 0 {
            let reasons: Vec<_> =
                self.dropped_by_reason.iter().map(|(reason, items)| format!("{items} {reason}")).collect();
            words.push_str(&format!(", {} items dropped", self.dropped));
            if !reasons.is_empty() {
                words.push_str(&format!(" ({})", reasons.join(", ")));
            }
        }
        words
    }
}

/// Encoded requests that wait for their destination.
#[derive(Clone, Debug, PartialEq, Default, Serialize, Deserialize)]
pub struct OutboxView {
    /// How many.
    pub requests: u64,
    /// Their bytes, compressed.
    pub bytes: u64,
    /// Age of the oldest; 0 when there is none.
    pub oldest_s: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_journal_that_is_called_memory_is_a_journal() {
        let keeps = |store: &str| AgentView { store: store.to_owned(), ..AgentView::default() }.keeps_in_memory();
        assert!(keeps("memory") && keeps("memory (/var/journal.db: No space left on device)"));
        assert!(!keeps("/tmp/memory/journal.db") && !keeps("/tmp/memory (1).pwrec"));
    }

    #[test]
    fn an_export_says_what_waits_and_what_was_dropped_and_why() {
        let mut view = ExportView {
            endpoint: "http://collector:4318".to_owned(),
            signal: "metrics".to_owned(),
            state: "ok".to_owned(),
            sent: 7,
            dropped: 0,
            dropped_by_reason: BTreeMap::new(),
            outbox: OutboxView { requests: 1, bytes: 900, oldest_s: 0.2 },
        };
        assert_eq!(view.standing(), "ok");
        view.outbox = OutboxView { requests: 12, bytes: 9_000, oldest_s: 119.6 };
        view.dropped = 5;
        view.dropped_by_reason = BTreeMap::from([("export_refused".to_owned(), 5)]);
        let expected = "ok, 12 requests wait, the oldest for 120 s, 5 items dropped (5 export_refused)";
        assert_eq!(view.standing(), expected);
    }
}
