//! The probe's side of the NVML thread: asks, waits no longer than its budget, and puts what came into the sample.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, TryRecvError};

use perfwatch_model::metrics::gpu;
use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, MetricDef, Number, Reading, Reason, Sample, SeriesId, Stamp,
};

use super::activity::Activity;
use super::counter::Counter;
use super::fault;
use super::fields::{self, Field};
use super::gpm::Unit;
use super::readings::{DeviceFault, DeviceReadings, THROTTLE_REASONS};
use super::sampler::{self, Description, Report, Request};
use crate::Probe;
use crate::gpu::{GpuContext, GpuDevice, GpuProbe};

/// Process lists cost more than all other readings together, and change when models are loaded.
const PROCESSES_EVERY_NS: u64 = 2_000_000_000;
/// Limits change when somebody sets them.
const LIMITS_EVERY_NS: u64 = 30_000_000_000;

/// NVIDIA's GPUs, sampled.
pub(crate) struct NvidiaProbe {
    context: GpuContext,
    activity: Activity,
    requests: Option<Sender<Request>>,
    reports: Receiver<Report>,
    /// Why there is nothing to read, while the thread owes an answer to a request that was given up on.
    overdue: Option<Reason>,
    /// The report's buffers, while the thread does not have them.
    spare: Report,
    /// CPU time of the thread, as of its last answer.
    thread_cpu_ns: u64,
    processes_due_ns: u64,
    limits_due_ns: u64,
    /// Those that answer, then those that the driver could not open any more.
    devices: Vec<GpuDevice>,
    series: Vec<DeviceSeries>,
    /// Why it could not.
    refused: Option<Reason>,
}

impl NvidiaProbe {
    /// Starts the NVML thread. It is never joined: it may be in a call that does not return.
    pub(crate) fn start(context: GpuContext) -> Self {
        let (requests, asked) = mpsc::channel();
        let (answers, reports) = mpsc::channel();
        let activity = Activity::default();
        let (theirs, settings) = (activity.clone(), context.clone());
        let thread = std::thread::Builder::new()
            .name("perfwatch-nvml".into())
            .spawn(move || sampler::run(&asked, &answers, &settings, &theirs));
        Self {
            context,
            activity,
            requests: thread.is_ok().then_some(requests),
            reports,
            overdue: None,
            spare: Report::default(),
            thread_cpu_ns: 0,
            processes_due_ns: 0,
            limits_due_ns: 0,
            devices: Vec::new(),
            series: Vec::new(),
            refused: None,
        }
    }

    /// One question to the thread and its answer, or why there is none.
    fn ask(&mut self, now: Stamp, out: &mut Sample<'_>) -> Result<Report, Reason> {
        if let Some(reason) = &self.overdue {
            match self.reports.try_recv() {
                Ok(mut late) => {
                    // Its numbers are of a time long past; the list of devices still holds.
                    self.adopt(late.inventory.take(), late.refused.take(), out);
                    self.count_xids(&late, out);
                    self.thread_cpu_ns = late.cpu_ns;
                    self.spare = late;
                    self.overdue = None;
                }
                Err(TryRecvError::Empty) => return Err(reason.clone()),
                Err(TryRecvError::Disconnected) => return Err(fault::NO_THREAD),
            }
        }
        let (processes, limits) = (now.mono_ns >= self.processes_due_ns, now.mono_ns >= self.limits_due_ns);
        let request = Request { at: now, processes, limits, report: std::mem::take(&mut self.spare) };
        self.requests.as_ref().and_then(|requests| requests.send(request).ok()).ok_or(fault::NO_THREAD)?;
        match self.reports.recv_timeout(self.context.budget) {
            Ok(mut report) => {
                self.adopt(report.inventory.take(), report.refused.take(), out);
                self.thread_cpu_ns = report.cpu_ns;
                if processes {
                    self.processes_due_ns = now.mono_ns.saturating_add(PROCESSES_EVERY_NS);
                }
                if limits {
                    self.limits_due_ns = now.mono_ns.saturating_add(LIMITS_EVERY_NS);
                }
                match report.failure.take() {
                    Some(reason) => {
                        // The error that ended the session may be told in its last answer, and is told once.
                        self.count_xids(&report, out);
                        self.spare = report;
                        Err(reason)
                    }
                    None => Ok(report),
                }
            }
            Err(RecvTimeoutError::Timeout) => {
                let reason = unresponsive(now, self.activity.call());
                self.overdue = Some(reason.clone());
                Err(reason)
            }
            Err(RecvTimeoutError::Disconnected) => Err(fault::NO_THREAD),
        }
    }

    fn count_xids(&mut self, report: &Report, out: &mut Sample<'_>) {
        for (series, readings) in self.series.iter_mut().zip(&report.devices) {
            series.count_xids(&readings.xids, out);
        }
    }

    /// Takes over a new list of devices; those that are gone retire with their series. Where the driver could not open one that
    /// is there, those that are missing are taken for it and stay: a dead GPU must not vanish from sight.
    fn adopt(&mut self, inventory: Option<Vec<Description>>, refused: Option<Reason>, out: &mut Sample<'_>) {
        let Some(inventory) = inventory else { return };
        self.refused = refused;
        let mut known = std::mem::take(&mut self.series);
        let mut missing = std::mem::take(&mut self.devices);
        missing.retain(|device| inventory.iter().all(|now| now.uuid != device.uuid));
        if self.refused.is_none() {
            missing.drain(..).for_each(|device| out.table().retire(device.entity));
        }
        for description in inventory {
            let entity = out.entity(entity(&description));
            // The index may move from one initialisation to the next; the UUID does not.
            let kept = known.iter().position(|series| series.entity == entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(entity, out)));
            self.devices.push(GpuDevice {
                entity,
                uuid: description.uuid,
                name: description.name,
                pci: description.pci,
                driver_version: description.driver_version,
                processes: Reading::Unavailable(Reason::fixed("not read yet", "")),
            });
        }
        for device in missing {
            let kept = known.iter().position(|series| series.entity == device.entity).map(|at| known.swap_remove(at));
            self.series.push(kept.unwrap_or_else(|| DeviceSeries::intern(device.entity, out)));
            self.devices.push(device);
        }
    }

    /// What is known of the devices that the driver could not open.
    fn report_refused(&mut self, answered: usize, out: &mut Sample<'_>) {
        let Some(reason) = &self.refused else { return };
        for (device, series) in self.devices.iter_mut().zip(&self.series).skip(answered) {
            device.processes = Reading::Unavailable(reason.clone());
            for metric in gpu::ALL.iter().filter(|metric| ![gpu::FAULT.name, gpu::XIDS.name].contains(&metric.name)) {
                out.unavailable(metric, device.entity, reason.clone());
            }
            series.publish_only(Some(Sign::Device(DeviceFault::Lost)), out);
        }
    }

    /// Says of every metric, of every device known or else of the machine, why it is missing.
    fn report_absence(&mut self, reason: &Reason, out: &mut Sample<'_>) {
        for device in &mut self.devices {
            device.processes = Reading::Unavailable(reason.clone());
        }
        let known = self.devices.iter().map(|device| device.entity);
        let nobody = self.devices.is_empty().then_some(self.context.host);
        for entity in known.chain(nobody) {
            // What the agent counts itself stays true, and of a driver that fails one fault is known.
            for metric in gpu::ALL.iter().filter(|metric| ![gpu::FAULT.name, gpu::XIDS.name].contains(&metric.name)) {
                out.unavailable(metric, entity, reason.clone());
            }
        }
        let sign = match &self.overdue {
            // A driver that starts its devices takes its time.
            Some(_) if self.activity.call() == sampler::INITIALISING => None,
            Some(_) => Some(Sign::Silence),
            None => Some(Sign::Driver),
        };
        for series in &self.series {
            series.publish_only(sign, out);
        }
        if self.series.is_empty() {
            for metric in [&gpu::FAULT, &gpu::XIDS] {
                out.unavailable(metric, self.context.host, reason.clone());
            }
        }
    }
}

impl Probe for NvidiaProbe {
    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        match self.ask(now, out) {
            Ok(report) => {
                for ((series, device), readings) in self.series.iter_mut().zip(&mut self.devices).zip(&report.devices) {
                    series.publish(readings, out);
                    device.processes.clone_from(&readings.processes);
                }
                self.report_refused(report.devices.len(), out);
                self.spare = report;
            }
            Err(reason) => self.report_absence(&reason, out),
        }
    }

    fn own_threads_cpu_ns(&self) -> u64 {
        self.thread_cpu_ns
    }
}

impl GpuProbe for NvidiaProbe {
    fn devices(&self) -> &[GpuDevice] {
        &self.devices
    }
}

fn entity(description: &Description) -> Entity {
    let mut entity = Entity::new(EntityKind::Gpu, description.uuid.clone())
        .with("hw.id", description.uuid.clone())
        .with("hw.name", description.name.clone())
        .with("hw.vendor", "nvidia");
    if let Reading::Value(version) = &description.driver_version {
        entity = entity.with("hw.driver_version", version.clone());
    }
    entity
}

/// Why a driver that did not answer in time has no readings. The text stays the same for as long as the call hangs.
fn unresponsive(since: Stamp, call: &str) -> Reason {
    let seconds = since.wall_ns / 1_000_000_000 % 86_400;
    let time = format!("{:02}:{:02}:{:02} UTC", seconds / 3600, seconds / 60 % 60, seconds % 60);
    if call == sampler::INITIALISING {
        return Reason::new(
            format!("NVML has been initializing since {time}"),
            "wait: without persistence mode the driver starts the GPUs first (`nvidia-smi -pm 1` keeps them up)",
        );
    }
    Reason::new(
        format!("driver unresponsive since {time}: `{call}` has not returned"),
        "check `dmesg | grep -i -e nvrm -e xid`; a GPU that hangs needs a reset or a reboot",
    )
}

/// A device's series, interned once.
struct DeviceSeries {
    entity: EntityId,
    utilization: SeriesId,
    memory_busy: SeriesId,
    memory_used: SeriesId,
    memory_total: SeriesId,
    power: SeriesId,
    power_limit: SeriesId,
    energy: SeriesId,
    temperature: SeriesId,
    sm_clock: SeriesId,
    memory_clock: SeriesId,
    sm_clock_limit: SeriesId,
    memory_clock_limit: SeriesId,
    throttle: [SeriesId; THROTTLE_REASONS.len()],
    throttle_other: SeriesId,
    energy_counter: Counter,
    memory_temperature: SeriesId,
    counted: [Counted; COUNTED.len()],
    remapped: [SeriesId; 2],
    faults: [SeriesId; FAULTS.len()],
    /// By code: how many there were since the start.
    xids: BTreeMap<u32, (SeriesId, u64)>,
    units: [SeriesId; UNITS.len()],
}

/// A counter among the fields.
struct Counted {
    field: Field,
    metric: &'static MetricDef,
    /// What one of the driver's units is in the metric's.
    scale: u64,
    series: SeriesId,
    counter: Counter,
    /// Since the last read of what is not read each time.
    total: Reading<u64>,
}

/// The counters among the fields: metric, the attribute that tells them apart, and the driver's unit in the metric's.
const COUNTED: [(Field, &MetricDef, Option<Label>, u64); 12] = [
    (Field::SwPowerCap, &gpu::THROTTLE_TIME, Some((THROTTLE_KEY, "sw_power_cap")), 1),
    (Field::SyncBoost, &gpu::THROTTLE_TIME, Some((THROTTLE_KEY, "sync_boost")), 1),
    (Field::SwThermal, &gpu::THROTTLE_TIME, Some((THROTTLE_KEY, "sw_thermal")), 1),
    (Field::HwThermal, &gpu::THROTTLE_TIME, Some((THROTTLE_KEY, "hw_thermal")), 1),
    (Field::HwPowerBrake, &gpu::THROTTLE_TIME, Some((THROTTLE_KEY, "hw_power_brake")), 1),
    (Field::PcieTransmit, &gpu::PCIE_IO, Some(TRANSMIT), 1),
    (Field::PcieReceive, &gpu::PCIE_IO, Some(RECEIVE), 1),
    (Field::PcieReplays, &gpu::PCIE_REPLAYS, None, 1),
    (Field::NvlinkTransmit, &gpu::NVLINK_IO, Some(TRANSMIT), 1024),
    (Field::NvlinkReceive, &gpu::NVLINK_IO, Some(RECEIVE), 1024),
    (Field::EccCorrected, &gpu::ERRORS, Some(CORRECTED), 1),
    (Field::EccUncorrected, &gpu::ERRORS, Some(UNCORRECTED), 1),
];

/// How a fault is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sign {
    /// A field that is not 0.
    Field(Field),
    /// The device said so.
    Device(DeviceFault),
    /// The driver did not answer in time.
    Silence,
    /// The driver answers nothing but errors.
    Driver,
}

/// Faults that are told of a device, with how each is known.
const FAULTS: [(Sign, &str); 7] = [
    (Sign::Device(DeviceFault::Lost), "lost"),
    (Sign::Device(DeviceFault::ResetRequired), "reset_required"),
    (Sign::Silence, "unresponsive"),
    (Sign::Driver, "driver_failed"),
    (Sign::Field(Field::RemapPending), "row_remap_pending"),
    (Sign::Field(Field::RemapFailed), "row_remap_failed"),
    (Sign::Field(Field::RecoveryAction), "recovery_needed"),
];

/// Where each unit's share goes.
const UNITS: [(Unit, &MetricDef, Option<Label>); 9] = [
    (Unit::Graphics, &gpu::GRAPHICS_ACTIVE, None),
    (Unit::Sm, &gpu::SM_ACTIVE, None),
    (Unit::Occupancy, &gpu::SM_OCCUPANCY, None),
    (Unit::Tensor, &gpu::TENSOR_ACTIVE, None),
    (Unit::Fp64, &gpu::PIPE_ACTIVE, Some((PIPE_KEY, "fp64"))),
    (Unit::Fp32, &gpu::PIPE_ACTIVE, Some((PIPE_KEY, "fp32"))),
    (Unit::Fp16, &gpu::PIPE_ACTIVE, Some((PIPE_KEY, "fp16"))),
    (Unit::Integer, &gpu::PIPE_ACTIVE, Some((PIPE_KEY, "int"))),
    (Unit::Dram, &gpu::DRAM_ACTIVE, None),
];

/// Required by the semantic conventions wherever `hw.*` metrics are shared by kinds of hardware.
const TYPE: Attr = Attr::fixed("hw.type", "gpu");
const CLOCK_KEY: &str = "perfwatch.gpu.clock";
const THROTTLE_KEY: &str = "perfwatch.gpu.throttle.reason";
const PIPE_KEY: &str = "perfwatch.gpu.pipe";
/// Codes of XID errors that are told apart, by device.
const MOST_XIDS: usize = 64;
const FAULT_KEY: &str = "perfwatch.gpu.fault";

/// Key and value of the attribute that tells a series from its likes.
type Label = (&'static str, &'static str);
const TRANSMIT: Label = ("network.io.direction", "transmit");
const RECEIVE: Label = ("network.io.direction", "receive");
const CORRECTED: Label = ("error.type", "corrected");
const UNCORRECTED: Label = ("error.type", "uncorrected");

impl DeviceSeries {
    fn intern(entity: EntityId, out: &mut Sample<'_>) -> Self {
        let mut series = |metric: &'static MetricDef, attrs: &[Attr]| out.series(metric, entity, attrs);
        let (sm, memory) = (Attr::fixed(CLOCK_KEY, "sm"), Attr::fixed(CLOCK_KEY, "memory"));
        Self {
            entity,
            utilization: series(&gpu::UTILIZATION, &[Attr::fixed("hw.gpu.task", "general")]),
            memory_busy: series(&gpu::MEMORY_BUSY, &[]),
            memory_used: series(&gpu::MEMORY_USAGE, &[]),
            memory_total: series(&gpu::MEMORY_LIMIT, &[]),
            power: series(&gpu::POWER, &[TYPE]),
            power_limit: series(&gpu::POWER_LIMIT, &[]),
            energy: series(&gpu::ENERGY, &[TYPE]),
            temperature: series(&gpu::TEMPERATURE, &[Attr::fixed("hw.sensor_location", "core")]),
            sm_clock: series(&gpu::CLOCK, std::slice::from_ref(&sm)),
            memory_clock: series(&gpu::CLOCK, std::slice::from_ref(&memory)),
            sm_clock_limit: series(&gpu::CLOCK_LIMIT, &[sm]),
            memory_clock_limit: series(&gpu::CLOCK_LIMIT, &[memory]),
            throttle: THROTTLE_REASONS
                .map(|(_, reason)| series(&gpu::THROTTLE_ACTIVE, &[Attr::fixed(THROTTLE_KEY, reason)])),
            throttle_other: series(&gpu::THROTTLE_ACTIVE, &[Attr::fixed(THROTTLE_KEY, "other")]),
            energy_counter: Counter::default(),
            memory_temperature: series(&gpu::TEMPERATURE, &[Attr::fixed("hw.sensor_location", "memory")]),
            counted: COUNTED.map(|(field, metric, label, scale)| Counted {
                field,
                metric,
                scale,
                series: series(metric, labelled(label).as_slice()),
                counter: Counter::default(),
                total: Reading::Unavailable(Reason::fixed("not read yet", "")),
            }),
            remapped: [CORRECTED, UNCORRECTED]
                .map(|label| series(&gpu::REMAPPED_ROWS, labelled(Some(label)).as_slice())),
            units: UNITS.map(|(_, metric, label)| series(metric, labelled(label).as_slice())),
            faults: FAULTS.map(|(_, fault)| series(&gpu::FAULT, &[Attr::fixed(FAULT_KEY, fault)])),
            xids: BTreeMap::new(),
        }
    }

    fn publish(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        let entity = self.entity;
        let float = |reading: &Reading<f64>| reading.clone().map(Number::Float);
        let int = |reading: &Reading<u64>| reading.clone().map(Number::Int);
        let energy = match &readings.energy_mj {
            Reading::Value(raw) => self.energy_counter.total(*raw, "energy (mJ)"),
            Reading::Unavailable(reason) => Reading::Unavailable(reason.clone()),
        };
        let mut said: Option<&'static str> = None;
        let mut put = |metric: &'static MetricDef, series: SeriesId, reading: Reading<Number>| match reading {
            Reading::Value(Number::Float(value)) => out.gauge(series, value),
            Reading::Value(Number::Int(value)) => out.gauge_int(series, value),
            // The two clocks share a metric, and absence is said of a metric.
            Reading::Unavailable(_) if said == Some(metric.name) => {}
            Reading::Unavailable(reason) => {
                said = Some(metric.name);
                out.unavailable(metric, entity, reason);
            }
        };
        put(&gpu::UTILIZATION, self.utilization, float(&readings.utilization));
        put(&gpu::MEMORY_BUSY, self.memory_busy, float(&readings.memory_busy));
        put(&gpu::MEMORY_USAGE, self.memory_used, int(&readings.memory_used));
        put(&gpu::MEMORY_LIMIT, self.memory_total, int(&readings.memory_total));
        put(&gpu::POWER, self.power, float(&readings.power_w));
        put(&gpu::POWER_LIMIT, self.power_limit, float(&readings.power_limit_w));
        put(&gpu::ENERGY, self.energy, energy.map(Number::Int));
        put(&gpu::TEMPERATURE, self.temperature, float(&readings.temperature_c));
        put(&gpu::CLOCK, self.sm_clock, int(&readings.sm_clock_hz));
        put(&gpu::CLOCK, self.memory_clock, int(&readings.memory_clock_hz));
        put(&gpu::CLOCK_LIMIT, self.sm_clock_limit, int(&readings.sm_clock_limit_hz));
        put(&gpu::CLOCK_LIMIT, self.memory_clock_limit, int(&readings.memory_clock_limit_hz));
        match &readings.throttle_mask {
            Reading::Value(mask) => {
                for ((bit, _), series) in THROTTLE_REASONS.iter().zip(self.throttle) {
                    out.gauge(series, active(mask & bit));
                }
                out.gauge(self.throttle_other, active(mask & !known_bits()));
            }
            Reading::Unavailable(reason) => out.unavailable(&gpu::THROTTLE_ACTIVE, entity, reason.clone()),
        }
        self.publish_fields(readings, out);
        self.count_xids(&readings.xids, out);
        if let Reading::Unavailable(reason) = &readings.xids {
            out.unavailable(&gpu::XIDS, entity, reason.clone());
        }
        for (series, count) in self.xids.values() {
            out.counter(*series, *count);
        }
        for ((sign, _), series) in FAULTS.into_iter().zip(self.faults) {
            let holds = match sign {
                Sign::Device(fault) => Some(readings.fault == Some(fault)),
                Sign::Silence | Sign::Driver => Some(false),
                Sign::Field(field) => readings.fields[field as usize].as_value().map(|value| *value != 0),
            };
            if let Some(holds) = holds {
                out.gauge(series, if holds { 1.0 } else { 0.0 });
            }
        }
    }

    /// Counts XID errors, of an answer that came too late as well: they are reported once.
    fn count_xids(&mut self, xids: &Reading<Vec<u32>>, out: &mut Sample<'_>) {
        for xid in xids.as_value().into_iter().flatten() {
            if let Some((_, count)) = self.xids.get_mut(xid) {
                *count += 1;
            } else if self.xids.len() < MOST_XIDS {
                // There are some hundred codes; one that is none must not make series without end.
                let code = Attr::int("perfwatch.gpu.xid.code", i64::from(*xid));
                self.xids.insert(*xid, (out.series(&gpu::XIDS, self.entity, &[code]), 1));
            }
        }
    }

    /// What is known of a device whose driver fails: that it does, and what was counted before.
    fn publish_only(&self, holds: Option<Sign>, out: &mut Sample<'_>) {
        for ((sign, _), series) in FAULTS.into_iter().zip(self.faults) {
            if holds == Some(sign) {
                out.gauge(series, 1.0);
            }
        }
        for (series, count) in self.xids.values() {
            out.counter(*series, *count);
        }
    }

    /// Where some series of a metric have a value, the others are no absence: no `NVLink` is not an unread one.
    fn publish_fields(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        let entity = self.entity;
        let mut absent = Absent::default();
        for Counted { field, metric, scale, series, counter, total } in &mut self.counted {
            // A reading that is shown again must not confirm itself: a counter that went back once is asked a second time.
            if readings.slow_is_new || !fields::SLOW.contains(field) {
                *total = match &readings.fields[*field as usize] {
                    Reading::Value(raw) => counter.total(*raw, metric.name),
                    Reading::Unavailable(reason) => Reading::Unavailable(reason.clone()),
                };
            }
            match total {
                Reading::Value(total) => {
                    out.counter(*series, total.saturating_mul(*scale));
                    absent.present(metric);
                }
                Reading::Unavailable(reason) => absent.absent(metric, reason.clone()),
            }
        }
        let rows = [Field::RemappedCorrected, Field::RemappedUncorrected];
        for (field, series) in rows.into_iter().zip(self.remapped) {
            match &readings.fields[field as usize] {
                Reading::Value(rows) => {
                    out.gauge_int(series, *rows);
                    absent.present(&gpu::REMAPPED_ROWS);
                }
                Reading::Unavailable(reason) => absent.absent(&gpu::REMAPPED_ROWS, reason.clone()),
            }
        }
        for ((unit, metric, _), series) in UNITS.into_iter().zip(self.units) {
            match &readings.units[unit as usize] {
                Reading::Value(share) => {
                    out.gauge(series, *share);
                    absent.present(metric);
                }
                Reading::Unavailable(reason) => absent.absent(metric, reason.clone()),
            }
        }
        // Parts without HBM have no sensor there, and the core's temperature stands for the device.
        if let Reading::Value(degrees) = &readings.fields[Field::MemoryTemperature as usize] {
            out.gauge(self.memory_temperature, *degrees as f64);
        }
        for (metric, reason) in absent.metrics {
            if let Some(reason) = reason {
                out.unavailable(metric, entity, reason);
            }
        }
    }
}

/// Metrics of several series, and why none of them has a value.
#[derive(Default)]
struct Absent {
    metrics: Vec<(&'static MetricDef, Option<Reason>)>,
}

impl Absent {
    fn present(&mut self, metric: &'static MetricDef) {
        match self.known(metric) {
            Some(reason) => *reason = None,
            None => self.metrics.push((metric, None)),
        }
    }

    fn absent(&mut self, metric: &'static MetricDef, reason: Reason) {
        if self.known(metric).is_none() {
            self.metrics.push((metric, Some(reason)));
        }
    }

    fn known(&mut self, metric: &MetricDef) -> Option<&mut Option<Reason>> {
        self.metrics.iter_mut().find(|(known, _)| known.name == metric.name).map(|(_, reason)| reason)
    }
}

fn labelled(label: Option<Label>) -> Option<Attr> {
    label.map(|(key, value)| Attr::fixed(key, value))
}

fn active(bits: u64) -> f64 {
    if bits == 0 { 0.0 } else { 1.0 }
}

/// The throttle bits that have a series of their own, and idle, which is none.
fn known_bits() -> u64 {
    THROTTLE_REASONS.iter().fold(0x1, |bits, (bit, _)| bits | bit)
}
