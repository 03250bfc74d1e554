//! What a tick says about one GPU.

mod held_down;
mod link;
mod spans;

use std::collections::BTreeMap;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{EntityId, GpuTick, Number, Quality, SeriesId, Share, Sharing};

pub use spans::{Bearing, GpuSpan, GpuUnits};

use super::Fact;
use super::handles::GpuHandles;
use super::reader::Source;

/// A GPU in one tick. Shares are of 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct GpuFacts {
    /// Which GPU.
    pub entity: EntityId,
    /// Length of the tick in nanoseconds.
    pub dt_ns: u64,
    /// Share of the driver's last sampling period in which any kernel ran. One SM is enough.
    pub utilization: Fact<f64>,
    /// Share of the tick in which any application was active (GPM).
    pub graphics: Fact<f64>,
    /// Share of the SMs' cycles in which a warp was on the SM.
    pub sm: Fact<f64>,
    /// Share of the cycles in which the tensor cores were busy.
    pub tensor: Fact<f64>,
    /// The same of the busiest other pipe.
    pub vector: Fact<f64>,
    /// Share of the memory's bandwidth on paper that was used.
    pub dram: Fact<f64>,
    /// Memory in use, in bytes.
    pub memory_used: Fact<u64>,
    /// Memory there is, in bytes.
    pub memory_total: Fact<u64>,
    /// What driver and firmware keep of it for themselves, in bytes, where that is no part of what is in use.
    pub memory_reserved: Fact<u64>,
    /// Clock of the SMs, in hertz.
    pub sm_clock: Fact<f64>,
    /// The highest it may have, in hertz.
    pub sm_clock_limit: Fact<f64>,
    /// Power that the device may draw, in watts.
    pub power_limit: Fact<f64>,
    /// Nanoseconds of the tick for which the clocks were held down, by reason: counted by the driver, or inferred from
    /// what held at the tick's end. Reasons overlap.
    pub held_down: Vec<(String, Fact<u64>)>,
    /// Errors of the memory that were not corrected, since their total was last told.
    pub uncorrected: Fact<u64>,
    /// XID errors in the tick, by code.
    pub xids: Vec<(i64, u64)>,
    /// Something that the driver counts is lower than an agent before this one told it: the device was reset meanwhile, or its
    /// driver loaded anew.
    pub began_anew: bool,
    /// Faults that it has, or has not; what cannot be told is not in it.
    pub faults: Vec<(String, bool)>,
    /// The tick in pieces that are as short as the units were measured, oldest first. Empty where the tick has nothing finer
    /// than itself.
    pub spans: Vec<GpuSpan>,
    /// How the states in them bear on it.
    pub bearing: Bearing,
    /// The servers that are on it.
    pub servers: Vec<EntityId>,
    /// How its processes share it.
    pub sharing: Sharing,
    /// Processes that hold memory on it.
    pub processes: Option<u32>,
    /// Nanoseconds that what went over its link to the host takes at least, in the direction in which more went.
    pub transfer_ns: Fact<u64>,
    /// Share of the SMs' time that its servers' processes had.
    pub own_sm: Share,
    /// Share of the SMs' time that all other processes had.
    pub other_sm: Share,
}

impl GpuFacts {
    pub(super) fn read(source: &Source<'_>, entity: EntityId, handles: &GpuHandles) -> Self {
        let pipes = handles.pipes.iter().map(|series| source.gauge(Some(*series), &gpu::PIPE_ACTIVE, entity));
        let busiest = pipes.reduce(|one, other| if other.get() > one.get() { other } else { one });
        let holds = |series| source.gauge(Some(series), &gpu::FAULT, entity).get().map(|value| value > 0.0);
        Self {
            entity,
            dt_ns: source.dt_ns(),
            utilization: source.gauge(handles.utilization, &gpu::UTILIZATION, entity),
            graphics: source.gauge(handles.graphics, &gpu::GRAPHICS_ACTIVE, entity),
            sm: source.gauge(handles.sm, &gpu::SM_ACTIVE, entity),
            tensor: source.gauge(handles.tensor, &gpu::TENSOR_ACTIVE, entity),
            vector: busiest.unwrap_or_else(|| source.gauge(None, &gpu::PIPE_ACTIVE, entity)),
            dram: source.gauge(handles.dram, &gpu::DRAM_ACTIVE, entity),
            memory_used: source.bytes(handles.memory_used, &gpu::MEMORY_USAGE, entity),
            memory_total: source.bytes(handles.memory_total, &gpu::MEMORY_LIMIT, entity),
            memory_reserved: source.bytes(handles.memory_reserved, &gpu::MEMORY_RESERVED, entity),
            sm_clock: source.gauge(handles.sm_clock, &gpu::CLOCK, entity),
            sm_clock_limit: source.gauge(handles.sm_clock_limit, &gpu::CLOCK_LIMIT, entity),
            power_limit: source.gauge(handles.power_limit, &gpu::POWER_LIMIT, entity),
            held_down: held_down::held_down(source, entity, handles),
            uncorrected: source.absent(&gpu::ERRORS, entity),
            xids: Vec::new(),
            began_anew: false,
            faults: handles
                .faults
                .iter()
                .filter_map(|(fault, series)| Some((fault.clone(), holds(*series)?)))
                .collect(),
            spans: Vec::new(),
            bearing: Bearing::Merged,
            servers: Vec::new(),
            sharing: Sharing::Unknown,
            processes: None,
            transfer_ns: link::transfer_ns(source, entity, handles),
            own_sm: Share::UNKNOWN,
            other_sm: Share::UNKNOWN,
        }
        .with(source)
    }

    /// Adds what the tick has of it in pieces, and who was on it.
    fn with(mut self, source: &Source<'_>) -> Self {
        let tick = source.tick();
        if let Some(gpu) = tick.gpus.iter().find(|gpu| gpu.entity == self.entity) {
            (self.spans, self.bearing) = spans::spans(gpu, tick);
            let GpuTick { servers, sharing, processes, own_sm, other_sm, .. } = gpu;
            self.servers.clone_from(servers);
            (self.sharing, self.processes) = (*sharing, *processes);
            (self.own_sm, self.other_sm) = (*own_sm, *other_sm);
        }
        self
    }

    /// Of the time in which it was busy, the share that processes had which belong to none of its servers. `None` where that is
    /// not known, or where no server is on it: then there is no other either.
    pub fn others_share(&self) -> Option<f64> {
        if self.servers.is_empty() || !matches!(self.sharing, Sharing::Alone | Sharing::TimeSliced) {
            return None;
        }
        let other = self.other_sm.get()?;
        // There is no other, or it did nothing: however much the servers' own processes had.
        if other <= 0.0 {
            // Several are there, none did anything, and yet the device was busy: then nobody was told of.
            let silent = self.own_sm.get() == Some(0.0) && self.processes > Some(1) && self.was_busy();
            return (!silent).then_some(0.0);
        }
        Some(other / (self.own_sm.get()? + other))
    }

    /// Adds what the totals of errors gained since they were last in a tick: each is told once, and ticks without them,
    /// or a gap between ticks, neither make old ones new nor hide one. `first` is the reader's first tick, which has no
    /// past.
    pub(super) fn read_errors(
        &mut self,
        source: &Source<'_>,
        handles: &GpuHandles,
        known: &mut BTreeMap<SeriesId, u64>,
        first: bool,
    ) {
        let total = |series: SeriesId| source.tick().value(series).and_then(Number::as_int);
        for (code, series) in &handles.xids {
            let Some(now) = total(*series) else { continue };
            // The agent counts them, from its start on.
            let before = known.insert(*series, now).unwrap_or(if first { now } else { 0 });
            if now > before {
                self.xids.push((*code, now - before));
            }
        }
        if let Some((series, now)) = handles.uncorrected.and_then(|series| Some((series, total(series)?))) {
            // The driver counts these, since it was loaded: the first total is what was before, and so is one that went
            // back.
            self.uncorrected = match known.insert(series, now).map(|before| now.checked_sub(before)) {
                Some(Some(gained)) => Fact::known(gained, Quality::Counter),
                Some(None) => {
                    self.began_anew = true;
                    Fact::missing("the counter went back: what it counts has restarted")
                }
                None => Fact::missing("the counter has no earlier value to compare with yet"),
            };
        }
    }

    /// Looks whether the device began anew by what it has used since it did.
    pub(super) fn read_energy(
        &mut self,
        source: &Source<'_>,
        handles: &GpuHandles,
        known: &mut BTreeMap<SeriesId, u64>,
    ) {
        let total = |series: SeriesId| Some((series, source.tick().value(series).and_then(Number::as_int)?));
        if let Some((series, now)) = handles.energy.and_then(total) {
            self.began_anew |= known.insert(series, now).is_some_and(|before| now < before);
        }
    }

    /// Bytes of the memory that are in use, and bytes that can be: what driver and firmware keep is nobody's to use.
    /// Where it is not told apart, it is a part of both.
    pub fn memory(&self) -> Option<(u64, u64)> {
        let total = self.memory_total.get().filter(|total| *total > 0)?;
        let reserved = self.memory_reserved.get().filter(|reserved| *reserved < total).unwrap_or(0);
        Some((self.memory_used.get()?, total - reserved))
    }

    /// Whether it did more than keep itself alive.
    fn was_busy(&self) -> bool {
        self.graphics.get().or(self.utilization.get()).is_some_and(|share| share > 0.05)
    }

    /// Whether it was busy when its clocks were read, at the end of the tick: an idle device lowers them of its own accord.
    pub fn ended_busy(&self) -> bool {
        let last = self.spans.last().and_then(|span| span.units.map(|units| units.graphics).or(span.utilization));
        last.is_none_or(|share| share > 0.05)
    }

    /// The reason for which the clocks were held down longest, and for how long. Reasons overlap, so they are never added.
    pub fn longest_held_down(&self) -> Option<(&str, u64)> {
        let known = self.held_down.iter().filter_map(|(reason, ns)| Some((reason.as_str(), ns.get()?)));
        known.max_by_key(|(_, ns)| *ns)
    }
}
