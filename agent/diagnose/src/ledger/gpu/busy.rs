//! What a GPU did while it was busy.

use perfwatch_model::Quality;

use crate::facts::GpuUnits;
use crate::ledger::parts::Parts;
use crate::ledger::{BUSY_UNKNOWN, COMPUTE, MEMORY_BANDWIDTH, SM_IDLE_RESIDENT, SM_STALLED};

/// As much as the tensor cores do of what they could on paper: measured at saturation with NVIDIA's own load generator
/// (dcgmproftester; Kempner Institute).
pub const TENSOR_PEAK: f64 = 0.93;
/// As much of the memory's bandwidth on paper as can be had (NVIDIA, DCGM's documentation of DRAM active).
pub const DRAM_PEAK: f64 = 0.80;

/// Shares are means of counters that are read one after the other.
const SKEW: f64 = 0.01;

/// Adds the busy time of a piece as nested differences, and returns how much it was, and how well that is known. Readings that
/// contradict each other are clamped, and then inferred.
///
/// A piece that computed in one half and moved data in the other reads as if it had done both at once and the SMs had stalled
/// otherwise. So the time without work may be as much less as the units together could have worked, and the work of the lesser
/// unit as much more.
pub(super) fn add(units: &GpuUnits, ns: u64, parts: &mut Parts) -> (u64, Quality) {
    let mut quality = Quality::Counter;
    let mut at_most = |value: f64, limit: f64| {
        if value > limit + SKEW {
            quality = Quality::Inferred;
        }
        value.clamp(0.0, limit)
    };
    let graphics = at_most(units.graphics, 1.0);
    let of_busy = if units.graphics > 1.0 + SKEW { Quality::Inferred } else { Quality::Counter };
    let sm = at_most(units.sm, graphics);
    let tensor = units.tensor.map(|share| share / TENSOR_PEAK);
    let compute = tensor.into_iter().chain(units.vector).reduce(f64::max);
    // Pipes that were busy one after the other.
    let compute_at_most: f64 =
        tensor.into_iter().chain(units.vectors.or(units.vector)).map(|share| share.max(0.0)).sum();
    let memory = units.dram.map(|share| share / DRAM_PEAK);
    // A unit beyond its practical peak is no contradiction: the peak is a rule of thumb.
    let reached = memory.into_iter().chain(compute).reduce(f64::max).map(|share| at_most(share.min(1.0), sm));
    if units.tensor.is_none() || units.dram.is_none() || units.vector.is_none() {
        quality = Quality::Inferred;
    }
    let of = |share: f64| ((ns as f64 * share.clamp(0.0, 1.0)).round() as u64).min(ns);
    let (busy, resident) = (of(graphics), of(sm));
    if let Some(reached) = reached {
        let work = of(reached).min(resident);
        let together = of((compute_at_most + memory.unwrap_or(0.0)).min(sm)).min(resident);
        // Time that may have been work of the one or of the other, rather than none.
        let slack = together.saturating_sub(work);
        let (bound, lesser, lesser_at_most) = if memory > compute {
            (MEMORY_BANDWIDTH, COMPUTE, compute_at_most)
        } else {
            (COMPUTE, MEMORY_BANDWIDTH, memory.unwrap_or(0.0))
        };
        let lesser_more = of(lesser_at_most).min(slack);
        parts.add_about(bound, work, quality, (0, slack - lesser_more));
        parts.add_about(lesser, 0, quality, (0, lesser_more));
        parts.add_about(SM_STALLED, resident - work, quality, (slack, 0));
    } else {
        parts.add(BUSY_UNKNOWN, resident, quality);
    }
    parts.add(SM_IDLE_RESIDENT, busy.saturating_sub(resident), quality);
    (busy, of_busy)
}
