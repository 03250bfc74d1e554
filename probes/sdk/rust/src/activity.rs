//! Who is in which stage, kept so that time in a stage comes out exactly, requests in flight included.
//!
//! The occupancy of a stage over a slot, ∫ n dt, is linear in the entries and departures, so it does not matter which
//! thread counts which: a request may enter on one thread and leave on another, and the shards' sum is right. Each shard
//! keeps running totals (never reset) and, for the last 3.2 s, the changes per 100 ms slot. A reader goes *backward* from
//! the totals: state at the end of a slot = totals − changes after it. So a change that comes after its slot was read is
//! still in every later total.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU64, fence};

use perfwatch_model::Stage;
use perfwatch_model::tick::SLOT_NS;

/// Slots that a shard remembers: 2 s to report, up to 1.1 s until they are read, one to spare.
pub(crate) const RING: u64 = 32;
/// What is counted beside the stages.
pub(crate) const COUNTERS: usize = 6;

/// Places in [`Changes::counts`].
#[derive(Clone, Copy)]
pub(crate) enum Counter {
    Started,
    Completed,
    Failed,
    Abandoned,
    Dispatches,
    DispatchesReady2,
}

/// Changes of the stages and counters; all arithmetic is modulo 2^64, negative numbers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Entries minus departures.
    pub(crate) n: [u64; Stage::COUNT],
    /// Sum of departure times minus sum of entry times, each relative to the slot's start (in totals: absolute).
    pub(crate) t: [u64; Stage::COUNT],
    pub(crate) counts: [u64; COUNTERS],
}

impl Changes {
    pub(crate) fn add(&mut self, other: &Self) {
        for (mine, theirs) in self.n.iter_mut().zip(other.n) {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.t.iter_mut().zip(other.t) {
            *mine = mine.wrapping_add(theirs);
        }
        for (mine, theirs) in self.counts.iter_mut().zip(other.counts) {
            *mine = mine.wrapping_add(theirs);
        }
    }
}

#[derive(Default)]
struct Cells {
    n: [AtomicU64; Stage::COUNT],
    t: [AtomicU64; Stage::COUNT],
    counts: [AtomicU64; COUNTERS],
}

impl Cells {
    fn load(&self) -> Changes {
        Changes {
            n: std::array::from_fn(|at| self.n[at].load(Relaxed)),
            t: std::array::from_fn(|at| self.t[at].load(Relaxed)),
            counts: std::array::from_fn(|at| self.counts[at].load(Relaxed)),
        }
    }

    fn clear(&self) {
        for cell in self.n.iter().chain(&self.t).chain(&self.counts) {
            cell.store(0, Relaxed);
        }
    }

    fn enter(&self, stage: Stage, at: u64) {
        bump(&self.n[stage.index()], 1);
        bump(&self.t[stage.index()], at.wrapping_neg());
    }

    fn leave(&self, stage: Stage, at: u64) {
        bump(&self.n[stage.index()], 1u64.wrapping_neg());
        bump(&self.t[stage.index()], at);
    }
}

/// Adds without a locked instruction: only the owning thread writes.
#[inline]
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

#[derive(Default)]
struct RingSlot {
    /// Slot index plus one, so that 0 means never used.
    tag: AtomicU64,
    cells: Cells,
}

/// One thread's part of a server's activity. Only that thread writes it; it passes on when the thread ends.
#[repr(align(64))]
pub(crate) struct Activity {
    /// Odd while the owner writes: totals and slots must be read as of one instant.
    version: AtomicU64,
    totals: Cells,
    ring: [RingSlot; RING as usize],
    /// Taken by writers of a shard that several threads share (see [`Activity::shared`]).
    busy: AtomicBool,
}

/// What one step of a request's life changes.
#[derive(Clone, Copy)]
pub(crate) struct Step {
    pub(crate) from: Option<Stage>,
    pub(crate) to: Option<Stage>,
    pub(crate) counter: Option<Counter>,
    pub(crate) second: Option<Counter>,
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            totals: Cells::default(),
            ring: std::array::from_fn(|_| RingSlot::default()),
            busy: AtomicBool::new(false),
        }
    }

    /// Takes one step at time `now`; only the owning thread may call it.
    pub(crate) fn step(&self, step: Step, now: u64) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);

        let index = now / SLOT_NS;
        let slot = &self.ring[(index % RING) as usize];
        let tag = slot.tag.load(Relaxed);
        if tag < index + 1 {
            slot.cells.clear();
            slot.tag.store(index + 1, Relaxed);
        }
        // A later tag is possible only in a shared shard, whose writers may overtake each other by a whole ring.
        let cells = (tag <= index + 1).then_some(&slot.cells);
        let offset = now % SLOT_NS;
        if let Some(stage) = step.to {
            self.totals.enter(stage, now);
            cells.inspect(|cells| cells.enter(stage, offset));
        }
        if let Some(stage) = step.from {
            self.totals.leave(stage, now);
            cells.inspect(|cells| cells.leave(stage, offset));
        }
        for counter in [step.counter, step.second].into_iter().flatten() {
            bump(&self.totals.counts[counter as usize], 1);
            cells.inspect(|cells| bump(&cells.counts[counter as usize], 1));
        }

        self.version.store(version.wrapping_add(2), Release);
    }

    /// Takes one step in a shard that several threads share. Spins for the nanoseconds another one is inside; used only
    /// by a thread's last breath and by its first one when the gate is closed.
    pub(crate) fn shared(&self, step: Step, now: u64) {
        while self.busy.swap(true, Acquire) {
            std::hint::spin_loop();
        }
        self.step(step, now);
        self.busy.store(false, Release);
    }

    /// Totals and the changes of slots `first..`, all as of one instant. `None` if the owner kept writing through
    /// many attempts, or was preempted inside a step for long.
    pub(crate) fn read(&self, first: u64, slots: &mut [Changes]) -> Option<Changes> {
        for attempt in 0..1_000 {
            let before = self.version.load(Acquire);
            if before % 2 == 1 {
                if attempt % 16 == 15 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
                continue;
            }
            let totals = self.totals.load();
            for (offset, changes) in slots.iter_mut().enumerate() {
                let index = first + offset as u64;
                let slot = &self.ring[(index % RING) as usize];
                *changes = if slot.tag.load(Relaxed) == index + 1 { slot.cells.load() } else { Changes::default() };
            }
            fence(Acquire);
            if self.version.load(Relaxed) == before {
                return Some(totals);
            }
        }
        None
    }
}
