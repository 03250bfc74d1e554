//! The messages inside a tick's blob. Tags are for ever: a field that is no longer written keeps its number.

use std::io;
use std::sync::Arc;

use perfwatch_model::tick::SLOTS;
use perfwatch_model::{Bounded, EntityId, Histogram, ServerTick, Slot, SparseHdr, Stage, State};

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

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
        Ok(tick)
    }
}
