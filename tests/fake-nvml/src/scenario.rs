//! The scenario file: what the fake driver and its devices answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;

use serde::Deserialize;
use serde_json::Value;

use crate::{SYMBOLS, codes, series::Series};

/// Why a scenario was refused.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// Not JSON, an unknown key, or a value of the wrong kind; says where.
    #[error("scenario does not parse: {0}")]
    Parse(#[from] serde_json::Error),
    /// It parses but cannot be played; says which device and key.
    #[error("scenario cannot be played: {0}")]
    Invalid(String),
}

/// A parsed scenario; its keys are documented in the crate's documentation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    #[serde(default)]
    pub(crate) init: Code,
    #[serde(default = "default_driver")]
    pub(crate) driver: String,
    #[serde(default)]
    pub(crate) devices: Vec<Device>,
    /// Symbols that the library has not.
    #[serde(default)]
    pub(crate) missing: Vec<String>,
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, Codes>,
    #[serde(default)]
    pub(crate) delays_ms: BTreeMap<String, Series>,
    #[serde(default)]
    pub(crate) call_log: Option<std::path::PathBuf>,
}

/// One device of a [`Scenario`].
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    pub(crate) uuid: String,
    #[serde(default)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    pub(crate) serial: Option<String>,
    #[serde(default)]
    pub(crate) pci: Option<PciAddress>,
    #[serde(default)]
    pub(crate) utilization: Option<Utilization>,
    #[serde(default)]
    pub(crate) memory: Option<Memory>,
    #[serde(default)]
    pub(crate) power_mw: Option<Series>,
    #[serde(default)]
    pub(crate) power_limit_mw: Option<Series>,
    #[serde(default)]
    pub(crate) power_limit_set_mw: Option<Series>,
    #[serde(default)]
    pub(crate) power_limit_default_mw: Option<Series>,
    #[serde(default)]
    pub(crate) energy_mj: Option<Series>,
    #[serde(default)]
    pub(crate) temperature_c: Option<Series>,
    #[serde(default)]
    pub(crate) temperature_limits_c: TemperatureLimits,
    #[serde(default)]
    pub(crate) temperature_margin_c: Option<Series>,
    #[serde(default)]
    pub(crate) clocks_mhz: Clocks,
    #[serde(default)]
    pub(crate) max_clocks_mhz: Clocks,
    #[serde(default)]
    pub(crate) application_clocks_mhz: Clocks,
    #[serde(default)]
    pub(crate) default_application_clocks_mhz: Clocks,
    #[serde(default)]
    pub(crate) encoder: Option<Series>,
    #[serde(default)]
    pub(crate) decoder: Option<Series>,
    #[serde(default)]
    pub(crate) pcie: Link,
    #[serde(default)]
    pub(crate) throttle_reasons: Option<Series>,
    #[serde(default)]
    pub(crate) performance_state: Option<Series>,
    #[serde(default)]
    pub(crate) processes: Option<Processes>,
    #[serde(default)]
    pub(crate) process_utilization: Option<Vec<ProcessUtilization>>,
    #[serde(default)]
    pub(crate) utilization_samples: Option<UtilizationSamples>,
    #[serde(default)]
    pub(crate) fields: Vec<Field>,
    #[serde(default)]
    pub(crate) gpm: BTreeMap<u32, Series>,
    #[serde(default)]
    pub(crate) gpm_until_s: Option<f64>,
    #[serde(default)]
    pub(crate) xids: Option<Vec<Xid>>,
    /// Somebody registered for them before.
    #[serde(skip)]
    pub(crate) is_listened_to: AtomicBool,
    #[serde(default)]
    pub(crate) lost: Option<Series>,
    /// It was at one call, and stays so.
    #[serde(skip)]
    pub(crate) was_lost: AtomicBool,
    #[serde(default)]
    pub(crate) mig: Option<Mig>,
    #[serde(default)]
    pub(crate) gpu_instance: Option<u32>,
    #[serde(default)]
    pub(crate) attributes: Option<Attributes>,
    #[serde(default)]
    pub(crate) errors: BTreeMap<String, Codes>,
    #[serde(default)]
    pub(crate) delays_ms: BTreeMap<String, Series>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Utilization {
    pub(crate) gpu: Series,
    pub(crate) memory: Series,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Memory {
    pub(crate) total: u64,
    #[serde(default)]
    pub(crate) reserved: u64,
    pub(crate) used: Series,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TemperatureLimits {
    #[serde(default)]
    pub(crate) shutdown: Option<Series>,
    #[serde(default)]
    pub(crate) slowdown: Option<Series>,
    #[serde(default)]
    pub(crate) memory_max: Option<Series>,
    #[serde(default)]
    pub(crate) gpu_max: Option<Series>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Clocks {
    #[serde(default)]
    pub(crate) graphics: Option<Series>,
    #[serde(default)]
    pub(crate) sm: Option<Series>,
    #[serde(default)]
    pub(crate) memory: Option<Series>,
    #[serde(default)]
    pub(crate) video: Option<Series>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Link {
    #[serde(default)]
    pub(crate) generation: Option<Series>,
    #[serde(default)]
    pub(crate) width: Option<Series>,
    #[serde(default)]
    pub(crate) max_generation: Option<Series>,
    #[serde(default)]
    pub(crate) max_width: Option<Series>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Processes {
    #[serde(default)]
    pub(crate) compute: Vec<Process>,
    #[serde(default)]
    pub(crate) graphics: Vec<Process>,
    #[serde(default)]
    pub(crate) mps: Vec<Process>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    #[serde(default)]
    pub(crate) used: Option<u64>,
    #[serde(default)]
    pub(crate) gpu_instance: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Mig {
    /// By index; a slot may be empty.
    pub(crate) instances: Vec<Option<Device>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Attributes {
    pub(crate) slices: u32,
    pub(crate) compute_slices: u32,
    pub(crate) memory_mb: u64,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ProcessUtilization {
    pub(crate) pid: u32,
    pub(crate) timestamp_us: Series,
    pub(crate) sm: Series,
    #[serde(default)]
    pub(crate) memory: u32,
    #[serde(default)]
    pub(crate) encoder: u32,
    #[serde(default)]
    pub(crate) decoder: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UtilizationSamples {
    pub(crate) percent: Series,
    pub(crate) period_ms: std::num::NonZeroU32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Field {
    pub(crate) id: u32,
    #[serde(default)]
    pub(crate) scope: u32,
    #[serde(rename = "type")]
    pub(crate) kind: FieldType,
    pub(crate) value: Series,
}

/// An XID error, written as a list.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(from = "WrittenXid")]
pub(crate) struct Xid {
    pub(crate) second: f64,
    pub(crate) code: u64,
    /// GPU instance and compute instance, `NO_INSTANCE` where the error is the whole device's.
    pub(crate) instance: (u32, u32),
}

/// What NVML says for no MIG instance.
pub(crate) const NO_INSTANCE: u32 = u32::MAX;

#[derive(Deserialize)]
#[serde(untagged)]
enum WrittenXid {
    OfTheDevice(f64, u64),
    OfAnInstance(f64, u64, u32, u32),
}

impl From<WrittenXid> for Xid {
    fn from(written: WrittenXid) -> Self {
        match written {
            WrittenXid::OfTheDevice(second, code) => Self { second, code, instance: (NO_INSTANCE, NO_INSTANCE) },
            WrittenXid::OfAnInstance(second, code, gpu, compute) => Self { second, code, instance: (gpu, compute) },
        }
    }
}

/// `nvmlValueType_t`, in the header's order.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FieldType {
    Double,
    UnsignedInt,
    UnsignedLong,
    UnsignedLongLong,
    SignedLongLong,
    SignedInt,
    UnsignedShort,
}

/// A return code, written as its number or its name.
#[derive(Debug, Default, Clone, Copy, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Code(pub(crate) u32);

impl TryFrom<Value> for Code {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        match numbered(value)? {
            Value::Number(number) => match number.as_u64().map(u32::try_from) {
                Some(Ok(code)) => Ok(Self(code)),
                _ => Err(format!("return code {number} is not an unsigned 32-bit number")),
            },
            other => Err(format!("return code must be a number or a name, not `{other}`")),
        }
    }
}

/// A series of return codes, each written as its number or its name.
#[derive(Debug, Deserialize)]
#[serde(try_from = "Value")]
pub(crate) struct Codes(pub(crate) Series);

impl TryFrom<Value> for Codes {
    type Error = String;

    fn try_from(value: Value) -> Result<Self, String> {
        Series::try_from(numbered(value)?).map(Self)
    }
}

/// Replaces the names of return codes by their numbers, at any depth.
fn numbered(value: Value) -> Result<Value, String> {
    match value {
        Value::String(name) => codes::by_name(&name).map(Value::from).ok_or_else(|| {
            format!("unknown return code `{name}`; write NVML's name without NVML_ERROR_, or the number")
        }),
        Value::Array(values) => values.into_iter().map(numbered).collect(),
        Value::Object(keys) => keys.into_iter().map(|(key, value)| Ok((key, numbered(value)?))).collect(),
        other => Ok(other),
    }
}

/// `domain:bus:device.function`, hexadecimal, as NVML prints it.
#[derive(Debug, Clone, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct PciAddress {
    pub(crate) text: String,
    pub(crate) domain: u32,
    pub(crate) bus: u32,
    pub(crate) device: u32,
}

impl TryFrom<String> for PciAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = |digits: Option<&str>| digits.and_then(|digits| u32::from_str_radix(digits, 16).ok());
        let mut parts = text.split([':', '.']);
        let (domain, bus, device) = (number(parts.next()), number(parts.next()), number(parts.next()));
        match (domain, bus, device, number(parts.next()), parts.next()) {
            (Some(domain), Some(bus), Some(device), Some(_), None) if text.len() < 32 => {
                Ok(Self { text, domain, bus, device })
            }
            _ => Err(format!("pci address `{text}` is not of the form 00000000:1B:00.0")),
        }
    }
}

/// What there are handles for.
pub(crate) const MOST_DEVICES: usize = 256;
pub(crate) const MOST_INSTANCES: usize = 15;

fn default_driver() -> String {
    "580.95.05".into()
}

impl Scenario {
    /// Parses and checks a scenario.
    pub fn parse(json: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = serde_json::from_str(json)?;
        scenario.check().map_err(ScenarioError::Invalid)?;
        Ok(scenario)
    }

    fn check(&self) -> Result<(), String> {
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
    /// The number of the GPU instance that an instance in this slot is in.
    pub(crate) fn gpu_instance(&self, slot: usize) -> u32 {
        self.gpu_instance.unwrap_or(slot as u32)
    }

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::float_cmp, reason = "scripted values come back exactly")]
    fn return_codes_are_numbers_or_names() {
        let scenario =
            Scenario::parse(r#"{"init": "DRIVER_NOT_LOADED", "errors": {"nvmlDeviceGetCount_v2": [0, "UNKNOWN"]}}"#)
                .expect("parses");
        assert_eq!(scenario.init.0, 9);
        let codes = &scenario.errors["nvmlDeviceGetCount_v2"].0;
        assert_eq!([codes.next(0.0), codes.next(0.0)], [0.0, 999.0]);
    }

    #[test]
    fn mistakes_are_refused_with_their_place() {
        let refused = [
            (r#"{"device": []}"#, "unknown field `device`"),
            (r#"{"devices": [{"name": "x"}]}"#, "missing field `uuid`"),
            (r#"{"devices": [{"uuid": "a"}, {"uuid": "a"}]}"#, "device 1: uuid `a` is taken"),
            (r#"{"devices": [{"uuid": "a", "power_mw": -1}]}"#, "device 0: `power_mw` can become negative"),
            (r#"{"devices": [{"uuid": "a", "errors": {"nvmlFoo": 3}}]}"#, "device 0: `nvmlFoo` is not a symbol"),
            (
                r#"{"devices": [{"uuid": "a", "mig": {"instances": [null, {"uuid": "a"}]}}]}"#,
                "device 0: instance 1: uuid `a` is taken",
            ),
            (
                r#"{"devices": [{"uuid": "a", "xids": [[5, 31], [0, 79, 1, 0]]}]}"#,
                "device 0: the seconds of `xids` must",
            ),
            (r#"{"devices": [{"uuid": "a", "xids": [[5, 31, 1]]}]}"#, "did not match"),
            (r#"{"missing": ["nvmlFoo"]}"#, "`nvmlFoo` is not a symbol"),
            (r#"{"init": "NO_SUCH"}"#, "unknown return code `NO_SUCH`"),
            (r#"{"devices": [{"uuid": "a", "pci": "1B:00.0"}]}"#, "not of the form 00000000:1B:00.0"),
        ];
        for (json, reason) in refused {
            let error = Scenario::parse(json).expect_err("refused").to_string();
            assert!(error.contains(reason), "{json}: {error}");
        }
    }
}
