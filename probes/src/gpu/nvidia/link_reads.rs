//! The counters of a `PCIe` link that are full before a second is over, where no GPM tells what went over it: they are read at the
//! end of each slot, and handed on as they were read.

use perfwatch_model::Stamp;
use perfwatch_model::tick::SLOT_NS;

use super::clock::monotonic_ns;
use super::fields::Field;
use super::pace::Pace;
use super::readings::DeviceReadings;
use super::retry::Retry;
use super::short;

/// The two counters, in the order in which they are read.
pub(crate) const WAYS: [Field; 2] = [Field::PcieTransmit, Field::PcieReceive];

/// Reads that come sooner after another tell nothing more.
const SHORTEST_NS: u64 = SLOT_NS / 2;
/// As many as are kept for an answer that is late; what is older is counted no more.
const MOST: usize = 32;
/// Reads after which they are known to be cheap enough: a minute of them.
const WELL: u32 = 600;

/// The raw values of one call, in the order of [`WAYS`].
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LinkRead {
    /// Before and after the call, `CLOCK_MONOTONIC`.
    pub(crate) asked_ns: u64,
    pub(crate) told_ns: u64,
    pub(crate) raw: [Option<u64>; WAYS.len()],
}

/// What an answer says of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct LinkReads {
    /// They are read so often, and the tick's own reading of them is no more than another read.
    pub(crate) are_by_slot: bool,
    /// Those since the last answer, oldest first.
    pub(crate) reads: Vec<LinkRead>,
    /// Told by who counts them: they are full at 32 bits, in whatever type they come.
    pub(crate) are_short: bool,
}

/// Whether they are to be read, and what was read and not told yet.
#[derive(Debug)]
pub(crate) struct LinkWatch {
    is_on: bool,
    /// They would be, if that had not been given up.
    is_resting: bool,
    reads: Vec<LinkRead>,
    last_ns: u64,
    /// Bytes that the link moves in a second at most, as of the last answer.
    pub(super) rate: Option<f64>,
    retry: Retry,
    count: u32,
}

impl Default for LinkWatch {
    fn default() -> Self {
        let retry = Retry::of_device();
        Self { is_on: false, is_resting: false, reads: Vec::new(), last_ns: 0, rate: None, retry, count: 0 }
    }
}

impl LinkWatch {
    /// Whether they are read at the end of each slot.
    pub(crate) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Whether the last read is long enough ago for another.
    pub(crate) fn is_due(&self, now_ns: u64) -> bool {
        self.is_on && now_ns.saturating_sub(self.last_ns) >= SHORTEST_NS
    }

    /// Begins where counters of 32 bits are of use at such a pace and at no slower one, and ends where they are not: nobody reads
    /// them more often than it takes.
    pub(crate) fn choose(&mut self, are_short: bool, now_ns: u64) {
        let is_of_use = |rate: f64| short::is_too_fast(rate) && !short::is_too_fast(rate * SLOT_NS as f64 / 1e9);
        let is_rested = self.retry.is_due(Stamp { mono_ns: now_ns, wall_ns: 0 });
        let are_wanted = are_short && self.rate.is_some_and(is_of_use);
        (self.is_on, self.is_resting) = (are_wanted && is_rested, are_wanted && !is_rested);
    }

    /// Gives up for a while where reads come so far apart, as they are too dear or take too long, that the counters may be full
    /// in between.
    pub(crate) fn keep_up(&mut self, pace: &Pace, now_ns: u64) {
        let is_too_slow = |rate: f64| pace.is_slowest() || short::is_too_fast(rate * pace.period_ns() as f64 / 1e9);
        if self.is_on && self.rate.is_none_or(is_too_slow) {
            (self.is_on, self.is_resting) = (false, true);
            self.retry.failed(Stamp { mono_ns: now_ns, wall_ns: 0 });
            self.count = 0;
        }
    }

    /// Whether it gave up for now.
    pub(crate) fn is_resting(&self) -> bool {
        self.is_resting
    }

    /// Takes a read in.
    pub(crate) fn add(&mut self, read: LinkRead) {
        if self.reads.capacity() == 0 {
            self.reads.reserve_exact(MOST);
        }
        if self.reads.len() == MOST {
            self.reads.remove(0);
        }
        self.reads.push(read);
        self.last_ns = read.told_ns;
        self.count = self.count.saturating_add(1);
        if self.count == WELL {
            self.retry.succeeded();
        }
    }

    /// Takes in what the tick read of them, where nothing was read shortly before.
    pub(crate) fn add_of_tick(&mut self, readings: &DeviceReadings) {
        let raw = WAYS.map(|way| readings.fields[way as usize].as_value().copied());
        if self.is_due(readings.fields_ns) && raw.iter().any(Option::is_some) {
            self.add(LinkRead { asked_ns: readings.fields_ns, told_ns: monotonic_ns(), raw });
        }
    }

    /// Hands over what was read since the last time.
    pub(crate) fn tell(&mut self, into: &mut LinkReads) {
        into.reads.clear();
        // Each of the two buffers has its turn, and so its room, after two reads.
        if !self.reads.is_empty() {
            std::mem::swap(&mut self.reads, &mut into.reads);
        }
        into.are_by_slot = self.is_on;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GEN3_X16: f64 = 15.75e9;
    const SECOND: u64 = 1_000_000_000;

    fn chosen(are_short: bool, rate: Option<f64>) -> bool {
        let mut watch = LinkWatch { rate, ..LinkWatch::default() };
        watch.choose(are_short, 0);
        watch.is_on()
    }

    #[test]
    fn counters_are_read_by_slot_where_a_link_fills_them_within_a_second_and_not_within_a_slot() {
        assert!(chosen(true, Some(GEN3_X16)) && chosen(true, Some(2.0 * GEN3_X16)));
        assert!(!chosen(false, Some(GEN3_X16)), "of 64 bits");
        assert!(!chosen(true, Some(3.9e9)), "once a second is enough");
        assert!(!chosen(true, Some(63e9)), "a slot is too long");
        assert!(!chosen(true, None), "nobody knows how fast it is");
    }

    #[test]
    fn reads_that_were_given_up_are_tried_again_each_time_later() {
        let mut watch = LinkWatch { rate: Some(GEN3_X16), ..LinkWatch::default() };
        let slow = pace(10 * SLOT_NS);
        let mut on_at = |second: u64| {
            watch.choose(true, second * SECOND);
            let was_on = watch.is_on();
            watch.keep_up(&slow, second * SECOND);
            was_on
        };
        let seconds: Vec<u64> = (1..100).filter(|second| on_at(*second)).collect();
        assert_eq!(seconds, [1, 11, 31, 71]);
        assert!(watch.is_resting());
    }

    /// Of rounds that cost so much that they come as far apart.
    fn pace(period_ns: u64) -> Pace {
        let mut pace = Pace::default();
        while pace.period_ns() < period_ns {
            pace.took(pace.period_ns(), 0, SECOND / 2);
        }
        pace
    }

    #[test]
    fn reads_that_come_too_seldom_for_the_link_are_given_up_and_others_are_not() {
        for (rate, slots, goes_on) in [(GEN3_X16, 2, true), (2.0 * GEN3_X16, 2, false), (GEN3_X16, 5, false)] {
            let mut watch = LinkWatch { rate: Some(rate), ..LinkWatch::default() };
            watch.choose(true, 0);
            watch.keep_up(&pace(slots * SLOT_NS), 0);
            assert_eq!(watch.is_on(), goes_on, "{rate} at {slots} slots");
        }
    }

    #[test]
    fn what_nobody_asks_for_is_kept_for_a_while_and_told_once() {
        let mut watch = LinkWatch::default();
        let read = |at: u64| LinkRead { asked_ns: at, told_ns: at, raw: [Some(at), None] };
        (0..100).for_each(|at| watch.add(read(at)));
        let mut told = LinkReads::default();
        watch.tell(&mut told);
        assert_eq!((told.reads.len(), told.reads[0], told.reads[MOST - 1]), (MOST, read(68), read(99)));
        watch.tell(&mut told);
        assert!(told.reads.is_empty());
    }
}
