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
    for (code, severity, means) in [
        (79, Severity::Critical, "it fell off the bus"),
        (94, Severity::Warning, "one process"),
        // Devices that are shared report it in good health, too.
        (109, Severity::Warning, "in time"),
    ] {
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
fn what_several_errors_ask_for_is_said_once() {
    let mut world = World::new();
    world.push_for(12, &[]);
    let judgement = world.push_for(3, &[xids(48, 1), xids(95, 1), xids(999, 1), uncorrected(0)]);
    let actions: Vec<_> = found(&judgement, RULE).expect("it stands").remedies.iter().map(|one| &one.action).collect();
    assert_eq!(actions.len(), 2, "{actions:?}");
    assert!(actions[0].contains("nvidia-smi --gpu-reset") && actions[1].starts_with("look up XID 48, 95, 999 in"));
}

#[test]
fn an_agent_that_starts_anew_goes_on_telling_of_an_error_until_its_quarter_of_an_hour_is_over() {
    let mut world = World::new();
    world.push_for(12, &[]);
    world.push_for(5 * MINUTE, &[xids(79, 2)]);
    // Another one a minute later, before the window of the first is full; and one that ends before it has seen the GPU.
    for seconds in [5, 0, 5 * MINUTE] {
        world.start_anew();
        world.second += 60;
        world.push_unseen();
        // What the new agent counts begins at 0.
        for second in 0..seconds {
            let judgement = world.push(&[xids(79, 0)]);
            let finding = found(&judgement, RULE).unwrap_or_else(|| panic!("gone after {second} s"));
            assert!(finding.detail.contains("XID 79 in the last 15 min, 2 times"), "{}", finding.detail);
        }
    }
    let third = world.push_for(MINUTE, &[xids(79, 1)]);
    assert_eq!(evidence(found(&third, RULE).expect("it stands"), "gpu.xids").0, 3);
    let gone = world.push_for(15 * MINUTE, &[xids(79, 1)]);
    assert!(found(&gone, RULE).is_none(), "{:?}", gone.findings);
}

#[test]
fn an_error_of_the_last_second_before_a_start_is_told_after_it_and_one_that_no_agent_saw_is_found() {
    let mut world = World::new();
    world.push_for(40, &[uncorrected(7)]);
    world.push(&[uncorrected(7), xids(48, 1)]);
    world.start_anew();
    // The driver counted on.
    let found_at = (1..10).find(|_| found(&world.push(&[uncorrected(8)]), RULE).is_some());
    assert_eq!(found_at, Some(3), "it rises as any does");
    let judgement = world.push(&[uncorrected(8)]);
    let detail = &found(&judgement, RULE).expect("it stands").detail;
    assert!(
        detail.contains("XID 48 in the last 15 min:") && detail.contains("not be corrected in the last"),
        "{detail}"
    );
}

#[test]
fn what_is_known_of_a_gpu_that_is_not_seen_is_handed_on_for_a_quarter_of_an_hour() {
    for (unseen, told) in [(14 * MINUTE, true), (16 * MINUTE, false)] {
        let mut world = World::new();
        world.push_for(40, &[uncorrected(7)]);
        world.start_anew();
        (0..unseen).for_each(|_| world.push_unseen());
        let found_at = (1..10).find(|_| found(&world.push(&[uncorrected(8)]), RULE).is_some());
        assert_eq!(found_at.is_some(), told, "after {unseen} s: an error of nobody knows when is not told as new");
    }
}

#[test]
fn an_agent_that_starts_after_a_reset_or_with_a_gpu_that_was_well_knows_of_nothing() {
    let energy = |joules: u64| (&gpu::ENERGY, Some(Attr::fixed("hw.type", "gpu")), Number::Int(joules * 1000));
    let well = |world: &mut World, values: &[Value]| {
        world.start_anew();
        (0..20).all(|_| found(&world.push(values), RULE).is_none())
    };
    for (before, after, is_well) in [
        (vec![uncorrected(2), energy(9000)], vec![uncorrected(2), energy(9100)], false),
        (vec![uncorrected(2)], vec![uncorrected(0)], true),
        (vec![energy(9000)], vec![energy(100)], true),
    ] {
        let mut world = World::new();
        let with = |code| [before.clone(), vec![xids(code, 1)]].concat();
        world.push_for(2 * MINUTE, &before);
        world.push_for(MINUTE, &with(95));
        assert_eq!(well(&mut world, &after), is_well, "{after:?}");
    }
    let mut world = World::new();
    world.push_for(12, &[xids(43, 1)]);
    assert!(well(&mut world, &[]));
}

#[test]
fn an_xid_error_of_a_program_is_not_held_against_the_device() {
    let mut world = World::new();
    world.push_for(12, &[]);
    let programs = [13, 31, 43, 45, 68, 69, 137].map(|code| xids(code, 3));
    let judgement = world.push_for(20, &programs);
    assert!(found(&judgement, RULE).is_none(), "{:?}", judgement.findings);
}

#[test]
fn that_the_recovery_asked_for_has_changed_is_no_finding_and_that_one_is_asked_for_is() {
    // It is reported when nothing is asked for any more, too.
    let asked = |is_asked| {
        let attr = Attr::fixed("perfwatch.gpu.fault", "recovery_needed");
        (&gpu::FAULT, Some(attr), Number::Float(f64::from(u8::from(is_asked))))
    };
    let mut world = World::new();
    world.push_for(12, &[asked(false)]);
    let during = world.push_for(6, &[asked(true), xids(154, 1)]);
    let finding = found(&during, RULE).expect("a recovery is asked for");
    assert!(!finding.detail.contains("XID"), "{}", finding.detail);
    let after = world.push_for(30, &[asked(false), xids(154, 2)]);
    assert!(found(&after, RULE).is_none(), "{:?}", after.findings);
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

#[test]
fn memory_that_waits_to_be_replaced_or_taken_out_of_use_is_a_warning_for_as_long_as_it_waits() {
    for (fault, what) in
        [("row_remap_pending", "a row of its memory"), ("page_retirement_pending", "a page of its memory")]
    {
        let mut world = World::new();
        let waits =
            |holds| (&gpu::FAULT, Some(Attr::fixed("perfwatch.gpu.fault", fault)), Number::Float(f64::from(holds)));
        let judgement = world.push_for(15, &[waits(1)]);
        let finding = found(&judgement, RULE).expect("it waits");
        assert_eq!(finding.severity, Severity::Warning, "{fault}");
        assert!(finding.detail.contains(what), "{}", finding.detail);
        assert_eq!(evidence(finding, "gpu.faults").0, 1);
        let [remedy] = finding.remedies.as_slice() else { panic!("one thing to do: {:?}", finding.remedies) };
        assert!(remedy.action.contains("--gpu-reset") && remedy.action.contains("every program"), "{}", remedy.action);
        let judgement = world.push_for(60, &[waits(0)]);
        assert!(found(&judgement, RULE).is_none(), "{fault}: it was reset");
    }
}
