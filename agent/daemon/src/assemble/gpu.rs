//! GPUs as a snapshot shows them.

mod processes;
mod totals;
mod whereabouts;

use perfwatch_model::metrics::gpu;
use perfwatch_model::snapshot::{
    DeviceView, ErrorCountsView, GpuActivityView, GpuPipesView, GpuProcessView, GpuView, PcieView, ThrottleView,
    TransferView, XidView,
};
use perfwatch_model::{
    Entity, EntityId, EntityKind, MetricDef, Number, Reading, Series, SeriesId, SeriesTable, Sharing, Tick,
};
use perfwatch_probes::ProcessList;
use perfwatch_probes::gpu::{GpuDevice, GpuProcess};

use crate::scheduler::ProbeSet;
use crate::servers::Owners;
use totals::Totals;
use whereabouts::Whereabouts;

/// The series of one GPU that a snapshot shows.
struct Handles {
    entity: EntityId,
    /// The device that it is a part of.
    parent: Option<String>,
    /// By [`Shown`].
    single: [Option<SeriesId>; SHOWN.len()],
    /// Clocks held down, by reason.
    throttle: Vec<(String, SeriesId)>,
    /// The time of that, by reason.
    throttle_time: Vec<(String, SeriesId)>,
    faults: Vec<(String, SeriesId)>,
    /// By code.
    xids: Vec<(u64, SeriesId)>,
}

/// All GPUs, as of one generation of the table.
#[derive(Default)]
pub(super) struct GpuHandles {
    generation: Option<u64>,
    gpus: Vec<Handles>,
    totals: Totals,
    whereabouts: Whereabouts,
}

/// What a GPU has one of.
#[derive(Clone, Copy)]
enum Shown {
    Utilization,
    MemoryUsed,
    MemoryTotal,
    Power,
    PowerLimit,
    CoreTemperature,
    TemperatureMargin,
    MemoryTemperature,
    SmClock,
    SmClockLimit,
    MemoryClock,
    Graphics,
    Sm,
    Occupancy,
    Tensor,
    Dram,
    Fp64,
    Fp32,
    Fp16,
    Integer,
    PcieTransmit,
    PcieReceive,
    NvlinkTransmit,
    NvlinkReceive,
    Corrected,
    Uncorrected,
    CorrectedRows,
    UncorrectedRows,
    CorrectedPages,
    UncorrectedPages,
    DefaultPowerLimit,
    PcieGeneration,
    PcieGenerationMax,
    PcieWidth,
    PcieWidthMax,
}

/// Key and value of an attribute.
type Label = (&'static str, &'static str);

/// Each with its metric, and with the attribute that tells it from the metric's other series.
const SHOWN: [(Shown, &MetricDef, Option<Label>); 35] = [
    (Shown::Utilization, &gpu::UTILIZATION, Some(("hw.gpu.task", "general"))),
    (Shown::MemoryUsed, &gpu::MEMORY_USAGE, None),
    (Shown::MemoryTotal, &gpu::MEMORY_LIMIT, None),
    (Shown::Power, &gpu::POWER, None),
    (Shown::PowerLimit, &gpu::POWER_LIMIT, None),
    (Shown::CoreTemperature, &gpu::TEMPERATURE, Some(("hw.sensor_location", "core"))),
    (Shown::TemperatureMargin, &gpu::TEMPERATURE_MARGIN, None),
    (Shown::MemoryTemperature, &gpu::TEMPERATURE, Some(("hw.sensor_location", "memory"))),
    (Shown::SmClock, &gpu::CLOCK, Some(("perfwatch.gpu.clock", "sm"))),
    (Shown::SmClockLimit, &gpu::CLOCK_LIMIT, Some(("perfwatch.gpu.clock", "sm"))),
    (Shown::MemoryClock, &gpu::CLOCK, Some(("perfwatch.gpu.clock", "memory"))),
    (Shown::Graphics, &gpu::GRAPHICS_ACTIVE, None),
    (Shown::Sm, &gpu::SM_ACTIVE, None),
    (Shown::Occupancy, &gpu::SM_OCCUPANCY, None),
    (Shown::Tensor, &gpu::TENSOR_ACTIVE, None),
    (Shown::Dram, &gpu::DRAM_ACTIVE, None),
    (Shown::Fp64, &gpu::PIPE_ACTIVE, Some(("perfwatch.gpu.pipe", "fp64"))),
    (Shown::Fp32, &gpu::PIPE_ACTIVE, Some(("perfwatch.gpu.pipe", "fp32"))),
    (Shown::Fp16, &gpu::PIPE_ACTIVE, Some(("perfwatch.gpu.pipe", "fp16"))),
    (Shown::Integer, &gpu::PIPE_ACTIVE, Some(("perfwatch.gpu.pipe", "int"))),
    (Shown::PcieTransmit, &gpu::PCIE_IO, Some(("network.io.direction", "transmit"))),
    (Shown::PcieReceive, &gpu::PCIE_IO, Some(("network.io.direction", "receive"))),
    (Shown::NvlinkTransmit, &gpu::NVLINK_IO, Some(("network.io.direction", "transmit"))),
    (Shown::NvlinkReceive, &gpu::NVLINK_IO, Some(("network.io.direction", "receive"))),
    (Shown::Corrected, &gpu::ERRORS, Some(("error.type", "corrected"))),
    (Shown::Uncorrected, &gpu::ERRORS, Some(("error.type", "uncorrected"))),
    (Shown::CorrectedRows, &gpu::REMAPPED_ROWS, Some(("error.type", "corrected"))),
    (Shown::UncorrectedRows, &gpu::REMAPPED_ROWS, Some(("error.type", "uncorrected"))),
    (Shown::CorrectedPages, &gpu::RETIRED_PAGES, Some(("error.type", "corrected"))),
    (Shown::UncorrectedPages, &gpu::RETIRED_PAGES, Some(("error.type", "uncorrected"))),
    (Shown::DefaultPowerLimit, &gpu::POWER_LIMIT_DEFAULT, None),
    (Shown::PcieGeneration, &gpu::PCIE_GENERATION, None),
    (Shown::PcieGenerationMax, &gpu::PCIE_GENERATION_LIMIT, None),
    (Shown::PcieWidth, &gpu::PCIE_WIDTH, None),
    (Shown::PcieWidthMax, &gpu::PCIE_WIDTH_LIMIT, None),
];

/// Those of which a snapshot shows what they gained per second.
const RATES: [Shown; 4] = [Shown::PcieTransmit, Shown::PcieReceive, Shown::NvlinkTransmit, Shown::NvlinkReceive];

impl GpuHandles {
    /// Takes in a tick, once each: looks everything up again if the table changed, and what counters gained.
    pub(super) fn refresh(&mut self, tick: &Tick, table: &SeriesTable) {
        if self.generation != Some(table.generation()) {
            self.generation = Some(table.generation());
            self.gpus.clear();
            let gpus = table.entities().filter(|(_, entity)| entity.kind == EntityKind::Gpu);
            self.gpus.extend(gpus.map(|(id, entity)| Handles::new(id, entity)));
            for (id, series) in table.iter() {
                if let Some(handles) = self.gpus.iter_mut().find(|handles| handles.entity == series.entity) {
                    handles.take(id, series);
                }
            }
        }
        self.totals.advance(tick, self.gpus.iter().flat_map(Handles::counters));
    }

    /// Their ids, but of a device of which an instance is among them: the instance says more.
    pub(super) fn named(&self, gpus: &[EntityId], table: &SeriesTable) -> Vec<String> {
        let among = self.gpus.iter().filter(|handles| gpus.contains(&handles.entity));
        let divided: Vec<_> = among.filter_map(|handles| handles.parent.as_ref()).collect();
        let ids = gpus.iter().filter_map(|gpu| Some(table.entity_of(*gpu)?.to_string()));
        ids.filter(|id| !divided.contains(&id)).collect()
    }

    pub(super) fn devices<'a>(
        &mut self,
        tick: &Tick,
        table: &SeriesTable,
        probes: &'a ProbeSet,
        owners: &Owners<'_>,
    ) -> Vec<DeviceView> {
        let list = probes.processes();
        let mut all: Vec<_> = probes.gpus().collect();
        // As the driver numbers them, and so that one that is lost keeps its place. Instances stay with their device.
        all.sort_by_key(|gpu| (gpu.pci.as_value().is_none(), gpu.pci.as_value().cloned()));
        let shown = |gpu: &'a GpuDevice| (gpu, processes::largest(processes::own(gpu, &all)));
        let gpus: Vec<_> = all.iter().map(|gpu| shown(gpu)).collect();
        let shown = gpus.iter().flat_map(|(_, (shown, _))| shown.iter().copied());
        self.whereabouts.update(shown, list, tick.end.mono_ns);
        let device = |(gpu, (shown, left_out)): (&GpuDevice, (Vec<&GpuProcess>, usize))| {
            let mut device = self.device(gpu, tick, table)?;
            if let Some(view) = &mut device.gpu {
                view.processes = shown.iter().map(|process| self.process(process, list, owners, table)).collect();
                view.processes_left_out = left_out as u64;
                view.processes_unknown = match &gpu.processes {
                    Reading::Value(_) => None,
                    Reading::Unavailable(reason) => Some(reason.text.to_string()),
                };
                view.pci_bus_id = gpu.pci.as_value().cloned();
            }
            Some(device)
        };
        gpus.into_iter().filter_map(device).collect()
    }

    fn process(
        &self,
        process: &GpuProcess,
        list: Option<&ProcessList>,
        owners: &Owners<'_>,
        table: &SeriesTable,
    ) -> GpuProcessView {
        let place = self.whereabouts.of(process.pid);
        let server = owners.of(process.pid).server().and_then(|server| table.entity_of(server));
        GpuProcessView {
            pid: process.pid,
            name: list.and_then(|list| list.get(process.pid)).map(|row| row.name.clone()),
            memory_bytes: process.used.as_value().copied(),
            sm_share: process.sm.as_value().copied(),
            server: server.map(ToString::to_string),
            container: place.and_then(|place| place.container.clone()),
            pod: place.and_then(|place| place.pod.clone()),
            container_pid: place.and_then(|place| place.pid),
        }
    }

    /// What ticks alone tell: no names, no processes.
    pub(super) fn told(&self, tick: &Tick, table: &SeriesTable) -> Vec<DeviceView> {
        let gpus = self.gpus.iter().filter_map(|handles| {
            let id = table.entity_of(handles.entity)?.to_string();
            let gpu = Some(handles.view(tick, &self.totals));
            Some(DeviceView { id, kind: "gpu".to_owned(), name: String::new(), ledger: None, cpu: None, gpu })
        });
        gpus.collect()
    }

    /// Without its processes.
    fn device(&self, gpu: &GpuDevice, tick: &Tick, table: &SeriesTable) -> Option<DeviceView> {
        let id = table.entity_of(gpu.entity)?.to_string();
        let handles = self.gpus.iter().find(|handles| handles.entity == gpu.entity);
        let view = handles.map_or_else(GpuView::default, |handles| handles.view(tick, &self.totals));
        Some(DeviceView {
            id,
            kind: "gpu".to_owned(),
            name: gpu.name.clone(),
            ledger: None,
            cpu: None,
            gpu: Some(view),
        })
    }
}

impl Handles {
    fn new(id: EntityId, entity: &Entity) -> Self {
        let parent = entity.attributes.iter().find(|attr| attr.key == "hw.parent");
        Self {
            entity: id,
            parent: parent.map(|uuid| format!("gpu:{}", uuid.value)),
            single: [None; SHOWN.len()],
            throttle: Vec::new(),
            throttle_time: Vec::new(),
            faults: Vec::new(),
            xids: Vec::new(),
        }
    }

    fn take(&mut self, id: SeriesId, series: &Series) {
        let attr = |key: &str| series.attrs.iter().find(|attr| attr.key == key).map(|attr| attr.value.to_string());
        let name = series.metric.name;
        let is_it = |label: Option<(&str, &str)>| label.is_none_or(|(key, value)| attr(key).as_deref() == Some(value));
        for (shown, ..) in SHOWN.iter().filter(|(_, metric, label)| metric.name == name && is_it(*label)) {
            self.single[*shown as usize].get_or_insert(id);
        }
        let named = |key| attr(key).map(|value| (value, id));
        if name == gpu::THROTTLE_ACTIVE.name {
            self.throttle.extend(named("perfwatch.gpu.throttle.reason"));
        } else if name == gpu::THROTTLE_TIME.name {
            self.throttle_time.extend(named("perfwatch.gpu.throttle.reason"));
        } else if name == gpu::FAULT.name {
            self.faults.extend(named("perfwatch.gpu.fault"));
        } else if name == gpu::XIDS.name {
            self.xids.extend(attr("perfwatch.gpu.xid.code").and_then(|code| Some((code.parse().ok()?, id))));
        }
    }

    /// The counters of which a snapshot shows what they gained.
    fn counters(&self) -> impl Iterator<Item = SeriesId> + '_ {
        let rates = RATES.iter().filter_map(|shown| self.single[*shown as usize]);
        rates.chain(self.throttle_time.iter().map(|(_, id)| *id))
    }

    fn view(&self, tick: &Tick, totals: &Totals) -> GpuView {
        let read = |shown: Shown| {
            let value = tick.value(self.single[shown as usize]?)?;
            Some(SHOWN[shown as usize].1.unit.outside(value))
        };
        let int = |shown: Shown| tick.value(self.single[shown as usize]?).and_then(Number::as_int);
        let small = |shown: Shown| int(shown).and_then(|value| u32::try_from(value).ok());
        let rate = |shown: Shown| totals.per_second(self.single[shown as usize]?);
        let names = |series: &[(String, SeriesId)]| {
            let holds = |id: SeriesId| tick.value(id).is_some_and(|value| value.as_f64() > 0.0);
            series.iter().filter(|(_, id)| holds(*id)).map(|(name, _)| name.clone()).collect()
        };
        let activity = GpuActivityView {
            graphics_active: read(Shown::Graphics),
            sm_active: read(Shown::Sm),
            sm_occupancy: read(Shown::Occupancy),
            tensor_active: read(Shown::Tensor),
            dram_active: read(Shown::Dram),
            pipes: GpuPipesView {
                fp64: read(Shown::Fp64),
                fp32: read(Shown::Fp32),
                fp16: read(Shown::Fp16),
                int: read(Shown::Integer),
            },
        };
        let pcie = PcieView {
            transmit_bytes_per_s: rate(Shown::PcieTransmit),
            receive_bytes_per_s: rate(Shown::PcieReceive),
            generation: small(Shown::PcieGeneration),
            generation_max: small(Shown::PcieGenerationMax),
            width: small(Shown::PcieWidth),
            width_max: small(Shown::PcieWidthMax),
        };
        let nvlink = TransferView {
            transmit_bytes_per_s: rate(Shown::NvlinkTransmit),
            receive_bytes_per_s: rate(Shown::NvlinkReceive),
        };
        let shared = tick.gpus.iter().find(|gpu| gpu.entity == self.entity).map(|gpu| gpu.sharing);
        let counts =
            |corrected, uncorrected| ErrorCountsView { corrected: int(corrected), uncorrected: int(uncorrected) };
        GpuView {
            utilization: read(Shown::Utilization),
            activity: known(activity),
            memory_used_bytes: int(Shown::MemoryUsed),
            memory_limit_bytes: int(Shown::MemoryTotal),
            power_watts: read(Shown::Power),
            power_limit_watts: read(Shown::PowerLimit),
            default_power_limit_watts: read(Shown::DefaultPowerLimit),
            temperature_celsius: read(Shown::CoreTemperature),
            temperature_margin_celsius: read(Shown::TemperatureMargin),
            memory_temperature_celsius: read(Shown::MemoryTemperature),
            sm_clock_hertz: read(Shown::SmClock),
            sm_clock_limit_hertz: read(Shown::SmClockLimit),
            memory_clock_hertz: read(Shown::MemoryClock),
            throttle_reasons: names(&self.throttle),
            throttled: self.throttled(totals),
            pcie: known(pcie),
            nvlink: known(nvlink),
            faults: names(&self.faults),
            xids: self.xids(tick),
            memory_errors: known(counts(Shown::Corrected, Shown::Uncorrected)),
            remapped_rows: known(counts(Shown::CorrectedRows, Shown::UncorrectedRows)),
            retired_pages: known(counts(Shown::CorrectedPages, Shown::UncorrectedPages)),
            processes: Vec::new(),
            processes_unknown: None,
            pci_bus_id: None,
            processes_left_out: 0,
            parent: self.parent.clone(),
            sharing: shared.filter(|sharing| *sharing != Sharing::Unknown).map(|sharing| sharing.name().to_owned()),
        }
    }

    fn throttled(&self, totals: &Totals) -> Vec<ThrottleView> {
        let shares = self.throttle_time.iter().filter_map(|(reason, id)| {
            // Nanoseconds per second; the driver's clock and ours do not tick together.
            let share = (totals.per_second(*id)? / 1e9).clamp(0.0, 1.0);
            Some(ThrottleView { reason: reason.clone(), share })
        });
        shares.collect()
    }

    fn xids(&self, tick: &Tick) -> Vec<XidView> {
        let counts = self.xids.iter().filter_map(|(code, id)| Some((*code, tick.value(*id)?.as_int()?)));
        let mut xids: Vec<_> =
            counts.filter(|(_, count)| *count > 0).map(|(code, count)| XidView { code, count }).collect();
        xids.sort_unstable_by_key(|xid| xid.code);
        xids
    }
}

/// A view in which anything is known.
fn known<T: PartialEq + Default>(view: T) -> Option<T> {
    (view != T::default()).then_some(view)
}

#[cfg(test)]
mod tests;
