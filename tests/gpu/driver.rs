//! What this driver answers where its header leaves it open.

use std::time::Instant;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::{Sampling, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::nvmlGpmMetric_t;

use crate::fixture;
use crate::raw::{self, UNFILLED};
use crate::watch::card;

#[test]
fn what_the_driver_answers_is_written_down() {
    let _alone = crate::alone();
    let card = card();
    let nvml = Nvml::init().expect("NVML can be initialised where nvidia-smi runs");
    let device = nvml.device_by_uuid(card.uuid.as_str()).expect("nvidia-smi lists it");
    say!("{}, driver {:?}, field ids {:?}", card.name, nvml.sys_driver_version(), nvml.field_id_scheme());
    fields(&nvml, &device);
    metrics(&nvml, &device);
    events(&nvml, &device);
    samples(&device);
    memory(&device);
    heat(&nvml, &device);
    fixture::keep("idle", &nvml, &device);
}

/// Which fields there are, and of what type.
fn fields(nvml: &Nvml, device: &Device<'_>) {
    let (code, told) = match raw::fields(nvml, device) {
        Ok(told) => told,
        Err(error) => return say!("no nvmlDeviceGetFieldValues: {error}"),
    };
    say!("nvmlDeviceGetFieldValues returned {code}");
    for value in told {
        let filled = if value.nvmlReturn == UNFILLED { ", perhaps not filled in" } else { "" };
        say!(
            "  field {} of scope {:#x}: return {}{filled}, type {}, bits {:#x}, {} µs",
            value.fieldId,
            value.scopeId,
            value.nvmlReturn,
            value.valueType,
            raw::bits(&value),
            value.latencyUsec
        );
    }
}

/// Which of GPM's metrics there are.
fn metrics(nvml: &Nvml, device: &Device<'_>) {
    say!("GPM is supported: {:?}", device.gpm_support());
    let told = match raw::gpm(nvml, device) {
        Ok(told) => told,
        Err(error) => return say!("  no metrics: {error}"),
    };
    for (code, metrics) in told {
        let of = |wanted: fn(&nvmlGpmMetric_t) -> bool| -> Vec<u32> {
            metrics.iter().filter(|metric| wanted(metric)).map(|metric| metric.metricId).collect()
        };
        say!("  metrics {:?} to {:?}: returned {code}", metrics.first().map(id), metrics.last().map(id));
        say!("    told {:?}", of(|metric| metric.nvmlReturn == 0 && metric.value.is_finite()));
        say!("    not a number {:?}", of(|metric| metric.nvmlReturn == 0 && !metric.value.is_finite()));
        say!("    perhaps not filled in {:?}", of(|metric| metric.nvmlReturn == UNFILLED));
    }
}

fn id(metric: &nvmlGpmMetric_t) -> u32 {
    metric.metricId
}

/// How a wait for events that are not there ends, and how soon.
fn events(nvml: &Nvml, device: &Device<'_>) {
    say!("kinds of events: {:?}", device.supported_event_types());
    let set = nvml
        .create_event_set()
        .and_then(|set| device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error));
    match set {
        Ok(set) => {
            for timeout_ms in [0, 0, 10] {
                let began = Instant::now();
                let ended = set.wait(timeout_ms).map(|event| format!("{event:?}"));
                say!("  a wait of {timeout_ms} ms ended after {:?}: {ended:?}", began.elapsed());
            }
        }
        Err(error) => say!("  no set of events: {error}"),
    }
}

/// How often the driver samples utilisation, and how many samples it keeps.
fn samples(device: &Device<'_>) {
    match device.samples(Sampling::GpuUtilization, None) {
        Ok(samples) => {
            let times: Vec<_> = samples.iter().map(|sample| sample.timestamp).collect();
            let apart: Vec<_> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
            say!(
                "{} samples of utilisation, {:?} to {:?} µs apart",
                times.len(),
                apart.iter().min(),
                apart.iter().max()
            );
        }
        Err(error) => say!("samples of utilisation: {error}"),
    }
}

/// Whether limits of the temperature are told, or how far it is below them, and whether the two are the same.
fn heat(nvml: &Nvml, device: &Device<'_>) {
    let limits = [TemperatureThreshold::GpuMax, TemperatureThreshold::Slowdown, TemperatureThreshold::Shutdown];
    let limits = limits.map(|which| (which, device.temperature_threshold(which)));
    let (now, margin) = (device.temperature(TemperatureSensor::Gpu), raw::margin(nvml, device));
    say!("temperature: {now:?}; limits {limits:?}; below the one from which the clocks are held down: {margin:?}");
}

/// Whether what is in use contains what is reserved: the header says both.
fn memory(device: &Device<'_>) {
    match device.memory_info() {
        Ok(is) => say!(
            "memory: {} = used {} + free {} + reserved {} {:+}",
            is.total,
            is.used,
            is.free,
            is.reserved,
            i128::from(is.total) - i128::from(is.used) - i128::from(is.free) - i128::from(is.reserved)
        ),
        Err(error) => say!("memory: {error}"),
    }
}
