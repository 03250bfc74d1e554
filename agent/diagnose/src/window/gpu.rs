//! One GPU over the last seconds: everything that a rule may look at.

use std::collections::BTreeMap;
use std::sync::Arc;

use perfwatch_model::{EntityId, Evidence, Ledger, Quality, Reason};

use super::{covers, evidence, seconds, sum};
use crate::Fact;
use crate::facts::GpuFacts;
use crate::ledger::gpu_ledger;

/// One GPU in one tick: its facts and the ledger made of them.
#[derive(Clone, Debug)]
pub struct GpuRecord {
    /// What the tick says.
    pub facts: GpuFacts,
    /// Where its time went.
    pub ledger: Option<Ledger>,
}

impl GpuRecord {
    /// Makes the ledger of a tick.
    pub fn new(facts: GpuFacts) -> Self {
        Self { ledger: gpu_ledger(&facts), facts }
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
    /// Share of the memory in use at the end.
    pub memory: Fact<f64>,
    /// The same tick by tick, oldest first: length, bytes in use, bytes there are; only of ticks that tell both.
    pub memory_ticks: Vec<(u64, u64, u64)>,
    /// Bytes that are free at the end.
    pub memory_free: Fact<u64>,
    /// Errors of the memory that were not corrected, as far as that is known.
    pub uncorrected: Option<u64>,
    /// XID errors, by code.
    pub xids: BTreeMap<i64, u64>,
    /// Faults that it has at the end.
    pub faults: Vec<String>,
    /// True when it is known of any fault whether it has it.
    pub faults_are_told: bool,
    /// Where its time went.
    pub ledger: Option<Ledger>,
}

impl GpuWindow {
    /// The window that consists of these records of one GPU, oldest first. `None` without a record.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Arc<GpuRecord>>, full: bool) -> Option<Self> {
        let records: Vec<&GpuRecord> = records.into_iter().map(Arc::as_ref).collect();
        let last = &records.last()?.facts;
        let span_ns = records.iter().map(|record| record.facts.dt_ns).sum();
        let share = |used: Option<u64>, total: Option<u64>| Some((used?, total.filter(|total| *total > 0)?));
        let memory = share(last.memory_used.get(), last.memory_total.get());
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
                Some((used, total)) => Fact::known(used as f64 / total as f64, Quality::Counter),
                None => Fact::unknown(unknown()),
            },
            memory_ticks: records
                .iter()
                .filter_map(|record| {
                    let (used, total) = share(record.facts.memory_used.get(), record.facts.memory_total.get())?;
                    Some((record.facts.dt_ns, used, total))
                })
                .collect(),
            memory_free: match memory {
                Some((used, total)) => Fact::known(total.saturating_sub(used), Quality::Counter),
                None => Fact::unknown(unknown()),
            },
            uncorrected: records.iter().filter_map(|record| record.facts.uncorrected.get()).reduce(u64::saturating_add),
            xids: records.iter().flat_map(|record| &record.facts.xids).fold(
                BTreeMap::new(),
                |mut sums, (code, count)| {
                    *sums.entry(*code).or_default() += count;
                    sums
                },
            ),
            faults: last.faults.iter().filter(|(_, holds)| *holds).map(|(fault, _)| fault.clone()).collect(),
            faults_are_told: !last.faults.is_empty(),
            ledger: sum(records.iter().filter_map(|record| record.ledger.as_ref())),
        })
    }

    /// Share of the window for which the clocks were held down for a reason.
    pub fn held_down_for(&self, reason: &str) -> Fact<f64> {
        let known = self.held_down.iter().find(|(known, _)| known == reason);
        known.map_or(Fact::missing("the driver does not count this reason"), |(_, share)| share.clone())
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
