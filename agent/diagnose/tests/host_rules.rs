//! Findings about the machine, on ticks made up for them.

use perfwatch_diagnose::{Config, Engine, Judgement};
use perfwatch_model::metrics::gpu;
use perfwatch_model::{
    Absence, Attr, Entity, EntityId, EntityKind, Number, Reason, SeriesTable, Severity, Stamp, Tick,
};

const SECOND: u64 = 1_000_000_000;
const SILENT: Reason = Reason::fixed("driver unresponsive since 03:04:05 UTC", "reset it or reboot");

struct World {
    table: SeriesTable,
    host: EntityId,
    engine: Engine,
    second: u64,
}

impl World {
    fn new() -> Self {
        let mut table = SeriesTable::new();
        let host = table.entity(Entity::new(EntityKind::Host, "node-7"));
        Self { table, host, engine: Engine::new(Config::default()), second: 0 }
    }

    /// A second in which the machine's driver has this fault, or none.
    fn push(&mut self, fault: Option<&'static str>) -> Judgement {
        self.second += 1;
        let end_ns = self.second * SECOND;
        let mut tick = Tick { end: Stamp { mono_ns: end_ns, wall_ns: end_ns }, dt_ns: SECOND, ..Tick::default() };
        tick.absent.push(Absence { metric: gpu::UTILIZATION.name, entity: self.host, reason: SILENT });
        if let Some(fault) = fault {
            let series = self.table.series(&gpu::FAULT, self.host, &[Attr::fixed("perfwatch.gpu.fault", fault)]);
            tick.values.push((series, Number::Float(1.0)));
        }
        tick.seal();
        self.engine.push(&tick, &self.table)
    }
}

#[test]
fn a_driver_that_is_silent_from_the_start_is_a_finding_about_the_machine_with_its_reason_and_cure() {
    let mut world = World::new();
    let judgement = (0..12).map(|_| world.push(Some("unresponsive"))).last().expect("twelve ticks");
    let [finding] = judgement.findings.as_slice() else { panic!("{:?}", judgement.findings) };
    assert_eq!((finding.id.as_ref(), finding.entity.as_str()), ("gpu-unhealthy", "host:node-7"));
    assert_eq!(finding.severity, Severity::Critical);
    assert_eq!(finding.detail, "No GPU can be seen: driver unresponsive since 03:04:05 UTC.");
    assert_eq!(finding.remedies[0].action, "reset it or reboot");
    assert!(judgement.undecided.is_empty(), "{:?}", judgement.undecided);
    let gone = (0..5).map(|_| world.push(None)).last().expect("five ticks");
    assert!(gone.findings.is_empty(), "{:?}", gone.findings);
}

#[test]
fn one_gpu_that_cannot_be_seen_is_told_beside_those_that_can() {
    let mut world = World::new();
    world.table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
    let judgement = (0..12).map(|_| world.push(Some("lost"))).last().expect("twelve ticks");
    let finding = judgement.findings.iter().find(|finding| finding.entity == "host:node-7").expect("it is told");
    assert!(finding.detail.starts_with("Not every GPU can be seen: "), "{finding:?}");
}

#[test]
fn a_machine_without_a_gpu_is_in_order() {
    let mut world = World::new();
    let judgement = (0..15).map(|_| world.push(None)).last().expect("fifteen ticks");
    assert!(judgement.findings.is_empty() && judgement.undecided.is_empty());
}
