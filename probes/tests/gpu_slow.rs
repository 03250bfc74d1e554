//! A driver that is slow, and answers.

mod rig;

use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Number, Reading};
use serde_json::json;

use rig::{Bench, TYPE, at_one_of_three_tries, fault, install, temp};

/// As long as a sample waits for the driver.
const BUDGET: Duration = Duration::from_millis(200);

fn open(dir: &std::path::Path, scenario: &serde_json::Value) -> Bench {
    open_with(BUDGET, dir, scenario)
}

fn open_with(budget: Duration, dir: &std::path::Path, scenario: &serde_json::Value) -> Bench {
    Bench::open(install(dir, &scenario.to_string()), |context| context.budget = budget)
}

/// Samples once a second by the real clock.
fn next_second(bench: &mut Bench) {
    std::thread::sleep(Duration::from_secs(1).saturating_sub(BUDGET));
    bench.sample_now();
}

#[test]
fn sixteen_gpus_whose_driver_takes_long_for_each_have_readings_limits_and_processes() {
    at_one_of_three_tries(sixteen_slow_gpus);
}

fn sixteen_slow_gpus() {
    let dir = temp();
    // All at once would take twice the budget: what is read each second alone takes more than half of it. Longer than elsewhere,
    // so that what a busy machine adds to each call is a small part of it.
    let (budget, delays) = (
        2 * BUDGET,
        json!({"nvmlDeviceGetUtilizationRates": 16, "nvmlDeviceGetEnforcedPowerLimit": 16,
            "nvmlDeviceGetComputeRunningProcesses_v3": 16}),
    );
    let device = |index: u32| {
        json!({"uuid": format!("GPU-{index}"), "power_mw": 1000 * (1 + index), "power_limit_mw": 700_000,
            "utilization": {"gpu": 50, "memory": 20}, "processes": {"compute": [{"pid": 100 + index, "used": 5}]},
            "delays_ms": delays})
    };
    let devices = json!({"devices": (0..16).map(device).collect::<Vec<_>>()});
    let mut bench = open_with(budget, dir.path(), &devices);
    let is_in_time =
        |bench: &Bench| bench.probe.devices().len() == 16 && bench.value(&gpu::POWER, "GPU-15", &[TYPE]).is_some();
    let (mut samples, mut in_time) = (0, 0);
    // Until the last one is in time: what it tells is looked at.
    while samples < 20 || !is_in_time(&bench) {
        next_second(&mut bench);
        in_time += u32::from(is_in_time(&bench));
        samples += 1;
        assert!(samples < 40, "{in_time} of {samples} samples: {:?}", bench.tick.absent.first());
    }
    assert!(2 * in_time >= samples, "{in_time} of {samples} samples: {:?}", bench.tick.absent.first());
    for index in 0..16 {
        let uuid = format!("GPU-{index}");
        assert_eq!(bench.value(&gpu::POWER_LIMIT, &uuid, &[]), Some(Number::Float(700.0)), "{uuid}");
        assert_eq!(bench.value(&gpu::FAULT, &uuid, &[fault("unresponsive")]), Some(Number::Float(0.0)), "{uuid}");
        let rows = &bench.probe.devices()[index as usize].processes;
        assert!(rows.as_value().is_some_and(|rows| rows[0].pid == 100 + index), "{uuid}: {rows:?}");
    }
}

#[test]
fn a_driver_that_is_always_late_has_the_readings_of_a_second_ago_each_second_and_those_of_now_when_it_is_not() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = open(
        dir.path(),
        &json!({"call_log": log, "devices": [{"uuid": "GPU-a", "power_mw": 5000, "power_limit_mw": 700_000,
            "processes": {"compute": [{"pid": 7, "used": 5}]},
            "fields": [{"id": 4, "type": "unsigned_long_long", "value": 3}],
            "delays_ms": {"nvmlDeviceGetUtilizationRates": {"at": [[0, 400], [6.5, 400], [6.6, 0]]}}}]}),
    );
    next_second(&mut bench);
    let mut missed = 0;
    for second in 1..15 {
        next_second(&mut bench);
        if bench.value(&gpu::POWER, "GPU-a", &[TYPE]).is_none() {
            // A busy machine made an answer, or this tick, later still.
            missed += 1;
            assert!(missed <= 2, "{second}: {:?}", bench.tick.absent.first());
            continue;
        }
        assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(5.0)), "{second}");
        assert_eq!(bench.value(&gpu::POWER_LIMIT, "GPU-a", &[]), Some(Number::Float(700.0)), "{second}");
        assert_eq!(
            bench.value(&gpu::ERRORS, "GPU-a", &[perfwatch_model::Attr::fixed("error.type", "uncorrected")]),
            Some(Number::Int(3))
        );
        assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]), Some(Number::Float(0.0)), "{second}");
        assert!(matches!(&bench.probe.devices()[0].processes, Reading::Value(rows) if rows[0].pid == 7), "{second}");
    }
    // Asked and answered within the same second: each question is logged when it is sent.
    let asked = || std::fs::read_to_string(&log).expect("a log").matches("nvmlDeviceGetUtilizationRates").count();
    let before = asked();
    bench.sample_now();
    std::thread::sleep(BUDGET);
    assert_eq!(asked(), before + 1, "no question is on its way while nobody waits");
}

#[test]
fn a_driver_that_is_late_when_lists_of_processes_are_read_has_readings_each_second_and_no_fault() {
    let dir = temp();
    let late = json!({"nvmlDeviceGetComputeRunningProcesses_v3": 400});
    let device = json!({"uuid": "GPU-a", "power_mw": 5000, "processes": {"compute": [{"pid": 7, "used": 5}]}, "delays_ms": late});
    let mut bench = open(dir.path(), &json!({"devices": [device]}));
    rig::wait_for(&mut bench, |bench| !bench.probe.devices().is_empty());
    let mut told = Vec::new();
    for _ in 0..10 {
        next_second(&mut bench);
        let silent = bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]);
        told.push((bench.value(&gpu::POWER, "GPU-a", &[TYPE]), silent));
    }
    let well = (Some(Number::Float(5.0)), Some(Number::Float(0.0)));
    // It has to be late twice before it is known to be slow; and a busy machine may make one answer later still.
    assert!(told[4..].iter().filter(|now| **now == well).count() >= 5, "{told:?}");
    assert!(told.iter().all(|(_, silent)| *silent != Some(Number::Float(1.0))), "{told:?}");
}

#[test]
fn a_tick_that_comes_late_does_not_make_a_slow_driver_a_silent_one() {
    let dir = temp();
    let slow = json!({"nvmlDeviceGetUtilizationRates": 400});
    let mut bench = open(dir.path(), &json!({"devices": [{"uuid": "GPU-a", "power_mw": 5000, "delays_ms": slow}]}));
    let silent =
        |bench: &Bench| bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]).is_some_and(|on| on.as_f64() > 0.0);
    for _ in 0..3 {
        next_second(&mut bench);
    }
    // Nothing that is older than a second and a half is told.
    std::thread::sleep(Duration::from_millis(1_800));
    bench.sample_now();
    assert!(!silent(&bench));
    std::thread::sleep(Duration::from_millis(100));
    bench.sample_now();
    let reason = bench.reason(&gpu::POWER, bench.gpu("GPU-a"));
    assert!(reason.text.ends_with(" ms, so that readings are those of a second ago"), "{reason:?}");
    assert!(!silent(&bench));
    next_second(&mut bench);
    assert!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]).is_some() && !silent(&bench));
    assert!(bench.probe.is_stretched(), "it is told as less than there could be");
}

#[test]
fn a_driver_that_takes_its_time_to_fail_has_failed_while_it_is_tried_again() {
    let dir = temp();
    let scenario = json!({"init": "LIB_RM_VERSION_MISMATCH", "delays_ms": {"nvmlInit_v2": 600}});
    let mut bench = open(dir.path(), &scenario);
    bench.sample();
    assert!(bench.reason(&gpu::POWER, bench.host).text.starts_with("NVML has been initializing"), "nobody knows yet");
    let failed = |bench: &Bench| bench.of_machine(&gpu::FAULT, &[fault("driver_failed")]);
    rig::wait_for(&mut bench, |bench| failed(bench).is_some());
    let mut tried_again = 0;
    for second in 0..40 {
        std::thread::sleep(Duration::from_millis(50));
        let before = rig::real_ns();
        bench.sample();
        tried_again += u32::from(rig::real_ns() - before >= 150_000_000);
        assert_eq!(failed(&bench), Some(Number::Float(1.0)), "{second}: {:?}", bench.tick.absent.first());
        assert!(bench.reason(&gpu::POWER, bench.host).text.contains("different versions"), "{second}");
    }
    assert!(tried_again >= 1, "it was begun with anew, which takes longer than a sample waits");
}

#[test]
fn what_seldom_changes_is_taken_from_an_answer_that_was_seconds_late_and_not_asked_for_again() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = open(
        dir.path(),
        &json!({"call_log": log, "devices": [{"uuid": "GPU-a", "power_mw": {"cycle": [1000, 2000]}, "power_limit_mw": 700_000,
            "processes": {"compute": [{"pid": 7, "used": 5}]}, "delays_ms": {"nvmlDeviceGetUtilizationRates": [2500, 0]}}]}),
    );
    for _ in 0..4 {
        next_second(&mut bench);
    }
    assert_eq!(bench.value(&gpu::POWER_LIMIT, "GPU-a", &[]), Some(Number::Float(700.0)));
    assert!(matches!(&bench.probe.devices()[0].processes, Reading::Value(rows) if rows[0].pid == 7));
    let calls = std::fs::read_to_string(log).expect("a log");
    let made = |symbol: &str| calls.lines().filter(|call| call.starts_with(symbol)).count();
    assert_eq!(made("nvmlDeviceGetEnforcedPowerLimit"), 1);
}

#[test]
fn a_gpu_that_takes_seconds_for_each_answer_is_silent_all_the_while_and_no_other_is() {
    let dir = temp();
    let device = |uuid: &str, delays: serde_json::Value| json!({"uuid": uuid, "power_mw": 5000, "power_limit_mw": 700_000, "delays_ms": delays});
    let slow = json!({"nvmlDeviceGetTemperature": {"at": [[0, 0], [1, 2_500]]}});
    let mut bench = open(dir.path(), &json!({"devices": [device("GPU-a", json!({})), device("GPU-b", slow)]}));
    let mut told = Vec::new();
    for _ in 0..9 {
        next_second(&mut bench);
        if bench.probe.devices().len() == 2 {
            let silent =
                |uuid| bench.value(&gpu::FAULT, uuid, &[fault("unresponsive")]).is_some_and(|on| on.as_f64() > 0.0);
            let why = bench.reasons(&gpu::POWER, bench.gpu("GPU-b")).first().map(|reason| reason.text.to_string());
            told.push((silent("GPU-a"), silent("GPU-b"), why));
        }
    }
    let last = &told[told.len() - 5..];
    assert!(last.iter().all(|(a, b, _)| !a && *b), "{told:?}");
    let since = last[0].2.as_ref().and_then(|why| why.split_once(" UTC: ")).expect("a reason").0;
    assert!(since.starts_with("driver unresponsive since "), "{since}");
    assert!(
        last.iter().all(|(.., why)| why.as_ref().is_some_and(|why| why.starts_with(since))),
        "since the same instant: {told:?}"
    );
    // It did answer, and that is what is told from then on.
    let told_last = last[last.len() - 1].2.as_ref().expect("a reason");
    assert!(told_last.ends_with("its last answer took more than 2 s"), "{told_last}");
}
