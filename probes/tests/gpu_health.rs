//! What is told of a GPU's health: its link, what was set on it, its power and its status.

mod rig;

use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, MetricDef, Number};

use rig::{Bench, GENERAL, TYPE, fault, install, state, temp};

fn open(device: &str) -> (Bench, tempfile::TempDir) {
    open_on(temp(), device)
}

/// On a machine of which there are files in the folder.
fn open_on(dir: tempfile::TempDir, device: &str) -> (Bench, tempfile::TempDir) {
    let scenario = format!(r#"{{"devices": [{{"uuid": "GPU-a", {device}}}]}}"#);
    let library = install(dir.path(), &scenario);
    (Bench::open(library, |context| context.pci_devices = dir.path().join("pci")), dir)
}

fn number(bench: &Bench, metric: &MetricDef, attrs: &[Attr]) -> Option<f64> {
    bench.value(metric, "GPU-a", attrs).map(Number::as_f64)
}

fn holds(bench: &Bench, which: &'static str) -> Option<bool> {
    number(bench, &gpu::FAULT, &[fault(which)]).map(|value| value > 0.0)
}

/// The one state that the device is in.
fn status(bench: &Bench) -> &'static str {
    let of = |name| number(bench, &gpu::STATUS, &[state(name), TYPE]).expect("each state has a value");
    let states: Vec<_> =
        ["ok", "degraded", "predicted_failure", "failed"].into_iter().filter(|name| of(name) > 0.0).collect();
    let [state] = states[..] else { panic!("one state: {states:?}") };
    state
}

#[test]
fn the_link_is_told_as_it_is_and_as_it_could_be() {
    let (mut bench, _dir) =
        open(r#""pcie": {"generation": [1, 5, 77], "width": [16, 16, 3], "max_generation": 5, "max_width": 16}"#);
    let link = |bench: &Bench| {
        [&gpu::PCIE_GENERATION, &gpu::PCIE_WIDTH, &gpu::PCIE_GENERATION_LIMIT, &gpu::PCIE_WIDTH_LIMIT]
            .map(|metric| number(bench, metric, &[]))
    };
    bench.sample();
    assert_eq!(link(&bench), [1.0, 16.0, 5.0, 16.0].map(Some));
    bench.sample();
    assert_eq!(link(&bench), [5.0, 16.0, 5.0, 16.0].map(Some));
    for _ in 0..4 {
        bench.sample();
        assert_eq!(link(&bench), [5.0, 16.0, 5.0, 16.0].map(Some), "a fast link is looked at each 5 s");
    }
    bench.sample();
    assert_eq!(link(&bench), [None, None, Some(5.0), Some(16.0)]);
    let device = bench.gpu("GPU-a");
    assert!(bench.reason(&gpu::PCIE_GENERATION, device).text.contains("generation 77, which cannot be true"));
    assert!(bench.reason(&gpu::PCIE_WIDTH, device).text.contains("width 3, which cannot be true"));
}

#[test]
fn a_slow_link_is_a_fault_of_a_busy_device_and_no_fault_of_an_idle_one() {
    let (mut bench, _dir) = open(
        r#""utilization": {"gpu": [0, 90, 90, 0, 90, 90], "memory": 0},
           "pcie": {"generation": [1, 1, 5, 1, 5, 5], "width": [16, 16, 8, 16, 16, 16], "max_generation": 5, "max_width": 16}"#,
    );
    let mut seen = Vec::new();
    for _ in 0..6 {
        bench.sample();
        seen.push((holds(&bench, "pcie_link_degraded"), status(&bench)));
    }
    let (slow, well) = ((Some(true), "degraded"), (Some(false), "ok"));
    assert_eq!(seen, [(None, "ok"), (None, "ok"), slow, slow, slow, well], "idle, waking, busy, idle, waking, busy");
}

/// What is said of a busy device with eight lanes of sixteen by NVML's count, whose port above it says this of its lanes: lanes at
/// most, the fault, the status.
fn with_port(lanes: Option<u32>) -> (Option<f64>, Option<bool>, &'static str) {
    let dir = temp();
    let port = dir.path().join("pci0000:00/0000:00:01.0");
    let (device, linked) = (port.join("0000:1b:00.0"), dir.path().join("pci"));
    std::fs::create_dir_all(&device).and_then(|()| std::fs::create_dir(&linked)).expect("created");
    std::os::unix::fs::symlink(&device, linked.join("0000:1b:00.0")).expect("linked");
    for (end, lanes) in [(&port, lanes), (&device, Some(16))] {
        let Some(lanes) = lanes else { continue };
        std::fs::write(end.join("max_link_width"), format!("{lanes}\n")).expect("written");
        std::fs::write(end.join("max_link_speed"), "16.0 GT/s PCIe\n").expect("written");
    }
    let (mut bench, _dir) = open_on(
        dir,
        r#""pci": "00000000:1B:00.0", "utilization": {"gpu": 90, "memory": 0},
           "pcie": {"generation": 4, "width": 8, "max_generation": 4, "max_width": 16}"#,
    );
    for _ in 0..40 {
        bench.sample();
    }
    (number(&bench, &gpu::PCIE_WIDTH_LIMIT, &[]), holds(&bench, "pcie_link_degraded"), status(&bench))
}

#[test]
fn a_link_is_as_wide_as_its_slot_and_that_is_no_fault() {
    assert_eq!(with_port(Some(8)), (Some(8.0), Some(false), "ok"), "a board with two devices, a slot of eight lanes");
    assert_eq!(with_port(Some(16)), (Some(16.0), Some(true), "degraded"), "the slot could do more");
}

#[test]
fn where_nothing_is_known_of_the_slot_a_link_is_narrow_once_it_was_wider() {
    let nothing_known = [None, Some(32), Some(4)];
    for port in nothing_known {
        assert_eq!(with_port(port), (Some(8.0), Some(false), "ok"), "none, or one that is made up: {port:?}");
    }
    let (mut bench, _dir) = open(
        r#""utilization": {"gpu": 90, "memory": 0},
           "pcie": {"generation": 4, "width": [16, 8, 8], "max_generation": 4, "max_width": 16}"#,
    );
    for _ in 0..12 {
        bench.sample();
    }
    let limit = number(&bench, &gpu::PCIE_WIDTH_LIMIT, &[]);
    assert_eq!((limit, holds(&bench, "pcie_link_degraded"), status(&bench)), (Some(16.0), Some(true), "degraded"));
}

#[test]
fn what_somebody_has_set_is_told_and_is_no_bad_status() {
    let (mut bench, _dir) = open(
        r#""power_limit_mw": 500000, "power_limit_set_mw": 500000, "power_limit_default_mw": 700000, "throttle_reasons": 4,
           "application_clocks_mhz": {"graphics": 1200, "memory": 2619},
           "default_application_clocks_mhz": {"graphics": 1980, "memory": 2619}"#,
    );
    bench.sample();
    assert_eq!(number(&bench, &gpu::POWER_LIMIT, &[]), Some(500.0));
    assert_eq!(number(&bench, &gpu::POWER_LIMIT_DEFAULT, &[]), Some(700.0));
    assert_eq!((holds(&bench, "power_limit_lowered"), holds(&bench, "clocks_locked")), (Some(true), Some(true)));
    assert_eq!(status(&bench), "ok");

    let (mut bench, _dir) = open(r#""power_limit_mw": 700000, "throttle_reasons": [2, 0]"#);
    bench.sample();
    assert_eq!((holds(&bench, "power_limit_lowered"), holds(&bench, "clocks_locked")), (Some(false), Some(true)));
    bench.sample();
    assert_eq!(holds(&bench, "clocks_locked"), Some(false));

    let (mut bench, _dir) = open(r#""utilization": {"gpu": 0, "memory": 0}"#);
    bench.sample();
    assert_eq!((holds(&bench, "power_limit_lowered"), holds(&bench, "clocks_locked")), (None, None));
}

#[test]
fn a_power_limit_that_the_machine_keeps_is_not_taken_for_one_that_somebody_set() {
    let told = |limits: &str| {
        let (mut bench, _dir) = open(limits);
        bench.sample();
        let faults = ["power_limit_lowered", "power_limit_by_platform"].map(|which| holds(&bench, which));
        (number(&bench, &gpu::POWER_LIMIT, &[]), faults, status(&bench))
    };
    let by_platform = r#""power_limit_mw": 400000, "power_limit_set_mw": 700000, "power_limit_default_mw": 700000"#;
    assert_eq!(told(by_platform), (Some(400.0), [Some(false), Some(true)], "ok"));
    let both = r#""power_limit_mw": 400000, "power_limit_set_mw": 500000, "power_limit_default_mw": 700000"#;
    assert_eq!(told(both), (Some(400.0), [Some(true), Some(true)], "ok"));
    let of_a_laptop = r#""power_limit_mw": 35000, "power_limit_default_mw": 80000,
        "errors": {"nvmlDeviceGetPowerManagementLimit": "NOT_SUPPORTED"}"#;
    assert_eq!(told(of_a_laptop), (Some(35.0), [None, Some(true)], "ok"), "nobody can set it");
}

#[test]
fn the_status_is_the_worst_that_the_faults_say() {
    let field =
        |id: u32, value: u32| format!(r#""fields": [{{"id": {id}, "type": "unsigned_int", "value": {value}}}]"#);
    let cases = [
        (field(144, 1), "degraded"),
        (field(145, 1), "predicted_failure"),
        (field(31, 1), "degraded"),
        (field(230, 2), "degraded"),
        (r#""power_mw": 1, "errors": {"nvmlDeviceGetTemperature": "GPU_IS_LOST"}"#.to_owned(), "failed"),
        (r#""power_mw": 1, "errors": {"nvmlDeviceGetTemperature": "RESET_REQUIRED"}"#.to_owned(), "failed"),
        (field(144, 0), "ok"),
    ];
    for (device, expected) in cases {
        let (mut bench, _dir) = open(&device);
        bench.sample();
        assert_eq!(status(&bench), expected, "{device}");
    }
}

#[test]
fn a_row_is_pending_until_the_reset_that_replaces_it_and_one_that_cannot_be_replaced_is_worse() {
    // Corrected rows, uncorrected ones, pending, failed: each is read each 30 s.
    let series = [("142", "[0, 0, 1, 1]"), ("143", "[0, 0, 0, 1]"), ("144", "[0, 1, 0, 1]"), ("145", "[0, 0, 0, 1]")];
    let fields =
        series.map(|(id, values)| format!(r#"{{"id": {id}, "type": "unsigned_int", "value": {values}}}"#)).join(",");
    let (mut bench, _dir) = open(&format!(r#""fields": [{fields}]"#));
    let rows = |bench: &Bench, kind| number(bench, &gpu::REMAPPED_ROWS, &[Attr::fixed("error.type", kind)]);
    let told = |bench: &Bench| {
        let faults = ["row_remap_pending", "row_remap_failed"].map(|which| holds(bench, which).expect("it is told"));
        let rows = ["corrected", "uncorrected"].map(|kind| rows(bench, kind).expect("it is told"));
        (faults, rows, status(bench))
    };
    bench.sample();
    let mut seen = vec![told(&bench)];
    for _ in 0..3 {
        bench.sample_after(30);
        seen.push(told(&bench));
    }
    let expected = [
        ([false, false], [0.0, 0.0], "ok"),
        ([true, false], [0.0, 0.0], "degraded"),
        ([false, false], [1.0, 0.0], "ok"),
        ([true, true], [1.0, 1.0], "predicted_failure"),
    ];
    assert_eq!(seen, expected);
}

#[test]
fn before_ampere_a_page_is_pending_until_the_driver_is_loaded_anew_and_what_cannot_be_is_not_told() {
    // Pages retired for single-bit errors, for double-bit ones, pending: the list of a device has room for 64.
    let series = [("29", "[2, 2, 3, 65]"), ("30", "[0, 0, 1, 4294967295]"), ("31", "[0, 1, 0, 2]")];
    let fields =
        series.map(|(id, values)| format!(r#"{{"id": {id}, "type": "unsigned_int", "value": {values}}}"#)).join(",");
    let (mut bench, _dir) = open(&format!(r#""fields": [{fields}]"#));
    let told = |bench: &Bench| {
        let pages = |kind| number(bench, &gpu::RETIRED_PAGES, &[Attr::fixed("error.type", kind)]);
        let pending = holds(bench, "page_retirement_pending");
        (pending, ["corrected", "uncorrected"].map(pages), status(bench))
    };
    bench.sample();
    let device = bench.gpu("GPU-a");
    assert!(bench.reasons(&gpu::REMAPPED_ROWS, device).is_empty(), "it does the one and not the other");
    let mut seen = vec![told(&bench)];
    for _ in 0..3 {
        bench.sample_after(30);
        seen.push(told(&bench));
    }
    let expected = [
        (Some(false), [Some(2.0), Some(0.0)], "ok"),
        (Some(true), [Some(2.0), Some(0.0)], "degraded"),
        (Some(false), [Some(3.0), Some(1.0)], "ok"),
        (None, [None, None], "ok"),
    ];
    assert_eq!(seen, expected);
    assert!(bench.reason(&gpu::RETIRED_PAGES, device).text.contains("field 29 is none that can be true"));
}

#[test]
fn counts_of_ecc_errors_that_begin_anew_count_on_from_what_there_was() {
    // What NVML calls volatile begins at 0 with each load of the driver, and after `nvidia-smi -p 0`.
    let (mut bench, _dir) = open(
        r#""fields": [{"id": 3, "type": "unsigned_long_long", "value": [12, 0, 3, 3]},
                      {"id": 4, "type": "unsigned_long_long", "value": [2, 2, 2, 4]}]"#,
    );
    let errors = |bench: &Bench, kind| number(bench, &gpu::ERRORS, &[Attr::fixed("error.type", kind)]);
    bench.sample();
    let mut seen = vec![(errors(&bench, "corrected"), errors(&bench, "uncorrected"))];
    for _ in 0..3 {
        bench.sample_after(30);
        seen.push((errors(&bench, "corrected"), errors(&bench, "uncorrected")));
    }
    let expected = [(Some(12.0), 2.0), (None, 2.0), (Some(15.0), 2.0), (Some(15.0), 4.0)];
    assert_eq!(seen, expected.map(|(corrected, uncorrected)| (corrected, Some(uncorrected))));
}

#[test]
fn without_ecc_nothing_is_told_of_errors_and_that_is_no_fault() {
    let (mut bench, _dir) = open(r#""utilization": {"gpu": 10, "memory": 0}"#);
    bench.sample();
    let device = bench.gpu("GPU-a");
    for metric in [&gpu::ERRORS, &gpu::REMAPPED_ROWS, &gpu::RETIRED_PAGES] {
        assert!(bench.reason(metric, device).text.contains("does not support"), "{}", metric.name);
    }
    let faults = ["row_remap_pending", "row_remap_failed", "page_retirement_pending"];
    assert_eq!(faults.map(|which| holds(&bench, which)), [None; 3]);
    assert_eq!(status(&bench), "ok");
}

#[test]
fn encoder_and_decoder_are_told_from_their_first_use_on() {
    let (mut bench, _dir) =
        open(r#""utilization": {"gpu": 7, "memory": 0}, "encoder": 0, "decoder": [0, 35, 0, 4294967295]"#);
    let decoder = |bench: &Bench| {
        let series =
            bench.table.find(&gpu::UTILIZATION, bench.gpu("GPU-a"), &[Attr::fixed("hw.gpu.task", "decoder")])?;
        bench.tick.value(series).map(Number::as_f64)
    };
    for expected in [None, Some(0.35), Some(0.0), None] {
        bench.sample();
        assert_eq!(decoder(&bench), expected);
        assert_eq!(number(&bench, &gpu::UTILIZATION, &[GENERAL]), Some(0.07));
    }
    let encoder = bench.table.find(&gpu::UTILIZATION, bench.gpu("GPU-a"), &[Attr::fixed("hw.gpu.task", "encoder")]);
    assert!(encoder.is_none(), "it was never used");
}

/// The power of the second of two samples that are as far apart as the counter needs.
fn power_after(device: &str) -> f64 {
    let (mut bench, _dir) = open(device);
    bench.sample();
    assert_eq!(number(&bench, &gpu::POWER, &[TYPE]), Some(111.0), "one reading of a counter is no power: {device}");
    std::thread::sleep(Duration::from_millis(600));
    bench.sample();
    number(&bench, &gpu::POWER, &[TYPE]).expect("a power")
}

#[test]
fn power_is_the_energy_of_the_time_between_two_readings_where_that_can_be_true() {
    let counted = r#""power_mw": 111000, "power_limit_mw": 700000, "energy_mj": {"start": 5000, "per_second": 350000}"#;
    let watts = power_after(counted);
    assert!((watts - 350.0).abs() < 10.0, "{watts} W");
    let averaged = [
        counted.replace(r#"{"start": 5000, "per_second": 350000}"#, "5000"),
        counted.replace("350000", "3500000"),
        counted.replace(r#""power_limit_mw": 700000, "#, ""),
        counted.replace(r#"{"start": 5000, "per_second": 350000}"#, "[5000, 4000]"),
    ];
    for device in averaged {
        assert!((power_after(&device) - 111.0).abs() < f64::EPSILON, "the driver's own average: {device}");
    }
}
