//! The series that facts are read from, looked up once per change of the table instead of once per tick.

use std::collections::BTreeMap;

use perfwatch_model::metrics::{gpu, host, server};
use perfwatch_model::{AttrValue, EntityId, EntityKind, MetricDef, Series, SeriesId, SeriesTable};

/// The attribute that names a fault of a GPU or of its driver.
const FAULT: &str = "perfwatch.gpu.fault";
/// The attribute that says why the clocks of a GPU are held down.
const THROTTLE_REASON: &str = "perfwatch.gpu.throttle.reason";

/// The series of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct ServerHandles {
    pub(super) capacity: Option<SeriesId>,
    pub(super) used: Option<SeriesId>,
    pub(super) run_delay: Option<SeriesId>,
    pub(super) others: Option<SeriesId>,
    pub(super) steal: Option<SeriesId>,
    pub(super) throttled: Option<SeriesId>,
    pub(super) throttled_periods: Option<SeriesId>,
    pub(super) periods: Option<SeriesId>,
    pub(super) quota: Option<SeriesId>,
    pub(super) hottest_thread: Option<SeriesId>,
    pub(super) memory: Option<SeriesId>,
    pub(super) memory_limit: Option<SeriesId>,
    /// By event.
    pub(super) memory_events: Vec<(String, SeriesId)>,
    /// By resource; only time in which *some* task waited.
    pub(super) pressure: Vec<(String, SeriesId)>,
    pub(super) duration: Option<SeriesId>,
    /// By name of the stage.
    pub(super) stages: Vec<(String, SeriesId)>,
    pub(super) told: ToldHandles,
}

/// The series of what a server tells besides.
#[derive(Clone, Debug, Default)]
pub(super) struct ToldHandles {
    /// Requests that began, which the tick knows too.
    pub(super) started: Option<SeriesId>,
    /// Read, generated.
    pub(super) tokens: [Option<SeriesId>; 2],
    /// Hit, missed.
    pub(super) lookups: [Option<SeriesId>; 2],
    /// By kind.
    pub(super) errors: Vec<(String, SeriesId)>,
    pub(super) first_token: Option<SeriesId>,
    pub(super) inter_token: Option<SeriesId>,
}

/// The series of the machine.
#[derive(Clone, Debug, Default)]
pub(super) struct HostHandles {
    pub(super) entity: Option<EntityId>,
    pub(super) cpus: Option<SeriesId>,
    pub(super) utilization: Option<SeriesId>,
    /// By mode.
    pub(super) cpu_time: Vec<(String, SeriesId)>,
    /// By number of the logical CPU, then by mode.
    pub(super) core_time: BTreeMap<i64, Vec<(String, SeriesId)>>,
    pub(super) memory_total: Option<SeriesId>,
    pub(super) memory_available: Option<SeriesId>,
    /// By resource; only time in which *some* task waited.
    pub(super) pressure: Vec<(String, SeriesId)>,
    /// Of the driver of its GPUs, by fault.
    pub(super) driver_faults: Vec<(String, SeriesId)>,
}

/// The series of one GPU.
#[derive(Clone, Debug, Default)]
pub(super) struct GpuHandles {
    pub(super) utilization: Option<SeriesId>,
    pub(super) graphics: Option<SeriesId>,
    pub(super) sm: Option<SeriesId>,
    pub(super) tensor: Option<SeriesId>,
    pub(super) dram: Option<SeriesId>,
    /// All but the tensor cores.
    pub(super) pipes: Vec<SeriesId>,
    pub(super) memory_used: Option<SeriesId>,
    pub(super) memory_total: Option<SeriesId>,
    pub(super) memory_reserved: Option<SeriesId>,
    pub(super) sm_clock: Option<SeriesId>,
    pub(super) sm_clock_limit: Option<SeriesId>,
    pub(super) power_limit: Option<SeriesId>,
    pub(super) link_generation: Option<SeriesId>,
    pub(super) link_width: Option<SeriesId>,
    pub(super) link_generation_limit: Option<SeriesId>,
    pub(super) link_width_limit: Option<SeriesId>,
    /// Bytes over the link, by direction.
    pub(super) link_io: Vec<SeriesId>,
    /// By reason: the time counted, and whether it holds at this moment.
    pub(super) held_down: Vec<(String, SeriesId)>,
    pub(super) held_down_now: Vec<(String, SeriesId)>,
    pub(super) uncorrected: Option<SeriesId>,
    pub(super) energy: Option<SeriesId>,
    /// By fault.
    pub(super) faults: Vec<(String, SeriesId)>,
    /// By code.
    pub(super) xids: Vec<(i64, SeriesId)>,
}

/// All of them, as of one generation of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct Handles {
    generation: Option<u64>,
    pub(super) host: HostHandles,
    pub(super) servers: BTreeMap<EntityId, ServerHandles>,
    pub(super) gpus: BTreeMap<EntityId, GpuHandles>,
}

impl Handles {
    /// Looks everything up again if the table changed.
    pub(super) fn refresh(&mut self, table: &SeriesTable) {
        if self.generation == Some(table.generation()) {
            return;
        }
        *self = Self { generation: Some(table.generation()), ..Self::default() };
        for (id, entity) in table.entities() {
            match entity.kind {
                EntityKind::Server => _ = self.servers.insert(id, ServerHandles::default()),
                EntityKind::Gpu => _ = self.gpus.insert(id, GpuHandles::default()),
                EntityKind::Host => self.host.entity = Some(id),
                _ => {}
            }
        }
        for (id, series) in table.iter() {
            if let Some(server) = self.servers.get_mut(&series.entity) {
                server.take(id, series);
            } else if let Some(gpu) = self.gpus.get_mut(&series.entity) {
                gpu.take(id, series);
            } else if self.host.entity == Some(series.entity) {
                self.host.take(id, series);
            }
        }
    }
}

/// The value of a series' attribute as text.
fn attr(series: &Series, key: &str) -> Option<String> {
    series.attrs.iter().find(|attr| attr.key == key).map(|attr| attr.value.to_string())
}

/// The resource for which some task waited; `None` for what all of them waited for.
fn some_pressure(series: &Series) -> Option<String> {
    let some = attr(series, "perfwatch.pressure.kind").as_deref() == Some("some");
    attr(series, "perfwatch.pressure.resource").filter(|_| some)
}

fn is(series: &Series, metric: &MetricDef) -> bool {
    series.metric.name == metric.name
}

impl ServerHandles {
    fn take(&mut self, id: SeriesId, series: &Series) {
        let single = [
            (&server::CPU_CAPACITY, &mut self.capacity),
            (&server::CPU_TIME, &mut self.used),
            (&server::CPU_RUN_DELAY, &mut self.run_delay),
            (&server::CPU_OTHERS, &mut self.others),
            (&server::CPU_STEAL, &mut self.steal),
            (&server::CPU_THROTTLED, &mut self.throttled),
            (&server::CPU_THROTTLED_PERIODS, &mut self.throttled_periods),
            (&server::CPU_PERIODS, &mut self.periods),
            (&server::CPU_QUOTA, &mut self.quota),
            (&server::HOTTEST_THREAD, &mut self.hottest_thread),
            (&host::CGROUP_MEMORY_USAGE, &mut self.memory),
            (&host::CGROUP_MEMORY_LIMIT, &mut self.memory_limit),
            (&server::REQUEST_DURATION, &mut self.duration),
            (&server::REQUESTS_STARTED, &mut self.told.started),
            (&server::TIME_TO_FIRST_TOKEN, &mut self.told.first_token),
            (&server::INTER_TOKEN, &mut self.told.inter_token),
        ];
        for (metric, slot) in single {
            if is(series, metric) {
                *slot = Some(id);
                return;
            }
        }
        if is(series, &server::STAGE_DURATION) {
            self.stages.extend(attr(series, "perfwatch.stage").map(|stage| (stage, id)));
        } else if is(series, &host::CGROUP_MEMORY_EVENTS) {
            self.memory_events.extend(attr(series, "perfwatch.cgroup.event").map(|event| (event, id)));
        } else if is(series, &host::PRESSURE_TIME) {
            self.pressure.extend(some_pressure(series).map(|resource| (resource, id)));
        } else if is(series, &server::TOKENS) {
            take_one(&mut self.told.tokens, ["input", "output"], attr(series, "gen_ai.token.type").as_deref(), id);
        } else if is(series, &server::CACHE_LOOKUPS) {
            take_one(&mut self.told.lookups, ["hit", "miss"], attr(series, "perfwatch.outcome").as_deref(), id);
        } else if is(series, &server::ERRORS) {
            self.told.errors.extend(attr(series, "error.type").map(|kind| (kind, id)));
        }
    }
}

/// Puts a series into the place of its attribute's value.
fn take_one(places: &mut [Option<SeriesId>; 2], names: [&str; 2], value: Option<&str>, id: SeriesId) {
    if let Some(at) = names.iter().position(|name| value == Some(name)) {
        places[at] = Some(id);
    }
}

impl GpuHandles {
    fn take(&mut self, id: SeriesId, series: &Series) {
        // Encoder and decoder share the metric, and say nothing of the SMs.
        if attr(series, "hw.gpu.task").is_some_and(|task| task != "general") {
            return;
        }
        let single = [
            (&gpu::UTILIZATION, &mut self.utilization),
            (&gpu::GRAPHICS_ACTIVE, &mut self.graphics),
            (&gpu::SM_ACTIVE, &mut self.sm),
            (&gpu::TENSOR_ACTIVE, &mut self.tensor),
            (&gpu::DRAM_ACTIVE, &mut self.dram),
            (&gpu::MEMORY_USAGE, &mut self.memory_used),
            (&gpu::MEMORY_LIMIT, &mut self.memory_total),
            (&gpu::MEMORY_RESERVED, &mut self.memory_reserved),
            (&gpu::POWER_LIMIT, &mut self.power_limit),
            (&gpu::ENERGY, &mut self.energy),
            (&gpu::PCIE_GENERATION, &mut self.link_generation),
            (&gpu::PCIE_WIDTH, &mut self.link_width),
            (&gpu::PCIE_GENERATION_LIMIT, &mut self.link_generation_limit),
            (&gpu::PCIE_WIDTH_LIMIT, &mut self.link_width_limit),
        ];
        for (metric, slot) in single {
            if is(series, metric) {
                *slot = Some(id);
                return;
            }
        }
        let of_sms = || attr(series, "perfwatch.gpu.clock").as_deref() == Some("sm");
        if is(series, &gpu::CLOCK) && of_sms() {
            self.sm_clock = Some(id);
        } else if is(series, &gpu::CLOCK_LIMIT) && of_sms() {
            self.sm_clock_limit = Some(id);
        } else if is(series, &gpu::PCIE_IO) {
            self.link_io.push(id);
        } else if is(series, &gpu::PIPE_ACTIVE) {
            self.pipes.push(id);
        } else if is(series, &gpu::THROTTLE_TIME) {
            self.held_down.extend(attr(series, THROTTLE_REASON).map(|reason| (reason, id)));
        } else if is(series, &gpu::THROTTLE_ACTIVE) {
            self.held_down_now.extend(attr(series, THROTTLE_REASON).map(|reason| (reason, id)));
        } else if is(series, &gpu::XIDS) {
            let code = series.attrs.iter().find(|attr| attr.key == "perfwatch.gpu.xid.code");
            if let Some(AttrValue::Int(code)) = code.map(|attr| &attr.value) {
                self.xids.push((*code, id));
            }
        } else if is(series, &gpu::FAULT) {
            self.faults.extend(attr(series, FAULT).map(|fault| (fault, id)));
        } else if is(series, &gpu::ERRORS) && attr(series, "error.type").as_deref() == Some("uncorrected") {
            self.uncorrected = Some(id);
        }
    }
}

impl HostHandles {
    fn take(&mut self, id: SeriesId, series: &Series) {
        if is(series, &host::CPU_COUNT) {
            self.cpus = Some(id);
        } else if is(series, &host::CPU_UTILIZATION) && series.attrs.is_empty() {
            self.utilization = Some(id);
        } else if is(series, &host::MEMORY_LIMIT) {
            self.memory_total = Some(id);
        } else if is(series, &host::MEMORY_AVAILABLE) {
            self.memory_available = Some(id);
        } else if is(series, &host::CPU_TIME) {
            self.cpu_time.extend(attr(series, "cpu.mode").map(|mode| (mode, id)));
        } else if is(series, &host::CPU_CORE_TIME) {
            let core = series.attrs.iter().find(|attr| attr.key == "cpu.logical_number");
            if let (Some(AttrValue::Int(core)), Some(mode)) = (core.map(|attr| &attr.value), attr(series, "cpu.mode")) {
                self.core_time.entry(*core).or_default().push((mode, id));
            }
        } else if is(series, &host::PRESSURE_TIME) {
            self.pressure.extend(some_pressure(series).map(|resource| (resource, id)));
        } else if is(series, &gpu::FAULT) {
            self.driver_faults.extend(attr(series, FAULT).map(|fault| (fault, id)));
        }
    }
}
