//! What each thread owns: its shards, by the number of their series or server.
//!
//! Two tables: a fixed one that recording reads, without destructor, borrow flag or indirection, so that finding a shard
//! is one load; and a list of everything the thread owns, which hands it back when the thread ends.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::activity::Activity;
use crate::core::Core;
use crate::histogram::{Series, Shard};

/// Series found in one load. A server has 20 of its own (its requests, their 16 stages, its batches, two of its streams), so
/// three servers, or one with 44 histograms more; those beyond are found in the list.
const NEAR_SERIES: usize = 64;
/// Servers found in one load; hardly a process has more than one.
const NEAR_SERVERS: usize = 4;

struct Near {
    histograms: [Cell<Option<&'static Shard>>; NEAR_SERIES],
    activities: [Cell<Option<&'static Activity>>; NEAR_SERVERS],
    /// This thread's number, 0 before it asked.
    ordinal: Cell<usize>,
}

#[derive(Default)]
struct Owned {
    histograms: RefCell<Vec<(&'static Series, &'static Shard)>>,
    activities: RefCell<Vec<(&'static Core, &'static Activity)>>,
}

thread_local! {
    static NEAR: Near = const {
        Near {
            histograms: [const { Cell::new(None) }; NEAR_SERIES],
            activities: [const { Cell::new(None) }; NEAR_SERVERS],
            ordinal: Cell::new(0),
        }
    };
    static OWNED: Owned = const {
        Owned { histograms: RefCell::new(Vec::new()), activities: RefCell::new(Vec::new()) }
    };
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Another thread may own them from here on, so what this one still records must not find them any more.
        NEAR.with(|near| {
            near.histograms.iter().for_each(|cell| cell.set(None));
            near.activities.iter().for_each(|cell| cell.set(None));
        });
        for (series, shard) in self.histograms.get_mut().drain(..) {
            series.give_back(shard);
        }
        for (core, shard) in self.activities.get_mut().drain(..) {
            core.give_back(shard);
        }
    }
}

/// The calling thread's shard of a series, if it has one.
#[inline]
pub(crate) fn histogram(id: usize) -> Option<&'static Shard> {
    match NEAR.with(|near| near.histograms.get(id).map(Cell::get)) {
        Some(near) => near,
        None => far(|owned| find(&owned.histograms, |series| series.id == id)),
    }
}

/// The calling thread's shard of a server's activity, if it has one.
#[inline]
pub(crate) fn activity(id: usize) -> Option<&'static Activity> {
    match NEAR.with(|near| near.activities.get(id).map(Cell::get)) {
        Some(near) => near,
        None => far(|owned| find(&owned.activities, |core| core.id == id)),
    }
}

#[cold]
fn far<S>(find: impl FnOnce(&Owned) -> Option<&'static S>) -> Option<&'static S> {
    OWNED.try_with(find).ok().flatten()
}

fn find<P, S>(list: &RefCell<Vec<(&'static P, &'static S)>>, is_it: impl Fn(&P) -> bool) -> Option<&'static S> {
    list.try_borrow().ok()?.iter().find(|(parent, _)| is_it(parent)).map(|(_, shard)| *shard)
}

/// Gives the calling thread a shard; false when the thread is being torn down.
pub(crate) fn keep_histogram(parent: &'static Series, shard: &'static Shard) -> bool {
    let kept = keep(|owned| &owned.histograms, parent, shard);
    if kept {
        NEAR.with(|near| {
            if let Some(cell) = near.histograms.get(parent.id) {
                cell.set(Some(shard));
            }
        });
    }
    kept
}

/// Gives the calling thread a shard; false when the thread is being torn down.
pub(crate) fn keep_activity(parent: &'static Core, shard: &'static Activity) -> bool {
    let kept = keep(|owned| &owned.activities, parent, shard);
    if kept {
        NEAR.with(|near| {
            if let Some(cell) = near.activities.get(parent.id) {
                cell.set(Some(shard));
            }
        });
    }
    kept
}

fn keep<P: 'static, S: 'static>(
    list: impl FnOnce(&Owned) -> &RefCell<Vec<(&'static P, &'static S)>>,
    parent: &'static P,
    shard: &'static S,
) -> bool {
    let kept = OWNED.try_with(|owned| list(owned).try_borrow_mut().map(|mut list| list.push((parent, shard))).is_ok());
    kept.unwrap_or(false)
}

/// A number of the calling thread, to spread threads over stripes.
#[inline]
pub(crate) fn ordinal() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1);
    NEAR.with(|near| {
        if near.ordinal.get() == 0 {
            near.ordinal.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        near.ordinal.get()
    })
}
