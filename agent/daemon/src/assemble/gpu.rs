//! GPUs as a snapshot shows them.

use perfwatch_model::metrics::gpu;
use perfwatch_model::snapshot::{DeviceView, GpuProcessView, GpuView};
use perfwatch_model::{EntityId, EntityKind, MetricDef, Number, Series, SeriesId, SeriesTable, Tick};
use perfwatch_probes::ProcessList;
use perfwatch_probes::gpu::{GpuDevice, GpuProcess};

use crate::scheduler::ProbeSet;

/// The series of one GPU that a snapshot shows.
struct Handles {
    entity: EntityId,
    single: Vec<(&'static str, SeriesId)>,
    sm_clock: Option<SeriesId>,
    /// By reason.
    throttle: Vec<(String, SeriesId)>,
}

/// All GPUs, as of one generation of the table.
#[derive(Default)]
pub(super) struct GpuHandles {
    generation: Option<u64>,
    gpus: Vec<Handles>,
}

const SINGLE: [&MetricDef; 6] =
    [&gpu::UTILIZATION, &gpu::MEMORY_USAGE, &gpu::MEMORY_LIMIT, &gpu::POWER, &gpu::POWER_LIMIT, &gpu::TEMPERATURE];

impl GpuHandles {
    /// Looks everything up again if the table changed.
    pub(super) fn refresh(&mut self, table: &SeriesTable) {
        if self.generation == Some(table.generation()) {
            return;
        }
        self.generation = Some(table.generation());
        self.gpus.clear();
        for (id, _) in table.entities().filter(|(_, entity)| entity.kind == EntityKind::Gpu) {
            self.gpus.push(Handles { entity: id, single: Vec::new(), sm_clock: None, throttle: Vec::new() });
        }
        for (id, series) in table.iter() {
            if let Some(handles) = self.gpus.iter_mut().find(|handles| handles.entity == series.entity) {
                handles.take(id, series);
            }
        }
    }

    pub(super) fn devices(&self, tick: &Tick, table: &SeriesTable, probes: &ProbeSet) -> Vec<DeviceView> {
        probes.gpus().filter_map(|gpu| self.device(gpu, tick, table, probes.processes())).collect()
    }

    /// What ticks alone tell: no names, no processes.
    pub(super) fn told(&self, tick: &Tick, table: &SeriesTable) -> Vec<DeviceView> {
        let gpus = self.gpus.iter().filter_map(|handles| {
            let id = table.entity_of(handles.entity)?.to_string();
            let gpu = Some(handles.view(tick));
            Some(DeviceView { id, kind: "gpu".to_owned(), name: String::new(), ledger: None, cpu: None, gpu })
        });
        gpus.collect()
    }

    fn device(
        &self,
        gpu: &GpuDevice,
        tick: &Tick,
        table: &SeriesTable,
        processes: Option<&ProcessList>,
    ) -> Option<DeviceView> {
        let id = table.entity_of(gpu.entity)?.to_string();
        let handles = self.gpus.iter().find(|handles| handles.entity == gpu.entity);
        let mut view = handles.map_or_else(GpuView::default, |handles| handles.view(tick));
        let held = gpu.processes.as_value().map_or(&[][..], Vec::as_slice);
        view.processes = held.iter().map(|process| process_view(process, processes)).collect();
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
    fn take(&mut self, id: SeriesId, series: &Series) {
        let attr = |key| series.attrs.iter().find(|attr| attr.key == key).map(|attr| attr.value.to_string());
        let name = series.metric.name;
        if SINGLE.iter().any(|metric| metric.name == name) {
            self.single.push((name, id));
        } else if name == gpu::CLOCK.name && attr("perfwatch.gpu.clock").as_deref() == Some("sm") {
            self.sm_clock = Some(id);
        } else if name == gpu::THROTTLE_ACTIVE.name {
            self.throttle.extend(attr("perfwatch.gpu.throttle.reason").map(|reason| (reason, id)));
        }
    }

    fn view(&self, tick: &Tick) -> GpuView {
        let read = |metric: &MetricDef| {
            let (_, id) = self.single.iter().find(|(name, _)| *name == metric.name)?;
            Some(metric.unit.outside(tick.value(*id)?))
        };
        let bytes = |metric| read(metric).map(|bytes| bytes as u64);
        let holds = |id: SeriesId| tick.value(id).is_some_and(|value| value.as_f64() > 0.0);
        let active = self.throttle.iter().filter(|(_, id)| holds(*id)).map(|(reason, _)| reason.clone());
        GpuView {
            utilization: read(&gpu::UTILIZATION),
            memory_used_bytes: bytes(&gpu::MEMORY_USAGE),
            memory_limit_bytes: bytes(&gpu::MEMORY_LIMIT),
            power_watts: read(&gpu::POWER),
            power_limit_watts: read(&gpu::POWER_LIMIT),
            temperature_celsius: read(&gpu::TEMPERATURE),
            sm_clock_hertz: self.sm_clock.and_then(|id| tick.value(id)).map(Number::as_f64),
            throttle_reasons: active.collect(),
            processes: Vec::new(),
        }
    }
}

/// A process on a GPU, with the name that the machine's process list has for it.
fn process_view(process: &GpuProcess, processes: Option<&ProcessList>) -> GpuProcessView {
    GpuProcessView {
        pid: process.pid,
        name: processes.and_then(|list| list.get(process.pid)).map(|row| row.name.clone()),
        memory_bytes: process.used.as_value().copied(),
    }
}
