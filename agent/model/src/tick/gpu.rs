//! What a GPU did in a tick, tenth by tenth, and who was on it.

use super::SLOTS;
use crate::EntityId;

/// A share of 0 to 1 in ten-thousandths, or unknown: as fine as a ledger needs, and the same after it was kept.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Share(u16);

impl Share {
    const WHOLE: f64 = 10_000.0;
    /// Not measured.
    pub const UNKNOWN: Self = Self(u16::MAX);

    /// A share; what is not one, as NaN, is unknown, and what is a little beyond one is one.
    pub fn of(share: f64) -> Self {
        if (0.0..=1.05).contains(&share) { Self((share.min(1.0) * Self::WHOLE).round() as u16) } else { Self::UNKNOWN }
    }

    /// The share.
    pub fn get(self) -> Option<f64> {
        (self != Self::UNKNOWN).then(|| f64::from(self.0) / Self::WHOLE)
    }

    /// As it is kept: ten-thousandths, or 65,535.
    pub const fn raw(self) -> u16 {
        self.0
    }

    /// From what was kept; anything that is no share is unknown.
    pub fn from_raw(raw: u16) -> Self {
        if f64::from(raw) <= Self::WHOLE { Self(raw) } else { Self::UNKNOWN }
    }
}

impl Default for Share {
    fn default() -> Self {
        Self::UNKNOWN
    }
}

impl std::fmt::Debug for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.get() {
            Some(share) => write!(f, "{share}"),
            None => f.write_str("unknown"),
        }
    }
}

/// A tenth of a second of a GPU: what its units did of what they could, as GPM tells it. Without GPM the driver's samples of its
/// utilisation tell `graphics` alone, and its counters `link`, where they are read so often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct GpuSlot {
    /// Any application was active; without GPM, any kernel ran.
    pub graphics: Share,
    /// SMs with a warp on them.
    pub sm: Share,
    /// The tensor cores.
    pub tensor: Share,
    /// The busiest of the other pipes.
    pub vector: Share,
    /// All the other pipes together, at most the whole.
    pub vectors: Share,
    /// The memory's bandwidth.
    pub dram: Share,
    /// What went over the `PCIe` link in the direction in which more went, of what it can move there; unknown where that was not
    /// measured for this slot alone.
    pub link: Share,
    /// One measurement covers this slot and the one before it: what they say is the mean of both.
    pub continued: bool,
}

impl GpuSlot {
    /// True when it is known whether the device was busy; of its units that says nothing.
    pub fn is_known(&self) -> bool {
        self.graphics != Share::UNKNOWN
    }

    /// Its shares, in the order in which they are kept: one that is new comes last.
    pub fn shares(&self) -> [Share; 7] {
        [self.graphics, self.sm, self.tensor, self.vector, self.dram, self.vectors, self.link]
    }
}

/// How the processes on a GPU share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Sharing {
    /// It cannot be told who is on it.
    #[default]
    Unknown,
    /// At most one process computes on it.
    Alone,
    /// Several processes compute on it in turns.
    TimeSliced,
    /// Several processes compute on it at the same time, through NVIDIA's Multi-Process Service.
    Mps,
    /// It is cut into instances, and its time belongs to them.
    Mig,
}

impl Sharing {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Unknown, Self::Alone, Self::TimeSliced, Self::Mps, Self::Mig];

    /// The word used in JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alone => "alone",
            Self::TimeSliced => "time_sliced",
            Self::Mps => "mps",
            Self::Mig => "mig",
        }
    }
}

/// What a GPU did in a tick, and who was on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GpuTick {
    /// The GPU.
    pub entity: EntityId,
    /// Its ten slots, oldest first, at the same times as those of servers.
    pub slots: [GpuSlot; SLOTS],
    /// The model servers that are on it, by their processes or by what they were given.
    pub servers: Vec<EntityId>,
    /// How its processes share it.
    pub sharing: Sharing,
    /// Processes that hold memory on it; `None` where the driver does not tell, or may not tell of all.
    pub processes: Option<u32>,
    /// Share of the SMs' time that those servers' processes had.
    pub own_sm: Share,
    /// Share of the SMs' time that all other processes had.
    pub other_sm: Share,
}

impl GpuTick {
    /// A tick in which nothing is known.
    pub fn unknown(entity: EntityId) -> Self {
        Self {
            entity,
            slots: [GpuSlot::default(); SLOTS],
            servers: Vec::new(),
            sharing: Sharing::Unknown,
            processes: None,
            own_sm: Share::UNKNOWN,
            other_sm: Share::UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_the_same_after_it_was_kept_and_what_is_none_is_unknown() {
        for raw in 0..=u16::MAX {
            let share = Share::from_raw(raw);
            assert_eq!(share.get().is_some(), raw <= 10_000);
            if let Some(value) = share.get() {
                assert_eq!(Share::of(value).raw(), raw);
            }
        }
        assert_eq!(Share::of(1.004).get(), Some(1.0), "counters are read one after the other");
        for none in [f64::NAN, -0.1, 1.5, f64::INFINITY] {
            assert_eq!(Share::of(none), Share::UNKNOWN);
        }
    }
}
