//! How far a device's temperature is below the one from which its clocks are held down.

use std::ops::RangeInclusive;

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::TemperatureThreshold;
use nvml_wrapper::error::{NvmlError, nvml_try};
use nvml_wrapper_sys::bindings::nvmlMarginTemperature_v1_t;
use perfwatch_model::{Reading, Reason};

use super::readings::Reader;

const LIMIT: &str = "nvmlDeviceGetTemperatureThreshold";
const MARGIN: &str = "nvmlDeviceGetMarginTemperature";

/// What NVML wants to be told of its structure: its size, and the version in the highest byte.
const VERSION: u32 = size_of::<nvmlMarginTemperature_v1_t>() as u32 | 1 << 24;
/// What a margin says that the driver does not fill in.
const UNFILLED: i32 = i32::MAX;

/// Devices that are built are slowed down between 80 and 110 °C.
const LIMITS_C: RangeInclusive<u32> = 50..=150;
/// Below the first a device would have switched itself off long ago: that is some ten degrees away.
const MARGINS_C: RangeInclusive<i32> = -50..=150;

/// What the driver tells of it: where it is, or how far away.
#[derive(Clone, Debug)]
pub(crate) struct Headroom {
    /// The temperature from which the clocks are held down, which is told before Hopper.
    limit_c: Reading<f64>,
    /// How far below that the device is, which is told from Hopper on (`nvidia-smi`'s `T.Limit`), and asked where the other is not.
    told_c: Reading<f64>,
}

impl Headroom {
    /// Nothing of it, for this reason.
    pub(crate) fn absent(reason: &Reason) -> Self {
        Self { limit_c: Reading::Unavailable(reason.clone()), told_c: Reading::Unavailable(reason.clone()) }
    }

    /// Reads what does not change: the lower of where the driver begins to slow the device down, and where its hardware does.
    pub(crate) fn read_limit(&mut self, reader: &mut Reader<'_, '_>) {
        let device = reader.device;
        let mut read = |which| known_limit(reader.call(LIMIT, || device.temperature_threshold(which)));
        let (soft, hard) = (read(TemperatureThreshold::GpuMax), read(TemperatureThreshold::Slowdown));
        let lower = match (soft, hard) {
            (Reading::Value(soft), Reading::Value(hard)) => Reading::Value(soft.min(hard)),
            (Reading::Value(only), _) | (_, Reading::Value(only)) => Reading::Value(only),
            (absent, _) => absent,
        };
        // What is known is not forgotten because one call failed.
        if lower.as_value().is_some() || self.limit_c.as_value().is_none() {
            self.limit_c = lower;
        }
    }

    /// Reads what changes with the temperature, where that costs a call: a margin of five seconds ago does not go with the
    /// temperature beside it.
    pub(crate) fn read(&mut self, reader: &mut Reader<'_, '_>) {
        if self.limit_c.as_value().is_none() {
            let device = reader.device;
            self.told_c = known_margin(reader.call(MARGIN, || margin(device)));
        }
    }

    /// How far this temperature is below; less than 0 where it is above.
    pub(super) fn below(&self, temperature_c: &Reading<f64>) -> Reading<f64> {
        match (&self.limit_c, temperature_c) {
            (Reading::Value(limit), Reading::Value(degrees)) => Reading::Value(limit - degrees),
            (Reading::Value(_), unread) => unread.clone(),
            (Reading::Unavailable(_), _) => self.told_c.clone(),
        }
    }
}

#[allow(unsafe_code, reason = "the wrapper offers no safe way")]
fn margin(device: &Device<'_>) -> Result<i32, NvmlError> {
    let call = device.nvml().lib().nvmlDeviceGetMarginTemperature.as_ref();
    // Older drivers lack it. The wrapper's words for that, which nobody reads, would be made anew each time.
    let call = call.map_err(|_| NvmlError::FailedToLoadSymbol(String::new()))?;
    let mut margin = nvmlMarginTemperature_v1_t { version: VERSION, marginTemperature: UNFILLED };
    // SAFETY: the device is one of this library's, and the structure is of the version that it says.
    nvml_try(unsafe { call(device.handle(), &raw mut margin) })?;
    Ok(margin.marginTemperature)
}

fn known_limit(reading: Reading<u32>) -> Reading<f64> {
    known(reading, "a limit of the temperature", |degrees| LIMITS_C.contains(degrees))
}

fn known_margin(reading: Reading<i32>) -> Reading<f64> {
    known(reading, "a margin of the temperature", |degrees| MARGINS_C.contains(degrees))
}

fn known<T: Copy + Into<f64>>(reading: Reading<T>, what: &str, can_be: impl Fn(&T) -> bool) -> Reading<f64> {
    match reading.map(|degrees| (degrees.into(), can_be(&degrees))) {
        Reading::Value((degrees, true)) => Reading::Value(degrees),
        Reading::Value((degrees, false)) => Reading::Unavailable(Reason::new(
            format!("the driver reported {what} of {degrees} °C, which cannot be true"),
            "none: the next sample is usually right",
        )),
        Reading::Unavailable(reason) => Reading::Unavailable(reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_is_known_is_compared_with_the_temperature_and_goes_before_what_the_driver_says() {
        let (c, absent) = (Reading::Value, Reading::Unavailable(Reason::fixed("unread", "")));
        let told = Headroom { limit_c: absent.clone(), told_c: c(51.0) };
        assert_eq!([told.below(&c(34.0)), told.below(&absent)], [c(51.0), c(51.0)]);
        let compared = Headroom { limit_c: c(85.0), told_c: c(51.0) };
        assert_eq!([compared.below(&c(34.0)), compared.below(&c(88.0))], [c(51.0), c(-3.0)]);
        assert_eq!(compared.below(&absent), absent);
    }

    #[test]
    fn what_no_device_is_slowed_down_at_is_no_limit() {
        let values = [0, 49, 85, 150, 151, u32::MAX].map(|limit| known_limit(Reading::Value(limit)).value());
        assert_eq!(values, [None, None, Some(85.0), Some(150.0), None, None]);
        let values = [i32::MIN, -51, -2, 0, 150, UNFILLED].map(|margin| known_margin(Reading::Value(margin)).value());
        assert_eq!(values, [None, None, Some(-2.0), Some(0.0), Some(150.0), None]);
    }
}
