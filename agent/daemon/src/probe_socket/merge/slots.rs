//! The ten slots of a tick, from those of all workers.

use perfwatch_model::tick::{SLOT_NS, SLOTS, Slot};
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
        Slot::merged(&workers.iter().filter_map(|worker| worker.slots[at].as_ref()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::State;

    #[test]
    fn a_slot_that_one_of_two_workers_owes_is_unknown() {
        let mut full = Slot::default();
        full.state_ns[State::None.index()] = SLOT_NS;
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
