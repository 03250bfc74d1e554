//! Slots of several that are looked at as one.

use super::{SLOT_NS, Slot};
use crate::State;
use crate::ledger::proportional;

impl Slot {
    /// One slot of several known ones of the same time. States do not add up, they overlap: the whole is without a request only
    /// while all of them are, and computes at least as long as the busiest of them. What is left is shared out as they spent
    /// it. Occupancy adds. Exact for one; of several it is inferred. Unknown without any.
    pub fn merged<'a>(slots: &(impl Iterator<Item = &'a Self> + Clone)) -> Self {
        let slots = || slots.clone();
        let mut those = slots();
        match (those.next(), those.next()) {
            (None, _) => return Self::default(),
            (Some(only), None) => return *only,
            _ => {}
        }
        let of = |state: State| slots().map(move |slot| slot.state_ns[state.index()]);
        let mut merged = Self::default();
        let none = of(State::None).min().unwrap_or(0);
        let compute = of(State::Compute).max().unwrap_or(0).min(SLOT_NS - none);
        merged.state_ns[State::None.index()] = none;
        merged.state_ns[State::Compute.index()] = compute;
        let rest = SLOT_NS - none - compute;
        let between = State::Transfer.index()..=State::Other.index();
        let spent = |at: usize| slots().map(|slot| slot.state_ns[at]).sum::<u64>() * u64::from(between.contains(&at));
        match proportional(rest, (0..State::COUNT).map(spent)) {
            Some(shares) => merged.state_ns.iter_mut().zip(shares).for_each(|(state, ns)| *state += ns),
            // One of them was busy then, and no other state is known of.
            None => merged.state_ns[State::Compute.index()] += rest,
        }
        for slot in slots() {
            for (sum, ns) in merged.stage_ns.iter_mut().zip(slot.stage_ns) {
                *sum = sum.saturating_add(ns);
            }
        }
        merged
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Stage;

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
        let merged = Slot::merged(&[&one, &two].into_iter());
        assert_eq!(merged.state_ns[State::None.index()], 50_000_000);
        assert_eq!(merged.state_ns[State::Compute.index()], 30_000_000);
        assert_eq!(merged.state_ns[State::DataLoad.index()], 15_000_000);
        assert_eq!(merged.state_ns[State::Queue.index()], 5_000_000);
        assert_eq!(merged.stage_ns[Stage::Queue.index()], 2 * SLOT_NS, "occupancy adds");
        assert_eq!((Slot::merged(&std::iter::once(&one)), Slot::merged(&std::iter::empty())), (one, Slot::default()));
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
            assert_eq!(Slot::merged(&slots.iter()).state_ns.iter().sum::<u64>(), SLOT_NS);
        }
    }
}
