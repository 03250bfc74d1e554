use std::collections::HashMap;
use std::sync::Arc;

use perfwatch_model::{
    Attr, Bounded, Entity, EntityId, EntityKind, MetricDef, Number, Reason, Sample, SeriesId, SeriesTable, ServerTick,
    SlowRequest, SparseHdr, Stamp, Tick,
    metrics::{host, server},
};
use prost::Message as _;

use super::{Exposition, Format, Source, Total, Totals, message};

const SECOND: u64 = 1_000_000_000;
const CREATED: u64 = 1_800_000_000 * SECOND + 500;

#[derive(Default)]
struct Known {
    counters: HashMap<SeriesId, u128>,
    hdr: HashMap<SeriesId, SparseHdr>,
    bounded: HashMap<SeriesId, Bounded>,
}

impl Totals for Known {
    fn of(&self, series: SeriesId) -> Option<Total<'_>> {
        let counter = self.counters.get(&series).map(|total| Total::Whole(*total));
        let hdr = || self.hdr.get(&series).map(Total::Hdr);
        counter.or_else(hdr).or_else(|| self.bounded.get(&series).map(|total| Total::Bounded(total, CREATED)))
    }
}

/// One server with something of everything.
struct Scene {
    table: SeriesTable,
    server: EntityId,
    totals: Known,
    ticks: Vec<Arc<Tick>>,
}

fn tick(second: u64) -> Tick {
    let end = Stamp { mono_ns: second * SECOND, wall_ns: CREATED + second * SECOND };
    Tick { end, dt_ns: SECOND, ..Tick::default() }
}

impl Scene {
    fn new() -> Self {
        let mut table = SeriesTable::new();
        let server = table.entity(
            Entity::new(EntityKind::Server, "shop/1")
                .with("service.name", "sh\"o\\p\n".to_owned())
                .with("service.instance.id", "1"),
        );
        let mut totals = Known::default();
        let mut newest = tick(1);
        let gauge = table.series(&server::IN_FLIGHT, server, &[]);
        newest.values.push((gauge, Number::Float(1.5)));
        let counter = table.series(&server::REQUESTS, server, &[Attr::fixed("perfwatch.outcome", "completed")]);
        totals.counters.insert(counter, 7);
        let time = table.series(&server::STAGE_TIME, server, &[Attr::fixed("perfwatch.stage", "queue")]);
        totals.counters.insert(time, 2_500_000_000);
        let durations = table.series(&server::REQUEST_DURATION, server, &[]);
        let mut hdr = SparseHdr::new();
        for value in [0, 3_000_000, 3_000_000, 40_000_000, 200 * SECOND] {
            hdr.record(value);
        }
        totals.hdr.insert(durations, hdr);
        let sizes = table.series(&server::BATCH_SIZE, server, &[]);
        totals.bounded.insert(sizes, Bounded { bounds: vec![1.0, 4.0], counts: vec![2, 0, 3], sum: 31.0 });
        let mut about = ServerTick::empty(server);
        about.slow.push(SlowRequest {
            end_ns: SECOND - 250_000_000,
            duration_ns: 40_000_000,
            stage_ns: Default::default(),
            trace_id: Some([0xab; 16]),
            error: None,
            prompt_tokens: 0,
            generated_tokens: 0,
            first_token_ns: None,
        });
        newest.servers.push(about);
        newest.seal();
        Self { table, server, totals, ticks: vec![Arc::new(newest)] }
    }

    fn written(&self, format: Format) -> Vec<u8> {
        let resource = [("service.name".to_owned(), "perfwatch".to_owned()), ("host.name".to_owned(), "n7".to_owned())];
        let source = Source { table: &self.table, ticks: &self.ticks, totals: &self.totals, created_wall_ns: CREATED };
        Exposition::new(true, &resource).write(format, &source)
    }

    fn text(&self, format: Format) -> String {
        String::from_utf8(self.written(format)).expect("text")
    }
}

#[test]
fn bounds_are_written_as_every_client_writes_them() {
    let mut scene = Scene::new();
    let entity = scene.table.entity(Entity::new(EntityKind::Server, "wide"));
    let wide = scene.table.series(&server::BATCH_SIZE, entity, &[]);
    let bounds = vec![2.5e-5, 1e-4, 0.5, 10.0, 999_999.0, 1e6, 1_234_567.0, 1e21];
    scene.totals.bounded.insert(wide, Bounded { counts: vec![1; bounds.len() + 1], bounds, sum: 31.0 });
    let told = |text: &str| -> Vec<String> {
        let lines =
            text.lines().filter(|line| line.starts_with("perfwatch_server_batch_size_bucket{perfwatch_server_id"));
        lines
            .map(|line| line.split("le=\"").nth(1).expect("a bound").split('"').next().expect("text").to_owned())
            .collect()
    };
    let text = ["2.5e-05", "0.0001", "0.5", "10", "999999", "1e+06", "1.234567e+06", "1e+21", "+Inf"];
    assert_eq!(told(&scene.text(Format::Text)), text);
    let pointed = ["2.5e-05", "0.0001", "0.5", "10.0", "999999.0", "1e+06", "1.234567e+06", "1e+21", "+Inf"];
    let open = scene.text(Format::OpenMetrics);
    assert_eq!(told(&open), pointed);
    assert!(open.starts_with("# HELP target ") || open.starts_with("# TYPE target "), "{open}");
}

const LABELS: &str = r#"perfwatch_server_instance="1",perfwatch_server_name="sh\"o\\p\n""#;

#[test]
fn text_names_types_and_escapes_everything() {
    let text = Scene::new().text(Format::Text);
    for line in [
        "# HELP perfwatch_server_requests_total Requests that ended, by outcome.".to_owned(),
        "# TYPE perfwatch_server_requests_total counter".to_owned(),
        format!("perfwatch_server_requests_total{{perfwatch_outcome=\"completed\",{LABELS}}} 7"),
        format!("perfwatch_server_stage_time_seconds_total{{{LABELS},perfwatch_stage=\"queue\"}} 2.5"),
        "# TYPE perfwatch_server_requests_in_flight gauge".to_owned(),
        format!("perfwatch_server_requests_in_flight{{{LABELS}}} 1.5"),
        "# TYPE perfwatch_server_request_duration_seconds histogram".to_owned(),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"1e-05\"}} 1"),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"0.0025\"}} 1"),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"0.005\"}} 3"),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"0.05\"}} 4"),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"100\"}} 4"),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"+Inf\"}} 5"),
        format!("perfwatch_server_request_duration_seconds_sum{{{LABELS}}} 200.046"),
        format!("perfwatch_server_request_duration_seconds_count{{{LABELS}}} 5"),
        format!("perfwatch_server_batch_size_bucket{{{LABELS},le=\"1\"}} 2"),
        format!("perfwatch_server_batch_size_bucket{{{LABELS},le=\"4\"}} 2"),
        format!("perfwatch_server_batch_size_bucket{{{LABELS},le=\"+Inf\"}} 5"),
        "target_info{host_name=\"n7\",service_name=\"perfwatch\"} 1".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
    }
    assert!(!text.contains("_created") && !text.contains("# {") && !text.contains("EOF") && !text.contains("UNIT"));
}

#[test]
fn openmetrics_has_units_times_of_creation_exemplars_and_an_end() {
    let text = Scene::new().text(Format::OpenMetrics);
    for line in [
        "# TYPE perfwatch_server_requests counter".to_owned(),
        format!("perfwatch_server_requests_total{{perfwatch_outcome=\"completed\",{LABELS}}} 7"),
        format!("perfwatch_server_requests_created{{perfwatch_outcome=\"completed\",{LABELS}}} 1800000000.000000500"),
        "# UNIT perfwatch_server_stage_time_seconds seconds".to_owned(),
        "# UNIT perfwatch_server_request_duration_seconds seconds".to_owned(),
        // 40 ms, a quarter of a second before the tick's end.
        format!(
            "perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"0.05\"}} 4 # {{trace_id=\"{}\"}} 0.04 \
             1800000000.750000500",
            "ab".repeat(16)
        ),
        format!("perfwatch_server_request_duration_seconds_bucket{{{LABELS},le=\"1.0\"}} 4"),
        format!("perfwatch_server_request_duration_seconds_created{{{LABELS}}} 1800000000.000000500"),
        "# TYPE target info".to_owned(),
    ] {
        assert!(text.lines().any(|found| found == line), "{line}\n---\n{text}");
    }
    assert!(text.ends_with("# EOF\n") && text.matches("# EOF").count() == 1);
    assert_eq!(text.matches(" # {").count(), 1, "one request, one exemplar");
}

/// The families of an exposition in protobuf.
fn families(mut bytes: &[u8]) -> Vec<message::MetricFamily> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        out.push(message::MetricFamily::decode_length_delimited(&mut bytes).expect("a message"));
    }
    out
}

#[test]
fn native_histograms_hold_each_value_in_its_bucket() {
    let scene = Scene::new();
    let families = families(&scene.written(Format::Protobuf));
    let find = |name: &str| families.iter().find(|family| family.name == name).expect(name);
    assert_eq!(
        find("perfwatch_server_requests_total").metric[0].counter.as_ref().map(|counter| counter.value),
        Some(7.0)
    );
    let family = find("perfwatch_server_request_duration_seconds");
    assert_eq!((family.kind, family.unit.as_str()), (message::MetricType::Histogram as i32, "seconds"));
    let histogram = family.metric[0].histogram.as_ref().expect("a histogram");
    assert_eq!((histogram.sample_count, histogram.zero_count, histogram.schema), (5, 1, 5));
    let created = histogram.created_timestamp.expect("a time of creation");
    assert_eq!((created.seconds, created.nanos), (1_800_000_000, 500));
    assert_eq!(histogram.exemplars.len(), 1);
    assert_eq!(histogram.bucket.last().map(|bucket| bucket.cumulative_count), Some(5));
    // Prometheus reads it like this: bucket i reaches from base^(i-1) to base^i.
    let base = f64::exp2(f64::exp2(-f64::from(histogram.schema)));
    let (mut index, mut count, mut found) = (0, 0, Vec::new());
    let mut deltas = histogram.positive_delta.iter();
    for span in &histogram.positive_span {
        index += span.offset;
        for _ in 0..span.length {
            count += deltas.next().expect("a delta for each bucket");
            if count > 0 {
                found.push((base.powi(index - 1), base.powi(index), count));
            }
            index += 1;
        }
    }
    assert!(deltas.next().is_none());
    assert_eq!(found.len(), 3);
    for ((low, high, count), (value, times)) in found.iter().zip([(0.003, 2), (0.04, 1), (200.0, 1)]) {
        // A value moves by half an HDR bucket at most.
        assert!(low * 0.996 < value && value < high * 1.004 && *count == times, "{value} in {low}..{high}: {count}");
    }
    let sizes = find("perfwatch_server_batch_size").metric[0].histogram.as_ref().expect("a histogram");
    assert!(sizes.positive_span.is_empty() && sizes.zero_threshold == 0.0, "a server's own bounds stay as they are");
    let cumulative: Vec<_> = sizes.bucket.iter().map(|bucket| (bucket.upper_bound, bucket.cumulative_count)).collect();
    assert_eq!(cumulative, [(1.0, 2), (4.0, 2), (f64::INFINITY, 5)]);
}

#[test]
fn a_distribution_without_values_is_native_too() {
    let mut scene = Scene::new();
    for hdr in scene.totals.hdr.values_mut() {
        *hdr = SparseHdr::new();
    }
    let families = families(&scene.written(Format::Protobuf));
    let family = families.iter().find(|family| family.name == "perfwatch_server_request_duration_seconds").expect("it");
    let histogram = family.metric[0].histogram.as_ref().expect("a histogram");
    assert_eq!((histogram.sample_count, histogram.positive_span.len()), (0, 1));
}

#[test]
fn nothing_is_written_before_something_is_known() {
    let mut scene = Scene::new();
    scene.ticks.clear();
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        assert!(scene.written(format).is_empty());
    }
    let bare = Scene { totals: Known::default(), ticks: vec![Arc::new(tick(1))], ..scene };
    for format in [Format::Text, Format::OpenMetrics, Format::Protobuf] {
        assert!(bare.written(format).is_empty(), "neither families without samples nor target_info alone");
    }
}

#[test]
fn a_gauge_stands_until_its_probe_says_that_it_is_gone() {
    let mut scene = Scene::new();
    scene.ticks.push(Arc::new(tick(2)));
    assert!(scene.text(Format::Text).contains("in_flight{"), "a probe that runs every other second");
    let mut gone = tick(3);
    Sample::new(&mut scene.table, &mut gone).unavailable(&server::IN_FLIGHT, scene.server, Reason::new("gone", ""));
    scene.ticks.push(Arc::new(gone));
    assert!(!scene.text(Format::Text).contains("in_flight{"));
}

#[test]
fn a_series_that_retired_is_told_no_more() {
    let mut scene = Scene::new();
    let mut exposition = Exposition::new(true, &[]);
    let mut write = |scene: &Scene| {
        let source = Source { table: &scene.table, ticks: &scene.ticks, totals: &scene.totals, created_wall_ns: 0 };
        exposition.write(Format::Text, &source)
    };
    assert!(!write(&scene).is_empty());
    scene.table.retire(scene.server);
    assert!(write(&scene).is_empty());
}

#[test]
fn what_leaves_only_in_full_is_told_only_in_full() {
    static DETAIL: MetricDef = MetricDef::gauge("test.detail", perfwatch_model::Unit::Ratio, "B.").full();
    let mut table = SeriesTable::new();
    let here = table.entity(Entity::new(EntityKind::Host, "here"));
    let mut tick = tick(1);
    tick.values.push((table.series(&DETAIL, here, &[]), Number::Float(0.5)));
    tick.values.push((table.series(&host::CPU_UTILIZATION, here, &[]), Number::Float(0.25)));
    tick.seal();
    let (ticks, totals) = ([Arc::new(tick)], Known::default());
    let write = |full| {
        let source = Source { table: &table, ticks: &ticks, totals: &totals, created_wall_ns: 0 };
        String::from_utf8(Exposition::new(full, &[]).write(Format::Text, &source)).expect("text")
    };
    assert!(write(false).contains("\nsystem_cpu_utilization_ratio 0.25\n") && !write(false).contains("test_detail"));
    assert!(write(true).contains("\ntest_detail_ratio 0.5\n"));
}
