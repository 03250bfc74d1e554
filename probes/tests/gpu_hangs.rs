//! A driver that hangs, in each of the calls that the probe makes.

mod rig;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use perfwatch_model::Number;
use perfwatch_model::metrics::gpu;
use serde_json::{Value, json};

use rig::{Bench, TYPE, at_one_of_three_tries, fault, install, now, state, temp, wait_for};

/// As long as a call hangs.
const HANG_MS: u64 = 2_000;
/// As long as a sample waits for the driver.
const BUDGET: Duration = Duration::from_millis(200);
/// Seconds after NVML's start from which on a call hangs, once. A busy machine has answered its first samples by then.
const FROM_S: u64 = 2;

/// A device that has everything, beside one with a MIG instance and one without GPM.
fn scenario() -> Value {
    json!({"devices": [
        {"uuid": "GPU-a", "name": "NVIDIA H100 80GB HBM3", "pci": "00000000:1B:00.0",
         "utilization": {"gpu": 90, "memory": 40}, "memory": {"total": 80_000_000, "used": 7_000_000},
         "power_mw": 350_000, "power_limit_mw": 700_000, "energy_mj": {"start": 5, "per_second": 350_000},
         "temperature_c": 61, "temperature_margin_c": 24, "clocks_mhz": {"sm": 1980, "memory": 2619}, "max_clocks_mhz": {"sm": 1980, "memory": 2619},
         "application_clocks_mhz": {"graphics": 1980, "memory": 2619},
         "default_application_clocks_mhz": {"graphics": 1980, "memory": 2619}, "encoder": 0, "decoder": 0,
         "pcie": {"generation": 5, "width": 16, "max_generation": 5, "max_width": 16}, "throttle_reasons": 0,
         "processes": {"compute": [{"pid": 7, "used": 6_000_000}], "mps": [{"pid": 8}]},
         "process_utilization": [{"pid": 7, "timestamp_us": {"start": 5, "per_second": 1_000_000}, "sm": 80}],
         "gpm": {"1": 90, "2": 80, "10": 40}, "xids": [],
         "fields": [{"id": 74, "type": "unsigned_long_long", "value": 7}, {"id": 145, "type": "unsigned_int", "value": 0}]},
        {"uuid": "GPU-b", "power_mw": 5_000, "mig": {"instances": [
            {"uuid": "MIG-a", "attributes": {"slices": 1, "compute_slices": 1, "memory_mb": 9984},
             "memory": {"total": 9_000_000, "used": 1_000_000}}]}},
        {"uuid": "GPU-c", "utilization_samples": {"percent": 60, "period_ms": 167}}]})
}

/// What was called: on the system, or on which device.
type Calls = BTreeMap<String, BTreeSet<String>>;

/// The calls of a normal run: those that only the start makes, and those of each sample after it.
fn calls() -> (Calls, Calls) {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut played = scenario();
    played["call_log"] = json!(log);
    let mut bench = Bench::open(install(dir.path(), &played.to_string()), |_| ());
    let made = || std::fs::read_to_string(&log).expect("a log");
    let by_symbol = |log: &str| {
        let mut calls = Calls::new();
        for line in log.lines() {
            let (symbol, place) = line.split_once(' ').unwrap_or((line, ""));
            calls.entry(symbol.to_owned()).or_default().insert(place.to_owned());
        }
        calls
    };
    bench.sample();
    let until_then = made().len();
    // GPM is sampled each 100 ms, and not sooner than 90 ms after the first time.
    std::thread::sleep(Duration::from_millis(250));
    // Limits and MIG are looked at each 30 s, processes each 2 s.
    bench.sample_after(30);
    // What comes after an answer is over when the next one has come.
    bench.sample();
    let log = made();
    let (mut at_start, mut of_a_sample) = (by_symbol(&log[..until_then]), by_symbol(&log[until_then..]));
    at_start.retain(|symbol, _| !of_a_sample.contains_key(symbol));
    // Only of devices whose energy tells nothing: the first one's may at that moment.
    of_a_sample.get_mut("nvmlDeviceGetPowerUsage").expect("it was called").remove("0");
    (at_start, of_a_sample)
}

/// The scenario with a symbol that hangs at that time, on the system or on the first of the devices that it was called on.
fn hanging(symbol: &str, places: &BTreeSet<String>, milliseconds: &Value) -> String {
    let mut played = scenario();
    let delays = json!({symbol: milliseconds});
    let first = places.first().expect("it was called");
    let device = match first.split('/').collect::<Vec<_>>()[..] {
        [""] => &mut played,
        [index] => &mut played["devices"][index.parse::<usize>().expect("an index")],
        [index, slot] => {
            let device = &mut played["devices"][index.parse::<usize>().expect("an index")];
            &mut device["mig"]["instances"][slot.parse::<usize>().expect("a slot")]
        }
        _ => panic!("{first} is no place"),
    };
    device["delays_ms"] = delays;
    played.to_string()
}

fn open(dir: &Path, scenario: &str) -> Bench {
    Bench::open(install(dir, scenario), |context| context.budget = BUDGET)
}

/// Takes a sample, which has to come long before the call returns.
fn sample_in_time(bench: &mut Bench, symbol: &str) {
    let started = now();
    bench.sample_after(30);
    let took = started.elapsed();
    assert!(took < Duration::from_millis(HANG_MS / 2), "{symbol}: the sample took {took:?}");
}

fn has_recovered(bench: &Bench) -> bool {
    let power = |uuid| {
        let entity = bench.table.find_entity(perfwatch_model::EntityKind::Gpu, uuid)?;
        bench.tick.value(bench.table.find(&gpu::POWER, entity, &[TYPE])?)
    };
    power("GPU-a").is_some() && power("GPU-b") == Some(Number::Float(5.0))
}

/// The device that a call hangs on; none where it is a call on the system.
fn hung(symbol: &str, places: &BTreeSet<String>) -> Option<&'static str> {
    match places.first().expect("it was called").as_str() {
        "" => None,
        "0" => Some("GPU-a"),
        "1" => Some("GPU-b"),
        // It is looked for as a part of its GPU.
        "1/0" if symbol == "nvmlDeviceGetUUID" => Some("GPU-b"),
        "1/0" => Some("MIG-a"),
        "2" => Some("GPU-c"),
        other => panic!("{other} is no place"),
    }
}

/// A call of the steady state hangs: it is named, the fault is told, and afterwards all is as before.
fn hangs_amid_samples(symbol: &str, places: &BTreeSet<String>) {
    let dir = temp();
    let delay = json!({"at": [[0, 0], [FROM_S, HANG_MS], [2 * FROM_S, 0]]});
    let mut bench = open(dir.path(), &hanging(symbol, places, &delay));
    wait_for(&mut bench, has_recovered);
    // GPM is sampled each 100 ms in between.
    std::thread::sleep(Duration::from_secs(FROM_S) + Duration::from_millis(150));
    sample_in_time(&mut bench, symbol);
    let device = bench.gpu("GPU-a");
    // Of limits and processes it may have been another device's turn.
    if bench.reasons(&gpu::POWER, device).is_empty() {
        sample_in_time(&mut bench, symbol);
    }
    let hung = hung(symbol, places);
    let one = Some(Number::Float(1.0));
    for uuid in ["GPU-a", "GPU-b", "MIG-a", "GPU-c"] {
        let told = bench.value(&gpu::FAULT, uuid, &[fault("unresponsive")]);
        assert_eq!(told, None, "{symbol}, {uuid}: one answer that is late is no fault");
    }
    sample_in_time(&mut bench, symbol);
    for uuid in ["GPU-a", "GPU-b", "MIG-a", "GPU-c"] {
        let text = &bench.reason(&gpu::POWER, bench.gpu(uuid)).text;
        let expected = match hung {
            Some(hung) if hung != uuid => format!("waits for {hung}: `{symbol}` has not returned"),
            _ => {
                assert!(text.starts_with("driver unresponsive since "), "{symbol}, {uuid}: {text}");
                format!("`{symbol}` has not returned")
            }
        };
        assert!(text.ends_with(&expected), "{symbol}, {uuid}: {text}");
        let failed = if hung.is_none_or(|hung| hung == uuid) { one } else { None };
        assert_eq!(bench.value(&gpu::FAULT, uuid, &[fault("unresponsive")]), failed, "{symbol}, {uuid}");
        assert_eq!(bench.value(&gpu::STATUS, uuid, &[state("failed"), TYPE]), failed, "{symbol}, {uuid}");
    }
    assert!(bench.probe.devices().iter().all(|device| device.processes.as_value().is_none()), "{symbol}");
    sample_in_time(&mut bench, symbol);
    wait_for(&mut bench, has_recovered);
    assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]), Some(Number::Float(0.0)), "{symbol}");
    assert_eq!(bench.value(&gpu::STATUS, "GPU-a", &[state("ok"), TYPE]), one, "{symbol}");
    assert_eq!(bench.gpu("GPU-a"), device, "{symbol}");
    // The lists of processes come with the first sample, or two seconds later.
    wait_for(&mut bench, |bench| bench.probe.devices()[0].processes.as_value().is_some_and(|rows| rows.len() == 2));
}

/// A call of the start hangs: the driver takes its time or does not answer, and afterwards the devices are there.
fn hangs_at_the_start(symbol: &str, places: &BTreeSet<String>) {
    let dir = temp();
    let mut bench = open(dir.path(), &hanging(symbol, places, &json!({"at": [[0, HANG_MS], [1, 0]]})));
    sample_in_time(&mut bench, symbol);
    let text = |bench: &Bench| bench.reason(&gpu::POWER, bench.host).text.clone();
    let first = text(&bench);
    assert!(first.starts_with("NVML has been initializing since "), "{symbol}: {first}");
    // The library asks for the driver's version where it is initialised.
    let named = if symbol == "nvmlSystemGetDriverVersion" { "nvmlInit_v2" } else { symbol };
    assert!(first.ends_with(&format!(": in `{named}`")), "{symbol}: {first}");
    let silent = |bench: &Bench| bench.of_machine(&gpu::FAULT, &[fault("unresponsive")]);
    assert_eq!(silent(&bench), None, "{symbol}");
    sample_in_time(&mut bench, symbol);
    assert_eq!(text(&bench), first, "{symbol}");
    // A minute is longer than any driver takes to start its devices.
    sample_in_time(&mut bench, symbol);
    let late = text(&bench);
    assert!(late.starts_with("driver unresponsive since "), "{symbol}: {late}");
    assert!(late.ends_with(&format!(": `{named}` has not returned")), "{symbol}: {late}");
    assert_eq!(silent(&bench), Some(Number::Float(1.0)), "{symbol}");
    wait_for(&mut bench, has_recovered);
    assert!(bench.reasons(&gpu::POWER, bench.host).is_empty(), "{symbol}");
    assert_eq!(silent(&bench), None, "{symbol}");
}

#[test]
fn a_hang_in_any_call_costs_no_more_than_the_budget_is_named_and_is_recovered_from() {
    let (at_start, of_a_sample) = calls();
    assert!(at_start.contains_key("nvmlInit_v2"), "{at_start:?}");
    assert!(of_a_sample.len() > 25, "{of_a_sample:?}");
    for symbol in ["nvmlDeviceGetMigMode", "nvmlDeviceGetSamples", "nvmlDeviceGetMarginTemperature"] {
        assert!(of_a_sample.contains_key(symbol), "{symbol}: {of_a_sample:?}");
    }
    // All at once: each has a library of its own, and does nothing but wait.
    std::thread::scope(|scope| {
        for (symbol, places) in &at_start {
            scope.spawn(|| at_one_of_three_tries(|| hangs_at_the_start(symbol, places)));
        }
        for (symbol, places) in &of_a_sample {
            scope.spawn(|| at_one_of_three_tries(|| hangs_amid_samples(symbol, places)));
        }
    });
}
