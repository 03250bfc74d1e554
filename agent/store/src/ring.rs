//! The newest ticks, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use perfwatch_model::{Histogram, Tick, Window};

/// How far back the ring reaches: long enough for every rule's window and for a screen of history.
pub const DEFAULT_SPAN_NS: u64 = 120_000_000_000;
/// How many ticks it holds at most: twice the ticks of [`DEFAULT_SPAN_NS`] at one a second, so that only ticks that are
/// shorter than they should be (a clock that misbehaves) ever meet this bound.
pub const DEFAULT_COUNT: usize = 240;
/// How many bytes it holds at most, more or less. Two minutes of fifty servers are a tenth of it; a few hundred servers, or
/// one that means harm with its distributions, get a shorter history instead of the machine's memory.
const MAX_BYTES: usize = 256 << 20;

/// The newest ticks, numbered without gaps in the order in which they came.
///
/// Bounded by time, by count and by 256 MiB. What exceeds a bound is dropped from the old end at once; readers that had not
/// seen it are told by their [`crate::Cursor`].
#[derive(Debug)]
pub struct Ring {
    ticks: VecDeque<Arc<Tick>>,
    /// Number of the oldest tick held, or of the next one while the ring is empty.
    first: u64,
    covered_ns: u64,
    bytes: usize,
    span_ns: u64,
    count: usize,
    max_bytes: usize,
}

impl Default for Ring {
    fn default() -> Self {
        Self::new(DEFAULT_SPAN_NS, DEFAULT_COUNT)
    }
}

impl Ring {
    /// An empty ring that holds up to `span_ns` nanoseconds of history in up to `count` ticks, and always the newest tick.
    pub fn new(span_ns: u64, count: usize) -> Self {
        Self {
            ticks: VecDeque::new(),
            first: 0,
            covered_ns: 0,
            bytes: 0,
            span_ns,
            count: count.max(1),
            max_bytes: MAX_BYTES,
        }
    }

    /// Adds the newest tick and returns its number. Drops what no longer fits.
    pub fn push(&mut self, tick: Arc<Tick>) -> u64 {
        self.covered_ns = self.covered_ns.saturating_add(tick.dt_ns);
        self.bytes += bytes(&tick);
        self.ticks.push_back(tick);
        while self.ticks.len() > 1 && self.is_over() {
            let Some(dropped) = self.ticks.pop_front() else { break };
            self.bytes -= bytes(&dropped);
            self.covered_ns -= dropped.dt_ns;
            self.first += 1;
        }
        self.next_seq() - 1
    }

    fn is_over(&self) -> bool {
        self.covered_ns > self.span_ns || self.ticks.len() > self.count || self.bytes > self.max_bytes
    }

    /// Number of the oldest tick that is still here; equals [`Ring::next_seq`] when there is none.
    pub fn first_seq(&self) -> u64 {
        self.first
    }

    /// Number that the next tick will get.
    pub fn next_seq(&self) -> u64 {
        self.first + self.ticks.len() as u64
    }

    /// A tick by number; `None` when it has left or has yet to come.
    pub fn get(&self, seq: u64) -> Option<&Arc<Tick>> {
        self.ticks.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }

    /// The newest tick.
    pub fn latest(&self) -> Option<&Arc<Tick>> {
        self.ticks.back()
    }

    /// The ticks, oldest first, with their numbers.
    pub fn iter(&self) -> impl Iterator<Item = (u64, &Arc<Tick>)> {
        (self.first..).zip(&self.ticks)
    }

    /// Number of the oldest tick held that ends at or after `mono_ns` (`CLOCK_MONOTONIC`); [`Ring::next_seq`] when all
    /// ended earlier.
    pub fn seek(&self, mono_ns: u64) -> u64 {
        self.first + self.ticks.partition_point(|tick| tick.end.mono_ns < mono_ns) as u64
    }

    /// Nanoseconds of history held.
    pub fn covered_ns(&self) -> u64 {
        self.covered_ns
    }

    /// How many ticks are held.
    pub fn len(&self) -> usize {
        self.ticks.len()
    }

    /// True before the first tick.
    pub fn is_empty(&self) -> bool {
        self.ticks.is_empty()
    }

    /// Questions about the history held.
    pub fn window(&self) -> Window<'_> {
        Window::new(&self.ticks)
    }
}

/// What a tick takes, near enough: its lists, and what hangs from them.
fn bytes(tick: &Tick) -> usize {
    let lists = size_of_val(&*tick.values)
        + size_of_val(&*tick.histograms)
        + size_of_val(&*tick.absent)
        + size_of_val(&*tick.servers)
        + size_of_val(&*tick.gpus);
    let distributions = tick.histograms.iter().map(|(_, histogram)| match histogram {
        Histogram::Hdr(hdr) => size_of_val(hdr.buckets()),
        Histogram::Bounded(bounded) => size_of_val(&*bounded.bounds) + size_of_val(&*bounded.counts),
    });
    lists + distributions.sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{SeriesId, SparseHdr, Stamp};

    const SECOND: u64 = 1_000_000_000;

    fn tick(second: u64) -> Arc<Tick> {
        let end = Stamp { mono_ns: second * SECOND, wall_ns: 0 };
        Arc::new(Tick { end, dt_ns: SECOND, ..Tick::default() })
    }

    #[test]
    fn a_ring_holds_its_span_and_no_more() {
        let mut ring = Ring::new(3 * SECOND, 100);
        assert_eq!((ring.first_seq(), ring.next_seq(), ring.is_empty()), (0, 0, true));
        for second in 1..=5 {
            assert_eq!(ring.push(tick(second)), second - 1);
        }
        assert_eq!((ring.len(), ring.covered_ns(), ring.first_seq(), ring.next_seq()), (3, 3 * SECOND, 2, 5));
        assert!(ring.get(1).is_none() && ring.get(5).is_none());
        assert_eq!(ring.get(2).map(|tick| tick.end.mono_ns), Some(3 * SECOND));
    }

    #[test]
    fn ticks_that_are_too_short_meet_the_bound_by_count() {
        let mut ring = Ring::new(1_000 * SECOND, 4);
        for second in 1..=10 {
            ring.push(tick(second));
        }
        assert_eq!(ring.len(), 4);
        assert_eq!(ring.covered_ns(), 4 * SECOND);
    }

    #[test]
    fn ticks_that_are_too_large_meet_the_bound_by_bytes() {
        let mut ring = Ring { max_bytes: 100_000, ..Ring::default() };
        for second in 1..=20 {
            let mut wide = SparseHdr::new();
            (0..1_000).for_each(|value| wide.record(value << (value % 20)));
            let histograms = vec![(SeriesId(1), Histogram::Hdr(wide))];
            ring.push(Arc::new(Tick { histograms, ..Tick::clone(&tick(second)) }));
        }
        let held: usize = ring.iter().map(|(_, tick)| bytes(tick)).sum();
        assert_eq!(held, ring.bytes);
        assert!(held <= 100_000 && ring.len() > 5, "{held} bytes in {} ticks", ring.len());
    }

    #[test]
    fn the_newest_tick_stays_even_when_it_is_longer_than_the_span() {
        let mut ring = Ring::new(SECOND, 4);
        ring.push(tick(1));
        ring.push(Arc::new(Tick { dt_ns: 60 * SECOND, ..Tick::default() }));
        assert_eq!((ring.len(), ring.first_seq()), (1, 1));
    }

    #[test]
    fn seeking_finds_the_first_tick_that_ends_at_or_after_an_instant() {
        let mut ring = Ring::new(3 * SECOND, 100);
        (1..=5).for_each(|second| _ = ring.push(tick(second)));
        assert_eq!(ring.seek(0), 2, "older than all: the oldest held");
        assert_eq!(ring.seek(4 * SECOND), 3);
        assert_eq!(ring.seek(4 * SECOND + 1), 4);
        assert_eq!(ring.seek(9 * SECOND), 5, "newer than all: the one to come");
    }

    #[test]
    fn the_window_ends_with_the_newest_tick() {
        let mut ring = Ring::default();
        (1..=4).for_each(|second| _ = ring.push(tick(second)));
        assert_eq!(ring.window().latest().map(|tick| tick.end.mono_ns), Some(4 * SECOND));
        assert_eq!(ring.window().last(2 * SECOND).map(|ticks| ticks.len()), Some(2));
        let numbers: Vec<u64> = ring.iter().map(|(seq, _)| seq).collect();
        assert_eq!(numbers, [0, 1, 2, 3]);
    }
}
