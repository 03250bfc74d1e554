//! Asks a journal that another thread writes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::status::{Place, Status};
use crate::totals::{SeriesTotal, Totals};

/// What the writing thread shows others.
#[derive(Debug)]
pub(super) struct Shared {
    totals: Mutex<Totals>,
    status: Mutex<Status>,
}

impl Shared {
    pub(super) fn new(status: Status) -> Arc<Self> {
        Arc::new(Self { totals: Mutex::default(), status: Mutex::new(status) })
    }

    /// Nothing between lock and unlock leaves a half-changed table behind.
    pub(super) fn totals(&self) -> MutexGuard<'_, Totals> {
        self.totals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn status(&self) -> MutexGuard<'_, Status> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks a journal that another thread writes. Never waits for a disk. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader(pub(super) Arc<Shared>);

impl Reader {
    /// Totals of the counters and histograms of this name and of this entity (`kind:id`), or of all.
    pub fn query(&self, metric: Option<&str>, entity: Option<&str>) -> Vec<SeriesTotal> {
        self.0.totals().query(metric, entity)
    }

    /// Looks at the totals. Nobody can add to them meanwhile.
    pub fn with_totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.0.totals())
    }

    /// How the journal stands.
    pub fn status(&self) -> Status {
        self.0.status().clone()
    }

    /// Says that the thread that wrote it is no more: nothing is added from now on.
    pub fn declare_dead(&self, reason: String) {
        self.0.status().place = Place::Dead { reason };
    }
}
