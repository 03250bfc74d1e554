//! A GPU that falls off the bus under a running agent, and comes back.

mod rig;

use std::path::Path;
use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, Number};
use serde_json::{Value, json};

use rig::{Bench, TYPE, fault, install, state, temp};

fn is_lost(bench: &Bench) -> Option<Number> {
    bench.value(&gpu::FAULT, "GPU-a", &[fault("lost")])
}

fn power(bench: &Bench, uuid: &str) -> Option<Number> {
    bench.value(&gpu::POWER, uuid, &[TYPE])
}

/// How often a call was made on a device since the log was that long.
fn made(log: &Path, since: usize, call: &str) -> usize {
    std::fs::read_to_string(log).unwrap_or_default()[since..].lines().filter(|line| *line == call).count()
}

/// A second after NVML was initialised a device is lost that is to be: late enough for a first sample on a busy machine. After this
/// it has been.
const LOST: Duration = Duration::from_millis(1_100);

/// A device that is lost by this series, beside one that is well.
fn scenario(log: &Path, lost: &Value) -> Value {
    let device = |uuid: &str, watts: u32| {
        json!({"uuid": uuid, "power_mw": watts * 1000, "power_limit_mw": 700_000, "temperature_c": 50,
            "utilization": {"gpu": 50, "memory": 20}, "energy_mj": {"start": 1000, "per_second": 350_000},
            "gpm": {"1": 50, "2": 40}, "processes": {"compute": [{"pid": 7, "used": 5}]}, "xids": []})
    };
    let (mut a, mut b) = (device("GPU-a", 100), device("GPU-b", 200));
    a["lost"] = lost.clone();
    b["xids"] = json!([[0, 31]]);
    json!({"call_log": log, "devices": [a, b]})
}

#[test]
fn a_lost_gpu_is_there_again_after_the_driver_was_initialised_anew_and_the_others_lose_nothing() {
    let dir = temp();
    let log = dir.path().join("calls");
    let lost = json!({"at": [[0, 0], [1.0, 1]]});
    let library = install(dir.path(), &scenario(&log, &lost).to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let (a, b) = (bench.gpu("GPU-a"), bench.gpu("GPU-b"));
    assert_eq!((power(&bench, "GPU-a"), is_lost(&bench)), (Some(Number::Float(100.0)), Some(Number::Float(0.0))));
    std::thread::sleep(LOST);
    bench.sample();
    assert_eq!((power(&bench, "GPU-a"), is_lost(&bench)), (None, Some(Number::Float(1.0))));

    fake_nvml::rewrite(&library, &scenario(&log, &json!(0)).to_string()).expect("rewritten");
    let since = std::fs::read_to_string(&log).expect("a log").len();
    for _ in 0..9 {
        bench.sample();
        assert_eq!((power(&bench, "GPU-a"), is_lost(&bench)), (None, Some(Number::Float(1.0))));
        assert!(power(&bench, "GPU-b").is_some());
    }
    std::thread::sleep(Duration::from_millis(250));
    assert_eq!(made(&log, since, "nvmlDeviceGetTemperature 0"), 9, "one call a second says that it still is");
    for call in ["nvmlGpmSampleGet", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetComputeRunningProcesses_v3"] {
        assert_eq!(made(&log, since, &format!("{call} 0")), 0, "{call}");
        assert!(made(&log, since, &format!("{call} 1")) > 0, "{call}");
    }
    assert_eq!(made(&log, since, "nvmlInit_v2"), 0);

    // Ten seconds after it was lost; the next answer is the new session's.
    bench.sample();
    assert_eq!((is_lost(&bench), power(&bench, "GPU-b").is_some()), (Some(Number::Float(1.0)), true));
    std::thread::sleep(Duration::from_millis(250));
    bench.sample();
    assert_eq!((made(&log, since, "nvmlInit_v2"), made(&log, since, "nvmlShutdown")), (1, 1));
    assert_eq!((is_lost(&bench), bench.gpu("GPU-a"), bench.gpu("GPU-b")), (Some(Number::Float(0.0)), a, b));
    assert!(power(&bench, "GPU-a").is_some() && power(&bench, "GPU-b").is_some());
    assert_eq!(bench.value(&gpu::SM_ACTIVE, "GPU-b", &[]), Some(Number::Float(0.4)));
    assert_eq!(bench.value(&gpu::POWER_LIMIT, "GPU-a", &[]), Some(Number::Float(700.0)));
    assert!(bench.probe.devices().iter().all(|device| device.processes.as_value().is_some_and(|rows| rows.len() == 1)));
}

#[test]
fn a_gpu_that_stays_lost_is_looked_for_ever_more_seldom() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = Bench::open(install(dir.path(), &scenario(&log, &json!(1)).to_string()), |_| ());
    // It cannot be opened at all.
    let mut at = Vec::<u32>::new();
    let mut seen = 1;
    for second in 0..=200 {
        bench.sample();
        // It looks after an answer, at any time until the next one: each look is counted at the first count that has it.
        let made = made(&log, 0, "nvmlInit_v2");
        at.extend((seen..made).map(|_| second));
        seen = made;
        assert!(power(&bench, "GPU-b").is_some(), "{second}");
    }
    let gaps: Vec<_> = at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(
        at[0] >= 10 && gaps.len() >= 3 && gaps.iter().zip([20, 40, 80]).all(|(gap, wait)| gap.abs_diff(wait) <= 1),
        "{at:?}"
    );
}

#[test]
fn a_gpu_that_is_put_in_while_another_is_missing_is_found_and_so_is_the_missing_one() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut without = scenario(&log, &json!(1));
    let library = install(dir.path(), &without.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    assert_eq!(bench.probe.devices().len(), 1);
    without["devices"][0]["lost"] = json!(0);
    without["devices"].as_array_mut().expect("a list").push(json!({"uuid": "GPU-new", "power_mw": 5000}));
    fake_nvml::rewrite(&library, &without.to_string()).expect("rewritten");
    bench.sample_after(10);
    bench.sample();
    assert_eq!(power(&bench, "GPU-new"), Some(Number::Float(5.0)));
    assert!(power(&bench, "GPU-a").is_some() && bench.probe.devices().len() == 3);
}

#[test]
fn xid_errors_are_told_once_each_though_the_sets_of_events_change() {
    let dir = temp();
    let log = dir.path().join("calls");
    let code = |code| [Attr::int("perfwatch.gpu.xid.code", code)];
    let mut scenario = scenario(&log, &json!({"at": [[0, 0], [1.0, 1]]}));
    // The last answer of the session that ends looks at errors first, and then takes long; the second one comes meanwhile.
    scenario["devices"][1]["xids"] = json!([[0, 31], [2.2, 13]]);
    scenario["devices"][1]["delays_ms"] = json!({"nvmlDeviceGetTemperature": [0, 0, 2000, 0]});
    let library = install(dir.path(), &scenario.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    std::thread::sleep(LOST);
    bench.sample();
    scenario["devices"][0]["lost"] = json!(0);
    scenario["devices"][1]["xids"] = json!([]);
    fake_nvml::rewrite(&library, &scenario.to_string()).expect("rewritten");
    bench.sample_after(10);
    for _ in 0..2 {
        bench.sample();
        assert!(power(&bench, "GPU-a").is_some(), "the new session's");
        for told in [31, 13] {
            assert_eq!(bench.value(&gpu::XIDS, "GPU-b", &code(told)), Some(Number::Int(1)), "{told}");
        }
    }
}

#[test]
fn a_gpu_that_a_container_may_not_open_any_more_is_not_lost_and_is_not_looked_for() {
    let dir = temp();
    for (code, in_container, expected) in [
        ("NO_PERMISSION", true, "no_device_in_container: "),
        ("NO_PERMISSION", false, "the operating system denies access"),
        ("GPU_IS_LOST", true, "the GPU has fallen off the bus"),
    ] {
        let log = dir.path().join(format!("calls of {code} {in_container}"));
        let mut devices = scenario(&log, &json!(0));
        devices["devices"][1]["errors"] = json!({"nvmlDeviceGetTemperature": [0, "LIB_RM_VERSION_MISMATCH"]});
        let library = install(&dir.path().join(format!("{code}{in_container}")), &devices.to_string());
        let mut bench = Bench::open(library.clone(), |context| context.in_container = in_container);
        bench.sample();
        let a = bench.gpu("GPU-a");
        bench.sample();
        devices["devices"][1]["errors"] = json!({});
        devices["devices"][0]["errors"] = json!({"nvmlDeviceGetUUID": code});
        fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
        bench.sample_after(10);
        assert!(power(&bench, "GPU-b").is_some(), "{code}");
        assert!(bench.reason(&gpu::POWER, a).text.starts_with(expected), "{code}: {:?}", bench.reason(&gpu::POWER, a));
        let is_missing = code == "GPU_IS_LOST";
        assert_eq!(is_lost(&bench), is_missing.then_some(Number::Float(1.0)), "{code}");
        let before = made(&log, 0, "nvmlInit_v2");
        bench.sample_after(30);
        bench.sample();
        assert_eq!(made(&log, 0, "nvmlInit_v2") > before, is_missing, "{code}");
    }
}

#[test]
fn each_gpu_that_cannot_be_opened_has_its_own_reason() {
    let dir = temp();
    let device = |uuid: &str, errors: &Value| json!({"uuid": uuid, "power_mw": 1000, "errors": errors});
    let ends = json!({"nvmlDeviceGetPowerUsage": [0, "LIB_RM_VERSION_MISMATCH"]});
    let well = json!({});
    let before = [device("GPU-a", &well), device("GPU-b", &well), device("GPU-c", &ends)];
    let library = install(dir.path(), &json!({"devices": before}).to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    bench.sample();
    let refused = |code: &str| json!({"nvmlDeviceGetUUID": code});
    let after =
        [device("GPU-a", &refused("GPU_IS_LOST")), device("GPU-b", &refused("TIMEOUT")), device("GPU-c", &well)];
    fake_nvml::rewrite(&library, &json!({"devices": after}).to_string()).expect("rewritten");
    bench.sample_after(10);
    let text = |uuid| bench.reason(&gpu::POWER, bench.gpu(uuid)).text.clone();
    assert_eq!((text("GPU-a").contains("off the bus"), text("GPU-b").contains("timed out")), (true, true));
    assert_eq!(is_lost(&bench), Some(Number::Float(1.0)));
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("lost")]), None, "nobody says so");
}

#[test]
fn an_instance_that_is_gone_retires_though_another_gpu_cannot_be_opened() {
    let dir = temp();
    let instance = json!({"uuid": "MIG-a", "memory": {"total": 100, "used": 10}});
    let devices = |instances: &Value| {
        json!({"devices": [{"uuid": "GPU-cut", "power_mw": 1000, "mig": {"instances": instances}},
            {"uuid": "GPU-dead", "errors": {"nvmlDeviceGetUUID": [0, "GPU_IS_LOST"]}, "power_mw": 1000,
             "lost": {"at": [[0, 0], [1.0, 1]]}}]})
        .to_string()
    };
    let library = install(dir.path(), &devices(&json!([instance])));
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let (gone, dead) = (bench.gpu("MIG-a"), bench.gpu("GPU-dead"));
    std::thread::sleep(LOST);
    bench.sample();
    let without = devices(&json!([null])).replace("[0,\"GPU_IS_LOST\"]", "15");
    fake_nvml::rewrite(&library, &without).expect("rewritten");
    bench.sample_after(10);
    bench.sample();
    assert!(bench.table.entity_of(gone).is_none(), "it was destroyed");
    assert_eq!(bench.gpu("GPU-dead"), dead);
    assert_eq!(bench.value(&gpu::FAULT, "GPU-dead", &[fault("lost")]), Some(Number::Float(1.0)));
}

#[test]
fn a_lost_gpu_does_not_silence_the_errors_of_the_others() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut scenario = scenario(&log, &json!({"at": [[0, 0], [1.0, 1]]}));
    scenario["devices"][1]["xids"] = json!([[0, 31], [2.0, 13]]);
    scenario["devices"].as_array_mut().expect("a list").push(json!({"uuid": "GPU-mute", "power_mw": 1000}));
    let mut bench = Bench::open(install(dir.path(), &scenario.to_string()), |_| ());
    bench.sample();
    assert!(
        bench.reason(&gpu::XIDS, bench.gpu("GPU-mute")).text.contains("does not support"),
        "and not that it had none"
    );
    std::thread::sleep(LOST);
    for _ in 0..2 {
        bench.sample();
        assert!(bench.reasons(&gpu::XIDS, bench.gpu("GPU-b")).is_empty());
        assert!(bench.reason(&gpu::XIDS, bench.gpu("GPU-a")).text.contains("off the bus"));
    }
    std::thread::sleep(Duration::from_secs(1));
    bench.sample();
    for code in [31, 13] {
        let code = [Attr::int("perfwatch.gpu.xid.code", code)];
        assert_eq!(bench.value(&gpu::XIDS, "GPU-b", &code), Some(Number::Int(1)));
    }
}

/// What is told of a device or of the machine: the one fault that it has.
fn faults(bench: &Bench, uuid: Option<&str>) -> Vec<&'static str> {
    let on = Some(Number::Float(1.0));
    let told = |known: &&'static str| match uuid {
        Some(uuid) => bench.value(&gpu::FAULT, uuid, &[fault(known)]) == on,
        None => bench.of_machine(&gpu::FAULT, &[fault(known)]) == on,
    };
    ["lost", "reset_required", "unresponsive", "driver_failed"].into_iter().filter(told).collect()
}

#[test]
fn a_gpu_that_fell_off_the_bus_stays_lost_whatever_the_driver_answers_when_it_is_opened_again() {
    for (in_container, code) in [(false, "UNKNOWN"), (true, "UNKNOWN"), (true, "GPU_NOT_FOUND")] {
        let dir = temp();
        let log = dir.path().join("calls");
        let mut devices = scenario(&log, &json!({"at": [[0, 0], [1.0, 1]]}));
        let library = install(dir.path(), &devices.to_string());
        let mut bench = Bench::open(library.clone(), |context| context.in_container = in_container);
        bench.sample();
        std::thread::sleep(LOST);
        bench.sample();
        assert_eq!(faults(&bench, Some("GPU-a")), ["lost"]);
        devices["devices"][0]["errors"] = json!({"nvmlDeviceGetUUID": code});
        fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
        bench.sample_after(10);
        for _ in 0..3 {
            bench.sample();
            assert_eq!(faults(&bench, Some("GPU-a")), ["lost"], "{code} {in_container}");
            assert!(power(&bench, "GPU-b").is_some());
        }
        assert_eq!(bench.value(&gpu::STATUS, "GPU-a", &[state("failed"), TYPE]), Some(Number::Float(1.0)));
        let before = made(&log, 0, "nvmlInit_v2");
        bench.sample_after(20);
        bench.sample();
        assert_eq!(made(&log, 0, "nvmlInit_v2"), before + 1, "it is looked for: {code} {in_container}");
    }
}

#[test]
fn the_only_gpu_stays_lost_when_it_cannot_be_opened_any_more() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut devices = scenario(&log, &json!({"at": [[0, 0], [1.0, 1]]}));
    devices["devices"].as_array_mut().expect("a list").truncate(1);
    let library = install(dir.path(), &devices.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    std::thread::sleep(LOST);
    bench.sample();
    devices["devices"][0]["errors"] = json!({"nvmlDeviceGetUUID": "GPU_IS_LOST"});
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    bench.sample_after(10);
    for _ in 0..3 {
        bench.sample();
        assert_eq!(faults(&bench, Some("GPU-a")), ["lost"]);
    }
    assert!(bench.reason(&gpu::POWER, bench.gpu("GPU-a")).text.contains("off the bus"));
    devices["devices"][0]["errors"] = json!({});
    devices["devices"][0]["lost"] = json!(0);
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    bench.sample_after(60);
    assert!(power(&bench, "GPU-a").is_some() && faults(&bench, Some("GPU-a")).is_empty());
}

#[test]
fn a_gpu_that_could_not_be_opened_since_the_agent_began_is_told_of_the_machine_beside_those_that_could() {
    for (in_container, code, expected) in [
        (false, "GPU_IS_LOST", &["lost"][..]),
        (true, "GPU_IS_LOST", &["lost"]),
        (false, "UNKNOWN", &["driver_failed"]),
        // It may be another container's.
        (true, "UNKNOWN", &[]),
        (false, "NO_PERMISSION", &[]),
    ] {
        let dir = temp();
        let mut devices = scenario(&dir.path().join("calls"), &json!(0));
        devices["devices"][0]["errors"] = json!({"nvmlDeviceGetUUID": code});
        let library = install(dir.path(), &devices.to_string());
        let mut bench = Bench::open(library.clone(), |context| context.in_container = in_container);
        for _ in 0..2 {
            bench.sample();
            assert_eq!(faults(&bench, None), expected, "{code} {in_container}");
            assert!(power(&bench, "GPU-b").is_some() && faults(&bench, Some("GPU-b")).is_empty());
            let why: Vec<_> = bench.reasons(&gpu::UTILIZATION, bench.host).iter().map(|why| &why.text).collect();
            assert_eq!(why.len(), expected.len(), "{why:?}");
            assert!(why.iter().all(|why| why.starts_with("GPU 0 cannot be opened: ")), "{why:?}");
        }
        if expected.is_empty() {
            let before = made(&dir.path().join("calls"), 0, "nvmlInit_v2");
            bench.sample_after(30);
            bench.sample();
            assert_eq!(made(&dir.path().join("calls"), 0, "nvmlInit_v2"), before, "nobody looks for it: {code}");
        }
        if expected == ["lost"] {
            devices["devices"][0]["errors"] = json!({});
            fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
            bench.sample_after(11);
            bench.sample();
            assert!(power(&bench, "GPU-a").is_some() && faults(&bench, None).is_empty());
        }
    }
}

#[test]
fn a_gpu_that_answers_nothing_but_errors_has_failed_though_the_others_answer() {
    for code in ["UNKNOWN", "TIMEOUT"] {
        let dir = temp();
        let log = dir.path().join("calls");
        let mut devices = scenario(&log, &json!(0));
        let calls = fake_nvml::SYMBOLS.iter().filter(|call| {
            (call.starts_with("nvmlDeviceGet") || call.starts_with("nvmlGpm"))
                && ["Handle", "Count", "UUID", "Name", "PciInfo", "Alloc", "Free"]
                    .iter()
                    .all(|part| !call.contains(part))
        });
        let failing: serde_json::Map<_, _> =
            calls.map(|call| ((*call).to_owned(), json!({"at": [[0, 0], [1.0, code]]}))).collect();
        devices["devices"][0]["errors"] = failing.into();
        let mut bench = Bench::open(install(dir.path(), &devices.to_string()), |_| ());
        bench.sample();
        assert!(faults(&bench, Some("GPU-a")).is_empty());
        std::thread::sleep(LOST);
        bench.sample();
        assert_eq!(faults(&bench, Some("GPU-a")), ["driver_failed"], "{code}");
        assert_eq!(bench.value(&gpu::STATUS, "GPU-a", &[state("failed"), TYPE]), Some(Number::Float(1.0)));
        assert!(power(&bench, "GPU-b").is_some() && faults(&bench, Some("GPU-b")).is_empty(), "{code}");
        let before = made(&log, 0, "nvmlInit_v2");
        bench.sample_after(10);
        bench.sample();
        assert_eq!(made(&log, 0, "nvmlInit_v2"), before + 1, "NVML is begun anew for its sake: {code}");
    }
}

#[test]
fn a_gpu_that_is_plugged_in_while_all_is_well_is_found() {
    let dir = temp();
    let mut devices = scenario(&dir.path().join("calls"), &json!(0));
    let library = install(dir.path(), &devices.to_string());
    let gpus = dir.path().join("gpus");
    std::fs::create_dir_all(gpus.join("0000:17:00.0")).expect("created");
    let mut bench = Bench::open(library.clone(), |context| context.nvidia_gpus.clone_from(&gpus));
    bench.sample();
    bench.sample();
    let (a, b) = (bench.gpu("GPU-a"), bench.gpu("GPU-b"));
    devices["devices"].as_array_mut().expect("a list").insert(0, json!({"uuid": "GPU-new", "power_mw": 5000}));
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    std::fs::create_dir(gpus.join("0000:16:00.0")).expect("created");
    bench.sample_after(30);
    bench.sample();
    assert_eq!(power(&bench, "GPU-new"), Some(Number::Float(5.0)));
    assert_eq!((bench.gpu("GPU-a"), bench.gpu("GPU-b"), bench.probe.devices().len()), (a, b, 3));
    assert!(power(&bench, "GPU-a").is_some() && power(&bench, "GPU-b").is_some());
}

#[test]
fn what_was_read_before_is_read_anew_where_the_driver_failed_in_between() {
    let dir = temp();
    let mut devices = scenario(&dir.path().join("calls"), &json!({"at": [[0, 0], [1.0, 1]]}));
    devices["devices"][1]["mig"] = json!({"instances": [{"uuid": "MIG-b", "memory": {"total": 100, "used": 10}}]});
    let library = install(dir.path(), &devices.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    std::thread::sleep(LOST);
    bench.sample();
    assert_eq!(faults(&bench, Some("GPU-a")), ["lost"]);
    fake_nvml::rewrite(&library, r#"{"init": "UNKNOWN"}"#).expect("rewritten");
    bench.sample_after(10);
    bench.sample();
    assert!(power(&bench, "GPU-b").is_none());
    devices["devices"][0]["lost"] = json!(0);
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    bench.sample_after(10);
    let limit = bench.value(&gpu::POWER_LIMIT, "GPU-b", &[]);
    assert_eq!((power(&bench, "GPU-b").is_some(), limit), (true, Some(Number::Float(700.0))));
    assert!(bench.reason(&gpu::POWER, bench.gpu("MIG-b")).text.contains("of the whole GPU"));
    assert!(faults(&bench, Some("GPU-a")).is_empty());
}

#[test]
fn a_lost_gpu_that_the_driver_shows_no_more_stays_lost_until_it_is_back() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut devices = scenario(&log, &json!({"at": [[0, 0], [1.0, 1]]}));
    let library = install(dir.path(), &devices.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let a = bench.gpu("GPU-a");
    std::thread::sleep(LOST);
    bench.sample();
    let lost = devices["devices"].as_array_mut().expect("a list").remove(0);
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    bench.sample_after(10);
    for _ in 0..3 {
        bench.sample();
        assert_eq!(faults(&bench, Some("GPU-a")), ["lost"]);
        assert!(bench.reason(&gpu::POWER, a).text.contains("shows it no more"));
        assert!(power(&bench, "GPU-b").is_some());
    }
    let mut back = lost;
    back["lost"] = json!(0);
    devices["devices"].as_array_mut().expect("a list").push(back);
    fake_nvml::rewrite(&library, &devices.to_string()).expect("rewritten");
    bench.sample_after(20);
    bench.sample();
    assert!(power(&bench, "GPU-a").is_some() && faults(&bench, Some("GPU-a")).is_empty());
    assert_eq!(bench.gpu("GPU-a"), a);
    let before = made(&log, 0, "nvmlInit_v2");
    bench.sample_after(600);
    bench.sample();
    assert_eq!(made(&log, 0, "nvmlInit_v2"), before, "nothing is missing any more");
}
