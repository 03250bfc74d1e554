//! How far a GPU's temperature is below the one from which its clocks are held down.

mod rig;

use perfwatch_model::Number;
use perfwatch_model::metrics::gpu;

use rig::{Bench, install, temp};

fn open(device: &str) -> (Bench, tempfile::TempDir) {
    let dir = temp();
    let log = dir.path().join("calls");
    let log = log.to_str().expect("a plain path");
    let scenario = format!(r#"{{"call_log": "{log}", "devices": [{{"uuid": "GPU-a", {device}}}]}}"#);
    (Bench::open(install(dir.path(), &scenario), |_| ()), dir)
}

fn margin(bench: &Bench) -> Option<f64> {
    bench.value(&gpu::TEMPERATURE_MARGIN, "GPU-a", &[]).map(Number::as_f64)
}

fn why(bench: &Bench) -> &str {
    &bench.reason(&gpu::TEMPERATURE_MARGIN, bench.gpu("GPU-a")).text
}

/// How often each of the calls was made: for a limit, for a margin.
fn calls(dir: &tempfile::TempDir) -> [usize; 2] {
    let log = std::fs::read_to_string(dir.path().join("calls")).expect("a log");
    ["nvmlDeviceGetTemperatureThreshold 0", "nvmlDeviceGetMarginTemperature 0"]
        .map(|call| log.lines().filter(|line| *line == call).count())
}

#[test]
fn a_device_that_tells_its_limits_is_compared_with_the_lower_one_and_asked_no_more_each_second() {
    let (mut bench, dir) = open(
        r#""temperature_c": [72, 80, 85, 88], "temperature_limits_c": {"shutdown": 92, "slowdown": 89, "gpu_max": 85}"#,
    );
    let mut told = Vec::new();
    for _ in 0..4 {
        bench.sample();
        told.push(margin(&bench));
    }
    assert_eq!(told, [13.0, 5.0, 0.0, -3.0].map(Some), "from the first sample on, and above it too");
    assert_eq!(calls(&dir), [2, 1], "a margin is asked for as long as no limit is known");
    bench.sample_after(30);
    assert_eq!(calls(&dir), [4, 1]);
}

#[test]
fn a_device_that_tells_no_limit_says_each_second_how_far_away_it_is() {
    let (mut bench, _dir) =
        open(r#""temperature_c": [34, 84, 87, 87], "temperature_margin_c": [51, 1, -2, 2147483647]"#);
    let mut told = Vec::new();
    for _ in 0..3 {
        bench.sample();
        told.push(margin(&bench));
    }
    assert_eq!(told, [51.0, 1.0, -2.0].map(Some));
    bench.sample();
    assert_eq!(margin(&bench), None);
    assert_eq!(why(&bench), "the driver reported a margin of the temperature of 2147483647 °C, which cannot be true");
}

#[test]
fn limits_that_cannot_be_true_are_none_and_one_that_is_known_outlasts_a_call_that_fails() {
    let (mut bench, _dir) = open(
        r#""temperature_c": 60, "temperature_limits_c": {"slowdown": [0, 93, 4294967295, 93], "gpu_max": [300, 0]},
           "errors": {"nvmlDeviceGetTemperatureThreshold": [0, 0, 0, 0, 0, 0, "TIMEOUT"]}"#,
    );
    bench.sample();
    assert_eq!(margin(&bench), None);
    for expected in [33.0, 33.0, 33.0] {
        bench.sample_after(30);
        assert_eq!(margin(&bench), Some(expected));
    }
}

#[test]
fn where_neither_is_told_or_the_temperature_is_not_the_reason_is() {
    let refused = [
        (r#""temperature_c": 60"#, "this device does not support the reading"),
        (
            r#""temperature_c": 60, "errors": {"nvmlDeviceGetMarginTemperature": "TIMEOUT"}"#,
            "`nvmlDeviceGetMarginTemperature` timed out in the driver",
        ),
        (
            r#""temperature_c": 999, "temperature_limits_c": {"slowdown": 93}"#,
            "the driver reported 999 °C, which cannot be true",
        ),
    ];
    for (device, reason) in refused {
        let (mut bench, _dir) = open(device);
        bench.sample();
        assert_eq!((margin(&bench), why(&bench)), (None, reason), "{device}");
    }
}
