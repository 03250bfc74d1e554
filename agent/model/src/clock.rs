//! Time as a value. Nothing in perfwatch reads a clock except the one real [`Clock`] that the program is started with.

/// One instant on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Stamp {
    /// `CLOCK_MONOTONIC` in nanoseconds. Local rates and durations use only this.
    pub mono_ns: u64,
    /// Nanoseconds since the Unix epoch. For display and export only: it may step.
    pub wall_ns: u64,
}

/// A source of [`Stamp`]s, passed in so that tests and replay control time.
pub trait Clock: Send + Sync {
    /// The present instant.
    fn now(&self) -> Stamp;
}
