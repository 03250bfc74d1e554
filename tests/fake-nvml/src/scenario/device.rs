//! A device of a scenario: the keys that it may have, and their parts.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::written::{Codes, PciAddress, Xid};
use crate::series::Series;

/// One device of a [`Scenario`](crate::Scenario).
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

impl Device {
    /// The number of the GPU instance that an instance in this slot is in.
    pub(crate) fn gpu_instance(&self, slot: usize) -> u32 {
        self.gpu_instance.unwrap_or(slot as u32)
    }
}
