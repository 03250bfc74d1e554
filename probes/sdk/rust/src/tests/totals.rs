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
