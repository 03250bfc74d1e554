//! One GPU over the last seconds: everything that a rule may look at.

mod incidents;
mod memory;

use std::collections::BTreeMap;
use std::sync::Arc;

use perfwatch_model::{EntityId, Evidence, Ledger, Quality, Reason, State};

pub use incidents::Incidents;
pub use incidents::REMEMBERED_NS;
pub use memory::{MemoryAt, MemoryTrail};

use super::{covers, evidence, seconds, sum};
use crate::Fact;
use crate::facts::GpuFacts;
use crate::ledger::{
    BUSY_UNKNOWN, Bounds, IDLE_UNKNOWN, NO_DEMAND, OTHER_TENANT, UNKNOWN, busy_ns, gpu_ledger, with_lost_to_clocks,
};
use crate::rules::{SETTINGS, is_starvation};

/// One GPU in one tick: its facts and the ledger made of them.
#[derive(Clone, Debug)]
pub struct GpuRecord {
    /// What the tick says.
    pub facts: GpuFacts,
    /// Where its time went.
    pub ledger: Option<Ledger>,
    /// How far off that may be.
    pub bounds: Bounds,
}

impl GpuRecord {
    /// Makes the ledger of a tick.
    pub fn new(facts: GpuFacts) -> Self {
        let (ledger, bounds) = gpu_ledger(&facts).unzip();
        Self { facts, ledger, bounds: bounds.unwrap_or_default() }
    }
}

/// One GPU over the last seconds. A number that is known for less than 70 % of the window is unknown.
#[derive(Clone, Debug)]
pub struct GpuWindow {
    /// Which GPU.
    pub entity: EntityId,
    /// Nanoseconds covered.
    pub span_ns: u64,
    /// True when the history is as long as a window must be for a rule to judge it.
    pub full: bool,
    /// Share of the time in which any kernel ran, by the driver's own account.
    pub utilization: Fact<f64>,
    /// Share of the window for which the clocks were held down, by reason. Reasons overlap.
    pub held_down: Vec<(String, Fact<f64>)>,
    /// Mean clock of the SMs, as a share of the highest.
    pub clock: Fact<f64>,
    /// Power that the device may draw at the end, in watts.
    pub power_limit: Fact<f64>,
    /// Share of the memory in use at the end, of what can be: not of what driver and firmware keep.
    pub memory: Fact<f64>,
    /// What was in use over the last half minute, oldest first.
    pub memory_trail: Vec<MemoryAt>,
    /// Bytes that are free at the end.
    pub memory_free: Fact<u64>,
    /// Errors of the memory in the last quarter of an hour that were not corrected, as far as they were told.
    pub uncorrected: u64,
    /// XID errors of the device in the last quarter of an hour, by code.
    pub xids: BTreeMap<i64, u64>,
    /// Faults that it has at the end.
    pub faults: Vec<String>,
    /// True when it is known of any fault whether it has it.
    pub faults_are_told: bool,
    /// Where its time went.
    pub ledger: Option<Ledger>,
    /// How far off that may be.
    pub bounds: Bounds,
    /// Nanoseconds for which it is known what others than its servers had of it.
    pub others_told_ns: u64,
    /// Share of the window in which its servers had a request; `None` where that is not known for most of it.
    pub demand: Option<f64>,
    /// The servers that were on it in the newest tick.
    pub servers: Vec<EntityId>,
    /// Whether the users of one of these are hurt; filled in by who knows the servers.
    pub users_are_hurt: bool,
    /// UUID of the GPU that it is a MIG instance of; filled in by who knows what it is called.
    pub parent: Option<String>,
}

impl GpuWindow {
    /// The window that consists of these records of one GPU, oldest first, and of what is remembered of it for longer.
    /// `None` without a record.
    pub fn of<'a>(
        records: impl IntoIterator<Item = &'a Arc<GpuRecord>>,
        full: bool,
        incidents: &Incidents,
        memory_trail: &MemoryTrail,
    ) -> Option<Self> {
        let records: Vec<&GpuRecord> = records.into_iter().map(Arc::as_ref).collect();
        let last = &records.last()?.facts;
        let span_ns = records.iter().map(|record| record.facts.dt_ns).sum();
        let memory = last.memory();
        let reason = last.memory_used.reason().or(last.memory_total.reason()).cloned();
        let unknown = || reason.clone().unwrap_or(Reason::fixed("the device's memory is not known", ""));
        Some(Self {
            entity: last.entity,
            span_ns,
            full,
            utilization: mean(&records, span_ns, |facts| facts.utilization.clone()),
            held_down: held_down(&records, span_ns),
            clock: mean(&records, span_ns, |facts| match (facts.sm_clock.get(), facts.sm_clock_limit.get()) {
                (Some(clock), Some(limit)) if limit > 0.0 => Fact::known(clock / limit, Quality::Counter),
                _ => Fact::missing("the clock of the SMs, or its limit, is not known"),
            }),
            power_limit: last.power_limit.clone(),
            memory: match memory {
                Some((used, usable)) => Fact::known((used as f64 / usable as f64).min(1.0), Quality::Counter),
                None => Fact::unknown(unknown()),
            },
            memory_trail: memory_trail.to_vec(),
            memory_free: match memory {
                Some((used, usable)) => Fact::known(usable.saturating_sub(used), Quality::Counter),
                None => Fact::unknown(unknown()),
            },
            uncorrected: incidents.uncorrected(),
            xids: incidents.xids(),
            faults: last.faults.iter().filter(|(_, holds)| *holds).map(|(fault, _)| fault.clone()).collect(),
            faults_are_told: last.faults.iter().any(|(fault, _)| !SETTINGS.contains(&fault.as_str())),
            ledger: sum(records.iter().filter_map(|record| record.ledger.as_ref())),
            demand: demand(&records),
            servers: last.servers.clone(),
            users_are_hurt: false,
            parent: None,
            others_told_ns: {
                let told = records.iter().filter(|record| record.facts.others_share().is_some());
                told.map(|record| record.facts.dt_ns).sum()
            },
            bounds: records.iter().fold(Bounds::default(), |mut sum, record| {
                sum.add(&record.bounds);
                sum
            }),
        })
    }

    /// Share of the window for which the clocks were held down for a reason.
    pub fn held_down_for(&self, reason: &str) -> Fact<f64> {
        let known = self.held_down.iter().find(|(known, _)| known == reason);
        known.map_or(Fact::missing("the driver does not count this reason"), |(_, share)| share.clone())
    }

    /// Share of the window in which the device was busy, for whomever.
    pub fn busy(&self) -> Fact<f64> {
        self.of_ledger(|ledger| busy_ns(ledger) as f64 / ledger.interval_ns() as f64)
    }

    /// Share of the busy time that went into something, by whomever, and at whatever clock: what others had of it and what
    /// clocks took count for what they were taken from. Unknown where nothing says what the device did.
    pub fn of_busy(&self, label: &str) -> Fact<f64> {
        let busy = self.ledger.as_ref().map_or(0, |ledger| busy_ns(ledger) - ledger.ns(OTHER_TENANT));
        if self.ledger.as_ref().is_some_and(|ledger| ledger.ns(BUSY_UNKNOWN) * 10 > busy) {
            return Fact::missing("which units were busy is not known: it takes GPM, from Hopper on");
        }
        self.of_ledger(|ledger| with_lost_to_clocks(ledger, label) / busy.max(1) as f64)
    }

    /// Share of the window in which the device worked for others than the watched servers on it. Unknown without a server, and
    /// where it cannot be told who computes.
    pub fn others(&self) -> Fact<f64> {
        if !covers(self.others_told_ns, self.span_ns) {
            return Fact::missing("no watched server is on it, or the driver does not tell who computes on it");
        }
        self.of_ledger(|ledger| ledger.ns(OTHER_TENANT) as f64 / ledger.interval_ns() as f64)
    }

    /// Share of the window in which there were requests and the device stood still, at least: by whatever overlap of its work
    /// with what its servers did. Unknown without a server that tells.
    pub fn starved(&self) -> Fact<f64> {
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| ledger.interval_ns() > 0) else {
            return Fact::missing("where its time went is not known");
        };
        let unknown = ledger.ns(IDLE_UNKNOWN) + ledger.ns(UNKNOWN);
        if !covers(ledger.interval_ns() - unknown, ledger.interval_ns()) {
            return Fact::missing("what its servers were doing is not known: no server on it uses the SDK");
        }
        let causes: Vec<_> = ledger.entries().iter().filter(|entry| is_starvation(&entry.label)).collect();
        // What one of them lost to another overlap, another of them may have gained: together they lose at most what all other
        // idle causes could have more, and no more than each could have less.
        let all: u64 = causes.iter().map(|entry| entry.ns).sum();
        let less: u64 = causes.iter().map(|entry| self.bounds.of(&entry.label).0).sum();
        let idle = |label: &str| label == NO_DEMAND || label.starts_with("starved.");
        let elsewhere = ledger.entries().iter().filter(|entry| idle(&entry.label) && !is_starvation(&entry.label));
        let gains: u64 = elsewhere.map(|entry| self.bounds.of(&entry.label).1).sum();
        let least = all.saturating_sub(less.min(gains));
        let worst = causes.iter().map(|entry| entry.quality).max().unwrap_or(Quality::Sdk);
        Fact::known(least as f64 / ledger.interval_ns() as f64, worst)
    }

    /// The largest cause of that, and its share of the window.
    pub fn worst_starvation(&self) -> Option<(String, f64)> {
        let ledger = self.ledger.as_ref().filter(|ledger| ledger.interval_ns() > 0)?;
        let causes = ledger.entries().iter().filter(|entry| is_starvation(&entry.label) && entry.ns > 0);
        let worst = causes.max_by_key(|entry| entry.ns)?;
        Some((worst.label.to_string(), worst.ns as f64 / ledger.interval_ns() as f64))
    }

    fn of_ledger(&self, share: impl Fn(&Ledger) -> f64) -> Fact<f64> {
        let Some(ledger) = self.ledger.as_ref().filter(|ledger| ledger.interval_ns() > 0) else {
            return Fact::missing("where its time went is not known");
        };
        if !covers(ledger.interval_ns() - ledger.ns(UNKNOWN), ledger.interval_ns()) {
            return Fact::missing("the device was not read for most of the window");
        }
        Fact::known(share(ledger), Quality::Inferred)
    }

    /// Seconds covered.
    pub fn span_s(&self) -> f64 {
        seconds(self.span_ns)
    }

    /// A fact of this window as evidence; `None` when it is not known.
    pub fn evidence(
        &self,
        name: &'static str,
        fact: &Fact<f64>,
        threshold: Option<f64>,
        unit: &'static str,
    ) -> Option<Evidence> {
        evidence(self.span_s(), name, fact, threshold, unit)
    }
}

/// Of the time in which the states of its servers are known, the share in which there was a request.
fn demand(records: &[&GpuRecord]) -> Option<f64> {
    let spans = || records.iter().flat_map(|record| &record.facts.spans);
    let known = spans().filter_map(|span| Some((span.ns, span.state_ns?[State::None.index()])));
    let (whole, without) = known.fold((0, 0), |(whole, without), (ns, none)| (whole + ns, without + none));
    covers(whole, spans().map(|span| span.ns).sum()).then(|| 1.0 - without as f64 / whole as f64)
}

/// Mean over the time in which a number is known.
fn mean(records: &[&GpuRecord], span_ns: u64, read: impl Fn(&GpuFacts) -> Fact<f64>) -> Fact<f64> {
    let (mut whole, mut known_ns) = (0.0, 0);
    let (mut quality, mut reason) = (Quality::Counter, None);
    for GpuRecord { facts, .. } in records {
        let fact = read(facts);
        match fact.known_or_reason() {
            Ok(value) => {
                whole += value * facts.dt_ns as f64;
                known_ns += facts.dt_ns;
                quality = quality.worst(fact.quality);
            }
            Err(why) => reason = Some(why),
        }
    }
    if covers(known_ns, span_ns) {
        Fact::known(whole / known_ns as f64, quality)
    } else {
        Fact::unknown(reason.unwrap_or(Reason::fixed("nothing was measured", "")))
    }
}

/// The reasons that the newest tick knows of.
fn held_down(records: &[&GpuRecord], span_ns: u64) -> Vec<(String, Fact<f64>)> {
    let reasons = records.last().map(|record| record.facts.held_down.as_slice()).unwrap_or_default();
    let share = |reason: &str| {
        mean(records, span_ns, |facts| match facts.held_down.iter().find(|(known, _)| known == reason) {
            // The driver's clock and ours differ, and what it counted between two looks may pass the tick by a little.
            Some((_, ns)) => ns.clone().map(|ns| (ns as f64 / facts.dt_ns.max(1) as f64).min(1.0)),
            None => Fact::missing("the driver did not count this reason"),
        })
    };
    reasons.iter().map(|(reason, _)| (reason.clone(), share(reason))).collect()
}
