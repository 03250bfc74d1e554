//! Faults of a device, how each is known, and what they say of its health as a whole.

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, EntityId, SeriesId};
use perfwatch_model::{MetricDef, Reading, Sample};

use super::fields::Field;
use super::link::Best;
use super::readings::{DeviceFault, DeviceReadings};
use super::series::TYPE;

/// How a fault is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// A field that is not 0.
    Field(Field),
    /// The device said so.
    Device(DeviceFault),
    /// Readings that do not go together.
    Compared(Comparison),
    /// The driver did not answer in time.
    Silence,
    /// The driver answers nothing but errors.
    Driver,
}

/// What is known by comparing readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    /// The `PCIe` link is slower than it could be, and the device is busy. While it is idle the last verdict stands.
    SlowLink,
    /// The power limit that is set is below the one that the device comes with.
    LowPowerLimit,
    /// The power limit that holds is below the one that is set.
    PowerCap,
    /// The clocks are held below those that the device comes with.
    LockedClocks,
}

impl From<DeviceFault> for Sign {
    fn from(fault: DeviceFault) -> Self {
        match fault {
            DeviceFault::Lost | DeviceFault::ResetRequired => Self::Device(fault),
            DeviceFault::Failing => Self::Driver,
        }
    }
}

/// `hw.state` of the semantic conventions.
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Ok,
    Degraded,
    PredictedFailure,
    Failed,
}

/// The states, best first, as the attribute has them.
const STATES: [(State, &str); 4] = [
    (State::Ok, "ok"),
    (State::Degraded, "degraded"),
    (State::PredictedFailure, "predicted_failure"),
    (State::Failed, "failed"),
];

/// Faults that are told of a device, with how each is known and the state it puts the device in. What somebody has set, of
/// the device or of the machine that it is in, leaves it as it is.
const FAULTS: [(Sign, &str, State); 12] = [
    (Sign::Device(DeviceFault::Lost), "lost", State::Failed),
    (Sign::Device(DeviceFault::ResetRequired), "reset_required", State::Failed),
    (Sign::Silence, "unresponsive", State::Failed),
    (Sign::Driver, "driver_failed", State::Failed),
    (Sign::Field(Field::RemapPending), "row_remap_pending", State::Degraded),
    (Sign::Field(Field::RemapFailed), "row_remap_failed", State::PredictedFailure),
    (Sign::Field(Field::RetirementPending), "page_retirement_pending", State::Degraded),
    (Sign::Field(Field::RecoveryAction), "recovery_needed", State::Degraded),
    (Sign::Compared(Comparison::SlowLink), "pcie_link_degraded", State::Degraded),
    (Sign::Compared(Comparison::LowPowerLimit), "power_limit_lowered", State::Ok),
    (Sign::Compared(Comparison::PowerCap), "power_limit_by_platform", State::Ok),
    (Sign::Compared(Comparison::LockedClocks), "clocks_locked", State::Ok),
];

/// A device that is busier than this has its link at full speed.
const BUSY: f64 = 0.5;

const FAULT_KEY: &str = "perfwatch.gpu.fault";

/// Whether a metric is told of a device that does not answer, too.
pub(super) fn is_told_regardless(metric: &MetricDef) -> bool {
    [gpu::FAULT.name, gpu::STATUS.name, gpu::XIDS.name].contains(&metric.name)
}

/// Tells of the machine what is wrong with its driver, where no device is known that it could be told of.
pub(super) fn publish_of_machine(sign: Sign, host: EntityId, out: &mut Sample<'_>) {
    for (_, fault, _) in FAULTS.into_iter().filter(|(known, ..)| *known == sign) {
        let series = out.series(&gpu::FAULT, host, &[Attr::fixed(FAULT_KEY, fault)]);
        out.gauge(series, 1.0);
    }
}

/// A device's faults and status, interned once, and what they were when it was last busy.
pub(super) struct Health {
    faults: [SeriesId; FAULTS.len()],
    status: [SeriesId; STATES.len()],
    was_busy: bool,
    slow_link: Option<bool>,
    /// The best that its link was seen to be.
    best_link: Best,
    /// What the device last said of itself. It stands for as long as nothing can be asked of the device.
    said: Option<Sign>,
}

impl Health {
    pub(super) fn intern(entity: EntityId, out: &mut Sample<'_>) -> Self {
        Self {
            faults: FAULTS.map(|(_, fault, _)| out.series(&gpu::FAULT, entity, &[Attr::fixed(FAULT_KEY, fault)])),
            status: STATES.map(|(_, state)| out.series(&gpu::STATUS, entity, &[Attr::fixed("hw.state", state), TYPE])),
            was_busy: false,
            slow_link: None,
            best_link: Best::default(),
            said: None,
        }
    }

    /// Tells which faults the device has and which it has not; what cannot be told has no value.
    pub(super) fn publish(&mut self, readings: &DeviceReadings, out: &mut Sample<'_>) {
        self.look_at_link(readings);
        let said = readings.fault.map(Sign::from);
        self.said = said.filter(|sign| *sign != Sign::Driver);
        let holds = |sign| match sign {
            Sign::Device(_) | Sign::Driver => Some(said == Some(sign)),
            Sign::Silence => Some(false),
            Sign::Field(field) => readings.fields[field as usize].as_value().map(|value| *value != 0),
            Sign::Compared(Comparison::SlowLink) => self.slow_link,
            Sign::Compared(Comparison::LowPowerLimit) => readings.settings.is_power_lowered(),
            Sign::Compared(Comparison::PowerCap) => readings.settings.is_power_capped(&readings.power_limit_w),
            Sign::Compared(Comparison::LockedClocks) => readings.settings.are_clocks_locked(readings),
        };
        let mut worst = 0;
        for ((sign, _, state), series) in FAULTS.into_iter().zip(self.faults) {
            let Some(holds) = holds(sign) else { continue };
            out.gauge(series, if holds { 1.0 } else { 0.0 });
            if holds {
                worst = worst.max(state as usize);
            }
        }
        self.publish_status(worst, out);
    }

    /// Tells the one thing that is known of a device whose driver fails, if anything is: that it had fallen off the bus says more
    /// than that it cannot be opened any more.
    pub(super) fn publish_only(&mut self, holds: Option<Sign>, out: &mut Sample<'_>) {
        if let Some(sign @ Sign::Device(_)) = holds {
            self.said = Some(sign);
        }
        let holds = holds.map(|sign| self.said.filter(|_| sign == Sign::Driver).unwrap_or(sign));
        for ((sign, _, state), series) in FAULTS.into_iter().zip(self.faults) {
            if holds == Some(sign) {
                out.gauge(series, 1.0);
                self.publish_status(state as usize, out);
            }
        }
    }

    /// The most lanes that the device's link can have, as far as that is known.
    pub(super) fn width_limit(&self, readings: &DeviceReadings) -> Reading<u64> {
        readings.link.width_limit(self.best_link)
    }

    /// What is wrong with the device by its own account, by the last that was heard of it.
    pub(super) fn said(&self) -> Option<Sign> {
        self.said
    }

    /// Whether the device fell off the bus, by the last that was heard of it.
    pub(super) fn is_lost(&self) -> bool {
        self.said == Some(Sign::Device(DeviceFault::Lost))
    }

    fn publish_status(&self, state: usize, out: &mut Sample<'_>) {
        for (at, series) in self.status.into_iter().enumerate() {
            out.gauge(series, if at == state { 1.0 } else { 0.0 });
        }
    }

    /// One busy sample may be of a moment in which the link was only about to wake.
    fn look_at_link(&mut self, readings: &DeviceReadings) {
        self.best_link = readings.link.best(self.best_link);
        let is_busy = readings.utilization.as_value().is_some_and(|share| *share >= BUSY);
        if is_busy && self.was_busy {
            self.slow_link = readings.link.is_slow(self.best_link);
        }
        self.was_busy = is_busy;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_in_the_order_of_their_names() {
        for (at, (state, _)) in STATES.iter().enumerate() {
            assert_eq!(*state as usize, at);
        }
    }
}
