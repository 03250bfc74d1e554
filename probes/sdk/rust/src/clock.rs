//! The one place that reads the clock.

use rustix::time::{ClockId, clock_gettime};

#[cfg(test)]
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Nanoseconds in a second.
pub(crate) const SECOND: u64 = 1_000_000_000;

/// `CLOCK_MONOTONIC`, or a hand that tests move.
#[derive(Clone, Debug)]
pub(crate) enum Clock {
    /// The machine's.
    Real,
    /// Stands still until a test moves it.
    #[cfg(test)]
    Manual(Arc<AtomicU64>),
}

impl Clock {
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        match self {
            Self::Real => {
                let time = clock_gettime(ClockId::Monotonic);
                time.tv_sec as u64 * SECOND + time.tv_nsec as u64
            }
            #[cfg(test)]
            Self::Manual(hand) => hand.load(Ordering::SeqCst),
        }
    }
}
