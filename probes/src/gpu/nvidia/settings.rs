//! What somebody may have set, beside what a device comes with: the power limit, and the clocks of applications.

use nvml_wrapper::enum_wrappers::device::Clock;
use perfwatch_model::{Reading, Reason};

use super::readings::{DeviceReadings, Reader};
use super::{fault, power};

/// Limits are kept in whole watts; what is closer than this is the same.
const LOWERED: f64 = 0.99;
/// NVML's reason for clocks that are held down: the clocks set for applications.
const APPLICATION_CLOCKS: u64 = 0x2;

/// A clock that applications are given: as set, and as it comes, MHz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Given {
    now: u32,
    default: u32,
}

/// What is set, and its defaults.
#[derive(Clone, Debug)]
pub(crate) struct SettingReadings {
    /// What somebody set, or nobody: what holds is no more than this, and may be less.
    power_limit_set_w: Reading<f64>,
    pub(crate) power_limit_default_w: Reading<f64>,
    graphics: Option<Given>,
    memory: Option<Given>,
}

impl SettingReadings {
    /// None of them, for this reason.
    pub(crate) fn absent(reason: &Reason) -> Self {
        let absent = || Reading::Unavailable(reason.clone());
        Self { power_limit_set_w: absent(), power_limit_default_w: absent(), graphics: None, memory: None }
    }

    /// Reads them.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>) {
        let device = reader.device;
        self.power_limit_set_w =
            power::watts(reader.call("nvmlDeviceGetPowerManagementLimit", || device.power_management_limit()));
        self.power_limit_default_w = power::watts(
            reader.call("nvmlDeviceGetPowerManagementDefaultLimit", || device.power_management_limit_default()),
        );
        self.graphics = given(reader, Clock::Graphics);
        self.memory = given(reader, Clock::Memory);
    }

    /// Whether somebody set a lower limit than the device comes with.
    pub(super) fn is_power_lowered(&self) -> Option<bool> {
        is_lower(&self.power_limit_set_w, &self.power_limit_default_w)
    }

    /// Whether the machine holds the device below what is set: the limit that holds is the least of all that there are, of the
    /// chassis and of a laptop's battery too. Where none can be set there is only what the device comes with.
    pub(super) fn is_power_capped(&self, enforced_w: &Reading<f64>) -> Option<bool> {
        match &self.power_limit_set_w {
            Reading::Unavailable(reason) if *reason == fault::NOT_SUPPORTED => {
                is_lower(enforced_w, &self.power_limit_default_w)
            }
            set => is_lower(enforced_w, set),
        }
    }

    /// Whether the clocks are held below what the device comes with: by clocks set for applications, which newer devices do not
    /// tell, or by the driver's word that such clocks hold them down. The word is also given where the default ones do.
    pub(super) fn are_clocks_locked(&self, readings: &DeviceReadings) -> Option<bool> {
        let given = [self.graphics, self.memory];
        let is_set = given.iter().flatten().map(|given| given.now < given.default).reduce(|one, other| one || other);
        let default_holds = self.graphics.is_some_and(|given| {
            readings.sm_clock_limit_hz.as_value().is_some_and(|most| u64::from(given.default) * 1_000_000 < *most)
        });
        let said = readings.throttle_mask.as_value().map(|mask| mask & APPLICATION_CLOCKS != 0 && !default_holds);
        match (is_set, said) {
            (None, None) => None,
            (is_set, said) => Some(is_set == Some(true) || said == Some(true)),
        }
    }
}

fn is_lower(watts: &Reading<f64>, than: &Reading<f64>) -> Option<bool> {
    let than = than.as_value().filter(|watts| **watts > 0.0)?;
    Some(*watts.as_value()? < LOWERED * than)
}

fn given(reader: &mut Reader<'_, '_>, clock: Clock) -> Option<Given> {
    let device = reader.device;
    let now = reader.call("nvmlDeviceGetApplicationsClock", || device.applications_clock(clock));
    let default = reader.call("nvmlDeviceGetDefaultApplicationsClock", || device.default_applications_clock(clock));
    let given = Given { now: now.value()?, default: default.value()? };
    (given.now > 0 && given.default > 0).then_some(given)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_lowered_by_more_than_one_percent() {
        let nothing = || SettingReadings::absent(&Reason::fixed("", ""));
        let of_700 = || SettingReadings { power_limit_default_w: Reading::Value(700.0), ..nothing() };
        let set = |watts| SettingReadings { power_limit_set_w: Reading::Value(watts), ..of_700() };
        assert_eq!([700.0, 694.0, 692.0].map(|watts| set(watts).is_power_lowered()), [false, false, true].map(Some));
        assert_eq!([of_700().is_power_lowered(), nothing().is_power_lowered()], [None, None]);
        let capped = |settings: SettingReadings| settings.is_power_capped(&Reading::Value(500.0));
        assert_eq!([capped(set(500.0)), capped(set(600.0))], [false, true].map(Some));
        let laptop = SettingReadings { power_limit_set_w: Reading::Unavailable(fault::NOT_SUPPORTED), ..of_700() };
        assert_eq!(capped(laptop), Some(true), "nobody can set it");
        assert_eq!([capped(of_700()), capped(nothing())], [None, None], "what is set was not told this time");
    }

    #[test]
    fn clocks_are_locked_by_what_was_set_and_not_by_what_a_device_comes_with() {
        let locked = |graphics: Option<(u32, u32)>, mask: Option<u64>| {
            let absent = Reason::fixed("", "");
            let mut readings = DeviceReadings::absent(&absent);
            readings.sm_clock_limit_hz = Reading::Value(1_530_000_000);
            readings.throttle_mask = mask.map_or(Reading::Unavailable(absent.clone()), Reading::Value);
            let graphics = graphics.map(|(now, default)| Given { now, default });
            SettingReadings { graphics, ..SettingReadings::absent(&absent) }.are_clocks_locked(&readings)
        };
        assert_eq!(locked(None, None), None);
        assert_eq!([locked(None, Some(0x4)), locked(None, Some(0x6))], [false, true].map(Some));
        assert_eq!([locked(Some((1000, 1530)), None), locked(Some((1530, 1530)), None)], [true, false].map(Some));
        assert_eq!(locked(Some((1312, 1312)), Some(0x2)), Some(false), "the default is below the highest");
    }
}
