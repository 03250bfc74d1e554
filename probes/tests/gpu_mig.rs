//! A GPU that is cut into MIG instances.

mod rig;

use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, Number, Reading};
use perfwatch_probes::gpu::Sharing;

use rig::{Bench, GENERAL, TYPE, fault, install, state, temp};

/// One GPU with two instances on seven places, and one that is whole.
const CUT: &str = r#"{"devices": [
    {"uuid": "GPU-cut", "name": "NVIDIA H100 80GB HBM3", "pci": "00000000:1B:00.0", "power_mw": 300000, "temperature_c": 50,
     "memory": {"total": 85520809984, "used": 3000}, "processes": {"compute": [{"pid": 7}, {"pid": 8}, {"pid": 9},
        {"pid": 10, "used": 70, "gpu_instance": 1}, {"pid": 10, "used": 30, "gpu_instance": 5},
        {"pid": 11, "used": 50000000000, "gpu_instance": 1}, {"pid": 11, "used": 50000000000, "gpu_instance": 5}]},
     "xids": [[0, 31]],
     "mig": {"instances": [null,
        {"uuid": "MIG-large", "name": "NVIDIA H100 80GB HBM3 MIG 3g.40gb",
         "memory": {"total": 42000000000, "used": 2000}, "processes": {"compute": [{"pid": 7, "used": 1000}, {"pid": 8}]},
         "gpm": {"1": 90, "2": 80, "5": 40, "10": 30}, "power_mw": 1},
        null, null,
        {"uuid": "MIG-small", "name": "NVIDIA H100 80GB HBM3", "attributes": {"slices": 1, "compute_slices": 1, "memory_mb": 9984},
         "memory": {"total": 10468982784, "used": 1000}, "processes": {"compute": [{"pid": 9, "used": 900}]},
         "process_utilization": [], "errors": {"nvmlDeviceGetProcessUtilization": "INVALID_ARGUMENT"}},
        null, null]}},
    {"uuid": "GPU-whole", "utilization": {"gpu": 20, "memory": 0}}]}"#;

#[test]
fn each_instance_is_a_device_with_its_own_memory_processes_and_units() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), CUT), |_| ());
    bench.sample();
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    let devices = bench.probe.devices();
    let of = |uuid: &str| devices.iter().find(|device| device.uuid == uuid).expect("it is there");
    let names: Vec<_> = devices.iter().map(|device| (device.uuid.as_str(), device.name.as_str())).collect();
    assert_eq!(
        names,
        [
            ("GPU-cut", "NVIDIA H100 80GB HBM3"),
            ("MIG-large", "NVIDIA H100 80GB HBM3 MIG 3g.40gb"),
            ("MIG-small", "NVIDIA H100 80GB HBM3 MIG 1g.10gb"),
            ("GPU-whole", "NVIDIA GPU"),
        ]
    );
    let parents: Vec<_> = devices.iter().map(|device| device.parent.as_deref()).collect();
    assert_eq!(parents, [None, Some("GPU-cut"), Some("GPU-cut"), None]);
    assert_eq!(of("MIG-small").pci, Reading::Value("00000000:1B:00.0".into()));
    let pids = |uuid| -> Vec<_> { of(uuid).processes.as_value().into_iter().flatten().map(|row| row.pid).collect() };
    assert_eq!((pids("MIG-large"), pids("MIG-small"), pids("GPU-cut")), (vec![7, 8], vec![9], vec![7, 8, 9, 10, 11]));
    let rows = of("GPU-cut").processes.as_value().expect("processes");
    assert_eq!(rows[3].used, Reading::Value(100), "what it holds in each instance");
    assert!(rows[4].used.as_value().is_none(), "more than there is: {:?}", rows[4]);
    let share = &of("MIG-small").processes.as_value().expect("processes")[0].sm;
    assert!(matches!(share, Reading::Unavailable(reason) if reason.cure.contains("MIG")), "{share:?}");
    let shared = ["GPU-cut", "MIG-large", "MIG-small", "GPU-whole"].map(|uuid| of(uuid).sharing);
    assert_eq!(shared, [Sharing::Mig, Sharing::TimeSliced, Sharing::Alone, Sharing::Unknown]);
    let int = |value| Some(Number::Int(value));
    let used = ["GPU-cut", "MIG-large", "MIG-small"].map(|uuid| bench.value(&gpu::MEMORY_USAGE, uuid, &[]));
    assert_eq!(used, [int(3000), int(2000), int(1000)]);
    assert_eq!(bench.value(&gpu::SM_ACTIVE, "MIG-large", &[]), Some(Number::Float(0.8)));
    assert_eq!(bench.value(&gpu::MEMORY_LIMIT, "MIG-large", &[]), int(42_000_000_000));
    let entity = bench.table.entity_of(bench.gpu("MIG-large")).expect("an entity");
    for attr in [Attr::fixed("hw.id", "MIG-large"), Attr::fixed("hw.parent", "GPU-cut")] {
        assert!(entity.attributes.contains(&attr), "{attr:?} in {entity:?}");
    }
}

#[test]
fn what_is_told_of_the_whole_alone_says_so_and_so_does_what_is_told_of_the_parts() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), CUT), |_| ());
    bench.sample();
    let (cut, small) = (bench.gpu("GPU-cut"), bench.gpu("MIG-small"));
    for metric in [
        &gpu::POWER,
        &gpu::UTILIZATION,
        &gpu::TEMPERATURE,
        &gpu::TEMPERATURE_MARGIN,
        &gpu::THROTTLE_TIME,
        &gpu::ERRORS,
        &gpu::RETIRED_PAGES,
        &gpu::XIDS,
    ] {
        let reason = bench.reason(metric, small);
        assert!(reason.text.contains("of the whole GPU") && reason.cure.contains("hw.parent"), "{reason:?}");
    }
    assert_eq!(bench.value(&gpu::POWER, "MIG-large", &[TYPE]), None, "nobody asks for it");
    assert!(bench.reason(&gpu::UTILIZATION, cut).cure.contains("its MIG instances"));
    assert_eq!(bench.value(&gpu::POWER, "GPU-cut", &[TYPE]), Some(Number::Float(300.0)));
    assert_eq!(bench.value(&gpu::UTILIZATION, "GPU-whole", &[GENERAL]), Some(Number::Float(0.2)));
    let xid = [Attr::int("perfwatch.gpu.xid.code", 31)];
    assert_eq!(bench.value(&gpu::XIDS, "GPU-cut", &xid), Some(Number::Int(1)));
    assert_eq!(bench.value(&gpu::STATUS, "MIG-small", &[state("ok"), TYPE]), Some(Number::Float(1.0)));
    assert_eq!(bench.value(&gpu::FAULT, "MIG-small", &[fault("row_remap_failed")]), None, "nobody says");
}

#[test]
fn instances_that_come_and_go_are_found_within_half_a_minute() {
    let dir = temp();
    let instance = |uuid: &str| format!(r#"{{"uuid": "{uuid}", "memory": {{"total": 100, "used": 10}}}}"#);
    // Two places are looked up at the start, each 30 s, and once more when something has changed. An error changes nothing.
    let places = "[6, 0,   0, 6, 0, 6,   999,   6, 6, 6, 6]";
    let scenario = format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "power_mw": 5000, "mig": {{"instances": [{}, {}]}},
            "errors": {{"nvmlDeviceGetMigDeviceHandleByIndex": {places}}}}}]}}"#,
        instance("MIG-0"),
        instance("MIG-1")
    );
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    let uuids = |bench: &Bench| -> Vec<_> { bench.probe.devices().iter().map(|device| device.uuid.clone()).collect() };
    bench.sample();
    let gone = bench.gpu("MIG-1");
    assert_eq!(uuids(&bench), ["GPU-a", "MIG-1"]);
    for _ in 0..29 {
        bench.sample();
        assert_eq!(uuids(&bench), ["GPU-a", "MIG-1"]);
    }
    bench.sample();
    bench.sample();
    assert_eq!(uuids(&bench), ["GPU-a", "MIG-0"]);
    assert!(bench.table.entity_of(gone).is_none(), "it retires");
    assert_eq!(bench.value(&gpu::MEMORY_USAGE, "MIG-0", &[]), Some(Number::Int(10)));
    assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(5.0)));
    for expected in [&["GPU-a", "MIG-0"][..], &["GPU-a"]] {
        bench.sample_after(30);
        bench.sample();
        assert_eq!(uuids(&bench), expected);
    }
    assert_eq!(bench.probe.devices()[0].sharing, Sharing::Mig, "in MIG mode, though nothing is left of it");
}

/// A GPU with one instance, whose calls fail in these ways.
fn one_instance(errors: &str, more: &str) -> String {
    format!(
        r#"{{"devices": [{{"uuid": "GPU-a", "power_mw": 5000, "mig": {{"instances": [
            {{"uuid": "MIG-0", "memory": {{"total": 100, "used": 10}}, "processes": {{"compute": [{{"pid": 7}}]}}, "errors": {{{errors}}}}}]}}{more}}}]}}"#
    )
}

#[test]
fn an_instance_that_the_driver_does_not_know_any_more_is_looked_for_at_once() {
    let calls = [
        ("nvmlDeviceGetMemoryInfo_v2", "[0, 0, 2]", 3),
        ("nvmlDeviceGetComputeRunningProcesses_v3", "[0, 6]", 4),
        // Handles are used again: it is asked once at the start, and each time that its processes are.
        ("nvmlDeviceGetUUID", "[0, 0, 2]", 4),
    ];
    for (symbol, codes, samples) in calls {
        let dir = temp();
        // It is there at the start, and not when it is looked for.
        let places = r#", "errors": {"nvmlDeviceGetMigDeviceHandleByIndex": [0, 6]}"#;
        let scenario = one_instance(&format!(r#""{symbol}": {codes}"#), places);
        let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
        bench.sample();
        let gone = bench.gpu("MIG-0");
        for _ in 1..samples {
            bench.sample();
            assert_eq!(bench.probe.devices().len(), 2, "{symbol}");
        }
        bench.sample();
        assert!(bench.table.entity_of(gone).is_none(), "{symbol}: it retires");
        assert_eq!(bench.probe.devices().len(), 1, "{symbol}");
        assert_eq!(bench.value(&gpu::POWER, "GPU-a", &[TYPE]), Some(Number::Float(5.0)), "{symbol}");
    }
}

#[test]
fn an_xid_error_that_names_an_instance_is_counted_once_and_on_its_gpu() {
    let dir = temp();
    // 94, of one instance; 48, of the whole; and one of an instance that nobody knows.
    let more = r#", "xids": [[0, 94, 1, 0], [0, 94, 2, 0], [0, 48], [0, 43, 9, 9]]"#;
    let mut bench = Bench::open(install(dir.path(), &one_instance("", more)), |_| ());
    for _ in 0..2 {
        bench.sample();
        let count = |code| bench.value(&gpu::XIDS, "GPU-a", &[Attr::int("perfwatch.gpu.xid.code", code)]);
        assert_eq!([94, 48, 43].map(count), [2, 1, 1].map(|count| Some(Number::Int(count))));
        let instance = bench.gpu("MIG-0");
        assert!(bench.table.find(&gpu::XIDS, instance, &[Attr::int("perfwatch.gpu.xid.code", 94)]).is_none());
        assert!(bench.reason(&gpu::XIDS, instance).cure.contains("hw.parent"), "where they are told");
    }
}

#[test]
fn xid_errors_are_told_once_each_though_the_instances_change() {
    let dir = temp();
    let more = r#", "xids": [[0, 31]], "errors": {"nvmlDeviceGetMigDeviceHandleByIndex": [0, 6]}"#;
    let mut bench =
        Bench::open(install(dir.path(), &one_instance(r#""nvmlDeviceGetMemoryInfo_v2": [0, 2]"#, more)), |_| ());
    for _ in 0..5 {
        bench.sample();
        let xid = [Attr::int("perfwatch.gpu.xid.code", 31)];
        assert_eq!(bench.value(&gpu::XIDS, "GPU-a", &xid), Some(Number::Int(1)));
    }
    assert_eq!(bench.probe.devices().len(), 1);
}

#[test]
fn units_of_an_instance_are_asked_of_its_gpu_by_the_number_of_the_gpu_instance() {
    let dir = temp();
    let log = dir.path().join("calls");
    // Numbers are not those of the slots; two compute instances share a GPU instance, of which GPM tells as one.
    let instance = |uuid: &str, id: u32, percent: u32| {
        let gpm = format!(r#""gpm": {{"1": {percent}, "2": {percent}}}"#);
        format!(r#"{{"uuid": "{uuid}", "gpu_instance": {id}, "memory": {{"total": 100, "used": 10}}, {gpm}}}"#)
    };
    let instances =
        [instance("MIG-0", 9, 90), instance("MIG-1", 1, 20), instance("MIG-2", 5, 7), instance("MIG-3", 5, 7)];
    let scenario = format!(
        r#"{{"call_log": "{}", "devices": [{{"uuid": "GPU-a", "power_mw": 5000, "gpm": {{"1": 50, "2": 50}},
            "mig": {{"instances": [{}]}}}}]}}"#,
        log.display(),
        instances.join(",")
    );
    let mut bench = Bench::open(install(dir.path(), &scenario), |_| ());
    bench.sample();
    std::thread::sleep(Duration::from_millis(300));
    bench.sample();
    let active = ["GPU-a", "MIG-0", "MIG-1", "MIG-2"].map(|uuid| bench.value(&gpu::SM_ACTIVE, uuid, &[]));
    assert_eq!(active, [Some(0.5), Some(0.9), Some(0.2), None].map(|share| share.map(Number::Float)));
    assert!(bench.reason(&gpu::SM_ACTIVE, bench.gpu("MIG-3")).text.contains("one of several compute instances"));
    let calls = std::fs::read_to_string(log).expect("a log");
    // What compares samples is given no handle; the log names whose they are.
    let asked =
        |line: &&str| line.starts_with("nvmlGpm") && !line.starts_with("nvmlGpmMetricsGet") && line.contains('/');
    assert_eq!(calls.lines().find(asked), None, "GPM asked for with an instance's handle");
    assert!(calls.contains("nvmlGpmMigSampleGet 0\n") && calls.contains("nvmlGpmSampleGet 0\n"));
}

#[test]
fn a_call_that_fails_is_no_driver_that_answers_nothing_but_errors() {
    let lists = ["Compute", "Graphics", "MPSCompute"].map(|of| format!("nvmlDeviceGet{of}RunningProcesses_v3"));
    let fails = |symbol: &str| format!(r#""{symbol}": 999,"#);
    let processes =
        lists.iter().map(|list| fails(list)).collect::<String>() + &fails("nvmlDeviceGetProcessUtilization");
    let told = |processes: &str| {
        let dir = temp();
        let errors = format!(r#"{processes} "nvmlDeviceGetMemoryInfo_v2": [0, 999, 999, 0, 999, 0]"#);
        let mut bench = Bench::open(install(dir.path(), &one_instance(&errors, "")), |_| ());
        let tick = |_| {
            bench.sample();
            let failed = bench.value(&gpu::FAULT, "MIG-0", &[fault("driver_failed")]).map(Number::as_f64);
            (bench.value(&gpu::MEMORY_USAGE, "MIG-0", &[]).is_some(), failed)
        };
        (0..6).map(tick).collect::<Vec<_>>()
    };
    let (well, silent, failing) = ((true, Some(0.0)), (false, Some(0.0)), (false, Some(1.0)));
    assert_eq!(told(""), [well, silent, silent, well, silent, well], "its processes are told meanwhile");
    assert_eq!(told(&processes), [well, failing, failing, well, failing, well], "nothing is");
}
