//! How often GPM is sampled, and what is read beside it: as often as is worth anything, as long as that stays cheap.

use perfwatch_model::tick::SLOT_NS;

/// Slots between two samples, from the best. GPM knows nothing shorter than a slot.
const PERIODS: [u64; 4] = [1, 2, 5, 10];
/// A round that takes longer than this is late for its own slot, and holds a lock of the driver's that servers need too.
const LONGEST_ROUND_NS: f64 = 0.3 * SLOT_NS as f64;
/// What a round counts for at most: one in which the driver hung is one slow round, and no more.
const MOST_ROUND_NS: u64 = 2 * SLOT_NS;
/// Rounds before the cost of a period is believed.
const ROUNDS: u32 = 20;
/// A shorter period must fit into this part of what is allowed, or the two would alternate.
const ROOM: f64 = 0.6;
/// Weight of the newest round in the mean.
const NEWEST: f64 = 0.1;

/// Chooses the period by what rounds cost.
#[derive(Debug)]
pub(crate) struct Pace {
    at: usize,
    rounds: u32,
    cpu_ns: f64,
    wall_ns: f64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { at: 0, rounds: 0, cpu_ns: 0.0, wall_ns: 0.0 }
    }
}

impl Pace {
    /// From one sample to the next.
    pub(crate) fn period_ns(&self) -> u64 {
        PERIODS[self.at] * SLOT_NS
    }

    /// True when samples are further apart than they would be without a budget.
    pub(crate) fn is_stretched(&self) -> bool {
        self.at > 0
    }

    /// True when there is no slower one: samples come no more often than ticks.
    pub(crate) fn is_slowest(&self) -> bool {
        self.at + 1 == PERIODS.len()
    }

    /// When the next sample is due after one that was due or taken at `now_ns`: at the end of a slot, like those of servers.
    pub(crate) fn next_ns(&self, now_ns: u64) -> u64 {
        (now_ns / self.period_ns() + 1) * self.period_ns()
    }

    /// Takes in what a round over all devices cost. `allowed_ns` is the CPU time that rounds may use in a second.
    pub(crate) fn took(&mut self, cpu_ns: u64, wall_ns: u64, allowed_ns: u64) {
        let weight = if self.rounds == 0 { 1.0 } else { NEWEST };
        self.cpu_ns += (cpu_ns as f64 - self.cpu_ns) * weight;
        self.wall_ns += (wall_ns.min(MOST_ROUND_NS) as f64 - self.wall_ns) * weight;
        self.rounds += 1;
        if self.rounds < ROUNDS {
            return;
        }
        let fits = |at: usize, room: f64| {
            let per_second = (1_000_000_000 / (PERIODS[at] * SLOT_NS)) as f64;
            let busy = LONGEST_ROUND_NS * PERIODS[at] as f64;
            self.cpu_ns * per_second <= allowed_ns as f64 * room && self.wall_ns <= busy * room
        };
        if !fits(self.at, 1.0) && self.at + 1 < PERIODS.len() {
            self.at += 1;
            self.rounds = 1;
        } else if self.at > 0 && fits(self.at - 1, ROOM) {
            self.at -= 1;
            self.rounds = 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn after(pace: &mut Pace, rounds: u32, cpu_ns: u64, wall_ns: u64) -> u64 {
        (0..rounds).for_each(|_| pace.took(cpu_ns, wall_ns, 5 * MS));
        pace.period_ns() / SLOT_NS
    }

    #[test]
    fn rounds_that_cost_more_than_they_may_come_less_often_and_come_back() {
        let mut pace = Pace::default();
        assert_eq!(after(&mut pace, 100, MS / 5, MS), 1, "2 ms a second of 5");
        assert_eq!(after(&mut pace, 300, 2 * MS, 3 * MS), 5, "20 ms, 10 ms, 4 ms");
        assert!(pace.is_stretched());
        assert_eq!(after(&mut pace, 300, 2 * MS, 3 * MS), 5, "and stay: 10 ms would not fit");
        assert_eq!(after(&mut pace, 300, MS / 5, MS), 1);
    }

    #[test]
    fn a_slow_driver_is_asked_less_often_however_little_time_it_takes_itself() {
        let mut pace = Pace::default();
        assert_eq!(after(&mut pace, 300, 0, 80 * MS), 5);
        assert!(!pace.is_slowest());
        assert_eq!(after(&mut pace, 300, 0, 900 * MS), 10, "there is no slower pace");
        assert!(pace.is_slowest());
    }

    #[test]
    fn one_slow_round_changes_nothing() {
        let mut pace = Pace::default();
        after(&mut pace, 100, MS / 10, MS);
        assert_eq!(after(&mut pace, 1, 0, 150 * MS), 1);
        assert_eq!(after(&mut pace, 30, MS / 10, MS), 1);
        assert_eq!(after(&mut pace, 1, 0, 30_000 * MS), 1, "a hang");
        assert_eq!(after(&mut pace, 30, MS / 10, MS), 1);
    }

    #[test]
    fn samples_are_due_where_slots_end() {
        let pace = Pace::default();
        assert_eq!(pace.next_ns(1_234_567_890), 1_300 * MS);
        assert_eq!(pace.next_ns(1_300 * MS), 1_400 * MS);
    }
}
