//! A known sequence of requests: what a thread records is decided by its seed and the number of the step.

use std::collections::{BTreeMap, BTreeSet};

use hdrhistogram::Histogram;
use perfwatch_model::Unit;
use perfwatch_model::histogram::layout;
use perfwatch_sdk::{Server, Stage};
use serde_json::Value;

/// The server's own distribution.
const TOKENS: &str = "llm.tokens";

/// How far a thread got: its seed, and how many steps it took.
pub(super) type Progress = (u64, u64);

/// The handle that [`record`] needs.
pub(super) fn tokens(server: &Server) -> perfwatch_sdk::Histogram {
    server.histogram(TOKENS, Unit::Count("{token}"))
}

/// One step of a sequence.
struct Step {
    batch: u32,
    tokens: u64,
    prompt: u64,
    generated: u64,
    outcome: u64,
}

impl Step {
    fn of(seed: u64, number: u64) -> Self {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number;
        let mut next = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            mixed ^ (mixed >> 31)
        };
        Self {
            batch: (next() % 7 + 1) as u32,
            // Every octave from 0 to beyond the largest value that is told apart.
            tokens: next() >> (21 + next() % 43),
            prompt: next() % 4_000,
            generated: next() % 900,
            outcome: next() % 10,
        }
    }
}

/// Records a step: a request with everything that a flush can carry exactly.
pub(super) fn record(server: &Server, tokens: &perfwatch_sdk::Histogram, (seed, number): Progress) {
    let step = Step::of(seed, number);
    let mut request = server.request();
    request.enter(Stage::Queue);
    request.prompt_tokens(step.prompt);
    server.dispatch(step.batch, step.batch);
    tokens.record(step.tokens);
    request.enter(Stage::Compute);
    request.generated_tokens(step.generated);
    match step.outcome {
        0 => request.fail(),
        1 => request.fail_with("timeout"),
        2 => request.cancel(),
        3 => drop(request),
        4 => {
            server.cache_hit();
            request.finish();
        }
        5 => {
            server.cache_miss();
            request.finish();
        }
        _ => request.finish(),
    }
}

/// Count, sum, and (top of bucket, count) of a series; a counter has only the count.
pub(super) type Amount = (u128, u128, Vec<(u64, u64)>);
/// Everything that a server recorded and that does not depend on time, by metric and attribute.
pub(super) type Totals = BTreeMap<String, Amount>;

/// A distribution as the `hdrhistogram` crate sees it.
struct Reference {
    buckets: Histogram<u64>,
    sum: u128,
}

impl Reference {
    fn new() -> Self {
        let buckets = Histogram::new_with_bounds(1, layout::MAX, 2).expect("valid bounds");
        Self { buckets, sum: 0 }
    }

    fn record(&mut self, value: u64) {
        // As documented: what is larger is counted as this, and the sum stays exact.
        self.buckets.record(value.min(layout::MAX)).expect("within bounds");
        self.sum += u128::from(value);
    }

    fn amount(&self) -> Amount {
        let buckets = self.buckets.iter_recorded();
        let buckets = buckets.map(|bucket| (bucket.value_iterated_to(), bucket.count_since_last_iteration())).collect();
        (self.buckets.len().into(), self.sum, buckets)
    }
}

/// What all these threads recorded, computed anew from the sequences.
pub(super) fn expected(recorded: &[Progress]) -> Totals {
    let (mut batches, mut values) = (Reference::new(), Reference::new());
    let mut counts = BTreeMap::<&str, u128>::new();
    for (seed, steps) in recorded {
        for number in 0..*steps {
            let step = Step::of(*seed, number);
            batches.record(step.batch.into());
            values.record(step.tokens);
            let mut count = |name, by: u64| *counts.entry(name).or_default() += u128::from(by);
            count("perfwatch.server.requests.started", 1);
            count("perfwatch.server.batch.dispatches", 1);
            count("perfwatch.server.batch.dispatches_ready2", u64::from(step.batch >= 2));
            count("perfwatch.server.tokens input", step.prompt);
            count("perfwatch.server.tokens output", step.generated);
            match step.outcome {
                0 | 1 => {
                    count("perfwatch.server.requests failed", 1);
                    count(
                        ["perfwatch.server.errors other", "perfwatch.server.errors timeout"][step.outcome as usize],
                        1,
                    );
                }
                2 => count("perfwatch.server.requests cancelled", 1),
                3 => count("perfwatch.server.requests abandoned", 1),
                other => {
                    count("perfwatch.server.requests completed", 1);
                    match other {
                        4 => count("perfwatch.server.cache.lookups hit", 1),
                        5 => count("perfwatch.server.cache.lookups miss", 1),
                        _ => {}
                    }
                }
            }
        }
    }
    let mut totals: Totals =
        counts.into_iter().map(|(name, count)| (name.to_owned(), (count, 0, Vec::new()))).collect();
    totals.insert("perfwatch.server.batch.size".into(), batches.amount());
    totals.insert(TOKENS.into(), values.amount());
    totals.retain(|_, amount| amount.0 > 0);
    totals
}

/// The same out of `/v1/query?buckets=true`.
pub(super) fn told(answer: &Value) -> Totals {
    let series = answer["series"].as_array().expect("a list").iter().filter_map(|series| {
        let metric = series["metric"].as_str().expect("a name");
        let exact = |key: &str| series[key].as_str().map_or(0, |digits| digits.parse().expect("digits"));
        let attribute = match metric {
            "perfwatch.server.requests" | "perfwatch.server.cache.lookups" => "perfwatch.outcome",
            "perfwatch.server.errors" => "error.type",
            "perfwatch.server.tokens" => "gen_ai.token.type",
            "perfwatch.server.requests.started"
            | "perfwatch.server.batch.dispatches"
            | "perfwatch.server.batch.dispatches_ready2"
            | "perfwatch.server.batch.size"
            | TOKENS => "",
            // What remains is time: real, and so not known beforehand.
            _ => return None,
        };
        let value = series["attributes"][attribute].as_str().unwrap_or_default();
        let amount = if series["count"].is_u64() {
            let buckets = series["buckets"].as_array().expect("buckets were asked for").iter();
            let number = |value: &Value| value.as_u64().expect("a number");
            let buckets = buckets.map(|bucket| (number(&bucket[1]), number(&bucket[2]))).collect();
            (number(&series["count"]).into(), exact("sum_exact"), buckets)
        } else {
            (exact("total_exact"), 0, Vec::new())
        };
        (amount.0 > 0).then(|| (format!("{metric} {value}").trim_end().to_owned(), amount))
    });
    series.collect()
}

/// What differs, in few words; empty when nothing does.
pub(super) fn differences(expected: &Totals, told: &Totals) -> Vec<String> {
    let nothing = Amount::default();
    let names: BTreeSet<_> = expected.keys().chain(told.keys()).collect();
    let differing = names.into_iter().filter_map(|name| {
        let (wanted, got) = (expected.get(name).unwrap_or(&nothing), told.get(name).unwrap_or(&nothing));
        let buckets = |of: &Amount| of.2.iter().copied().collect::<BTreeSet<_>>();
        let apart: Vec<_> = buckets(wanted).symmetric_difference(&buckets(got)).copied().take(6).collect();
        (wanted != got).then(|| {
            format!(
                "{name}: count {} instead of {}, sum {} instead of {}, buckets {apart:?}",
                got.0, wanted.0, got.1, wanted.1
            )
        })
    });
    differing.collect()
}

#[test]
fn the_reference_notices_one_request_more_or_less() {
    let steps: Vec<_> = [99, 100, 101].map(|steps| expected(&[(7, steps), (8, 50)])).into();
    assert!(differences(&steps[1], &steps[1]).is_empty());
    assert!(differences(&steps[1], &steps[0]).len() > 4 && differences(&steps[1], &steps[2]).len() > 4);
    assert_eq!(steps[1][TOKENS].0, 150);
    assert_eq!(steps[1].keys().filter(|name| name.starts_with("perfwatch.server.requests ")).count(), 4);
}
