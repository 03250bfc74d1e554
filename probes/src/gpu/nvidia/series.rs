//! What is told of one device: its series, and what each reading becomes.

use std::collections::BTreeMap;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, EntityId, MetricDef, Number, Reading, Reason, Sample, SeriesId};

use super::counter::Counter;
use super::fields::{self, Field};
use super::gpm::Unit;
use super::readings::{DeviceFault, DeviceReadings, THROTTLE_REASONS};

/// A device's series, interned once.
pub(super) struct DeviceSeries {
    pub(super) entity: EntityId,
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
pub(super) enum Sign {
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
    pub(super) fn intern(entity: EntityId, out: &mut Sample<'_>) -> Self {
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

    pub(super) fn publish(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
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
    pub(super) fn count_xids(&mut self, xids: &Reading<Vec<u32>>, out: &mut Sample<'_>) {
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
    pub(super) fn publish_only(&self, holds: Option<Sign>, out: &mut Sample<'_>) {
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
