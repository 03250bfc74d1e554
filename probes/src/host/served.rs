//! What model servers get of the machine: the CPUs they may use, what they used, waited for and were denied, and what
//! others used of the same CPUs. The CPU ledger is made of these numbers.
//!
//! A server is the processes that its clients named and everything those started. Its counters begin when the server is
//! first seen and never go back: threads and processes that end leave what they had done up to the last look. What
//! happens between the last look and an exit is missed for run delay, and for the CPU time of whole processes.

use std::path::PathBuf;

use perfwatch_model::metrics::server::{
    CPU_CAPACITY, CPU_OTHERS, CPU_PERIODS, CPU_QUOTA, CPU_RUN_DELAY, CPU_STEAL, CPU_THROTTLED, CPU_THROTTLED_PERIODS,
    CPU_TIME, HOTTEST_THREAD,
};
use perfwatch_model::{EntityId, MetricDef, Reason, Sample, SeriesId, SeriesTable, Stamp};

use crate::kernel::control_group::{CpuGroupSample, Limit, Mounts};
use crate::kernel::core_steps::CoreSteps;
use crate::kernel::followed_group::FollowedGroup;
use crate::kernel::held::HeldFile;
use crate::kernel::parse;
use crate::kernel::process_tree::{ProcessTree, TreeSample};
use crate::kernel::threads::Scratch;
use crate::{Cadence, Probe, ProbeContext, ProbeKind};

/// The process trees of the model servers.
pub(super) struct Served;

/// `/proc/stat` counts in steps of a tick, and charges a tick to whoever runs when it ends: over a second the sum of a
/// CPU may be this much below what its processes used, and it is made up for later.
const ACCOUNTING_NOISE_NS: u64 = 20_000_000;

const METRICS: &[&MetricDef] = &[
    &CPU_CAPACITY,
    &CPU_TIME,
    &CPU_RUN_DELAY,
    &CPU_OTHERS,
    &CPU_STEAL,
    &CPU_THROTTLED,
    &CPU_THROTTLED_PERIODS,
    &CPU_PERIODS,
    &CPU_QUOTA,
    &HOTTEST_THREAD,
];

const NOT_VISIBLE: Reason = Reason::fixed(
    "the server's processes are not visible to the agent",
    "run the agent in the host's pid namespace (hostPID: true, --pid=host) or in the server's",
);
const ENDED: Reason = Reason::fixed("the server's processes have ended", "");
const NO_SCHEDSTAT: Reason = Reason::fixed(
    "the kernel does not tell how long threads wait for a CPU",
    "run a kernel with CONFIG_SCHED_INFO, and the agent as the server's user or root",
);
const NO_PROC_STAT: Reason = Reason::fixed(
    "the CPU time of the server's CPUs cannot be read from /proc/stat",
    "mount procfs in the agent's container",
);
const NO_AFFINITY: Reason = Reason::fixed(
    "the CPUs that the server's threads may use cannot be read",
    "run the agent as the server's user or root",
);
const CHILDREN_UNKNOWN: Reason = Reason::fixed(
    "the kernel does not tell which processes the server started, so others' CPU time is not known",
    "run a kernel with CONFIG_PROC_CHILDREN",
);
const NO_GROUP: Reason = Reason::fixed(
    "the server's CPU control group is not visible to the agent",
    "mount the host's /sys/fs/cgroup in the agent's container and use the host's cgroup namespace",
);
/// The reason that stands for the absence of a quota: not a failure to read one.
pub const NO_QUOTA: Reason = Reason::fixed("no CPU quota is set on the control group or its ancestors", "");
/// There may be a limit.
pub(super) const UNREADABLE_LIMIT: Reason = Reason::fixed(
    "a limit of the control group or of an ancestor cannot be read",
    "mount /sys/fs/cgroup readable for the agent",
);

impl ProbeKind for Served {
    fn name(&self) -> &'static str {
        "served"
    }

    fn metrics(&self) -> &'static [&'static MetricDef] {
        METRICS
    }

    fn cadence(&self) -> Cadence {
        Cadence::EveryTick
    }

    fn open(&self, context: &ProbeContext, _table: &mut SeriesTable) -> Result<Box<dyn Probe>, Reason> {
        if !context.proc.join("self").exists() {
            return Err(Reason::new(format!("{} is not procfs", context.proc.display()), "mount procfs"));
        }
        Ok(Box::new(ServedProbe {
            proc: context.proc.clone(),
            ours: context.pids_are_ours(),
            mounts: Mounts::read(context).ok(),
            stat: HeldFile::open(&context.proc.join("stat")).ok(),
            loadavg: HeldFile::open(&context.proc.join("loadavg")).ok(),
            newest: None,
            cores: CoreSteps::default(),
            servers: Vec::new(),
            roots: Vec::new(),
            scratch: Scratch::new(),
            last_ns: None,
        }))
    }
}

struct ServedProbe {
    proc: PathBuf,
    ours: bool,
    mounts: Option<Mounts>,
    stat: Option<HeldFile>,
    loadavg: Option<HeldFile>,
    /// The pid given out last, at the last look.
    newest: Option<u64>,
    cores: CoreSteps,
    servers: Vec<Server>,
    /// Roots of all servers, sorted.
    roots: Vec<u32>,
    scratch: Scratch,
    last_ns: Option<u64>,
}

struct Server {
    entity: EntityId,
    tree: ProcessTree,
    group: FollowedGroup,
    series: Option<AllSeries>,
    totals: Totals,
    /// The kernel keeps scheduler statistics.
    waits_are_told: bool,
}

#[derive(Clone, Copy)]
struct AllSeries {
    capacity: SeriesId,
    cpu_time: SeriesId,
    run_delay: SeriesId,
    others: SeriesId,
    steal: SeriesId,
    throttled: SeriesId,
    throttled_periods: SeriesId,
    periods: SeriesId,
    quota: SeriesId,
    hottest: SeriesId,
}

/// Running totals in nanoseconds since the server was first seen.
#[derive(Default)]
struct Totals {
    cpu: u64,
    run_delay: u64,
    others: u64,
    steal: u64,
    /// By how much the processes' clocks are ahead of the CPUs'.
    ahead: u64,
}

impl Probe for ServedProbe {
    fn watch(&mut self, servers: &[(EntityId, Vec<u32>)]) {
        let Self { servers: known, scratch, roots, .. } = self;
        known.retain_mut(|server| {
            let stays = servers.iter().any(|(entity, _)| *entity == server.entity);
            if !stays {
                server.tree.close(scratch);
            }
            stays
        });
        for (entity, pids) in servers {
            let at = known.iter().position(|server| server.entity == *entity).unwrap_or_else(|| {
                known.push(Server::new(*entity));
                known.len() - 1
            });
            known[at].tree.set_roots(pids, scratch);
        }
        roots.clear();
        roots.extend(servers.iter().flat_map(|(_, pids)| pids));
        roots.sort_unstable();
    }

    fn sample(&mut self, now: Stamp, out: &mut Sample<'_>) {
        // The CPUs' times first, the processes' right after: what runs in between counts for the processes.
        let cores_known = self
            .stat
            .as_ref()
            .is_some_and(|file| file.read(&mut self.scratch.text).is_ok_and(|text| self.cores.take(text)));
        let elapsed_ns = self.last_ns.map(|last| now.mono_ns.saturating_sub(last)).filter(|ns| *ns > 0);
        self.last_ns = Some(now.mono_ns);
        let look_around = self.tasks_were_created();
        let ceiling_ns = elapsed_ns.unwrap_or(0).saturating_mul(u64::from(self.cores.online().count().max(1)));
        for server in &mut self.servers {
            let mut tree =
                server.tree.sample(&self.proc, self.ours, look_around, &self.roots, ceiling_ns, &mut self.scratch);
            if !self.ours {
                tree.threads.allowed.intersect(self.cores.online());
            }
            let group = server.group.sample(server.tree.leader(), &self.proc, self.mounts.as_ref(), &mut self.scratch);
            server.push(&tree, group, cores_known.then_some(&self.cores), elapsed_ns, out);
        }
    }
}

impl ServedProbe {
    /// False when the kernel has given out no pid since the last look, so that there can be no new thread or process
    /// anywhere; on a quiet machine that saves most of the work.
    fn tasks_were_created(&mut self) -> bool {
        let newest = self.loadavg.as_ref().and_then(|file| {
            let text = file.read(&mut self.scratch.text).ok()?.trim_ascii_end();
            // A sandbox that does not count them writes 0.
            parse::only_number(text.rsplit(|byte| *byte == b' ').next()?).filter(|newest| *newest > 0)
        });
        let changed = newest.is_none() || newest != self.newest || !self.ours;
        self.newest = newest;
        changed
    }
}

impl Server {
    fn new(entity: EntityId) -> Self {
        Self {
            entity,
            tree: ProcessTree::new(),
            group: FollowedGroup::default(),
            series: None,
            totals: Totals::default(),
            waits_are_told: false,
        }
    }

    fn push(
        &mut self,
        tree: &TreeSample,
        group: Option<CpuGroupSample>,
        cores: Option<&CoreSteps>,
        elapsed_ns: Option<u64>,
        out: &mut Sample<'_>,
    ) {
        let entity = self.entity;
        if tree.processes == 0 {
            let reason = if self.tree.never_seen() { NOT_VISIBLE } else { ENDED };
            for metric in METRICS {
                out.unavailable(metric, entity, reason.clone());
            }
            return;
        }
        let series = *self.series.get_or_insert_with(|| AllSeries::new(entity, out));
        self.push_used(&series, tree, elapsed_ns, out);
        self.push_cpus(&series, tree, cores, out);
        push_denied(&series, entity, group, out);
    }

    /// CPU time, waiting and the busiest thread.
    fn push_used(&mut self, series: &AllSeries, tree: &TreeSample, elapsed_ns: Option<u64>, out: &mut Sample<'_>) {
        let totals = &mut self.totals;
        totals.cpu += tree.cpu_ns;
        out.counter(series.cpu_time, totals.cpu);
        // Without scheduler statistics the files exist and hold zeros, even for what has certainly run.
        self.waits_are_told |= tree.threads.ever_ran;
        if let Some(ns) = tree.threads.delay_ns.filter(|_| self.waits_are_told) {
            totals.run_delay += ns;
            out.counter(series.run_delay, totals.run_delay);
            if let Some(elapsed) = elapsed_ns.filter(|_| tree.complete) {
                out.gauge(series.hottest, (tree.threads.hottest_ns as f64 / elapsed as f64).min(1.0));
            }
        } else {
            out.unavailable(&CPU_RUN_DELAY, self.entity, NO_SCHEDSTAT);
            out.unavailable(&HOTTEST_THREAD, self.entity, NO_SCHEDSTAT);
        }
    }

    /// The CPUs it may use, and who else had them.
    fn push_cpus(&mut self, series: &AllSeries, tree: &TreeSample, cores: Option<&CoreSteps>, out: &mut Sample<'_>) {
        let entity = self.entity;
        let allowed = &tree.threads.allowed;
        let absent = if allowed.count() == 0 {
            out.unavailable(&CPU_CAPACITY, entity, NO_AFFINITY);
            NO_AFFINITY
        } else {
            out.gauge_int(series.capacity, u64::from(allowed.count()));
            NO_PROC_STAT
        };
        let Some(cores) = cores.filter(|_| allowed.count() > 0) else {
            out.unavailable(&CPU_STEAL, entity, absent.clone());
            out.unavailable(&CPU_OTHERS, entity, absent);
            return;
        };
        let (busy_ns, steal_ns) = cores.busy_and_steal_ns(allowed);
        let totals = &mut self.totals;
        totals.steal += steal_ns;
        out.counter(series.steal, totals.steal);
        if !self.tree.tells_children() {
            out.unavailable(&CPU_OTHERS, entity, CHILDREN_UNKNOWN);
            return;
        }
        // What a process that was just met did is not known, and must not be taken for others'.
        if tree.complete {
            totals.add_others(busy_ns, tree.cpu_ns, allowed.count());
        }
        out.counter(series.others, totals.others);
    }
}

/// What the quota of its control group denied it.
fn push_denied(series: &AllSeries, entity: EntityId, group: Option<CpuGroupSample>, out: &mut Sample<'_>) {
    let Some(group) = group else {
        for metric in [&CPU_THROTTLED, &CPU_THROTTLED_PERIODS, &CPU_PERIODS, &CPU_QUOTA] {
            out.unavailable(metric, entity, NO_GROUP);
        }
        return;
    };
    out.counter(series.throttled, group.denied.throttled_ns);
    out.counter(series.throttled_periods, group.denied.throttled_periods);
    out.counter(series.periods, group.denied.periods);
    match group.limit {
        Limit::At(cpus) => out.gauge(series.quota, cpus),
        Limit::Unlimited => out.unavailable(&CPU_QUOTA, entity, NO_QUOTA),
        Limit::Unreadable => out.unavailable(&CPU_QUOTA, entity, UNREADABLE_LIMIT),
    }
}

impl AllSeries {
    fn new(entity: EntityId, out: &mut Sample<'_>) -> Self {
        let mut series = |metric| out.series(metric, entity, &[]);
        Self {
            capacity: series(&CPU_CAPACITY),
            cpu_time: series(&CPU_TIME),
            run_delay: series(&CPU_RUN_DELAY),
            others: series(&CPU_OTHERS),
            steal: series(&CPU_STEAL),
            throttled: series(&CPU_THROTTLED),
            throttled_periods: series(&CPU_THROTTLED_PERIODS),
            periods: series(&CPU_PERIODS),
            quota: series(&CPU_QUOTA),
            hottest: series(&HOTTEST_THREAD),
        }
    }
}

impl Totals {
    /// What is left of the CPUs' busy time after the server's own. Where the processes' clocks are ahead, the difference
    /// is taken off the next intervals, up to the noise of the CPUs' clocks: dropping it would let noise add up to a
    /// neighbour that is not there, and keeping all of it would hide one that is.
    fn add_others(&mut self, busy_ns: u64, own_ns: u64, cpus: u32) {
        let own_ns = own_ns + self.ahead;
        self.others += busy_ns.saturating_sub(own_ns);
        self.ahead = own_ns.saturating_sub(busy_ns).min(ACCOUNTING_NOISE_NS * u64::from(cpus));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_of_the_two_clocks_does_not_add_up_to_a_neighbour() {
        let mut totals = Totals::default();
        for step in 0..1000 {
            let busy = if step % 2 == 0 { 990_000_000 } else { 1_010_000_000 };
            totals.add_others(busy, 1_000_000_000, 1);
        }
        assert!(totals.others <= 20_000_000, "{}", totals.others);
    }

    #[test]
    fn a_neighbour_is_seen_at_once_after_any_amount_of_noise() {
        let mut totals = Totals::default();
        for _ in 0..1000 {
            totals.add_others(900_000_000, 1_000_000_000, 1);
        }
        assert_eq!(totals.others, 0);
        totals.add_others(1_000_000_000, 500_000_000, 1);
        assert_eq!(totals.others, 480_000_000);
    }
}
