//! An agent that lets go of its GPUs for a while, and takes them back.

mod rig;

use std::path::Path;
use std::time::Duration;

use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{AbsenceKind, Attr, GpuSlot, Number, Reason, Sharing, Stamp};
use serde_json::{Value, json};

use rig::{Bench, GENERAL, TYPE, fault, install, now, state, temp, wait_for};

/// As long as a call hangs: longer than whoever lets go waits for it.
const HANG_MS: u64 = 10_000;

/// A device with GPM and one without, whose energy begins anew with each initialisation, as after a reset.
fn scenario(log: &Path) -> Value {
    let device = |uuid: &str| {
        json!({"uuid": uuid, "name": "NVIDIA H100", "power_mw": 350_000, "power_limit_mw": 700_000, "temperature_c": 50,
            "utilization": {"gpu": 50, "memory": 20}, "energy_mj": {"start": 1_000, "per_second": 350_000},
            "processes": {"compute": [{"pid": 7, "used": 5}]}, "xids": [[0, 31]]})
    };
    let (mut a, b) = (device("GPU-a"), device("GPU-b"));
    a["gpm"] = json!({"1": 50, "2": 40});
    json!({"call_log": log, "devices": [a, b]})
}

/// Lines of the log of calls.
fn calls(log: &Path) -> Vec<String> {
    std::fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect()
}

fn release(bench: &Bench, seconds: u64) -> Result<bool, Reason> {
    let ns = seconds * 1_000_000_000;
    bench.probe.grip().release(Stamp { mono_ns: bench.now.mono_ns + ns, wall_ns: bench.now.wall_ns + ns })
}

fn number(bench: &Bench, metric: &perfwatch_model::MetricDef, uuid: &str) -> Option<Number> {
    bench.value(metric, uuid, &[TYPE])
}

fn has_power(bench: &Bench) -> bool {
    ["GPU-a", "GPU-b"].iter().all(|uuid| {
        let entity = bench.table.find_entity(perfwatch_model::EntityKind::Gpu, uuid);
        entity.is_some_and(|_| number(bench, &gpu::POWER, uuid).is_some())
    })
}

/// Waits for what the driver does while no time passes for the agent.
fn wait_still(bench: &mut Bench, wanted: impl Fn(&Bench) -> bool) {
    let began = now();
    while !wanted(bench) {
        assert!(began.elapsed() < Duration::from_mins(1), "nothing came: {:?}", bench.tick.absent.first());
        std::thread::sleep(Duration::from_millis(20));
        bench.sample_after(0);
    }
}

fn energy(bench: &Bench) -> Option<u64> {
    number(bench, &gpu::ENERGY, "GPU-a")?.as_int()
}

#[test]
fn nothing_is_called_from_the_answer_on_until_it_is_taken_back_and_then_all_goes_on() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = Bench::open(install(dir.path(), &scenario(&log).to_string()), |_| ());
    wait_for(&mut bench, |bench| energy(bench).is_some());
    let (a, b) = (bench.gpu("GPU-a"), bench.gpu("GPU-b"));
    let (before, drawn) = (bench.table.find(&gpu::POWER, a, &[TYPE]), energy(&bench).expect("read"));

    assert_eq!(release(&bench, 600), Ok(true), "it was open");
    let made = calls(&log);
    assert_eq!(made.last().map(String::as_str), Some("nvmlShutdown"), "shut down before the answer");
    for _ in 0..5 {
        bench.sample();
        // Longer than from one look at the units to the next.
        std::thread::sleep(Duration::from_millis(120));
        for (uuid, entity) in [("GPU-a", a), ("GPU-b", b)] {
            let reason = bench.reason(&gpu::UTILIZATION, entity);
            assert!(reason.text.starts_with("let go of until 03:"), "{reason:?}");
            assert!(
                reason.text.ends_with(" UTC by this agent") && reason.cure.contains("`perfwatch gpus take`"),
                "{reason:?}"
            );
            assert_eq!(bench.value(&gpu::UTILIZATION, uuid, &[GENERAL]), None);
            let told = bench.value(&gpu::XIDS, uuid, &[Attr::int("perfwatch.gpu.xid.code", 31)]);
            assert_eq!(
                (told, bench.reason(&gpu::XIDS, entity)),
                (Some(Number::Int(1)), reason),
                "of more nobody hears"
            );
            for known in ["driver_failed", "lost", "unresponsive"] {
                assert_eq!(bench.value(&gpu::FAULT, uuid, &[fault(known)]), None, "{known}");
            }
            assert_eq!(bench.value(&gpu::STATUS, uuid, &[state("ok"), TYPE]), None);
            // What is not called unavailable stands as it was last.
            assert_eq!([bench.reason(&gpu::FAULT, entity), bench.reason(&gpu::STATUS, entity)], [reason; 2]);
        }
        for device in bench.probe.devices() {
            assert_eq!((&device.slots, device.sharing), (&[GpuSlot::default(); SLOTS], Sharing::Unknown));
            assert!(device.processes.as_value().is_none(), "who uses it is unknown, and not nobody");
        }
        assert!(!bench.probe.is_stretched());
    }
    assert_eq!(calls(&log), made, "not one call");

    assert!(bench.probe.grip().take());
    wait_for(&mut bench, |bench| energy(bench).is_some());
    assert_eq!((bench.gpu("GPU-a"), bench.table.find(&gpu::POWER, a, &[TYPE])), (a, before), "the same series");
    let since = energy(&bench).expect("read") - drawn;
    assert!(since < 100_000_000, "{since} mJ more: it counts on from where it was, and not from 0 or anew");
    assert_eq!(calls(&log).iter().filter(|call| *call == "nvmlInit_v2").count(), 2);
    wait_for(&mut bench, has_power);
    wait_for(&mut bench, |bench| {
        bench.probe.devices().iter().all(|device| device.processes.as_value().is_some_and(|rows| rows.len() == 1))
    });
    wait_for(&mut bench, |bench| bench.value(&gpu::SM_ACTIVE, "GPU-a", &[]) == Some(Number::Float(0.4)));
    assert!(!bench.probe.grip().take(), "it has not let go of anything");
}

#[test]
fn it_ends_by_itself_at_the_time_that_was_given_last() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = Bench::open(install(dir.path(), &scenario(&log).to_string()), |_| ());
    wait_for(&mut bench, has_power);
    assert_eq!(release(&bench, 5), Ok(true));
    assert_eq!(release(&bench, 20), Ok(false), "it was not open any more");
    let made = calls(&log);
    bench.sample_after(19);
    assert!(!has_power(&bench) && calls(&log) == made);
    bench.sample_after(1);
    wait_for(&mut bench, has_power);
}

#[test]
fn a_driver_that_hangs_is_named_and_let_go_of_as_soon_as_the_call_returns() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut played = scenario(&log);
    played["devices"][1]["delays_ms"] = json!({"nvmlDeviceGetUtilizationRates": [0, 0, HANG_MS, 0]});
    let library = install(dir.path(), &played.to_string());
    let mut bench = Bench::open(library, |context| context.budget = Duration::from_millis(200));
    let is_hung = |bench: &Bench| {
        let entity = bench.table.find_entity(perfwatch_model::EntityKind::Gpu, "GPU-b");
        let reasons = entity.map(|entity| bench.reasons(&gpu::POWER, entity)).unwrap_or_default();
        reasons.iter().any(|reason| reason.text.contains("`nvmlDeviceGetUtilizationRates`"))
    };
    wait_for(&mut bench, is_hung);
    let asked = now();
    let stuck = release(&bench, 6_000).expect_err("the driver hangs");
    let took = asked.elapsed();
    assert!(took < Duration::from_millis(HANG_MS / 2), "it says so after {took:?}");
    assert_eq!(
        stuck.text,
        "the agent still has the NVIDIA driver open: `nvmlDeviceGetUtilizationRates` has not returned"
    );
    let sampled = now();
    bench.sample();
    assert!(sampled.elapsed() < Duration::from_millis(HANG_MS / 2), "a sample waits for none of this");
    wait_for(&mut bench, |bench| {
        let reasons = bench.reasons(&gpu::POWER, bench.gpu("GPU-b"));
        reasons.iter().any(|reason| reason.text.starts_with("let go of until "))
    });
    assert_eq!(bench.value(&gpu::FAULT, "GPU-b", &[fault("unresponsive")]), None, "it has answered");
    let made = calls(&log);
    assert_eq!(made.last().map(String::as_str), Some("nvmlShutdown"));
    assert_eq!(release(&bench, 6_000), Ok(false));
    bench.sample();
    assert_eq!(calls(&log), made);
    bench.probe.grip().take();
    wait_for(&mut bench, has_power);
}

#[test]
fn a_shutdown_that_takes_long_is_waited_for_and_one_that_fails_is_told() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut played = scenario(&log);
    played["delays_ms"] = json!({"nvmlShutdown": 3_000});
    let mut bench = Bench::open(install(dir.path(), &played.to_string()), |_| ());
    wait_for(&mut bench, has_power);
    assert_eq!(release(&bench, 600), Ok(true), "a driver that stops its GPUs takes its time");

    let dir = temp();
    played["delays_ms"] = json!({});
    played["errors"] = json!({"nvmlShutdown": 999});
    let library = install(dir.path(), &played.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    wait_for(&mut bench, has_power);
    assert_eq!(release(&bench, 600), Ok(true), "it has nothing open, whatever it says");

    let files = dir.path().join("proc/self/fd");
    std::fs::create_dir_all(&files).expect("created");
    std::os::unix::fs::symlink("/dev/nvidia0", files.join("9")).expect("linked");
    let mut bench = Bench::open(library, |context| context.proc = dir.path().join("proc"));
    wait_for(&mut bench, has_power);
    let failed = release(&bench, 600).expect_err("the driver is open still");
    assert!(
        failed.text.starts_with("NVML is closed, and has left /dev/nvidia0 open: `nvmlShutdown` failed: "),
        "{failed:?}"
    );
    bench.sample();
    let told = bench.reason(&gpu::POWER, bench.gpu("GPU-a"));
    assert_eq!((&told.text, told.kind), (&failed.text, AbsenceKind::Failed), "and nobody is told that it is not");
}

#[test]
fn a_shutdown_that_never_ends_is_a_driver_that_does_not_answer() {
    let dir = temp();
    let mut played = scenario(&dir.path().join("calls"));
    played["delays_ms"] = json!({"nvmlShutdown": 8_000});
    let mut bench = Bench::open(install(dir.path(), &played.to_string()), |_| ());
    wait_for(&mut bench, has_power);
    let (grip, until) = (bench.probe.grip(), bench.now);
    let until = Stamp { mono_ns: until.mono_ns + 6_000_000_000_000, ..until };
    let silent =
        |bench: &Bench| bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]) == Some(Number::Float(1.0));
    std::thread::scope(|scope| {
        let released = scope.spawn(move || grip.release(until));
        let is_closing =
            |bench: &Bench| bench.reason(&gpu::POWER, bench.gpu("GPU-a")).text.contains("`nvmlShutdown` has not");
        wait_still(&mut bench, |bench| !has_power(bench) && is_closing(bench));
        assert!(!silent(&bench), "it takes its time");
        bench.sample_after(70);
        assert!(is_closing(&bench) && silent(&bench));
        assert_eq!(released.join().expect("no panic"), Ok(true));
    });
    bench.sample();
    assert!(bench.reason(&gpu::POWER, bench.gpu("GPU-a")).text.starts_with("let go of until ") && !silent(&bench));
}

#[test]
fn a_driver_that_takes_long_to_shut_down_before_it_is_taken_back_is_no_silent_one() {
    let dir = temp();
    let mut played = scenario(&dir.path().join("calls"));
    played["delays_ms"] = json!({"nvmlShutdown": 6_000});
    let library = install(dir.path(), &played.to_string());
    let mut bench = Bench::open(library, |context| context.budget = Duration::from_millis(200));
    wait_for(&mut bench, has_power);
    let (grip, until) = (bench.probe.grip(), bench.now);
    let until = Stamp { mono_ns: until.mono_ns + 6_000_000_000_000, ..until };
    std::thread::scope(|scope| {
        let (waits, takes) = (grip.clone(), grip);
        let released = scope.spawn(move || waits.release(until));
        let is_closing =
            |bench: &Bench| bench.reason(&gpu::POWER, bench.gpu("GPU-a")).text.contains("letting go of the GPUs");
        wait_still(&mut bench, |bench| !has_power(bench) && is_closing(bench));
        assert!(takes.take());
        assert!(released.join().expect("no panic").is_err(), "it was called off");
        // By a clock that is not as far ahead of the driver's as that of `wait_for`.
        let began = now();
        while !has_power(&bench) {
            std::thread::sleep(Duration::from_millis(300));
            bench.sample();
            let Some(why) = bench.reasons(&gpu::POWER, bench.gpu("GPU-a")).first().map(|why| &why.text) else {
                continue;
            };
            if why.contains("`nvmlShutdown`") {
                assert!(why.starts_with("NVML has been shutting down since "), "{why}");
                assert_eq!(bench.value(&gpu::FAULT, "GPU-a", &[fault("unresponsive")]), None, "{why}");
            }
            assert!(began.elapsed() < Duration::from_mins(1), "{why}");
        }
    });
}

#[test]
fn without_a_gpu_there_is_nothing_open_nothing_is_tried_meanwhile_and_what_was_mended_is_found_at_once() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut broken = scenario(&log);
    broken["init"] = json!("LIB_RM_VERSION_MISMATCH");
    let library = install(dir.path(), &broken.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    bench.sample();
    let failed = |bench: &Bench| bench.of_machine(&gpu::FAULT, &[fault("driver_failed")]);
    assert_eq!(failed(&bench), Some(Number::Float(1.0)));
    assert_eq!(release(&bench, 600), Ok(false), "nothing is open");
    let made = calls(&log);
    for _ in 0..3 {
        bench.sample_after(60);
        let reason = bench.reason(&gpu::UTILIZATION, bench.host);
        assert!(reason.text.starts_with("let go of until "), "{reason:?}");
        assert_eq!(failed(&bench), Some(Number::Float(1.0)), "as far as anybody knows");
    }
    assert_eq!(calls(&log), made);
    fake_nvml::rewrite(&library, &scenario(&log).to_string()).expect("rewritten");
    assert!(bench.probe.grip().take());
    bench.sample();
    assert!(has_power(&bench), "it would have been tried ten seconds after the failure, and then ever more seldom");
}

#[test]
fn a_gpu_that_needs_a_reset_needs_it_still_until_it_was_reset_and_taken_back() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut broken = scenario(&log);
    broken["devices"][0]["errors"] = json!({"nvmlDeviceGetTemperature": "RESET_REQUIRED"});
    let library = install(dir.path(), &broken.to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    let needs_reset = |bench: &Bench, uuid: &str| bench.value(&gpu::FAULT, uuid, &[fault("reset_required")]);
    bench.sample();
    assert_eq!(needs_reset(&bench, "GPU-a"), Some(Number::Float(1.0)));
    assert_eq!(release(&bench, 600), Ok(true));
    bench.sample();
    assert_eq!(needs_reset(&bench, "GPU-a"), Some(Number::Float(1.0)));
    assert_eq!(needs_reset(&bench, "GPU-b"), None, "of the other nothing is known");
    fake_nvml::rewrite(&library, &scenario(&log).to_string()).expect("rewritten");
    bench.probe.grip().take();
    wait_for(&mut bench, |bench| needs_reset(bench, "GPU-a") == Some(Number::Float(0.0)));
}

#[test]
fn instances_that_were_made_meanwhile_are_found_and_the_gpu_is_the_same() {
    let dir = temp();
    let log = dir.path().join("calls");
    let library = install(dir.path(), &scenario(&log).to_string());
    let mut bench = Bench::open(library.clone(), |_| ());
    wait_for(&mut bench, has_power);
    let a = bench.gpu("GPU-a");
    assert_eq!(release(&bench, 600), Ok(true));
    bench.sample();
    let mut cut = scenario(&log);
    cut["devices"][0]["mig"] = json!({"instances": [{"uuid": "MIG-1", "memory": {"total": 9_000, "used": 1_000},
        "attributes": {"slices": 1, "compute_slices": 1, "memory_mb": 9984}}]});
    fake_nvml::rewrite(&library, &cut.to_string()).expect("rewritten");
    bench.probe.grip().take();
    wait_for(&mut bench, |bench| bench.probe.devices().iter().any(|device| device.uuid == "MIG-1"));
    assert_eq!((bench.gpu("GPU-a"), bench.probe.devices().len()), (a, 3));
    assert_eq!(bench.value(&gpu::MEMORY_USAGE, "MIG-1", &[]), Some(Number::Int(1_000)));
}

#[test]
fn many_threads_may_let_go_and_take_back_at_once_and_the_sample_waits_for_none_of_them() {
    let dir = temp();
    let log = dir.path().join("calls");
    let mut bench = Bench::open(install(dir.path(), &scenario(&log).to_string()), |_| ());
    wait_for(&mut bench, has_power);
    let until = Stamp { mono_ns: u64::MAX, wall_ns: 0 };
    let grips: Vec<_> = (0..4).map(|_| bench.probe.grip()).collect();
    std::thread::scope(|scope| {
        let threads: Vec<_> = grips
            .iter()
            .map(|grip| {
                scope.spawn(|| {
                    for _ in 0..20 {
                        // Another may take back what this one lets go of, which it is told.
                        let _ = grip.release(until);
                        grip.take();
                    }
                })
            })
            .collect();
        // As fast as it can, and so at one instant of the agent's: a minute in which the driver does not close would be a fault.
        while threads.iter().any(|thread| !thread.is_finished()) {
            bench.sample_after(0);
            for uuid in ["GPU-a", "GPU-b"] {
                for known in ["driver_failed", "unresponsive"] {
                    let told = bench.value(&gpu::FAULT, uuid, &[fault(known)]);
                    assert_ne!(told, Some(Number::Float(1.0)), "{uuid} {known}");
                }
            }
        }
    });
    wait_for(&mut bench, has_power);
    assert_eq!(release(&bench, 600), Ok(true));
    assert_eq!(calls(&log).last().map(String::as_str), Some("nvmlShutdown"));
}
