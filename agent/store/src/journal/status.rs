//! Where the journal is and how it stands, for people and for other threads.

use std::path::PathBuf;

/// Where the journal is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, as asked.
    Memory,
    /// In memory, because nothing can be written there while this agent runs.
    Refused {
        /// Where it should have been.
        path: PathBuf,
        /// Why it is not.
        reason: String,
    },
    /// In memory and no longer kept: what wrote it has failed.
    Dead {
        /// Why.
        reason: String,
    },
    /// On disk.
    Disk(PathBuf),
    /// In memory until the disk takes it again.
    Failing {
        /// Where it belongs.
        path: PathBuf,
        /// What the last attempt met.
        reason: String,
        /// Ticks that only memory holds.
        ticks_at_risk: u64,
    },
}

impl std::fmt::Display for Place {
    /// `memory`, `memory (why)` or the path.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Refused { path, reason } | Self::Failing { path, reason, .. } => {
                write!(f, "memory ({}: {reason})", path.display())
            }
            Self::Dead { reason } => write!(f, "memory ({reason})"),
            Self::Disk(path) => write!(f, "{}", path.display()),
        }
    }
}

/// How the journal stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Where it is.
    pub place: Place,
    /// Bytes of its database, without the write-ahead log; 0 in memory.
    pub bytes: u64,
    /// When it began, in nanoseconds since 1970: what totals count from.
    pub since_wall_ns: u64,
    /// End of the oldest tick on disk, in nanoseconds since 1970; `None` before the first and in memory.
    pub seconds_since_wall_ns: Option<u64>,
    /// End of the oldest minute on disk.
    pub minutes_since_wall_ns: Option<u64>,
    /// Ticks that never reached the disk since this agent started; their totals did.
    pub ticks_lost: u64,
    /// Series whose totals this agent forgot for want of room: the longest silent ones, once all together took 64 MiB or
    /// half of the database.
    pub series_forgotten: u64,
}
