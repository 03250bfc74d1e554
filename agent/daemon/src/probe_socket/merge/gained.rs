//! What a distribution gained since it was last taken.
//!
//! A server with one process brings one sparse histogram a second, which is kept as it is. Where many workers bring one
//! each, they are added in pages of counts, one per octave that was met: a step per bucket of each, and none for those that
//! are there already.

use perfwatch_model::SparseHdr;
use perfwatch_model::histogram::layout::{PAGE, PAGES};

type Page = Box<[u64; PAGE]>;

/// Sums of one distribution.
#[derive(Debug, Default)]
pub(super) struct Gained {
    /// All there is, until a second histogram comes.
    only: SparseHdr,
    /// Counts by octave, kept from one tick to the next.
    pages: Vec<Option<Page>>,
    spread: bool,
    sum: u128,
}

impl Gained {
    pub(super) fn add(&mut self, other: SparseHdr) {
        if !self.spread {
            if self.only.is_empty() && self.only.sum() == 0 {
                self.only = other;
                return;
            }
            self.spread = true;
            let only = std::mem::take(&mut self.only);
            self.spread_out(&only);
        }
        self.spread_out(&other);
    }

    fn spread_out(&mut self, other: &SparseHdr) {
        self.sum = self.sum.saturating_add(other.sum());
        self.pages.resize_with(PAGES, || None);
        for &(bucket, count) in other.buckets() {
            let bucket = usize::from(bucket);
            let page = self.pages[bucket / PAGE].get_or_insert_with(|| Box::new([0; PAGE]));
            let sum = &mut page[bucket % PAGE];
            *sum = sum.saturating_add(count);
        }
    }

    /// Everything since the last call; `None` when nothing came.
    ///
    /// A sum may come without counts: those of its values came with the flush before.
    pub(super) fn take(&mut self) -> Option<SparseHdr> {
        let all = if self.spread {
            self.spread = false;
            let mut buckets = Vec::new();
            for (octave, page) in self.pages.iter_mut().enumerate() {
                for (at, count) in page.iter_mut().flat_map(|page| page.iter_mut()).enumerate() {
                    if *count > 0 {
                        buckets.push(((octave * PAGE + at) as u16, std::mem::take(count)));
                    }
                }
            }
            SparseHdr::from_buckets(buckets, std::mem::take(&mut self.sum)).expect("pages are in order and in range")
        } else {
            std::mem::take(&mut self.only)
        };
        (!all.is_empty() || all.sum() > 0).then_some(all)
    }
}

#[cfg(test)]
mod tests {
    use perfwatch_model::histogram::layout;

    use super::*;

    fn of(values: &[u64]) -> SparseHdr {
        let mut all = SparseHdr::new();
        for value in values {
            all.record(*value);
        }
        all
    }

    #[test]
    fn many_histograms_make_the_one_that_holds_all_their_values_each_time_anew() {
        let mut gained = Gained::default();
        for round in 1..4_u64 {
            let parts: Vec<Vec<u64>> =
                (0..round * 3).map(|part| vec![part * 7, 300 << part, layout::MAX, 12_345 * round]).collect();
            for part in &parts {
                gained.add(of(part));
            }
            assert_eq!(gained.take(), Some(of(&parts.concat())), "round {round}");
            assert_eq!(gained.take(), None);
        }
    }

    #[test]
    fn one_histogram_comes_out_as_it_went_in() {
        let mut gained = Gained::default();
        gained.add(of(&[1, 2, 3_000_000]));
        assert_eq!(gained.take(), Some(of(&[1, 2, 3_000_000])));
        assert_eq!(gained.take(), None);
    }

    #[test]
    fn a_sum_without_counts_is_not_lost() {
        let only_a_sum = || SparseHdr::from_buckets(Vec::new(), 9).expect("valid");
        let mut gained = Gained::default();
        gained.add(only_a_sum());
        assert_eq!(gained.take().map(|all| all.sum()), Some(9));
        gained.add(of(&[5]));
        gained.add(only_a_sum());
        assert_eq!(gained.take().map(|all| (all.count(), all.sum())), Some((1, 14)));
    }

    #[test]
    fn counts_stay_at_their_largest() {
        let most = || SparseHdr::from_buckets(vec![(7, u64::MAX)], 0).expect("valid");
        let mut gained = Gained::default();
        gained.add(most());
        gained.add(most());
        assert_eq!(gained.take().map(|all| all.buckets().to_vec()), Some(vec![(7, u64::MAX)]));
    }
}
