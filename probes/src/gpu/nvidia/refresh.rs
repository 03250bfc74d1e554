//! How old the values of a link's counters may be: a driver may refresh them less often than they are read.

use perfwatch_model::tick::SLOT_NS;

use super::link_reads::LinkRead;
use super::short::{self, FULL};

/// Reads further apart say nothing of how often the driver refreshes them.
const NEAR_NS: u64 = 3 * SLOT_NS / 2;
/// As many changes from one slot to the next, without a break, are those of counters that are never older than a slot.
const IN_A_ROW: u32 = 10;

/// Since when a change may have come about. Counters that stand still belong to an idle link, or were not refreshed: until they
/// have changed often enough from one slot to the next, what comes after a standstill may have come in all of it.
#[derive(Debug, Default)]
pub(super) struct Refresh {
    last: Option<LinkRead>,
    /// When they were asked for when they had last changed.
    changed_ns: u64,
    changes: u32,
}

impl Refresh {
    /// When what this read tells began, of counters that rise by no more than `rate` in a second. `None` where it tells nothing.
    pub(super) fn since_ns(&mut self, read: &LinkRead, rate: f64) -> Option<u64> {
        let Some(last) = self.last.replace(*read) else {
            self.changed_ns = read.asked_ns;
            return Some(read.told_ns);
        };
        let is_prompt = self.changes >= IN_A_ROW;
        if read.raw == last.raw {
            self.changes = if is_prompt { self.changes } else { 0 };
            return is_prompt.then_some(last.asked_ns);
        }
        let apart_ns = read.told_ns.saturating_sub(last.asked_ns);
        let changed_ns = std::mem::replace(&mut self.changed_ns, read.asked_ns);
        let rose = |(before, now): (Option<u64>, Option<u64>)| before.zip(now).map_or(0, |(a, b)| risen(a, b));
        let most = last.raw.into_iter().zip(read.raw).map(rose).max().unwrap_or(0);
        // More than the link moved since the last read: what was read then was old.
        let was_old = most as f64 > short::most(rate, apart_ns);
        let counts = is_prompt || apart_ns <= NEAR_NS;
        self.changes = if counts && !was_old { self.changes.saturating_add(1) } else { 0 };
        Some(if is_prompt && !was_old { last.asked_ns } else { changed_ns })
    }
}

/// How far a counter rose that may have been full once.
fn risen(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { (FULL + now).saturating_sub(before) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: f64 = 15.75e9;

    /// One read in each slot, of this value; the slot in which each change began, where it tells one.
    fn since(refresh: &mut Refresh, from: u64, raw: &[u64]) -> Vec<Option<u64>> {
        let read = |(raw, at): (&u64, u64)| LinkRead {
            asked_ns: at * SLOT_NS,
            told_ns: at * SLOT_NS,
            raw: [Some(*raw), Some(7)],
        };
        let since = raw.iter().zip(from..).map(|pair| refresh.since_ns(&read(pair), RATE));
        since.map(|since| since.map(|ns| ns / SLOT_NS)).collect()
    }

    #[test]
    fn a_change_after_a_standstill_may_have_come_in_all_of_it() {
        let mut refresh = Refresh::default();
        let told = since(&mut refresh, 0, &[5, 5, 5, 9, 9, 12, 13]);
        assert_eq!(told, [Some(0), None, None, Some(0), None, Some(3), Some(5)]);
    }

    #[test]
    fn counters_that_have_always_changed_belong_to_an_idle_link_when_they_stand_still() {
        let mut refresh = Refresh::default();
        let busy: Vec<u64> = (0..12).map(|at| at * 1000).collect();
        since(&mut refresh, 0, &busy);
        assert_eq!(since(&mut refresh, 12, &[11_000, 11_000, 12_000]), [Some(11), Some(12), Some(13)]);
        // More than the link moves in a slot: they were old after all.
        assert_eq!(since(&mut refresh, 15, &[12_000, 2_500_000_000, 2_500_000_000]), [Some(14), Some(14), None]);
    }
}
