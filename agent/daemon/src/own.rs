//! The agent measures itself like anything else.

use std::fs::File;
use std::os::unix::fs::FileExt;

use perfwatch_model::metrics::{agent, finding};
use perfwatch_model::{
    Attr, Entity, EntityId, EntityKind, Finding, Number, Reason, Sample, SeriesId, SeriesTable, Tick,
};

use crate::clock::process_cpu_ns;

/// Why a message or value was dropped, and how often, since the start.
pub(crate) type Drops = [(&'static str, u64)];

/// CPU time, memory, lateness and losses of this process. Inside `top` that includes the screen's.
pub(crate) struct OwnMetrics {
    entity: EntityId,
    /// False where the process does much else, as the demo's load generator: its cost would pass for the agent's.
    alone: bool,
    cpu: SeriesId,
    memory: SeriesId,
    lateness: SeriesId,
    missed: SeriesId,
    sessions: SeriesId,
    /// By name of the probe.
    probes: Vec<(&'static str, SeriesId)>,
    /// By reason.
    dropped: Vec<(&'static str, SeriesId)>,
    statm: Option<File>,
    page: u64,
    cpu_before: Option<u64>,
    newest: Newest,
}

/// What the newest tick says about the agent, for its view.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Newest {
    pub(crate) cpu_cores: Option<f64>,
    pub(crate) rss: Option<u64>,
    pub(crate) dropped: u64,
}

/// What the rest of the agent knows about itself.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Health<'a> {
    pub(crate) late_ns: u64,
    pub(crate) missed: u64,
    pub(crate) sessions: u64,
    pub(crate) drops: &'a Drops,
}

impl OwnMetrics {
    pub(crate) fn new(alone: bool, table: &mut SeriesTable) -> Self {
        let entity = table.entity(Entity::new(EntityKind::Agent, "perfwatch"));
        Self {
            entity,
            alone,
            cpu: table.series(&agent::CPU_TIME, entity, &[]),
            memory: table.series(&agent::MEMORY_USAGE, entity, &[]),
            lateness: table.series(&agent::LATENESS, entity, &[]),
            missed: table.series(&agent::TICKS_MISSED, entity, &[]),
            sessions: table.series(&agent::SESSIONS, entity, &[]),
            probes: Vec::new(),
            dropped: Vec::new(),
            statm: File::open("/proc/self/statm").ok(),
            page: rustix::param::page_size() as u64,
            cpu_before: None,
            newest: Newest::default(),
        }
    }

    /// Fills in what this process used and lost up to now.
    pub(crate) fn sample(
        &mut self,
        health: &Health<'_>,
        probes: impl Iterator<Item = (&'static str, u64)>,
        table: &mut SeriesTable,
        tick: &mut Tick,
    ) {
        let (cpu, rss) = if self.alone { (Some(process_cpu_ns()), self.resident()) } else { (None, None) };
        let before = std::mem::replace(&mut self.cpu_before, cpu);
        let used = before.zip(cpu).map(|(before, cpu)| cpu.saturating_sub(before) as f64 / tick.dt_ns.max(1) as f64);
        let dropped = health.drops.iter().map(|(_, count)| count).sum();
        self.newest = Newest { cpu_cores: used, rss, dropped };
        let mut out = Sample::new(table, tick);
        match cpu {
            Some(ns) => out.counter(self.cpu, ns),
            None => out.unavailable(&agent::CPU_TIME, self.entity, NOT_ALONE),
        }
        match rss {
            Some(bytes) => out.gauge_int(self.memory, bytes),
            None if self.alone => out.unavailable(&agent::MEMORY_USAGE, self.entity, NO_STATM),
            None => out.unavailable(&agent::MEMORY_USAGE, self.entity, NOT_ALONE),
        }
        out.gauge_int(self.lateness, health.late_ns);
        out.counter(self.missed, health.missed);
        out.gauge_int(self.sessions, health.sessions);
        for (name, ns) in probes {
            let series = labelled(&mut self.probes, name, || {
                out.series(&agent::PROBE_TIME, self.entity, &[Attr::fixed("perfwatch.probe", name)])
            });
            out.counter(series, ns);
        }
        for (reason, count) in health.drops {
            let series = labelled(&mut self.dropped, reason, || {
                out.series(&agent::DROPPED, self.entity, &[Attr::fixed("perfwatch.reason", reason)])
            });
            out.counter(series, *count);
        }
    }

    pub(crate) fn newest(&self) -> Newest {
        self.newest
    }

    fn resident(&self) -> Option<u64> {
        let mut bytes = [0; 128];
        let read = self.statm.as_ref()?.read_at(&mut bytes, 0).ok()?;
        let text = std::str::from_utf8(&bytes[..read]).ok()?;
        text.split_ascii_whitespace().nth(1)?.parse::<u64>().ok().map(|pages| pages * self.page)
    }
}

const NOT_ALONE: Reason =
    Reason::fixed("the agent shares its process with the demo's load generator", "run `perfwatch agent`");
const NO_STATM: Reason = Reason::fixed("/proc/self/statm cannot be read", "mount procfs");

/// The handle filed under a label, made on first sight.
fn labelled(
    known: &mut Vec<(&'static str, SeriesId)>,
    label: &'static str,
    make: impl FnOnce() -> SeriesId,
) -> SeriesId {
    if let Some((_, series)) = known.iter().find(|(name, _)| *name == label) {
        return *series;
    }
    let series = make();
    known.push((label, series));
    series
}

/// Whether each finding stands, as a gauge that dashboards and alerts can query.
#[derive(Default)]
pub(crate) struct FindingGauges {
    known: Vec<SeriesId>,
}

impl FindingGauges {
    /// Writes 1 for every finding that stands and 0 for every one that stood before.
    pub(crate) fn sample<'a>(
        &mut self,
        standing: impl Iterator<Item = (&'a Finding, EntityId)>,
        table: &mut SeriesTable,
        tick: &mut Tick,
    ) {
        let mut active = Vec::new();
        for (found, entity) in standing {
            let attrs = [
                Attr::text("perfwatch.finding.id", found.id.clone()),
                Attr::fixed("perfwatch.finding.severity", found.severity.name()),
            ];
            let series = table.series(&finding::ACTIVE, entity, &attrs);
            active.push(series);
            if !self.known.contains(&series) {
                self.known.push(series);
            }
        }
        self.known.retain(|series| table.series_of(*series).is_some());
        for series in &self.known {
            tick.values.push((*series, Number::Int(u64::from(active.contains(series)))));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::Severity;

    fn finding(severity: Severity) -> Finding {
        Finding {
            id: "overload".into(),
            severity,
            entity: "server:shop/1".to_owned(),
            summary: "".into(),
            detail: String::new(),
            evidence: Vec::new(),
            cost: None,
            remedies: Vec::new(),
            experimental: false,
        }
    }

    #[test]
    fn a_finding_that_falls_is_a_zero_until_its_entity_retires() {
        let mut table = SeriesTable::new();
        let server = table.entity(Entity::new(EntityKind::Server, "shop/1"));
        let mut gauges = FindingGauges::default();
        let mut values = |table: &mut SeriesTable, standing: &[Finding]| {
            let mut tick = Tick::default();
            gauges.sample(standing.iter().map(|found| (found, server)), table, &mut tick);
            let value = |(_, number): &(SeriesId, Number)| number.as_int().expect("an integer");
            tick.values.iter().map(value).collect::<Vec<_>>()
        };
        assert!(values(&mut table, &[]).is_empty());
        assert_eq!(values(&mut table, &[finding(Severity::Warning)]), [1]);
        assert_eq!(values(&mut table, &[finding(Severity::Critical)]), [0, 1], "each severity is a series");
        assert_eq!(values(&mut table, &[]), [0, 0]);
        table.retire(server);
        assert!(values(&mut table, &[]).is_empty());
    }

    #[test]
    fn what_this_process_uses_is_measured_and_what_was_lost_is_told_by_reason() {
        let mut table = SeriesTable::new();
        let mut own = OwnMetrics::new(true, &mut table);
        let drops = [("probe_malformed", 2), ("queue_full", 3)];
        let health = Health { late_ns: 7, missed: 1, sessions: 4, drops: &drops };
        let mut tick = Tick { dt_ns: 1_000_000_000, ..Tick::default() };
        own.sample(&health, [("cpu", 9)].into_iter(), &mut table, &mut tick);
        assert_eq!(own.newest().cpu_cores, None, "there is nothing to compare with yet");
        let mut tick = Tick { dt_ns: 1_000_000_000, ..Tick::default() };
        own.sample(&health, [("cpu", 9)].into_iter(), &mut table, &mut tick);
        tick.seal();
        let newest = own.newest();
        assert!(newest.cpu_cores.is_some_and(|cores| cores >= 0.0) && newest.rss.is_some_and(|bytes| bytes > 0));
        assert_eq!(newest.dropped, 5);
        let reason = [Attr::fixed("perfwatch.reason", "queue_full")];
        let series = table.find(&agent::DROPPED, own.entity, &reason).expect("interned");
        assert_eq!(tick.value(series), Some(Number::Int(3)));
    }
}
