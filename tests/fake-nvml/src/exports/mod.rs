//! The C symbols, one file for each thing that they are about. Each takes its place in [`SYMBOLS`] and plays one key of the
//! scenario.
//!
//! Out parameters are `Option<&mut T>`, which C sees as a pointer that may be null; that the caller passes null or a valid pointer
//! is the header's contract.

#![allow(unsafe_code, reason = "C symbols are exported unmangled, and their arrays and strings come as pointers")]
#![allow(non_snake_case, reason = "the names are NVML's")]

mod arguments;
mod clocks;
mod devices;
mod events;
mod fields;
mod gpm;
mod link;
mod load;
mod mig;
mod power;
mod processes;
mod samples;
mod system;
mod temperature;

/// Every symbol this library exports; what a scenario's `errors` and `delays_ms` may name.
pub const SYMBOLS: &[&str] = &[
    "nvmlInit_v2",
    "nvmlInitWithFlags",
    "nvmlShutdown",
    "nvmlErrorString",
    "nvmlSystemGetDriverVersion",
    "nvmlSystemGetNVMLVersion",
    "nvmlSystemGetCudaDriverVersion_v2",
    "nvmlDeviceGetCount_v2",
    "nvmlDeviceGetHandleByIndex_v2",
    "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetHandleByPciBusId_v2",
    "nvmlDeviceGetIndex",
    "nvmlDeviceGetName",
    "nvmlDeviceGetUUID",
    "nvmlDeviceGetSerial",
    "nvmlDeviceGetPciInfo_v3",
    "nvmlDeviceGetUtilizationRates",
    "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetPowerUsage",
    "nvmlDeviceGetEnforcedPowerLimit",
    "nvmlDeviceGetPowerManagementLimit",
    "nvmlDeviceGetPowerManagementDefaultLimit",
    "nvmlDeviceGetTotalEnergyConsumption",
    "nvmlDeviceGetTemperature",
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetMarginTemperature",
    "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetMaxClockInfo",
    "nvmlDeviceGetApplicationsClock",
    "nvmlDeviceGetDefaultApplicationsClock",
    "nvmlDeviceGetEncoderUtilization",
    "nvmlDeviceGetDecoderUtilization",
    "nvmlDeviceGetCurrPcieLinkGeneration",
    "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetMaxPcieLinkGeneration",
    "nvmlDeviceGetMaxPcieLinkWidth",
    "nvmlDeviceGetCurrentClocksThrottleReasons",
    "nvmlDeviceGetCurrentClocksEventReasons",
    "nvmlDeviceGetPerformanceState",
    "nvmlDeviceGetComputeRunningProcesses_v2",
    "nvmlDeviceGetGraphicsRunningProcesses_v2",
    "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlDeviceGetProcessUtilization",
    "nvmlDeviceGetSamples",
    "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetPcieThroughput",
    "nvmlDeviceGetMigMode",
    "nvmlDeviceGetMaxMigDeviceCount",
    "nvmlDeviceGetMigDeviceHandleByIndex",
    "nvmlDeviceGetAttributes_v2",
    "nvmlDeviceGetGpuInstanceId",
    "nvmlEventSetCreate",
    "nvmlDeviceRegisterEvents",
    "nvmlEventSetWait_v2",
    "nvmlEventSetFree",
    "nvmlGpmQueryDeviceSupport",
    "nvmlGpmSampleAlloc",
    "nvmlGpmSampleFree",
    "nvmlGpmSampleGet",
    "nvmlGpmMigSampleGet",
    "nvmlGpmMetricsGet",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exported_function_is_in_symbols() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/exports");
        let mut functions = Vec::new();
        for entry in std::fs::read_dir(folder).expect("the folder of this file") {
            let source = std::fs::read_to_string(entry.expect("readable").path()).expect("a source file");
            for below in source.split("#[unsafe(no_mangle)]\n").skip(1) {
                let name = below.split_once("fn ").and_then(|(_, from)| from.split_once('('));
                functions.push(name.expect("a function").0.to_owned());
            }
        }
        functions.sort_unstable();
        let mut listed = SYMBOLS.to_vec();
        listed.sort_unstable();
        assert_eq!(functions, listed, "list in SYMBOLS what the files of this folder export, each function once");
    }
}
