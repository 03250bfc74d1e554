//! A GPU whose driver does not count for how long its clocks are held down, but tells at each moment whether they are.

mod one_gpu;

use one_gpu::{SECOND, Value, World, found};
use perfwatch_diagnose::Judgement;
use perfwatch_diagnose::ledger::THROTTLED;
use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, Number, Quality, Severity};

const RULE: &str = "gpu-throttled";
const KEY: &str = "perfwatch.gpu.throttle.reason";
const MASK: [&str; 6] = ["sw_power_cap", "hw_slowdown", "sync_boost", "sw_thermal", "hw_thermal", "hw_power_brake"];

/// A busy GPU at half of its clock.
fn busy() -> Vec<Value> {
    let sm = || Some(Attr::fixed("perfwatch.gpu.clock", "sm"));
    vec![
        (&gpu::UTILIZATION, Some(Attr::fixed("hw.gpu.task", "general")), Number::Float(1.0)),
        (&gpu::CLOCK, sm(), Number::Int(1_000_000_000)),
        (&gpu::CLOCK_LIMIT, sm(), Number::Int(2_000_000_000)),
    ]
}

/// The mask of reasons, as far as an old driver has it.
fn mask(holds: &[&str]) -> impl Iterator<Item = Value> {
    MASK.map(|reason| {
        let active = f64::from(u8::from(holds.contains(&reason)));
        (&gpu::THROTTLE_ACTIVE, Some(Attr::fixed(KEY, reason)), Number::Float(active))
    })
    .into_iter()
}

fn counted(reason: &'static str, ns: u64) -> Value {
    (&gpu::THROTTLE_TIME, Some(Attr::fixed(KEY, reason)), Number::Int(ns))
}

/// Twenty seconds, in each of which the reasons hold that belong to it.
fn judged(holds: impl Fn(u64) -> Vec<&'static str>) -> Judgement {
    let mut world = World::new();
    let values = |second| busy().into_iter().chain(mask(&holds(second))).collect::<Vec<_>>();
    (0..20).map(|second| world.push(&values(second))).last().expect("twenty seconds")
}

#[test]
fn heat_and_the_power_brake_are_found_by_the_reasons_that_hold_at_the_end_of_each_tick() {
    let heat = |second: u64| if second.is_multiple_of(5) { vec!["hw_slowdown", "hw_thermal"] } else { Vec::new() };
    let judgement = judged(heat);
    let finding = found(&judgement, RULE).expect("a fifth of the looks");
    assert_eq!(finding.severity, Severity::Warning);
    for part in ["heat made the hardware cut its clocks", "for 20 % of the time", "does not count it"] {
        assert!(finding.detail.contains(part), "{part}: {}", finding.detail);
    }
    let evidence = finding.evidence.iter().find(|evidence| evidence.metric == "gpu.held_down.hw_thermal");
    assert_eq!(evidence.expect("it rests on that").quality, Quality::Inferred);
    let judgement = judged(|_| vec!["hw_slowdown", "hw_power_brake"]);
    let finding = found(&judgement, RULE).expect("always");
    assert_eq!(finding.severity, Severity::Critical);
    assert!(finding.detail.contains("the power supply braked it for 100 % of the time"), "{}", finding.detail);
    let judgement = judged(|second| if second.is_multiple_of(2) { vec!["sw_thermal"] } else { Vec::new() });
    assert!(found(&judgement, RULE).expect("half").detail.contains("for warmth for 50 %"));
}

#[test]
fn a_single_look_is_no_finding_and_none_is_an_answer_too() {
    let once = judged(|second| if second == 12 { vec!["hw_slowdown", "hw_thermal", "sw_thermal"] } else { Vec::new() });
    let never = judged(|_| Vec::new());
    for judgement in [once, never] {
        assert!(found(&judgement, RULE).is_none(), "{:?}", judgement.findings);
        assert!(judgement.undecided.iter().all(|undecided| undecided.rule != RULE), "{:?}", judgement.undecided);
    }
}

#[test]
fn the_ledger_has_what_heat_cost_and_the_reason_behind_a_reason_does_not_count_twice() {
    let throttled = |holds: &'static [&'static str]| {
        let judgement = judged(|_| holds.to_vec());
        let ledger = judgement.gpus[0].window.ledger.clone().expect("a ledger");
        ledger.ns(THROTTLED) * 100 / ledger.interval_ns()
    };
    assert_eq!(throttled(&["hw_thermal"]), 50, "held down all the time, at half of the clock");
    assert_eq!(throttled(&["hw_slowdown", "hw_thermal"]), 50);
    assert_eq!(throttled(&["hw_slowdown", "hw_thermal", "hw_power_brake", "sw_power_cap"]), 50);
    assert_eq!(throttled(&["hw_slowdown"]), 0, "by itself it is a moment at a change of the performance state");
}

#[test]
fn a_driver_that_counts_is_believed_before_its_mask() {
    let mut world = World::new();
    let mut last = None;
    for second in 0..20 {
        let values = busy().into_iter().chain(mask(&["hw_thermal", "hw_power_brake"]));
        // A tick without the counter is one that is unknown: the mask of that moment does not stand for it.
        let counter = (second % 10 != 5).then(|| counted("hw_thermal", second * SECOND / 1000));
        let counters = counter.into_iter().chain([counted("hw_power_brake", second * SECOND / 1000)]);
        last = Some(world.push(&values.chain(counters).collect::<Vec<_>>()));
    }
    let judgement = last.expect("twenty seconds");
    assert!(found(&judgement, RULE).is_none(), "{:?}", judgement.findings);
    let window = &judgement.gpus[0].window;
    for reason in ["hw_thermal", "hw_power_brake"] {
        let share = window.held_down_for(reason);
        assert_eq!(share.quality, Quality::Counter, "{reason}");
        assert!((share.get().expect("known") - 0.001).abs() < 1e-9, "{reason}: {share:?}");
    }
}

#[test]
fn each_reason_that_is_not_counted_is_looked_at_beside_those_that_are() {
    let mut world = World::new();
    let mut last = None;
    for second in 0..20 {
        // As a driver does that has the old counters alone: of the power limit and of the boost.
        let counters = [counted("sw_power_cap", second * SECOND), counted("sync_boost", 0)];
        let values = busy().into_iter().chain(mask(&["sw_power_cap", "hw_thermal", "hw_slowdown"])).chain(counters);
        last = Some(world.push(&values.collect::<Vec<_>>()));
    }
    let judgement = last.expect("twenty seconds");
    let finding = found(&judgement, RULE).expect("heat");
    assert!(finding.detail.contains("heat made"), "{}", finding.detail);
    assert_eq!(judgement.gpus[0].window.held_down_for("sw_power_cap").quality, Quality::Counter);
}

#[test]
fn without_counters_and_without_a_mask_the_rule_says_that_it_cannot_tell() {
    let judgement = World::new().push_for(20, &busy());
    assert!(judgement.undecided.iter().any(|undecided| undecided.rule == RULE), "{:?}", judgement.undecided);
}
