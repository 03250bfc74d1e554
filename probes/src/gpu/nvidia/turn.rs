//! What is too dear to be read of every device in each sample is read in turn: of all at first, and then of a few at a time.

use std::time::Duration;

use perfwatch_model::Stamp;

use super::clock::monotonic_ns;

/// When a device is read next.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    due_ns: u64,
}

/// One answer's reading in turn.
pub(crate) struct Pass {
    pub(crate) at: Stamp,
    /// When the answer was begun, `CLOCK_MONOTONIC`.
    pub(crate) began_ns: u64,
    /// How long the answer may have taken when one more device is read.
    pub(crate) may_take: Duration,
    /// Nothing was read yet.
    pub(crate) is_first: bool,
}

impl Pass {
    /// Reads those that waited longest, `at_once` of them at most, and any number the first time. One is read however long the
    /// answer has taken: a slow driver is read slowly, and not never.
    pub(crate) fn each<T>(
        &self,
        devices: &mut [T],
        at_once: usize,
        every_ns: u64,
        turn: impl Fn(&mut T) -> Option<&mut Turn>,
        mut read: impl FnMut(usize, &mut T),
    ) {
        let most = if self.is_first { devices.len() } else { at_once };
        for taken in 0..most {
            let took = Duration::from_nanos(monotonic_ns().saturating_sub(self.began_ns));
            if taken > 0 && took > self.may_take {
                return;
            }
            let due = devices.iter_mut().map(&turn).enumerate().filter_map(|(at, turn)| Some((at, turn?.due_ns)));
            let next = due.filter(|(_, due_ns)| *due_ns <= self.at.mono_ns).min_by_key(|(_, due_ns)| *due_ns);
            let Some((at, _)) = next else { return };
            if let Some(turn) = turn(&mut devices[at]) {
                turn.due_ns = self.at.mono_ns.saturating_add(every_ns);
            }
            read(at, &mut devices[at]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn pass(second: u64, may_take: Duration) -> Pass {
        Pass {
            at: Stamp { mono_ns: second * SECOND, wall_ns: 0 },
            began_ns: monotonic_ns(),
            may_take,
            is_first: second == 1,
        }
    }

    fn read(pass: &Pass, devices: &mut [Turn; 5]) -> Vec<usize> {
        let mut read = Vec::new();
        pass.each(devices, 2, 3 * SECOND, |turn| Some(turn), |at, _| read.push(at));
        read
    }

    #[test]
    fn all_are_read_at_first_and_then_two_at_a_time_each_in_its_turn() {
        let mut devices = Default::default();
        let turns: Vec<_> = (1..=8).map(|second| read(&pass(second, Duration::MAX), &mut devices)).collect();
        assert_eq!(
            turns,
            [vec![0, 1, 2, 3, 4], vec![], vec![], vec![0, 1], vec![2, 3], vec![4], vec![0, 1], vec![2, 3]]
        );
    }

    #[test]
    fn where_an_answer_takes_long_one_device_is_read_with_each() {
        let mut devices = Default::default();
        let turns: Vec<_> = (1..=6).map(|second| read(&pass(second, Duration::ZERO), &mut devices)).collect();
        assert_eq!(turns, [[0], [1], [2], [3], [4], [0]]);
    }
}
