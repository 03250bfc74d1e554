//! Keeps ticks: a [`Ring`] in memory, and the [`Cursor`]s that read it.
//!
//! One process writes, any number of readers follow, each with a cursor of its own. A reader that falls behind loses the
//! oldest ticks, never the newest, and is told how many it lost. Nothing here reads a clock: the age of a tick comes from
//! the stamps in it.

mod cursor;
mod ring;

pub use cursor::{Cursor, Step};
pub use ring::{DEFAULT_COUNT, DEFAULT_SPAN_NS, Ring};
