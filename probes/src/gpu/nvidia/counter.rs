//! The driver's counters, kept from going back.

use perfwatch_model::{Reading, Reason};

use super::short::{self, Short, Step};

/// Reads are not made when they are asked for: by so much two may be further apart than the requests were.
const LATE_S: f64 = 1.5;
/// The driver's clock and the agent's go apart, and its counters are renewed now and then.
const SLACK: f64 = 1.1;

/// How far a counter can rise from one look to the next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// By the time between the two.
    PerSecond(f64),
    /// Whatever time that was.
    AtOnce(u64),
    /// By what a link can move in a second; and it may have 32 bits.
    Link(f64),
    /// The same of one that has, and began to rise to what it is at this time.
    ShortLink { rate: f64, since_ns: u64 },
}

impl Bound {
    /// How far it rises from one time to another, at most.
    fn most(self, from_ns: u64, to_ns: u64) -> u64 {
        match self {
            Self::PerSecond(rate) => (rate * (to_ns.saturating_sub(from_ns) as f64 / 1e9 * SLACK + LATE_S)) as u64,
            // What a link cannot move, twice: headers may be counted too.
            Self::Link(rate) => Self::PerSecond(2.0 * rate).most(from_ns, to_ns),
            // When it was read is known, and what rises by more than this may as well have been full in between.
            Self::ShortLink { rate, since_ns } => short::most(rate, to_ns.saturating_sub(from_ns.min(since_ns))) as u64,
            Self::AtOnce(most) => most,
        }
    }
}

/// A raw value, and when it was asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Read {
    pub(super) raw: u64,
    pub(super) at_ns: u64,
}

/// Why there is nothing of a counter that was full who knows how often.
pub(super) const FULL_TOO_SOON: Reason = Reason::fixed(
    "the driver counts these bytes in 32 bits, which this link can fill faster than they are read",
    "none here; from Hopper on GPM tells them",
);

/// The same where it is read more often than once a second: a read was late, or the driver may not have refreshed it for a while.
pub(super) const READ_TOO_LATE: Reason = Reason::fixed(
    "the driver counts these bytes in 32 bits, which this link may have filled since they last changed",
    "none needed now and then: a read was late, or the link began after a standstill; else allow the probes more (`budget`)",
);

/// Makes a counter of NVML's, which restarts when the driver is loaded anew, one that only rises.
///
/// A value below the last one, or above it by what cannot be, has no reading. If the next value goes on from there, as a counter
/// does, the counter has restarted, and what it counts from there is added to the old total; or it has leapt, and counts on from
/// there without the leap. If not, the value was a glitch and is forgotten.
#[derive(Debug, Default)]
pub(crate) struct Counter {
    /// Last value that was believed.
    last: Option<Read>,
    total: u64,
    suspect: Option<Read>,
    short: Short,
    /// Nobody knows how often it was full before the last read.
    is_overrun: bool,
}

impl Counter {
    /// The total for a raw value that was asked for at `at_ns`. `what` is the counter's name for people.
    pub(crate) fn total(&mut self, raw: u64, at_ns: u64, bound: Bound, what: &str) -> Reading<u64> {
        let now = Read { raw, at_ns };
        let most_since = |before: Read| bound.most(before.at_ns, at_ns);
        let suspect = self.suspect.take();
        let step = match bound {
            Bound::Link(rate) => self.short.step(now, None, rate),
            Bound::ShortLink { rate, since_ns } => self.short.step(now, Some(since_ns), rate),
            Bound::PerSecond(_) | Bound::AtOnce(_) => Step::Plain,
        };
        let more = match self.last {
            None => raw,
            Some(_) if step == Step::Unknown => {
                (self.last, self.is_overrun) = (Some(now), true);
                let is_read_often = matches!(bound, Bound::ShortLink { .. });
                return Reading::Unavailable(if is_read_often { READ_TOO_LATE } else { FULL_TOO_SOON });
            }
            Some(last) if raw >= last.raw && raw - last.raw <= most_since(last) => raw - last.raw,
            Some(last) => {
                if let (Step::Wrapped(more), None) = (&step, suspect) {
                    return self.believe(now, *more);
                }
                let is_same_side = |before: &Read| (before.raw < last.raw) == (raw < last.raw);
                let goes_on = |before: &Read| raw >= before.raw && raw - before.raw <= most_since(*before);
                let Some(before) = suspect.filter(|before| is_same_side(before) && goes_on(before)) else {
                    let how = if raw < last.raw { "went back" } else { "leapt" };
                    return self.suspect(now, format!("the counter of {what} {how} from {} to {raw}", last.raw));
                };
                let is_restart = raw < last.raw && raw <= most_since(last);
                if is_restart { raw } else { raw - before.raw }
            }
        };
        self.believe(now, more)
    }

    fn believe(&mut self, read: Read, more: u64) -> Reading<u64> {
        (self.last, self.is_overrun) = (Some(read), false);
        self.total = self.total.saturating_add(more);
        Reading::Value(self.total)
    }

    /// True as soon as it told more than 0.
    pub(crate) fn has_counted(&self) -> bool {
        self.total > 0
    }

    /// What it told last.
    pub(crate) fn counted(&self) -> u64 {
        self.total
    }

    /// Whether it was full before the last read, nobody knows how often.
    pub(crate) fn is_overrun(&self) -> bool {
        self.is_overrun
    }

    /// Whether the last value is not believed yet.
    pub(crate) fn is_doubted(&self) -> bool {
        self.suspect.is_some()
    }

    /// Whether it has 32 bits by all that was seen of it, in whatever type it comes.
    pub(crate) fn is_short(&self) -> bool {
        self.short.is_believed()
    }

    fn suspect(&mut self, read: Read, text: String) -> Reading<u64> {
        self.suspect = Some(read);
        Reading::Unavailable(Reason::new(text, "none needed: it counts on from the next sample"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// One read a second, of what rises by up to a hundred in that.
    fn totals(raw: &[u64]) -> Vec<Option<u64>> {
        let mut counter = Counter::default();
        let reads = raw.iter().zip(0..);
        reads
            .map(|(&raw, at)| counter.total(raw, at * SECOND, Bound::PerSecond(100.0), "energy (mJ)").value())
            .collect()
    }

    #[test]
    fn a_restarted_counter_counts_on() {
        assert_eq!(totals(&[100, 150, 5, 25, 30]), [Some(100), Some(150), None, Some(175), Some(180)]);
    }

    #[test]
    fn one_low_value_is_a_glitch_and_so_is_one_high_value() {
        assert_eq!(totals(&[100, 0, 160, 170]), [Some(100), None, Some(160), Some(170)]);
        assert_eq!(totals(&[100, 1 << 60, 160, 170]), [Some(100), None, Some(160), Some(170)]);
        assert_eq!(totals(&[100, 1 << 60, 0, 170]), [Some(100), None, None, Some(170)]);
    }

    #[test]
    fn a_counter_rises_no_faster_than_it_can_and_by_more_after_a_longer_time() {
        assert_eq!(totals(&[100, 400, 450, 455]), [Some(100), None, Some(450), Some(455)]);
        assert_eq!(totals(&[100, 900, 300, 310]), [Some(100), None, Some(300), Some(310)]);
        let mut counter = Counter::default();
        let mut at_once = |raw| counter.total(raw, 0, Bound::AtOnce(5), "errors").value();
        assert_eq!([at_once(7), at_once(12), at_once(18), at_once(12)], [Some(7), Some(12), None, Some(12)]);
    }

    #[test]
    fn a_short_counter_of_a_link_that_begins_anew_is_no_full_one_and_a_full_one_no_other() {
        let rate = 15.75e9;
        let tenths = |raw: &[u64]| -> Vec<Option<u64>> {
            let mut counter = Counter::default();
            let read = |(raw, at): (&u64, u64)| {
                let bound = Bound::ShortLink { rate, since_ns: (at - 1) * SECOND / 10 };
                counter.total(*raw, at * SECOND / 10, bound, "bytes").value()
            };
            raw.iter().zip(1..).map(read).collect()
        };
        let g = 1_000_000_000;
        assert_eq!(tenths(&[4 * g, 1000, 2000, 3000]), [4 * g, 4_294_968_296, 4_294_969_296, 4_294_970_296].map(Some));
        assert_eq!(
            tenths(&[g / 2, 1000, 2000, 3000]),
            [Some(g / 2), None, Some(g / 2 + 2000), Some(g / 2 + 3000)],
            "the link cannot have moved what is left until it is full"
        );
    }

    #[test]
    fn a_restart_is_believed_when_it_counts_on_as_it_can() {
        assert_eq!(totals(&[1000, 5, 3, 4]), [Some(1000), None, None, Some(1004)], "back again is no counting on");
        assert_eq!(
            totals(&[1000, 5, 600, 610]),
            [Some(1000), None, None, Some(1010)],
            "too fast, and then from 600 on"
        );
        assert_eq!(totals(&[1000, 5, 600, 1010]), [Some(1000), None, None, Some(1010)]);
    }

    #[test]
    fn a_counter_that_stays_high_counts_on_without_the_leap() {
        let high = 1 << 60;
        assert_eq!(totals(&[100, high, high + 7, high + 9]), [Some(100), None, Some(107), Some(109)]);
        assert_eq!(totals(&[100, high, high + 7, 20, 25]), [Some(100), None, Some(107), None, Some(132)]);
    }
}
