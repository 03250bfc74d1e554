//! Time as a value. Nothing in perfwatch reads a clock except the one real [`Clock`] that the program is started with.

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC` in nanoseconds. Local rates and durations use only this.
    pub mono_ns: u64,
    /// Nanoseconds since the Unix epoch. For display and export only: it may step.
    pub wall_ns: u64,
}

impl Stamp {
    /// Nanoseconds since an earlier reading, of which `measured_ns` were measured. A reading that followed at once took what
    /// was measured, whatever the wall clock did; else the wall clock knows, over a restart of the machine too.
    pub fn passed_since(self, earlier: Self, measured_ns: u64) -> u64 {
        match self.mono_ns.checked_sub(earlier.mono_ns) {
            Some(steady) if steady <= measured_ns.saturating_add(measured_ns / 2) => measured_ns,
            _ => self.wall_ns.saturating_sub(earlier.wall_ns).max(measured_ns),
        }
    }
}

/// A source of [`Stamp`]s, passed in so that tests and replay control time.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Stamp;
}
