//! What a server's processes say about themselves: all there is to know where the agent cannot see them, because they live
//! in another PID namespace and share only the socket's folder with it.
//!
//! What their control group got becomes the same metrics as those of a group that the agent sees, about the server. Only what
//! others used of the server's CPUs is worked out, in [`neighbours`].

mod neighbours;

use perfwatch_model::metrics::{host, server};
use perfwatch_model::{Absence, Attr, EntityId, MetricDef, Number, Reason, SeriesId, SeriesTable, Tick};
use perfwatch_probes::host::NO_QUOTA;
use perfwatch_wire::message::{ControlGroup, Flush};

use neighbours::{Neighbours, Verdict};

/// CPU numbers that are told apart, as many as the SDK asks the kernel for.
const MAX_CPUS: usize = 1_024;
/// Ticks without a flush for which what holds at an instant is believed to hold: as long as a server counts as live.
const BELIEVED: u32 = 3;

/// What gathers, with the attributes of its series.
const COUNTERS: [(&MetricDef, &[Attr]); 12] = [
    (&server::CPU_TIME, &[]),
    (&server::CPU_RUN_DELAY, &[]),
    (&server::CPU_PERIODS, &[]),
    (&server::CPU_THROTTLED_PERIODS, &[]),
    (&server::CPU_THROTTLED, &[]),
    (&host::CGROUP_MEMORY_EVENTS, &[Attr::fixed("perfwatch.cgroup.event", "max")]),
    (&host::CGROUP_MEMORY_EVENTS, &[Attr::fixed("perfwatch.cgroup.event", "oom_kill")]),
    (&host::PRESSURE_TIME, &pressure("cpu", "some")),
    (&host::PRESSURE_TIME, &pressure("memory", "some")),
    (&host::PRESSURE_TIME, &pressure("memory", "full")),
    (&host::PRESSURE_TIME, &pressure("io", "some")),
    (&host::PRESSURE_TIME, &pressure("io", "full")),
];
/// How many of them belong to a process; the others belong to its control group, of which all processes in it tell.
const OF_PROCESS: usize = 2;

const fn pressure(resource: &'static str, kind: &'static str) -> [Attr; 2] {
    [Attr::fixed("perfwatch.pressure.resource", resource), Attr::fixed("perfwatch.pressure.kind", kind)]
}

/// Gains, in the order of [`COUNTERS`].
type Gains = [Option<u64>; COUNTERS.len()];

const OTHERS_UNKNOWN: Reason = Reason::fixed(
    "the server's processes are out of sight and do not tell what their control group used",
    "run the agent in the host's pid namespace (hostPID: true, --pid=host), or the server in a control group of its own",
);

/// What one process told since the last tick.
#[derive(Debug, Default)]
pub(super) struct Told {
    gains: Gains,
    /// CPU time of its control group.
    group_ns: Option<u64>,
    newest: Option<Levels>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Quota {
    #[default]
    Unknown,
    /// It is certain that there is none.
    None,
    /// CPU nanoseconds per second.
    Some(u64),
}

/// What holds at an instant.
#[derive(Clone, Copy, Debug, Default)]
struct Levels {
    cpus: Option<Cpus>,
    quota: Quota,
    memory_bytes: Option<u64>,
    memory_limit_bytes: Option<u64>,
}

impl Told {
    pub(super) fn add(&mut self, flush: &Flush) {
        let none = ControlGroup::default();
        let group = flush.control_group.as_ref().unwrap_or(&none);
        let gains = [
            flush.cpu_ns,
            flush.run_delay_ns,
            group.periods,
            group.throttled_periods,
            group.throttled_ns,
            group.memory_limit_hits,
            group.oom_kills,
            group.cpu_some_ns,
            group.memory_some_ns,
            group.memory_full_ns,
            group.io_some_ns,
            group.io_full_ns,
        ];
        let more = |sum: Option<u64>, gained: Option<u64>| match (sum, gained) {
            (Some(sum), Some(gained)) => Some(sum.saturating_add(gained)),
            (sum, gained) => gained.or(sum),
        };
        for (sum, gained) in self.gains.iter_mut().zip(gains) {
            *sum = more(*sum, gained);
        }
        self.group_ns = more(self.group_ns, group.cpu_ns);
        self.newest = Some(Levels {
            cpus: Cpus::parse(&flush.cpus_allowed),
            quota: match (group.quota_ns_per_s, group.periods) {
                (Some(quota), _) => Quota::Some(quota),
                // Who can read how often it ran out could have read it.
                (None, Some(_)) => Quota::None,
                (None, None) => Quota::Unknown,
            },
            memory_bytes: group.memory_bytes,
            memory_limit_bytes: group.memory_limit_bytes,
        });
    }
}

impl Levels {
    /// Of processes of one server: each may run on CPUs of its own, the group is the same.
    fn with(self, other: Self) -> Self {
        let both = |one: Option<Cpus>, other: Option<Cpus>| match (one, other) {
            (Some(one), Some(other)) => Some(one.or(other)),
            (one, other) => one.or(other),
        };
        Self {
            cpus: both(self.cpus, other.cpus),
            quota: if self.quota == Quota::Unknown { other.quota } else { self.quota },
            memory_bytes: self.memory_bytes.max(other.memory_bytes),
            memory_limit_bytes: self.memory_limit_bytes.or(other.memory_limit_bytes),
        }
    }
}

/// A server's running totals as its processes tell them.
#[derive(Debug)]
pub(super) struct Inside {
    entity: EntityId,
    counters: [Option<(SeriesId, u64)>; COUNTERS.len()],
    levels: Levels,
    /// Ticks since not all processes have told theirs.
    levels_age: u32,
    neighbours: Neighbours,
}

impl Inside {
    pub(super) fn new(entity: EntityId) -> Self {
        let (levels, neighbours) = (Levels::default(), Neighbours::default());
        Self { entity, counters: [None; COUNTERS.len()], levels, levels_age: 0, neighbours }
    }

    /// Appends what the processes told for this tick, and takes back that their probe could not see it. Not to be called
    /// while the agent sees one of them itself: its own probe fills the same series then.
    pub(super) fn report(&mut self, told: &[Told], tick: &mut Tick, table: &mut SeriesTable) {
        let from = tick.values.len();
        self.add_counters(told, tick, table);
        if told.is_empty() {
            self.neighbours.pause();
            return;
        }
        self.renew_levels(told);
        let Levels { cpus, quota, memory_bytes, memory_limit_bytes } = self.levels;
        let quota_cpus = match quota {
            Quota::Some(ns) => Some(Number::Float(ns as f64 * 1e-9)),
            Quota::None | Quota::Unknown => None,
        };
        let capacity = cpus.map(|cpus| Number::Float(f64::from(cpus.count())));
        for (metric, number) in [
            (&server::CPU_CAPACITY, capacity),
            (&server::CPU_QUOTA, quota_cpus),
            (&host::CGROUP_MEMORY_USAGE, memory_bytes.map(Number::Int)),
            (&host::CGROUP_MEMORY_LIMIT, memory_limit_bytes.map(Number::Int)),
        ] {
            tick.values.extend(number.map(|number| (table.series(metric, self.entity, &[]), number)));
        }
        let group_ns = told.iter().filter_map(|told| told.group_ns).max();
        let neighbours = self.neighbours.report(self.entity, cpus, group_ns, tick, table);
        let is_told = |(series, _): &(SeriesId, Number), metric: &str| {
            table.series_of(*series).is_some_and(|series| series.metric.name == metric)
        };
        let Tick { values, absent, .. } = tick;
        for absence in absent.iter_mut().filter(|absence| absence.entity == self.entity) {
            if quota == Quota::None && absence.metric == server::CPU_QUOTA.name {
                absence.reason = NO_QUOTA;
            }
            if neighbours == Verdict::Unknown && absence.metric == server::CPU_OTHERS.name {
                absence.reason = OTHERS_UNKNOWN;
            }
        }
        absent.retain(|Absence { metric, entity, .. }| {
            *entity != self.entity || !values[from..].iter().any(|value| is_told(value, metric))
        });
    }

    fn add_counters(&mut self, told: &[Told], tick: &mut Tick, table: &mut SeriesTable) {
        for (at, (metric, attrs)) in COUNTERS.into_iter().enumerate() {
            let gains = told.iter().filter_map(|told| told.gains[at]);
            let gained = if at < OF_PROCESS { gains.reduce(u64::saturating_add) } else { gains.max() };
            if let Some(gained) = gained {
                let fresh = || (table.series(metric, self.entity, attrs), 0);
                let (_, total) = self.counters[at].get_or_insert_with(fresh);
                *total = total.saturating_add(gained);
            }
            tick.values.extend(self.counters[at].map(|(series, total)| (series, Number::Int(total))));
        }
    }

    /// A flush that is late leaves what holds at an instant as it was.
    fn renew_levels(&mut self, told: &[Told]) {
        let newest = told.iter().filter_map(|told| told.newest).reduce(Levels::with);
        let all_spoke = told.iter().all(|told| told.newest.is_some());
        self.levels_age = if all_spoke { 0 } else { self.levels_age + 1 };
        if all_spoke || self.levels.cpus.is_none() || self.levels_age > BELIEVED {
            self.levels = newest.unwrap_or_default();
        }
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cpus([u64; MAX_CPUS / 64]);

impl Cpus {
    /// From a kernel list such as `0-3,8`; `None` when it is none, or empty.
    fn parse(text: &str) -> Option<Self> {
        let mut cpus = Self([0; MAX_CPUS / 64]);
        for part in text.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            (first..=last.min(MAX_CPUS - 1)).for_each(|cpu| cpus.0[cpu / 64] |= 1 << (cpu % 64));
        }
        (cpus.count() > 0).then_some(cpus)
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    pub(super) fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }

    pub(super) fn contains(&self, cpu: usize) -> bool {
        self.0.get(cpu / 64).is_some_and(|word| word >> (cpu % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests;
