//! A GPU that exists only as numbers: ticks of a second with the readings that a test asks for.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use perfwatch_diagnose::{Config, Engine, Judgement};
use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, Finding, MetricDef, Number, SeriesTable, Stamp, Tick, metrics::gpu,
};

pub(crate) const SECOND: u64 = 1_000_000_000;

/// One GPU and what judges it.
pub(crate) struct World {
    pub(crate) table: SeriesTable,
    pub(crate) gpu: EntityId,
    engine: Engine,
    pub(crate) second: u64,
}

/// A value of a metric with at most one attribute.
pub(crate) type Value = (&'static MetricDef, Option<Attr>, Number);

impl World {
    pub(crate) fn new() -> Self {
        let mut table = SeriesTable::new();
        let gpu = table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
        Self { table, gpu, engine: Engine::new(Config::default()), second: 0 }
    }

    /// Another agent goes on, which looks the GPU up anew.
    pub(crate) fn start_anew(&mut self) {
        let known = self.engine.recollection(&self.table);
        let Self { table, gpu, engine, .. } = Self::new();
        (self.table, self.gpu, self.engine) = (table, gpu, engine);
        self.engine.recall(known);
    }

    /// The next second, in which nothing was seen of the GPU.
    pub(crate) fn push_unseen(&mut self) {
        self.table.retire(self.gpu);
        self.push(&[]);
        self.gpu = self.table.entity(Entity::new(EntityKind::Gpu, "GPU-a"));
    }

    /// The next second. Of each GPU it is known that it has not fallen off the bus.
    pub(crate) fn push(&mut self, values: &[Value]) -> Judgement {
        self.second += 1;
        let end = Stamp { mono_ns: self.second * SECOND, wall_ns: self.second * SECOND };
        let mut tick = Tick { end, dt_ns: SECOND, ..Tick::default() };
        if self.table.entity_of(self.gpu).is_some() {
            let lost = (&gpu::FAULT, Some(Attr::fixed("perfwatch.gpu.fault", "lost")), Number::Float(0.0));
            for (metric, attr, value) in values.iter().chain([&lost]) {
                let attrs: Vec<Attr> = attr.iter().cloned().collect();
                tick.values.push((self.table.series(metric, self.gpu, &attrs), *value));
            }
        }
        tick.seal();
        self.engine.push(&tick, &self.table)
    }

    /// So many seconds of the same, and the last one's judgement.
    pub(crate) fn push_for(&mut self, seconds: u64, values: &[Value]) -> Judgement {
        (0..seconds).map(|_| self.push(values)).last().expect("a second at least")
    }
}

/// The finding of a rule.
pub(crate) fn found<'a>(judgement: &'a Judgement, id: &str) -> Option<&'a Finding> {
    judgement.findings.iter().find(|finding| finding.id == id)
}
