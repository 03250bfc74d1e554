//! What a tick says about one model server.

use std::borrow::Cow;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{EntityId, Histogram, Quality, SeriesId, ServerTick, SparseHdr, Stage, State};

use super::handles::ServerHandles;
use super::reader::Source;
use super::{Fact, Pressure, ToldFacts};

/// A model server in one tick.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerFacts {
    /// Which server.
    pub entity: EntityId,
    /// Length of the tick in nanoseconds.
    pub dt_ns: u64,
    /// What its processes got from the machine.
    pub cpu: CpuFacts,
    /// What its control group got besides, by its own word.
    pub group: GroupFacts,
    /// What its requests did. Unknown when the server reported nothing.
    pub requests: Fact<RequestFacts>,
    /// Where requests and the server as a whole spent the tick. Unknown when the server reported nothing.
    pub slots: Fact<SlotFacts>,
    /// What batches it executed. Unknown when the server reported nothing.
    pub batches: Fact<BatchFacts>,
    /// Tokens, look-ups and errors.
    pub told: ToldFacts,
    /// Durations of requests that ended, in nanoseconds.
    pub duration: SparseHdr,
    /// Durations by stage of requests that ended, in nanoseconds.
    pub stage_durations: Vec<(String, SparseHdr)>,
}

/// CPU readings of a server. Times are what was gained in the tick, in nanoseconds, summed over CPUs or threads.
#[derive(Clone, Debug, PartialEq)]
pub struct CpuFacts {
    /// CPUs that the server may use: allowed ∩ cpuset ∩ online.
    pub capacity: Fact<f64>,
    /// CPU time of its processes.
    pub used_ns: Fact<u64>,
    /// Time its threads were ready and waited for a CPU. Contains throttling, and waiting for each other.
    pub run_delay_ns: Fact<u64>,
    /// CPU time that other processes used on the same CPUs.
    pub others_ns: Fact<u64>,
    /// Time that a hypervisor kept from the same CPUs.
    pub steal_ns: Fact<u64>,
    /// Time that its control group stood throttled.
    pub throttled_ns: Fact<u64>,
    /// Quota periods in which its control group was throttled.
    pub throttled_periods: Fact<u64>,
    /// Quota periods in which its control group had something to run.
    pub periods: Fact<u64>,
    /// CPUs that the quota allows.
    pub quota: Fact<f64>,
    /// Share of one CPU that the busiest thread used, 0 to 1.
    pub hottest_thread: Fact<f64>,
}

/// Memory and pressure of a server's control group, as the server itself tells them: known only of a server that the agent
/// does not see. Where it does, the group is an entity of its own.
#[derive(Clone, Debug, PartialEq)]
pub struct GroupFacts {
    /// Memory charged to it, in bytes.
    pub memory: Fact<u64>,
    /// Memory that it may use, in bytes; unknown when there is no limit.
    pub memory_limit: Fact<u64>,
    /// How often it reached the limit in the tick.
    pub limit_hits: Fact<u64>,
    /// Processes that were killed in the tick for want of memory.
    pub oom_kills: Fact<u64>,
    /// Share of the tick in which some task waited for a resource.
    pub pressure: Pressure,
}

/// Requests of a server in one tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestFacts {
    /// Began.
    pub started: u64,
    /// Ended well.
    pub completed: u64,
    /// Ended in an error, rejections included.
    pub failed: u64,
    /// Went away because their client did.
    pub cancelled: u64,
    /// Went away before an end was declared.
    pub abandoned: u64,
    /// In each stage at the end of the tick, by [`Stage::index`].
    pub in_flight: [u64; Stage::COUNT],
}

impl RequestFacts {
    /// Requests inside the server at the end of the tick, in whatever stage.
    pub fn inside(&self) -> u64 {
        self.in_flight.iter().sum()
    }
}

/// Where the slots of a tick went. Slots that were not reported count as unknown time.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotFacts {
    /// Nanoseconds that the server spent in each exclusive state, by [`State::index`].
    pub state_ns: [u64; State::COUNT],
    /// Nanoseconds of slots that were not reported.
    pub unknown_ns: u64,
    /// Request-nanoseconds in each stage that has some, with the server's own name for it.
    pub stage_ns: Vec<(Stage, Cow<'static, str>, u64)>,
    /// Requests that were being prepared in each reported slot, oldest first.
    pub preparing: Vec<Preparing>,
}

/// How many requests were being prepared at a time, on average over a slot.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Preparing {
    /// In `preprocess`.
    pub preprocess: f64,
    /// In `data_load`.
    pub data_load: f64,
}

/// Batches of a server in one tick.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchFacts {
    /// Executed.
    pub dispatches: u64,
    /// Executed while two or more requests stood ready.
    pub ready2: u64,
    /// Their sizes.
    pub sizes: SparseHdr,
    /// The largest batch the server is configured to form, where it said so.
    pub max: Option<u32>,
}

impl ServerFacts {
    pub(super) fn read(
        source: &Source<'_>,
        entity: EntityId,
        handles: &ServerHandles,
        reported: Option<&ServerTick>,
    ) -> Self {
        let slots = slot_facts(reported, source.dt_ns());
        // Totals that come without a slot belong to an earlier absence: they reach the exported totals, not this tick.
        let present = slots.value().and(reported);
        let quality = slots.quality;
        Self {
            entity,
            dt_ns: source.dt_ns(),
            cpu: CpuFacts::read(source, entity, handles),
            group: GroupFacts::read(source, entity, handles),
            requests: present.map_or_else(silent, |tick| Fact::known(request_facts(tick), quality)),
            batches: present.map_or_else(silent, |tick| Fact::known(batch_facts(tick), quality)),
            told: ToldFacts::read(source, &handles.told, present),
            slots,
            duration: histogram(source, handles.duration),
            stage_durations: handles
                .stages
                .iter()
                .map(|(stage, series)| (stage.clone(), histogram(source, Some(*series))))
                .filter(|(_, histogram)| !histogram.is_empty())
                .collect(),
        }
    }
}

fn silent<T>() -> Fact<T> {
    Fact::missing("the server reported nothing in this tick")
}

fn request_facts(tick: &ServerTick) -> RequestFacts {
    RequestFacts {
        started: tick.started,
        completed: tick.completed,
        failed: tick.failed,
        cancelled: tick.cancelled,
        abandoned: tick.abandoned,
        in_flight: tick.in_flight,
    }
}

fn batch_facts(tick: &ServerTick) -> BatchFacts {
    BatchFacts {
        dispatches: tick.dispatches,
        ready2: tick.dispatches_ready2.min(tick.dispatches),
        sizes: tick.batch_size.clone(),
        max: tick.max_batch_size,
    }
}

fn slot_facts(reported: Option<&ServerTick>, dt_ns: u64) -> Fact<SlotFacts> {
    let Some(tick) = reported else { return silent() };
    let mut exclusive = [0; State::COUNT];
    let mut occupancy = [0; Stage::COUNT];
    let mut preparing = Vec::with_capacity(SLOTS);
    for slot in tick.slots.iter().filter(|slot| slot.is_known()) {
        exclusive.iter_mut().zip(slot.state_ns).for_each(|(sum, ns)| *sum += ns);
        occupancy.iter_mut().zip(slot.stage_ns).for_each(|(sum, ns)| *sum += ns);
        let mean = |stage: Stage| slot.stage_ns[stage.index()] as f64 / SLOT_NS as f64;
        preparing.push(Preparing { preprocess: mean(Stage::Preprocess), data_load: mean(Stage::DataLoad) });
    }
    if preparing.is_empty() {
        return silent();
    }
    let stage_ns = Stage::all()
        .map(|stage| (stage, occupancy[stage.index()]))
        .filter(|(_, ns)| *ns > 0)
        .map(|(stage, ns)| (stage, tick.stage_name(stage), ns))
        .collect();
    // A tick that had to cover missed ones is longer than its slots.
    let beyond = dt_ns.saturating_sub(SLOTS as u64 * SLOT_NS);
    let unknown_ns = (SLOTS - preparing.len()) as u64 * SLOT_NS + if beyond < SLOT_NS { 0 } else { beyond };
    // States of several workers are combined by rules that assume independence, so they follow, they are not counted.
    let quality = if tick.combined { Quality::Inferred } else { Quality::Sdk };
    Fact::known(SlotFacts { state_ns: exclusive, unknown_ns, stage_ns, preparing }, quality)
}

impl CpuFacts {
    fn read(source: &Source<'_>, entity: EntityId, handles: &ServerHandles) -> Self {
        Self {
            capacity: source.gauge(handles.capacity, &server::CPU_CAPACITY, entity),
            used_ns: source.counter(handles.used, &server::CPU_TIME, entity),
            run_delay_ns: source.counter(handles.run_delay, &server::CPU_RUN_DELAY, entity),
            others_ns: source.counter(handles.others, &server::CPU_OTHERS, entity),
            steal_ns: source.counter(handles.steal, &server::CPU_STEAL, entity),
            throttled_ns: source.counter(handles.throttled, &server::CPU_THROTTLED, entity),
            throttled_periods: source.counter(handles.throttled_periods, &server::CPU_THROTTLED_PERIODS, entity),
            periods: source.counter(handles.periods, &server::CPU_PERIODS, entity),
            quota: source.gauge(handles.quota, &server::CPU_QUOTA, entity),
            hottest_thread: source.gauge(handles.hottest_thread, &server::HOTTEST_THREAD, entity),
        }
    }
}

impl GroupFacts {
    fn read(source: &Source<'_>, entity: EntityId, handles: &ServerHandles) -> Self {
        let event = |name: &str| {
            let series = handles.memory_events.iter().find(|(known, _)| known == name).map(|(_, series)| *series);
            source.counter(series, &host::CGROUP_MEMORY_EVENTS, entity)
        };
        Self {
            memory: source.bytes(handles.memory, &host::CGROUP_MEMORY_USAGE, entity),
            memory_limit: source.bytes(handles.memory_limit, &host::CGROUP_MEMORY_LIMIT, entity),
            limit_hits: event("max"),
            oom_kills: event("oom_kill"),
            pressure: Pressure::read(source, entity, &handles.pressure),
        }
    }
}

pub(super) fn histogram(source: &Source<'_>, series: Option<SeriesId>) -> SparseHdr {
    match series.and_then(|series| source.tick().histogram(series)) {
        Some(Histogram::Hdr(histogram)) => histogram.clone(),
        _ => SparseHdr::new(),
    }
}
