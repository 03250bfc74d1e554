//! What a GPU's memory held over the last half minute: longer than a window, because memory fills in steps.

use std::collections::VecDeque;

use crate::facts::GpuFacts;

/// So much is kept, in nanoseconds: some steps of an allocator that asks for a large block every few seconds.
const KEPT_NS: u64 = 30_000_000_000;

/// The memory at one moment: the end of a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryAt {
    /// When, on the monotonic clock, in nanoseconds.
    pub at_ns: u64,
    /// Bytes in use.
    pub used: u64,
    /// Bytes that can be.
    pub usable: u64,
}

/// The memory at the ends of the last ticks that tell it, oldest first.
#[derive(Clone, Debug, Default)]
pub struct MemoryTrail(VecDeque<MemoryAt>);

impl MemoryTrail {
    /// Takes in what a tick says that ended at this moment, and forgets what is too old by then.
    pub fn add(&mut self, facts: &GpuFacts, end_ns: u64) {
        // What is later than now is of another boot of the machine. A little is granted to ticks that are not a second
        // apart.
        let is_recent =
            |at_ns: u64| end_ns.checked_sub(at_ns).is_some_and(|age_ns| age_ns <= KEPT_NS + facts.dt_ns / 2);
        self.0.retain(|known| is_recent(known.at_ns));
        if let Some((used, usable)) = facts.memory() {
            self.0.push_back(MemoryAt { at_ns: end_ns, used, usable });
        }
    }

    /// All of it, oldest first.
    pub fn to_vec(&self) -> Vec<MemoryAt> {
        self.0.iter().copied().collect()
    }
}
