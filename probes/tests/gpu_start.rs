//! How NVML starts, or does not, and what is told meanwhile.

mod rig;

use perfwatch_model::Number;
use perfwatch_model::metrics::gpu;

use rig::{Bench, TYPE, fault, install, temp};

#[test]
fn a_missing_nvml_is_reported_once_per_metric_with_its_cure() {
    let dir = temp();
    let mut bench = Bench::open(dir.path().join("libnvidia-ml.so.1"), |_| ());
    for _ in 0..2 {
        bench.sample();
        assert!(bench.tick.values.is_empty());
        for metric in gpu::ALL {
            let reason = bench.reason(metric, bench.host);
            assert!(reason.text.starts_with("there is no NVML at /"), "{reason:?}");
            assert!(reason.cure.contains("--nvml-lib"), "{reason:?}");
        }
    }
    assert!(bench.probe.devices().is_empty());
}

#[test]
fn each_way_in_which_nvml_fails_to_start_has_its_own_reason_and_what_is_broken_is_told_as_a_fault() {
    let cases = [
        (r#"{"init": 9}"#, "kernel driver is not loaded", "modprobe nvidia", None),
        (r#"{"init": 18}"#, "different versions", "reboot", Some("driver_failed")),
        (r#"{"init": 999}"#, "unknown error", "--gpus all", Some("driver_failed")),
        (r#"{"init": 4}"#, "denies access", "/dev/nvidia", None),
        (r#"{"init": 28}"#, "shows no GPU", "--gpus all", None),
        (r#"{"init": 27}"#, "return code 27", "nvmlReturn_t", Some("driver_failed")),
        (r#"{"devices": []}"#, "shows no GPU", "--gpus all", None),
        (
            r#"{"devices": [{"uuid": "GPU-a", "errors": {"nvmlDeviceGetUUID": "OPERATING_SYSTEM"}}]}"#,
            "denies access",
            "/dev/nvidia",
            None,
        ),
        (
            r#"{"devices": [{"uuid": "GPU-a", "errors": {"nvmlDeviceGetUUID": "GPU_IS_LOST"}}]}"#,
            "fallen off the bus",
            "xid",
            Some("lost"),
        ),
    ];
    for (scenario, text, cure, broken) in cases {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
        bench.sample();
        let reason = bench.reason(&gpu::UTILIZATION, bench.host);
        assert!(reason.text.contains(text) && reason.cure.contains(cure), "{scenario}: {reason:?}");
        for known in ["driver_failed", "lost", "unresponsive"] {
            let told = bench.of_machine(&gpu::FAULT, &[fault(known)]);
            assert_eq!(told, (broken == Some(known)).then_some(Number::Float(1.0)), "{scenario}: {known}");
        }
        assert_eq!(bench.reasons(&gpu::FAULT, bench.host).len(), usize::from(broken.is_none()), "{scenario}");
    }
}

#[test]
fn a_container_that_cannot_open_its_gpus_says_so_in_a_stable_word_and_how_to_get_them_back() {
    let every_call = fake_nvml::SYMBOLS.iter().filter(|symbol| symbol.starts_with("nvmlDeviceGet"));
    let unknown: Vec<_> = every_call
        .filter(|symbol| !symbol.contains("Handle") && !symbol.ends_with("Count_v2") && !symbol.ends_with("UUID"))
        .map(|symbol| format!(r#""{symbol}": 999"#))
        .collect();
    let lost = format!(r#"{{"devices": [{{"uuid": "GPU-a", "errors": {{{}}}}}]}}"#, unknown.join(","));
    let cases = [
        r#"{"init": 999}"#,
        r#"{"init": 4}"#,
        r#"{"init": 9}"#,
        r#"{"devices": []}"#,
        r#"{"devices": [{"uuid": "GPU-a", "errors": {"nvmlDeviceGetUUID": "NO_PERMISSION"}}]}"#,
        &lost,
    ];
    for scenario in cases {
        let dir = temp();
        let mut bench = Bench::open(install(dir.path(), scenario), |context| {
            (context.in_container, context.nvidia_kernel_driver) = (true, true);
        });
        bench.sample();
        let entity = bench.probe.devices().first().map_or(bench.host, |device| device.entity);
        let reason = bench.reason(&gpu::POWER, entity);
        assert!(reason.text.starts_with("no_device_in_container: "), "{scenario}: {reason:?}");
        let failed = bench.of_machine(&gpu::FAULT, &[fault("driver_failed")]);
        assert_eq!(failed, None, "a container without a GPU is in order: {scenario}");
        assert!(reason.cure.contains("--gpus all") && reason.cure.contains("CDI"), "{reason:?}");
    }
}

#[test]
fn a_file_that_is_not_nvml_is_named_as_such() {
    let dir = temp();
    let empty = dir.path().join("empty.so");
    std::fs::write(&empty, "").expect("written");
    let text = dir.path().join("text.so");
    std::fs::write(&text, "not a library, but long enough to have had an ELF header at its beginning ".repeat(9))
        .expect("written");
    for file in [empty, text] {
        let mut bench = Bench::open(file.clone(), |_| ());
        bench.sample();
        let reason = bench.reason(&gpu::UTILIZATION, bench.host);
        assert!(reason.text.starts_with(&format!("{} is not NVML: ", file.display())), "{reason:?}");
    }
}

#[test]
fn a_driver_that_failed_is_tried_again_after_ten_seconds() {
    let dir = temp();
    let library = install(dir.path(), r#"{"init": 9}"#);
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    fake_nvml::rewrite(&library, r#"{"devices": [{"uuid": "GPU-a", "power_mw": 95500}]}"#).expect("rewritten");
    bench.sample_after(9);
    assert!(bench.reason(&gpu::POWER, bench.host).text.contains("not loaded"), "not before its time");
    bench.sample_after(1);
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(95.5)));
    assert!(bench.reasons(&gpu::POWER, bench.host).is_empty());
}

#[test]
fn a_driver_upgraded_under_the_agent_is_initialised_anew() {
    let dir = temp();
    let library = install(
        dir.path(),
        r#"{"devices": [{"uuid": "GPU-a", "power_mw": 1000, "errors": {"nvmlDeviceGetPowerUsage": [0, "LIB_RM_VERSION_MISMATCH"]}}, {"uuid": "GPU-gone"}]}"#,
    );
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let (device, gone) = (bench.gpu("GPU-a"), bench.gpu("GPU-gone"));
    bench.sample();
    let failed = bench.table.find(&gpu::FAULT, device, &[fault("driver_failed")]).expect("interned");
    assert!(
        bench.tick.value(failed).is_some() && bench.tick.values.len() == 2 * 5,
        "nothing of a session that has ended is believed"
    );
    assert_eq!(bench.reasons(&gpu::POWER, device).len(), 1);
    fake_nvml::rewrite(&library, r#"{"devices": [{"uuid": "GPU-new"}, {"uuid": "GPU-a", "power_mw": 2000}]}"#)
        .expect("rewritten");
    bench.sample_after(10);
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(2.0)));
    assert_eq!(bench.gpu("GPU-a"), device, "matched by UUID, not by index");
    assert!(bench.table.entity_of(gone).is_none(), "a GPU that is gone retires");
}
