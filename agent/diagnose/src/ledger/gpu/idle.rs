//! What a GPU waited for while it was idle.

use perfwatch_model::ledger::proportional;
use perfwatch_model::{Quality, State};

use crate::facts::Bearing;
use crate::ledger::parts::Parts;
use crate::ledger::{HOST_COMPUTE, NO_DEMAND, idle_cause};

/// Splits the idle time of a piece of `ns`, in which the device was busy for `busy` and its servers spent `state_ns` in each
/// state. The states sum to `ns`.
///
/// Busy time is taken to lie where the servers were in compute. Where they were in compute for longer, the device waited for
/// the host inside of it; where it was busy for longer, the rest of its work lies in the other states: in those with requests
/// first, for a device works for somebody. What is then left of a state was idle in it. The bounds are what any other way to lay
/// the busy time over the states would have made of it, and any other overlap of servers whose states are merged.
pub(super) fn add(
    busy: u64,
    state_ns: &[u64; State::COUNT],
    ns: u64,
    (bearing, known): (Bearing, Quality),
    parts: &mut Parts,
) {
    let of = |state: State| state_ns[state.index()];
    let (compute, none) = (of(State::Compute), of(State::None));
    let elsewhere = ns.saturating_sub(compute);
    let beyond = busy.saturating_sub(compute);
    // Busy time that could lie outside of compute, and is not taken to.
    let slack = busy.min(elsewhere).saturating_sub(beyond);
    let known = known.worst(bearing.quality());
    let quality = if state_ns.contains(&ns) { known } else { known.worst(Quality::Inferred) };
    let idle = ns.saturating_sub(busy);
    let in_compute = compute.saturating_sub(busy);
    let of_compute = match bearing {
        Bearing::Whole => (0, slack),
        // They may have been in compute one after the other.
        Bearing::Merged => (0, idle - in_compute),
        Bearing::Spread => (in_compute, idle - in_compute),
    };
    parts.add_about(HOST_COMPUTE, in_compute, quality, of_compute);
    let waiting: Vec<(State, u64)> = State::ALL
        .into_iter()
        .filter(|state| !matches!(state, State::Compute | State::None))
        .map(|state| (state, of(state)))
        .collect();
    let in_waiting = beyond.min(elsewhere.saturating_sub(none));
    let taken = proportional(in_waiting, waiting.iter().map(|(_, ns)| *ns)).unwrap_or_else(|| vec![0; waiting.len()]);
    let mut add = |cause: &'static str, there: u64, taken: u64| {
        let left = there.saturating_sub(taken);
        let least = there.saturating_sub(beyond + slack);
        let most = there - beyond.saturating_sub(elsewhere.saturating_sub(there)).min(there);
        let whole = (left.saturating_sub(least), most.saturating_sub(left));
        let bounds = match bearing {
            Bearing::Whole => whole,
            // There was no request for at most as long as none of them had one.
            Bearing::Merged if cause == NO_DEMAND => (left, whole.1),
            Bearing::Merged | Bearing::Spread => (left, idle - left),
        };
        parts.add_about(cause, left, quality, bounds);
    };
    for ((state, there), taken) in waiting.into_iter().zip(taken) {
        add(idle_cause(state), there, taken);
    }
    add(NO_DEMAND, none, beyond - in_waiting);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::parts::Bounds;
    use perfwatch_model::Ledger;

    fn split(busy: u64, states: &[(State, u64)]) -> (Ledger, Bounds) {
        let mut state_ns = [0; State::COUNT];
        for (state, ns) in states {
            state_ns[state.index()] = *ns;
        }
        let ns = state_ns.iter().sum();
        let mut parts = Parts::default();
        parts.add("busy", busy, Quality::Counter);
        add(busy, &state_ns, ns, (Bearing::Whole, Quality::Counter), &mut parts);
        parts.ledger(ns)
    }

    #[test]
    fn a_device_that_idles_in_compute_waits_for_the_host() {
        let (ledger, bounds) = split(30, &[(State::Compute, 100)]);
        assert_eq!((ledger.ns("busy"), ledger.ns(HOST_COMPUTE)), (30, 70));
        assert_eq!(bounds.of(HOST_COMPUTE), (0, 0));
        assert!(ledger.entries().iter().all(|entry| entry.quality <= Quality::Sdk), "there is one state to lay it in");
    }

    #[test]
    fn a_device_without_requests_lacks_demand_and_one_whose_requests_are_tokenised_starves() {
        let (ledger, _) = split(0, &[(State::None, 60), (State::Preprocess, 40)]);
        assert_eq!((ledger.ns(NO_DEMAND), ledger.ns("starved.preprocess")), (60, 40));
    }

    #[test]
    fn work_beyond_compute_is_laid_where_there_are_requests_first() {
        // 50 busy: 20 in compute, 30 elsewhere: all of the transfer's 20, and 10 of those without a request.
        let (ledger, _) = split(50, &[(State::Compute, 20), (State::Transfer, 20), (State::None, 60)]);
        assert_eq!((ledger.ns(HOST_COMPUTE), ledger.ns("starved.transfer"), ledger.ns(NO_DEMAND)), (0, 0, 50));
    }

    #[test]
    fn bounds_are_what_another_overlap_would_have_made_of_it() {
        // The device was busy for 40 of the 60 in compute, or for up to 40 of the rest.
        let (ledger, bounds) = split(40, &[(State::Compute, 60), (State::Preprocess, 40)]);
        assert_eq!((ledger.ns(HOST_COMPUTE), ledger.ns("starved.preprocess")), (20, 40));
        assert_eq!((bounds.of(HOST_COMPUTE), bounds.of("starved.preprocess")), ((0, 40), (40, 0)));
    }
}
