//! What is told of one device: its series, and what each reading becomes.

use std::collections::BTreeMap;

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{Attr, EntityId, GpuSlot, MetricDef, Number, Reading, Reason, Sample, SeriesId};

use super::counted::Counted;
use super::counter::Counter;
use super::fields::Field;
use super::gpm::Unit;
use super::health::{Health, Sign};
use super::link_reads::WAYS;
use super::link_slots::LinkSlots;
use super::power;
use super::readings::{DeviceReadings, THROTTLE_REASONS};
use super::refresh::Refresh;
use super::traffic::RATES;

/// A device's series, interned once.
pub(super) struct DeviceSeries {
    pub(super) entity: EntityId,
    utilization: SeriesId,
    /// The encoder's and the decoder's, from their first use on.
    video: [Option<SeriesId>; 2],
    memory_busy: SeriesId,
    memory_used: SeriesId,
    memory_total: SeriesId,
    memory_reserved: SeriesId,
    power: SeriesId,
    power_limit: SeriesId,
    power_limit_default: SeriesId,
    energy: SeriesId,
    temperature: SeriesId,
    temperature_margin: SeriesId,
    sm_clock: SeriesId,
    memory_clock: SeriesId,
    sm_clock_limit: SeriesId,
    memory_clock_limit: SeriesId,
    /// Generation and width, now and at most.
    link: [SeriesId; 4],
    throttle: [SeriesId; THROTTLE_REASONS.len()],
    throttle_other: SeriesId,
    energy_counter: Counter,
    memory_temperature: SeriesId,
    counted: [Counted; COUNTED.len()],
    /// How old the link's counters may be, and what they say slot by slot, where they are read so often.
    refresh: Refresh,
    link_slots: LinkSlots,
    /// Parts of the memory that were given up.
    given_up: [SeriesId; GIVEN_UP.len()],
    health: Health,
    /// By code: how many there were since the start.
    xids: BTreeMap<u32, (SeriesId, u64)>,
    units: [SeriesId; UNITS.len()],
    /// Empty between two samples; its room is kept.
    absent: Absent,
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

/// Parts of the memory that were given up: what they are, and for which errors.
const GIVEN_UP: [(Field, &MetricDef, Label); 4] = [
    (Field::RemappedCorrected, &gpu::REMAPPED_ROWS, CORRECTED),
    (Field::RemappedUncorrected, &gpu::REMAPPED_ROWS, UNCORRECTED),
    (Field::RetiredCorrected, &gpu::RETIRED_PAGES, CORRECTED),
    (Field::RetiredUncorrected, &gpu::RETIRED_PAGES, UNCORRECTED),
];

/// What is told of the `PCIe` link.
const LINK: [&MetricDef; 4] =
    [&gpu::PCIE_GENERATION, &gpu::PCIE_WIDTH, &gpu::PCIE_GENERATION_LIMIT, &gpu::PCIE_WIDTH_LIMIT];

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
pub(super) const TYPE: Attr = Attr::fixed("hw.type", "gpu");
const TASK_KEY: &str = "hw.gpu.task";
const CLOCK_KEY: &str = "perfwatch.gpu.clock";
const THROTTLE_KEY: &str = "perfwatch.gpu.throttle.reason";
const PIPE_KEY: &str = "perfwatch.gpu.pipe";
/// Codes of XID errors that are told apart, by device.
const MOST_XIDS: usize = 64;

/// Key and value of the attribute that tells a series from its likes.
type Label = (&'static str, &'static str);
const TRANSMIT: Label = ("network.io.direction", "transmit");
const RECEIVE: Label = ("network.io.direction", "receive");
const CORRECTED: Label = ("error.type", "corrected");
const UNCORRECTED: Label = ("error.type", "uncorrected");

impl DeviceSeries {
    pub(super) fn intern(entity: EntityId, out: &mut Sample<'_>) -> Self {
        let health = Health::intern(entity, out);
        let mut series = |metric: &'static MetricDef, attrs: &[Attr]| out.series(metric, entity, attrs);
        let (sm, memory) = (Attr::fixed(CLOCK_KEY, "sm"), Attr::fixed(CLOCK_KEY, "memory"));
        Self {
            entity,
            utilization: series(&gpu::UTILIZATION, &[Attr::fixed(TASK_KEY, "general")]),
            video: [None; 2],
            memory_busy: series(&gpu::MEMORY_BUSY, &[]),
            memory_used: series(&gpu::MEMORY_USAGE, &[]),
            memory_total: series(&gpu::MEMORY_LIMIT, &[]),
            memory_reserved: series(&gpu::MEMORY_RESERVED, &[]),
            power: series(&gpu::POWER, &[TYPE]),
            power_limit: series(&gpu::POWER_LIMIT, &[]),
            power_limit_default: series(&gpu::POWER_LIMIT_DEFAULT, &[]),
            energy: series(&gpu::ENERGY, &[TYPE]),
            temperature: series(&gpu::TEMPERATURE, &[Attr::fixed("hw.sensor_location", "core")]),
            temperature_margin: series(&gpu::TEMPERATURE_MARGIN, &[]),
            sm_clock: series(&gpu::CLOCK, std::slice::from_ref(&sm)),
            memory_clock: series(&gpu::CLOCK, std::slice::from_ref(&memory)),
            sm_clock_limit: series(&gpu::CLOCK_LIMIT, &[sm]),
            memory_clock_limit: series(&gpu::CLOCK_LIMIT, &[memory]),
            link: LINK.map(|metric| series(metric, &[])),
            throttle: THROTTLE_REASONS
                .map(|(_, reason)| series(&gpu::THROTTLE_ACTIVE, &[Attr::fixed(THROTTLE_KEY, reason)])),
            throttle_other: series(&gpu::THROTTLE_ACTIVE, &[Attr::fixed(THROTTLE_KEY, "other")]),
            energy_counter: Counter::default(),
            memory_temperature: series(&gpu::TEMPERATURE, &[Attr::fixed("hw.sensor_location", "memory")]),
            counted: COUNTED.map(|(field, metric, label, scale)| {
                Counted::new(field, metric, scale, series(metric, labelled(label).as_slice()))
            }),
            given_up: GIVEN_UP.map(|(_, metric, label)| series(metric, labelled(Some(label)).as_slice())),
            units: UNITS.map(|(_, metric, label)| series(metric, labelled(label).as_slice())),
            refresh: Refresh::default(),
            link_slots: LinkSlots::default(),
            health,
            xids: BTreeMap::new(),
            absent: Absent::default(),
        }
    }

    /// Counts what GPM says went over the links, of an answer that came too late as well. Whichever of it and the driver's own
    /// counter told more than 0 first goes on alone: the two did not begin together. Where both told nothing but 0 there may be no
    /// link, and of links that there are, drivers have been seen to answer 0 for ever.
    pub(super) fn count_traffic(&mut self, readings: &DeviceReadings) {
        for ((field, _), bytes) in RATES.iter().zip(readings.moved) {
            let Some(bytes) = bytes else { continue };
            let counted = self.counted.iter_mut().find(|counted| counted.field == *field);
            let Some(Counted { counter, moved, .. }) = counted else { continue };
            let is_silent = readings.fields[*field as usize].as_value().is_none_or(|raw| *raw == 0);
            let alone = !counter.has_counted() && is_silent;
            if moved.is_some() || (alone && bytes > 0) {
                *moved = Some(moved.unwrap_or(0).saturating_add(bytes));
            }
        }
    }

    /// Counts what was read of the link's counters since the last answer, of one that came too late as well.
    pub(super) fn count_link(&mut self, readings: &DeviceReadings) {
        let Some(rate) = readings.link.rate() else { return };
        let mut were_lost = [false; WAYS.len()];
        for read in &readings.link_reads.reads {
            let Some(since_ns) = self.refresh.since_ns(read, rate) else { continue };
            let mut most = Some(0);
            for ((way, raw), was_lost) in WAYS.into_iter().zip(read.raw).zip(&mut were_lost) {
                let counted = self.counted.iter_mut().find(|counted| counted.field == way);
                let moved = counted
                    .zip(raw)
                    .and_then(|(counted, raw)| counted.count_read(raw, read, (since_ns, rate), was_lost));
                most = most.zip(moved).map(|(most, moved)| most.max(moved));
            }
            if let Some(bytes) = most.filter(|_| since_ns < read.told_ns) {
                self.link_slots.add(since_ns, read.told_ns, bytes, rate);
            }
        }
    }

    /// Whether a counter of the link's was seen to be full at 32 bits.
    pub(super) fn has_short_link(&self) -> bool {
        self.counted.iter().any(|counted| counted.field.is_of_link() && counted.counter.is_short())
    }

    /// Lays what went over the link beside the slots that end at `end_ns`, where its counters tell.
    pub(super) fn lay_link(&self, end_ns: u64, slots: &mut [GpuSlot; SLOTS]) {
        self.link_slots.lay(end_ns, slots);
    }

    /// Counts what is read seldom, of an answer that is not published: what it adds is shown with the next one.
    pub(super) fn count_seldom(&mut self, readings: &DeviceReadings) {
        if readings.slow_is_new {
            self.counted.iter_mut().filter(|counted| counted.is_slow()).for_each(|counted| counted.count(readings));
        }
    }

    pub(super) fn publish(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        let entity = self.entity;
        let float = |reading: &Reading<f64>| reading.clone().map(Number::Float);
        let int = |reading: &Reading<u64>| reading.clone().map(Number::Int);
        let energy = match &readings.energy_mj {
            Reading::Value(raw) => {
                self.energy_counter.total(*raw, readings.at_ns, power::bound(&readings.power_limit_w), "energy (mJ)")
            }
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
        put(&gpu::MEMORY_RESERVED, self.memory_reserved, int(&readings.memory_reserved));
        put(&gpu::POWER, self.power, float(&readings.power_w));
        put(&gpu::POWER_LIMIT, self.power_limit, float(&readings.power_limit_w));
        put(&gpu::POWER_LIMIT_DEFAULT, self.power_limit_default, float(&readings.settings.power_limit_default_w));
        put(&gpu::ENERGY, self.energy, energy.map(Number::Int));
        put(&gpu::TEMPERATURE, self.temperature, float(&readings.temperature_c));
        put(
            &gpu::TEMPERATURE_MARGIN,
            self.temperature_margin,
            float(&readings.headroom.below(&readings.temperature_c)),
        );
        put(&gpu::CLOCK, self.sm_clock, int(&readings.sm_clock_hz));
        put(&gpu::CLOCK, self.memory_clock, int(&readings.memory_clock_hz));
        put(&gpu::CLOCK_LIMIT, self.sm_clock_limit, int(&readings.sm_clock_limit_hz));
        put(&gpu::CLOCK_LIMIT, self.memory_clock_limit, int(&readings.memory_clock_limit_hz));
        let link = &readings.link;
        let width_limit = self.health.width_limit(readings);
        let link = [&link.generation, &link.width, &link.generation_limit, &width_limit];
        for ((metric, series), reading) in LINK.into_iter().zip(self.link).zip(link) {
            put(metric, series, int(reading));
        }
        match &readings.throttle_mask {
            Reading::Value(mask) => {
                for ((bit, _), series) in THROTTLE_REASONS.iter().zip(self.throttle) {
                    out.gauge(series, active(mask & bit));
                }
                out.gauge(self.throttle_other, active(mask & !known_bits()));
            }
            Reading::Unavailable(reason) => out.unavailable(&gpu::THROTTLE_ACTIVE, entity, reason.clone()),
        }
        self.publish_video(readings, out);
        self.count_traffic(readings);
        self.count_link(readings);
        self.publish_fields(readings, out);
        self.count_xids(&readings.xids, out);
        if let Reading::Unavailable(reason) = &readings.xids {
            out.unavailable(&gpu::XIDS, entity, reason.clone());
        }
        for (series, count) in self.xids.values() {
            out.counter(*series, *count);
        }
        self.health.publish(readings, out);
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
    pub(super) fn publish_only(&mut self, holds: Option<Sign>, out: &mut Sample<'_>) {
        self.health.publish_only(holds, out);
        for (series, count) in self.xids.values() {
            out.counter(*series, *count);
        }
    }

    /// What is known of a device that is not asked: what it said of itself stands, and what was counted before. Where it said
    /// nothing, how it is now is not known for this reason.
    pub(super) fn publish_remembered(&mut self, reason: &Reason, out: &mut Sample<'_>) {
        self.publish_only(self.health.said(), out);
        if self.health.said().is_none() {
            for metric in [&gpu::FAULT, &gpu::STATUS] {
                out.unavailable(metric, self.entity, reason.clone());
            }
        }
    }

    /// Whether the device fell off the bus, by the last that was heard of it.
    pub(super) fn is_lost(&self) -> bool {
        self.health.is_lost()
    }

    /// Most model servers use neither encoder nor decoder: what was never used makes no series.
    fn publish_video(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        let shares = [("encoder", &readings.encoder), ("decoder", &readings.decoder)];
        for ((task, reading), series) in shares.into_iter().zip(&mut self.video) {
            let Some(share) = reading.as_value() else { continue };
            if series.is_none() && *share > 0.0 {
                *series = Some(out.series(&gpu::UTILIZATION, self.entity, &[Attr::fixed(TASK_KEY, task)]));
            }
            if let Some(series) = series {
                out.gauge(*series, *share);
            }
        }
    }

    /// Where some series of a metric have a value, the others are no absence: no `NVLink` is not an unread one.
    fn publish_fields(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        let entity = self.entity;
        let mut absent = std::mem::take(&mut self.absent);
        let mut of_link = None;
        for counted in &mut self.counted {
            // A reading that is shown again must not confirm itself: a counter that went back once is asked a second time.
            if readings.slow_is_new || !counted.is_slow() {
                counted.count(readings);
            }
            match &counted.total {
                Reading::Value(total) => {
                    out.counter(counted.series, *total);
                    absent.present(counted.metric);
                }
                // Every link has both directions: one alone is a gap.
                Reading::Unavailable(reason) if counted.field.is_of_link() => {
                    of_link = of_link.or_else(|| Some((counted.metric, reason.clone())));
                }
                Reading::Unavailable(reason) => absent.absent(counted.metric, reason.clone()),
            }
        }
        if let Some((metric, reason)) = of_link {
            out.unavailable(metric, entity, reason);
        }
        // A device replaces rows or retires pages: that it does not do the other as well is no absence.
        let does_one = GIVEN_UP.iter().any(|(field, ..)| readings.fields[*field as usize].as_value().is_some());
        for ((field, metric, _), series) in GIVEN_UP.into_iter().zip(self.given_up) {
            match &readings.fields[field as usize] {
                Reading::Value(parts) => out.gauge_int(series, *parts),
                Reading::Unavailable(_) if does_one => {}
                Reading::Unavailable(reason) => absent.absent(metric, reason.clone()),
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
        for (metric, reason) in absent.metrics.drain(..) {
            if let Some(reason) = reason {
                out.unavailable(metric, entity, reason);
            }
        }
        self.absent = absent;
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
