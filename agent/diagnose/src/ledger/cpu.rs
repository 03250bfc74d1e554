//! Where the time of a server's CPUs went.

use std::borrow::Cow;

use perfwatch_model::ledger::proportional;
use perfwatch_model::{Ledger, Quality, Split, State};

use super::{IDLE_UNKNOWN, QUOTA, RUN_QUEUE_WAIT, STEAL, UNKNOWN, USED, idle_cause};
use crate::ServerFacts;

/// CPU time and wall time are read a moment apart, so a full CPU can show a little more than all of it. Up to this much
/// is rounding (a 1 s tick, ticks of 10 ms in some counters, a few ms of lateness); beyond, two measurements disagree.
const READ_SKEW: f64 = 1.05;

/// What kept a server off its CPUs in a tick, each part capped so that all fit into what was not used.
/// Nanoseconds of CPU time; `None` where a reading is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stalls {
    /// CPUs × length of the tick.
    pub capacity_ns: u64,
    /// CPU time used, within the capacity.
    pub used_ns: Option<u64>,
    /// Throttled by a quota.
    pub quota_ns: Option<u64>,
    /// Waited in a run queue while others ran.
    pub wait_ns: Option<u64>,
    /// Kept by a hypervisor.
    pub steal_ns: Option<u64>,
}

/// Works out [`Stalls`]; `None` when the capacity is not known.
///
/// Run delay alone says little: it contains throttling, and threads of one server that wait for each other. Time lost to
/// neighbours cannot be more than neighbours used, so that caps it.
pub fn stalls(facts: &ServerFacts) -> Option<Stalls> {
    let cpu = &facts.cpu;
    let capacity_ns = capacity_ns(facts)?;
    let mut stalls = Stalls { capacity_ns, used_ns: None, quota_ns: None, wait_ns: None, steal_ns: None };
    let Some(used) = cpu.used_ns.get() else { return Some(stalls) };
    let used = used.min(capacity_ns);
    stalls.used_ns = Some(used);
    let mut left = capacity_ns - used;

    // Without throttling the rest cannot be told apart, for run delay contains it.
    let Some(throttled) = cpu.throttled_ns.get() else { return Some(stalls) };
    let quota = throttled.min(left);
    stalls.quota_ns = Some(quota);
    left -= quota;

    let delay = match (cpu.run_delay_ns.get(), cpu.others_ns.get()) {
        (Some(delay), Some(others)) => delay.min(others),
        // The smaller of the two is nothing already.
        (Some(0), None) | (None, Some(0)) => 0,
        _ => return Some(stalls),
    };
    let wait = delay.min(left);
    stalls.wait_ns = Some(wait);
    left -= wait;

    stalls.steal_ns = cpu.steal_ns.get().map(|steal| steal.min(left));
    Some(stalls)
}

fn capacity_ns(facts: &ServerFacts) -> Option<u64> {
    let capacity = facts.cpu.capacity.get().filter(|cpus| cpus.is_finite() && *cpus > 0.0)?;
    Some((capacity * facts.dt_ns as f64).round() as u64)
}

/// The CPU ledger of a tick: used, what kept the server off its CPUs, and the rest by what the server was doing.
///
/// `None` when it is not known how many CPUs the server may use. A reading that is missing turns all that depends on it
/// into `idle_unknown`; without the CPU time used, everything is `unknown`.
///
/// The rest is shared among the server's states in proportion to the time in each, which assumes that CPUs idle as much
/// in one state as in another within the tick: such parts are inferred, unless there was only one state.
pub fn cpu_ledger(facts: &ServerFacts) -> Option<Ledger> {
    let cpu = &facts.cpu;
    let stalls = stalls(facts)?;
    let mut split = Split::of(stalls.capacity_ns);
    let Some(used) = stalls.used_ns else { return Some(split.rest(UNKNOWN, Quality::Unknown)) };
    let plausible = cpu.used_ns.get().is_some_and(|raw| raw as f64 <= stalls.capacity_ns as f64 * READ_SKEW);
    split.take(USED, used, if plausible { Quality::Counter } else { Quality::Inferred });

    let Some(quota) = stalls.quota_ns else { return Some(split.rest(IDLE_UNKNOWN, Quality::Unknown)) };
    split.take(QUOTA, quota, measured(quota, cpu.throttled_ns.get()));
    let Some(wait) = stalls.wait_ns else { return Some(split.rest(IDLE_UNKNOWN, Quality::Unknown)) };
    split.take(RUN_QUEUE_WAIT, wait, measured(wait, cpu.run_delay_ns.get()));
    let Some(steal) = stalls.steal_ns else { return Some(split.rest(IDLE_UNKNOWN, Quality::Unknown)) };
    split.take(STEAL, steal, measured(steal, cpu.steal_ns.get()));

    let Some(slots) = facts.slots.value() else { return Some(split.rest(IDLE_UNKNOWN, Quality::Unknown)) };
    let reported: u64 = slots.state_ns.iter().sum();
    if let Some(parts) = proportional(split.left(), [slots.unknown_ns, reported].into_iter())
        && slots.unknown_ns > 0
    {
        split.take(IDLE_UNKNOWN, parts[0], Quality::Unknown);
    }
    let weights: Vec<(Cow<'static, str>, u64)> = State::ALL
        .iter()
        .map(|state| (Cow::Borrowed(idle_cause(*state)), slots.state_ns[state.index()]))
        .filter(|(_, ns)| *ns > 0)
        .collect();
    let quality = if weights.len() > 1 { Quality::Inferred } else { facts.slots.quality };
    Some(split.share_rest(&weights, quality, (IDLE_UNKNOWN, Quality::Unknown)))
}

/// A part that had to be capped rests on more than its own counter.
fn measured(part: u64, reading: Option<u64>) -> Quality {
    if reading == Some(part) || part == 0 { Quality::Counter } else { Quality::Inferred }
}
