//! What a scenario that parses is refused for: it could not be played.

use std::collections::{BTreeMap, BTreeSet};

use super::device::{Clocks, Device};
use super::written::Codes;
use super::{MOST_DEVICES, MOST_INSTANCES, Scenario};
use crate::SYMBOLS;
use crate::series::Series;

impl Scenario {
    pub(super) fn check(&self) -> Result<(), String> {
        known_symbols("", &self.errors, &self.delays_ms)?;
        if let Some(symbol) = self.missing.iter().find(|symbol| !SYMBOLS.contains(&symbol.as_str())) {
            return Err(format!("`missing`: `{symbol}` is not a symbol of this library anyway"));
        }
        if self.devices.len() > MOST_DEVICES {
            return Err(format!("there are more than {MOST_DEVICES} devices"));
        }
        let mut uuids = BTreeSet::new();
        for (index, device) in self.devices.iter().enumerate() {
            let place = format!("device {index}: ");
            device.check(&place, &mut uuids)?;
            let instances = device.mig.as_ref().map_or(&[][..], |mig| &mig.instances);
            if instances.len() > MOST_INSTANCES {
                return Err(format!("{place}there are more than {MOST_INSTANCES} instances"));
            }
            for (slot, instance) in instances.iter().enumerate().filter_map(|(slot, at)| Some((slot, at.as_ref()?))) {
                let place = format!("{place}instance {slot}: ");
                instance.check(&place, &mut uuids)?;
                if instance.mig.is_some() {
                    return Err(format!("{place}an instance has none of its own"));
                }
            }
        }
        Ok(())
    }
}

fn known_symbols(
    place: &str,
    errors: &BTreeMap<String, Codes>,
    delays: &BTreeMap<String, Series>,
) -> Result<(), String> {
    match errors.keys().chain(delays.keys()).find(|symbol| !SYMBOLS.contains(&symbol.as_str())) {
        Some(symbol) => {
            Err(format!("{place}`{symbol}` is not a symbol of this library; fake_nvml::SYMBOLS lists them"))
        }
        None => match delays.iter().find(|(_, delay)| delay.lowest() < 0.0) {
            Some((symbol, _)) => Err(format!("{place}the delay of `{symbol}` can become negative")),
            None => Ok(()),
        },
    }
}

impl Device {
    fn check<'a>(&'a self, place: &str, uuids: &mut BTreeSet<&'a str>) -> Result<(), String> {
        known_symbols(place, &self.errors, &self.delays_ms)?;
        for (key, series) in self.unsigned_series() {
            if series.lowest() < 0.0 {
                return Err(format!("{place}`{key}` can become negative, NVML's type cannot"));
            }
        }
        if !self.xids.iter().flatten().is_sorted_by(|earlier, later| earlier.second <= later.second) {
            return Err(format!("{place}the seconds of `xids` must rise"));
        }
        if !uuids.insert(&self.uuid) {
            return Err(format!("{place}uuid `{}` is taken by an earlier device", self.uuid));
        }
        Ok(())
    }

    fn unsigned_series(&self) -> impl Iterator<Item = (&'static str, &Series)> {
        [
            ("utilization.gpu", self.utilization.as_ref().map(|utilization| &utilization.gpu)),
            ("utilization.memory", self.utilization.as_ref().map(|utilization| &utilization.memory)),
            ("memory.used", self.memory.as_ref().map(|memory| &memory.used)),
            ("power_mw", self.power_mw.as_ref()),
            ("power_limit_mw", self.power_limit_mw.as_ref()),
            ("power_limit_set_mw", self.power_limit_set_mw.as_ref()),
            ("power_limit_default_mw", self.power_limit_default_mw.as_ref()),
            ("encoder", self.encoder.as_ref()),
            ("decoder", self.decoder.as_ref()),
            ("pcie.generation", self.pcie.generation.as_ref()),
            ("pcie.width", self.pcie.width.as_ref()),
            ("pcie.max_generation", self.pcie.max_generation.as_ref()),
            ("pcie.max_width", self.pcie.max_width.as_ref()),
            ("energy_mj", self.energy_mj.as_ref()),
            ("temperature_c", self.temperature_c.as_ref()),
            ("temperature_limits_c.shutdown", self.temperature_limits_c.shutdown.as_ref()),
            ("temperature_limits_c.slowdown", self.temperature_limits_c.slowdown.as_ref()),
            ("temperature_limits_c.memory_max", self.temperature_limits_c.memory_max.as_ref()),
            ("temperature_limits_c.gpu_max", self.temperature_limits_c.gpu_max.as_ref()),
            ("throttle_reasons", self.throttle_reasons.as_ref()),
            ("performance_state", self.performance_state.as_ref()),
            ("utilization_samples.percent", self.utilization_samples.as_ref().map(|samples| &samples.percent)),
        ]
        .into_iter()
        .chain(self.process_utilization.iter().flatten().flat_map(|process| {
            [
                ("process_utilization.timestamp_us", Some(&process.timestamp_us)),
                ("process_utilization.sm", Some(&process.sm)),
            ]
        }))
        .chain(self.clocks_mhz.all().map(|series| ("clocks_mhz", series)))
        .chain(self.max_clocks_mhz.all().map(|series| ("max_clocks_mhz", series)))
        .chain(self.application_clocks_mhz.all().map(|series| ("application_clocks_mhz", series)))
        .chain(self.default_application_clocks_mhz.all().map(|series| ("default_application_clocks_mhz", series)))
        .filter_map(|(key, series)| series.map(|series| (key, series)))
    }
}

impl Clocks {
    fn all(&self) -> impl Iterator<Item = Option<&Series>> {
        [self.graphics.as_ref(), self.sm.as_ref(), self.memory.as_ref(), self.video.as_ref()].into_iter()
    }
}
