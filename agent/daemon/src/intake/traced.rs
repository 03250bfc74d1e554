//! What a server's traced requests add up to: distributions for the tick, counts and the request ledger for the window.

use std::collections::{BTreeMap, VecDeque};

use perfwatch_model::snapshot::{LedgerView, StageEntry};
use perfwatch_model::{Quality, SparseHdr, Stage};

use super::sampling::Sampling;
use super::spans::Saying;

/// Ledgers and rates cover as much as everywhere in a snapshot.
const WINDOW_NS: u64 = 10_000_000_000;

/// What one tick brought.
#[derive(Clone, Debug, Default)]
struct Part {
    dt_ns: u64,
    requests: u64,
    request_ns: u64,
    stage_ns: BTreeMap<Stage, u64>,
    completed: f64,
    failed: f64,
    /// Requests of which is not known how many they stand for.
    unknown: u64,
    /// Requests that stand for more than themselves.
    sampled: u64,
}

/// Requests per second, ended well and in an error; `None` while how many are traced is not known.
pub(super) type Rates = Option<(f64, f64)>;

/// Traced requests of one server.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each was seen or not, whatever the others")]
pub(super) struct Traced {
    pub(super) durations: SparseHdr,
    pub(super) stages: BTreeMap<Stage, SparseHdr>,
    pub(super) first_tokens: SparseHdr,
    now: Part,
    window: VecDeque<Part>,
    /// Totals since the first span, scaled to all requests; they stop for good when one comes whose share is not known.
    totals: [f64; 2],
    /// Of the totals, what stands in ticks, and what stood there when the server's entity began.
    told: [f64; 2],
    base: [f64; 2],
    unknown_ever: bool,
    /// Stages came apart from what is above them, so that some time may be in two. That lasts: what is above may come much
    /// later than they.
    torn_ever: bool,
    pub(super) any: bool,
    /// The model server tells its requests itself: those of an HTTP server around it would be the same ones again.
    is_native: bool,
}

impl Traced {
    pub(super) fn add(&mut self, saying: Saying) {
        match saying {
            Saying::Request { native: false, .. } if self.is_native => {}
            Saying::Request { ns, failed, sampling, native } => {
                self.is_native |= native;
                self.any = true;
                self.durations.record(ns);
                self.now.requests += 1;
                self.now.request_ns = self.now.request_ns.saturating_add(ns);
                match sampling {
                    Sampling::Unknown => {
                        self.now.unknown += 1;
                        self.unknown_ever = true;
                    }
                    Sampling::Share(share) => {
                        let stands_for = 1.0 / share;
                        self.now.sampled += u64::from(share < 1.0);
                        *(if failed { &mut self.now.failed } else { &mut self.now.completed }) += stands_for;
                        self.totals[usize::from(failed)] += stands_for;
                    }
                }
            }
            Saying::Stage { stage, ns } => {
                self.stages.entry(stage).or_default().record(ns);
                let sum = self.now.stage_ns.entry(stage).or_default();
                *sum = sum.saturating_add(ns);
            }
            Saying::Torn => self.torn_ever = true,
            Saying::FirstToken { ns } => self.first_tokens.record(ns),
        }
    }

    /// Ends a tick of this length.
    pub(super) fn close(&mut self, dt_ns: u64) {
        self.window.push_back(Part { dt_ns, ..std::mem::take(&mut self.now) });
        while self.window.iter().skip(1).map(|part| part.dt_ns).sum::<u64>() >= WINDOW_NS {
            self.window.pop_front();
        }
    }

    /// Requests that ended since the server's entity began, well and in an error, for a tick; `None` once their number cannot
    /// be known.
    pub(super) fn tell(&mut self) -> Option<[u64; 2]> {
        self.told = self.totals;
        let since = |at: usize| (self.totals[at] - self.base[at]).round() as u64;
        (self.any && !self.unknown_ever).then(|| [since(0), since(1)])
    }

    /// The server's entity ended and begins anew: its totals begin at 0, with what no tick has held yet.
    pub(super) fn begin_anew(&mut self) {
        self.base = self.told;
    }

    /// True when requests came of which is not known how many they stand for.
    pub(super) fn is_share_unknown(&self) -> bool {
        self.unknown_ever
    }

    pub(super) fn rates(&self) -> Rates {
        if !self.any || self.window.iter().any(|part| part.unknown > 0) || self.unknown_ever {
            return None;
        }
        let seconds = self.window.iter().map(|part| part.dt_ns).sum::<u64>() as f64 / 1e9;
        let sum = |of: fn(&Part) -> f64| self.window.iter().map(of).sum::<f64>() / seconds;
        (seconds > 0.0).then(|| (sum(|part| part.completed), sum(|part| part.failed)))
    }

    /// Where the time of the requests that ended in the window went. Sums exactly: what no stage names is `other`, and where
    /// stages overlap in a request, they are the interval.
    pub(super) fn ledger(&self) -> Option<LedgerView<StageEntry>> {
        let mut stages: BTreeMap<Stage, u64> = BTreeMap::new();
        for (stage, ns) in self.window.iter().flat_map(|part| &part.stage_ns) {
            let sum = stages.entry(*stage).or_default();
            *sum = sum.saturating_add(*ns);
        }
        let requests_ns = sum_of(self.window.iter().map(|part| part.request_ns));
        let named = sum_of(stages.values().copied());
        let other = stages.entry(Stage::Other).or_default();
        *other = other.saturating_add(requests_ns.saturating_sub(named));
        let exact = self.window.iter().all(|part| part.unknown == 0 && part.sampled == 0);
        let quality =
            if exact && !self.torn_ever && named <= requests_ns { Quality::Scraped } else { Quality::Inferred };
        let entries: Vec<_> = stages
            .into_iter()
            .filter(|(_, ns)| *ns > 0)
            .map(|(stage, ns)| StageEntry { stage: stage.to_string(), ns, quality })
            .collect();
        let interval_ns = sum_of(entries.iter().map(|entry| entry.ns));
        (self.window.iter().any(|part| part.requests > 0)).then_some(LedgerView { interval_ns, entries })
    }
}

/// Spans may claim to have lasted for centuries: the sum stays at the largest number.
fn sum_of(ns: impl Iterator<Item = u64>) -> u64 {
    ns.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn request(sampling: Sampling) -> Saying {
        Saying::Request { ns: 100, failed: false, sampling, native: false }
    }

    fn qualities(traced: &Traced) -> Vec<(String, u64, Quality)> {
        let ledger = traced.ledger().expect("there were requests");
        assert_eq!(ledger.entries.iter().map(|entry| entry.ns).sum::<u64>(), ledger.interval_ns);
        ledger.entries.into_iter().map(|entry| (entry.stage, entry.ns, entry.quality)).collect()
    }

    #[test]
    fn stages_are_exact_only_when_every_request_is_traced() {
        for (sampling, quality) in [
            (Sampling::Share(1.0), Quality::Scraped),
            (Sampling::Share(0.5), Quality::Inferred),
            (Sampling::Unknown, Quality::Inferred),
        ] {
            let mut traced = Traced::default();
            traced.add(request(sampling));
            traced.add(Saying::Stage { stage: Stage::Queue, ns: 30 });
            traced.close(SECOND);
            let wanted = [("queue".to_owned(), 30, quality), ("other".to_owned(), 70, quality)];
            assert_eq!(qualities(&traced), wanted, "{sampling:?}");
        }
    }

    #[test]
    fn stages_that_may_be_counted_twice_are_inferred() {
        let mut traced = Traced::default();
        traced.add(request(Sampling::Share(1.0)));
        traced.add(Saying::Stage { stage: Stage::Queue, ns: 30 });
        traced.add(Saying::Torn);
        traced.close(SECOND);
        let inferred = Quality::Inferred;
        assert_eq!(qualities(&traced), [("queue".to_owned(), 30, inferred), ("other".to_owned(), 70, inferred)]);
        (0..20).for_each(|_| traced.close(SECOND));
        traced.add(request(Sampling::Share(1.0)));
        traced.close(SECOND);
        assert_eq!(qualities(&traced), [("other".to_owned(), 100, inferred)], "what is above may come much later");
    }

    #[test]
    fn spans_that_last_for_centuries_do_not_overflow() {
        let mut traced = Traced::default();
        for _ in 0..3 {
            let sampling = Sampling::Share(1.0);
            traced.add(Saying::Request { ns: u64::MAX, failed: false, sampling, native: false });
            traced.add(Saying::Stage { stage: Stage::Queue, ns: u64::MAX });
            traced.add(Saying::Stage { stage: Stage::Compute, ns: u64::MAX });
            traced.close(SECOND);
        }
        assert_eq!(traced.ledger().expect("there were requests").interval_ns, u64::MAX);
    }

    #[test]
    fn sampled_requests_are_counted_for_those_they_stand_for() {
        let mut traced = Traced::default();
        (0..5).for_each(|_| traced.add(request(Sampling::Share(0.25))));
        traced.close(2 * SECOND);
        assert_eq!((traced.rates(), traced.tell()), (Some((10.0, 0.0)), Some([20, 0])));
        traced.add(request(Sampling::Unknown));
        traced.close(SECOND);
        assert_eq!((traced.rates(), traced.tell()), (None, None), "what is not known is not guessed");
    }

    #[test]
    fn an_entity_that_begins_anew_counts_what_no_tick_has_held() {
        let mut traced = Traced::default();
        traced.add(request(Sampling::Share(1.0)));
        traced.begin_anew();
        assert_eq!(traced.tell(), Some([1, 0]), "nothing of it was told");
        traced.add(request(Sampling::Share(1.0)));
        traced.begin_anew();
        assert_eq!(traced.tell(), Some([1, 0]), "one was told, the other not");
        traced.add(request(Sampling::Share(1.0)));
        assert_eq!(traced.tell(), Some([2, 0]));
    }

    #[test]
    fn a_request_that_the_model_server_and_its_http_server_trace_is_one() {
        let mut traced = Traced::default();
        for _ in 0..3 {
            traced.add(Saying::Request { ns: 90, failed: false, sampling: Sampling::Share(1.0), native: true });
            traced.add(request(Sampling::Share(1.0)));
        }
        traced.close(SECOND);
        assert_eq!((traced.tell(), traced.durations.count()), (Some([3, 0]), 3));
    }

    #[test]
    fn stages_that_overlap_widen_the_interval_and_are_inferred() {
        let mut traced = Traced::default();
        traced.add(request(Sampling::Share(1.0)));
        traced.add(Saying::Stage { stage: Stage::Compute, ns: 150 });
        traced.close(SECOND);
        assert_eq!(qualities(&traced), [("compute".to_owned(), 150, Quality::Inferred)]);
        (0..10).for_each(|_| traced.close(SECOND));
        assert_eq!(traced.ledger(), None, "the window moves on");
    }
}
