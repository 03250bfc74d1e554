//! What a server got from the machine over a window.

use perfwatch_model::{Quality, Reason};

use super::{Mean, Record};
use crate::Fact;
use crate::facts::ServerFacts;
use crate::ledger::{Stalls, stalls};

/// Shares of the time of the CPUs that a server may use (its capacity), except where noted.
#[derive(Clone, Debug)]
pub struct CpuWindow {
    /// CPUs that the server may use.
    pub capacity: Fact<f64>,
    /// Share used.
    pub used: Fact<f64>,
    /// Share of *one* CPU that the busiest thread used, as the mean over ticks.
    pub hottest_thread: Fact<f64>,
    /// Quota periods that ran out, as a share of those in which something ran; 0 when there was none.
    pub throttled_periods: Fact<f64>,
    /// Share lost to the quota.
    pub throttled: Fact<f64>,
    /// CPUs that the quota allows; unknown when there is none.
    pub quota: Fact<f64>,
    /// Share lost to neighbours: run delay, no more than what others used.
    pub wait: Fact<f64>,
    /// Share that other processes used.
    pub others: Fact<f64>,
    /// Share that a hypervisor kept.
    pub steal: Fact<f64>,
    /// Share used or taken away, by whatever: all that the server did not leave idle of its own accord.
    pub taken: Fact<f64>,
}

impl CpuWindow {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Self {
        let gauge = |read: fn(&ServerFacts) -> &Fact<f64>| {
            Mean::over(records, span_ns, 0.0, |facts| {
                let value = *read(facts).known_or_reason()?;
                Ok((value * facts.dt_ns as f64, facts.dt_ns as f64, read(facts).quality))
            })
        };
        Self {
            capacity: gauge(|facts| &facts.cpu.capacity),
            used: share(records, span_ns, |stalls| stalls.used_ns, |facts| &facts.cpu.used_ns),
            hottest_thread: gauge(|facts| &facts.cpu.hottest_thread),
            throttled_periods: Mean::over(records, span_ns, 0.0, |facts| {
                let throttled = *facts.cpu.throttled_periods.known_or_reason()?;
                let periods = *facts.cpu.periods.known_or_reason()?;
                Ok((throttled as f64, periods as f64, Quality::Counter))
            }),
            throttled: share(records, span_ns, |stalls| stalls.quota_ns, |facts| &facts.cpu.throttled_ns),
            quota: gauge(|facts| &facts.cpu.quota),
            wait: share(records, span_ns, |stalls| stalls.wait_ns, |facts| &facts.cpu.run_delay_ns),
            others: Mean::over(records, span_ns, 0.0, |facts| {
                let others = *facts.cpu.others_ns.known_or_reason()?;
                let capacity = *facts.cpu.capacity.known_or_reason()?;
                Ok((others as f64, capacity * facts.dt_ns as f64, Quality::Counter))
            }),
            steal: share(records, span_ns, |stalls| stalls.steal_ns, |facts| &facts.cpu.steal_ns),
            taken: share(
                records,
                span_ns,
                |stalls| Some(stalls.used_ns? + stalls.quota_ns? + stalls.wait_ns? + stalls.steal_ns?),
                |facts| &facts.cpu.used_ns,
            ),
        }
    }

    /// Whether no CPU time is left, at `share`: all CPUs are used or taken away, or the busiest thread, which cannot use
    /// more than one, is always on one. A few percent that neighbours or the hypervisor take are not left either.
    pub fn is_exhausted(&self, share: f64) -> Result<bool, Reason> {
        let mut missing = None;
        for fact in [&self.used, &self.taken, &self.hottest_thread] {
            match fact.known_or_reason() {
                Ok(value) if *value >= share => return Ok(true),
                Ok(_) => {}
                Err(reason) => missing = Some(reason),
            }
        }
        missing.map_or(Ok(false), Err)
    }

    /// How busy the scarcer of the two is: all CPUs, or the one thread that cannot use more than one. 0 to 1.
    pub fn bottleneck(&self) -> Option<f64> {
        match (self.used.get(), self.hottest_thread.get()) {
            (Some(used), Some(hottest)) => Some(used.max(hottest)),
            (used, hottest) => used.or(hottest),
        }
    }
}

/// A capped part of the capacity. `reading` is the counter it rests on most: capping it makes the part inferred.
fn share(
    records: &[&Record],
    span_ns: u64,
    part: impl Fn(&Stalls) -> Option<u64>,
    reading: impl Fn(&ServerFacts) -> &Fact<u64>,
) -> Fact<f64> {
    Mean::over(records, span_ns, 0.0, |facts| {
        let Some(stalls) = stalls(facts) else { return Err(first_reason(facts)) };
        let Some(ns) = part(&stalls) else { return Err(first_reason(facts)) };
        let quality = if ns == 0 || reading(facts).get() == Some(ns) { Quality::Counter } else { Quality::Inferred };
        Ok((ns as f64, stalls.capacity_ns as f64, quality))
    })
}

/// The first missing reading in the order in which the ledger needs them.
fn first_reason(facts: &ServerFacts) -> Reason {
    let cpu = &facts.cpu;
    let readings = [&cpu.used_ns, &cpu.throttled_ns, &cpu.others_ns, &cpu.run_delay_ns, &cpu.steal_ns];
    let missing = cpu.capacity.reason().or_else(|| readings.into_iter().find_map(Fact::reason));
    missing.cloned().unwrap_or(Reason::fixed("the server may use no CPU", ""))
}
