//! Who is in which stage, kept so that time in a stage comes out exactly, requests in flight included.
//!
//! The occupancy of a stage over a slot, ∫ n dt, is linear in the entries and departures, so it does not matter which
//! thread counts which: a request may enter on one thread and leave on another, and the shards' sum is right. Each shard
//! keeps running totals (never reset) and, for the last 3.2 s, the changes per 100 ms slot (what is only counted: per second,
//! which keeps a shard within 8 KiB). A reader goes *backward* from
//! the totals: state at the end of a slot = totals − changes after it. So a change that comes after its slot was read is
//! still in every later total.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, fence};

use perfwatch_model::Stage;
use perfwatch_model::tick::SLOT_NS;

use crate::clock::SECOND;
use crate::errors::Kind;

/// Slots that a shard remembers: 2 s to report, up to 1.1 s until they are read, one to spare.
pub(crate) const RING: u64 = 32;
/// Whole seconds whose counts a shard remembers: as many as the slots of a ring can touch.
const SECONDS: u64 = (RING * SLOT_NS).div_ceil(SECOND);
/// Kinds of errors told apart: `other` and 15 of the server's own.
pub(crate) const KINDS: usize = 16;
/// What is counted beside the stages.
pub(crate) const COUNTERS: usize = 10 + KINDS;

/// What is counted beside the stages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Counter {
    Started,
    Completed,
    Cancelled,
    Abandoned,
    Dispatches,
    DispatchesReady2,
    PromptTokens,
    GeneratedTokens,
    CacheHits,
    CacheMisses,
    Failed(Kind),
}

impl Counter {
    /// Its place in [`Counts`].
    #[inline]
    pub(crate) const fn place(self) -> usize {
        match self {
            Self::Started => 0,
            Self::Completed => 1,
            Self::Cancelled => 2,
            Self::Abandoned => 3,
            Self::Dispatches => 4,
            Self::DispatchesReady2 => 5,
            Self::PromptTokens => 6,
            Self::GeneratedTokens => 7,
            Self::CacheHits => 8,
            Self::CacheMisses => 9,
            Self::Failed(kind) => 10 + kind.index(),
        }
    }
}

/// All counters, by [`Counter::place`], modulo 2^64.
pub(crate) type Counts = [u64; COUNTERS];

/// Changes of the stages; all arithmetic is modulo 2^64, negative numbers included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Entries minus departures.
    pub(crate) n: [u64; Stage::COUNT],
    /// Sum of departure times minus sum of entry times, each relative to the slot's start (in totals: absolute).
    pub(crate) t: [u64; Stage::COUNT],
}

impl Changes {
    pub(crate) fn add(&mut self, other: &Self) {
        add(&mut self.n, &other.n);
        add(&mut self.t, &other.t);
    }
}

fn add(mine: &mut [u64], theirs: &[u64]) {
    mine.iter_mut().zip(theirs).for_each(|(mine, theirs)| *mine = mine.wrapping_add(*theirs));
}

/// Running totals of shards, and what they counted lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) changes: Changes,
    pub(crate) counts: Counts,
    /// Of `counts`, what was counted since the second in question began.
    pub(crate) counted_since: Counts,
}

impl Totals {
    pub(crate) fn add(&mut self, other: &Self) {
        self.changes.add(&other.changes);
        add(&mut self.counts, &other.counts);
        add(&mut self.counted_since, &other.counted_since);
    }
}

/// Running totals of the stages.
#[derive(Default)]
struct Cells {
    n: [AtomicU64; Stage::COUNT],
    t: [AtomicU64; Stage::COUNT],
}

impl Cells {
    fn load(&self) -> Changes {
        Changes {
            n: std::array::from_fn(|at| self.n[at].load(Relaxed)),
            t: std::array::from_fn(|at| self.t[at].load(Relaxed)),
        }
    }

    #[inline]
    fn change(&self, stage: Stage, by: u64, time: u64) {
        bump(&self.n[stage.index()], by);
        bump(&self.t[stage.index()], time);
    }
}

/// Changes of the stages within one slot. Half the width does for entries: no thread takes 2^31 steps in 100 ms.
#[derive(Default)]
struct RingSlot {
    /// Slot index plus one, so that 0 means never used.
    tag: AtomicU64,
    n: [AtomicU32; Stage::COUNT],
    t: [AtomicU64; Stage::COUNT],
}

impl RingSlot {
    fn load(&self) -> Changes {
        let signed = |n: &AtomicU32| i64::from(n.load(Relaxed).cast_signed()).cast_unsigned();
        Changes {
            n: std::array::from_fn(|at| signed(&self.n[at])),
            t: std::array::from_fn(|at| self.t[at].load(Relaxed)),
        }
    }

    fn clear(&self) {
        self.n.iter().for_each(|cell| cell.store(0, Relaxed));
        self.t.iter().for_each(|cell| cell.store(0, Relaxed));
    }

    #[inline]
    fn change(&self, stage: Stage, by: u32, time: u64) {
        let n = &self.n[stage.index()];
        n.store(n.load(Relaxed).wrapping_add(by), Relaxed);
        bump(&self.t[stage.index()], time);
    }
}

/// What was counted within one second. Counts are told by whole seconds only, so they need no slots.
struct RingSecond {
    /// Number of the second plus one, so that 0 means never used.
    tag: AtomicU64,
    counts: [AtomicU64; COUNTERS],
}

impl Default for RingSecond {
    fn default() -> Self {
        Self { tag: AtomicU64::new(0), counts: [const { AtomicU64::new(0) }; COUNTERS] }
    }
}

/// Adds without a locked instruction: only the owning thread writes.
#[inline]
fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Relaxed).wrapping_add(by), Relaxed);
}

/// One thread's part of a server's activity. Only that thread writes it; it passes on when the thread ends.
#[repr(align(64))]
pub(crate) struct Activity {
    /// Odd while the owner writes: totals and slots must be read as of one instant.
    version: AtomicU64,
    totals: Cells,
    counts: [AtomicU64; COUNTERS],
    ring: [RingSlot; RING as usize],
    seconds: [RingSecond; SECONDS as usize],
    /// Taken by writers of a shard that several threads share (see [`Activity::shared`]).
    busy: AtomicBool,
}

/// What one step of a request's life changes.
#[derive(Clone, Copy, Default)]
pub(crate) struct Step {
    pub(crate) from: Option<Stage>,
    pub(crate) to: Option<Stage>,
    pub(crate) count: Option<(Counter, u64)>,
    pub(crate) second: Option<(Counter, u64)>,
}

impl Step {
    /// A step that only counts.
    pub(crate) fn count(counter: Counter, by: u64) -> Self {
        Self { count: Some((counter, by)), ..Self::default() }
    }
}

impl Activity {
    pub(crate) fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            totals: Cells::default(),
            counts: [const { AtomicU64::new(0) }; COUNTERS],
            ring: std::array::from_fn(|_| RingSlot::default()),
            seconds: std::array::from_fn(|_| RingSecond::default()),
            busy: AtomicBool::new(false),
        }
    }

    /// Takes one step at time `now`; only the owning thread may call it.
    pub(crate) fn step(&self, step: Step, now: u64) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(1), Relaxed);
        fence(Release);
        if step.from.is_some() || step.to.is_some() {
            self.change(step.from, step.to, now);
        }
        if step.count.is_some() {
            self.add([step.count, step.second], now);
        }
        self.version.store(version.wrapping_add(2), Release);
    }

    #[inline]
    fn change(&self, from: Option<Stage>, to: Option<Stage>, now: u64) {
        let index = now / SLOT_NS;
        let slot = &self.ring[(index % RING) as usize];
        let tag = slot.tag.load(Relaxed);
        if tag < index + 1 {
            slot.clear();
            slot.tag.store(index + 1, Relaxed);
        }
        // A later tag is possible only in a shared shard, whose writers may overtake each other by a whole ring.
        let slot = (tag <= index + 1).then_some(slot);
        let offset = now % SLOT_NS;
        if let Some(stage) = to {
            self.totals.change(stage, 1, now.wrapping_neg());
            slot.inspect(|slot| slot.change(stage, 1, offset.wrapping_neg()));
        }
        if let Some(stage) = from {
            self.totals.change(stage, 1u64.wrapping_neg(), now);
            slot.inspect(|slot| slot.change(stage, 1u32.wrapping_neg(), offset));
        }
    }

    #[inline]
    fn add(&self, counts: [Option<(Counter, u64)>; 2], now: u64) {
        let index = now / SECOND;
        let second = &self.seconds[(index % SECONDS) as usize];
        let tag = second.tag.load(Relaxed);
        if tag < index + 1 {
            second.counts.iter().for_each(|cell| cell.store(0, Relaxed));
            second.tag.store(index + 1, Relaxed);
        }
        let second = (tag <= index + 1).then_some(second);
        for (counter, by) in counts.into_iter().flatten() {
            bump(&self.counts[counter.place()], by);
            second.inspect(|second| bump(&second.counts[counter.place()], by));
        }
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

    /// In the child of a fork, before any of its threads records: a thread of the parent that was inside a step does not
    /// exist here, and would seem to be at it for ever.
    pub(crate) fn repair(&self) {
        let version = self.version.load(Relaxed);
        self.version.store(version.wrapping_add(version % 2), Release);
        self.busy.store(false, Release);
    }

    /// Totals, the changes of slots `first..` and what was counted since second `since` began, all as of one instant. `None`
    /// if the owner kept writing through many attempts, or was preempted inside a step for long.
    pub(crate) fn read(&self, first: u64, slots: &mut [Changes], since: u64) -> Option<Totals> {
        for attempt in 0..1_000 {
            let before = self.version.load(Acquire);
            if before % 2 == 1 {
                if attempt % 16 == 15 {
                    std::thread::yield_now();
                }
                std::hint::spin_loop();
                continue;
            }
            let mut totals = Totals {
                changes: self.totals.load(),
                counts: std::array::from_fn(|at| self.counts[at].load(Relaxed)),
                counted_since: [0; COUNTERS],
            };
            for second in self.seconds.iter().filter(|second| second.tag.load(Relaxed) > since) {
                add(
                    &mut totals.counted_since,
                    &std::array::from_fn::<_, COUNTERS, _>(|at| second.counts[at].load(Relaxed)),
                );
            }
            for (offset, changes) in slots.iter_mut().enumerate() {
                let index = first + offset as u64;
                let slot = &self.ring[(index % RING) as usize];
                *changes = if slot.tag.load(Relaxed) == index + 1 { slot.load() } else { Changes::default() };
            }
            fence(Acquire);
            if self.version.load(Relaxed) == before {
                return Some(totals);
            }
        }
        None
    }
}
