//! Bytes over the links: the driver's counters, and what GPM's rates make of them where there are none.

mod rig;

use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, MetricDef, Number};

use rig::{Bench, install, temp, wait_for};

const MIB: u64 = 1_048_576;
const TRANSMIT: Attr = Attr::fixed("network.io.direction", "transmit");
const RECEIVE: Attr = Attr::fixed("network.io.direction", "receive");

fn bytes(bench: &Bench, metric: &MetricDef, direction: &Attr) -> Option<u64> {
    bench.value(metric, "GPU-a", std::slice::from_ref(direction)).and_then(Number::as_int)
}

/// Samples at the real time for a while, and returns the bytes that went over the `PCIe` link to the host meanwhile, and how long
/// that was.
fn after(bench: &mut Bench, seconds: f64) -> (u64, f64) {
    bench.sample_now();
    let (before, began) = (bytes(bench, &gpu::PCIE_IO, &TRANSMIT).unwrap_or(0), rig::real_ns());
    std::thread::sleep(Duration::from_secs_f64(seconds));
    bench.sample_now();
    let took = (rig::real_ns() - began) as f64 / 1e9;
    (bytes(bench, &gpu::PCIE_IO, &TRANSMIT).expect("GPM tells it") - before, took)
}

#[test]
fn without_counters_that_last_gpms_rates_are_counted() {
    let dir = temp();
    // In 32 bits the counters of PCIe bytes are full after a second or two, and of NVLink there are none.
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90, "2": 80, "20": 1000, "21": 50, "60": 0, "61": 0},
        "fields": [{"id": 197, "type": "unsigned_int", "value": 7}, {"id": 198, "type": "unsigned_int", "value": 7}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample_now();
    let (moved, took) = after(&mut bench, 1.5);
    let expected = (1000 * MIB) as f64 * took;
    assert!((moved as f64 / expected - 1.0).abs() < 0.2, "{moved} bytes in {took} s");
    let (sent, received) = [&TRANSMIT, &RECEIVE].map(|way| bytes(&bench, &gpu::PCIE_IO, way).expect("told")).into();
    assert!((sent as f64 / received as f64 - 20.0).abs() < 0.1, "{sent} and {received}");
    assert_eq!(bytes(&bench, &gpu::NVLINK_IO, &TRANSMIT), None, "a link of which only 0 is told may be none");
    assert_eq!(bench.reasons(&gpu::NVLINK_IO, bench.gpu("GPU-a")).len(), 1);
}

#[test]
fn where_the_driver_counts_its_counters_win() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90, "2": 80, "20": 1000, "60": 300, "61": 500}, "fields": [
        {"id": 197, "type": "unsigned_long_long", "value": 123456}, {"id": 138, "scope": 4294967295,
        "type": "unsigned_long_long", "value": 7}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    let (moved, _) = after(&mut bench, 0.5);
    assert_eq!((moved, bytes(&bench, &gpu::PCIE_IO, &TRANSMIT)), (0, Some(123_456)));
    assert_eq!(bytes(&bench, &gpu::NVLINK_IO, &TRANSMIT), Some(7 * 1024));
    assert!(bytes(&bench, &gpu::NVLINK_IO, &RECEIVE).expect("GPM alone tells it") > 10 * MIB);
}

#[test]
fn a_driver_that_is_loaded_anew_does_not_make_them_go_back() {
    let dir = temp();
    let scenario = |more: &str| {
        format!(r#"{{"devices": [{{"uuid": "GPU-a", "power_mw": 5, "gpm": {{"1": 90, "2": 80, "20": 1000}}{more}}}]}}"#)
    };
    let failing =
        scenario(r#", "errors": {"nvmlDeviceGetTemperature": {"at": [[0, 0], [1, "LIB_RM_VERSION_MISMATCH"]]}}"#);
    let library = install(dir.path(), &failing);
    let mut bench = Bench::open(library.clone(), |_| ());
    let (before, _) = after(&mut bench, 0.6);
    assert!(before > 100 * MIB);
    // With 64-bit counters, which began elsewhere.
    let more = r#", "fields": [{"id": 197, "type": "unsigned_long_long", "value": 5}]"#;
    fake_nvml::rewrite(&library, &scenario(more)).expect("rewritten");
    std::thread::sleep(Duration::from_millis(600));
    bench.sample_now();
    assert_eq!(bytes(&bench, &gpu::PCIE_IO, &TRANSMIT), None, "the session has ended");
    bench.now.mono_ns += 60_000_000_000;
    wait_for(&mut bench, |bench| bytes(bench, &gpu::PCIE_IO, &TRANSMIT).is_some());
    let first = bytes(&bench, &gpu::PCIE_IO, &TRANSMIT).expect("told");
    std::thread::sleep(Duration::from_millis(400));
    bench.sample();
    let second = bytes(&bench, &gpu::PCIE_IO, &TRANSMIT).expect("told");
    assert!(before <= first && first < second, "{before}, {first}, {second}");
}
