//! A GPU's tick in pieces that are as short as it was measured, each with what its servers were doing meanwhile.

use perfwatch_model::tick::{SLOT_NS, SLOTS};
use perfwatch_model::{GpuSlot, GpuTick, Quality, ServerTick, Sharing, Slot, State, Tick};

use super::link;

/// One or several slots that one measurement covers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuSpan {
    /// Its length in nanoseconds: whole slots.
    pub ns: u64,
    /// What the units did in it; `None` where that was not measured.
    pub units: Option<GpuUnits>,
    /// Where they were not, the share of it in which anything ran; `None` where that was not measured either.
    pub utilization: Option<f64>,
    /// Nanoseconds that what is known to have gone over its link to the host in it takes at least.
    pub transfer_ns: u64,
    /// Nanoseconds that the servers on the GPU spent in each exclusive state, by [`State::index`]; they sum to `ns`. `None`
    /// where there is no server that reports, or one of them did not.
    pub state_ns: Option<[u64; State::COUNT]>,
}

/// What a GPU's units did, as shares of 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GpuUnits {
    /// Any application was active.
    pub graphics: f64,
    /// SMs with a warp on them.
    pub sm: f64,
    /// The tensor cores.
    pub tensor: Option<f64>,
    /// The busiest other pipe.
    pub vector: Option<f64>,
    /// All other pipes together; at least as much.
    pub vectors: Option<f64>,
    /// The memory's bandwidth.
    pub dram: Option<f64>,
}

impl GpuUnits {
    fn of(slot: &GpuSlot) -> Option<Self> {
        let (tensor, vector, dram) = (slot.tensor.get(), slot.vector.get(), slot.dram.get());
        let vectors = slot.vectors.get().or(vector);
        Some(Self { graphics: slot.graphics.get()?, sm: slot.sm.get()?, tensor, vector, vectors, dram })
    }
}

/// How the states of a piece bear on the GPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bearing {
    /// One server's, which tells its state as a whole and has no other GPU: what it is doing is what the GPU is wanted for.
    Whole,
    /// Several servers' or workers', which overlap in a way that nobody tells: there was a request at least as long as any of them
    /// had one, and maybe for as long as all of them had one after the other.
    Merged,
    /// Servers' that have other GPUs as well: a request inside of the model may be on any of them.
    Spread,
}

impl Bearing {
    /// Of the states that bear so.
    pub fn quality(self) -> Quality {
        if self == Self::Whole { Quality::Sdk } else { Quality::Inferred }
    }
}

/// The pieces of a tick of this length, oldest first, and how the servers' states bear on them. Where no slot was measured, one
/// piece for all of it.
pub(super) fn spans(gpu: &GpuTick, tick: &Tick) -> (Vec<GpuSpan>, Bearing) {
    let dt_ns = tick.dt_ns;
    // A first tick is shorter than a second: what is before it is none of its time.
    let count = ((dt_ns + SLOT_NS / 2) / SLOT_NS).clamp(1, SLOTS as u64) as usize;
    let states = States::of(gpu, tick);
    let mut spans: Vec<GpuSpan> = Vec::with_capacity(count);
    let measured = gpu.slots.iter().any(GpuSlot::is_known);
    for at in SLOTS - count..SLOTS {
        let (slot, state_ns) = (&gpu.slots[at], states.at(at));
        match spans.last_mut() {
            Some(span) if slot.continued || !measured => {
                span.ns += SLOT_NS;
                span.transfer_ns += link::slot_transfer_ns(slot);
                span.state_ns = span.state_ns.zip(state_ns).map(|(mut sum, more)| {
                    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
                    sum
                });
            }
            _ => {
                let units = GpuUnits::of(slot);
                let utilization = if units.is_none() { slot.graphics.get() } else { None };
                let transfer_ns = link::slot_transfer_ns(slot);
                spans.push(GpuSpan { ns: SLOT_NS, units, utilization, transfer_ns, state_ns });
            }
        }
    }
    (spans, states.bearing)
}

/// What the servers on a GPU were doing.
struct States<'a> {
    servers: Vec<&'a ServerTick>,
    /// One of them did not report.
    missing: bool,
    bearing: Bearing,
}

impl<'a> States<'a> {
    fn of(gpu: &GpuTick, tick: &'a Tick) -> Self {
        let on: Vec<_> = tick.servers.iter().filter(|server| gpu.servers.contains(&server.entity)).collect();
        // A GPU that is cut into instances stands beside them.
        let whole = tick.gpus.iter().filter(|gpu| gpu.sharing != Sharing::Mig);
        let elsewhere = whole.filter(|other| other.entity != gpu.entity);
        let bearing = if elsewhere.flat_map(|other| &other.servers).any(|server| gpu.servers.contains(server)) {
            Bearing::Spread
        } else if on.len() == 1 && !on[0].combined {
            Bearing::Whole
        } else {
            Bearing::Merged
        };
        Self { missing: on.len() < gpu.servers.len(), bearing, servers: on }
    }

    fn at(&self, slot: usize) -> Option<[u64; State::COUNT]> {
        if self.missing || self.servers.iter().any(|server| !server.slots[slot].is_known()) {
            return None;
        }
        let merged = Slot::merged(&self.servers.iter().map(|server| &server.slots[slot]));
        merged.is_known().then_some(merged.state_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::{EntityId, Share};

    fn spans(gpu: &GpuTick, servers: &[ServerTick], dt_ns: u64) -> (Vec<GpuSpan>, Bearing) {
        super::spans(gpu, &Tick { dt_ns, servers: servers.to_vec(), gpus: vec![gpu.clone()], ..Tick::default() })
    }

    const SHOP: EntityId = EntityId(1);

    fn server(entity: EntityId, state: State) -> ServerTick {
        let mut server = ServerTick::empty(entity);
        server.slots.iter_mut().for_each(|slot| slot.state_ns[state.index()] = SLOT_NS);
        server
    }

    fn gpu(servers: &[EntityId]) -> GpuTick {
        let mut gpu = GpuTick::unknown(EntityId(9));
        gpu.servers = servers.to_vec();
        for (at, slot) in gpu.slots.iter_mut().enumerate() {
            *slot = GpuSlot { graphics: Share::of(at as f64 / 10.0), sm: Share::of(0.0), ..GpuSlot::default() };
        }
        gpu
    }

    #[test]
    fn a_measurement_of_several_slots_is_one_piece_with_all_their_states() {
        let mut gpu = gpu(&[SHOP]);
        gpu.slots[3].continued = true;
        gpu.slots[4].continued = true;
        let (spans, bearing) = spans(&gpu, &[server(SHOP, State::Compute)], 1_000_000_000);
        let lengths: Vec<_> = spans.iter().map(|span| span.ns / SLOT_NS).collect();
        assert_eq!((lengths.as_slice(), bearing), (&[1, 1, 3, 1, 1, 1, 1, 1][..], Bearing::Whole));
        assert_eq!(spans[2].state_ns.expect("known")[State::Compute.index()], 3 * SLOT_NS);
        assert!((spans[2].units.expect("measured").graphics - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_piece_has_the_copies_of_all_its_slots_as_far_as_they_are_known() {
        let mut gpu = gpu(&[SHOP]);
        for (at, slot) in gpu.slots.iter_mut().enumerate() {
            slot.link = if at == 4 { Share::UNKNOWN } else { Share::of(0.19) };
            slot.continued = (3..=5).contains(&at);
        }
        let (spans, _) = spans(&gpu, &[server(SHOP, State::Compute)], 1_000_000_000);
        let fifths: Vec<_> = spans.iter().map(|span| span.transfer_ns * 5 / SLOT_NS).collect();
        assert_eq!(fifths, [1, 1, 3, 1, 1, 1, 1]);
    }

    #[test]
    fn without_a_measurement_a_tick_is_one_piece() {
        let mut gpu = gpu(&[SHOP]);
        gpu.slots = Default::default();
        let (spans, _) = spans(&gpu, &[server(SHOP, State::None)], 1_002_000_000);
        let [span] = spans.as_slice() else { panic!("{spans:?}") };
        assert_eq!((span.ns, span.units, span.utilization), (1_000_000_000, None, None));
        assert_eq!(span.state_ns.expect("known")[State::None.index()], 1_000_000_000);
    }

    #[test]
    fn a_slot_that_tells_utilisation_alone_is_a_piece_without_units() {
        let mut gpu = gpu(&[SHOP]);
        gpu.slots.iter_mut().for_each(|slot| slot.sm = Share::UNKNOWN);
        (gpu.slots[4].continued, gpu.slots[9]) = (true, GpuSlot::default());
        let (spans, _) = spans(&gpu, &[server(SHOP, State::Compute)], 1_000_000_000);
        assert!(spans.iter().all(|span| span.units.is_none()));
        let told: Vec<_> = spans.iter().map(|span| (span.ns / SLOT_NS, span.utilization)).collect();
        let shares = [(1, 0.0), (1, 0.1), (1, 0.2), (2, 0.3), (1, 0.5), (1, 0.6), (1, 0.7), (1, 0.8)];
        let mut expected: Vec<_> = shares.map(|(slots, share)| (slots, Some(share))).into();
        expected.push((1, None));
        assert_eq!(told, expected);
    }

    #[test]
    fn a_short_first_tick_has_only_the_slots_that_are_in_it() {
        let (spans, _) = spans(&gpu(&[]), &[], 320_000_000);
        assert_eq!(
            spans.iter().map(|span| span.units.expect("measured").graphics).collect::<Vec<_>>(),
            [0.7, 0.8, 0.9]
        );
        assert!(spans.iter().all(|span| span.state_ns.is_none()), "there is no server");
    }

    #[test]
    fn states_are_unknown_as_soon_as_one_server_on_the_gpu_does_not_report() {
        let other = EntityId(2);
        let on_both = gpu(&[SHOP, other]);
        let states = |servers: &[ServerTick]| spans(&on_both, servers, 1_000_000_000).0[0].state_ns;
        assert_eq!(states(&[server(SHOP, State::None)]), None);
        let both = states(&[server(SHOP, State::None), server(other, State::Compute)]).expect("both report");
        assert_eq!(both[State::Compute.index()], SLOT_NS);
        assert_eq!(states(&[server(SHOP, State::None), ServerTick::empty(other)]), None);
    }

    #[test]
    fn a_server_with_two_gpus_is_inside_the_model_on_either() {
        let (one, other) = (gpu(&[SHOP]), GpuTick { entity: EntityId(8), ..gpu(&[SHOP]) });
        let tick = |gpus: &[&GpuTick], combined| Tick {
            dt_ns: 1_000_000_000,
            servers: vec![ServerTick { combined, ..server(SHOP, State::Compute) }],
            gpus: gpus.iter().map(|gpu| (*gpu).clone()).collect(),
            ..Tick::default()
        };
        assert_eq!(super::spans(&one, &tick(&[&one, &other], false)).1, Bearing::Spread);
        assert_eq!(super::spans(&one, &tick(&[&one], true)).1, Bearing::Merged);
        // The GPU that an instance is a part of is no other GPU.
        let cut = GpuTick { sharing: Sharing::Mig, ..other };
        assert_eq!(super::spans(&one, &tick(&[&one, &cut], false)).1, Bearing::Whole);
    }
}
