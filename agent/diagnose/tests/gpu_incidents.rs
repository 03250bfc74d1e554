//! What happens to a GPU in a moment is told for a quarter of an hour.

mod one_gpu;

use one_gpu::{SECOND, Value, World, found};
use perfwatch_model::metrics::gpu;
use perfwatch_model::{Attr, EntityId, Finding, Number, Severity};

const MINUTE: u64 = 60;
const RULE: &str = "gpu-unhealthy";

fn xids(code: i64, total: u64) -> Value {
    (&gpu::XIDS, Some(Attr::int("perfwatch.gpu.xid.code", code)), Number::Int(total))
}

fn uncorrected(total: u64) -> Value {
    (&gpu::ERRORS, Some(Attr::fixed("error.type", "uncorrected")), Number::Int(total))
}

/// How many, and in how many seconds.
fn evidence(finding: &Finding, metric: &str) -> (u64, u64) {
    let known = finding.evidence.iter().find(|evidence| evidence.metric == metric).expect("it rests on that");
    (known.value as u64, known.window_s as u64)
}

#[test]
fn an_xid_error_stands_for_a_quarter_of_an_hour_so_that_a_warning_alerts_too() {
    for (code, severity, means) in
        [(79, Severity::Critical, "it fell off the bus"), (94, Severity::Warning, "one process")]
    {
        let mut world = World::new();
        world.push_for(12, &[]);
        let at = world.push_for(3, &[xids(code, 1)]);
        assert!(found(&at, RULE).is_some(), "XID {code} rises as soon as anything does");
        let late = world.push_for(15 * MINUTE - 3, &[xids(code, 1)]);
        let finding = found(&late, RULE).expect("it stands for all of that");
        assert_eq!(finding.severity, severity, "XID {code}");
        assert!(finding.detail.contains(&format!("XID {code} in the last 15 min: ")), "{}", finding.detail);
        assert!(finding.detail.contains(means), "{}", finding.detail);
        assert_eq!(evidence(finding, "gpu.xids"), (1, 900));
        let gone = world.push_for(6, &[xids(code, 1)]);
        assert!(found(&gone, RULE).is_none(), "XID {code} stands no longer: {:?}", gone.findings);
    }
}

#[test]
fn each_incident_lengthens_the_time_and_how_many_there_were_in_it_is_told() {
    let mut world = World::new();
    world.push_for(12, &[]);
    for total in 1..=4 {
        let judgement = world.push_for(5 * MINUTE, &[xids(119, total)]);
        let finding = found(&judgement, RULE).expect("the last is recent");
        // The first of four is fifteen minutes old when the fourth comes.
        let expected = total.min(3);
        assert_eq!(evidence(finding, "gpu.xids").0, expected, "{}", finding.detail);
    }
    let later = world.push_for(9 * MINUTE, &[xids(119, 4)]);
    let finding = found(&later, RULE).expect("the last one is less than a quarter of an hour old");
    assert!(finding.detail.contains("XID 119 in the last 15 min: "), "{}", finding.detail);
}

#[test]
fn an_xid_error_of_a_program_is_not_held_against_the_device() {
    let mut world = World::new();
    world.push_for(12, &[]);
    let programs = [13, 31, 43, 45, 137].map(|code| xids(code, 3));
    let judgement = world.push_for(20, &programs);
    assert!(found(&judgement, RULE).is_none(), "{:?}", judgement.findings);
}

#[test]
fn uncorrected_errors_stand_for_a_quarter_of_an_hour_and_what_was_before_the_start_does_not() {
    let mut world = World::new();
    let well = world.push_for(20, &[uncorrected(7)]);
    assert!(found(&well, RULE).is_none(), "the driver counted those before: {:?}", well.findings);
    let late = world.push_for(14 * MINUTE, &[uncorrected(9)]);
    let finding = found(&late, RULE).expect("two errors");
    assert_eq!((finding.severity, evidence(finding, "gpu.uncorrected_errors")), (Severity::Critical, (2, 900)));
    assert!(finding.detail.contains("could not be corrected in the last 15 min, 2 times"), "{}", finding.detail);
    assert!(found(&world.push_for(MINUTE + 6, &[uncorrected(9)]), RULE).is_none());
}

#[test]
fn an_uncorrected_error_is_found_though_the_tick_before_told_no_total() {
    let mut world = World::new();
    world.push_for(12, &[uncorrected(7)]);
    world.push_for(30, &[]);
    let judgement = world.push_for(3, &[uncorrected(8)]);
    let finding = found(&judgement, RULE).expect("one error, some time within the half minute");
    assert_eq!(evidence(finding, "gpu.uncorrected_errors").0, 1);
}

#[test]
fn an_uncorrected_error_is_found_over_seconds_that_were_missed() {
    let mut world = World::new();
    world.push_for(12, &[uncorrected(7)]);
    world.second += 40;
    let judgement = world.push_for(12, &[uncorrected(8)]);
    assert!(found(&judgement, RULE).is_some(), "{:?}", judgement.findings);
}

#[test]
fn a_total_that_went_back_is_where_counting_begins_anew() {
    let mut world = World::new();
    world.push_for(12, &[uncorrected(7)]);
    let reloaded = world.push_for(5, &[uncorrected(2)]);
    assert!(found(&reloaded, RULE).is_none(), "{:?}", reloaded.findings);
    let judgement = world.push_for(3, &[uncorrected(3)]);
    assert_eq!(evidence(found(&judgement, RULE).expect("one more"), "gpu.uncorrected_errors").0, 1);
}

#[test]
fn a_gpu_that_is_gone_is_forgotten_with_its_incidents() {
    let mut world = World::new();
    world.push_for(12, &[]);
    assert!(found(&world.push_for(3, &[xids(79, 1)]), RULE).is_some());
    world.table.retire(world.gpu);
    let gone = world.push_for(1, &[]);
    assert!(gone.gpus.is_empty() && gone.findings.is_empty(), "{:?}", gone.findings);
    let again = perfwatch_model::Entity::new(perfwatch_model::EntityKind::Gpu, "GPU-a");
    let before: EntityId = std::mem::replace(&mut world.gpu, world.table.entity(again));
    let back = world.push_for(20, &[]);
    assert!(world.gpu != before && found(&back, RULE).is_none(), "{:?}", back.findings);
}

#[test]
fn incidents_of_another_boot_of_the_machine_are_not_told_as_recent() {
    let mut world = World::new();
    world.second = 100 * MINUTE;
    world.push_for(12, &[]);
    assert!(found(&world.push_for(3, &[xids(79, 1)]), RULE).is_some());
    world.second = 0;
    assert!(found(&world.push_for(20, &[]), RULE).is_none(), "the clock began anew");
}

#[test]
fn a_gpu_that_reports_an_error_each_second_for_hours_takes_no_more_memory_than_one_that_fails_for_a_quarter_of_an_hour()
{
    let mut incidents = perfwatch_diagnose::window::Incidents::default();
    let mut facts = World::new().push(&[]).gpus.remove(0).tick.facts.clone();
    for second in 1..=4 * 3600 {
        facts.xids = (0..200).map(|code| (code, 1)).collect();
        incidents.add(&facts, second * SECOND);
    }
    let told = incidents.xids();
    assert_eq!(told.len(), 32, "kinds");
    assert!(told.values().all(|count| (15 * MINUTE..=16 * MINUTE).contains(count)), "{told:?}");
}

#[test]
fn whoever_is_told_to_reset_a_gpu_is_told_what_must_be_stopped_before() {
    let mut world = World::new();
    world.push_for(12, &[]);
    let judgement = world.push_for(3, &[xids(140, 1), xids(79, 1)]);
    let actions: Vec<_> = found(&judgement, RULE).expect("two").remedies.iter().map(|remedy| &remedy.action).collect();
    let reset = actions.iter().find(|action| action.contains("--gpu-reset")).expect("XID 140 asks for one");
    assert!(reset.contains("this agent") && reset.contains("every program"), "{reset}");
    assert!(
        actions.iter().any(|action| action.contains("reboot")),
        "no reset brings a card back to the bus: {actions:?}"
    );
}
