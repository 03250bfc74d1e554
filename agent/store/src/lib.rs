//! Keeps ticks: a [`Ring`] in memory, the [`Cursor`]s that read it, and a [`Journal`] on disk.
//!
//! One process writes, any number of readers follow, each with a cursor of its own. A reader that falls behind loses the
//! oldest ticks, never the newest, and is told how many it lost. Nothing here reads a clock: the age of a tick comes from
//! the stamps in it.
//!
//! The journal is an `SQLite` database. One transaction per tick holds the tick, what every series amounts to since the
//! journal began ([`Totals`]), and how far each SDK session got, so that nothing is lost or counted twice when the agent
//! is killed. It never fails its caller: what cannot be written stays in memory, its [`Status`] says so, and the journal
//! returns to disk by itself.

mod archive;
mod codec;
mod cursor;
mod entities;
#[doc(hidden)]
pub mod failpoint;
mod journal;
mod judged;
mod minute;
mod outbox;
mod ring;
mod totals;

pub use archive::{Archive, ArchiveError, Archived, ArchivedMinute, Span, Unnamed, When, newest};
pub use codec::{StoredTick, decode};
pub use cursor::{Cursor, History, Step};
pub use journal::{
    Commit, DEFAULT_KEEP_MINUTES_S, DEFAULT_KEEP_S, Journal, JournalOptions, Kept, MIN_CAP, Place, Progress, Reader,
    SESSION_BYTES, Status, holds_something_else,
};
pub use judged::{FindingRow, LedgerKind, LedgerOf, LedgerRow};
pub use minute::{Minute, Spread};
pub use outbox::{Accumulator, DeadLetter, ExportCursor, NoShipper, Outgoing, Parcel, ParcelInfo, Restored, Shipper};
pub use ring::{DEFAULT_COUNT, DEFAULT_SPAN_NS, Ring};
pub use totals::{Amount, Distribution, Entry, JournalId, SeriesKey, SeriesTotal, Totals};
