use super::*;
use crate::Base;
use crate::adder::Adder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::{NumberDataPoint, metric::Data, number_data_point::Value};
use perfwatch_model::metrics::{agent, gpu, host, server};
use perfwatch_model::{Attr, Bounded, Entity, EntityId, Number, Severity, SparseHdr, Stamp};
use prost::Message as _;

const SECOND: u64 = 1_000_000_000;

/// A point as (metric, start, time, value or count), times in seconds; the millisecond that sets streams apart is lost.
type Seen = (String, u64, u64, f64);

/// An agent that exports each tick, on a wall clock that begins at 1,000 s.
struct Run {
    table: SeriesTable,
    totals: Adder,
    encoder: Encoder,
    shop: EntityId,
    wall_s: u64,
    kept: std::collections::BTreeMap<StreamId, Stream>,
    stamp: Option<u64>,
}

fn config(interval_ms: u64) -> OtlpConfig {
    OtlpConfig::from_lookup(|name| match name {
        "OTEL_EXPORTER_OTLP_ENDPOINT" => Some("http://localhost:4318".to_owned()),
        "OTEL_METRIC_EXPORT_INTERVAL" => Some(interval_ms.to_string()),
        _ => None,
    })
    .expect("valid variables")
}

fn seen(requests: &[Encoded]) -> Vec<Seen> {
    let mut out = Vec::new();
    for request in requests {
        let plain = crate::gzip::unpack(&request.body).expect("we packed it");
        let request = ExportMetricsServiceRequest::decode(plain.as_slice()).expect("we encoded it");
        for metric in &request.resource_metrics[0].scope_metrics[0].metrics {
            let name = &metric.name;
            let number = |point: &NumberDataPoint| {
                let value = match point.value.expect("a point has a value") {
                    Value::AsDouble(value) => value,
                    Value::AsInt(value) => value as f64,
                };
                (name.clone(), point.start_time_unix_nano / SECOND, point.time_unix_nano / SECOND, value)
            };
            match metric.data.as_ref().expect("a metric has points") {
                Data::Gauge(data) => out.extend(data.data_points.iter().map(number)),
                Data::Sum(data) => out.extend(data.data_points.iter().map(number)),
                Data::ExponentialHistogram(data) => out.extend(data.data_points.iter().map(|point| {
                    let times = (point.start_time_unix_nano / SECOND, point.time_unix_nano / SECOND);
                    (name.clone(), times.0, times.1, point.count as f64)
                })),
                Data::Histogram(data) => out.extend(data.data_points.iter().map(|point| {
                    let times = (point.start_time_unix_nano / SECOND, point.time_unix_nano / SECOND);
                    (name.clone(), times.0, times.1, point.count as f64)
                })),
                Data::Summary(_) => panic!("there are no summaries"),
            }
        }
    }
    out
}

impl Run {
    fn new() -> Self {
        Self::every(1_000)
    }

    fn every(interval_ms: u64) -> Self {
        let mut table = SeriesTable::new();
        let shop = table.entity(Entity::new(EntityKind::Server, "shop"));
        Self {
            table,
            totals: Adder::new(),
            encoder: Encoder::new(&config(interval_ms), false),
            shop,
            wall_s: 1_000,
            kept: std::collections::BTreeMap::new(),
            stamp: None,
        }
    }

    fn series(&mut self, metric: &'static MetricDef) -> SeriesId {
        self.table.series(metric, self.shop, &[])
    }

    fn tick(&mut self, values: &[(SeriesId, Number)], histograms: &[(SeriesId, Histogram)]) -> Vec<Seen> {
        self.wall_s += 1;
        let mut tick = Tick {
            end: Stamp { mono_ns: self.wall_s * SECOND, wall_ns: self.wall_s * SECOND },
            dt_ns: SECOND,
            values: values.to_vec(),
            histograms: histograms.to_vec(),
            ..Tick::default()
        };
        tick.seal();
        self.encoder.before(&tick, &self.table, &self.totals);
        self.totals.add(&tick, &self.table);
        let exported = self.encoder.after(&tick, &self.table, &self.totals, &[], false);
        for (number, stream) in exported.streams {
            match stream {
                Some(stream) => self.kept.insert(number, stream),
                None => self.kept.remove(&number),
            };
        }
        self.stamp = exported.stamp_ns.or(self.stamp);
        seen(&exported.metrics)
    }

    /// The agent is killed and another begins: it knows what was kept, and totals; its table is new.
    fn restart(&mut self) {
        self.table = SeriesTable::new();
        self.shop = self.table.entity(Entity::new(EntityKind::Server, "shop"));
        self.totals.restart();
        self.encoder = Encoder::new(&config(1_000), false);
        self.encoder.restore(self.kept.clone(), self.stamp, &self.totals);
    }
}

fn point(metric: &MetricDef, start: u64, time: u64, value: f64) -> Seen {
    (metric.name.to_owned(), start, time, value)
}

fn latencies(values: &[u64]) -> Histogram {
    let mut all = SparseHdr::new();
    for value in values {
        all.record(*value);
    }
    Histogram::Hdr(all)
}

fn bounded(bounds: &[f64], counts: &[u64]) -> Histogram {
    Histogram::Bounded(Bounded { bounds: bounds.to_vec(), counts: counts.to_vec(), sum: 1.0 })
}

#[test]
fn a_gauge_leaves_as_the_mean_of_the_ticks_that_had_it() {
    let mut run = Run::every(3_000);
    let series = run.series(&server::CPU_QUOTA);
    assert_eq!(run.tick(&[(series, Number::Float(2.0))], &[]), []);
    assert_eq!(run.tick(&[], &[]), []);
    assert_eq!(run.tick(&[(series, Number::Float(4.0))], &[]), [point(&server::CPU_QUOTA, 0, 1_003, 3.0)]);
    assert_eq!((run.tick(&[], &[]), run.tick(&[], &[]), run.tick(&[], &[])), (vec![], vec![], vec![]));
}

#[test]
fn a_marked_gauge_leaves_with_its_peak() {
    let mut run = Run::every(2_000);
    let series = run.series(&server::IN_FLIGHT);
    run.tick(&[(series, Number::Int(2))], &[]);
    let expected = [point(&server::IN_FLIGHT, 0, 1_002, 5.0), point(&server::IN_FLIGHT_MAX, 0, 1_002, 8.0)];
    assert_eq!(run.tick(&[(series, Number::Int(8))], &[]), expected);
    run.tick(&[(series, Number::Int(1))], &[]);
    let expected = [point(&server::IN_FLIGHT, 0, 1_004, 1.0), point(&server::IN_FLIGHT_MAX, 0, 1_004, 1.0)];
    assert_eq!(run.tick(&[(series, Number::Int(1))], &[]), expected, "a peak is one interval's");
}

#[test]
fn every_peak_is_a_gauge_of_the_same_unit_named_after_its_mean() {
    let marked: Vec<_> = metrics::all().filter_map(|metric| Some((metric, metric.peak?))).collect();
    assert!(marked.iter().any(|(metric, _)| metric.name == gpu::UTILIZATION.name));
    for (metric, peak) in marked {
        assert_eq!((metric.instrument, peak.instrument), (Instrument::Gauge, Instrument::Gauge));
        assert_eq!((peak.unit, peak.level), (metric.unit, metric.level), "{}", metric.name);
        assert_eq!(peak.name, format!("{}.max", metric.name));
    }
}

#[test]
fn every_cumulative_stream_begins_with_a_zero_point() {
    let mut run = Run::new();
    run.tick(&[], &[]);
    let (counter, duration) = (run.series(&server::REQUESTS_STARTED), run.series(&server::REQUEST_DURATION));
    let expected = [
        point(&server::REQUEST_DURATION, 1_001, 1_001, 0.0),
        point(&server::REQUEST_DURATION, 1_001, 1_002, 2.0),
        point(&server::REQUESTS_STARTED, 1_001, 1_001, 0.0),
        point(&server::REQUESTS_STARTED, 1_001, 1_002, 5.0),
    ];
    assert_eq!(run.tick(&[(counter, Number::Int(5))], &[(duration, latencies(&[7, 9]))]), expected);
    let expected =
        [point(&server::REQUEST_DURATION, 1_001, 1_003, 2.0), point(&server::REQUESTS_STARTED, 1_001, 1_003, 7.0)];
    assert_eq!(run.tick(&[(counter, Number::Int(7))], &[]), expected, "a histogram stands while nothing comes");
}

#[test]
fn the_past_of_a_kernels_total_is_not_an_increase() {
    let mut run = Run::new();
    run.totals.from_zero = false;
    let series = run.series(&host::CPU_TIME);
    let name = &host::CPU_TIME;
    let first = run.tick(&[(series, Number::Int(90 * SECOND))], &[]);
    assert_eq!(first, [point(name, 1_000, 1_000, 0.0), point(name, 1_000, 1_001, 0.0)]);
    let second = run.tick(&[(series, Number::Int(92 * SECOND))], &[]);
    assert_eq!(second, [point(name, 1_000, 1_002, 2.0)], "in seconds, since the stream began");
}

#[test]
fn a_counter_that_could_not_be_read_is_not_repeated() {
    let mut run = Run::new();
    let series = run.series(&server::CPU_TIME);
    run.tick(&[(series, Number::Int(SECOND))], &[]);
    assert_eq!(run.tick(&[], &[]), []);
}

#[test]
fn a_counter_that_went_back_is_the_same_stream_and_loses_nothing() {
    let mut run = Run::new();
    let series = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(series, Number::Int(100))], &[]);
    run.tick(&[(series, Number::Int(130))], &[]);
    let after = run.tick(&[(series, Number::Int(7))], &[]);
    assert_eq!(after, [point(&server::REQUESTS_STARTED, 1_000, 1_003, 137.0)]);
}

#[test]
fn other_bounds_are_another_stream_and_the_old_one_leaves_whole() {
    let mut run = Run::every(10_000);
    let series = run.series(&server::REQUEST_DURATION);
    assert_eq!(run.tick(&[], &[(series, bounded(&[1.0], &[2, 1]))]), []);
    let changed = run.tick(&[], &[(series, bounded(&[1.0, 2.0], &[4, 0, 1]))]);
    let name = &server::REQUEST_DURATION;
    let expected = [
        point(name, 1_000, 1_000, 0.0),
        point(name, 1_000, 1_001, 3.0),
        point(name, 1_001, 1_001, 0.0),
        point(name, 1_001, 1_002, 5.0),
    ];
    assert_eq!(changed, expected, "at once, not only after ten seconds");
}

#[test]
fn what_was_measured_before_a_kill_and_not_exported_leaves_with_the_next_agent() {
    let mut run = Run::new();
    let (counter, duration) = (run.series(&server::REQUESTS_STARTED), run.series(&server::REQUEST_DURATION));
    run.tick(&[(counter, Number::Int(5))], &[(duration, latencies(&[7, 9]))]);
    // Two ticks are kept and never exported: the kill comes before.
    run.encoder.interval_ns = 100 * SECOND;
    run.encoder.due_ns = None;
    assert_eq!(run.tick(&[(counter, Number::Int(8))], &[(duration, latencies(&[1]))]), []);
    run.restart();
    let after = run.tick(&[], &[]);
    let expected =
        [point(&server::REQUEST_DURATION, 1_000, 1_003, 3.0), point(&server::REQUESTS_STARTED, 1_000, 1_003, 8.0)];
    assert_eq!(after, expected, "although neither series came back");
    let counter = run.series(&server::REQUESTS_STARTED);
    let came_back = run.tick(&[(counter, Number::Int(2))], &[]);
    assert!(came_back.contains(&point(&server::REQUESTS_STARTED, 1_000, 1_004, 10.0)), "{came_back:?}");
}

#[test]
fn a_stream_that_was_kept_and_never_exported_gets_its_zero_point_from_the_next_agent() {
    let mut run = Run::every(100_000);
    let counter = run.series(&server::REQUESTS_STARTED);
    assert_eq!(run.tick(&[(counter, Number::Int(5))], &[]), []);
    run.restart();
    let name = &server::REQUESTS_STARTED;
    assert_eq!(run.tick(&[], &[]), [point(name, 1_000, 1_000, 0.0), point(name, 1_000, 1_002, 5.0)]);
}

#[test]
fn a_former_agents_stream_that_nobody_sees_again_ends_after_five_minutes() {
    let mut run = Run::new();
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(5))], &[]);
    run.restart();
    (0..299).for_each(|_| drop(run.tick(&[], &[])));
    assert_eq!(run.kept.len(), 1);
    (0..2).for_each(|_| drop(run.tick(&[], &[])));
    assert_eq!(run.kept.len(), 0);
    let counter = run.series(&server::REQUESTS_STARTED);
    let again = run.tick(&[(counter, Number::Int(2))], &[]);
    let (name, start) = (&server::REQUESTS_STARTED, run.wall_s - 1);
    assert_eq!(again, [point(name, start, start, 0.0), point(name, start, start + 1, 2.0)], "a new stream");
}

#[test]
fn a_clock_that_was_set_back_while_no_agent_ran_exports_no_earlier_stamp() {
    let mut run = Run::new();
    run.wall_s = 10_000;
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(5))], &[]);
    run.wall_s -= 60;
    run.restart();
    let counter = run.series(&server::REQUESTS_STARTED);
    let after = run.tick(&[(counter, Number::Int(1))], &[]);
    assert_eq!(after, [point(&server::REQUESTS_STARTED, 10_000, 10_001, 6.0)], "31/32 of a second later");
    run.wall_s -= 3_600;
    run.restart();
    assert_eq!(run.tick(&[], &[]), [], "an hour is waited for");
    assert!(run.encoder.waits_for_clock().is_some_and(|behind| behind > 3_600 * SECOND));
}

#[test]
fn a_clock_that_was_set_back_far_delays_export_and_loses_nothing() {
    let mut run = Run::new();
    run.wall_s = 100_000;
    let series = run.series(&server::REQUEST_DURATION);
    let one = || [(series, latencies(&[SECOND]))];
    let name = &server::REQUEST_DURATION;
    assert_eq!(run.tick(&[], &one()), [point(name, 100_000, 100_000, 0.0), point(name, 100_000, 100_001, 1.0)]);
    run.wall_s = 90_000;
    assert_eq!((run.tick(&[], &one()), run.tick(&[], &one())), (vec![], vec![]));
    run.wall_s = 100_001;
    assert_eq!(run.tick(&[], &one()), [point(name, 100_000, 100_002, 4.0)]);
}

#[test]
#[allow(clippy::float_cmp, reason = "small whole numbers")]
fn what_ends_while_export_waits_for_the_clock_leaves_whole() {
    let mut run = Run::new();
    run.wall_s = 100_000;
    let (counter, latency) = (run.series(&server::REQUESTS_STARTED), run.series(&server::REQUEST_DURATION));
    let mut seen = run.tick(&[(counter, Number::Int(5))], &[(latency, bounded(&[1.0], &[5, 0]))]);
    run.wall_s = 90_000;
    for (total, bound) in [(7, 1.0), (9, 2.0), (12, 3.0)] {
        // Who it is changes, and so do the bounds.
        let named = Entity::new(EntityKind::Server, "shop").with("service.name", format!("shop {total}"));
        seen.extend(run.tick(&[(counter, Number::Int(total))], &[(latency, bounded(&[bound], &[1, 1]))]));
        run.table.entity(named);
    }
    assert_eq!(seen.len(), 4, "nothing leaves meanwhile: {seen:?}");
    run.wall_s = 100_001;
    seen.extend(run.tick(&[(counter, Number::Int(13))], &[]));
    for (metric, total) in [(&server::REQUESTS_STARTED, 13.0), (&server::REQUEST_DURATION, 11.0)] {
        let values: Vec<f64> = seen.iter().filter(|seen| seen.0 == metric.name).map(|seen| seen.3).collect();
        // Each stream begins with a 0, and its last value is what it amounts to.
        let streams = values.iter().zip(values.iter().skip(1).chain([&0.0])).filter(|(_, next)| **next == 0.0);
        assert_eq!(streams.map(|(last, _)| last).sum::<f64>(), total, "{}: {values:?}", metric.name);
    }
}

#[test]
fn a_series_that_retired_leaves_for_the_last_time_and_comes_back_as_another_stream() {
    let mut run = Run::every(2_000);
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(5))], &[]);
    run.table.retire(run.shop);
    let name = &server::REQUESTS_STARTED;
    assert_eq!(run.tick(&[], &[]), [point(name, 1_000, 1_000, 0.0), point(name, 1_000, 1_001, 5.0)]);
    assert!(run.kept.is_empty());
    run.shop = run.table.entity(Entity::new(EntityKind::Server, "shop"));
    run.totals.restart();
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(2))], &[]);
    let again = run.tick(&[(counter, Number::Int(3))], &[]);
    assert_eq!(again, [point(name, 1_002, 1_002, 0.0), point(name, 1_002, 1_004, 3.0)]);
    let [stream] = run.kept.values().collect::<Vec<_>>()[..] else { panic!("one stream") };
    assert_eq!(stream.base, Base::Int(5));
    assert_eq!(stream.start_ns, 1_002 * SECOND + 1_000_000, "a millisecond after what may have ended there");
}

#[test]
fn an_entity_that_is_described_anew_is_another_series_and_nothing_counts_twice() {
    let mut run = Run::every(10_000);
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(5))], &[]);
    run.table.entity(Entity::new(EntityKind::Server, "shop").with("service.name", "shop"));
    let name = &server::REQUESTS_STARTED;
    let expected = [
        point(name, 1_000, 1_000, 0.0),
        point(name, 1_000, 1_001, 5.0),
        point(name, 1_001, 1_001, 0.0),
        point(name, 1_001, 1_002, 2.0),
    ];
    assert_eq!(run.tick(&[(counter, Number::Int(7))], &[]), expected);
}

#[test]
fn a_total_that_was_forgotten_begins_another_stream() {
    let mut run = Run::new();
    let counter = run.series(&server::REQUESTS_STARTED);
    run.tick(&[(counter, Number::Int(5))], &[]);
    run.totals.forget(counter, &run.table);
    let again = run.tick(&[(counter, Number::Int(7))], &[]);
    // The totals count from 0 again, and so does the stream.
    assert_eq!(again.iter().map(|(_, _, _, value)| *value).collect::<Vec<_>>(), [0.0, 7.0]);
    assert!(again[0].1 >= 1_001, "{again:?}");
    assert_eq!(run.kept.len(), 1);
}

#[test]
fn a_refused_attribute_keeps_its_series_at_home() {
    let mut run = Run::new();
    for key in ["le", "quantile", "__name__"] {
        let series = run.table.series(&server::REQUESTS_STARTED, run.shop, &[Attr::fixed(key, "1")]);
        assert_eq!(run.tick(&[(series, Number::Int(5))], &[]), [], "{key}");
    }
    assert_eq!(run.encoder.refused(), 3);
}

#[test]
fn an_instant_is_exported_once() {
    let table = SeriesTable::new();
    let mut encoder = Encoder::new(&config(1_000), false);
    let finding = crate::otlp::logs::tests::finding(Severity::Note);
    let tick = Tick { end: Stamp { mono_ns: 1, wall_ns: 1 }, ..Tick::default() };
    let totals = Adder::new();
    encoder.before(&tick, &table, &totals);
    assert_eq!(encoder.after(&tick, &table, &totals, &[finding], true).metrics.len(), 1);
    assert_eq!(encoder.rest(&table, &totals).metrics.len(), 0);
}

#[test]
fn with_full_detail_processes_leave_too() {
    let mut run = Run::new();
    let process = run.table.entity(Entity::new(EntityKind::Process, "7:1").with("process.pid", 7_i64));
    let series = run.table.series(&metrics::process::CPU_TIME, process, &[Attr::fixed("cpu.mode", "user")]);
    assert_eq!(run.tick(&[(series, Number::Int(SECOND))], &[]), []);
    run.encoder = Encoder::new(&config(1_000), true);
    assert_eq!(run.tick(&[(series, Number::Int(SECOND))], &[]).len(), 2);
}

#[test]
fn the_agents_own_counters_go_on_after_a_restart() {
    let mut run = Run::new();
    let me = run.table.entity(Entity::new(EntityKind::Agent, "perfwatch"));
    let series = run.table.series(&agent::TICKS_MISSED, me, &[]);
    run.tick(&[(series, Number::Int(3))], &[]);
    run.restart();
    let me = run.table.entity(Entity::new(EntityKind::Agent, "perfwatch"));
    let series = run.table.series(&agent::TICKS_MISSED, me, &[]);
    assert_eq!(run.tick(&[(series, Number::Int(1))], &[]), [point(&agent::TICKS_MISSED, 1_000, 1_002, 4.0)]);
}
