//! The server's own counters: what it says about itself at `GET /stats`, so that a demo's account of a run does not
//! rest on the tool it demonstrates.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::{Deserialize, Serialize};

/// Counts since the server started.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Requests accepted and not yet answered.
    pending: AtomicU64,
    pub(crate) completed: AtomicU64,
    pub(crate) rejected: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) dispatches: AtomicU64,
    pub(crate) dispatches_ready2: AtomicU64,
    pub(crate) dispatched: AtomicU64,
}

impl Counters {
    /// Admits one more request, unless `limit` are in the server already.
    pub(crate) fn admit(self: &Arc<Self>, limit: u64) -> Option<Ticket> {
        let admitted = self.pending.fetch_update(Relaxed, Relaxed, |pending| (pending < limit).then_some(pending + 1));
        admitted.is_ok().then(|| Ticket(Arc::clone(self)))
    }

    /// Counts one batch.
    pub(crate) fn dispatch(&self, size: usize, ready: usize) {
        self.dispatches.fetch_add(1, Relaxed);
        self.dispatched.fetch_add(size as u64, Relaxed);
        self.dispatches_ready2.fetch_add(u64::from(ready >= 2), Relaxed);
    }

    pub(crate) fn stats(&self) -> Stats {
        Stats {
            pending: self.pending.load(Relaxed),
            completed: self.completed.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            failed: self.failed.load(Relaxed),
            dispatches: self.dispatches.load(Relaxed),
            dispatches_ready2: self.dispatches_ready2.load(Relaxed),
            dispatched: self.dispatched.load(Relaxed),
        }
    }
}

/// A request's place in the server; given back when dropped.
#[derive(Debug)]
pub(crate) struct Ticket(Arc<Counters>);

impl Drop for Ticket {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(1, Relaxed);
    }
}

/// What `GET /stats` answers: counts since the server started, and the requests in it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stats {
    /// Requests accepted and not yet answered.
    pub pending: u64,
    /// Requests computed and answered.
    pub completed: u64,
    /// Requests refused because the server was full.
    pub rejected: u64,
    /// Requests that were not understood or could not be served.
    pub failed: u64,
    /// Batches computed.
    pub dispatches: u64,
    /// Batches formed while two or more requests were ready.
    pub dispatches_ready2: u64,
    /// Requests in those batches.
    pub dispatched: u64,
}

impl Stats {
    /// The counts between an `earlier` look and this one; `pending` stays this one's.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            pending: self.pending,
            completed: self.completed.saturating_sub(earlier.completed),
            rejected: self.rejected.saturating_sub(earlier.rejected),
            failed: self.failed.saturating_sub(earlier.failed),
            dispatches: self.dispatches.saturating_sub(earlier.dispatches),
            dispatches_ready2: self.dispatches_ready2.saturating_sub(earlier.dispatches_ready2),
            dispatched: self.dispatched.saturating_sub(earlier.dispatched),
        }
    }

    /// Mean requests per batch; 0 before the first batch.
    pub fn mean_batch(&self) -> f64 {
        self.dispatched as f64 / self.dispatches.max(1) as f64
    }

    /// Share of batches formed while two or more requests were ready; 0 before the first batch.
    pub fn ready2(&self) -> f64 {
        self.dispatches_ready2 as f64 / self.dispatches.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admission_ends_at_the_limit_and_goes_on_when_a_place_is_given_back() {
        let counters = Arc::new(Counters::default());
        let first = counters.admit(2);
        let second = counters.admit(2);
        assert!(first.is_some() && second.is_some() && counters.admit(2).is_none());
        drop(first);
        assert_eq!(counters.stats().pending, 1);
        assert!(counters.admit(2).is_some());
    }

    #[test]
    fn batches_are_counted_by_size_and_by_what_was_ready() {
        let counters = Counters::default();
        counters.dispatch(1, 1);
        let earlier = counters.stats();
        counters.dispatch(8, 20);
        counters.dispatch(1, 1);
        let stats = counters.stats().since(&earlier);
        assert!((stats.mean_batch() - 4.5).abs() < 1e-9);
        assert!((stats.ready2() - 0.5).abs() < 1e-9);
        assert!(Stats::default().mean_batch().abs() < 1e-9);
    }
}
