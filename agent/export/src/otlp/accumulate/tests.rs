use super::*;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, number_data_point::Value};
use perfwatch_model::{Attr, Entity, EntityKind};

const SECOND: u64 = 1_000_000_000;

struct Feed {
    table: SeriesTable,
    sums: Accumulators,
    now: u64,
}

impl Feed {
    fn new() -> Self {
        Self { table: SeriesTable::new(), sums: Accumulators::new(false), now: 0 }
    }

    fn series(&mut self, metric: &'static MetricDef) -> SeriesId {
        let entity = self.table.entity(Entity::new(EntityKind::Server, "shop"));
        self.table.series(metric, entity, &[])
    }

    fn tick(&mut self, values: &[(SeriesId, Number)], histograms: &[(SeriesId, Histogram)]) {
        let interval = Span { start: self.now, end: self.now + SECOND };
        self.now = interval.end;
        let tick = Tick { dt_ns: SECOND, values: values.to_vec(), histograms: histograms.to_vec(), ..Tick::default() };
        self.sums.add(&tick, &self.table, interval);
    }

    fn drain(&mut self) -> Vec<(&'static str, Point)> {
        let mut out = Vec::new();
        self.sums.drain(&self.table, self.now, |metric, point| out.push((metric.name, point)));
        out
    }

    /// (start, time, value) of all points, times in seconds.
    fn drain_numbers(&mut self) -> Vec<(u64, u64, f64)> {
        self.drain().into_iter().map(|(_, point)| number(&point)).collect()
    }
}

fn number(point: &Point) -> (u64, u64, f64) {
    let (Point::Gauge(point) | Point::Sum(point)) = point else { panic!("not a number: {point:?}") };
    let NumberDataPoint { start_time_unix_nano, time_unix_nano, value, .. } = point;
    let value = match value.expect("a point has a value") {
        Value::AsDouble(value) => value,
        Value::AsInt(value) => value as f64,
    };
    (start_time_unix_nano / SECOND, time_unix_nano / SECOND, value)
}

#[test]
fn a_gauge_leaves_as_the_mean_of_the_ticks_that_had_it() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::IN_FLIGHT);
    feed.tick(&[(series, Number::Float(2.0))], &[]);
    feed.tick(&[], &[]);
    feed.tick(&[(series, Number::Float(4.0))], &[]);
    assert_eq!(feed.drain_numbers(), [(0, 3, 3.0)]);
    feed.tick(&[], &[]);
    assert_eq!(feed.drain_numbers(), [], "a gauge that was not read is not reported");
}

#[test]
fn a_total_of_our_own_begins_with_a_zero_point() {
    let mut feed = Feed::new();
    feed.tick(&[], &[]);
    let series = feed.series(&metrics::server::REQUESTS_STARTED);
    feed.tick(&[(series, Number::Int(5))], &[]);
    assert_eq!(feed.drain_numbers(), [(1, 1, 0.0), (1, 2, 5.0)]);
    feed.tick(&[(series, Number::Int(7))], &[]);
    assert_eq!(feed.drain_numbers(), [(1, 3, 7.0)]);
}

#[test]
fn the_past_of_a_kernels_total_is_not_an_increase() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::CPU_TIME);
    feed.tick(&[(series, Number::Int(90 * SECOND))], &[]);
    assert_eq!(feed.drain_numbers(), [(0, 1, 90.0)], "seconds, no zero point");
}

#[test]
fn a_restarted_counter_loses_nothing_and_gets_a_new_start() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::REQUESTS_STARTED);
    feed.tick(&[(series, Number::Int(100))], &[]);
    feed.drain();
    feed.tick(&[(series, Number::Int(130))], &[]);
    feed.tick(&[(series, Number::Int(7))], &[]);
    assert_eq!(feed.drain_numbers(), [(0, 2, 130.0), (2, 3, 7.0)]);
}

#[test]
fn a_counter_that_could_not_be_read_is_not_repeated() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::CPU_TIME);
    feed.tick(&[(series, Number::Int(SECOND))], &[]);
    feed.drain();
    feed.tick(&[], &[]);
    assert_eq!(feed.drain_numbers(), []);
}

#[test]
fn histograms_accumulate_after_a_zero_point_and_stand_while_nothing_comes() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::REQUEST_DURATION);
    let mut gained = SparseHdr::new();
    gained.record(2 * SECOND);
    feed.tick(&[], &[(series, Histogram::Hdr(gained.clone()))]);
    feed.tick(&[], &[(series, Histogram::Hdr(gained))]);
    let counts = |points: Vec<(&str, Point)>| -> Vec<(u64, u64, Option<f64>)> {
        let point = |(_, point)| {
            let Point::Exponential(point) = point else { panic!("not exponential") };
            (point.time_unix_nano / SECOND, point.count, point.sum)
        };
        points.into_iter().map(point).collect()
    };
    assert_eq!(counts(feed.drain()), [(0, 0, Some(0.0)), (2, 2, Some(4.0))]);
    feed.tick(&[], &[]);
    assert_eq!(counts(feed.drain()), [(3, 2, Some(4.0))]);
}

#[test]
fn foreign_bounds_are_kept_and_a_change_of_bounds_is_a_restart() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::REQUEST_DURATION);
    let gained = |bounds: &[f64]| {
        let counts = vec![1; bounds.len() + 1];
        Histogram::Bounded(Bounded { bounds: bounds.to_vec(), counts, sum: 1.5 })
    };
    feed.tick(&[], &[(series, gained(&[0.1, 1.0]))]);
    feed.tick(&[], &[(series, gained(&[0.1, 1.0]))]);
    feed.tick(&[], &[(series, gained(&[0.5]))]);
    let points: Vec<_> = feed
        .drain()
        .into_iter()
        .map(|(_, point)| {
            let Point::Explicit(point) = point else { panic!("not explicit") };
            let times = (point.start_time_unix_nano / SECOND, point.time_unix_nano / SECOND);
            (times, point.explicit_bounds, point.bucket_counts)
        })
        .collect();
    assert_eq!(
        points,
        [
            ((0, 0), vec![0.1, 1.0], vec![0, 0, 0]),
            ((0, 2), vec![0.1, 1.0], vec![2, 2, 2]),
            ((2, 3), vec![0.5], vec![1, 1]),
        ]
    );
}

#[test]
fn counts_of_a_peer_that_lies_stay_at_their_largest() {
    let mut feed = Feed::new();
    let durations = feed.series(&metrics::server::REQUEST_DURATION);
    let sizes = feed.series(&metrics::server::BATCH_SIZE);
    let bounded = Histogram::Bounded(Bounded { bounds: vec![1.0], counts: vec![u64::MAX, u64::MAX], sum: 1.5 });
    let all = (0..1_000).map(|bucket| (bucket, u64::MAX)).collect();
    let hdr = Histogram::Hdr(SparseHdr::from_buckets(all, u128::MAX).expect("valid"));
    for _ in 0..2 {
        feed.tick(&[], &[(durations, bounded.clone()), (sizes, hdr.clone())]);
    }
    let points = feed.drain();
    let counts: Vec<_> = points
        .iter()
        .filter_map(|(_, point)| match point {
            Point::Explicit(point) if point.count > 0 => Some((point.count, point.bucket_counts[0])),
            Point::Exponential(point) if point.count > 0 => {
                let counts = &point.positive.as_ref().expect("values above 0").bucket_counts;
                Some((point.count, counts.iter().copied().max().expect("buckets")))
            }
            _ => None,
        })
        .collect();
    assert_eq!(counts, [(u64::MAX, u64::MAX); 2], "{points:?}");
}

#[test]
fn details_stay_home_unless_asked_for() {
    for (full, expected) in [(false, 0), (true, 1)] {
        let mut feed = Feed { sums: Accumulators::new(full), ..Feed::new() };
        let series = feed.series(&metrics::process::MEMORY_USAGE);
        feed.tick(&[(series, Number::Int(1))], &[]);
        assert_eq!(feed.drain().len(), expected);
    }
}

#[test]
fn a_series_leaves_once_more_after_its_entity_retired_and_never_again() {
    let mut feed = Feed::new();
    let series = feed.series(&metrics::server::REQUESTS_STARTED);
    feed.tick(&[(series, Number::Int(3))], &[]);
    let entity = feed.table.find_entity(EntityKind::Server, "shop").expect("it was interned");
    feed.table.retire(entity);
    assert_eq!(feed.drain().len(), 2);
    feed.tick(&[], &[]);
    assert_eq!(feed.drain().len(), 0);
    assert!(feed.sums.entries.is_empty());
}

#[test]
fn a_series_with_a_refused_attribute_stays_home_and_is_counted() {
    let mut feed = Feed::new();
    let host = feed.table.entity(Entity::new(EntityKind::Host, "here"));
    let series = feed.table.series(&metrics::host::CPU_COUNT, host, &[Attr::fixed("le", "1")]);
    feed.tick(&[(series, Number::Float(2.0))], &[]);
    assert!(feed.drain().is_empty());
    assert_eq!(feed.sums.refused(), 1);
}
