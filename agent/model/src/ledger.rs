//! Ledgers: where every nanosecond of an interval went. They sum to the interval by construction.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::Quality;

/// One line of a [`Ledger`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The cause (device ledger) or stage (request ledger).
    pub label: Cow<'static, str>,
    /// How much of the interval.
    pub ns: u64,
    /// How this is known.
    pub quality: Quality,
}

/// Where the nanoseconds of an interval went. The entries sum to the interval exactly; a ledger can only be made by
/// [`Split`] or by adding ledgers, and both keep the sum.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Ledger {
    interval_ns: u64,
    entries: Vec<Entry>,
}

impl Ledger {
    /// The whole: wall time × capacity for a device, ∫ requests dt for a server.
    pub fn interval_ns(&self) -> u64 {
        self.interval_ns
    }

    /// The parts, in the order in which they were first taken.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Nanoseconds under a label, 0 when it has no entry.
    pub fn ns(&self, label: &str) -> u64 {
        self.entries.iter().find(|entry| entry.label == label).map_or(0, |entry| entry.ns)
    }

    /// Share of the interval under a label, 0 to 1; `None` when the interval is empty.
    pub fn share(&self, label: &str) -> Option<f64> {
        (self.interval_ns > 0).then(|| self.ns(label) as f64 / self.interval_ns as f64)
    }

    /// Adds another ledger: intervals add, entries add by label, qualities keep the worse.
    pub fn add(&mut self, other: &Self) {
        self.interval_ns += other.interval_ns;
        for entry in &other.entries {
            self.put(entry.label.clone(), entry.ns, entry.quality);
        }
    }

    fn put(&mut self, label: Cow<'static, str>, ns: u64, quality: Quality) {
        match self.entries.iter_mut().find(|entry| entry.label == label) {
            Some(entry) => {
                if ns > 0 {
                    entry.quality = if entry.ns == 0 { quality } else { entry.quality.worst(quality) };
                }
                entry.ns += ns;
            }
            None => self.entries.push(Entry { label, ns, quality }),
        }
    }
}

/// Splits an interval into a [`Ledger`]: parts are taken until nothing is left, and [`Split::rest`] takes what is.
#[derive(Debug)]
pub struct Split {
    ledger: Ledger,
    left: u64,
}

impl Split {
    /// Begins with the whole interval untaken.
    pub fn of(interval_ns: u64) -> Self {
        Self { ledger: Ledger { interval_ns, entries: Vec::new() }, left: interval_ns }
    }

    /// What nothing has claimed yet.
    pub fn left(&self) -> u64 {
        self.left
    }

    /// Takes up to `ns`; returns what there was. Asking for more than is left means that two measurements disagree; the
    /// entry then counts as inferred at best.
    pub fn take(&mut self, label: impl Into<Cow<'static, str>>, ns: u64, quality: Quality) -> u64 {
        let taken = ns.min(self.left);
        let quality = if taken < ns { quality.worst(Quality::Inferred) } else { quality };
        self.left -= taken;
        self.ledger.put(label.into(), taken, quality);
        taken
    }

    /// Shares what is left in proportion to `weights` (largest remainder, so the parts are exact integers) and finishes.
    /// With no weight at all everything goes to `otherwise`.
    pub fn share_rest(
        mut self,
        weights: &[(Cow<'static, str>, u64)],
        quality: Quality,
        otherwise: (&'static str, Quality),
    ) -> Ledger {
        let left = std::mem::take(&mut self.left);
        let shares = proportional(left, weights.iter().map(|(_, weight)| *weight));
        match shares {
            Some(shares) => {
                for ((label, weight), ns) in weights.iter().zip(shares) {
                    if *weight > 0 {
                        self.ledger.put(label.clone(), ns, quality);
                    }
                }
            }
            None => self.ledger.put(Cow::Borrowed(otherwise.0), left, otherwise.1),
        }
        self.ledger
    }

    /// Gives what is left to one label and finishes.
    pub fn rest(mut self, label: impl Into<Cow<'static, str>>, quality: Quality) -> Ledger {
        if self.left > 0 {
            let left = std::mem::take(&mut self.left);
            self.ledger.put(label.into(), left, quality);
        }
        self.ledger
    }
}

/// Splits `whole` in proportion to `weights` into integers that sum to it: floors first, the remainder one by one to the
/// largest fractions (earlier wins a tie). `None` when all weights are 0.
pub fn proportional(whole: u64, weights: impl ExactSizeIterator<Item = u64>) -> Option<Vec<u64>> {
    let weights: Vec<u128> = weights.map(u128::from).collect();
    let total: u128 = weights.iter().sum();
    if total == 0 {
        return None;
    }
    let products: Vec<u128> = weights.iter().map(|weight| weight * u128::from(whole)).collect();
    let mut parts: Vec<u64> = products.iter().map(|product| (product / total) as u64).collect();
    let mut missing = whole - parts.iter().sum::<u64>();
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|&at| std::cmp::Reverse(products[at] % total));
    for at in order {
        if missing == 0 {
            break;
        }
        parts[at] += 1;
        missing -= 1;
    }
    Some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(ledger: &Ledger) -> u64 {
        ledger.entries().iter().map(|entry| entry.ns).sum()
    }

    #[test]
    fn a_ledger_sums_to_its_interval_even_when_asked_for_too_much() {
        let mut split = Split::of(100);
        assert_eq!(split.take("used", 70, Quality::Counter), 70);
        assert_eq!(split.take("quota", 50, Quality::Counter), 30);
        let ledger = split.rest("unknown", Quality::Unknown);
        assert_eq!(sum(&ledger), 100);
        assert_eq!(ledger.entries()[1].quality, Quality::Inferred);
        assert_eq!(ledger.share("used"), Some(0.7));
    }

    #[test]
    fn the_rest_is_shared_exactly() {
        let ledger = Split::of(100).share_rest(
            &[("a".into(), 1), ("b".into(), 1), ("c".into(), 1), ("d".into(), 0)],
            Quality::Sdk,
            ("unknown", Quality::Unknown),
        );
        assert_eq!(sum(&ledger), 100);
        assert_eq!((ledger.ns("a"), ledger.ns("b"), ledger.ns("c")), (34, 33, 33));
        assert!(ledger.entries().iter().all(|entry| entry.label != "d"));
    }

    #[test]
    fn nothing_known_means_unknown_not_zero() {
        let ledger = Split::of(7).share_rest(&[("a".into(), 0)], Quality::Sdk, ("unknown", Quality::Unknown));
        assert_eq!(ledger.ns("unknown"), 7);
    }

    #[test]
    fn adding_ledgers_adds_intervals_and_keeps_the_worse_quality() {
        let mut whole = Split::of(10).rest("used", Quality::Counter);
        whole.add(&Split::of(5).rest("used", Quality::Inferred));
        whole.add(&Split::of(1).rest("idle", Quality::Sdk));
        assert_eq!((whole.interval_ns(), sum(&whole)), (16, 16));
        assert_eq!(whole.entries()[0].quality, Quality::Inferred);
    }
}
