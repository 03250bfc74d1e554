//! Tokens, look-ups and errors over a window.

use perfwatch_model::SparseHdr;

use super::{Record, covers, merged, seconds};
use crate::facts::ToldCounts;

/// What a server tells of its requests besides how many there are and how long they take. Rates are per second; they are
/// unknown when too little of the window was reported.
#[derive(Clone, Debug)]
pub struct ToldWindow {
    /// Tokens read and generated; `None` when unknown, or the server never told of any.
    pub tokens: Option<[f64; 2]>,
    /// Look-ups in caches that hit and that missed; `None` when unknown, or the server never told of any.
    pub lookups: Option<[f64; 2]>,
    /// Requests that failed, by kind of error, most frequent first.
    pub errors: Vec<(String, f64)>,
    /// From the arrival of requests to their first token, in nanoseconds.
    pub first_token: SparseHdr,
    /// Between two steps of streams that brought tokens, in nanoseconds.
    pub inter_token: SparseHdr,
}

impl ToldWindow {
    pub(super) fn of(records: &[&Record], span_ns: u64) -> Self {
        let told = || records.iter().map(|record| &record.facts.told);
        let known: Vec<(u64, &ToldCounts)> =
            records.iter().filter_map(|record| Some((record.facts.dt_ns, record.facts.told.counts.value()?))).collect();
        let known_ns = known.iter().map(|(dt_ns, _)| dt_ns).sum();
        let covered = covers(known_ns, span_ns);
        let per_s = |count: u64| count as f64 / seconds(known_ns);
        // Before a total's first tick there was nothing to count.
        let pair = |pick: fn(&ToldCounts) -> Option<[u64; 2]>| {
            let sum = known
                .iter()
                .filter_map(|(_, counts)| pick(counts))
                .reduce(|[a, b], [c, d]| [a.saturating_add(c), b.saturating_add(d)]);
            sum.filter(|_| covered).map(|pair| pair.map(per_s))
        };
        let mut errors: Vec<(&str, u64)> = Vec::new();
        for (kind, count) in known.iter().flat_map(|(_, counts)| &counts.errors).filter(|_| covered) {
            match errors.iter_mut().find(|(known, _)| *known == kind.as_str()) {
                Some((_, sum)) => *sum = sum.saturating_add(*count),
                None => errors.push((kind, *count)),
            }
        }
        errors.sort_by(|(kind_a, a), (kind_b, b)| b.cmp(a).then(kind_a.cmp(kind_b)));
        Self {
            tokens: pair(|counts| counts.tokens),
            lookups: pair(|counts| counts.lookups),
            errors: errors.into_iter().map(|(kind, count)| (kind.to_owned(), per_s(count))).collect(),
            first_token: merged(told().map(|told| &told.first_token)),
            inter_token: merged(told().map(|told| &told.inter_token)),
        }
    }
}
