//! Control groups, version 1 and 2: the agent's own and those of the model servers.

use std::collections::HashSet;
use std::path::PathBuf;

use perfwatch_model::metrics::host::{
    CGROUP_CPU_LIMIT, CGROUP_CPU_TIME, CGROUP_MEMORY_EVENTS, CGROUP_MEMORY_LIMIT, CGROUP_MEMORY_USAGE, CGROUP_PERIODS,
    CGROUP_THROTTLED_PERIODS, CGROUP_THROTTLED_TIME, PRESSURE_TIME,
};
use perfwatch_model::{Attr, Entity, EntityId, EntityKind, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use super::pressure::Stalls;
use super::served::{NO_QUOTA, UNREADABLE_LIMIT};
use crate::kernel::control_group::{CpuGroup, Limit, MEMORY_EVENTS, MemoryGroup, Mounts, Version, membership};
use crate::kernel::counter::Rising;
use crate::kernel::held::HeldFile;
use crate::kernel::threads::process_folder;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// `/sys/fs/cgroup`.
pub(super) struct Cgroup;

const NO_LIMIT: Reason = Reason::fixed("no memory limit is set on the control group or its ancestors", "");
const NO_CPU: Reason = Reason::fixed(
    "the group's CPU controller is not visible here, or not switched on",
    "enable the cpu controller for the group (cgroup.subtree_control) and mount /sys/fs/cgroup",
);
const NO_MEMORY: Reason = Reason::fixed(
    "the group's memory controller is not visible here, or not switched on",
    "enable the memory controller for the group (cgroup.subtree_control) and mount /sys/fs/cgroup",
);
const NO_PRESSURE_V1: Reason = Reason::fixed(
    "control groups of version 1 have no pressure stall information",
    "boot with control groups of version 2",
);
const NO_PRESSURE: Reason = Reason::fixed(
    "the control group has no pressure stall information",
    "run a kernel built with CONFIG_PSI, with psi=1 on its command line",
);

impl ProbeKind for Cgroup {
    fn name(&self) -> &'static str {
        "cgroup"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        &[
            &CGROUP_CPU_TIME,
            &CGROUP_CPU_LIMIT,
            &CGROUP_THROTTLED_PERIODS,
            &CGROUP_PERIODS,
            &CGROUP_THROTTLED_TIME,
            &CGROUP_MEMORY_USAGE,
            &CGROUP_MEMORY_LIMIT,
            &CGROUP_MEMORY_EVENTS,
            &PRESSURE_TIME,
        ]
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        let mounts = Mounts::read(context)?;
        let own = Group::open(&membership(&context.proc, None)?, &mounts, table).ok_or(Reason::fixed(
            "the agent's control group is not in the part of /sys/fs/cgroup that is visible here",
            "start the agent's container with its own cgroup namespace or the host's",
        ))?;
        let groups = vec![own];
        Ok(Box::new(CgroupProbe {
            proc: context.proc.clone(),
            mounts,
            groups,
            pids: Vec::new(),
            followed: Vec::new(),
            changed: false,
            turn: 0,
            scratch: Vec::new(),
        }))
    }
}

struct CgroupProbe {
    proc: PathBuf,
    mounts: Mounts,
    /// The agent's own first; it stays.
    groups: Vec<Group>,
    pids: Vec<u32>,
    followed: Vec<Followed>,
    /// Somebody left or moved: a group may have nobody in it any more.
    changed: bool,
    /// Whose turn it is when there are too many to look at all of them.
    turn: usize,
    scratch: Vec<u8>,
}

/// Processes whose group is looked up in a tick. Who moves a server does so rarely, and the kernel takes microseconds to
/// write the groups of one: a thousand are looked at in turns, each every 16 s.
const LOOKED_AT: usize = 64;

/// A watched process, whose group is measured.
struct Followed {
    pid: u32,
    membership: HeldFile,
    seen: Vec<u8>,
    group: Option<EntityId>,
}

struct Group {
    entity: EntityId,
    version: Version,
    cpu: Option<CpuGroup>,
    memory: Option<MemoryGroup>,
    pressure: Vec<Stalls>,
    usage: Rising,
    events: [Rising; MEMORY_EVENTS.len()],
    series: GroupSeries,
}

struct GroupSeries {
    cpu_time: SeriesId,
    cpu_limit: SeriesId,
    throttled_periods: SeriesId,
    periods: SeriesId,
    throttled_time: SeriesId,
    memory: SeriesId,
    memory_limit: SeriesId,
    events: [SeriesId; MEMORY_EVENTS.len()],
}

impl Probe for CgroupProbe {
    fn watch(&mut self, servers: &[(EntityId, Vec<u32>)]) {
        self.pids.clear();
        self.pids.extend(servers.iter().flat_map(|(_, pids)| pids));
        let (pids, before) = (&self.pids, self.followed.len());
        self.followed.retain(|process| pids.contains(&process.pid));
        self.changed |= self.followed.len() < before;
    }

    fn sample(&mut self, _now: Stamp, out: &mut Sample<'_>) {
        self.follow(out);
        for group in &mut self.groups {
            group.sample(&mut self.scratch, out);
        }
    }
}

impl CgroupProbe {
    /// Looks which groups the watched processes are in now.
    fn follow(&mut self, out: &mut Sample<'_>) {
        let Self { proc, mounts, groups, pids, followed, changed, turn, scratch } = self;
        if followed.len() < pids.len() {
            let mut known: HashSet<u32> = followed.iter().map(|process| process.pid).collect();
            for pid in pids.iter().filter(|pid| known.insert(**pid)) {
                if let Ok(membership) = HeldFile::open(&process_folder(proc, *pid).join("cgroup")) {
                    followed.push(Followed { pid: *pid, membership, seen: Vec::new(), group: None });
                }
            }
        }
        let (count, first) = (followed.len(), *turn);
        *turn = (first + LOOKED_AT) % count.max(1);
        let (mut place, mut at) = (0, 0);
        while at < followed.len() {
            let in_turn = (place + count - first % count) % count < LOOKED_AT;
            place += 1;
            if !in_turn && !followed[at].seen.is_empty() {
                at += 1;
                continue;
            }
            let Ok(text) = followed[at].membership.read(scratch) else {
                *changed = true;
                followed.remove(at);
                continue;
            };
            if text != followed[at].seen {
                *changed = true;
                let moved = &mut followed[at];
                moved.seen.clear();
                moved.seen.extend_from_slice(text);
                moved.group = None;
                let group = std::str::from_utf8(text).ok().and_then(|text| Group::open(text, mounts, out.table()));
                followed[at].group = group.map(|group| enter(groups, followed, group));
            }
            at += 1;
        }
        if std::mem::take(changed) {
            let mut own = true;
            groups.retain(|group| {
                std::mem::take(&mut own) || followed.iter().any(|process| process.group == Some(group.entity)) || {
                    out.table().retire(group.entity);
                    false
                }
            });
        }
    }
}

/// Takes a group up that somebody is in now. One of the same name with nobody in it may be gone, and this another: its files
/// say nothing any more.
fn enter(groups: &mut Vec<Group>, followed: &[Followed], group: Group) -> EntityId {
    let entity = group.entity;
    let own = groups.first().is_some_and(|own| own.entity == entity);
    let held = own || followed.iter().any(|process| process.group == Some(entity));
    match groups.iter_mut().find(|known| known.entity == entity) {
        Some(_) if held => {}
        Some(known) => *known = group,
        None => groups.push(group),
    }
    entity
}

impl Group {
    /// `None` when neither its CPU nor its memory side is in sight.
    fn open(membership: &str, mounts: &Mounts, table: &mut SeriesTable) -> Option<Self> {
        let cpu = mounts.locate(membership, "cpu");
        let memory = mounts.locate(membership, "memory");
        // In version 1 a process may be in a different group of each controller; the one below the root names it.
        let named = [&cpu, &memory].into_iter().flatten().max_by_key(|location| location.name.len())?;
        let entity = table.entity(Entity::new(EntityKind::Cgroup, perfwatch_model::printable(named.name.as_bytes())));
        let version = named.version;
        let mut pressure = Vec::new();
        if version == Version::V2 {
            for resource in ["cpu", "memory", "io"] {
                let path = named.levels[0].join(format!("{resource}.pressure"));
                pressure.extend(Stalls::open(&path, table, entity, resource, &["some", "full"]));
            }
        }
        let series = GroupSeries {
            cpu_time: table.series(&CGROUP_CPU_TIME, entity, &[]),
            cpu_limit: table.series(&CGROUP_CPU_LIMIT, entity, &[]),
            throttled_periods: table.series(&CGROUP_THROTTLED_PERIODS, entity, &[]),
            periods: table.series(&CGROUP_PERIODS, entity, &[]),
            throttled_time: table.series(&CGROUP_THROTTLED_TIME, entity, &[]),
            memory: table.series(&CGROUP_MEMORY_USAGE, entity, &[]),
            memory_limit: table.series(&CGROUP_MEMORY_LIMIT, entity, &[]),
            events: MEMORY_EVENTS.map(|event| {
                table.series(&CGROUP_MEMORY_EVENTS, entity, &[Attr::fixed("perfwatch.cgroup.event", event)])
            }),
        };
        Some(Self {
            entity,
            version,
            cpu: cpu.map(|cpu| CpuGroup::open(&cpu, mounts.locate(membership, "cpuacct").as_ref())),
            memory: memory.as_ref().and_then(MemoryGroup::open),
            pressure,
            usage: Rising::default(),
            events: [Rising::default(); MEMORY_EVENTS.len()],
            series,
        })
    }

    fn sample(&mut self, scratch: &mut Vec<u8>, out: &mut Sample<'_>) {
        self.sample_cpu(scratch, out);
        self.sample_memory(scratch, out);
        if self.pressure.is_empty() {
            let reason = if self.version == Version::V1 { NO_PRESSURE_V1 } else { NO_PRESSURE };
            out.unavailable(&PRESSURE_TIME, self.entity, reason);
        }
        for stalls in &mut self.pressure {
            if !stalls.push(scratch, out) {
                out.unavailable(&PRESSURE_TIME, self.entity, NO_PRESSURE);
            }
        }
    }

    fn sample_cpu(&mut self, scratch: &mut Vec<u8>, out: &mut Sample<'_>) {
        let series = &self.series;
        let Some(cpu) = &mut self.cpu else {
            for metric in [
                &CGROUP_CPU_TIME,
                &CGROUP_CPU_LIMIT,
                &CGROUP_THROTTLED_PERIODS,
                &CGROUP_PERIODS,
                &CGROUP_THROTTLED_TIME,
            ] {
                out.unavailable(metric, self.entity, NO_CPU);
            }
            return;
        };
        let sample = cpu.sample(scratch);
        match sample.usage_ns {
            Some(ns) => out.counter(series.cpu_time, self.usage.follow(ns)),
            None => out.unavailable(&CGROUP_CPU_TIME, self.entity, NO_CPU),
        }
        match sample.limit {
            Limit::At(cpus) => out.gauge(series.cpu_limit, cpus),
            Limit::Unlimited => out.unavailable(&CGROUP_CPU_LIMIT, self.entity, NO_QUOTA),
            Limit::Unreadable => out.unavailable(&CGROUP_CPU_LIMIT, self.entity, UNREADABLE_LIMIT),
        }
        out.counter(series.periods, sample.denied.periods);
        out.counter(series.throttled_periods, sample.denied.throttled_periods);
        out.counter(series.throttled_time, sample.denied.throttled_ns);
    }

    fn sample_memory(&mut self, scratch: &mut Vec<u8>, out: &mut Sample<'_>) {
        let series = &self.series;
        let sample = self.memory.as_ref().map(|memory| memory.sample(scratch)).unwrap_or_default();
        match sample.current {
            Some(bytes) => out.gauge_int(series.memory, bytes),
            None => out.unavailable(&CGROUP_MEMORY_USAGE, self.entity, NO_MEMORY),
        }
        match sample.limit {
            _ if self.memory.is_none() => out.unavailable(&CGROUP_MEMORY_LIMIT, self.entity, NO_MEMORY),
            Limit::At(bytes) => out.gauge_int(series.memory_limit, bytes),
            Limit::Unlimited => out.unavailable(&CGROUP_MEMORY_LIMIT, self.entity, NO_LIMIT),
            Limit::Unreadable => out.unavailable(&CGROUP_MEMORY_LIMIT, self.entity, UNREADABLE_LIMIT),
        }
        if sample.events.iter().all(Option::is_none) {
            out.unavailable(&CGROUP_MEMORY_EVENTS, self.entity, NO_MEMORY);
        }
        for ((event, total), series) in sample.events.iter().zip(&mut self.events).zip(&series.events) {
            if let Some(count) = event {
                out.counter(*series, total.follow(*count));
            }
        }
    }
}
