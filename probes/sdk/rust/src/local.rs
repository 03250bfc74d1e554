//! What each thread owns: its shards, by the number of their series or server.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::activity::Activity;
use crate::core::Core;
use crate::histogram::{Series, Shard};

struct Owned<S: 'static, P> {
    shard: Arc<S>,
    parent: P,
}

struct Local {
    histograms: RefCell<Vec<Option<Owned<Shard, &'static Series>>>>,
    activities: RefCell<Vec<Option<Owned<Activity, &'static Core>>>>,
    /// This thread's number, 0 before it asked.
    ordinal: Cell<usize>,
}

thread_local! {
    static LOCAL: Local = const {
        Local { histograms: RefCell::new(Vec::new()), activities: RefCell::new(Vec::new()), ordinal: Cell::new(0) }
    };
}

impl Drop for Local {
    fn drop(&mut self) {
        for owned in self.histograms.get_mut().drain(..).flatten() {
            owned.parent.give_back(owned.shard);
        }
        for owned in self.activities.get_mut().drain(..).flatten() {
            owned.parent.give_back(owned.shard);
        }
    }
}

/// Lends the calling thread's shard of a series; false when it has none.
#[inline]
pub(crate) fn with_histogram(id: usize, record: impl FnOnce(&Shard)) -> bool {
    LOCAL
        .try_with(|local| {
            let Ok(owned) = local.histograms.try_borrow() else { return false };
            let Some(Some(owned)) = owned.get(id) else { return false };
            record(&owned.shard);
            true
        })
        .unwrap_or(false)
}

/// Gives the calling thread a shard; false when the thread is being torn down.
pub(crate) fn keep_histogram(parent: &'static Series, shard: Arc<Shard>) -> bool {
    LOCAL.try_with(|local| put(&local.histograms, parent.id, Owned { shard, parent })).unwrap_or(false)
}

/// Lends the calling thread's shard of a server's activity; false when it has none.
#[inline]
pub(crate) fn with_activity(id: usize, record: impl FnOnce(&Activity)) -> bool {
    LOCAL
        .try_with(|local| {
            let Ok(owned) = local.activities.try_borrow() else { return false };
            let Some(Some(owned)) = owned.get(id) else { return false };
            record(&owned.shard);
            true
        })
        .unwrap_or(false)
}

/// Gives the calling thread a shard; false when the thread is being torn down.
pub(crate) fn keep_activity(parent: &'static Core, shard: Arc<Activity>) -> bool {
    LOCAL.try_with(|local| put(&local.activities, parent.id, Owned { shard, parent })).unwrap_or(false)
}

fn put<T>(table: &RefCell<Vec<Option<T>>>, id: usize, owned: T) -> bool {
    let Ok(mut table) = table.try_borrow_mut() else { return false };
    if table.len() <= id {
        table.resize_with(id + 1, || None);
    }
    table[id] = Some(owned);
    true
}

/// A number of the calling thread, to spread threads over stripes.
#[inline]
pub(crate) fn ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    LOCAL
        .try_with(|local| {
            if local.ordinal.get() == 0 {
                local.ordinal.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            local.ordinal.get()
        })
        .unwrap_or(0)
}
