//! What the journal keeps for export: where each cumulative stream stands, how far export got, and the encoded requests
//! that are not delivered yet.
//!
//! Everything here goes into the transaction of the tick that it belongs to ([`Journal::commit`](crate::Journal::commit)
//! with a [`Shipper`]), so that a kill leaves either the tick with its export or neither. Nothing of it is encoded or sent
//! here: that is `perfwatch-export`'s business.

mod rows;

use std::collections::BTreeMap;
use std::sync::Arc;

use perfwatch_model::{Bounded, SeriesTable, Tick};

use crate::totals::{Amount, JournalId, Totals};

pub(crate) use rows::{TABLES, load, parcels, write};

/// One cumulative stream that leaves. What leaves is the series' total in the journal less `base`.
#[derive(Clone, Debug, PartialEq)]
pub struct Accumulator {
    /// When the stream began, in export time: nanoseconds since 1970.
    pub start_wall_ns: u64,
    /// Stamp of the newest point that was encoded.
    pub exported_wall_ns: u64,
    /// The series' total before the stream began; [`Amount::None`] where it was nothing.
    pub base: Amount,
    /// What a histogram with its server's own bounds gained since the stream began; the totals know no buckets of it.
    pub bounded: Option<Bounded>,
    /// The attributes of the points, as the exporter encoded them.
    pub attributes: Vec<u8>,
}

/// An encoded request on its way to one endpoint, or into the dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parcel {
    /// Its place in the order of sending; never given twice.
    pub id: u64,
    /// Where it goes.
    pub endpoint: String,
    /// `metrics` or `logs`.
    pub signal: String,
    /// When it was encoded, in nanoseconds since 1970.
    pub created_wall_ns: u64,
    /// Data points or log records within.
    pub items: u64,
    /// The request as it is sent, every time; compressed with gzip.
    pub body: Vec<u8>,
}

/// A parcel without its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParcelInfo {
    /// See [`Parcel::id`].
    pub id: u64,
    /// Where it goes.
    pub endpoint: String,
    /// `metrics` or `logs`.
    pub signal: String,
    /// Data points or log records within.
    pub items: u64,
    /// When it was encoded, in nanoseconds since 1970.
    pub created_wall_ns: u64,
    /// Bytes of its body.
    pub bytes: u64,
}

/// A part of a request that its receiver refused for good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// `metrics` or `logs`.
    pub signal: String,
    /// When it was refused, in nanoseconds since 1970.
    pub refused_wall_ns: u64,
    /// What the receiver said.
    pub why: String,
    /// Data points or log records within.
    pub items: u64,
    /// The part as a request of its own, compressed with gzip.
    pub body: Vec<u8>,
}

/// How far export got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportCursor {
    /// The newest tick that is in an encoded request.
    pub seq: u64,
    /// The newest stamp that export gave; none after it may be older.
    pub wall_ns: u64,
}

/// What the next transaction is to write for export.
#[derive(Clone, Debug, Default)]
pub struct Outgoing {
    /// Streams that began, moved on or ended (`None`).
    pub accumulators: BTreeMap<JournalId, Option<Accumulator>>,
    /// How far export got, where that changed.
    pub cursor: Option<ExportCursor>,
    /// New requests, in order.
    pub parcels: Vec<Arc<Parcel>>,
    /// Requests that are over: taken, refused or dropped.
    pub done: Vec<u64>,
    /// What was refused.
    pub dead: Vec<DeadLetter>,
    /// What was counted since the journal began, by name; only what changed.
    pub counts: BTreeMap<String, u64>,
}

impl Outgoing {
    /// True when there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.accumulators.is_empty()
            && self.cursor.is_none()
            && self.parcels.is_empty()
            && self.done.is_empty()
            && self.dead.is_empty()
            && self.counts.is_empty()
    }

    /// Bytes that writing it takes, about.
    pub fn bytes(&self) -> u64 {
        let parcels = self.parcels.iter().map(|parcel| parcel.body.len());
        let dead = self.dead.iter().map(|dead| dead.body.len());
        let streams = self.accumulators.values().flatten().map(|stream| 64 + stream.attributes.len());
        parcels.chain(dead).chain(streams).sum::<usize>() as u64
    }
}

/// What a journal holds for export when the agent starts.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    /// All streams, by the journal's number of their series.
    pub accumulators: BTreeMap<JournalId, Accumulator>,
    /// How far export got; `None` before the first.
    pub cursor: Option<ExportCursor>,
    /// Requests that are not delivered, oldest first.
    pub parcels: Vec<ParcelInfo>,
    /// The highest id that a parcel ever had; 0 before the first.
    pub newest_parcel: u64,
    /// What was counted, by name.
    pub counts: BTreeMap<String, u64>,
}

/// Takes part in each commit: sees the totals before and after a tick, and says what its transaction is to write for export.
/// Called with the totals locked: it must not wait.
pub trait Shipper {
    /// The totals before the tick is added to them.
    fn before(&mut self, tick: &Tick, table: &SeriesTable, totals: &Totals);

    /// The totals with the tick, which is number `seq` of the journal.
    fn after(&mut self, seq: u64, tick: &Tick, table: &SeriesTable, totals: &Totals);

    /// What is to be written with it, and everything that could not be written before.
    fn outgoing(&mut self) -> &Outgoing;

    /// All of that is in the journal now; in memory, it is as good as that.
    fn written(&mut self);

    /// The file was set aside and a new one begun: what was written must be written anew, and requests whose bodies only it
    /// held are lost.
    fn begun_anew(&mut self);
}

/// Ships nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoShipper;

static NOTHING: Outgoing = Outgoing {
    accumulators: BTreeMap::new(),
    cursor: None,
    parcels: Vec::new(),
    done: Vec::new(),
    dead: Vec::new(),
    counts: BTreeMap::new(),
};

impl Shipper for NoShipper {
    fn before(&mut self, _: &Tick, _: &SeriesTable, _: &Totals) {}

    fn after(&mut self, _: u64, _: &Tick, _: &SeriesTable, _: &Totals) {}

    fn outgoing(&mut self) -> &Outgoing {
        &NOTHING
    }

    fn written(&mut self) {}

    fn begun_anew(&mut self) {}
}
