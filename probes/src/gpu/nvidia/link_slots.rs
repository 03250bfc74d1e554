//! What a link's counters say of it slot by slot, as shares of what it can move.

use std::collections::VecDeque;

use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{GpuSlot, Share};

use super::spans::{COVERED_NS, overlap};

/// As many as three seconds of slots: an answer may be late.
const MOST: usize = 3 * SLOTS;
/// What is longer is of several slots, and nobody knows of which: who takes it for each of them may count it twice.
pub(super) const LONGEST_NS: u64 = 3 * SLOT_NS / 2;

#[derive(Clone, Copy, Debug)]
struct Piece {
    /// `CLOCK_MONOTONIC`.
    from_ns: u64,
    to_ns: u64,
    share: Share,
}

/// A link's pieces, oldest first; without room until there is one.
#[derive(Debug, Default)]
pub(super) struct LinkSlots {
    pieces: VecDeque<Piece>,
}

impl LinkSlots {
    /// Takes in what went over a link, in the direction in which more went, that moves `rate` in a second.
    pub(super) fn add(&mut self, from_ns: u64, to_ns: u64, bytes: u64, rate: f64) {
        if self.pieces.capacity() == 0 {
            self.pieces.reserve_exact(MOST);
        }
        if self.pieces.len() == MOST {
            self.pieces.pop_front();
        }
        let share = share_of_link(bytes as f64 / (to_ns.saturating_sub(from_ns).max(1) as f64 / 1e9), rate);
        self.pieces.push_back(Piece { from_ns, to_ns, share });
    }

    /// Lays them beside the ten slots that end at `end_ns`.
    pub(super) fn lay(&self, end_ns: u64, slots: &mut [GpuSlot; SLOTS]) {
        if self.pieces.is_empty() {
            return;
        }
        for (at, slot) in slots.iter_mut().enumerate() {
            let overlap = |piece: &Piece| overlap(end_ns, at, piece.from_ns, piece.to_ns);
            let most = self.pieces.iter().max_by_key(|piece| overlap(piece));
            let is_of_it = |piece: &&Piece| {
                overlap(piece) >= COVERED_NS && piece.to_ns.saturating_sub(piece.from_ns) <= LONGEST_NS
            };
            slot.link = most.filter(is_of_it).map_or(Share::UNKNOWN, |piece| piece.share);
        }
    }
}

/// So many bytes a second, of those that a link moves at most; unknown where they are more.
pub(super) fn share_of_link(bytes_per_s: f64, rate: f64) -> Share {
    Share::of(bytes_per_s / rate)
}

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 5_000_000_000;
    const MS: u64 = 1_000_000;

    #[test]
    fn a_burst_is_in_its_slot_and_what_is_of_several_slots_in_none() {
        let mut link = LinkSlots::default();
        let from = END - 1000 * MS;
        // Reads come some milliseconds after the slot's end; of two slots there is one read.
        let ends = [102, 201, 303, 401, 600, 702, 801];
        let bytes = [0, 0, 75_000_000, 0, 20_000_000, 0, 500_000_000];
        let mut before = 0;
        for (end, bytes) in ends.into_iter().zip(bytes) {
            link.add(from + before * MS, from + end * MS, bytes, 1e9);
            before = end;
        }
        let mut slots = [GpuSlot::default(); SLOTS];
        link.lay(END, &mut slots);
        let told: Vec<_> = slots.iter().map(|slot| slot.link.get().map(|share| (share * 100.0).round())).collect();
        let (idle, no) = (Some(0.0), None);
        assert_eq!(told, [idle, idle, Some(74.0), idle, no, no, idle, no, no, no], "and more than all is not so");
    }
}
