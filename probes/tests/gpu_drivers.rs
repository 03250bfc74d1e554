//! Drivers of other years: calls that they have not, and rows that they lay out in another way.

mod rig;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Number, Reading};
use perfwatch_probes::gpu::{GpuProcess, Sharing};
use serde_json::json;

use rig::{Bench, install, temp};

fn rows(bench: &Bench) -> &[GpuProcess] {
    bench.probe.devices()[0].processes.as_value().expect("the processes are known")
}

#[test]
fn each_row_of_a_process_is_read_where_the_driver_writes_it() {
    // As many as there is room for at first: rows that are longer than was thought would go on behind the end.
    let listed: Vec<_> = (1..=64).map(|pid| json!({"pid": pid, "used": pid * 1000, "gpu_instance": 3})).collect();
    for driver in ["535.43.02", "535.54.03", "535.86.10", "535.98", "535.104.05", "530.41.03"] {
        let dir = temp();
        let scenario = json!({"driver": driver, "devices": [{"uuid": "GPU-a", "processes": {"compute": listed,
            "graphics": [{"pid": 70, "used": 7}, {"pid": 71, "used": 8}]}}]});
        let mut bench = Bench::open(install(dir.path(), &scenario.to_string()), |_| ());
        bench.sample();
        let used = |row: &GpuProcess| row.used.as_value().copied().expect("told");
        let told: Vec<_> = rows(&bench).iter().map(|row| (row.pid, used(row))).collect();
        let wanted = (1..=64).map(|pid| (pid, u64::from(pid) * 1000)).chain([(70, 7), (71, 8)]);
        assert_eq!(told, wanted.collect::<Vec<_>>(), "{driver}");
    }
}

/// R470, as far as it matters here.
fn old_driver(missing: &[&str]) -> String {
    json!({"driver": "470.256.02", "missing": missing, "devices": [{"uuid": "GPU-a",
        "memory": {"total": 16_000, "reserved": 300, "used": 5_000},
        "processes": {"compute": [{"pid": 8, "used": 700}, {"pid": 9, "used": 40}], "graphics": [{"pid": 7, "used": 5}]},
        "process_utilization": []}]})
    .to_string()
}

const NOT_IN_470: [&str; 5] = [
    "nvmlDeviceGetMemoryInfo_v2",
    "nvmlDeviceGetComputeRunningProcesses_v3",
    "nvmlDeviceGetGraphicsRunningProcesses_v3",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3",
    "nvmlGpmQueryDeviceSupport",
];

#[test]
fn a_driver_before_510_is_asked_by_the_calls_that_it_has() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), &old_driver(&NOT_IN_470)), |_| ());
    bench.sample();
    let device = bench.gpu("GPU-a");
    assert_eq!(bench.value(&gpu::MEMORY_LIMIT, "GPU-a", &[]), Some(Number::Int(16_000)));
    assert_eq!(bench.value(&gpu::MEMORY_USAGE, "GPU-a", &[]), Some(Number::Int(5_300)), "with what is reserved");
    assert_eq!(bench.value(&gpu::MEMORY_RESERVED, "GPU-a", &[]), None);
    assert!(bench.reason(&gpu::MEMORY_RESERVED, device).cure.contains("510"));
    let told: Vec<_> = rows(&bench).iter().map(|row| (row.pid, row.used.clone())).collect();
    assert_eq!(told, [(7, 5), (8, 700), (9, 40)].map(|(pid, used)| (pid, Reading::Value(used))));
    assert_eq!(bench.probe.devices()[0].sharing, Sharing::TimeSliced);
}

#[test]
fn a_driver_without_any_of_the_calls_is_too_old() {
    let dir = temp();
    let older = [
        "nvmlDeviceGetMemoryInfo",
        "nvmlDeviceGetComputeRunningProcesses_v2",
        "nvmlDeviceGetGraphicsRunningProcesses_v2",
        "nvmlDeviceGetMPSComputeRunningProcesses_v2",
    ];
    let mut bench = Bench::open(install(dir.path(), &old_driver(&[&NOT_IN_470[..], &older].concat())), |_| ());
    bench.sample();
    let reason = bench.reason(&gpu::MEMORY_USAGE, bench.gpu("GPU-a"));
    assert!(reason.text.contains("too old: it has no `nvmlDeviceGetMemoryInfo_v2`"), "{reason:?}");
    let Reading::Unavailable(reason) = &bench.probe.devices()[0].processes else { panic!("no list of them") };
    assert!(reason.text.contains("`nvmlDeviceGetComputeRunningProcesses_v3`"), "{reason:?}");
    assert_eq!(bench.probe.devices()[0].sharing, Sharing::Unknown);
}

#[test]
fn gpm_is_not_promised_by_a_driver_that_does_not_know_of_it() {
    let cures = [&NOT_IN_470[..], &[]].map(|missing| {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), &old_driver(missing)), |_| ());
        bench.sample();
        bench.reason(&gpu::SM_ACTIVE, bench.gpu("GPU-a")).clone()
    });
    assert_eq!(cures[0], cures[1], "whether the driver says no or does not know the question");
    assert!(cures[0].text.contains("older than Hopper") && cures[0].cure.starts_with("none before Hopper"));
}
