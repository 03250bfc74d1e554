use super::super::units::known;
use super::*;
use opentelemetry_proto::tonic::metrics::v1::ExponentialHistogramDataPoint;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use perfwatch_model::Unit;
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
static DURATION: MetricDef = MetricDef::histogram("test.duration", Unit::Seconds, "A test's.");

fn stream(kind: Kind) -> Stream {
    Stream::new(&DURATION, known("s").expect("known"), kind)
}

fn span(start: u64, end: u64) -> Span {
    Span { start: start * SECOND, end: end * SECOND }
}

fn total(stream: &mut Stream) -> Number {
    let mut tick = Tick::default();
    stream.report(SeriesId(1), &mut tick);
    tick.values[0].1
}

#[test]
fn a_total_goes_on_through_resets_and_repeats() {
    let mut counter = stream(Kind::Counter);
    let mut take = |value, start, end| {
        counter.count(Number::Int(value), span(start, end), Temporality::Cumulative, 5 * SECOND).expect("taken")
    };
    assert_eq!(take(100, 1, 10), Taken::Baseline);
    assert_eq!(take(160, 1, 20), Taken::Gained(Number::Int(60), 10 * SECOND));
    assert_eq!(take(160, 1, 20), Taken::Before, "a repeated export");
    assert_eq!(take(5, 25, 30), Taken::Gained(Number::Int(5), 5 * SECOND), "restarted at 25");
    assert_eq!(take(3, 25, 40), Taken::Gained(Number::Int(3), 10 * SECOND), "went back under the same start");
    assert_eq!(total(&mut counter), Number::Int(68));
}

#[test]
fn a_total_begins_at_0_unless_its_sender_began_after_the_agent() {
    for (start, since, taken, at_first) in [
        (1, 5, Taken::Baseline, 0),
        (0, 0, Taken::Baseline, 0),
        (6, 5, Taken::Gained(Number::Int(1_000), 4 * SECOND), 1_000),
    ] {
        let mut counter = stream(Kind::Counter);
        let mut take =
            |value, end| counter.count(Number::Int(value), span(start, end), Temporality::Cumulative, since * SECOND);
        assert_eq!(take(1_000, 10), Ok(taken), "from {start}, watched from {since}");
        take(1_010, 20).expect("taken");
        assert_eq!(total(&mut counter), Number::Int(at_first + 10));
    }
    let mut fractions = stream(Kind::Counter);
    fractions.count(Number::Float(2.5), span(1, 10), Temporality::Cumulative, 5 * SECOND).expect("taken");
    assert_eq!(total(&mut fractions), Number::Float(0.0), "of the sender's kind from the first");
}

#[test]
fn a_series_whose_entity_begins_anew_counts_what_no_tick_has_held() {
    let mut counter = stream(Kind::Counter);
    let take = |counter: &mut Stream, value, end| {
        counter.count(Number::Int(value), span(1, end), Temporality::Delta, 0).expect("taken");
    };
    take(&mut counter, 10, 2);
    counter.begin_anew();
    assert_eq!(total(&mut counter), Number::Int(10), "none of it was told");
    take(&mut counter, 3, 3);
    counter.begin_anew();
    assert_eq!(total(&mut counter), Number::Int(3), "10 were told");
    take(&mut counter, 4, 4);
    assert_eq!(total(&mut counter), Number::Int(7));
}

#[test]
fn numbers_that_nobody_can_have_counted_are_refused_and_sums_stay_finite() {
    let mut counter = stream(Kind::Counter);
    for value in [f64::NAN, f64::INFINITY, 1e300, -1.0] {
        counter.count(Number::Float(value), span(0, 1), Temporality::Delta, 0).expect_err("absurd");
    }
    for at in 1..4 {
        counter.count(Number::Int(u64::MAX), span(0, at), Temporality::Delta, 0).expect("large, and a number");
    }
    assert_eq!(total(&mut counter), Number::Int(u64::MAX));
    let mut level = Stream::new(&DURATION, known("h").expect("known"), Kind::Gauge);
    level.level(f64::MAX, span(0, 1), Temporality::Cumulative).expect_err("not finite in seconds");
    for change in [
        |point: &mut HistogramDataPoint| point.sum = Some(1e300),
        |point: &mut HistogramDataPoint| point.explicit_bounds[1] = f64::MAX,
        |point: &mut HistogramDataPoint| (point.count, point.bucket_counts) = (u64::MAX, vec![0, u64::MAX, 0]),
    ] {
        let mut sent = point(&[0.5], &[0.1, 1.0], (1, 2));
        change(&mut sent);
        let mut explicit = Stream::new(&DURATION, known("h").expect("known"), Kind::Explicit);
        explicit.explicit(&sent, Temporality::Delta, 0).expect_err("absurd");
    }
    let full = || Histogram::Bounded(Bounded { bounds: vec![1.0], counts: vec![u64::MAX, 1], sum: 1.0 });
    let mut joined = full();
    assert!(join(&mut joined, &full()));
    assert_eq!(count(&joined), u64::MAX);
}

#[test]
fn deltas_add_up_and_a_repeated_one_counts_once() {
    let mut counter = stream(Kind::Counter);
    for (start, end) in [(0, 10), (10, 20), (10, 20), (20, 30)] {
        counter.count(Number::Int(7), span(start, end), Temporality::Delta, 0).expect("taken");
    }
    assert_eq!(total(&mut counter), Number::Int(21));
}

#[test]
fn what_comes_out_of_order_is_superseded_or_refused_and_never_counted_twice() {
    let mut delta = stream(Kind::Counter);
    let mut take = |start, end| delta.count(Number::Int(7), span(start, end), Temporality::Delta, 0);
    take(0, 10).expect("taken");
    take(20, 30).expect("a gap is no disorder");
    assert_eq!(take(10, 20), Err(LATE));
    take(30, 40).expect("and it goes on");
    assert_eq!(total(&mut delta), Number::Int(21));
    let mut cumulative = stream(Kind::Counter);
    let mut take = |value, end| cumulative.count(Number::Int(value), span(1, end), Temporality::Cumulative, 0);
    take(5, 10).expect("taken");
    take(9, 30).expect("taken");
    assert_eq!(take(7, 20), Ok(Taken::Before), "the newer total contains it");
    assert_eq!(total(&mut cumulative), Number::Int(9));
}

#[test]
fn two_senders_in_one_series_are_told_instead_of_added_up() {
    let mut counter = stream(Kind::Counter);
    let mut take = |value, start, end| counter.count(Number::Int(value), span(start, end), Temporality::Cumulative, 0);
    take(50, 5, 10).expect("the first");
    take(80, 7, 11).expect("looks like a restart");
    assert!(take(51, 5, 12).expect_err("the older one again").contains("service.instance.id"));
}

#[test]
fn up_down_counters_are_levels() {
    let mut level = Stream::new(&DURATION, known("{request}").unwrap_or(known("By").expect("known")), Kind::Gauge);
    level.level(3.0, span(0, 1), Temporality::Delta).expect("taken");
    level.level(-1.0, span(1, 2), Temporality::Delta).expect("taken");
    assert_eq!(level.held(), Some(2.0));
    level.level(9.0, span(1, 3), Temporality::Cumulative).expect("taken");
    assert_eq!(level.held(), Some(9.0));
    assert!(level.level(f64::NAN, span(1, 4), Temporality::Cumulative).is_err());
    let mut tick = Tick::default();
    level.report(SeriesId(1), &mut tick);
    level.report(SeriesId(1), &mut tick);
    assert_eq!(tick.values, [(SeriesId(1), Number::Float(9.0))], "a level is reported once per point");
}

fn point(values: &[f64], bounds: &[f64], (start, end): (u64, u64)) -> HistogramDataPoint {
    let mut counts = vec![0; bounds.len() + 1];
    for value in values {
        counts[bounds.iter().position(|bound| value <= bound).unwrap_or(bounds.len())] += 1;
    }
    HistogramDataPoint {
        start_time_unix_nano: start * SECOND,
        time_unix_nano: end * SECOND,
        count: values.len() as u64,
        sum: Some(values.iter().sum()),
        bucket_counts: counts,
        explicit_bounds: bounds.to_vec(),
        ..HistogramDataPoint::default()
    }
}

#[test]
fn a_distribution_older_than_the_agent_is_a_baseline_and_a_younger_one_all_gain() {
    let bounds = [0.1, 1.0];
    let mut old = stream(Kind::Explicit);
    let taken = old.explicit(&point(&[0.5, 2.0], &bounds, (1, 10)), Temporality::Cumulative, 5 * SECOND);
    assert_eq!(taken, Ok(Taken::Baseline));
    let mut young = stream(Kind::Explicit);
    let taken = young.explicit(&point(&[0.5, 2.0], &bounds, (6, 10)), Temporality::Cumulative, 5 * SECOND);
    let all = Histogram::Bounded(Bounded { bounds: bounds.to_vec(), counts: vec![0, 1, 1], sum: 2.5 });
    assert_eq!(taken, Ok(Taken::Gained(all, 4 * SECOND)));
}

#[test]
fn a_sender_that_comes_back_with_other_bounds_is_another_distribution() {
    let mut explicit = stream(Kind::Explicit);
    explicit.explicit(&point(&[0.5], &[0.1, 1.0], (6, 10)), Temporality::Cumulative, 0).expect("taken");
    let taken = explicit.explicit(&point(&[0.5], &[0.2], (11, 12)), Temporality::Cumulative, 0);
    assert!(matches!(taken, Ok(Taken::Gained(Histogram::Bounded(Bounded { bounds, .. }), _)) if bounds == [0.2]));
    let mut tick = Tick::default();
    explicit.report(SeriesId(1), &mut tick);
    assert_eq!(tick.histograms.len(), 2, "nothing is rebinned");
}

#[test]
fn distributions_go_on_through_resets_repeats_and_restarts() {
    fn gained(taken: Result<Taken<Histogram>, &'static str>) -> u64 {
        match taken.expect("taken") {
            Taken::Gained(gained, _) => count(&gained),
            Taken::Before | Taken::Baseline => 0,
        }
    }
    let exponential = |values: u64| {
        let buckets = Some(Buckets { offset: 0, bucket_counts: vec![values] });
        let point = ExponentialHistogramDataPoint {
            count: values,
            sum: Some(values as f64),
            positive: buckets,
            ..ExponentialHistogramDataPoint::default()
        };
        Exponential::read(&point).expect("valid")
    };
    let (mut explicit, mut exponentials) = (stream(Kind::Explicit), stream(Kind::Exponential));
    // Total, start and end; what is new in it.
    for (values, (start, end), new) in
        [(3, (1, 10), 3), (5, (1, 20), 2), (5, (1, 20), 0), (4, (1, 15), 0), (2, (25, 30), 2), (1, (25, 40), 1)]
    {
        let sent = point(&vec![0.5; values as usize], &[0.1, 1.0], (start, end));
        let taken = explicit.explicit(&sent, Temporality::Cumulative, 0);
        assert_eq!(gained(taken), new, "{values} from {start} to {end}");
        let taken = exponentials.exponential(exponential(values), span(start, end), Temporality::Cumulative, 0);
        assert_eq!(gained(taken), new, "{values} from {start} to {end}");
    }
}

#[test]
fn a_histogram_that_breaks_the_rules_says_which() {
    let fine = point(&[0.5], &[0.1, 1.0], (1, 2));
    let refused = |change: fn(&mut HistogramDataPoint)| {
        let mut point = fine.clone();
        change(&mut point);
        stream(Kind::Explicit).explicit(&point, Temporality::Delta, 0).expect_err("refused")
    };
    assert!(refused(|point| point.count = 9).contains("count"));
    assert!(refused(|point| point.sum = None).contains("sum"));
    assert!(refused(|point| point.explicit_bounds = vec![1.0, 0.5]).contains("ascend"));
    assert!(refused(|point| point.explicit_bounds.push(7.0)).contains("one bucket more"));
}

proptest! {
    #[test]
    fn delta_and_cumulative_senders_give_the_same_gains_in_their_own_bounds(
        parts in prop::collection::vec(prop::collection::vec(0.0_f64..2.0, 0..20), 1..8),
    ) {
        let bounds = [0.01, 0.1, 0.5, 1.0];
        let (mut delta, mut cumulative) = (stream(Kind::Explicit), stream(Kind::Explicit));
        let mut all: Vec<f64> = Vec::new();
        let mut sums = [0.0; 2];
        for (at, part) in parts.iter().enumerate() {
            let (before, now) = (at as u64 + 1, at as u64 + 2);
            all.extend(part);
            let pairs = [
                delta.explicit(&point(part, &bounds, (before, now)), Temporality::Delta, 0).expect("taken"),
                cumulative.explicit(&point(&all, &bounds, (1, now)), Temporality::Cumulative, 0).expect("taken"),
            ];
            let wanted = point(part, &bounds, (0, 0));
            for (sum, taken) in sums.iter_mut().zip(pairs) {
                let Taken::Gained(Histogram::Bounded(gained), _) = taken else { panic!("{taken:?}") };
                prop_assert_eq!(&gained.counts, &wanted.bucket_counts);
                prop_assert_eq!(&gained.bounds[..], &bounds[..]);
                *sum += gained.sum;
            }
        }
        let exact: f64 = all.iter().sum();
        prop_assert!(sums.iter().all(|sum| (sum - exact).abs() < 1e-6));
    }
}
