//! Where the time of a GPU went.

mod busy;
mod idle;

use perfwatch_model::{Ledger, Quality, Sharing, State};

pub use busy::{DRAM_PEAK, TENSOR_PEAK};

use super::parts::{Bounds, Parts};
use super::{
    BUSY_UNKNOWN, COMPUTE, HOST_COMPUTE, IDLE_UNKNOWN, MEMORY_BANDWIDTH, NO_DEMAND, OTHER_TENANT, SM_IDLE_RESIDENT,
    SM_STALLED, THROTTLED, UNKNOWN, idle_cause,
};
use crate::facts::{GpuFacts, GpuSpan, GpuUnits};

/// Waiting for copies between host and device.
const TRANSFER: &str = idle_cause(State::Transfer);
/// A tick may be this much longer than the second that it is known for: it was a little late. Longer, it covers missed ones.
const LATE_NS: u64 = 250_000_000;
/// What a busy device did.
const BUSY: [&str; 5] = [COMPUTE, MEMORY_BANDWIDTH, SM_STALLED, SM_IDLE_RESIDENT, BUSY_UNKNOWN];
/// What of it goes at the pace of the SMs' clock. The memory has a clock of its own, which is not held down with that one.
const CLOCKED: [&str; 4] = [COMPUTE, SM_STALLED, SM_IDLE_RESIDENT, BUSY_UNKNOWN];

/// Time of a ledger in which the device was busy, for whomever and however slowly.
pub fn busy_ns(ledger: &Ledger) -> u64 {
    BUSY.iter().chain(&[OTHER_TENANT, THROTTLED]).map(|label| ledger.ns(label)).sum()
}

/// Time of one of these, with what the clocks' being held down took of it.
pub fn with_lost_to_clocks(ledger: &Ledger, label: &str) -> f64 {
    let ns = ledger.ns(label) as f64;
    let left: u64 = CLOCKED.iter().map(|label| ledger.ns(label)).sum();
    if !CLOCKED.contains(&label) || left == 0 {
        return ns;
    }
    ns * (left + ledger.ns(THROTTLED)) as f64 / left as f64
}

/// The ledger of a GPU's tick, made of pieces as short as it was measured: 100 ms with GPM. In each, as nested differences:
///
/// - `compute` or `memory_bandwidth`: the share of its practical peak that the busiest unit reached, by the unit;
/// - `sm_stalled`: warps were on the SMs and neither computed nor moved data;
/// - `sm_idle_resident`: an application was active and had nothing on some of the SMs: small grids, tails, gaps between
///   kernels, which GPM does not tell apart;
/// - the rest was idle: `host_compute` while a request was inside the model, `starved.<stage>` while requests were elsewhere,
///   `no_demand` without a request or without a process on the device, `idle_unknown` where no server says what it was doing.
///
/// Over the whole tick then:
///
/// - `starved.transfer`: of `host_compute`, what copies over the link take at least beyond all the rest of the tick, or beyond the
///   rest of the pieces that they are known to be in;
/// - `other_tenant`: of busy time the share that processes had which belong to none of the watched servers on the device, by
///   the SMs' time of each process; not under MPS, where processes overlap, and not of an instance of MIG, which has no other;
/// - `throttled`: of what is left of it but `memory_bandwidth`, what the clocks' being held down cost:
///   `min(θ / busy, 1) · (1 − f / f_max)` of that, θ the longest of the overlapping reasons.
///
/// Without GPM busy time is `busy_unknown`: the driver's utilisation says that something ran, not how much of the device. Its own
/// samples of it tell pieces apart; what is in none of them has the tick's.
/// `None` for a tick without length, and for a GPU that is cut into MIG instances: its time is theirs. The bounds say how far off an entry may be for what its pieces do not tell.
pub fn gpu_ledger(facts: &GpuFacts) -> Option<(Ledger, Bounds)> {
    let whole = facts.dt_ns;
    if whole == 0 || facts.sharing == Sharing::Mig {
        return None;
    }
    let mut parts = Parts::default();
    let only = [whole_tick(facts)];
    let spans = if facts.spans.is_empty() { &only } else { facts.spans.as_slice() };
    let mut exposed = Exposed::default();
    for span in spans {
        let (before, _) = parts.range(HOST_COMPUTE);
        add(span, facts, &mut parts);
        exposed.add(span, parts.range(HOST_COMPUTE).0 - before);
    }
    let covered: u64 = spans.iter().map(|span| span.ns).sum();
    // Ticks are a second long within the jitter of the scheduler. One that covers missed ones is known for its last second.
    parts.scale_to(if whole > covered + LATE_NS { covered } else { whole });
    expose_transfer(facts, &exposed, &mut parts);
    match facts.others_share() {
        Some(share) => {
            let others = share_of(parts.ns(&BUSY), share);
            parts.carve(OTHER_TENANT, others, &BUSY, Quality::Inferred, Some(Quality::Inferred));
        }
        // Somebody's, and nobody tells whose: as the server's it is only inferred.
        None if !facts.servers.is_empty() => parts.at_best(&BUSY, Quality::Inferred),
        None => {}
    }
    let lost = share_of(parts.ns(&CLOCKED), lost_to_clocks(facts, parts.ns(&BUSY)));
    // What a clock would have made of the time is a model, however well the time is known.
    parts.carve(THROTTLED, lost, &CLOCKED, Quality::Modelled, None);
    Some(parts.ledger(whole))
}

/// What copies take in single pieces beyond all in them but `host_compute`.
#[derive(Default)]
struct Exposed {
    /// In pieces of which one measurement tells what ran and what was copied.
    known: u64,
    /// In those of which the driver's samples tell what ran: they are of other times than what tells the copies.
    likely: u64,
}

impl Exposed {
    fn add(&mut self, span: &GpuSpan, in_compute: u64) {
        let ns = span.transfer_ns.min(span.ns).saturating_sub(span.ns.saturating_sub(in_compute));
        *(if span.units.is_some() { &mut self.known } else { &mut self.likely }) += ns;
    }
}

/// Copies that cannot have hidden anywhere but in `host_compute`: they take longer than all the rest of the tick, or than that of
/// the pieces that they are in. It is the least that they cost; they may have cost as much as they take.
fn expose_transfer(facts: &GpuFacts, of_pieces: &Exposed, parts: &mut Parts) {
    // What others copied is not what the server waited for.
    if facts.servers.len() != 1 || facts.others_share() != Some(0.0) {
        return;
    }
    let (least, most) = parts.range(HOST_COMPUTE);
    let told = facts.transfer_ns.get().map(|ns| ns.min(facts.dt_ns));
    let takes = told.unwrap_or(0);
    // They may have hidden behind work, and in whatever else the device was idle for.
    let certain = of_pieces.known.max(takes.saturating_sub(facts.dt_ns.saturating_sub(least)));
    let likely = certain.max(of_pieces.known + of_pieces.likely);
    let (before_least, before_most) = parts.range(TRANSFER);
    let exposed = parts.carve(TRANSFER, likely, &[HOST_COMPUTE], Quality::Modelled, None);
    // Where pieces alone are known, the rest of the tick may have been copies as well.
    let unknown = if facts.spans.iter().any(|span| span.transfer_ns > 0) { most } else { 0 };
    let possible = told.unwrap_or(unknown).min(most).max(exposed);
    parts.add_about(TRANSFER, 0, Quality::Modelled, (0, possible - exposed));
    parts.set_range(HOST_COMPUTE, (least.saturating_sub(possible), most.saturating_sub(certain)));
    parts.set_range(TRANSFER, (before_least + certain.min(exposed), before_most + possible));
}

/// The tick as one piece, for what was not told finer.
fn whole_tick(facts: &GpuFacts) -> GpuSpan {
    let units = facts.graphics.get().zip(facts.sm.get()).map(|(graphics, sm)| GpuUnits {
        graphics,
        sm,
        tensor: facts.tensor.get(),
        vector: facts.vector.get(),
        vectors: facts.vector.get(),
        dram: facts.dram.get(),
    });
    GpuSpan { ns: facts.dt_ns, units, utilization: None, transfer_ns: 0, state_ns: None }
}

fn add(span: &GpuSpan, facts: &GpuFacts, parts: &mut Parts) {
    let (busy, known) = match (&span.units, span.utilization.or(facts.utilization.get())) {
        (Some(units), _) => busy::add(units, span.ns, parts),
        (None, Some(utilization)) => {
            let busy = share_of(span.ns, utilization);
            // The driver's sampling period is not the tick.
            parts.add(BUSY_UNKNOWN, busy, Quality::Inferred);
            (busy, Quality::Inferred)
        }
        (None, None) => return parts.add(UNKNOWN, span.ns, Quality::Unknown),
    };
    match &span.state_ns {
        Some(state_ns) => idle::add(busy, state_ns, span.ns, (facts.bearing, known), parts),
        // Nobody is there who could want anything of it.
        None if facts.processes == Some(0) => parts.add(NO_DEMAND, span.ns - busy, Quality::Inferred),
        None => parts.add(IDLE_UNKNOWN, span.ns - busy, Quality::Unknown),
    }
}

fn share_of(whole: u64, share: f64) -> u64 {
    ((whole as f64 * share.clamp(0.0, 1.0)).round() as u64).min(whole)
}

/// Share of what goes at the pace of the SMs' clock that its being held down cost; 0 where that cannot be told.
fn lost_to_clocks(facts: &GpuFacts, busy: u64) -> f64 {
    let (Some(clock), Some(limit)) = (facts.sm_clock.get(), facts.sm_clock_limit.get()) else { return 0.0 };
    if !facts.ended_busy() || limit <= 0.0 {
        return 0.0;
    }
    let held_down = facts.longest_held_down().map_or(0, |(_, ns)| ns.min(busy));
    held_down as f64 / busy.max(1) as f64 * (1.0 - clock / limit).max(0.0)
}
