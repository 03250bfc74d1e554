//! The NVIDIA probe against a scripted NVML, loaded through the real wrapper.

mod rig;

use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, MetricDef, Number, Reading};

use rig::{Bench, GENERAL, TYPE, clock, fault, install, now, state, temp, throttle, wait_for};

const H100: &str = r#"{"driver": "580.95.05", "devices": [
    {"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "pci": "00000000:1B:00.0",
     "utilization": {"gpu": [10, 97], "memory": [5, 40]},
     "memory": {"total": 85520809984, "reserved": 662700032, "used": 58109952},
     "power_mw": [95500, 690000], "power_limit_mw": 700000, "energy_mj": [1000000, 1000690], "temperature_c": 61,
     "clocks_mhz": {"sm": 1980, "memory": 2619}, "max_clocks_mhz": {"sm": 1995, "memory": 2619},
     "throttle_reasons": [5, 1024],
     "processes": {"compute": [{"pid": 4243}, {"pid": 4242, "used": 1073741824}], "graphics": [], "mps": [{"pid": 4242, "used": 5}]}},
    {"uuid": "GPU-b", "utilization": {"gpu": 0, "memory": 0}}]}"#;

#[test]
fn readings_are_the_scenario_in_si_units() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), H100), |_| ());
    bench.sample();
    let int = |value| Some(Number::Int(value));
    let float = |value| Some(Number::Float(value));
    assert_eq!(bench.value(&gpu::UTILIZATION, "GPU-a", &[GENERAL]), float(0.10));
    assert_eq!(bench.value(&gpu::MEMORY_BUSY, "GPU-a", &[]), float(0.05));
    assert_eq!(bench.value(&gpu::MEMORY_USAGE, "GPU-a", &[]), int(58_109_952));
    assert_eq!(bench.value(&gpu::MEMORY_LIMIT, "GPU-a", &[]), int(85_520_809_984));
    assert_eq!(bench.value(&gpu::MEMORY_RESERVED, "GPU-a", &[]), int(662_700_032));
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), float(95.5));
    assert_eq!(bench.value(&gpu::POWER_LIMIT, "GPU-a", &[]), float(700.0));
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), int(1_000_000));
    assert_eq!(bench.value(&gpu::TEMPERATURE, "GPU-a", &[Attr::fixed("hw.sensor_location", "core")]), float(61.0));
    assert_eq!(bench.value(&gpu::CLOCK, "GPU-a", &[clock("sm")]), int(1_980_000_000));
    assert_eq!(bench.value(&gpu::CLOCK, "GPU-a", &[clock("memory")]), int(2_619_000_000));
    assert_eq!(bench.value(&gpu::CLOCK_LIMIT, "GPU-a", &[clock("sm")]), int(1_995_000_000));
    assert_eq!(bench.value(&gpu::THROTTLE_ACTIVE, "GPU-a", &[throttle("sw_power_cap")]), float(1.0));
    assert_eq!(bench.value(&gpu::THROTTLE_ACTIVE, "GPU-a", &[throttle("hw_thermal")]), float(0.0));
    assert_eq!(
        bench.value(&gpu::THROTTLE_ACTIVE, "GPU-a", &[throttle("other")]),
        float(0.0),
        "idle holds nothing down"
    );
    bench.sample();
    assert_eq!(bench.value(&gpu::UTILIZATION, "GPU-a", &[GENERAL]), float(0.97));
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), float(690.0));
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), int(1_000_690));
    assert_eq!(bench.value(&gpu::POWER_LIMIT, "GPU-a", &[]), float(700.0), "limits stay between their reads");
    assert_eq!(bench.value(&gpu::THROTTLE_ACTIVE, "GPU-a", &[throttle("sw_power_cap")]), float(0.0));
    assert_eq!(
        bench.value(&gpu::THROTTLE_ACTIVE, "GPU-a", &[throttle("other")]),
        float(1.0),
        "an unknown bit is shown"
    );
}

#[test]
fn devices_are_described_and_their_processes_listed_once_each() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), H100), |_| ());
    bench.sample();
    let [a, b] = bench.probe.devices() else { panic!("two devices") };
    assert_eq!((a.uuid.as_str(), a.name.as_str()), ("GPU-a", "NVIDIA H100 80GB HBM3"));
    assert_eq!(a.pci, Reading::Value("00000000:1B:00.0".into()));
    assert_eq!(a.driver_version, Reading::Value("580.95.05".into()));
    let rows = a.processes.as_value().expect("processes");
    assert_eq!(rows.iter().map(|row| row.pid).collect::<Vec<_>>(), [4242, 4243]);
    assert_eq!(rows[0].used, Reading::Value(1_073_741_824), "the MPS list repeats it with less");
    assert!(matches!(rows[1].used, Reading::Unavailable(_)), "not 0");
    assert!(matches!(b.processes, Reading::Unavailable(_)));
    let entity = bench.table.entity_of(a.entity).expect("an entity");
    for attr in [
        Attr::fixed("hw.id", "GPU-a"),
        Attr::fixed("hw.vendor", "nvidia"),
        Attr::fixed("hw.driver_version", "580.95.05"),
    ] {
        assert!(entity.attributes.contains(&attr), "{attr:?} in {entity:?}");
    }
}

#[test]
fn what_a_device_does_not_support_has_no_value_and_is_said_once() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), H100), |_| ());
    bench.sample();
    let idle = bench.gpu("GPU-b");
    assert_eq!(bench.value(&gpu::UTILIZATION, "GPU-b", &[GENERAL]), Some(Number::Float(0.0)));
    assert_eq!(bench.value(&gpu::POWER, "GPU-b", &[TYPE]), None);
    for metric in gpu::ALL.iter().filter(|metric| {
        let told = [gpu::UTILIZATION.name, gpu::MEMORY_BUSY.name, gpu::FAULT.name, gpu::STATUS.name];
        !told.contains(&metric.name)
    }) {
        assert!(bench.reason(metric, idle).text.contains("does not support"), "{}", metric.name);
    }
    assert!(bench.reasons(&gpu::POWER, bench.host).is_empty(), "missing of the device, not of the machine");
}

/// What GPM and fields say of a device that works.
const BUSY: &str = r#"{"driver": "580.95.05", "devices": [{"uuid": "GPU-a", "utilization": {"gpu": 99, "memory": 60},
    "gpm": {"1": 98, "2": 81.5, "3": 40, "4": 3, "5": 62, "10": 71, "11": 0, "12": 12.5, "13": 100.4},
    "fields": [
        {"id": 82, "type": "unsigned_int", "value": 71},
        {"id": 197, "type": "unsigned_long_long", "value": [1000, 3000]}, {"id": 198, "type": "unsigned_long_long", "value": 7000},
        {"id": 94, "type": "unsigned_int", "value": 2},
        {"id": 138, "scope": 4294967295, "type": "unsigned_long_long", "value": 4}, {"id": 139, "type": "unsigned_long_long", "value": 9},
        {"id": 74, "type": "unsigned_long_long", "value": [5000000000, 5300000000, 100000000, 100000000]},
        {"id": 270, "type": "unsigned_long_long", "value": 1500000000}, {"id": 252, "type": "unsigned_long_long", "value": 99},
        {"id": 3, "type": "unsigned_long_long", "value": 12}, {"id": 4, "type": "unsigned_long_long", "value": 0},
        {"id": 142, "type": "signed_int", "value": 1}, {"id": 143, "type": "signed_int", "value": -1},
        {"id": 144, "type": "unsigned_int", "value": 1}, {"id": 145, "type": "unsigned_int", "value": 0}]}]}"#;

const TRANSMIT: Attr = Attr::fixed("network.io.direction", "transmit");
const RECEIVE: Attr = Attr::fixed("network.io.direction", "receive");

fn pipe(which: &'static str) -> Attr {
    Attr::fixed("perfwatch.gpu.pipe", which)
}

/// Two samples that are as far apart as GPM wants them.
fn sample_twice(bench: &mut Bench) {
    bench.sample();
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
}

#[test]
fn units_are_told_by_their_share_of_the_time_from_the_second_sample_on() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), BUSY), |_| ());
    bench.sample();
    let device = bench.gpu("GPU-a");
    assert!(bench.reason(&gpu::SM_ACTIVE, device).text.contains("two samples"));
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    // In thousandths: means over several measurements, whose sums are not exact.
    let share = |metric: &MetricDef, attrs: &[Attr]| {
        let value = bench.value(metric, "GPU-a", attrs).expect("a share").as_f64();
        (value * 1e3).round() as u64
    };
    assert_eq!(share(&gpu::GRAPHICS_ACTIVE, &[]), 980);
    assert_eq!(share(&gpu::SM_ACTIVE, &[]), 815);
    assert_eq!(share(&gpu::SM_OCCUPANCY, &[]), 400);
    assert_eq!(share(&gpu::DRAM_ACTIVE, &[]), 710);
    assert_eq!(share(&gpu::TENSOR_ACTIVE, &[]), 620);
    let pipes = ["fp64", "fp32", "fp16", "int"];
    let shares = pipes.map(|which| share(&gpu::PIPE_ACTIVE, &[pipe(which)]));
    assert_eq!(shares, [0, 125, 1000, 30], "a little over 100 % is all");
}

#[test]
fn counters_of_the_driver_have_their_unit_and_never_go_back() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), BUSY), |_| ());
    bench.sample();
    let int = |value| Some(Number::Int(value));
    assert_eq!(bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("sw_power_cap")]), int(5_000_000_000));
    assert_eq!(
        bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("hw_thermal")]),
        int(1_500_000_000),
        "the new number"
    );
    assert_eq!(bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("sync_boost")]), None);
    assert_eq!(bench.value(&gpu::PCIE_IO, "GPU-a", &[TRANSMIT]), int(1000));
    assert_eq!(bench.value(&gpu::PCIE_IO, "GPU-a", &[RECEIVE]), int(7000));
    assert_eq!(bench.value(&gpu::NVLINK_IO, "GPU-a", &[TRANSMIT]), int(4096), "KiB, of all links");
    assert_eq!(bench.value(&gpu::NVLINK_IO, "GPU-a", &[RECEIVE]), None, "one link is not all");
    assert_eq!(bench.value(&gpu::PCIE_REPLAYS, "GPU-a", &[]), int(2));
    let kind = |which| Attr::fixed("error.type", which);
    assert_eq!(bench.value(&gpu::ERRORS, "GPU-a", &[kind("corrected")]), int(12));
    assert_eq!(bench.value(&gpu::ERRORS, "GPU-a", &[kind("uncorrected")]), int(0));
    assert_eq!(bench.value(&gpu::REMAPPED_ROWS, "GPU-a", &[kind("corrected")]), int(1));
    assert_eq!(bench.value(&gpu::REMAPPED_ROWS, "GPU-a", &[kind("uncorrected")]), None, "-1 rows cannot be");
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("row_remap_pending")]), Some(Number::Float(1.0)));
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("row_remap_failed")]), Some(Number::Float(0.0)));
    let memory = Attr::fixed("hw.sensor_location", "memory");
    assert_eq!(bench.value(&gpu::TEMPERATURE, "GPU-a", &[memory]), Some(Number::Float(71.0)));
    let device = bench.gpu("GPU-a");
    for metric in [&gpu::THROTTLE_TIME, &gpu::NVLINK_IO, &gpu::REMAPPED_ROWS] {
        assert!(bench.reasons(metric, device).is_empty(), "{}: some of it is there", metric.name);
    }
    let cap = |bench: &mut Bench| {
        bench.sample();
        bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("sw_power_cap")])
    };
    let seen = [cap(&mut bench), cap(&mut bench), cap(&mut bench)];
    assert_eq!(seen, [int(5_300_000_000), None, int(5_400_000_000)], "the driver was loaded anew");
}

#[test]
fn the_older_numbers_of_fields_are_those_of_older_drivers() {
    let dir = temp();
    let older = BUSY.replace("580.95.05", "570.86.16");
    let mut bench = Bench::open(install(dir.path(), &older), |_| ());
    bench.sample();
    assert_eq!(bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("hw_thermal")]), Some(Number::Int(99)));
}

#[test]
fn zeros_for_every_unit_of_a_busy_device_are_not_believed() {
    let dir = temp();
    let zeros = r#"{"devices": [{"uuid": "GPU-a", "utilization": {"gpu": [100, 100, 100, 100, 0], "memory": 0}, "gpm": {"1": 0, "2": 0, "10": 0}}]}"#;
    let mut bench = Bench::open(install(dir.path(), zeros), |_| ());
    sample_twice(&mut bench);
    assert_eq!(bench.value(&gpu::SM_ACTIVE, "GPU-a", &[]), Some(Number::Float(0.0)), "a job may have just ended");
    for _ in 0..2 {
        std::thread::sleep(Duration::from_millis(300));
        bench.sample();
    }
    let device = bench.gpu("GPU-a");
    assert!(bench.reason(&gpu::SM_ACTIVE, device).text.contains("answers 0 for every unit"));
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    assert_eq!(bench.value(&gpu::SM_ACTIVE, "GPU-a", &[]), Some(Number::Float(0.0)), "an idle one may be idle");
}

#[test]
fn units_whose_counters_stand_still_are_told_for_three_seconds_and_no_longer() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90, "2": 80}, "gpm_until_s": 1}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    sample_twice(&mut bench);
    for _ in 0..4 {
        assert_eq!(bench.value(&gpu::SM_ACTIVE, "GPU-a", &[]), Some(Number::Float(0.8)));
        std::thread::sleep(Duration::from_millis(400));
        bench.sample();
    }
    std::thread::sleep(Duration::from_secs(3));
    for _ in 0..2 {
        bench.sample();
        let text = &bench.reason(&gpu::SM_ACTIVE, bench.gpu("GPU-a")).text;
        assert!(text.starts_with("GPM's counters have stood still since 03:04:"), "{text}");
    }
}

#[test]
fn why_units_could_not_be_read_is_told_until_they_can() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90}, "errors": {"nvmlGpmMetricsGet": "TIMEOUT"}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    sample_twice(&mut bench);
    for _ in 0..3 {
        let text = &bench.reason(&gpu::SM_ACTIVE, bench.gpu("GPU-a")).text;
        assert_eq!(text, "`nvmlGpmMetricsGet` timed out in the driver");
        bench.sample();
    }
}

#[test]
fn units_of_before_a_hang_are_not_told_after_it() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90, "2": 80}, "gpm_until_s": 0.25, "power_mw": 5000,
        "delays_ms": {"nvmlDeviceGetTemperature": [0, 0, 1500, 0]}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |context| context.budget = Duration::from_secs(1));
    wait_for(&mut bench, |bench| bench.probe.devices().len() == 1);
    std::thread::sleep(Duration::from_millis(300));
    wait_for(&mut bench, |bench| !bench.reasons(&gpu::POWER, bench.gpu("GPU-a")).is_empty());
    wait_for(&mut bench, |bench| bench.value(&gpu::POWER, "GPU-a", &[TYPE]).is_some());
    let text = &bench.reason(&gpu::SM_ACTIVE, bench.gpu("GPU-a")).text;
    assert!(text.contains("stood still"), "{text}");
}

#[test]
fn values_that_cannot_be_true_have_no_reading() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "utilization": {"gpu": [808334905, 50], "memory": 40},
        "memory": {"total": 100, "used": [101, 60]}, "energy_mj": [500, 20, 30]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample();
    let device = bench.gpu("GPU-a");
    assert!(bench.reason(&gpu::UTILIZATION, device).text.contains("808334905 %"));
    assert!(bench.reason(&gpu::MEMORY_USAGE, device).text.contains("101 bytes in use of 100"));
    assert_eq!(bench.value(&gpu::MEMORY_BUSY, "GPU-a", &[]), Some(Number::Float(0.4)), "the rest stays");
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), Some(Number::Int(500)));
    bench.sample();
    assert_eq!(bench.value(&gpu::UTILIZATION, "GPU-a", &[GENERAL]), Some(Number::Float(0.5)));
    assert!(bench.reason(&gpu::ENERGY, device).text.contains("energy (mJ) went back from 500 to 20"));
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), None);
    bench.sample();
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), Some(Number::Int(530)), "it counts on");
}

#[test]
fn a_lost_gpu_does_not_hide_the_others() {
    let dir = temp();
    let lost = r#"{"nvmlDeviceGetUtilizationRates": 15, "nvmlDeviceGetPowerUsage": 15}"#;
    let scenario =
        format!(r#"{{"devices": [{{"uuid": "GPU-a", "errors": {lost}}}, {{"uuid": "GPU-b", "power_mw": 1000}}]}}"#);
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    bench.sample();
    assert!(bench.reason(&gpu::POWER, bench.gpu("GPU-a")).text.contains("fallen off the bus"));
    let lost = |bench: &Bench, uuid| bench.value(&gpu::FAULT, uuid, &[fault("lost")]);
    assert_eq!(lost(&bench, "GPU-a"), Some(Number::Float(1.0)));
    assert_eq!(lost(&bench, "GPU-b"), Some(Number::Float(0.0)));
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("row_remap_failed")]), None, "nobody says");
    assert_eq!(bench.value(&gpu::POWER, "GPU-b", &[TYPE]), Some(Number::Float(1.0)));
}

#[test]
fn pids_of_another_namespace_are_not_passed_off_as_ours() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), H100), |context| {
        (context.host_pids, context.proc) = (false, dir.path().to_owned());
    });
    bench.sample();
    let Reading::Unavailable(reason) = &bench.probe.devices()[0].processes else { panic!("no processes") };
    assert!(reason.cure.contains("--pid=host"), "{reason:?}");
    assert_eq!(
        bench.value(&gpu::MEMORY_USAGE, "GPU-a", &[]),
        Some(Number::Int(58_109_952)),
        "the device's total stays"
    );
}

#[test]
fn the_call_that_blocks_for_20_ms_is_never_made() {
    let dir = temp();
    let log = dir.path().join("calls");
    let scenario = format!(r#"{{"call_log": {log:?}, "devices": [{{"uuid": "GPU-a"}}]}}"#);
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    for _ in 0..5 {
        bench.sample();
    }
    let calls = std::fs::read_to_string(log).expect("a log");
    let made = |symbol: &str| calls.lines().filter(|call| call.split(' ').next() == Some(symbol)).count();
    assert_eq!(made("nvmlDeviceGetPcieThroughput"), 0);
    assert_eq!(made("nvmlInit_v2"), 1, "not once per sample");
    assert_eq!(made("nvmlDeviceGetUtilizationRates"), 5);
    assert_eq!(made("nvmlDeviceGetEnforcedPowerLimit"), 1, "every 30 s");
    assert_eq!(made("nvmlDeviceGetCurrPcieLinkWidth"), 1, "every 5 s");
    assert_eq!(made("nvmlDeviceGetComputeRunningProcesses_v3"), 3, "every 2 s");
}

#[test]
fn what_the_nvml_thread_uses_is_part_of_the_probes_cost() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let scenario = r#"{"devices": [{"uuid": "GPU-1", "utilization": {"gpu": 10, "memory": 5}}]}"#;
    let library = fake_nvml::install(dir.path(), scenario).expect("a scenario");
    let mut bench = Bench::open(library, |_| {});
    assert_eq!(bench.probe.own_threads_cpu_ns(), 0, "nothing was asked yet");
    bench.sample();
    let first = bench.probe.own_threads_cpu_ns();
    bench.sample();
    assert!(first > 0 && bench.probe.own_threads_cpu_ns() > first);
}

#[test]
fn a_hung_driver_costs_no_more_than_the_budget_and_recovers() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "power_mw": [1000, 2000, 3000, 4000],
        "delays_ms": {"nvmlDeviceGetPowerUsage": [0, 6000, 0]}}]}"#;
    // Wide of what a busy machine needs to answer, well below the hang.
    let budget = Duration::from_secs(1);
    let mut bench = Bench::open(install(dir.path(), scenario), |context| context.budget = budget);
    // The first answer may take a busy machine longer than the budget; the wait for it is the wait of an agent's next ticks.
    wait_for(&mut bench, |bench| !bench.tick.values.is_empty());
    let device = bench.gpu("GPU-a");

    let started = now();
    bench.sample();
    let asked = bench.now;
    bench.sample();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(4), "two samples of a driver that hangs for 6 s took {took:?}");
    let reason = bench.reason(&gpu::TEMPERATURE, device).clone();
    let second = asked.wall_ns / 1_000_000_000 % 60;
    let since = format!("driver unresponsive since 03:04:{second:02} UTC: `nvmlDeviceGetPowerUsage` has not returned");
    assert_eq!(reason.text, since, "it names the first sample that was not answered");
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]), Some(Number::Float(1.0)));
    assert_eq!(bench.value(&gpu::STATUS, "GPU-a", &[state("failed"), TYPE]), Some(Number::Float(1.0)));
    assert_eq!(bench.tick.values.len(), 5, "nothing but the fault and the status is known");
    assert!(matches!(bench.probe.devices()[0].processes, Reading::Unavailable(_)));

    wait_for(&mut bench, |bench| bench.tick.values.len() > 5);
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]), Some(Number::Float(0.0)));
    assert_eq!(
        bench.value(&gpu::POWER, "GPU-a", &[TYPE]),
        Some(Number::Float(3.0)),
        "the late answer is not passed off as fresh"
    );
}

#[test]
fn xid_errors_are_counted_once_each_by_code_and_device_though_the_driver_hangs_meanwhile() {
    let dir = temp();
    let scenario = r#"{"devices": [
        {"uuid": "GPU-a", "xids": [[0, 31], [0, 31], [0, 79]], "power_mw": 1000,
         "delays_ms": {"nvmlDeviceGetPowerUsage": [3000, 0]}},
        {"uuid": "GPU-b", "xids": [[0, 13], [3600, 48]]}, {"uuid": "GPU-c"}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |context| context.budget = Duration::from_millis(500));
    wait_for(&mut bench, |bench| bench.tick.values.len() > 2);
    let xids = |bench: &Bench, uuid, code| {
        let series = bench.table.find(&gpu::XIDS, bench.gpu(uuid), &[Attr::int("perfwatch.gpu.xid.code", code)])?;
        bench.tick.value(series)
    };
    for _ in 0..2 {
        assert_eq!(xids(&bench, "GPU-a", 31), Some(Number::Int(2)));
        assert_eq!(xids(&bench, "GPU-a", 79), Some(Number::Int(1)));
        assert_eq!(xids(&bench, "GPU-b", 13), Some(Number::Int(1)));
        assert_eq!((xids(&bench, "GPU-b", 48), xids(&bench, "GPU-c", 31)), (None, None));
        bench.sample();
    }
}

#[test]
fn a_gpu_that_was_lost_stays_in_sight_as_that_and_one_that_was_well_and_is_taken_out_does_not() {
    let dir = temp();
    let both = |b: &str| {
        format!(
            r#"{{"devices": [{{"uuid": "GPU-a", "power_mw": 1000, "errors": {{"nvmlDeviceGetPowerUsage": [0, 18]}}}}{b}]}}"#
        )
    };
    let library = install(dir.path(), &both(r#", {"uuid": "GPU-b", "power_mw": 2000}, {"uuid": "GPU-c"}"#));
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let (dead, well) = (bench.gpu("GPU-b"), bench.gpu("GPU-c"));
    bench.sample();
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("driver_failed")]), Some(Number::Float(1.0)));
    let broken = both(r#", {"uuid": "GPU-b", "errors": {"nvmlDeviceGetUUID": 15}}, {"uuid": "GPU-c"}"#);
    fake_nvml::rewrite(&library, &broken).expect("rewritten");
    bench.sample_after(10);
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(1.0)));
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("lost")]), Some(Number::Float(0.0)));
    assert_eq!(bench.gpu("GPU-b"), dead);
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("lost")]), Some(Number::Float(1.0)));
    assert!(!bench.reason(&gpu::POWER, dead).text.is_empty());
    bench.sample();
    fake_nvml::rewrite(&library, r#"{"devices": [{"uuid": "GPU-a", "power_mw": 1000}]}"#).expect("rewritten");
    bench.sample_after(20);
    assert!(bench.table.entity_of(well).is_none(), "it was taken out");
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("lost")]), Some(Number::Float(1.0)));
}

#[test]
fn a_counter_that_is_read_seldom_does_not_confirm_its_own_mistake() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a",
        "fields": [{"id": 4, "type": "unsigned_long_long", "value": [5, 0, 5, 6]}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    let uncorrected = |bench: &Bench| bench.value(&gpu::ERRORS, "GPU-a", &[Attr::fixed("error.type", "uncorrected")]);
    bench.sample();
    assert_eq!(uncorrected(&bench), Some(Number::Int(5)));
    bench.sample_after(30);
    for _ in 0..3 {
        assert_eq!(uncorrected(&bench), None, "it went back, which is looked at again at its next reading");
        bench.sample();
    }
    for expected in [5, 6] {
        bench.sample_after(30);
        assert_eq!(uncorrected(&bench), Some(Number::Int(expected)));
    }
}

#[test]
fn the_error_that_ends_a_session_is_counted_with_its_last_answer() {
    let dir = temp();
    let scenario =
        r#"{"devices": [{"uuid": "GPU-a", "xids": [[0, 79]], "errors": {"nvmlDeviceGetUtilizationRates": 18}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    for _ in 0..3 {
        bench.sample();
        let code = [Attr::int("perfwatch.gpu.xid.code", 79)];
        assert_eq!(bench.value(&gpu::XIDS, "GPU-a", &code), Some(Number::Int(1)));
    }
}
