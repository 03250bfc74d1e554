//! The ten slots of a tick, from those of all workers.

use perfwatch_model::tick::{SLOT_NS, SLOTS, Slot};
use perfwatch_model::{Stage, State};
use perfwatch_wire::message::Flush;

/// What one worker reported about the tick's slots.
#[derive(Clone, Debug, Default)]
pub(super) struct Worker {
    slots: [Option<Slot>; SLOTS],
    /// A connected worker must have reported every slot from this time on, else the server's slot is unknown.
    pub(super) expected: Option<u64>,
}

impl Worker {
    /// Takes the slots that lie in the tick which begins at `start_ns`.
    pub(super) fn add(&mut self, flush: &Flush, start_ns: u64) {
        let first = start_ns / SLOT_NS;
        for slot in &flush.slots {
            let Some(place) = slot.index.checked_sub(first).and_then(|at| self.slots.get_mut(at as usize)) else {
                continue;
            };
            let mut taken = Slot::default();
            // The wire's order is `State::ALL`'s; the length was checked on arrival.
            for (state, ns) in taken.state_ns.iter_mut().zip(&slot.state_ns) {
                *state = *ns;
            }
            for entry in &slot.occupancy {
                taken.stage_ns[entry.stage as usize] = taken.stage_ns[entry.stage as usize].saturating_add(entry.ns);
            }
            *place = Some(taken);
        }
    }

    pub(super) fn reported(&self) -> bool {
        self.slots.iter().any(Option::is_some)
    }
}

/// The server's slots. A slot that a worker should have reported and did not is unknown.
pub(super) fn combine(workers: &[Worker], start_ns: u64) -> [Slot; SLOTS] {
    std::array::from_fn(|at| {
        let slot_start = start_ns + at as u64 * SLOT_NS;
        let missing =
            |worker: &&Worker| worker.slots[at].is_none() && worker.expected.is_some_and(|since| since <= slot_start);
        if workers.iter().any(|worker| missing(&worker)) {
            return Slot::default();
        }
        let known: Vec<&Slot> = workers.iter().filter_map(|worker| worker.slots[at].as_ref()).collect();
        match known[..] {
            [] => Slot::default(),
            [only] => *only,
            _ => merge(&known),
        }
    })
}

/// Workers' states do not add up, they overlap: the server is without a request only while all of its workers are, and
/// computes at least as long as the busiest of them. What is left is shared out as the workers spent it.
fn merge(known: &[&Slot]) -> Slot {
    let of = |state: State| known.iter().map(move |slot| slot.state_ns[state.index()]);
    let mut merged = Slot::default();
    let none = of(State::None).min().unwrap_or(0);
    let compute = of(State::Compute).max().unwrap_or(0).min(SLOT_NS - none);
    merged.state_ns[State::None.index()] = none;
    merged.state_ns[State::Compute.index()] = compute;
    let rest = SLOT_NS - none - compute;
    let between = State::Transfer.index()..=State::Other.index();
    let spent: [u64; State::COUNT] = std::array::from_fn(|at| {
        known.iter().map(|slot| slot.state_ns[at]).sum::<u64>() * u64::from(between.contains(&at))
    });
    share_out(rest, &spent, &mut merged.state_ns);
    for slot in known {
        for (sum, ns) in merged.stage_ns.iter_mut().zip(slot.stage_ns) {
            *sum = sum.saturating_add(ns);
        }
    }
    debug_assert_eq!(Stage::COUNT, merged.stage_ns.len());
    merged
}

/// Adds `rest` to `shares` in proportion to `weights`, to the nanosecond: what rounding leaves goes to the largest
/// remainders. Without weights it goes to compute: a worker was busy then, and no other state is known of.
fn share_out(rest: u64, weights: &[u64; State::COUNT], shares: &mut [u64; State::COUNT]) {
    let total: u64 = weights.iter().sum();
    if total == 0 {
        shares[State::Compute.index()] += rest;
        return;
    }
    let exact = |at: usize| u128::from(rest) * u128::from(weights[at]);
    let mut left = rest;
    for (at, sum) in shares.iter_mut().enumerate() {
        let share = (exact(at) / u128::from(total)) as u64;
        *sum += share;
        left -= share;
    }
    let mut order: Vec<usize> = (0..State::COUNT).filter(|at| weights[*at] > 0).collect();
    order.sort_by_key(|at| std::cmp::Reverse(exact(*at) % u128::from(total)));
    for at in order.into_iter().cycle().take(left as usize) {
        shares[at] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(states: &[(State, u64)]) -> Slot {
        let mut slot = Slot::default();
        for (state, ns) in states {
            slot.state_ns[state.index()] = *ns;
            slot.stage_ns[Stage::Queue.index()] += ns;
        }
        assert_eq!(slot.state_ns.iter().sum::<u64>(), SLOT_NS);
        slot
    }

    #[test]
    fn workers_overlap_rather_than_add() {
        let one = slot(&[(State::None, 60_000_000), (State::Compute, 30_000_000), (State::Queue, 10_000_000)]);
        let two = slot(&[(State::None, 50_000_000), (State::Compute, 20_000_000), (State::DataLoad, 30_000_000)]);
        let merged = merge(&[&one, &two]);
        assert_eq!(merged.state_ns[State::None.index()], 50_000_000);
        assert_eq!(merged.state_ns[State::Compute.index()], 30_000_000);
        assert_eq!(merged.state_ns[State::DataLoad.index()], 15_000_000);
        assert_eq!(merged.state_ns[State::Queue.index()], 5_000_000);
        assert_eq!(merged.stage_ns[Stage::Queue.index()], 2 * SLOT_NS, "occupancy adds");
    }

    #[test]
    fn a_merged_slot_sums_exactly_whatever_the_workers_say() {
        let mut random = 99_u64;
        let mut next = move |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for _ in 0..2_000 {
            let slots: Vec<Slot> = (0..=next(4))
                .map(|_| {
                    let mut slot = Slot::default();
                    let mut left = SLOT_NS;
                    while left > 0 {
                        let ns = (next(SLOT_NS / 3) + 1).min(left);
                        slot.state_ns[next(State::COUNT as u64) as usize] += ns;
                        left -= ns;
                    }
                    slot
                })
                .collect();
            let merged = merge(&slots.iter().collect::<Vec<_>>());
            assert_eq!(merged.state_ns.iter().sum::<u64>(), SLOT_NS);
        }
    }

    #[test]
    fn a_slot_that_one_of_two_workers_owes_is_unknown() {
        let full = slot(&[(State::None, SLOT_NS)]);
        let mut here = Worker { expected: Some(0), ..Worker::default() };
        here.slots = [Some(full); SLOTS];
        let late = Worker { expected: Some(500_000_000), ..Worker::default() };
        let slots = combine(&[here.clone(), late], 0);
        assert!(slots[..5].iter().all(Slot::is_known), "before it began it owes nothing");
        assert!(!slots[5..].iter().any(Slot::is_known));
        let gone = Worker::default();
        assert!(combine(&[here, gone], 0).iter().all(Slot::is_known), "a worker that left owes nothing");
    }
}
