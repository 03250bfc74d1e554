//! A driver that answers what cannot be true, or not what it answered before.

mod rig;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, Instrument, MetricDef, Number, Reading, SeriesId, Unit};
use serde_json::{Value, json};

use rig::{Bench, GENERAL, TYPE, clock, fault, install, state, temp, throttle};

/// Every value that is no text is garbage, and every call fails now and then in one way or another.
fn garbage(seed: u64) -> Value {
    let mut next = seed * 1_000;
    let mut any = || {
        next += 100;
        json!({"garbage": next})
    };
    let fields: Vec<_> = [82, 197, 198, 94, 74, 76, 269, 270, 271, 3, 4, 142, 143, 144, 145, 29, 30, 31, 230]
        .into_iter()
        .zip(["unsigned_long_long", "double", "unsigned_int", "signed_long_long", "signed_int"].into_iter().cycle())
        .map(|(id, kind)| json!({"id": id, "type": kind, "value": any()}))
        .collect();
    let gpm: BTreeMap<_, _> = [1, 2, 3, 4, 5, 10, 11, 12, 13, 20, 21, 60, 61].map(|id| (id.to_string(), any())).into();
    let errors: BTreeMap<_, _> = fake_nvml::SYMBOLS
        .iter()
        .filter(|symbol| symbol.starts_with("nvmlDeviceGet") && !symbol.ends_with("UUID"))
        .zip([3, 6, 7, 15, 16, 25, 29, 4, 10].into_iter().cycle())
        .map(|(symbol, code)| (*symbol, json!({"cycle": [0, 0, code, 0, 0, 0, 999]})))
        .collect();
    json!({"devices": [{
        "uuid": "GPU-a", "name": "x".repeat(90), "utilization": {"gpu": any(), "memory": any()},
        "memory": {"total": 85_000_000_000_u64, "used": any()}, "power_mw": any(), "power_limit_mw": any(),
        "power_limit_default_mw": any(), "energy_mj": any(), "temperature_c": any(),
        "temperature_limits_c": {"slowdown": any(), "gpu_max": any()}, "temperature_margin_c": any(),
        "clocks_mhz": {"sm": any(), "memory": any()}, "max_clocks_mhz": {"sm": any(), "memory": any()},
        "application_clocks_mhz": {"graphics": any(), "memory": any()},
        "default_application_clocks_mhz": {"graphics": any(), "memory": any()}, "encoder": any(), "decoder": any(),
        "pcie": {"generation": any(), "width": any(), "max_generation": any(), "max_width": any()},
        "throttle_reasons": any(), "fields": fields, "gpm": gpm, "xids": [[0, 18_446_744_073_709_551_615_u64], [0, 0]],
        "processes": {"compute": [{"pid": 0}, {"pid": 4_294_967_295_u32, "used": 99_000_000_000_u64}, {"pid": 7, "used": 5}]},
        "process_utilization": [
            {"pid": 7, "timestamp_us": any(), "sm": any()}, {"pid": 7, "timestamp_us": any(), "sm": any()}],
        "errors": errors}]})
}

/// What a value of a metric can be, whatever a driver says.
fn can_be(metric: &MetricDef) -> RangeInclusive<f64> {
    // A device may be warmer than where it is slowed down.
    let least = if metric.name == gpu::TEMPERATURE_MARGIN.name { -150.0 } else { 0.0 };
    let most = match metric.unit {
        Unit::Count("{page}") => 64.0,
        Unit::Ratio => 1.0,
        Unit::Watts => 20_000.0,
        Unit::Celsius => 200.0,
        Unit::Hertz => 20e9,
        // Counters may be at anything.
        _ => f64::INFINITY,
    };
    least..=most
}

/// How far a counter can rise in a second at most; of errors, with each read.
fn most_per_second(metric: &'static str) -> f64 {
    match metric {
        "perfwatch.gpu.throttle.time" => 1e9,
        "hw.energy" => 40e6,
        "hw.gpu.io" => 256e9,
        "perfwatch.gpu.nvlink.io" => 3.6e12,
        _ => 2_f64.powi(32),
    }
}

#[test]
fn whatever_a_driver_answers_no_value_is_one_that_cannot_be_true() {
    for seed in 1..=8 {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), &garbage(seed).to_string()), |_| ());
        let mut counted = BTreeMap::<SeriesId, (f64, f64)>::new();
        let mut told = 0;
        for _ in 0..60 {
            bench.sample_after(10);
            told += bench.tick.values.len();
            for (series, number) in &bench.tick.values {
                let of = bench.table.series_of(*series).expect("it is known");
                let (metric, value) = (of.metric, number.as_f64());
                assert!(can_be(metric).contains(&value), "seed {seed}: {} = {value}", metric.name);
                if metric.instrument == Instrument::Counter {
                    let now_s = bench.now.mono_ns as f64 / 1e9;
                    let (before, then_s) = counted.insert(*series, (value, now_s)).unwrap_or((value, now_s));
                    assert!(value >= before, "seed {seed}: {} went from {before} to {value}", metric.name);
                    let most = most_per_second(metric.name) * ((now_s - then_s) * 1.1 + 1.5);
                    assert!(value - before <= most, "seed {seed}: {} went from {before} to {value}", metric.name);
                }
            }
            for device in bench.probe.devices() {
                for row in device.processes.as_value().into_iter().flatten() {
                    assert!(row.pid > 0, "seed {seed}");
                    assert!(row.used.as_value().is_none_or(|bytes| *bytes <= 85_000_000_000), "seed {seed}: {row:?}");
                    assert!(row.sm.as_value().is_none_or(|share| (0.0..=1.0).contains(share)), "seed {seed}: {row:?}");
                }
            }
        }
        assert!(told > 60 * 10, "seed {seed}: what is true is told: {told} values, {:?}", bench.tick.absent.first());
    }
}

#[test]
fn samples_of_utilisation_that_cannot_be_true_are_in_no_slot() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "utilization_samples": {"percent": {"garbage": 5}, "period_ms": 40},
        "errors": {"nvmlDeviceGetSamples": {"cycle": [0, 0, 999, 0, 6, 0, 3]}}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    let mut known = 0;
    for _ in 0..25 {
        std::thread::sleep(Duration::from_millis(100));
        bench.sample_now();
        let shares = bench.probe.devices()[0].slots.iter().filter_map(|slot| slot.graphics.get());
        known += shares.inspect(|share| assert!((0.0..=1.0).contains(share), "{share}")).count();
    }
    assert!(known > 20, "what is true is told: {known} slots");
}

#[test]
fn a_list_that_grows_while_it_is_read_is_read_again_and_one_that_never_fits_is_given_up() {
    let device = |codes: &str| {
        format!(
            r#"{{"devices": [{{"uuid": "GPU-a", "processes": {{"compute": [{{"pid": 7}}], "mps": []}}, "process_utilization": [],
                "errors": {{"nvmlDeviceGetComputeRunningProcesses_v3": {codes}, "nvmlDeviceGetProcessUtilization": {codes}}}}}]}}"#
        )
    };
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), &device("[7, 7, 0]")), |_| ());
    bench.sample();
    assert_eq!(bench.probe.devices()[0].processes.as_value().map(Vec::len), Some(1));
    let other = temp();
    let mut bench = Bench::open(install(other.path(), &device("7")), |_| ());
    bench.sample();
    assert!(matches!(bench.probe.devices()[0].processes, Reading::Unavailable(_)));
}

#[test]
fn a_gpu_that_was_lost_and_is_back_is_told_as_both() {
    let dir = temp();
    let lost = r#"{"at": [[0, 0], [1, 15], [2, 0]]}"#;
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "power_mw": 1000, "temperature_c": 50,
            "errors": {{"nvmlDeviceGetPowerUsage": {lost}, "nvmlDeviceGetTemperature": {lost}}}}},
            {{"uuid": "GPU-b", "power_mw": 2000}}]}}"#
    );
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    let told = |bench: &mut Bench| {
        bench.sample();
        (
            bench.value(&gpu::FAULT, "GPU-a", &[fault("lost")]),
            bench.value(&gpu::STATUS, "GPU-a", &[state("failed"), TYPE]),
            bench.value(&gpu::POWER, "GPU-a", &[TYPE]),
            bench.value(&gpu::POWER, "GPU-b", &[TYPE]),
        )
    };
    let float = |value| Some(Number::Float(value));
    let well = (float(0.0), float(0.0), float(1.0), float(2.0));
    assert_eq!(told(&mut bench), well);
    std::thread::sleep(Duration::from_millis(1100));
    assert_eq!(told(&mut bench), (float(1.0), float(1.0), None, float(2.0)));
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(told(&mut bench), well);
}

#[test]
fn a_driver_upgraded_under_the_agent_is_taken_up_with_its_new_numbers_of_fields() {
    let dir = temp();
    let scenario = |driver: &str, id: u32, ns: u64, more: &str| {
        format!(
            r#"{{"driver": "{driver}", "devices": [{{"uuid": "GPU-a", "energy_mj": 700,
                "fields": [{{"id": {id}, "type": "unsigned_long_long", "value": {ns}}}]{more}}}]}}"#
        )
    };
    let ends = r#", "errors": {"nvmlDeviceGetTotalEnergyConsumption": [0, "LIB_RM_VERSION_MISMATCH"]}"#;
    let library = install(dir.path(), &scenario("570.86.16", 252, 5_000, ends));
    let mut bench = Bench::open(library.clone(), |_| ());
    let thermal = |bench: &Bench| bench.value(&gpu::THROTTLE_TIME, "GPU-a", &[throttle("hw_thermal")]);
    bench.sample();
    let device = bench.gpu("GPU-a");
    assert_eq!(thermal(&bench), Some(Number::Int(5_000)));
    assert_eq!(bench.probe.devices()[0].driver_version, Reading::Value("570.86.16".into()));
    bench.sample();
    fake_nvml::rewrite(&library, r#"{"init": "LIB_RM_VERSION_MISMATCH"}"#).expect("rewritten");
    bench.sample_after(10);
    assert!(bench.reason(&gpu::ENERGY, device).text.contains("different versions"));
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("driver_failed")]), Some(Number::Float(1.0)));
    // The counters of the new driver begin anew, and are the same series.
    fake_nvml::rewrite(&library, &scenario("580.95.05", 270, 300, "")).expect("rewritten");
    bench.sample_after(60);
    bench.sample();
    assert_eq!(thermal(&bench), Some(Number::Int(5_300)));
    assert_eq!(bench.value(&gpu::ENERGY, "GPU-a", &[TYPE]), Some(Number::Int(700)));
    assert_eq!((bench.gpu("GPU-a"), bench.probe.devices().len()), (device, 1));
    assert_eq!(bench.probe.devices()[0].driver_version, Reading::Value("580.95.05".into()));
}

/// A busy device whose numbers are those of its index.
fn busy(index: u64, energy: u64, more: &str) -> String {
    format!(
        r#"{{"uuid": "GPU-{index}", "utilization": {{"gpu": {}, "memory": {index}}},
            "memory": {{"total": 80000000000, "used": {}}}, "power_mw": {}, "energy_mj": {energy}, "temperature_c": {},
            "clocks_mhz": {{"sm": {}, "memory": 2619}}, "pcie": {{"generation": 5, "width": 16}},
            "processes": {{"compute": [{{"pid": {}, "used": 5}}], "mps": []}},
            "gpm": {{"1": 99, "2": {}}}, "fields": [{{"id": 197, "type": "unsigned_long_long", "value": {}}}]{more}}}"#,
        90 + index,
        index * 1_000_000,
        index * 1000,
        50 + index,
        1000 + index,
        100 + index,
        80 + index,
        index * 10
    )
}

fn all_are_their_own(bench: &Bench, uuids: impl Iterator<Item = u64>) {
    let (int, float) = (|value| Some(Number::Int(value)), |value| Some(Number::Float(value)));
    let transmit = Attr::fixed("network.io.direction", "transmit");
    for index in uuids {
        let uuid = format!("GPU-{index}");
        let of = |metric, attrs: &[Attr]| bench.value(metric, &uuid, attrs);
        let share = |percent: u64| float(f64::from(u32::try_from(percent).expect("small")) / 100.0);
        assert_eq!(of(&gpu::UTILIZATION, &[GENERAL]), share(90 + index), "{uuid}");
        assert_eq!(of(&gpu::MEMORY_USAGE, &[]), int(index * 1_000_000), "{uuid}");
        assert_eq!(of(&gpu::POWER, &[TYPE]).map(Number::as_f64), Some(index as f64), "{uuid}");
        assert_eq!(
            of(&gpu::TEMPERATURE, &[Attr::fixed("hw.sensor_location", "core")]).map(Number::as_f64),
            Some(50.0 + index as f64)
        );
        assert_eq!(of(&gpu::CLOCK, &[clock("sm")]), int((1000 + index) * 1_000_000), "{uuid}");
        assert_eq!(of(&gpu::SM_ACTIVE, &[]), share(80 + index), "{uuid}");
        assert_eq!(of(&gpu::PCIE_IO, std::slice::from_ref(&transmit)), int(index * 10), "{uuid}");
        let device = bench.probe.devices().iter().find(|device| device.uuid == uuid).expect("it is there");
        let pids: Vec<_> = device.processes.as_value().into_iter().flatten().map(|row| u64::from(row.pid)).collect();
        assert_eq!(pids, [100 + index], "{uuid}");
    }
}

#[test]
fn eight_busy_gpus_have_their_own_numbers_each() {
    let dir = temp();
    let devices: Vec<_> = (1..=8).map(|index| busy(index, 5, "")).collect();
    let mut bench = Bench::open(install(dir.path(), &format!(r#"{{"devices": [{}]}}"#, devices.join(","))), |_| ());
    bench.sample();
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    all_are_their_own(&bench, 1..=8);
}

#[test]
fn readings_follow_the_uuid_where_the_order_changes_and_counters_count_on() {
    let dir = temp();
    let ends = r#", "errors": {"nvmlDeviceGetUtilizationRates": [0, "DRIVER_NOT_LOADED"]}"#;
    let first = format!(r#"{{"devices": [{}, {}, {}]}}"#, busy(1, 100, ends), busy(2, 200, ""), busy(3, 300, ""));
    let library = install(dir.path(), &first);
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let entities = [1, 2, 3].map(|index| bench.gpu(&format!("GPU-{index}")));
    bench.sample();
    // The driver was loaded anew: its counters begin again, in another order.
    let second = format!(r#"{{"devices": [{}, {}, {}]}}"#, busy(3, 3, ""), busy(1, 1, ""), busy(2, 2, ""));
    fake_nvml::rewrite(&library, &second).expect("rewritten");
    bench.sample_after(10);
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    assert_eq!([1, 2, 3].map(|index| bench.gpu(&format!("GPU-{index}"))), entities);
    all_are_their_own(&bench, 1..=3);
    let energy = |index: u64| bench.value(&gpu::ENERGY, &format!("GPU-{index}"), &[TYPE]);
    assert_eq!([1, 2, 3].map(energy), [101, 202, 303].map(|total| Some(Number::Int(total))));
}
