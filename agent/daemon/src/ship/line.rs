//! What waits for one endpoint, and the lane that leads there.

use std::collections::VecDeque;
use std::sync::Arc;

use perfwatch_export::{Encoded, Lane, Signal};
use perfwatch_store::{Journal, Parcel, Restored};

/// Requests that a lane has in hand beside the one in flight.
const WINDOW: usize = 4;
/// Their bytes, and those that are read from the journal at once.
const WINDOW_BYTES: usize = 4 << 20;

/// How the journal names a signal.
pub(super) const fn name(signal: Signal) -> &'static str {
    match signal {
        Signal::Metrics => "metrics",
        Signal::Logs => "logs",
        Signal::Traces => "traces",
    }
}

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) id: u64,
    pub(super) items: u64,
    pub(super) bytes: u64,
    pub(super) created_wall_ns: u64,
    /// It is kept: it may be sent.
    pub(super) durable: bool,
    /// The lane has it.
    handed: bool,
    /// `None` where only the journal has it.
    parcel: Option<Arc<Parcel>>,
}

impl Waiting {
    pub(super) fn new(parcel: &Arc<Parcel>) -> Self {
        Self {
            id: parcel.id,
            items: parcel.items,
            bytes: parcel.body.len() as u64,
            created_wall_ns: parcel.created_wall_ns,
            durable: false,
            handed: false,
            parcel: Some(Arc::clone(parcel)),
        }
    }
}

/// An endpoint.
pub(super) struct Line {
    pub(super) lane: Lane,
    pub(super) signal: Signal,
    /// By number, the oldest first.
    waiting: VecDeque<Waiting>,
}

impl Line {
    /// With what a former agent left for the signal, wherever it was to go then.
    pub(super) fn new(lane: Lane, signal: Signal, restored: &Restored) -> Self {
        let left = restored.parcels.iter().filter(|parcel| parcel.signal == name(signal));
        let waiting = left.map(|parcel| Waiting {
            id: parcel.id,
            items: parcel.items,
            bytes: parcel.bytes,
            created_wall_ns: parcel.created_wall_ns,
            durable: true,
            handed: false,
            parcel: None,
        });
        Self { lane, signal, waiting: waiting.collect() }
    }

    pub(super) fn add(&mut self, waiting: Waiting) {
        self.waiting.push_back(waiting);
    }

    pub(super) fn requests(&self) -> usize {
        self.waiting.len()
    }

    /// Requests whose bodies are here and not only in the journal.
    #[cfg(test)]
    pub(super) fn in_memory(&self) -> usize {
        self.waiting.iter().filter(|waiting| waiting.parcel.is_some()).count()
    }

    pub(super) fn items(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.items).sum()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.waiting.iter().map(|waiting| waiting.bytes).sum()
    }

    pub(super) fn undurable_bytes(&self) -> u64 {
        self.waiting.iter().rev().take_while(|waiting| !waiting.durable).map(|waiting| waiting.bytes).sum()
    }

    /// When the oldest was encoded.
    pub(super) fn oldest_wall_ns(&self) -> Option<u64> {
        self.waiting.front().map(|waiting| waiting.created_wall_ns)
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Waiting> {
        let at = self.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        self.waiting.remove(at)
    }

    /// The oldest one like this. The very first may be in flight, so the second is named where the lane has both.
    pub(super) fn oldest_idle(&self, wanted: impl Fn(&Waiting) -> bool) -> Option<u64> {
        let mut fitting = self.waiting.iter().enumerate().filter(|(_, waiting)| wanted(waiting));
        let (at, first) = fitting.next()?;
        if at == 0 && first.handed { fitting.next().map(|(_, second)| second.id) } else { Some(first.id) }
    }

    /// Removes one that is not in flight.
    pub(super) fn withdraw(&mut self, id: u64) -> Option<Waiting> {
        let at = self.waiting.binary_search_by_key(&id, |waiting| waiting.id).ok()?;
        if self.waiting[at].handed && !self.lane.withdraw(id) {
            return None;
        }
        self.waiting.remove(at)
    }

    /// Takes back from the lane what is not in flight.
    pub(super) fn recall(&mut self) {
        for waiting in self.waiting.iter_mut().filter(|waiting| waiting.handed) {
            waiting.handed = !self.lane.withdraw(waiting.id);
        }
    }

    /// The parcel is kept. Its body stays in memory only where it must, or where it is sent next.
    pub(super) fn written(&mut self, parcel: &Parcel, in_memory: bool) {
        let Ok(at) = self.waiting.binary_search_by_key(&parcel.id, |waiting| waiting.id) else { return };
        self.waiting[at].durable = true;
        if !in_memory && at >= WINDOW {
            self.waiting[at].parcel = None;
        }
    }

    /// Gives the lane what it has room for; the items of requests that are not there any more.
    pub(super) fn fill(&mut self, journal: &Journal) -> Vec<u64> {
        let mut lost = Vec::new();
        let (mut count, mut bytes) = self.lane.waiting();
        while count < WINDOW && bytes < WINDOW_BYTES {
            let Some(at) = self.waiting.iter().position(|waiting| !waiting.handed) else { break };
            if !self.waiting[at].durable {
                break;
            }
            if self.waiting[at].parcel.is_none() && !self.read(at, journal, &mut lost) {
                break;
            }
            let Some(next) = self.waiting.get_mut(at) else { break };
            let Some(parcel) = &next.parcel else { continue };
            next.handed = true;
            let request = Encoded { body: parcel.body.clone().into(), items: parcel.items };
            (count, bytes) = (count + 1, bytes + request.body.len());
            self.lane.push(next.id, request);
        }
        lost
    }

    /// Reads the bodies from there on. What the journal has lost is dropped; false when it cannot be read just now.
    fn read(&mut self, at: usize, journal: &Journal, lost: &mut Vec<u64>) -> bool {
        let first = self.waiting[at].id;
        let read = journal.read_parcels(name(self.signal), first.saturating_sub(1), WINDOW_BYTES as u64);
        let parcels = match read {
            Ok(parcels) => parcels,
            Err(reason) => {
                tracing::warn!(reason, "the outbox cannot be read");
                return false;
            }
        };
        // Everything before the first that was found, and everything if none was, is gone.
        let found = parcels.first().map_or(u64::MAX, |parcel| parcel.id);
        while let Some(gone) = self.waiting.get(at).filter(|waiting| waiting.id < found && waiting.durable) {
            lost.push(gone.items);
            self.waiting.remove(at);
        }
        for parcel in parcels.into_iter().take(WINDOW) {
            if let Ok(at) = self.waiting.binary_search_by_key(&parcel.id, |waiting| waiting.id) {
                self.waiting[at].parcel = Some(Arc::new(parcel));
            }
        }
        true
    }

    /// The file that held them is gone: the parcels that memory still has, and the items of the others.
    pub(super) fn begun_anew(&mut self) -> (Vec<Arc<Parcel>>, Vec<u64>) {
        let (mut kept, mut lost) = (Vec::new(), Vec::new());
        self.waiting.retain(|waiting| {
            if let Some(parcel) = &waiting.parcel {
                kept.push(Arc::clone(parcel));
                true
            } else {
                lost.push(waiting.items);
                false
            }
        });
        (kept, lost)
    }
}
