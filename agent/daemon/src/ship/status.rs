//! How export goes, as other threads may ask.

use std::sync::{Arc, Mutex, PoisonError};

use perfwatch_export::{Encoder, Signal};
use perfwatch_model::snapshot::{ExportView, OutboxView};

use super::counts::{Counts, Told};
use super::line::{self, Line};

/// How export stood when it was last looked at.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shipped {
    /// Each destination, for the snapshot.
    pub(crate) views: Vec<ExportView>,
    /// What the counters by reason are to say.
    pub(crate) dropped: Vec<Told>,
    /// What the counters by signal are to say.
    pub(crate) sent: Vec<(&'static str, u64)>,
    /// Items that this agent dropped.
    pub(crate) dropped_now: u64,
    /// Series that stay home.
    pub(crate) refused_series: u64,
    /// What waits.
    pub(crate) outbox: OutboxView,
}

impl Shipped {
    pub(super) fn of(lines: &[Line], counts: &Counts, encoder: &Encoder, now_wall_ns: u64) -> Self {
        let age = |line: &Line| line.oldest_wall_ns().map(|then| now_wall_ns.saturating_sub(then) as f64 / 1e9);
        let outbox = |lines: &[&Line]| OutboxView {
            requests: lines.iter().map(|line| line.requests() as u64).sum(),
            bytes: lines.iter().map(|line| line.bytes()).sum(),
            oldest_s: lines.iter().filter_map(|line| age(line)).fold(0.0, f64::max),
        };
        let view = |line: &Line| ExportView {
            endpoint: line.lane.endpoint().to_owned(),
            signal: line::name(line.signal).to_owned(),
            state: match encoder.waits_for_clock().filter(|_| line.signal == Signal::Metrics) {
                Some(behind_ns) => {
                    format!("waiting: the wall clock was set back by {} s", behind_ns / 1_000_000_000)
                }
                None => line.lane.state(),
            },
            sent: counts.sent_now(line.signal),
            dropped: counts.dropped_now(line.signal).values().sum(),
            dropped_by_reason: counts.dropped_now(line.signal),
            outbox: outbox(&[line]),
        };
        Self {
            dropped_now: lines.iter().flat_map(|line| counts.dropped_now(line.signal).into_values()).sum(),
            views: lines.iter().map(view).collect(),
            dropped: counts.dropped_to_tell(),
            sent: lines.iter().map(|line| (line::name(line.signal), counts.sent_to_tell(line.signal))).collect(),
            refused_series: encoder.refused() as u64,
            outbox: outbox(&lines.iter().collect::<Vec<_>>()),
        }
    }
}

/// Asks how export goes. Never waits for a disk or a network.
#[derive(Clone, Debug)]
pub(crate) struct Status(pub(super) Arc<Mutex<Shipped>>);

impl Status {
    pub(crate) fn now(&self) -> Shipped {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
