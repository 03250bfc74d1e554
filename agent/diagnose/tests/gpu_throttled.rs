//! What is said of a GPU whose clocks are held down, on ticks made up for it.

use perfwatch_diagnose::{Config, Engine};
use perfwatch_model::metrics::gpu;
use perfwatch_model::tick::SLOTS;
use perfwatch_model::{
    Attr, Entity, EntityKind, Finding, GpuSlot, GpuTick, Number, SeriesTable, Severity, Share, Stamp, Tick,
};

const SECOND: u64 = 1_000_000_000;

/// The finding about a busy GPU of 700 W whose SMs run at 1.5 of 2 GHz, held down for these parts of each second.
fn found(held_down: &[(&'static str, f64)], settings: &[&'static str]) -> Option<Finding> {
    let mut table = SeriesTable::new();
    let device = table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
    let sm = [Attr::fixed("perfwatch.gpu.clock", "sm")];
    let (clock, clock_limit) = (table.series(&gpu::CLOCK, device, &sm), table.series(&gpu::CLOCK_LIMIT, device, &sm));
    let limit = table.series(&gpu::POWER_LIMIT, device, &[]);
    let faults = ["power_limit_lowered", "power_limit_by_platform"].map(|fault| {
        let series = table.series(&gpu::FAULT, device, &[Attr::fixed("perfwatch.gpu.fault", fault)]);
        (series, Number::Float(f64::from(u8::from(settings.contains(&fault)))))
    });
    let busy = table.series(&gpu::UTILIZATION, device, &[Attr::fixed("hw.gpu.task", "general")]);
    let reasons = ["sw_power_cap", "sw_thermal", "hw_thermal", "hw_power_brake"].map(|reason| {
        let series = table.series(&gpu::THROTTLE_TIME, device, &[Attr::fixed("perfwatch.gpu.throttle.reason", reason)]);
        let share = held_down.iter().find(|(known, _)| *known == reason).map_or(0.0, |(_, share)| *share);
        (series, (share * SECOND as f64) as u64)
    });
    let share = Share::of(1.0);
    let slot =
        GpuSlot { graphics: share, sm: share, tensor: Share::of(0.93), dram: Share::of(0.1), ..GpuSlot::default() };
    let mut engine = Engine::new(Config::default());
    let mut findings = Vec::new();
    for second in 1..=20 {
        let mut values = vec![
            (clock, Number::Int(1_500_000_000)),
            (clock_limit, Number::Int(2_000_000_000)),
            (limit, Number::Float(700.0)),
            (busy, Number::Float(1.0)),
        ];
        values.extend(faults);
        values.extend(reasons.map(|(series, ns)| (series, Number::Int(ns * second))));
        let mut tick = Tick {
            end: Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND },
            dt_ns: SECOND,
            values,
            gpus: vec![GpuTick { slots: [slot; SLOTS], ..GpuTick::unknown(device) }],
            ..Tick::default()
        };
        tick.seal();
        findings = engine.push(&tick, &table).findings;
    }
    findings.into_iter().find(|finding| finding.id == "gpu-throttled")
}

#[test]
fn a_gpu_at_its_own_power_limit_is_told_as_normal_with_what_it_costs_at_most() {
    let finding = found(&[("sw_power_cap", 1.0)], &[]).expect("it is worth a note");
    assert_eq!(finding.severity, Severity::Note);
    for part in
        ["at its power limit of 700 W for 100 %", "normal under full load", "at 75 %", "at most 25 %", "less where"]
    {
        assert!(finding.detail.contains(part), "{part}: {}", finding.detail);
    }
    assert!(!finding.detail.contains("held back"), "{}", finding.detail);
    assert!(finding.remedies[0].action.starts_with("leave it"), "{:?}", finding.remedies);
}

#[test]
fn a_limit_that_somebody_lowered_gives_capacity_away_and_is_no_fault_either() {
    let finding = found(&[("sw_power_cap", 0.8)], &["power_limit_lowered"]).expect("it is worth a note");
    assert_eq!(finding.severity, Severity::Note);
    assert!(finding.detail.contains("below the one that it comes with"), "{}", finding.detail);
    assert!(!finding.detail.contains("normal"), "{}", finding.detail);
    assert!(finding.remedies[0].action.contains("back to the default"), "{:?}", finding.remedies);
}

#[test]
fn a_limit_that_the_machine_keeps_is_not_to_be_raised_on_the_gpu() {
    // The lowest limit is the one that holds, though somebody lowered another one as well.
    for settings in [&["power_limit_by_platform"][..], &["power_limit_by_platform", "power_limit_lowered"]] {
        let finding = found(&[("sw_power_cap", 0.8)], settings).expect("it is worth a note");
        assert_eq!(finding.severity, Severity::Note);
        assert!(finding.detail.contains("below the one that is set"), "{}", finding.detail);
        assert!(!finding.detail.contains("normal"), "{}", finding.detail);
        let remedies = format!("{:?}", finding.remedies);
        assert!(remedies.contains("BMC") && !remedies.contains("-pl"), "{remedies}");
    }
}

#[test]
fn heat_is_told_as_heat_though_the_power_limit_is_reached_too() {
    let finding = found(&[("sw_power_cap", 1.0), ("sw_thermal", 0.3)], &[]).expect("it is too warm");
    assert_eq!(finding.severity, Severity::Warning);
    assert!(finding.detail.contains("for warmth for 30 %") && !finding.detail.contains("normal"), "{}", finding.detail);
}

#[test]
fn a_limit_that_is_reached_now_and_then_is_no_finding() {
    assert!(found(&[("sw_power_cap", 0.4)], &[]).is_none());
}

#[test]
fn of_a_mig_instance_nobody_waits_for_clocks_that_its_gpu_tells() {
    let mut table = SeriesTable::new();
    let device = table.entity(Entity::new(EntityKind::Gpu, "MIG-a").with("hw.parent", "GPU-a"));
    let memory = table.series(&gpu::MEMORY_USAGE, device, &[]);
    let mut engine = Engine::new(Config::default());
    let mut undecided = Vec::new();
    for second in 1..=12 {
        let end = Stamp { mono_ns: second * SECOND, wall_ns: second * SECOND };
        let mut tick = Tick { end, dt_ns: SECOND, values: vec![(memory, Number::Int(1 << 30))], ..Tick::default() };
        tick.seal();
        undecided = engine.push(&tick, &table).undecided_rules();
    }
    assert!(!undecided.iter().any(|rule| rule == "gpu-throttled"), "{undecided:?}");
}
