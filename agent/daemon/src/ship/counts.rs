//! What arrived and what did not, counted in the transactions that make it so: exact across kills.

use std::collections::BTreeMap;

use perfwatch_export::Signal;
use perfwatch_model::metrics::export;
use perfwatch_store::{Amount, Totals};

use super::line;

/// Why items do not arrive.
pub(super) mod reason {
    /// The outbox was full.
    pub(crate) const OVERFLOW: &str = "export_outbox_full";
    /// The receiver refused them.
    pub(crate) const REFUSED: &str = "export_refused";
    /// The receiver took the request but not these items.
    pub(crate) const REJECTED: &str = "export_rejected";
    /// The receiver closed the connection on them again and again.
    pub(crate) const POISON: &str = "export_no_answer";
    /// The agent stopped first, and had them in memory only.
    pub(crate) const SHUTDOWN: &str = "export_shutdown";
    /// The journal that held them was damaged.
    pub(crate) const LOST: &str = "export_outbox_lost";

    /// Their signal had no endpoint for a day.
    pub(crate) const EXPIRED: &str = "export_expired";

    /// All of them.
    pub(crate) const ALL: [&str; 7] = [OVERFLOW, REFUSED, REJECTED, POISON, SHUTDOWN, LOST, EXPIRED];
}

/// What arrived, beside the reasons.
const SENT: &str = "sent";

const SIGNALS: [Signal; 2] = [Signal::Metrics, Signal::Logs];

/// The signal that the journal calls so.
pub(super) fn signal(name: &str) -> Option<Signal> {
    SIGNALS.into_iter().find(|signal| line::name(*signal) == name)
}

/// The name of a count in the journal.
fn name(signal: Signal, what: &str) -> String {
    format!("{}.{what}", line::name(signal))
}

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Since the journal began.
    all: u64,
    /// When this agent began.
    before: u64,
    /// What the journal's totals knew of it then: what the metric has told already.
    told: u64,
    changed: bool,
}

/// All counts, by signal and reason.
#[derive(Debug, Default)]
pub(super) struct Counts(BTreeMap<(Signal, &'static str), Count>);

/// A count as a metric is to tell it: by signal and reason.
pub(crate) type Told = (&'static str, &'static str, u64);

impl Counts {
    /// As a former agent left them.
    pub(super) fn restored(kept: &BTreeMap<String, u64>, totals: &Totals) -> Self {
        let told = |metric: &str, attributes: &str| -> u64 {
            let known = totals.query(Some(metric), Some("agent:perfwatch"));
            // The same attributes in whatever order the journal keeps them.
            let same = |kept: &str| {
                let of = |text: &str| serde_json::from_str::<serde_json::Value>(text).ok();
                of(kept) == of(attributes)
            };
            let amount = known.into_iter().find(|total| same(&total.key.attributes)).map(|total| total.amount);
            if let Some(Amount::Counter(told)) = amount { u64::try_from(told).unwrap_or(u64::MAX) } else { 0 }
        };
        let mut counts = Self::default();
        for signal in SIGNALS {
            let label = format!("\"perfwatch.signal\":\"{}\"", line::name(signal));
            for what in reason::ALL.into_iter().chain([SENT]) {
                let Some(all) = kept.get(&name(signal, what)).copied() else { continue };
                let told = match what {
                    SENT => told(export::SENT.name, &format!("{{{label}}}")),
                    reason => told(export::DROPPED.name, &format!("{{{label},\"perfwatch.reason\":\"{reason}\"}}")),
                };
                counts.0.insert((signal, what), Count { all, before: all, told, changed: false });
            }
        }
        counts
    }

    fn add(&mut self, signal: Signal, what: &'static str, items: u64) {
        if items > 0 {
            let count = self.0.entry((signal, what)).or_default();
            count.all = count.all.saturating_add(items);
            count.changed = true;
        }
    }

    pub(super) fn drop(&mut self, signal: Signal, reason: &'static str, items: u64) {
        self.add(signal, reason, items);
    }

    pub(super) fn sent(&mut self, signal: Signal, items: u64) {
        self.add(signal, SENT, items);
    }

    /// What differs from the journal.
    pub(super) fn changed(&self) -> BTreeMap<String, u64> {
        let changed = self.0.iter().filter(|(_, count)| count.changed);
        changed.map(|((signal, what), count)| (name(*signal, what), count.all)).collect()
    }

    pub(super) fn written(&mut self) {
        self.0.values_mut().for_each(|count| count.changed = false);
    }

    pub(super) fn all_changed(&mut self) {
        self.0.values_mut().for_each(|count| count.changed = true);
    }

    /// Dropped of a signal by this agent, by reason; only what happened.
    pub(super) fn dropped_now(&self, signal: Signal) -> BTreeMap<String, u64> {
        let dropped =
            self.0.iter().filter(|((of, what), count)| *of == signal && *what != SENT && count.all > count.before);
        dropped.map(|((_, reason), count)| ((*reason).to_owned(), count.all - count.before)).collect()
    }

    /// Arrived by this agent.
    pub(super) fn sent_now(&self, signal: Signal) -> u64 {
        self.0.get(&(signal, SENT)).map_or(0, |count| count.all - count.before)
    }

    /// What the counters of drops are to say, so that their totals are the truth; only where anything ever was.
    pub(super) fn dropped_to_tell(&self) -> Vec<Told> {
        let dropped = self.0.iter().filter(|((_, what), _)| *what != SENT);
        let tell = |((signal, reason), count): (&(Signal, &'static str), &Count)| {
            (line::name(*signal), *reason, count.all.saturating_sub(count.told))
        };
        dropped.map(tell).collect()
    }

    /// The same for what arrived.
    pub(super) fn sent_to_tell(&self, signal: Signal) -> u64 {
        self.0.get(&(signal, SENT)).map_or(0, |count| count.all.saturating_sub(count.told))
    }
}
