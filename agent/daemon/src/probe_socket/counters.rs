//! What the socket received, refused and dropped; the agent reports it about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Running totals since the start.
#[derive(Debug, Default)]
pub struct Counters {
    pub(super) connected: AtomicU64,
    pub(super) flushes: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) malformed: AtomicU64,
    pub(super) oversized: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) series_dropped: AtomicU64,
    pub(super) slowed: AtomicU64,
}

/// A reading of [`Counters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Sessions connected now.
    pub connected: u64,
    /// Flushes delivered.
    pub flushes: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Flushes that had been delivered before.
    pub duplicates: u64,
    /// Peers cut off because of a message that broke the protocol, or that stopped in the middle of one.
    pub malformed: u64,
    /// Peers cut off because of a message beyond 1 MiB.
    pub oversized: u64,
    /// Peers refused: another protocol version, or too many of them.
    pub refused: u64,
    /// Histograms dropped because a peer exceeded its limit of series.
    pub series_dropped: u64,
    /// Messages that were read late because their peer sent too many.
    pub slowed: u64,
}

impl Counters {
    /// The present totals.
    pub fn read(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            connected: read(&self.connected),
            flushes: read(&self.flushes),
            bytes: read(&self.bytes),
            duplicates: read(&self.duplicates),
            malformed: read(&self.malformed),
            oversized: read(&self.oversized),
            refused: read(&self.refused),
            series_dropped: read(&self.series_dropped),
            slowed: read(&self.slowed),
        }
    }
}
