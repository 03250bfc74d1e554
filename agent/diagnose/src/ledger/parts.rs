//! Parts of a ledger in the making, with how far off each may be.

use std::borrow::Cow;

use perfwatch_model::ledger::proportional;
use perfwatch_model::{Ledger, Quality, Split};

use super::UNKNOWN;

/// How far off the entries of a ledger may be where an assumption decided between them: for each label by how many nanoseconds
/// less, and more, another assumption would have made it. What has no bounds is exact as far as its readings are.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Bounds(Vec<(Cow<'static, str>, u64, u64)>);

impl Bounds {
    /// By how much less, and by how much more, an entry could be.
    pub fn of(&self, label: &str) -> (u64, u64) {
        let known = self.0.iter().find(|(known, ..)| known == label);
        known.map_or((0, 0), |(_, less, more)| (*less, *more))
    }

    /// Adds those of another ledger, as ledgers are added.
    pub fn add(&mut self, other: &Self) {
        for (label, less, more) in &other.0 {
            match self.0.iter_mut().find(|(known, ..)| known == label) {
                Some((_, sum_less, sum_more)) => {
                    *sum_less += less;
                    *sum_more += more;
                }
                None => self.0.push((label.clone(), *less, *more)),
            }
        }
    }
}

#[derive(Debug)]
struct Part {
    label: Cow<'static, str>,
    ns: u64,
    quality: Quality,
    less: u64,
    more: u64,
}

/// Parts, each label once, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Parts(Vec<Part>);

impl Parts {
    /// Adds to a label.
    pub(super) fn add(&mut self, label: impl Into<Cow<'static, str>>, ns: u64, quality: Quality) {
        self.add_about(label, ns, quality, (0, 0));
    }

    /// Adds to a label what may be by so much less, and by so much more.
    pub(super) fn add_about(
        &mut self,
        label: impl Into<Cow<'static, str>>,
        ns: u64,
        quality: Quality,
        (less, more): (u64, u64),
    ) {
        let label = label.into();
        if ns == 0 && more == 0 {
            return;
        }
        match self.0.iter_mut().find(|part| part.label == label) {
            Some(part) => {
                // Nothing is not known better or worse than anything.
                part.quality = match (part.ns, ns) {
                    (0, _) => quality,
                    (_, 0) => part.quality,
                    _ => part.quality.worst(quality),
                };
                part.ns += ns;
                part.less += less;
                part.more += more;
            }
            None => self.0.push(Part { label, ns, quality, less, more }),
        }
    }

    pub(super) fn ns(&self, labels: &[&str]) -> u64 {
        self.0.iter().filter(|part| labels.contains(&&*part.label)).map(|part| part.ns).sum()
    }

    /// Makes all parts sum to `whole`, each in proportion.
    pub(super) fn scale_to(&mut self, whole: u64) {
        let now: u64 = self.0.iter().map(|part| part.ns).sum();
        if let Some(scaled) = proportional(whole, self.0.iter().map(|part| part.ns)) {
            for (part, ns) in self.0.iter_mut().zip(scaled) {
                let of_now = |bound: u64| (u128::from(bound) * u128::from(whole) / u128::from(now.max(1))) as u64;
                (part.less, part.more) = (of_now(part.less).min(ns), of_now(part.more));
                part.ns = ns;
            }
        }
    }

    /// Takes `ns` out of these labels, from each in proportion, and gives it to another. What is left of them is then known no
    /// better than `left`. Returns what was taken: no more than there was.
    pub(super) fn carve(
        &mut self,
        label: &'static str,
        ns: u64,
        from: &[&str],
        quality: Quality,
        left: Option<Quality>,
    ) -> u64 {
        let there = self.ns(from);
        let ns = ns.min(there);
        let weights: Vec<u64> =
            self.0.iter().map(|part| if from.contains(&&*part.label) { part.ns } else { 0 }).collect();
        let Some(taken) = proportional(ns, weights.into_iter()).filter(|_| ns > 0) else { return 0 };
        for (part, taken) in self.0.iter_mut().zip(taken) {
            if !from.contains(&&*part.label) {
                continue;
            }
            let of_left = |bound: u64| (u128::from(bound) * u128::from(there - ns) / u128::from(there)) as u64;
            part.ns -= taken.min(part.ns);
            (part.less, part.more) = (of_left(part.less).min(part.ns), of_left(part.more));
            if let Some(left) = left {
                part.quality = part.quality.worst(left);
            }
        }
        self.add(label, ns, quality);
        ns
    }

    /// These labels are known no better than this.
    pub(super) fn at_best(&mut self, labels: &[&str], quality: Quality) {
        for part in self.0.iter_mut().filter(|part| labels.contains(&&*part.label)) {
            part.quality = part.quality.worst(quality);
        }
    }

    /// What a label has at least, and at most.
    pub(super) fn range(&self, label: &str) -> (u64, u64) {
        let part = self.0.iter().find(|part| part.label == label);
        part.map_or((0, 0), |part| (part.ns - part.less, part.ns + part.more))
    }

    /// What a label that is there has is no less and no more than this.
    pub(super) fn set_range(&mut self, label: &str, (least, most): (u64, u64)) {
        for part in self.0.iter_mut().filter(|part| part.label == label) {
            (part.less, part.more) = (part.ns.saturating_sub(least), most.saturating_sub(part.ns));
        }
    }

    /// The ledger of these parts; what they leave of the whole is unknown.
    pub(super) fn ledger(self, whole: u64) -> (Ledger, Bounds) {
        let mut split = Split::of(whole);
        let mut bounds = Vec::new();
        for part in self.0 {
            if part.less > 0 || part.more > 0 {
                bounds.push((part.label.clone(), part.less, part.more));
            }
            split.take(part.label, part.ns, part.quality);
        }
        (split.rest(UNKNOWN, Quality::Unknown), Bounds(bounds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_scale_and_are_carved_exactly() {
        let mut parts = Parts::default();
        parts.add("a", 50, Quality::Counter);
        parts.add_about("b", 25, Quality::Counter, (10, 20));
        parts.add("c", 25, Quality::Sdk);
        parts.scale_to(1_000);
        assert_eq!((parts.ns(&["a"]), parts.ns(&["b"])), (500, 250));
        assert_eq!(parts.carve("taken", 300, &["a", "b"], Quality::Modelled, Some(Quality::Inferred)), 300);
        let (ledger, bounds) = parts.ledger(1_100);
        let of =
            |label| (ledger.ns(label), ledger.entries().iter().find(|entry| entry.label == label).map(|e| e.quality));
        assert_eq!(of("a"), (300, Some(Quality::Inferred)));
        assert_eq!(of("b"), (150, Some(Quality::Inferred)));
        assert_eq!(of("c"), (250, Some(Quality::Sdk)));
        assert_eq!((of("taken").0, of(UNKNOWN).0), (300, 100));
        assert_eq!((bounds.of("b"), bounds.of("a")), ((60, 120), (0, 0)));
    }

    #[test]
    fn no_more_is_carved_than_there_is() {
        let mut parts = Parts::default();
        parts.add("a", 5, Quality::Counter);
        assert_eq!(parts.carve("taken", 9, &["a"], Quality::Modelled, None), 5);
        assert_eq!(parts.carve("taken", 9, &["nothing"], Quality::Modelled, None), 0);
        let (ledger, _) = parts.ledger(5);
        assert_eq!((ledger.ns("a"), ledger.ns("taken")), (0, 5));
    }
}
