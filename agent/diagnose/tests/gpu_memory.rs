//! When a GPU's memory is said to fill up.

mod one_gpu;

use one_gpu::{Value, World, found};
use perfwatch_model::metrics::gpu;
use perfwatch_model::{Number, Severity};

const RULE: &str = "gpu-memory-nearly-full";
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TOTAL: u64 = 80 * GIB;
/// Where it begins to be nearly full.
const FULL: u64 = TOTAL * 95 / 100 + MIB;

fn bytes(used: u64) -> Vec<Value> {
    vec![(&gpu::MEMORY_USAGE, None, Number::Int(used)), (&gpu::MEMORY_LIMIT, None, Number::Int(TOTAL))]
}

/// The first second in which the rule's finding stands, with it, if memory is used so in each of 60 seconds.
fn found_at(used: impl Fn(u64) -> u64) -> Option<(u64, perfwatch_model::Finding)> {
    let mut world = World::new();
    (0..60).find_map(|second| {
        let judgement = world.push(&bytes(used(second)));
        found(&judgement, RULE).map(|finding| (second, finding.clone()))
    })
}

#[test]
fn an_allocator_that_takes_a_gibibyte_every_eight_seconds_is_found_before_there_is_none_left() {
    // Half of it is in use for half a minute; then it fills, and 32 s later the fifth block does not fit any more.
    let used = |second: u64| if second < 28 { TOTAL / 2 } else { FULL + (second - 28) / 8 * GIB };
    let (second, finding) = found_at(|second| used(second).min(TOTAL)).expect("it fills up");
    assert!((40..60).contains(&second), "after {second} s");
    assert_eq!(finding.severity, Severity::Critical, "{}", finding.detail);
    let grown = finding.evidence.iter().find(|evidence| evidence.metric == "gpu.memory_growth").expect("growth");
    assert!(grown.window_s > 10.0 && grown.window_s <= 30.5, "{grown:?}");
}

#[test]
fn a_leak_of_two_mebibytes_a_second_is_found_while_there_is_time() {
    let (second, finding) = found_at(|second| FULL + second * 2 * MIB).expect("it fills up");
    assert!(second < 25, "after {second} s");
    assert_eq!(finding.severity, Severity::Warning, "{}", finding.detail);
}

#[test]
fn memory_that_grows_steadily_is_found_as_soon_as_it_was_nearly_full_for_five_seconds() {
    let (second, _) = found_at(|second| FULL + second * 40 * MIB).expect("it fills up");
    assert!(second <= 12, "the window and the hysteresis take that long: {second} s");
}

#[test]
fn one_jump_that_stands_still_then_is_none_whenever_it_comes() {
    for at in 0..50 {
        let jump = |second: u64| if second < at { FULL } else { FULL + 2 * GIB };
        assert_eq!(found_at(jump), None, "a jump after {at} s");
        let preallocation = |second: u64| if second < at { GIB } else { TOTAL * 97 / 100 };
        assert_eq!(found_at(preallocation), None, "all at once after {at} s");
    }
}

#[test]
fn memory_that_stands_still_at_any_share_is_none() {
    assert_eq!(found_at(|_| TOTAL * 99 / 100), None);
    assert_eq!(found_at(|second| TOTAL * 99 / 100 + second % 3 * 4 * MIB), None);
}

#[test]
fn an_allocator_that_goes_up_and_comes_back_to_the_same_is_none_above_the_mark_and_across_it() {
    for base in [FULL, FULL - 300 * MIB] {
        for period in 2..=28 {
            let step = 1200 * MIB / period;
            let used = |second: u64| base + second % period * step;
            // The first time, nobody can know that it will come back.
            let mut world = World::new();
            for second in 0..period + 10 {
                world.push(&bytes(used(second)));
            }
            for second in period + 10..120 {
                let judgement = world.push(&bytes(used(second)));
                assert_eq!(found(&judgement, RULE), None, "from {base} each {period} s, after {second} s");
            }
        }
    }
}

#[test]
fn an_allocator_that_goes_up_and_comes_back_to_more_each_time_is_found() {
    let (second, _) = found_at(|second| FULL + second % 6 * 100 * MIB + second / 6 * 60 * MIB).expect("it fills up");
    assert!(second < 40, "after {second} s");
}

#[test]
fn what_driver_and_firmware_keep_is_neither_free_nor_a_part_of_what_can_be_in_use() {
    let with = |used: u64, reserved: Option<u64>| {
        let mut world = World::new();
        let values = |second: u64| {
            let kept = reserved.map(|bytes| (&gpu::MEMORY_RESERVED, None, Number::Int(bytes)));
            bytes(used + second * 50 * MIB).into_iter().chain(kept).collect::<Vec<_>>()
        };
        (0..16).map(|second| world.push(&values(second))).last().expect("sixteen seconds")
    };
    // 2 of 80 GiB are kept: 74.5 in use are 93 % of all there is, and 96 % of what can be.
    let used = 745 * GIB / 10;
    assert!(found(&with(used, None), RULE).is_none());
    let judgement = with(used, Some(2 * GIB));
    let window = &judgement.gpus[0].window;
    assert_eq!(window.memory_free.get(), Some(78 * GIB - used - 15 * 50 * MIB));
    let share = window.memory.get().expect("known");
    assert!((share - (used + 15 * 50 * MIB) as f64 / (78 * GIB) as f64).abs() < 1e-9, "{share}");
    let detail = &found(&judgement, RULE).expect("it fills up").detail;
    assert!(detail.contains("96 % of the memory") && detail.contains(" 2834 MiB last"), "{detail}");
    // Nonsense is not believed.
    assert_eq!(with(used, Some(2 * TOTAL)).gpus[0].window.memory_free.get(), Some(TOTAL - used - 15 * 50 * MIB));
}
