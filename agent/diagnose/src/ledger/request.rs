//! Where request-seconds went.

use perfwatch_model::{Ledger, Split};

use crate::ServerFacts;

/// The request ledger of a tick: ∫ requests dt by stage, requests in flight included. Its interval is the sum.
///
/// `None` when the server reported nothing; an empty ledger when it reported that it had no request. Slots that were not
/// reported are left out of the interval: how many requests there were in them is not known.
pub fn request_ledger(facts: &ServerFacts) -> Option<Ledger> {
    let slots = facts.slots.value()?;
    let mut split = Split::of(slots.stage_ns.iter().map(|(_, _, ns)| ns).sum());
    for (_, name, ns) in &slots.stage_ns {
        split.take(name.clone(), *ns, facts.slots.quality);
    }
    Some(split.rest(super::UNKNOWN, facts.slots.quality))
}
