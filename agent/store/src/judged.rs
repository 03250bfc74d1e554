//! What the diagnosis made of a tick, as rows: ledgers line by line, findings by episode.

mod state;

use perfwatch_model::{Finding, Ledger, Quality};

pub(crate) use state::{Episode, Judged, JudgedWriting, Line};

/// Which ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LedgerKind {
    /// Where the time of a server's CPUs went.
    Cpu,
    /// Where the time of its requests went.
    Requests,
    /// Where the time of a GPU went.
    Gpu,
}

impl LedgerKind {
    /// The word in the table.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Requests => "requests",
            Self::Gpu => "gpu",
        }
    }

    /// The one of this name.
    pub fn find(name: &str) -> Option<Self> {
        [Self::Cpu, Self::Requests, Self::Gpu].into_iter().find(|kind| kind.name() == name)
    }
}

/// A ledger of one entity in one tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerOf {
    /// About what, as `kind:id`.
    pub entity: String,
    /// Which of its ledgers.
    pub kind: LedgerKind,
    /// Where the time went.
    pub ledger: Ledger,
}

impl LedgerOf {
    /// Its rows in the journal: every part that took anything, by label. They sum to the interval.
    pub fn rows(&self) -> Vec<LedgerRow> {
        let entries = self.ledger.entries().iter().filter(|entry| entry.ns > 0);
        let mut rows: Vec<_> = entries
            .map(|entry| LedgerRow {
                entity: self.entity.clone(),
                kind: self.kind,
                label: entry.label.to_string(),
                ns: entry.ns,
                quality: entry.quality,
            })
            .collect();
        rows.sort();
        rows
    }
}

/// One part of a ledger, as the journal has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerRow {
    /// About what, as `kind:id`.
    pub entity: String,
    /// Which of its ledgers.
    pub kind: LedgerKind,
    /// The cause or stage.
    pub label: String,
    /// Nanoseconds.
    pub ns: u64,
    /// How this is known.
    pub quality: Quality,
}

/// A finding that stood from one tick to another without changing its severity, as the journal has it.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingRow {
    /// The first tick.
    pub seq: u64,
    /// The last.
    pub last_seq: u64,
    /// End of the first, in nanoseconds since 1970.
    pub wall_ns: u64,
    /// The finding as it was in the first.
    pub finding: Finding,
}
