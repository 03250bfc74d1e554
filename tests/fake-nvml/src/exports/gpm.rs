//! GPM: samples of a device's counters, and the metrics between two of them.

use std::ffi::c_uint;

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlGpmMetricsGet_t, nvmlGpmSample_t, nvmlGpmSupport_t, nvmlReturn_t};

use super::arguments::{Answer, free, held, put, same_version};
use crate::codes::{INVALID_ARGUMENT, NOT_SUPPORTED, SUCCESS};
use crate::scenario::Device;
use crate::session::{self, Session, device, system};

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmQueryDeviceSupport(handle: nvmlDevice_t, out: Option<&mut nvmlGpmSupport_t>) -> nvmlReturn_t {
    device(handle, "nvmlGpmQueryDeviceSupport", |device, _| {
        whole(handle)?;
        let out = out.ok_or(INVALID_ARGUMENT)?;
        same_version(out.version, 1)?;
        let of_instances = device.mig.iter().flat_map(|mig| mig.instances.iter().flatten());
        let supports = !device.gpm.is_empty() || of_instances.into_iter().any(|instance| !instance.gpm.is_empty());
        out.isSupportedDevice = c_uint::from(supports);
        Ok(())
    })
}

/// GPM is asked for with a GPU's handle: with an instance's a real driver has been seen to break that handle.
fn whole(handle: nvmlDevice_t) -> Answer {
    if Session::slot_of(handle).is_some() { Err(INVALID_ARGUMENT) } else { Ok(()) }
}

/// What a sample of GPM's holds: whose it is, and when it was taken.
struct GpmSample {
    device: nvmlDevice_t,
    taken_s: f64,
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleAlloc(out: Option<&mut nvmlGpmSample_t>) -> nvmlReturn_t {
    system("nvmlGpmSampleAlloc", |_| {
        let sample = Box::new(GpmSample { device: std::ptr::null_mut(), taken_s: f64::NAN });
        put(out, Box::into_raw(sample).cast())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleFree(sample: nvmlGpmSample_t) -> nvmlReturn_t {
    free(sample.cast::<GpmSample>())
}

/// Takes a sample of what has this handle: a GPU, or an instance.
fn take(out: nvmlGpmSample_t, handle: nvmlDevice_t, of: &Device, elapsed_s: f64) -> Answer {
    if of.gpm.is_empty() {
        return Err(NOT_SUPPORTED);
    }
    *held(out.cast())? = GpmSample { device: handle, taken_s: elapsed_s };
    Ok(())
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmSampleGet(handle: nvmlDevice_t, out: nvmlGpmSample_t) -> nvmlReturn_t {
    device(handle, "nvmlGpmSampleGet", |device, elapsed_s| {
        whole(handle)?;
        take(out, handle, device, elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMigSampleGet(handle: nvmlDevice_t, id: c_uint, out: nvmlGpmSample_t) -> nvmlReturn_t {
    session::instance_of_id(handle, "nvmlGpmMigSampleGet", id, |handle, instance, elapsed_s| {
        take(out, handle, instance, elapsed_s)
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlGpmMetricsGet(asked: Option<&mut nvmlGpmMetricsGet_t>) -> nvmlReturn_t {
    let Some(asked) = asked else { return INVALID_ARGUMENT };
    let (Ok(older), Ok(newer)) = (held::<GpmSample>(asked.sample1.cast()), held::<GpmSample>(asked.sample2.cast()))
    else {
        return INVALID_ARGUMENT;
    };
    if older.device != newer.device {
        return INVALID_ARGUMENT;
    }
    device(newer.device, "nvmlGpmMetricsGet", |device, _| {
        same_version(asked.version, 1)?;
        let count = asked.numMetrics as usize;
        for metric in asked.metrics.get_mut(..count).ok_or(INVALID_ARGUMENT)? {
            match device.gpm.get(&metric.metricId) {
                Some(series) => {
                    // Without a refresh of the counters between them, both samples are the same.
                    let until = device.gpm_until_s.unwrap_or(f64::INFINITY);
                    let refresh = |sample: &GpmSample| (sample.taken_s.min(until) / 0.1).floor();
                    let valid = refresh(newer) > refresh(older);
                    metric.value = if valid { series.next(newer.taken_s) } else { f64::NAN };
                    metric.nvmlReturn = SUCCESS;
                }
                None => metric.nvmlReturn = NOT_SUPPORTED,
            }
        }
        Ok(())
    })
}
