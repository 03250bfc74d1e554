//! What the server as a whole is doing: in exactly one [`State`] at any instant.
//!
//! Requests are counted per stripe (a few cache lines, each used by some of the threads) and state. Only when a stripe's
//! count goes between 0 and 1 is the shared word touched: nine fields of 7 bits, how many stripes have a request in each
//! state. Its lowest non-empty field is the server's state, because states are numbered by precedence. Only when *that*
//! changes is time accounted for: the interval since the last change, which one atomic maximum hands to exactly one
//! thread, so that intervals tile time without gap or overlap.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};
use std::sync::atomic::{AtomicU32, AtomicU64};

use perfwatch_model::State;
use perfwatch_model::tick::SLOT_NS;

/// Slots between two readings at most: the flusher reads each second, so a stall of five seconds is survived.
pub(crate) const RING: u64 = 64;
/// Bits per field of the shared word.
const FIELD: u32 = 7;
/// At most this many stripes: half a field, so that threads caught between the two updates cannot overflow it.
const MAX_STRIPES: usize = 63;
/// A slot whose states miss 100 ms by more than this is unknown. Less is a thread that was between its change and its
/// bookkeeping when the slot was read, and goes to (or comes from) the largest state.
const TOLERANCE: u64 = SLOT_NS / 20;

/// Requests in each state, for some of the threads.
#[repr(align(64))]
#[derive(Default)]
pub(crate) struct Stripe {
    counts: [AtomicU32; State::COUNT - 1],
}

pub(crate) struct Exclusive {
    occupied: AtomicU64,
    since: AtomicU64,
    ring: Box<[[AtomicU64; State::COUNT]; RING as usize]>,
    stripes: Box<[Stripe]>,
}

/// The state that a shared word stands for.
fn state_of(occupied: u64) -> State {
    if occupied == 0 { State::None } else { State::ALL[(occupied.trailing_zeros() / FIELD) as usize] }
}

fn one(state: State) -> u64 {
    1 << (FIELD * state.index() as u32)
}

impl Exclusive {
    pub(crate) fn new(now: u64) -> Self {
        let stripes = std::thread::available_parallelism().map_or(4, std::num::NonZero::get).min(MAX_STRIPES);
        Self {
            occupied: AtomicU64::new(0),
            since: AtomicU64::new(now),
            ring: Box::new(std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0)))),
            stripes: (0..stripes).map(|_| Stripe::default()).collect(),
        }
    }

    /// The stripe for a thread.
    pub(crate) fn stripe(&self, ordinal: usize) -> &Stripe {
        &self.stripes[ordinal % self.stripes.len()]
    }

    /// A request of this stripe goes from one state to another; `None` is outside the server.
    #[inline]
    pub(crate) fn change(&self, stripe: &Stripe, from: Option<State>, to: Option<State>, now: u64) {
        if from == to {
            return;
        }
        let mut delta = 0u64;
        if let Some(state) = to
            && stripe.counts[state.index()].fetch_add(1, Relaxed) == 0
        {
            delta = delta.wrapping_add(one(state));
        }
        if let Some(state) = from
            && stripe.counts[state.index()].fetch_sub(1, Relaxed) == 1
        {
            delta = delta.wrapping_sub(one(state));
        }
        if delta == 0 {
            return;
        }
        // One addition changes both fields: nobody sees the server empty in between.
        let before = self.occupied.fetch_add(delta, AcqRel);
        let (was, is) = (state_of(before), state_of(before.wrapping_add(delta)));
        if was != is {
            self.account(was, now);
        }
    }

    /// Books the time since the last booking.
    fn account(&self, state: State, now: u64) {
        let since = self.since.fetch_max(now, AcqRel);
        // After a stall longer than the ring the oldest slots are lost anyway.
        let mut from = since.max(now.saturating_sub((RING - 1) * SLOT_NS));
        while from < now {
            let index = from / SLOT_NS;
            let until = now.min((index + 1) * SLOT_NS);
            self.ring[(index % RING) as usize][state.index()].fetch_add(until - from, Relaxed);
            from = until;
        }
    }

    /// Books up to `now`, so that every slot before it is complete.
    pub(crate) fn close(&self, now: u64) {
        self.account(state_of(self.occupied.load(Acquire)), now);
    }

    /// Takes a slot out of the ring: its time per state, which sums to exactly 100 ms, or `None` when it is unknown.
    pub(crate) fn take(&self, index: u64) -> Option<[u64; State::COUNT]> {
        let cells = &self.ring[(index % RING) as usize];
        let mut states: [u64; State::COUNT] = std::array::from_fn(|at| cells[at].swap(0, Relaxed));
        let total: u64 = states.iter().sum();
        if total.abs_diff(SLOT_NS) > TOLERANCE {
            return None;
        }
        let largest = (0..State::COUNT).max_by_key(|at| states[*at])?;
        states[largest] = (states[largest] + SLOT_NS).checked_sub(total)?;
        Some(states)
    }

    /// Empties the ring after a stall.
    pub(crate) fn clear_ring(&self) {
        for cell in self.ring.iter().flatten() {
            cell.store(0, Relaxed);
        }
    }

    /// Starts over in the child of a fork: its requests stayed with the parent.
    pub(crate) fn reset(&self, now: u64) {
        for count in self.stripes.iter().flat_map(|stripe| &stripe.counts) {
            count.store(0, Relaxed);
        }
        self.occupied.store(0, Relaxed);
        self.since.store(now, Relaxed);
        self.clear_ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_sums_exactly_through_any_sequence() {
        let exclusive = Exclusive::new(0);
        let stripe = exclusive.stripe(0);
        exclusive.change(stripe, None, Some(State::Queue), 10_000_001);
        exclusive.change(stripe, None, Some(State::Send), 20_000_000); // queue comes before send: no change
        exclusive.change(stripe, Some(State::Queue), Some(State::Compute), 30_000_007);
        exclusive.change(stripe, Some(State::Compute), None, 250_000_000);
        exclusive.close(300_000_000);
        let mut wanted = [0; State::COUNT];
        wanted[State::None.index()] = 10_000_001;
        wanted[State::Queue.index()] = 20_000_006;
        wanted[State::Compute.index()] = 69_999_993;
        assert_eq!(exclusive.take(0), Some(wanted));
        let mut all_compute = [0; State::COUNT];
        all_compute[State::Compute.index()] = SLOT_NS;
        assert_eq!(exclusive.take(1), Some(all_compute));
        let mut half = [0; State::COUNT];
        half[State::Compute.index()] = SLOT_NS / 2;
        half[State::Send.index()] = SLOT_NS / 2;
        assert_eq!(exclusive.take(2), Some(half));
    }

    #[test]
    fn a_slot_that_was_not_watched_is_unknown() {
        let exclusive = Exclusive::new(50_000_000);
        exclusive.close(200_000_000);
        assert_eq!(exclusive.take(0), None, "the server began in its middle");
        assert!(exclusive.take(1).is_some());
        assert_eq!(exclusive.take(1), None, "taken once");
    }

    #[test]
    fn a_few_lost_nanoseconds_go_to_the_largest_state() {
        let exclusive = Exclusive::new(1_000);
        exclusive.close(100_000_000);
        let states = exclusive.take(0).expect("within the tolerance");
        assert_eq!(states.iter().sum::<u64>(), SLOT_NS);
    }

    #[test]
    fn states_of_many_stripes_do_not_run_into_each_other() {
        let exclusive = Exclusive::new(0);
        let stripes: Vec<Stripe> = (0..MAX_STRIPES).map(|_| Stripe::default()).collect();
        for stripe in &stripes {
            exclusive.change(stripe, None, Some(State::Queue), 0);
            exclusive.change(stripe, None, Some(State::Other), 0);
        }
        assert_eq!(state_of(exclusive.occupied.load(Relaxed)), State::Queue);
        for stripe in &stripes {
            exclusive.change(stripe, Some(State::Queue), None, 0);
        }
        assert_eq!(state_of(exclusive.occupied.load(Relaxed)), State::Other);
        for stripe in &stripes {
            exclusive.change(stripe, Some(State::Other), None, 0);
        }
        assert_eq!(exclusive.occupied.load(Relaxed), 0);
    }
}
