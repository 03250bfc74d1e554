//! Where the time of a GPU went.

use perfwatch_model::ledger::proportional;
use perfwatch_model::{Ledger, Quality, Split};

use super::{BUSY_UNKNOWN, COMPUTE, IDLE_UNKNOWN, MEMORY_BANDWIDTH, SM_IDLE_RESIDENT, SM_STALLED, THROTTLED, UNKNOWN};
use crate::facts::GpuFacts;

/// As much as the tensor cores do of what they could on paper: measured at saturation with NVIDIA's own load generator
/// (dcgmproftester; Kempner Institute).
pub const TENSOR_PEAK: f64 = 0.93;
/// As much of the memory's bandwidth on paper as can be had (NVIDIA, DCGM's documentation of DRAM active).
pub const DRAM_PEAK: f64 = 0.80;

/// The ledger of a GPU's tick, as nested differences: at most as much of the time does useful work as SMs hold warps, and
/// at most as much of it as an application is active.
///
/// - `compute` or `memory_bandwidth`: the share of its practical peak that the busiest unit reached, by the unit;
/// - `sm_stalled`: warps were on the SMs and neither computed nor moved data;
/// - `sm_idle_resident`: an application was active and had nothing on some of the SMs: small grids, tails, gaps between
///   kernels, which GPM does not tell apart;
/// - `throttled`: of all these, what the clocks' being held down cost: `min(θ, busy) · (1 − f / f_max)`, θ the longest of
///   the overlapping reasons;
/// - the rest was idle, and `idle_unknown`: what a server waited for meanwhile is not joined to it here.
///
/// Without GPM busy time is `busy_unknown`: the driver's utilisation says that something ran, not how much of the device.
/// `None` for a tick without length. Readings that contradict each other are clamped, and then inferred.
pub fn gpu_ledger(facts: &GpuFacts) -> Option<Ledger> {
    let whole = facts.dt_ns;
    if whole == 0 {
        return None;
    }
    let mut split = Split::of(whole);
    let (Some(graphics), Some(sm)) = (facts.graphics.get(), facts.sm.get()) else {
        let Some(busy) = facts.utilization.get() else { return Some(split.rest(UNKNOWN, Quality::Unknown)) };
        // Its sampling period is not the tick.
        split.take(BUSY_UNKNOWN, share_of(whole, busy), Quality::Inferred);
        return Some(split.rest(IDLE_UNKNOWN, Quality::Unknown));
    };
    let mut quality = Quality::Counter;
    let mut at_most = |value: f64, limit: f64| {
        if value > limit + SKEW {
            quality = Quality::Inferred;
        }
        value.clamp(0.0, limit)
    };
    let graphics = at_most(graphics, 1.0);
    let sm = at_most(sm, graphics);
    let compute = facts.tensor.get().map(|share| share / TENSOR_PEAK).into_iter().chain(facts.vector.get());
    let compute = compute.reduce(f64::max);
    let memory = facts.dram.get().map(|share| share / DRAM_PEAK);
    let bound = if memory > compute { MEMORY_BANDWIDTH } else { COMPUTE };
    // A unit beyond its practical peak is no contradiction: the peak is a rule of thumb.
    let reached = memory.into_iter().chain(compute).reduce(f64::max).map(|share| at_most(share.min(1.0), sm));
    if facts.tensor.get().is_none() || facts.dram.get().is_none() {
        quality = Quality::Inferred;
    }
    let (busy, resident) = (share_of(whole, graphics), share_of(whole, sm));
    let mut parts = match reached {
        Some(reached) => {
            let reached = share_of(whole, reached);
            vec![(bound, reached), (SM_STALLED, resident.saturating_sub(reached))]
        }
        None => vec![(BUSY_UNKNOWN, resident)],
    };
    parts.push((SM_IDLE_RESIDENT, busy.saturating_sub(resident)));
    let lost = throttled_ns(facts, busy);
    let weights: Vec<u64> = parts.iter().map(|(_, ns)| *ns).collect();
    if lost > 0
        && let Some(taken) = proportional(lost, weights.into_iter())
    {
        parts.iter_mut().zip(taken).for_each(|((_, ns), taken)| *ns = ns.saturating_sub(taken));
        // What a clock would have made of the time is a model, however well the time is known.
        split.take(THROTTLED, lost, Quality::Modelled);
    }
    for (label, ns) in parts {
        split.take(label, ns, quality);
    }
    Some(split.rest(IDLE_UNKNOWN, Quality::Unknown))
}

/// Shares are means of counters that are read one after the other.
const SKEW: f64 = 0.01;

fn share_of(whole: u64, share: f64) -> u64 {
    ((whole as f64 * share.clamp(0.0, 1.0)).round() as u64).min(whole)
}

/// Busy time that the clocks' being held down cost; 0 where that cannot be told.
fn throttled_ns(facts: &GpuFacts, busy: u64) -> u64 {
    let (Some(clock), Some(limit)) = (facts.sm_clock.get(), facts.sm_clock_limit.get()) else { return 0 };
    let held_down = facts.longest_held_down().map_or(0, |(_, ns)| ns.min(busy));
    if limit <= 0.0 { 0 } else { share_of(held_down, 1.0 - clock / limit) }
}
