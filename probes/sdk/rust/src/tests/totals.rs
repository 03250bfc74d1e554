//! Nothing recorded is lost or counted twice, whichever threads record it.

use perfwatch_model::histogram::layout;
use perfwatch_model::{Stage, Unit};
use perfwatch_wire::message::{Flush, Histogram};
use perfwatch_wire::sparse;

use super::Rig;
use crate::collect::End;

fn flush(rig: &Rig, collector: &mut crate::collect::Collector, seq: u64) -> Flush {
    assert!(collector.collect(End::Second), "nobody writes now");
    let flush = collector.make(seq, 256).expect("time has passed");
    assert_eq!(perfwatch_wire::validate::flush(&flush), Ok(()));
    assert_eq!(flush.end_ns % 1_000_000_000, 0);
    assert!(flush.end_ns <= rig.core.clock.now());
    flush
}

fn find<'a>(flush: &'a Flush, name: &str) -> &'a Histogram {
    flush.histograms.iter().find(|histogram| histogram.name == name).expect("it was recorded")
}

/// A stream of values over all octaves, different for each thread.
fn values(thread: u64, count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(move |at| {
        let mixed = (at + 1).wrapping_mul(thread * 2 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (mixed >> 20) >> (mixed % 44)
    })
}

#[test]
fn buckets_and_sums_equal_hdrhistogram_over_many_threads() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let handle = rig.server.histogram("own", Unit::Count("{token}"));
    let mut reference = hdrhistogram::Histogram::<u64>::new_with_bounds(1, layout::MAX, 2).expect("valid bounds");
    let mut sum = 0u64;
    for round in 0..3 {
        // Each round's threads take over the shards of the round before.
        std::thread::scope(|scope| {
            for thread in 0..6 {
                scope.spawn(move || values(round * 6 + thread, 20_000).for_each(|value| handle.record(value)));
            }
        });
        for value in (0..6).flat_map(|thread| values(round * 6 + thread, 20_000)) {
            reference.record(value.min(layout::MAX)).expect("in range");
            sum = sum.wrapping_add(value);
        }
    }
    rig.at(1_000);
    let flush = flush(&rig, &mut collector, 1);
    let histogram = find(&flush, "own");
    assert_eq!((histogram.unit.as_str(), histogram.sum), ("{token}", sum));
    let wanted: Vec<(u64, u64)> =
        reference.iter_recorded().map(|bucket| (bucket.value_iterated_to(), bucket.count_at_value())).collect();
    let got: Vec<(u64, u64)> =
        sparse::pairs(histogram).map(|(index, count)| (layout::highest(index as usize), count)).collect();
    assert!(got == wanted, "some of {} buckets differ", wanted.len());
}

#[test]
fn flushes_are_differences_and_add_up_while_threads_record() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let handle = rig.server.histogram("own", Unit::Seconds);
    let (mut count, mut sum, mut started, mut ended) = (0, 0u64, 0, 0);
    let mut add = |flush: &Flush| {
        started += flush.requests_started;
        ended += flush.requests_completed + flush.requests_failed + flush.requests_abandoned;
        for histogram in flush.histograms.iter().filter(|histogram| histogram.name == "own") {
            assert_eq!(perfwatch_wire::sparse::check(histogram), Ok(()));
            count += histogram.counts.iter().sum::<u64>();
            sum = sum.wrapping_add(histogram.sum);
        }
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..4)
            .map(|_| {
                let server = rig.server.clone();
                scope.spawn(move || {
                    for at in 0..30_000 {
                        handle.record(at);
                        let mut request = server.request();
                        request.enter(Stage::Compute);
                        match at % 3 {
                            0 => request.finish(),
                            1 => request.fail(),
                            _ => drop(request),
                        }
                    }
                })
            })
            .collect();
        let mut second = 1;
        while workers.iter().any(|worker| !worker.is_finished()) {
            rig.at(second * 1_000);
            if collector.collect(End::Second)
                && let Some(flush) = collector.make(second, 256)
            {
                add(&flush);
            }
            second += 1;
        }
        rig.at(second * 1_000 + 1);
    });
    assert!(collector.collect(End::Now));
    add(&collector.make(1, 256).expect("time has passed"));
    assert_eq!(count, 120_000);
    assert_eq!(sum, 4 * (0..30_000).sum::<u64>());
    assert_eq!((started, ended), (120_000, 120_000));
}

#[test]
fn each_end_of_a_request_is_counted_apart() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    rig.server.request().finish();
    rig.server.request().finish();
    rig.server.request().fail();
    drop(rig.server.request());
    let open = rig.server.request();
    rig.server.dispatch(1, 1);
    rig.server.dispatch(4, 2);
    rig.at(1_000);
    let first = flush(&rig, &mut collector, 1);
    assert_eq!((first.requests_started, first.requests_completed), (5, 2));
    assert_eq!((first.requests_failed, first.requests_abandoned), (1, 1));
    assert_eq!((first.dispatches, first.dispatches_ready2), (2, 1));
    assert_eq!(sparse::pairs(find(&first, "batch.size")).collect::<Vec<_>>(), [(1, 1), (4, 1)]);
    assert_eq!(find(&first, "request.duration").counts.iter().sum::<u64>(), 3, "an abandoned one has no duration");
    assert_eq!(first.in_flight.iter().map(|entry| (entry.stage, entry.count)).collect::<Vec<_>>(), [(10, 1)]);
    open.finish();
    rig.at(2_000);
    let second = flush(&rig, &mut collector, 2);
    assert_eq!((second.requests_started, second.requests_completed), (0, 1));
    assert_eq!(second.in_flight, []);
}

#[test]
fn durations_split_into_stages_exactly() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let detokenise = rig.server.stage("detokenise");
    let mut request = rig.server.request();
    rig.at(3);
    request.enter(Stage::Queue);
    rig.at(10);
    request.enter(detokenise);
    rig.at(30);
    request.enter(Stage::Queue);
    rig.at(31);
    request.finish();
    rig.at(1_000);
    let flush = flush(&rig, &mut collector, 1);
    assert_eq!(find(&flush, "request.duration").sum, 31_000_000);
    let mut stages: Vec<_> = flush
        .histograms
        .iter()
        .filter_map(|histogram| Some((histogram.stage?, histogram.sum, histogram.counts.clone())))
        .collect();
    stages.sort();
    assert_eq!(stages, [(0, 8_000_000, vec![1]), (10, 3_000_000, vec![1]), (11, 20_000_000, vec![1])]);
    assert_eq!(flush.stages[0].name, "detokenise");
}

#[test]
fn a_sixth_stage_of_its_own_becomes_other() {
    let rig = Rig::new("/nonexistent");
    let stages: Vec<Stage> = (0..6).map(|number| rig.server.stage(&format!("own{number}"))).collect();
    assert_eq!(stages[4].index(), 15);
    assert_eq!(stages[5], Stage::Other);
    assert_eq!(rig.server.stage("own0"), stages[0]);
    assert_eq!(rig.server.stage("decode"), Stage::Decode);
}

#[test]
fn more_series_than_the_agent_takes_are_left_out_and_counted() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    for number in 0..5 {
        rig.server.histogram(&format!("own{number}"), Unit::Ratio).record(1);
    }
    rig.at(1_000);
    assert!(collector.collect(End::Second));
    let flush = collector.make(1, 3).expect("time has passed");
    assert_eq!((flush.histograms.len(), flush.series_dropped), (3, 2));
}

#[test]
fn names_without_end_fill_no_memory_and_are_counted() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    for number in 0..300 {
        rig.server.histogram(&format!("user {number}"), Unit::Ratio).record(1);
    }
    rig.server.histogram("user 7", Unit::Ratio).record(1); // Known: still there.
    rig.at(1_000);
    let first = flush(&rig, &mut collector, 1);
    assert_eq!(find(&first, "user 7").counts, [2]);
    let own = first.histograms.iter().filter(|histogram| histogram.name.starts_with("user")).count();
    assert_eq!((own, first.series_dropped), (236, 64));
    rig.at(2_000);
    assert_eq!(flush(&rig, &mut collector, 2).series_dropped, 0, "a difference");
}

#[test]
fn what_does_not_fit_into_a_flush_comes_with_the_next() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    // Every bucket of every distribution: more than twice what a message may take.
    let buckets = layout::BUCKETS as u64;
    let handles: Vec<_> = (0..236).map(|at| rig.server.histogram(&format!("own {at}"), Unit::Seconds)).collect();
    for handle in &handles {
        (0..buckets).for_each(|bucket| handle.record(layout::highest(bucket as usize)));
    }
    let (mut count, mut flushes) = (0, 0);
    loop {
        flushes += 1;
        rig.at(flushes * 1_000);
        // The first ones go on, and must not keep the last ones out for ever.
        handles[..80].iter().for_each(|handle| (0..buckets).for_each(|at| handle.record(layout::highest(at as usize))));
        let flush = flush(&rig, &mut collector, flushes);
        assert!(perfwatch_wire::encode(&perfwatch_wire::ClientMessage::from(flush.clone())).len() <= 1 << 20);
        count += flush.histograms.iter().flat_map(|histogram| &histogram.counts).sum::<u64>();
        assert_eq!(flush.series_dropped, 0);
        if !collector.is_late() {
            break;
        }
        assert!(flushes < 9, "they starve");
    }
    assert_eq!(count, (236 + 80 * flushes) * buckets, "each value once");
    assert!(flushes > 2);
}

#[test]
fn a_name_that_the_protocol_does_not_allow_costs_nothing_else() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    rig.server.histogram("", Unit::Count("{token}")).record(1);
    rig.server.histogram(&"é".repeat(100), Unit::Count("")).record(1);
    let mut request = rig.server.request();
    request.enter(rig.server.stage(""));
    rig.server.stage(&"x".repeat(300));
    request.fail_with("");
    rig.at(1_000);
    let flush = flush(&rig, &mut collector, 1); // Checks that the agent would take it.
    assert_eq!((flush.requests_failed, flush.series_dropped, flush.stages.len()), (1, 1, 1));
}

#[test]
fn a_stream_has_a_first_token_gaps_and_counts() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut request = rig.server.request();
    request.prompt_tokens(100);
    request.prompt_tokens(120); // Says more, not again.
    rig.at(30);
    request.first_token();
    request.first_token();
    rig.at(40);
    request.token();
    rig.at(60);
    request.tokens(4);
    request.tokens(0);
    request.generated_tokens(10);
    request.generated_tokens(7);
    rig.at(999);
    rig.server.cache_hit();
    rig.server.cache_miss();
    rig.server.cache_hit();
    rig.at(1_000);
    let first = flush(&rig, &mut collector, 1);
    assert_eq!(find(&first, "time_to_first_token").sum, 30 * super::MS);
    let gaps = find(&first, "inter_token");
    assert_eq!((gaps.sum, gaps.counts.iter().sum::<u64>()), (30 * super::MS, 2), "10 ms and 20 ms");
    assert_eq!((first.prompt_tokens, first.generated_tokens), (120, 10));
    assert_eq!((first.cache_hits, first.cache_misses), (2, 1));
    request.finish();
}

#[test]
fn counts_belong_to_the_second_in_which_they_happened() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    let mut request = rig.server.request();
    rig.at(999);
    request.tokens(3);
    rig.at(1_001); // After the end, before the collection.
    request.tokens(5);
    rig.server.cache_hit();
    rig.at(1_005);
    let first = flush(&rig, &mut collector, 1);
    assert_eq!((first.generated_tokens, first.cache_hits), (3, 0));
    rig.at(9_000); // Longer than seconds are remembered.
    request.tokens(7);
    let rest = flush(&rig, &mut collector, 2);
    assert_eq!((rest.generated_tokens, rest.cache_hits), (5, 1), "the last one is of the tenth second");
    rig.at(10_000);
    assert_eq!(flush(&rig, &mut collector, 3).generated_tokens, 7);
    request.finish();
}

#[test]
fn failures_are_told_by_kind_and_cancellations_apart() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    for kind in ["timeout", "503", "timeout"] {
        rig.server.request().fail_with(kind);
    }
    rig.server.request().fail();
    for number in 0..20 {
        rig.server.request().fail_with(&format!("message {number}"));
    }
    rig.server.request().cancel();
    drop(rig.server.request());
    rig.at(1_000);
    let flush = flush(&rig, &mut collector, 1);
    assert_eq!((flush.requests_failed, flush.requests_cancelled, flush.requests_abandoned), (24, 1, 1));
    assert_eq!(flush.errors.len(), 16);
    let count = |kind: &str| flush.errors.iter().find(|error| error.kind == kind).map(|error| error.count);
    assert_eq!((count("timeout"), count("503"), count("message 12")), (Some(2), Some(1), Some(1)));
    assert_eq!(count("other"), Some(1 + 7), "what has no kind, and what found no place");
    assert_eq!(find(&flush, "request.duration").counts.iter().sum::<u64>(), 24, "a cancelled one has no duration");
}

#[test]
fn the_slowest_requests_are_told_with_where_their_time_went() {
    let rig = Rig::new("/nonexistent");
    let mut collector = rig.collector();
    for duration in 1..=20 {
        rig.at(0);
        let mut request = rig.server.request();
        request.trace_id([duration as u8; 16]);
        request.enter(Stage::Queue);
        rig.at(duration);
        request.enter(Stage::Compute);
        rig.at(3 * duration);
        if duration == 20 { request.fail_with("late") } else { request.finish() }
    }
    rig.at(1_002);
    rig.server.request().finish(); // After the end of the second: nothing of its flush.
    let first = flush(&rig, &mut collector, 1);
    let durations: Vec<u64> = first.slow.iter().map(|slow| slow.duration_ns / super::MS).collect();
    assert_eq!(durations, [60, 57, 54, 51, 48, 45, 42, 39]);
    let slowest = &first.slow[0];
    assert_eq!((slowest.trace_id.as_slice(), slowest.error.as_str()), ([20; 16].as_slice(), "late"));
    let stages: Vec<_> = slowest.stages.iter().map(|entry| (entry.stage, entry.ns / super::MS)).collect();
    assert_eq!(stages, [(0, 20), (5, 40)]);
    rig.at(1_500);
    let mut next = rig.server.request();
    next.enter(Stage::Send);
    rig.at(1_501);
    next.finish();
    rig.at(2_000);
    let durations: Vec<u64> = flush(&rig, &mut collector, 2).slow.iter().map(|slow| slow.duration_ns).collect();
    assert_eq!(durations, [super::MS], "each flush begins anew");
}
