//! A reader's place in the history.

use std::convert::Infallible;
use std::sync::Arc;

use perfwatch_model::Tick;

use crate::archive::{Archive, ArchiveError};
use crate::ring::Ring;

/// What a [`Cursor`] reads: the present in memory, or the past on disk.
pub trait History {
    /// What reading can meet.
    type Error;

    /// Number of the oldest tick that is there, or of the next one when none is.
    ///
    /// # Errors
    /// It cannot be read.
    fn first(&self) -> Result<u64, Self::Error>;

    /// Number that the tick after the newest gets.
    ///
    /// # Errors
    /// It cannot be read.
    fn end(&self) -> Result<u64, Self::Error>;

    /// The first tick with this number or a higher one.
    ///
    /// # Errors
    /// It cannot be read.
    fn at_or_after(&self, seq: u64) -> Result<Option<(u64, Arc<Tick>)>, Self::Error>;
}

impl History for Ring {
    type Error = Infallible;

    fn first(&self) -> Result<u64, Infallible> {
        Ok(self.first_seq())
    }

    fn end(&self) -> Result<u64, Infallible> {
        Ok(self.next_seq())
    }

    fn at_or_after(&self, seq: u64) -> Result<Option<(u64, Arc<Tick>)>, Infallible> {
        let seq = seq.max(self.first_seq());
        Ok(self.get(seq).map(|tick| (seq, Arc::clone(tick))))
    }
}

impl History for Archive {
    type Error = ArchiveError;

    fn first(&self) -> Result<u64, ArchiveError> {
        Ok(self.span()?.map_or(0, |span| span.first_seq))
    }

    fn end(&self) -> Result<u64, ArchiveError> {
        Ok(self.span()?.map_or(0, |span| span.last_seq.saturating_add(1)))
    }

    fn at_or_after(&self, seq: u64) -> Result<Option<(u64, Arc<Tick>)>, ArchiveError> {
        let mut seq = seq;
        loop {
            if let Some(found) = self.ticks(seq, 1)?.pop() {
                return Ok(Some((found.seq, found.tick)));
            }
            // Nothing there, or a tick that is damaged: the one after it.
            match self.next_number(seq)? {
                Some(damaged) => seq = damaged.saturating_add(1),
                None => return Ok(None),
            }
        }
    }
}

/// What a [`Cursor`] came upon.
#[derive(Clone, Debug)]
pub struct Step {
    /// Number of the tick.
    pub seq: u64,
    /// The tick.
    pub tick: Arc<Tick>,
    /// How many ticks before this one left the ring unread since the last step. 0 for a reader that keeps up.
    pub missed: u64,
}

/// A reader's place in a [`History`], as the number of the tick it reads next: live, paused or in a replay.
///
/// A cursor borrows nothing: it can be kept beside the ring, behind the same lock, or far away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    next: u64,
}

impl Cursor {
    /// A cursor that will read only what comes from now on.
    pub fn live(ring: &Ring) -> Self {
        Self { next: ring.next_seq() }
    }

    /// A cursor that begins with the oldest tick held.
    pub fn oldest(ring: &Ring) -> Self {
        Self { next: ring.first_seq() }
    }

    /// A cursor that reads the tick with this number next. Resumes a reader that remembers where it was.
    pub fn at(seq: u64) -> Self {
        Self { next: seq }
    }

    /// Number of the tick that is read next.
    pub fn position(&self) -> u64 {
        self.next
    }

    /// True when everything in the ring was read.
    pub fn is_live(&self, ring: &Ring) -> bool {
        self.next >= ring.next_seq()
    }

    /// Reads the next tick; `None` when it has yet to come. A reader that fell behind continues with the oldest tick held
    /// and learns how many it missed.
    pub fn advance(&mut self, ring: &Ring) -> Option<Step> {
        let Ok(step) = self.read(ring);
        step
    }

    /// The same in any history.
    ///
    /// # Errors
    /// The history cannot be read; the place stays.
    pub fn read<H: History>(&mut self, history: &H) -> Result<Option<Step>, H::Error> {
        let Some((seq, tick)) = history.at_or_after(self.next)? else { return Ok(None) };
        let missed = seq - self.next;
        self.next = seq + 1;
        Ok(Some(Step { seq, tick, missed }))
    }

    /// Moves to the first tick that ends at or after `mono_ns` (`CLOCK_MONOTONIC`): to the oldest tick held when all end
    /// later, to the one to come when all ended earlier. Ticks passed over this way are not missed.
    pub fn seek(&mut self, ring: &Ring, mono_ns: u64) {
        self.next = ring.seek(mono_ns);
    }

    /// Skips to the present.
    pub fn go_live(&mut self, ring: &Ring) {
        *self = Self::live(ring);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::Stamp;

    const SECOND: u64 = 1_000_000_000;

    fn ring(seconds: u64) -> Ring {
        let mut ring = Ring::new(4 * SECOND, 100);
        (1..=seconds).for_each(|second| push(&mut ring, second));
        ring
    }

    fn push(ring: &mut Ring, second: u64) {
        let end = Stamp { mono_ns: second * SECOND, wall_ns: 0 };
        ring.push(Arc::new(Tick { end, dt_ns: SECOND, ..Tick::default() }));
    }

    fn seconds(cursor: &mut Cursor, ring: &Ring) -> Vec<u64> {
        std::iter::from_fn(|| cursor.advance(ring)).map(|step| step.tick.end.mono_ns / SECOND).collect()
    }

    #[test]
    fn a_live_cursor_reads_only_what_comes_later() {
        let mut ring = ring(2);
        let mut cursor = Cursor::live(&ring);
        assert!(cursor.is_live(&ring) && cursor.advance(&ring).is_none());
        push(&mut ring, 3);
        assert!(!cursor.is_live(&ring));
        let step = cursor.advance(&ring).expect("a tick came");
        assert_eq!((step.seq, step.missed, step.tick.end.mono_ns), (2, 0, 3 * SECOND));
        assert!(cursor.is_live(&ring));
    }

    #[test]
    fn a_reader_that_falls_behind_is_told_how_many_ticks_it_missed_once() {
        let mut ring = ring(2);
        let mut cursor = Cursor::oldest(&ring);
        cursor.advance(&ring).expect("the first tick");
        (3..=9).for_each(|second| push(&mut ring, second));
        let step = cursor.advance(&ring).expect("the oldest tick held");
        assert_eq!((step.missed, step.tick.end.mono_ns), (4, 6 * SECOND), "2 to 5 left unread");
        assert_eq!(cursor.advance(&ring).map(|step| step.missed), Some(0));
    }

    #[test]
    fn a_cursor_seeks_by_time_and_comes_back_live() {
        let ring = ring(4);
        let mut cursor = Cursor::live(&ring);
        cursor.seek(&ring, 3 * SECOND);
        assert_eq!(seconds(&mut cursor, &ring), [3, 4]);
        cursor.seek(&ring, 0);
        assert_eq!(seconds(&mut cursor, &ring), [1, 2, 3, 4]);
        cursor.seek(&ring, 0);
        cursor.go_live(&ring);
        assert_eq!(cursor, Cursor::at(4));
    }

    #[test]
    fn a_cursor_from_the_future_waits_for_its_tick() {
        let mut ring = ring(1);
        let mut cursor = Cursor::at(2);
        assert!(cursor.advance(&ring).is_none());
        (2..=3).for_each(|second| push(&mut ring, second));
        assert_eq!(cursor.advance(&ring).map(|step| step.seq), Some(2));
    }
}
