//! The library as perfwatch meets it: loaded by `nvml-wrapper`.

use std::path::Path;

use nvml_wrapper::Nvml;
use nvml_wrapper::enum_wrappers::device::{Clock, TemperatureSensor, TemperatureThreshold};
use nvml_wrapper::error::NvmlError;

fn load(library: &Path) -> Result<Nvml, NvmlError> {
    Nvml::builder().lib_path(library.as_os_str()).init()
}

#[test]
fn every_symbol_is_exported_by_the_shared_library() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let library = fake_nvml::install(dir.path(), "{}").expect("installs");
    let nvml = load(&library).expect("loads");
    // A dynamic symbol table names what it exports as a zero-terminated string.
    let bytes = std::fs::read(&library).expect("readable");
    for symbol in fake_nvml::SYMBOLS {
        let name = format!("\0{symbol}\0");
        assert!(bytes.windows(name.len()).any(|window| window == name.as_bytes()), "{symbol} is not exported");
    }
    assert_eq!(nvml.device_count().expect("counts"), 0);
}

#[test]
fn readings_play_the_scenario() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let scenario = r#"{"devices": [{
        "uuid": "GPU-1", "name": "Fake H100", "pci": "00000000:1B:00.0",
        "utilization": {"gpu": [10, 97], "memory": [5, 40]},
        "memory": {"total": 1000, "reserved": 100, "used": 300},
        "power_mw": [95000, 690000], "temperature_c": 61, "temperature_limits_c": {"slowdown": 89, "gpu_max": 85},
        "clocks_mhz": {"sm": 1980},
        "processes": {"compute": [{"pid": 7, "used": 300}, {"pid": 8}]},
        "errors": {"nvmlDeviceGetTotalEnergyConsumption": [0, "GPU_IS_LOST"]}, "energy_mj": 5000
    }]}"#;
    let nvml = load(&fake_nvml::install(dir.path(), scenario).expect("installs")).expect("loads");
    let device = nvml.device_by_uuid("GPU-1").expect("found by uuid");
    assert_eq!(device.index().expect("index"), 0);
    assert_eq!(device.name().expect("name"), "Fake H100");
    assert_eq!(device.pci_info().expect("pci").bus_id, "00000000:1B:00.0");
    let first = device.utilization_rates().expect("utilisation");
    let second = device.utilization_rates().expect("utilisation");
    assert_eq!([first.gpu, first.memory, second.gpu, second.memory], [10, 5, 97, 40]);
    assert_eq!(device.memory_info().expect("memory").free, 600);
    assert_eq!(device.power_usage().expect("power"), 95_000);
    assert_eq!(device.temperature(TemperatureSensor::Gpu).expect("temperature"), 61);
    let limits = [TemperatureThreshold::Slowdown, TemperatureThreshold::GpuMax]
        .map(|which| device.temperature_threshold(which).expect("limit"));
    assert_eq!(limits, [89, 85]);
    assert!(matches!(device.temperature_threshold(TemperatureThreshold::MemoryMax), Err(NvmlError::NotSupported)));
    assert_eq!(device.clock_info(Clock::SM).expect("clock"), 1980);
    assert!(matches!(device.clock_info(Clock::Video), Err(NvmlError::NotSupported)));
    assert_eq!(device.total_energy_consumption().expect("energy"), 5000);
    assert!(matches!(device.total_energy_consumption(), Err(NvmlError::GpuLost)));
    let processes = device.running_compute_processes().expect("processes");
    assert_eq!(processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [7, 8]);
}

#[test]
fn a_symbol_that_is_missing_is_not_found_and_the_others_are() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let scenario = r#"{"missing": ["nvmlDeviceGetMemoryInfo_v2"], "devices": [{"uuid": "GPU-1", "power_mw": 7,
        "memory": {"total": 1000, "reserved": 100, "used": 300}}]}"#;
    let nvml = load(&fake_nvml::install(dir.path(), scenario).expect("installs")).expect("loads");
    let device = nvml.device_by_index(0).expect("found");
    assert!(matches!(device.memory_info(), Err(NvmlError::FailedToLoadSymbol(_))));
    assert_eq!(device.power_usage().expect("power"), 7);
    assert!(nvml.lib().nvmlDeviceGetMemoryInfo.is_ok());
}

#[test]
fn copies_play_their_own_scenarios_side_by_side() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let one = fake_nvml::install(&dir.path().join("one"), r#"{"devices": [{"uuid": "GPU-1"}]}"#).expect("installs");
    let two = fake_nvml::install(&dir.path().join("two"), r#"{"init": 18}"#).expect("installs");
    let nvml = load(&one).expect("loads");
    assert!(matches!(load(&two), Err(NvmlError::LibRmVersionMismatch)));
    assert_eq!(nvml.device_count().expect("counts"), 1);
}

#[test]
fn a_new_initialisation_plays_the_rewritten_scenario() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let library = fake_nvml::install(dir.path(), r#"{"devices": [{"uuid": "GPU-1"}]}"#).expect("installs");
    drop(load(&library).expect("loads"));
    fake_nvml::rewrite(&library, r#"{"init": "DRIVER_NOT_LOADED"}"#).expect("rewrites");
    assert!(matches!(load(&library), Err(NvmlError::DriverNotLoaded)));
}

#[test]
fn the_call_log_names_each_call() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let log = dir.path().join("calls");
    let scenario = format!(r#"{{"call_log": {log:?}, "devices": [{{"uuid": "GPU-1"}}]}}"#);
    let nvml = load(&fake_nvml::install(dir.path(), &scenario).expect("installs")).expect("loads");
    let uuid = nvml.device_by_index(0).expect("device").uuid().expect("uuid");
    assert_eq!(uuid, "GPU-1");
    let calls = std::fs::read_to_string(log).expect("a log");
    assert!(calls.lines().any(|call| call == "nvmlDeviceGetUUID 0"), "{calls}");
}

#[test]
fn a_scenario_the_library_cannot_read_fails_the_initialisation() {
    let dir = tempfile::tempdir().expect("a temp dir");
    let library = fake_nvml::install(dir.path(), "{}").expect("installs");
    assert!(fake_nvml::rewrite(&library, r#"{"devises": []}"#).is_err(), "refused before it is written");
    std::fs::write(dir.path().join("libnvidia-ml.so.1.json"), r#"{"devises": []}"#).expect("written");
    assert!(matches!(load(&library), Err(NvmlError::Unknown)));
}
