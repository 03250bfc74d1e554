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
fn a_counter_of_the_driver_that_says_0_for_ever_is_none_where_gpm_tells_more() {
    let dir = temp();
    // Of one direction the driver begins to count after GPM did, and over PCIe at once.
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "gpm": {"1": 90, "2": 80, "20": 700, "60": 300, "61": 500}, "fields": [
        {"id": 138, "scope": 4294967295, "type": "unsigned_long_long", "value": 0},
        {"id": 139, "scope": 4294967295, "type": "unsigned_long_long", "value": [0, 0, 1000000000]},
        {"id": 197, "type": "unsigned_long_long", "value": [0, 5000]}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample_now();
    assert_eq!([&TRANSMIT, &RECEIVE].map(|way| bytes(&bench, &gpu::NVLINK_IO, way)), [Some(0); 2]);
    for _ in 0..2 {
        let began = rig::real_ns();
        let before = [&TRANSMIT, &RECEIVE].map(|way| bytes(&bench, &gpu::NVLINK_IO, way).expect("told"));
        std::thread::sleep(Duration::from_millis(600));
        bench.sample_now();
        let took = (rig::real_ns() - began) as f64 / 1e9;
        for ((way, rate), before) in [(&TRANSMIT, 500.0), (&RECEIVE, 300.0)].into_iter().zip(before) {
            let moved = bytes(&bench, &gpu::NVLINK_IO, way).expect("told") - before;
            let expected = rate * MIB as f64 * took;
            assert!((moved as f64 / expected - 1.0).abs() < 0.7, "{way:?}: {moved} bytes in {took} s, and not both");
        }
        assert_eq!(bytes(&bench, &gpu::PCIE_IO, &TRANSMIT), Some(5000), "it told more than 0 first");
    }
}

/// A device whose link is of this generation and width, and the driver's counter of bytes to the host.
fn counted(kind: &str, values: &str, generation: u32, width: u32) -> (Bench, tempfile::TempDir) {
    let dir = temp();
    let link = format!(
        r#""generation": {generation}, "width": {width}, "max_generation": {generation}, "max_width": {width}"#
    );
    let field = format!(r#"{{"id": 197, "type": "{kind}", "value": {values}}}"#);
    let scenario = format!(r#"{{"devices": [{{"uuid": "GPU-a", "pcie": {{{link}}}, "fields": [{field}]}}]}}"#);
    (Bench::open(install(dir.path(), &scenario), |_| ()), dir)
}

fn told(bench: &mut Bench, samples: usize) -> Vec<Option<u64>> {
    let sample = |_| {
        bench.sample();
        bytes(bench, &gpu::PCIE_IO, &TRANSMIT)
    };
    (0..samples).map(sample).collect()
}

#[test]
fn a_counter_of_32_bits_counts_on_when_it_is_full_where_the_link_cannot_fill_it_meanwhile() {
    // 2000 below the end at first; a link of 1 GB/s moves more than 3000 bytes between any two looks.
    let values = "[4294965296, 4294966296, 1000, 3000]";
    let (mut bench, _dir) = counted("unsigned_long_long", values, 3, 1);
    let first = 4_294_965_296;
    assert_eq!(told(&mut bench, 4), [0, 1000, 3000, 5000].map(|more| Some(first + more)));
    // In a type of 32 bits it is told as soon as it is known how fast the link is.
    let (mut bench, _dir) = counted("unsigned_int", values, 3, 1);
    assert_eq!(
        told(&mut bench, 4),
        [None, Some(1000), Some(3000), Some(5000)].map(|more| more.map(|more| first + more))
    );
}

#[test]
fn a_step_back_from_further_below_than_the_link_can_have_moved_is_no_wrap() {
    let (mut bench, _dir) = counted("unsigned_long_long", "[1000000000, 1000, 3000]", 3, 1);
    assert_eq!(told(&mut bench, 3), [Some(1_000_000_000), None, Some(1_000_003_000)], "it began anew");
}

#[test]
fn a_counter_that_is_full_before_it_is_read_again_says_so() {
    // In less than a tenth of a second, in which it would be read otherwise.
    let (mut bench, _dir) = counted("unsigned_int", "[7, 8]", 5, 16);
    assert_eq!(told(&mut bench, 2), [None; 2]);
    assert!(bench.reason(&gpu::PCIE_IO, bench.gpu("GPU-a")).text.contains("faster than they are read"));

    // In a type of 64 bits it is known by how often it steps back; a driver that is loaded anew does that once.
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "pcie": {"generation": 4, "width": 16, "max_generation": 4, "max_width": 16},
        "fields": [{"id": 197, "type": "unsigned_long_long", "value": [4294966296, 500, 900, 300, 800]}]}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    let mut seen = Vec::new();
    for _ in 0..5 {
        bench.sample();
        seen.push(bytes(&bench, &gpu::PCIE_IO, &TRANSMIT));
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(seen, [Some(4_294_966_296), None, Some(4_294_967_196), None, None]);
    assert!(bench.reason(&gpu::PCIE_IO, bench.gpu("GPU-a")).text.contains("faster than they are read"));
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
