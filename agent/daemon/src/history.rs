//! The ring of ticks, shared between the tick thread and the local API.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use perfwatch_model::{SeriesTable, Tick};
use perfwatch_store::Ring;

use crate::bounded::BoundedTotals;

/// What readers of the past share with the tick thread. The lock is held for a push or for cloning a list of handles.
#[derive(Debug)]
pub(crate) struct History {
    inner: Mutex<Inner>,
    alive_at: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    ring: Ring,
    /// A copy of the tick thread's table as of `generation`, made anew only when that changed.
    table: Arc<SeriesTable>,
    bounded: BoundedTotals,
}

impl History {
    pub(crate) fn new(started_mono_ns: u64) -> Self {
        let inner =
            Inner { ring: Ring::default(), table: Arc::new(SeriesTable::new()), bounded: BoundedTotals::default() };
        Self { inner: Mutex::new(inner), alive_at: AtomicU64::new(started_mono_ns) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing between lock and unlock leaves the ring half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a tick that closed at `mono_ns`.
    pub(crate) fn push(&self, tick: Arc<Tick>, table: &SeriesTable, mono_ns: u64) -> Arc<SeriesTable> {
        self.alive_at.store(mono_ns, Ordering::Relaxed);
        let mut inner = self.inner();
        if inner.table.generation() != table.generation() {
            inner.table = Arc::new(table.clone());
        }
        inner.bounded.add(&tick, table);
        inner.ring.push(tick);
        Arc::clone(&inner.table)
    }

    /// Asks the ring something.
    pub(crate) fn with_ring<T>(&self, ask: impl FnOnce(&Ring) -> T) -> T {
        ask(&self.inner().ring)
    }

    /// When a tick last closed, `CLOCK_MONOTONIC`.
    pub(crate) fn alive_at(&self) -> u64 {
        self.alive_at.load(Ordering::Relaxed)
    }

    /// The ticks that ended in `from..=to` (seconds since 1970), and the table that names their series.
    pub(crate) fn view(&self, from: f64, to: f64) -> (Vec<Arc<Tick>>, Arc<SeriesTable>) {
        let inner = self.inner();
        let within = |tick: &Tick| (from..=to).contains(&(tick.end.wall_ns as f64 / 1e9));
        let ticks = inner.ring.iter().filter(|(_, tick)| within(tick)).map(|(_, tick)| Arc::clone(tick)).collect();
        (ticks, Arc::clone(&inner.table))
    }

    /// Everything for a scrape: all ticks, the table that names their series, and distributions with servers' own bounds.
    pub(crate) fn everything(&self) -> (Vec<Arc<Tick>>, Arc<SeriesTable>, BoundedTotals) {
        let inner = self.inner();
        let ticks = inner.ring.iter().map(|(_, tick)| Arc::clone(tick)).collect();
        (ticks, Arc::clone(&inner.table), inner.bounded.clone())
    }
}
