//! One second of measurement.

mod gpu;
mod merged;

use std::borrow::Cow;
use std::sync::Arc;

pub use gpu::{GpuSlot, GpuTick, Share, Sharing};

use crate::{EntityId, Histogram, Reason, SeriesId, SparseHdr, Stage, Stamp, State};

/// A value of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Counters, bytes, nanoseconds: exact.
    Int(u64),
    /// Ratios and other measured quantities, in the metric's unit.
    Float(f64),
}

impl Number {
    /// The number as it is, unscaled.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Float(value) => value,
        }
    }

    /// The integer, if it is one.
    pub fn as_int(self) -> Option<u64> {
        match self {
            Self::Int(value) => Some(value),
            Self::Float(_) => None,
        }
    }
}

/// A series that could not be read in this tick, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Name of the metric that has no value.
    pub metric: &'static str,
    /// What it would have been about.
    pub entity: EntityId,
    /// Why there is none and what would give one.
    pub reason: Reason,
}

/// Everything measured between two whole `CLOCK_MONOTONIC` seconds.
#[derive(Clone, Debug, Default)]
pub struct Tick {
    /// End of the interval.
    pub end: Stamp,
    /// Measured length of the interval. Every local rate divides by this.
    pub dt_ns: u64,
    /// Values, sorted by series. Counters are running totals.
    pub values: Vec<(SeriesId, Number)>,
    /// What each histogram series gained in this tick, sorted by series.
    pub histograms: Vec<(SeriesId, Histogram)>,
    /// What could not be read.
    pub absent: Vec<Absence>,
    /// Model servers that are instrumented with the SDK.
    pub servers: Vec<ServerTick>,
    /// GPUs, what they did tenth by tenth.
    pub gpus: Vec<GpuTick>,
    /// What was on the screen beside all this, for a replay: the agent writes and reads it, nobody else looks inside.
    pub scene: Vec<u8>,
}

impl Tick {
    /// Sorts what was pushed, so that it can be looked up. Allocates nothing.
    pub fn seal(&mut self) {
        self.values.sort_unstable_by_key(|(series, _)| *series);
        self.histograms.sort_unstable_by_key(|(series, _)| *series);
    }

    /// Empties the tick and keeps its buffers.
    pub fn clear(&mut self) {
        self.dt_ns = 0;
        self.values.clear();
        self.histograms.clear();
        self.absent.clear();
        self.servers.clear();
        self.gpus.clear();
        self.scene.clear();
    }

    /// The value of a series in this tick.
    pub fn value(&self, series: SeriesId) -> Option<Number> {
        self.values.binary_search_by_key(&series, |(id, _)| *id).ok().map(|at| self.values[at].1)
    }

    /// What a histogram series gained in this tick.
    pub fn histogram(&self, series: SeriesId) -> Option<&Histogram> {
        self.histograms.binary_search_by_key(&series, |(id, _)| *id).ok().map(|at| &self.histograms[at].1)
    }
}

/// Length of a [`Slot`] in nanoseconds.
pub const SLOT_NS: u64 = 100_000_000;
/// Slots in a tick.
pub const SLOTS: usize = 10;

/// A tenth of a second of a server's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot {
    /// Nanoseconds the server was in each [`State`], by [`State::index`]. Sums to [`SLOT_NS`] when the slot is known and
    /// to 0 when it is not (the server or the agent was away).
    pub state_ns: [u64; State::COUNT],
    /// ∫ n dt: nanoseconds spent in each [`Stage`], by [`Stage::index`], summed over requests, those in flight included.
    pub stage_ns: [u64; Stage::COUNT],
}

impl Slot {
    /// True when this slot was reported.
    pub fn is_known(&self) -> bool {
        self.state_ns.iter().any(|ns| *ns > 0)
    }
}

/// Slow requests kept per server and tick: enough to see what they have in common.
pub const MAX_SLOW: usize = 8;

/// One request's life, told because it was among the slowest of its tick.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowRequest {
    /// When it ended, in nanoseconds of the monotonic clock.
    pub end_ns: u64,
    /// From its arrival to its end, in nanoseconds.
    pub duration_ns: u64,
    /// Where that went, in nanoseconds by [`Stage::index`]; sums to `duration_ns`.
    pub stage_ns: [u64; Stage::COUNT],
    /// W3C trace id, where the server told it.
    pub trace_id: Option<[u8; 16]>,
    /// Kind of its error; `None` when it finished well.
    pub error: Option<Arc<str>>,
    /// Tokens read; 0 when the server did not say.
    pub prompt_tokens: u64,
    /// Tokens generated; 0 when the server did not say.
    pub generated_tokens: u64,
    /// From its arrival to its first token, in nanoseconds; `None` when it was no stream.
    pub first_token_ns: Option<u64>,
}

/// What an instrumented server did in a tick. All counts are of this tick alone.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerTick {
    /// The server.
    pub entity: EntityId,
    /// Its ten slots, oldest first.
    pub slots: [Slot; SLOTS],
    /// True when its state was combined from several worker processes, which is not exact.
    pub combined: bool,
    /// Requests that began.
    pub started: u64,
    /// Requests that ended well.
    pub completed: u64,
    /// Requests that ended in an error.
    pub failed: u64,
    /// Requests whose client went away.
    pub cancelled: u64,
    /// Requests whose guard was dropped before an end was declared.
    pub abandoned: u64,
    /// Requests in each stage at the end of the tick, by [`Stage::index`].
    pub in_flight: [u64; Stage::COUNT],
    /// Batches that were executed.
    pub dispatches: u64,
    /// Of these, how many were formed while two or more requests stood ready in `batch_wait`.
    pub dispatches_ready2: u64,
    /// Sizes of the executed batches.
    pub batch_size: SparseHdr,
    /// The largest batch the server is configured to form, where it said so.
    pub max_batch_size: Option<u32>,
    /// The slowest requests that ended, slowest first; at most [`MAX_SLOW`].
    pub slow: Vec<SlowRequest>,
    /// Names of the server's own stages, by number less [`Stage::FIRST_CUSTOM`]; empty or missing where it has none.
    pub custom_stages: Arc<[String]>,
}

impl ServerTick {
    /// A tick in which nothing happened and nothing is known.
    pub fn empty(entity: EntityId) -> Self {
        Self {
            entity,
            slots: [Slot::default(); SLOTS],
            combined: false,
            started: 0,
            completed: 0,
            failed: 0,
            cancelled: 0,
            abandoned: 0,
            in_flight: [0; Stage::COUNT],
            dispatches: 0,
            dispatches_ready2: 0,
            batch_size: SparseHdr::default(),
            max_batch_size: None,
            slow: Vec::new(),
            custom_stages: Arc::default(),
        }
    }

    /// What this server calls a stage: the built-in name, its own, or `custom<n>` where it gave none.
    pub fn stage_name(&self, stage: Stage) -> Cow<'static, str> {
        if let Some(name) = stage.name() {
            return Cow::Borrowed(name);
        }
        let own = self.custom_stages.get(stage.index() - usize::from(Stage::FIRST_CUSTOM));
        Cow::Owned(own.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| stage.to_string()))
    }
}
