//! The samples of utilisation that a driver takes and keeps.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlReturn_t, nvmlSample_t,
    nvmlSamplingType_enum_NVML_GPU_UTILIZATION_SAMPLES as UTILIZATION_SAMPLES, nvmlSamplingType_t, nvmlValue_t,
    nvmlValueType_t,
};

use super::arguments::{list, put};
use crate::codes::{INVALID_ARGUMENT, NOT_FOUND, NOT_SUPPORTED};
use crate::scenario::FieldType;
use crate::session::{self, device};

/// Samples of utilisation that a driver keeps.
const SAMPLES_KEPT: u64 = 120;

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetSamples(
    handle: nvmlDevice_t,
    kind: nvmlSamplingType_t,
    since_us: c_ulonglong,
    value_type: Option<&mut nvmlValueType_t>,
    count: Option<&mut c_uint>,
    out: *mut nvmlSample_t,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetSamples", |device, elapsed_s| {
        let samples =
            device.utilization_samples.as_ref().filter(|_| kind == UTILIZATION_SAMPLES).ok_or(NOT_SUPPORTED)?;
        let count = count.ok_or(INVALID_ARGUMENT)?;
        put(value_type, FieldType::UnsignedInt as nvmlValueType_t)?;
        if out.is_null() {
            return put(Some(count), SAMPLES_KEPT as c_uint);
        }
        let (now_us, period_us) = (session::wall_us(), u64::from(samples.period_ms.get()) * 1000);
        let began_us = now_us - (elapsed_s * 1e6) as u64;
        let newest = now_us / period_us;
        let newer: Vec<_> = (newest.saturating_sub(SAMPLES_KEPT - 1)..=newest)
            .map(|number| number * period_us)
            .filter(|taken_us| *taken_us > since_us && *taken_us >= began_us)
            .map(|taken_us| {
                let percent = samples.percent.next((taken_us - began_us) as f64 / 1e6).round() as c_uint;
                nvmlSample_t { timeStamp: taken_us, sampleValue: nvmlValue_t { ullVal: percent.into() } }
            })
            .take(*count as usize)
            .collect();
        if newer.is_empty() { Err(NOT_FOUND) } else { list(out, Some(count), newer) }
    })
}
