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

mod codec;
mod cursor;
#[doc(hidden)]
pub mod failpoint;
mod journal;
mod ring;
mod totals;

pub use codec::{StoredTick, decode};
pub use cursor::{Cursor, Step};
pub use journal::{Commit, Journal, JournalOptions, Kept, MIN_CAP, Place, Progress, Reader, SESSION_BYTES, Status};
pub use ring::{DEFAULT_COUNT, DEFAULT_SPAN_NS, Ring};
pub use totals::{Amount, Distribution, JournalId, SeriesKey, SeriesTotal, Totals};
