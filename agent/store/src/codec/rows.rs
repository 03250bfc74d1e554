//! The messages inside a tick's blob. Tags are for ever: a field that is no longer written keeps its number.

use std::io;
use std::sync::Arc;

use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{
    AbsenceKind, Bounded, EntityId, Histogram, ServerTick, Slot, SlowRequest, SparseHdr, Stage, State,
};

use super::gpu_rows::GpuRow;
use super::invalid;

/// A tick. Numbers stand in columns, because neighbours in a column resemble each other.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct TickRow {
    #[prost(string, repeated, tag = "1")]
    pub(super) entities: Vec<String>,
    #[prost(uint32, repeated, tag = "2")]
    pub(super) int_series: Vec<u32>,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) ints: Vec<u64>,
    #[prost(uint32, repeated, tag = "4")]
    pub(super) float_series: Vec<u32>,
    #[prost(double, repeated, tag = "5")]
    pub(super) floats: Vec<f64>,
    #[prost(message, repeated, tag = "6")]
    pub(super) histograms: Vec<HistogramRow>,
    #[prost(message, repeated, tag = "7")]
    pub(super) absent: Vec<AbsenceRow>,
    #[prost(message, repeated, tag = "8")]
    pub(super) servers: Vec<ServerRow>,
    #[prost(bool, tag = "9")]
    pub(super) unjudged: bool,
    /// What counters gained where that is not the difference to the tick before.
    #[prost(uint32, repeated, tag = "10")]
    pub(super) gain_int_series: Vec<u32>,
    #[prost(uint64, repeated, tag = "11")]
    pub(super) gain_ints: Vec<u64>,
    #[prost(uint32, repeated, tag = "12")]
    pub(super) gain_float_series: Vec<u32>,
    #[prost(double, repeated, tag = "13")]
    pub(super) gain_floats: Vec<f64>,
    #[prost(bytes = "vec", tag = "14")]
    pub(super) scene: Vec<u8>,
    #[prost(message, repeated, tag = "15")]
    pub(super) gpus: Vec<GpuRow>,
}

/// A value that could not be read.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct AbsenceRow {
    #[prost(string, tag = "1")]
    pub(super) metric: String,
    #[prost(uint32, tag = "2")]
    pub(super) entity: u32,
    #[prost(string, tag = "3")]
    pub(super) text: String,
    #[prost(string, tag = "4")]
    pub(super) cure: String,
    #[prost(enumeration = "AbsenceKindRow", tag = "5")]
    pub(super) kind: i32,
}

/// An [`AbsenceKind`], by the number that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum AbsenceKindRow {
    Normal = 0,
    Chosen = 1,
    Failed = 2,
}

impl From<AbsenceKind> for AbsenceKindRow {
    fn from(kind: AbsenceKind) -> Self {
        match kind {
            AbsenceKind::Normal => Self::Normal,
            AbsenceKind::Chosen => Self::Chosen,
            AbsenceKind::Failed => Self::Failed,
        }
    }
}

impl From<AbsenceKindRow> for AbsenceKind {
    fn from(kind: AbsenceKindRow) -> Self {
        match kind {
            AbsenceKindRow::Normal => Self::Normal,
            AbsenceKindRow::Chosen => Self::Chosen,
            AbsenceKindRow::Failed => Self::Failed,
        }
    }
}

/// What a histogram series gained: `buckets` are set for one of ours, `bounds` and `bounded_sum` for a server's own.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct HistogramRow {
    #[prost(uint32, tag = "1")]
    pub(super) series: u32,
    #[prost(uint32, repeated, tag = "2")]
    buckets: Vec<u32>,
    #[prost(uint64, repeated, tag = "3")]
    counts: Vec<u64>,
    #[prost(uint64, tag = "4")]
    sum: u64,
    #[prost(uint64, tag = "5")]
    sum_high: u64,
    #[prost(double, repeated, tag = "6")]
    bounds: Vec<f64>,
    #[prost(double, optional, tag = "7")]
    bounded_sum: Option<f64>,
}

impl HistogramRow {
    pub(super) fn of(series: u32, histogram: &Histogram) -> Self {
        match histogram {
            Histogram::Hdr(hdr) => Self {
                series,
                buckets: hdr.buckets().iter().map(|(bucket, _)| u32::from(*bucket)).collect(),
                counts: hdr.buckets().iter().map(|(_, count)| *count).collect(),
                sum: hdr.sum() as u64,
                sum_high: (hdr.sum() >> 64) as u64,
                ..Self::default()
            },
            Histogram::Bounded(Bounded { bounds, counts, sum }) => Self {
                series,
                counts: counts.clone(),
                bounds: bounds.clone(),
                bounded_sum: Some(*sum),
                ..Self::default()
            },
        }
    }

    pub(super) fn histogram(self) -> io::Result<(u32, Histogram)> {
        let Self { series, buckets, counts, sum, sum_high, bounds, bounded_sum } = self;
        if let Some(sum) = bounded_sum {
            return Ok((series, Histogram::Bounded(Bounded { bounds, counts, sum })));
        }
        let sum = u128::from(sum) | u128::from(sum_high) << 64;
        let hdr = sparse(&buckets, &counts, sum).ok_or_else(|| invalid("a histogram's buckets are out of order"))?;
        Ok((series, Histogram::Hdr(hdr)))
    }
}

fn sparse(buckets: &[u32], counts: &[u64], sum: u128) -> Option<SparseHdr> {
    if buckets.len() != counts.len() {
        return None;
    }
    let pairs = buckets.iter().zip(counts).map(|(bucket, count)| Some((u16::try_from(*bucket).ok()?, *count)));
    SparseHdr::from_buckets(pairs.collect::<Option<_>>()?, sum)
}

/// What an instrumented server did.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct ServerRow {
    #[prost(uint32, tag = "1")]
    pub(super) entity: u32,
    /// State times of the ten slots, one after the other.
    #[prost(uint64, repeated, tag = "2")]
    states: Vec<u64>,
    /// Stage times of the ten slots, one after the other.
    #[prost(uint64, repeated, tag = "3")]
    stages: Vec<u64>,
    #[prost(bool, tag = "4")]
    combined: bool,
    /// Started, completed, failed, abandoned, dispatches, of these with two ready, cancelled.
    #[prost(uint64, repeated, tag = "5")]
    counts: Vec<u64>,
    #[prost(uint64, repeated, tag = "6")]
    in_flight: Vec<u64>,
    #[prost(uint32, repeated, tag = "7")]
    batch_buckets: Vec<u32>,
    #[prost(uint64, repeated, tag = "8")]
    batch_counts: Vec<u64>,
    #[prost(uint64, tag = "9")]
    batch_sum: u64,
    #[prost(uint32, optional, tag = "10")]
    max_batch_size: Option<u32>,
    #[prost(string, repeated, tag = "11")]
    custom_stages: Vec<String>,
    #[prost(message, repeated, tag = "12")]
    slow: Vec<SlowRow>,
}

/// One of its slowest requests.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct SlowRow {
    #[prost(uint64, tag = "1")]
    end_ns: u64,
    #[prost(uint64, tag = "2")]
    duration_ns: u64,
    /// By stage; zeros at the end are left out.
    #[prost(uint64, repeated, tag = "3")]
    stages: Vec<u64>,
    #[prost(bytes = "vec", tag = "4")]
    trace_id: Vec<u8>,
    #[prost(string, optional, tag = "5")]
    error: Option<String>,
    #[prost(uint64, tag = "6")]
    prompt_tokens: u64,
    #[prost(uint64, tag = "7")]
    generated_tokens: u64,
    #[prost(uint64, optional, tag = "8")]
    first_token_ns: Option<u64>,
}

impl SlowRow {
    fn of(request: &SlowRequest) -> Self {
        let used = request.stage_ns.iter().rposition(|ns| *ns > 0).map_or(0, |last| last + 1);
        Self {
            end_ns: request.end_ns,
            duration_ns: request.duration_ns,
            stages: request.stage_ns[..used].to_vec(),
            trace_id: request.trace_id.map(Vec::from).unwrap_or_default(),
            error: request.error.as_deref().map(str::to_owned),
            prompt_tokens: request.prompt_tokens,
            generated_tokens: request.generated_tokens,
            first_token_ns: request.first_token_ns,
        }
    }

    fn request(self) -> io::Result<SlowRequest> {
        let mut stage_ns = [0; Stage::COUNT];
        let stages = stage_ns.get_mut(..self.stages.len());
        stages.ok_or_else(|| invalid("a slow request has too many stages"))?.copy_from_slice(&self.stages);
        let trace_id = match self.trace_id.as_slice() {
            [] => None,
            id => Some(id.try_into().map_err(|_| invalid("a trace id is not 16 bytes long"))?),
        };
        Ok(SlowRequest {
            end_ns: self.end_ns,
            duration_ns: self.duration_ns,
            stage_ns,
            trace_id,
            error: self.error.map(Arc::from),
            prompt_tokens: self.prompt_tokens,
            generated_tokens: self.generated_tokens,
            first_token_ns: self.first_token_ns,
        })
    }
}

impl ServerRow {
    pub(super) fn of(entity: u32, tick: &ServerTick) -> Self {
        Self {
            entity,
            states: tick.slots.iter().flat_map(|slot| slot.state_ns).collect(),
            stages: tick.slots.iter().flat_map(|slot| slot.stage_ns).collect(),
            combined: tick.combined,
            counts: vec![
                tick.started,
                tick.completed,
                tick.failed,
                tick.abandoned,
                tick.dispatches,
                tick.dispatches_ready2,
                tick.cancelled,
            ],
            in_flight: tick.in_flight.to_vec(),
            batch_buckets: tick.batch_size.buckets().iter().map(|(bucket, _)| u32::from(*bucket)).collect(),
            batch_counts: tick.batch_size.buckets().iter().map(|(_, count)| *count).collect(),
            batch_sum: tick.batch_size.sum() as u64,
            max_batch_size: tick.max_batch_size,
            custom_stages: tick.custom_stages.to_vec(),
            slow: tick.slow.iter().map(SlowRow::of).collect(),
        }
    }

    pub(super) fn tick(self, entity: EntityId) -> io::Result<ServerTick> {
        let short = || invalid("a server's row is too short");
        let mut tick = ServerTick::empty(entity);
        let slots = self.states.chunks(State::COUNT).zip(self.stages.chunks(Stage::COUNT));
        if self.states.len() != SLOTS * State::COUNT || self.stages.len() != SLOTS * Stage::COUNT {
            return Err(short());
        }
        for (slot, (states, stages)) in tick.slots.iter_mut().zip(slots) {
            *slot = Slot {
                state_ns: states.try_into().map_err(|_| short())?,
                stage_ns: stages.try_into().map_err(|_| short())?,
            };
            // All who look at a slot rely on it; occupancy is another matter, since requests overlap.
            let whole = slot.state_ns.iter().try_fold(0_u64, |sum, ns| sum.checked_add(*ns));
            if !matches!(whole, Some(0 | SLOT_NS)) {
                return Err(invalid("a slot's states do not sum to its length"));
            }
        }
        let counts: [u64; 7] = self.counts.try_into().map_err(|_| short())?;
        [
            tick.started,
            tick.completed,
            tick.failed,
            tick.abandoned,
            tick.dispatches,
            tick.dispatches_ready2,
            tick.cancelled,
        ] = counts;
        tick.combined = self.combined;
        tick.in_flight = self.in_flight.try_into().map_err(|_| short())?;
        tick.batch_size = sparse(&self.batch_buckets, &self.batch_counts, u128::from(self.batch_sum))
            .ok_or_else(|| invalid("a batch histogram's buckets are out of order"))?;
        tick.max_batch_size = self.max_batch_size;
        tick.custom_stages = Arc::from(self.custom_stages);
        tick.slow = self.slow.into_iter().map(SlowRow::request).collect::<io::Result<_>>()?;
        Ok(tick)
    }
}
