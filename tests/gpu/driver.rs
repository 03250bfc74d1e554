//! What this driver answers where its header leaves it open.

use std::time::Instant;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enum_wrappers::device::Sampling;
use nvml_wrapper::{Device, Nvml};
use nvml_wrapper_sys::bindings::{
    nvmlFieldValue_t, nvmlGpmMetric_t, nvmlGpmMetric_t__bindgen_ty_1, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlValue_t,
};

use crate::watch::card;

/// What an entry says before the driver fills it in.
const UNFILLED: u32 = 999;
/// All links of `NVLink` together.
const ALL_LINKS: u32 = u32::MAX;
/// Fields that are asked for, each with its scope.
const FIELDS: [(u32, u32); 9] =
    [(197, 0), (198, 0), (138, ALL_LINKS), (139, ALL_LINKS), (94, 0), (82, 0), (74, 0), (252, 0), (270, 0)];
/// GPM's numbers, in as many as are asked for at once: older drivers have room for fewer than there are.
const LAST_METRIC: u32 = 209;
const AT_ONCE: usize = 64;

#[test]
fn what_the_driver_answers_is_written_down() {
    let _alone = crate::alone();
    let card = card();
    let nvml = Nvml::init().expect("NVML can be initialised where nvidia-smi runs");
    let device = nvml.device_by_uuid(card.uuid.as_str()).expect("nvidia-smi lists it");
    println!("{}, driver {:?}, field ids {:?}", card.name, nvml.sys_driver_version(), nvml.field_id_scheme());
    fields(&nvml, &device);
    metrics(&nvml, &device);
    events(&nvml, &device);
    samples(&device);
}

/// Which fields there are, and of what type.
#[allow(unsafe_code, reason = "the wrapper's call knows no scopes")]
fn fields(nvml: &Nvml, device: &Device<'_>) {
    let mut asked = FIELDS.map(|(id, scope)| nvmlFieldValue_t {
        fieldId: id,
        scopeId: scope,
        timestamp: 0,
        latencyUsec: 0,
        valueType: 0,
        nvmlReturn: UNFILLED,
        value: nvmlValue_t { ullVal: 0 },
    });
    let Ok(call) = nvml.lib().nvmlDeviceGetFieldValues.as_ref() else { return println!("no nvmlDeviceGetFieldValues") };
    // SAFETY: the device is this library's, and there are as many initialised values as is said.
    let code = unsafe { call(device.handle(), asked.len() as i32, asked.as_mut_ptr()) };
    println!("nvmlDeviceGetFieldValues returned {code}");
    for value in asked {
        // SAFETY: the union was initialised as a whole.
        let bits = unsafe { value.value.ullVal };
        let filled = if value.nvmlReturn == UNFILLED { ", perhaps not filled in" } else { "" };
        println!(
            "  field {} of scope {:#x}: return {}{filled}, type {}, bits {bits:#x}, {} µs",
            value.fieldId, value.scopeId, value.nvmlReturn, value.valueType, value.latencyUsec
        );
    }
}

/// Which of GPM's metrics there are.
#[allow(unsafe_code, reason = "the wrapper stops at 97")]
fn metrics(nvml: &Nvml, device: &Device<'_>) {
    println!("GPM is supported: {:?}", device.gpm_support());
    let samples = [device.gpm_sample(), {
        std::thread::sleep(std::time::Duration::from_millis(250));
        device.gpm_sample()
    }];
    let [Ok(older), Ok(newer)] = samples else { return println!("  no samples") };
    let Ok(call) = nvml.lib().nvmlGpmMetricsGet.as_ref() else { return println!("  no nvmlGpmMetricsGet") };
    let (older, newer) = (older.into_handle(), newer.into_handle());
    for ids in (1..=LAST_METRIC).collect::<Vec<_>>().chunks(AT_ONCE) {
        let mut asked = asked(ids, older, newer);
        // SAFETY: both samples are this library's and alive, and there is room for more metrics than are asked for.
        let code = unsafe { call(&raw mut *asked) };
        let told = &asked.metrics[..ids.len()];
        let of = |wanted: fn(&nvmlGpmMetric_t) -> bool| -> Vec<u32> {
            told.iter().filter(|metric| wanted(metric)).map(|metric| metric.metricId).collect()
        };
        println!("  metrics {} to {}: returned {code}", ids[0], ids[ids.len() - 1]);
        println!("    told {:?}", of(|metric| metric.nvmlReturn == 0 && metric.value.is_finite()));
        println!("    not a number {:?}", of(|metric| metric.nvmlReturn == 0 && !metric.value.is_finite()));
        println!("    perhaps not filled in {:?}", of(|metric| metric.nvmlReturn == UNFILLED));
    }
    if let Ok(free) = nvml.lib().nvmlGpmSampleFree.as_ref() {
        // SAFETY: both were given away by the wrapper, and are freed once.
        let codes = [older, newer].map(|sample| unsafe { free(sample) });
        println!("  freed: {codes:?}");
    }
}

fn asked(ids: &[u32], sample1: nvmlGpmSample_t, sample2: nvmlGpmSample_t) -> Box<nvmlGpmMetricsGet_t> {
    let null = std::ptr::null_mut();
    let metric_info = nvmlGpmMetric_t__bindgen_ty_1 { shortName: null, longName: null, unit: null };
    let metrics = std::array::from_fn(|at| nvmlGpmMetric_t {
        metricId: ids.get(at).copied().unwrap_or(0),
        nvmlReturn: UNFILLED,
        value: 0.0,
        metricInfo: metric_info,
    });
    Box::new(nvmlGpmMetricsGet_t { version: 1, numMetrics: ids.len() as u32, sample1, sample2, metrics })
}

/// How a wait for events that are not there ends, and how soon.
fn events(nvml: &Nvml, device: &Device<'_>) {
    println!("kinds of events: {:?}", device.supported_event_types());
    let set = nvml
        .create_event_set()
        .and_then(|set| device.register_events(EventTypes::CRITICAL_XID_ERROR, set).map_err(|error| error.error));
    match set {
        Ok(set) => {
            for timeout_ms in [0, 0, 10] {
                let began = Instant::now();
                let ended = set.wait(timeout_ms).map(|event| format!("{event:?}"));
                println!("  a wait of {timeout_ms} ms ended after {:?}: {ended:?}", began.elapsed());
            }
        }
        Err(error) => println!("  no set of events: {error}"),
    }
}

/// How often the driver samples utilisation, and how many samples it keeps.
fn samples(device: &Device<'_>) {
    match device.samples(Sampling::GpuUtilization, None) {
        Ok(samples) => {
            let times: Vec<_> = samples.iter().map(|sample| sample.timestamp).collect();
            let apart: Vec<_> = times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).collect();
            println!(
                "{} samples of utilisation, {:?} to {:?} µs apart",
                times.len(),
                apart.iter().min(),
                apart.iter().max()
            );
        }
        Err(error) => println!("samples of utilisation: {error}"),
    }
}
