//! What a real device answered, as a scenario that the scripted NVML plays.

use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, Nvml};
use serde_json::{Map, Value, json};

use crate::{keep, raw};

/// Names of `nvmlValueType_t` in scenarios.
const TYPES: [&str; 7] = [
    "double",
    "unsigned_int",
    "unsigned_long",
    "unsigned_long_long",
    "signed_long_long",
    "signed_int",
    "unsigned_short",
];

/// Keeps what the device says at this moment as `scenario-NAME.json`. Which device it was is nobody's business: it has no UUID,
/// serial number and place of its own.
pub(crate) fn keep(name: &str, nvml: &Nvml, device: &Device<'_>) {
    let driver = nvml.sys_driver_version().unwrap_or_default();
    let scenario = json!({"driver": driver, "devices": [device_of(nvml, device)]});
    let text = serde_json::to_string_pretty(&scenario).expect("JSON");
    // Kept first: what cannot be played shows how.
    keep::put(&format!("scenario-{name}.json"), &text);
    fake_nvml::Scenario::parse(&text).expect("the scripted NVML can play it");
}

fn device_of(nvml: &Nvml, device: &Device<'_>) -> Value {
    let mut of = Map::new();
    let mut put = |key: &str, value: Result<Value, NvmlError>| {
        // What it does not support is not in the scenario, and then not supported either.
        if let Ok(value) = value {
            of.insert(key.to_owned(), value);
        }
    };
    put("uuid", Ok(json!("GPU-recorded")));
    put("name", device.name().map(Value::from));
    put("utilization", device.utilization_rates().map(|rates| json!({"gpu": rates.gpu, "memory": rates.memory})));
    let memory = device.memory_info();
    put("memory", memory.map(|is| json!({"total": is.total, "reserved": is.reserved, "used": is.used})));
    put("power_mw", device.power_usage().map(Value::from));
    put("power_limit_mw", device.enforced_power_limit().map(Value::from));
    put("power_limit_set_mw", device.power_management_limit().map(Value::from));
    put("power_limit_default_mw", device.power_management_limit_default().map(Value::from));
    put("energy_mj", device.total_energy_consumption().map(Value::from));
    put("temperature_c", device.temperature(TemperatureSensor::Gpu).map(Value::from));
    let limits = [
        ("shutdown", TemperatureThreshold::Shutdown),
        ("slowdown", TemperatureThreshold::Slowdown),
        ("memory_max", TemperatureThreshold::MemoryMax),
        ("gpu_max", TemperatureThreshold::GpuMax),
    ];
    let limits = limits.into_iter().filter_map(|(key, which)| {
        let degrees = device.temperature_threshold(which).ok()?;
        Some((key.to_owned(), json!(degrees)))
    });
    put("temperature_limits_c", Ok(limits.collect()));
    put("temperature_margin_c", raw::margin(nvml, device).map(Value::from).map_err(|_| NvmlError::NotSupported));
    put("clocks_mhz", Ok(clocks(|clock| device.clock_info(clock))));
    put("max_clocks_mhz", Ok(clocks(|clock| device.max_clock_info(clock))));
    put("application_clocks_mhz", Ok(clocks(|clock| device.applications_clock(clock))));
    put("default_application_clocks_mhz", Ok(clocks(|clock| device.default_applications_clock(clock))));
    put("encoder", device.encoder_utilization().map(|is| Value::from(is.utilization)));
    put("decoder", device.decoder_utilization().map(|is| Value::from(is.utilization)));
    put("throttle_reasons", device.current_throttle_reasons().map(|reasons| Value::from(reasons.bits())));
    let link = [
        ("generation", device.current_pcie_link_gen()),
        ("width", device.current_pcie_link_width()),
        ("max_generation", device.max_pcie_link_gen()),
        ("max_width", device.max_pcie_link_width()),
    ];
    put("pcie", Ok(link.into_iter().filter_map(|(key, value)| Some((key.to_owned(), json!(value.ok()?)))).collect()));
    put("fields", Ok(fields(nvml, device)));
    put("gpm", Ok(gpm(nvml, device)));
    Value::Object(of)
}

fn clocks(read: impl Fn(Clock) -> Result<u32, NvmlError>) -> Value {
    let of = [("graphics", Clock::Graphics), ("sm", Clock::SM), ("memory", Clock::Memory), ("video", Clock::Video)];
    of.into_iter().filter_map(|(key, clock)| Some((key.to_owned(), json!(read(clock).ok()?)))).collect()
}

fn fields(nvml: &Nvml, device: &Device<'_>) -> Value {
    let told = raw::fields(nvml, device).map(|(_, told)| told).unwrap_or_default();
    let known = told.iter().filter(|value| value.nvmlReturn == 0);
    let scripted = known.filter_map(|value| {
        let kind = TYPES.get(value.valueType as usize)?;
        let bits = raw::bits(value);
        let number = match *kind {
            "double" => json!(f64::from_bits(bits)),
            "unsigned_int" => json!(bits as u32),
            "signed_long_long" => json!(bits.cast_signed()),
            "signed_int" => json!((bits as u32).cast_signed()),
            "unsigned_short" => json!(bits as u16),
            _ => json!(bits),
        };
        Some(json!({"id": value.fieldId, "scope": value.scopeId, "type": kind, "value": number}))
    });
    scripted.collect()
}

fn gpm(nvml: &Nvml, device: &Device<'_>) -> Value {
    let told = raw::gpm(nvml, device).unwrap_or_default();
    let known = told.iter().flat_map(|(_, metrics)| metrics);
    let known = known.filter(|metric| metric.nvmlReturn == 0 && metric.value.is_finite());
    known.map(|metric| (metric.metricId.to_string(), json!(metric.value))).collect()
}
