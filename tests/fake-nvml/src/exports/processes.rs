//! The processes on a device, and what each had of it.

use std::ffi::{c_uint, c_ulonglong};

use nvml_wrapper_sys::bindings::{
    nvmlDevice_t, nvmlProcessDetail_v1_t, nvmlProcessInfo_t, nvmlProcessUtilizationSample_t, nvmlReturn_t,
};

use super::arguments::list;
use crate::codes::{NOT_FOUND, NOT_SUPPORTED};
use crate::scenario::{NO_INSTANCE, Process, ProcessUtilization, Processes};
use crate::session::{self, device};

/// The lists of processes differ in which key they play, and in the rows that they write.
fn processes(
    handle: nvmlDevice_t,
    symbol: &'static str,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
    which: fn(&Processes) -> &[Process],
) -> nvmlReturn_t {
    device(handle, symbol, |device, _| {
        let processes = which(device.processes.as_ref().ok_or(NOT_SUPPORTED)?);
        let entry = |process: &Process| nvmlProcessInfo_t {
            pid: process.pid,
            usedGpuMemory: process.used.unwrap_or(u64::MAX),
            gpuInstanceId: process.gpu_instance.unwrap_or(NO_INSTANCE),
            computeInstanceId: process.gpu_instance.map_or(NO_INSTANCE, |_| 0),
        };
        let entries = processes.iter().map(entry);
        if symbol.ends_with("_v3") && session::writes_long_rows() {
            let long = |row: nvmlProcessInfo_t| nvmlProcessDetail_v1_t {
                pid: row.pid,
                usedGpuMemory: row.usedGpuMemory,
                gpuInstanceId: row.gpuInstanceId,
                computeInstanceId: row.computeInstanceId,
                usedGpuCcProtectedMemory: 0,
            };
            return list(out.cast(), count, entries.map(long).collect());
        }
        list(out, count, entries.collect())
    })
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetComputeRunningProcesses_v2", count, out, |processes| &processes.compute)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetGraphicsRunningProcesses_v2", count, out, |processes| &processes.graphics)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v2(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetMPSComputeRunningProcesses_v2", count, out, |processes| &processes.mps)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetComputeRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetComputeRunningProcesses_v3", count, out, |processes| &processes.compute)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetGraphicsRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetGraphicsRunningProcesses_v3", count, out, |processes| &processes.graphics)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetMPSComputeRunningProcesses_v3(
    handle: nvmlDevice_t,
    count: Option<&mut c_uint>,
    out: *mut nvmlProcessInfo_t,
) -> nvmlReturn_t {
    processes(handle, "nvmlDeviceGetMPSComputeRunningProcesses_v3", count, out, |processes| &processes.mps)
}

#[unsafe(no_mangle)]
extern "C" fn nvmlDeviceGetProcessUtilization(
    handle: nvmlDevice_t,
    out: *mut nvmlProcessUtilizationSample_t,
    count: Option<&mut c_uint>,
    since_us: c_ulonglong,
) -> nvmlReturn_t {
    device(handle, "nvmlDeviceGetProcessUtilization", |device, elapsed_s| {
        let samples = device.process_utilization.as_ref().ok_or(NOT_SUPPORTED)?;
        let taken = samples.iter().map(|sample| (sample, sample.timestamp_us.next(elapsed_s).round() as c_ulonglong));
        let newer: Vec<_> = taken.filter(|(_, taken_us)| *taken_us > since_us).collect();
        if newer.is_empty() {
            return Err(NOT_FOUND);
        }
        // What only the length was asked of takes no step.
        let fits = !out.is_null() && count.as_ref().is_some_and(|room| **room as usize >= newer.len());
        let entry = |(sample, taken_us): (&ProcessUtilization, c_ulonglong)| nvmlProcessUtilizationSample_t {
            pid: sample.pid,
            timeStamp: taken_us,
            smUtil: if fits { sample.sm.next(elapsed_s).round() as c_uint } else { 0 },
            memUtil: sample.memory,
            encUtil: sample.encoder,
            decUtil: sample.decoder,
        };
        list(out, count, newer.into_iter().map(entry).collect())
    })
}
