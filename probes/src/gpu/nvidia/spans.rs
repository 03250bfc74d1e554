//! What GPM told of the last seconds, by when it was so.

use std::collections::VecDeque;

use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{GpuSlot, Reading, Reason, Share};

use super::gpm::{UNITS, Unit, UnitReadings};
use super::link_slots::LONGEST_NS;

/// As many as two seconds of slots; a tick is asked for when it has just ended.
const MOST: usize = 2 * SLOTS;
/// A slot of which less than this is covered is not known.
pub(super) const COVERED_NS: u64 = SLOT_NS / 2;

/// One measurement of a device: what its units did between two samples.
#[derive(Clone, Debug)]
struct Span {
    /// `CLOCK_MONOTONIC`.
    from_ns: u64,
    to_ns: u64,
    units: UnitReadings,
    /// What went over the `PCIe` link, of what it can move.
    link: Share,
}

impl Span {
    fn length_ns(&self) -> u64 {
        self.to_ns.saturating_sub(self.from_ns).max(1)
    }
}

/// A device's measurements, oldest first.
#[derive(Debug)]
pub(crate) struct Spans {
    spans: VecDeque<Span>,
    /// How many of the newest were not told yet.
    untold: usize,
}

impl Default for Spans {
    fn default() -> Self {
        Self { spans: VecDeque::with_capacity(MOST), untold: 0 }
    }
}

impl Spans {
    /// Takes a measurement in.
    pub(crate) fn add(&mut self, from_ns: u64, to_ns: u64, units: UnitReadings, link: Share) {
        if self.spans.len() == MOST {
            self.spans.pop_front();
        }
        self.spans.push_back(Span { from_ns, to_ns, units, link });
        self.untold = (self.untold + 1).min(MOST);
    }

    /// Notes that nothing could be measured until now.
    pub(crate) fn fail(&mut self, now_ns: u64, reason: &Reason) {
        self.add(now_ns, now_ns, UNITS.map(|_| Reading::Unavailable(reason.clone())), Share::UNKNOWN);
    }

    /// What was measured since the last call, as one: the mean of each unit over the time in which it has a value. `None`
    /// without a measurement.
    pub(crate) fn told(&mut self) -> Option<UnitReadings> {
        let untold = std::mem::take(&mut self.untold);
        let spans = || self.spans.range(self.spans.len() - untold.min(self.spans.len())..);
        let newest = spans().next_back()?;
        Some(std::array::from_fn(|unit| {
            let known = || spans().filter_map(|span| Some((span.units[unit].as_value()?, span.length_ns())));
            let Some((first, _)) = known().next() else { return newest.units[unit].clone() };
            let whole: u64 = known().map(|(_, ns)| ns).sum();
            // As differences from the first, so that the mean of what does not change is just that.
            let beyond: f64 = known().map(|(share, ns)| (share - first) * ns as f64).sum();
            Reading::Value(first + beyond / whole as f64)
        }))
    }

    /// The ten slots that end at `end_ns`. Each has what the measurement says that covers most of it.
    pub(crate) fn slots(&self, end_ns: u64) -> [GpuSlot; SLOTS] {
        let mut before = None;
        std::array::from_fn(|at| {
            let overlap = |span: &Span| overlap(end_ns, at, span.from_ns, span.to_ns);
            let most = self.spans.iter().enumerate().max_by_key(|(_, span)| overlap(span));
            let most = most.filter(|(_, span)| overlap(span) >= COVERED_NS);
            let slot = most.map_or_else(GpuSlot::default, |(number, span)| GpuSlot {
                continued: before == Some(number),
                link: if span.length_ns() <= LONGEST_NS { span.link } else { Share::UNKNOWN },
                ..slot(&span.units)
            });
            before = most.map(|(number, _)| number);
            slot
        })
    }
}

/// How much of the slot `at` of those that end at `end_ns` lies between two times.
pub(super) fn overlap(end_ns: u64, at: usize, from_ns: u64, to_ns: u64) -> u64 {
    let first = end_ns.saturating_sub(SLOTS as u64 * SLOT_NS);
    let (from, to) = (first + at as u64 * SLOT_NS, first + (at as u64 + 1) * SLOT_NS);
    to_ns.min(to).saturating_sub(from_ns.max(from))
}

fn slot(units: &UnitReadings) -> GpuSlot {
    let share = |unit: Unit| units[unit as usize].as_value().copied();
    let of = |unit| share(unit).map_or(Share::UNKNOWN, Share::of);
    let pipes = || [Unit::Fp64, Unit::Fp32, Unit::Fp16, Unit::Integer].into_iter().filter_map(share);
    GpuSlot {
        graphics: of(Unit::Graphics),
        sm: of(Unit::Sm),
        tensor: of(Unit::Tensor),
        vector: pipes().reduce(f64::max).map_or(Share::UNKNOWN, Share::of),
        vectors: pipes().reduce(|one, other| one + other).map_or(Share::UNKNOWN, |sum| Share::of(sum.min(1.0))),
        dram: of(Unit::Dram),
        link: Share::UNKNOWN,
        continued: false,
    }
}

const _: () = assert!(UNITS.len() == 9, "a unit that was added may belong to a slot");

#[cfg(test)]
mod tests {
    use super::*;

    const END: u64 = 5_000_000_000;
    const MS: u64 = 1_000_000;

    fn units(graphics: f64) -> UnitReadings {
        let mut units = UNITS.map(|_| Reading::Value(0.0));
        units[Unit::Graphics as usize] = Reading::Value(graphics);
        units[Unit::Fp32 as usize] = Reading::Value(0.3);
        units[Unit::Tensor as usize] = Reading::Unavailable(Reason::fixed("none", ""));
        units
    }

    #[test]
    fn each_slot_has_the_measurement_that_covers_most_of_it() {
        let mut spans = Spans::default();
        // Samples come a little late, each by another amount.
        let mut from = END - 1000 * MS + MS;
        for at in 1..=10 {
            let to = END - 1000 * MS + at * 100 * MS + at % 3 * MS;
            spans.add(from, to, units(at as f64 / 10.0), Share::of(0.5));
            from = to;
        }
        let slots = spans.slots(END);
        let shares: Vec<_> = slots.iter().map(|slot| slot.graphics.get().expect("known")).collect();
        assert_eq!(shares, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0]);
        assert!(slots.iter().all(|slot| !slot.continued && slot.tensor == Share::UNKNOWN));
        assert_eq!((slots[0].vector.get(), slots[9].link.get()), (Some(0.3), Some(0.5)));
    }

    #[test]
    fn a_measurement_of_several_slots_is_told_as_one() {
        let mut spans = Spans::default();
        spans.add(END - 800 * MS, END - 300 * MS, units(0.5), Share::of(0.1));
        spans.add(END - 300 * MS, END - 200 * MS, units(0.7), Share::of(0.9));
        let slots = spans.slots(END);
        let known: Vec<_> = slots.iter().map(|slot| (slot.is_known(), slot.continued)).collect();
        let (no, begun, more) = ((false, false), (true, false), (true, true));
        assert_eq!(known, [no, no, begun, more, more, more, more, begun, no, no]);
        let of_link: Vec<_> = slots.iter().filter_map(|slot| slot.link.get()).collect();
        assert_eq!(of_link, [0.9], "nobody knows when in the five slots it was");
    }

    #[test]
    fn what_was_told_is_not_told_again() {
        let mut spans = Spans::default();
        assert!(spans.told().is_none());
        spans.add(0, 300, units(0.4), Share::UNKNOWN);
        spans.add(300, 400, units(0.8), Share::UNKNOWN);
        let told = spans.told().expect("two");
        assert_eq!(told[Unit::Graphics as usize], Reading::Value(0.5));
        assert!(matches!(told[Unit::Tensor as usize], Reading::Unavailable(_)));
        assert!(spans.told().is_none());
        (0..100).for_each(|at| spans.add(at, at + 1, units(0.1), Share::UNKNOWN));
        assert_eq!(spans.spans.len(), MOST);
        assert!(spans.told().is_some());
    }
}
