//! What a tick says about the machine.

use perfwatch_model::metrics::{gpu, host};
use perfwatch_model::{EntityId, Quality, Reason, SeriesId};

use super::Fact;
use super::handles::HostHandles;
use super::reader::Source;

/// The machine in one tick.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFacts {
    /// Which machine; `None` where it was not sampled.
    pub entity: Option<EntityId>,
    /// Length of the tick in nanoseconds.
    pub dt_ns: u64,
    /// Logical CPUs that are online.
    pub cpus: Fact<f64>,
    /// Share of all CPU time that was not idle, 0 to 1.
    pub utilization: Fact<f64>,
    /// The same per logical CPU, in order of number.
    pub per_cpu: Vec<Fact<f64>>,
    /// Share of CPU time that a hypervisor gave to others, 0 to 1.
    pub steal: Fact<f64>,
    /// Memory there is, in bytes.
    pub memory_total: Fact<u64>,
    /// Memory that new programs could take, in bytes.
    pub memory_available: Fact<u64>,
    /// Share of time in which some task waited for a resource.
    pub pressure: Pressure,
    /// The driver of its GPUs.
    pub driver: DriverFacts,
}

/// The driver of GPUs, as far as none of the GPUs that it shows can tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct DriverFacts {
    /// What is wrong with it, in the words of `perfwatch.gpu.fault`; nothing where there is none.
    pub faults: Vec<String>,
    /// Why it shows no GPU, or not all of them.
    pub reason: Option<Reason>,
    /// Whether it shows any.
    pub shows_gpus: bool,
}

impl DriverFacts {
    fn read(source: &Source<'_>, entity: EntityId, faults: &[(String, SeriesId)], shows_gpus: bool) -> Self {
        let holds = |series| source.gauge(Some(series), &gpu::FAULT, entity).get().is_some_and(|value| value > 0.0);
        let faults: Vec<_> = faults.iter().filter(|(_, id)| holds(*id)).map(|(fault, _)| fault.clone()).collect();
        let none: Fact<f64> = source.gauge(None, &gpu::UTILIZATION, entity);
        Self { reason: none.reason().filter(|_| !faults.is_empty()).cloned(), faults, shows_gpus }
    }
}

/// Pressure stall information: shares of time in which some task waited, 0 to 1.
#[derive(Clone, Debug, PartialEq)]
pub struct Pressure {
    /// For a CPU.
    pub cpu: Fact<f64>,
    /// For memory.
    pub memory: Fact<f64>,
    /// For input or output.
    pub io: Fact<f64>,
}

impl Pressure {
    /// From series by resource.
    pub(super) fn read(source: &Source<'_>, entity: EntityId, series: &[(String, SeriesId)]) -> Self {
        let share = |resource: &str| {
            let series = series.iter().find(|(known, _)| known == resource).map(|(_, series)| *series);
            let waited = source.counter(series, &host::PRESSURE_TIME, entity);
            waited.map(|ns| (ns as f64 / source.dt_ns().max(1) as f64).min(1.0))
        };
        Self { cpu: share("cpu"), memory: share("memory"), io: share("io") }
    }
}

impl HostFacts {
    pub(super) fn read(source: &Source<'_>, handles: &HostHandles, shows_gpus: bool) -> Self {
        let Some(entity) = handles.entity else { return Self::absent(source) };
        Self {
            entity: Some(entity),
            dt_ns: source.dt_ns(),
            cpus: source.gauge(handles.cpus, &host::CPU_COUNT, entity),
            utilization: source.gauge(handles.utilization, &host::CPU_UTILIZATION, entity),
            per_cpu: handles
                .core_time
                .values()
                .map(|modes| share_of_modes(source, entity, modes, |mode| !matches!(mode, "idle" | "iowait")))
                .collect(),
            steal: share_of_modes(source, entity, &handles.cpu_time, |mode| mode == "steal"),
            memory_total: source.bytes(handles.memory_total, &host::MEMORY_LIMIT, entity),
            memory_available: source.bytes(handles.memory_available, &host::MEMORY_AVAILABLE, entity),
            pressure: Pressure::read(source, entity, &handles.pressure),
            driver: DriverFacts::read(source, entity, &handles.driver_faults, shows_gpus),
        }
    }

    fn absent(source: &Source<'_>) -> Self {
        const WHY: &str = "the machine was not sampled";
        Self {
            entity: None,
            dt_ns: source.dt_ns(),
            cpus: Fact::missing(WHY),
            utilization: Fact::missing(WHY),
            per_cpu: Vec::new(),
            steal: Fact::missing(WHY),
            memory_total: Fact::missing(WHY),
            memory_available: Fact::missing(WHY),
            pressure: Pressure { cpu: Fact::missing(WHY), memory: Fact::missing(WHY), io: Fact::missing(WHY) },
            driver: DriverFacts::default(),
        }
    }
}

/// Share of the CPU time in all modes that went into the modes that count.
fn share_of_modes(
    source: &Source<'_>,
    entity: EntityId,
    modes: &[(String, SeriesId)],
    counts: impl Fn(&str) -> bool,
) -> Fact<f64> {
    let (mut part, mut whole) = (0, 0);
    for (mode, series) in modes {
        match source.counter(Some(*series), &host::CPU_TIME, entity).known_or_reason() {
            Ok(ns) => {
                whole += ns;
                part += if counts(mode) { *ns } else { 0 };
            }
            Err(reason) => return Fact::unknown(reason),
        }
    }
    if whole == 0 {
        return Fact::missing("no CPU time passed in this tick");
    }
    Fact::known(part as f64 / whole as f64, Quality::Counter)
}
