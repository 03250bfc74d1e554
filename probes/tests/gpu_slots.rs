//! GPM between ticks: what a GPU did tenth by tenth, at the real time.

mod rig;

use std::time::Duration;

use perfwatch_model::GpuSlot;
use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::{SLOT_NS, SLOTS};

use rig::{Bench, install, now, real_ns, temp};

/// A GPU that is busy in one second and idle in the next, as far as GPM tells.
const ALTERNATING: &str = r#"{"devices": [{"uuid": "GPU-a", "utilization": {"gpu": 50, "memory": 10},
    "gpm": {"1": {"at": [[0, 90], [1, 5]], "repeat_s": 2}, "2": {"at": [[0, 80], [1, 4]], "repeat_s": 2}, "5": 10, "12": 20}}]}"#;

/// Samples at the end of each of so many whole seconds, as an agent does, and returns the slots that came with the last ones.
fn slots(bench: &mut Bench, seconds: u64, mut meanwhile: impl FnMut(u64)) -> Vec<GpuSlot> {
    let second = SLOTS as u64 * SLOT_NS;
    let first = real_ns() / second + 1;
    (first..first + seconds)
        .flat_map(|end| {
            meanwhile(end - first);
            std::thread::sleep(Duration::from_nanos((end * second).saturating_sub(real_ns())));
            bench.sample_now();
            bench.probe.devices().first().map_or([GpuSlot::default(); SLOTS], |device| device.slots)
        })
        .collect()
}

#[test]
fn each_tenth_of_a_second_is_told_for_itself() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), ALTERNATING), |_| ());
    bench.sample_now();
    let slots = slots(&mut bench, 4, |_| ());
    // The first second began before the driver did.
    let slots = &slots[SLOTS..];
    let unknown = slots.iter().filter(|slot| !slot.is_known()).count();
    let continued = slots.iter().filter(|slot| slot.continued).count();
    assert!(unknown <= 3 && continued <= slots.len() / 3, "a busy machine may be late now and then: {slots:?}");
    let slots: Vec<_> = slots.iter().filter(|slot| slot.is_known()).collect();
    let busy = slots.iter().filter(|slot| slot.graphics.get() == Some(0.9)).count();
    let idle = slots.iter().filter(|slot| slot.graphics.get() == Some(0.05)).count();
    assert!(busy + idle == slots.len() && busy.abs_diff(idle) <= 12, "{busy} and {idle}");
    // Whole seconds of the one and of the other, wherever in the agent's seconds they begin.
    let changes = slots.windows(2).filter(|pair| pair[0].graphics != pair[1].graphics).count();
    assert!((2..=4).contains(&changes), "{slots:?}");
    assert!(slots.iter().all(|slot| slot.vector.get() == Some(0.2) && slot.dram.get().is_none()));
}

#[test]
fn without_gpm_the_drivers_samples_of_utilisation_tell_the_tenths() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "utilization": {"gpu": 50, "memory": 10}, "utilization_samples":
        {"percent": {"at": [[0, 90], [1, 5]], "repeat_s": 2}, "period_ms": 167}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |_| ());
    bench.sample_now();
    let slots = slots(&mut bench, 5, |_| ());
    let slots = &slots[SLOTS..];
    // What the driver had not sampled yet when it was asked: one period at the end of each second.
    let unknown: Vec<_> = slots.iter().enumerate().filter(|(_, slot)| !slot.is_known()).map(|(at, _)| at).collect();
    assert!(unknown.len() <= 3 * 4 && unknown.iter().all(|at| at % SLOTS >= SLOTS - 3), "{slots:?}");
    let of = |share| slots.iter().filter(|slot| slot.graphics.get() == Some(share)).count();
    let (busy, idle) = (of(0.9), of(0.05));
    assert!(busy + idle + unknown.len() == slots.len() && busy.abs_diff(idle) <= 14, "{busy} and {idle}: {slots:?}");
    let continued = slots.iter().filter(|slot| slot.continued).count();
    assert!((8..=20).contains(&continued), "a sample is longer than a slot: {slots:?}");
    assert!(slots.iter().all(|slot| slot.sm.get().is_none() && slot.vector.get().is_none()));
    let units = bench.reasons(&gpu::SM_ACTIVE, bench.gpu("GPU-a"));
    assert!(units[0].text.contains("does not support GPM"), "{units:?}");
}

#[test]
fn a_driver_that_hangs_between_two_ticks_holds_nobody_up_and_leaves_a_hole() {
    let dir = temp();
    let scenario = r#"{"devices": [{"uuid": "GPU-a", "utilization": {"gpu": 50, "memory": 10}, "gpm": {"1": 90, "2": 80},
        "delays_ms": {"nvmlGpmSampleGet": {"at": [[0, 0], [2.5, 1500], [3.2, 0]]}}}]}"#;
    let mut bench = Bench::open(install(dir.path(), scenario), |context| context.budget = Duration::from_millis(200));
    bench.sample_now();
    let mut longest = Duration::ZERO;
    let mut told = Vec::new();
    let second = SLOTS as u64 * SLOT_NS;
    for _ in 0..7 {
        let end = (real_ns() / second + 1) * second;
        std::thread::sleep(Duration::from_nanos(end.saturating_sub(real_ns())));
        let began = now();
        bench.sample_now();
        longest = longest.max(began.elapsed());
        let known = bench.probe.devices()[0].slots.iter().filter(|slot| slot.is_known()).count();
        let reason = bench.reasons(&gpu::SM_ACTIVE, bench.gpu("GPU-a")).first().map(|reason| reason.text.to_string());
        told.push((known, reason));
    }
    assert!(longest < Duration::from_millis(600), "{longest:?}");
    let hung =
        told.iter().position(|(_, reason)| reason.as_ref().is_some_and(|text| text.contains("nvmlGpmSampleGet")));
    let hung = hung.unwrap_or_else(|| panic!("the call that hangs is named: {told:?}"));
    assert_eq!(told[hung].0, 0, "nothing is known of it");
    assert_eq!((told[6].0, &told[6].1), (SLOTS, &None), "and then all is known again: {told:?}");
}

#[test]
fn what_may_cost_nothing_is_sampled_once_a_second() {
    let dir = temp();
    let mut bench = Bench::open(install(dir.path(), ALTERNATING), |_| ());
    bench.probe.allow(0);
    bench.sample_now();
    let slots = slots(&mut bench, 12, |_| ());
    assert!(bench.probe.is_stretched());
    let last = &slots[slots.len() - SLOTS..];
    let measured = last.iter().filter(|slot| !slot.continued).count();
    assert!(measured <= 2 && last.iter().all(GpuSlot::is_known), "{last:?}");
}
