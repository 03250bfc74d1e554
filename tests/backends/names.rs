//! Every series that leaves, and how backends have it: name, unit, type, labels, and each value, once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use perfwatch_model::prometheus::{label_name, metric_name};
use perfwatch_model::{Instrument, Level, MetricDef, Unit, metrics};
use perfwatch_sdk::Server;
use perfwatch_tests::{Agent, wait_for};

use crate::PERFWATCH;
use crate::peers::{self, PROMETHEUS_OTLP, Peer, VICTORIA_OTLP};
use crate::proxy::Proxy;
use crate::quantiles::{self, LATENCY};
use crate::sequence::{record, tokens};
use crate::wire::{Attributes, Kind, Point, Value};

/// How long the load lasts.
const LOAD: Duration = Duration::from_secs(4);

/// What a backend has of a series: milliseconds and value.
type Samples = BTreeMap<u64, Sample>;

/// A number, or count and sum of a native histogram, as the text that they are told in would read.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sample {
    Number(f64),
    Native(f64, f64),
}

/// Runs a real agent (a host, a GPU whose driver is a stand-in, an SDK server under load) that exports everything to a
/// backend, through a proxy that fails nothing and notes all; returns what the backend took and the resource.
pub(crate) fn run(backend: SocketAddr, path: &str) -> (Vec<Point>, Attributes) {
    let proxy = Proxy::before(backend);
    let dir = tempfile::tempdir().expect("a folder");
    let library = fake_nvml::install(dir.path(), include_str!("../fixtures/one-gpu.json")).expect("a scenario");
    let endpoint = format!("http://{}{path}/v1/metrics", proxy.address);
    let agent = Agent::spawn(
        PERFWATCH,
        &["--nvml-lib", library.to_str().expect("UTF-8")],
        &[
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", &endpoint),
            ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
            ("PERFWATCH_OTLP_LEVEL", "full"),
        ],
    );
    let server = Server::builder("loaded").instance("1").socket(agent.dir().join("probe.sock")).start();
    let (values, latency) = (tokens(&server), server.histogram(LATENCY, Unit::Seconds));
    let (begin, mut step) = (Instant::now(), 0);
    for value in quantiles::values() {
        latency.record(value);
    }
    while begin.elapsed() < LOAD {
        record(&server, &values, (1, step));
        step += 1;
        std::thread::sleep(Duration::from_micros(500));
    }
    wait_for("the last receipt", || server.flush_now().then_some(()));
    server.close();
    let counted = |points: &[Point]| {
        let newest = points.iter().rev().find(|point| point.series.name == "perfwatch.server.requests.started")?;
        (newest.value == Value::Number(step as f64)).then_some(())
    };
    wait_for("the last request to leave", || counted(&proxy.taken()));
    let (status, stderr) = agent.terminate();
    assert!(status.success(), "{stderr}");
    let lost = proxy.points().into_iter().filter(|(fate, _)| !matches!(fate, crate::proxy::Fate::Backend(200..=299)));
    let lost: Vec<_> = lost.map(|(fate, points)| (fate, points.len())).collect();
    assert!(lost.is_empty(), "the backend did not take all: {lost:?}");
    (proxy.taken(), proxy.resource().expect("requests came"))
}

/// The metric as the catalogue has it, or as the test made it.
fn definition(name: &str) -> MetricDef {
    match name {
        "llm.tokens" => MetricDef::histogram("llm.tokens", Unit::Count("{token}"), ""),
        LATENCY => MetricDef::histogram(LATENCY, Unit::Seconds, ""),
        name => *metrics::find(name).unwrap_or_else(|| panic!("{name} is not in the catalogue")),
    }
}

fn is_ours(name: &str) -> bool {
    metrics::find(name).is_some()
}

/// What is on the wire has the catalogue's names, units, types and descriptions; gauges, counters and histograms among it.
fn assert_as_in_the_catalogue(points: &[Point]) {
    let mut kinds = BTreeSet::new();
    for Point { series, description, .. } in points {
        let metric = definition(&series.name);
        assert_eq!(series.unit, metric.unit.ucum(), "{}", series.name);
        let instrument = match series.kind {
            Kind::Gauge => Instrument::Gauge,
            Kind::Counter => Instrument::Counter,
            Kind::Native | Kind::Bounded => Instrument::Histogram,
        };
        assert_eq!(instrument, metric.instrument, "{}", series.name);
        if is_ours(&series.name) {
            assert_eq!(description, metric.brief, "{}", series.name);
        }
        kinds.insert((series.kind, metric.level == Level::Full));
    }
    for expected in [(Kind::Gauge, false), (Kind::Counter, false), (Kind::Native, false), (Kind::Gauge, true)] {
        assert!(kinds.contains(&expected), "no {expected:?} among {kinds:?}");
    }
}

/// Every cumulative stream begins with a point of 0 at its start: without it a backend does not count what came first.
fn assert_begins_at_zero(points: &[Point]) {
    let mut begun = BTreeSet::new();
    for point in points.iter().filter(|point| point.series.kind != Kind::Gauge) {
        if begun.insert((&point.series, point.start_ns)) {
            let zero = matches!(point.value, Value::Number(0.0) | Value::Distribution(0, 0.0));
            assert!(zero && point.time_ns == point.start_ns, "{point:?}");
        }
    }
}

/// Milliseconds of a stamp: backends keep no finer ones.
fn ms(point: &Point) -> u64 {
    point.time_ns / 1_000_000
}

/// Type and unit as Prometheus names them, where it is told to make labels of them.
fn type_and_unit(metric: &MetricDef) -> Attributes {
    let kind = match metric.instrument {
        Instrument::Gauge => "gauge",
        Instrument::Counter => "counter",
        Instrument::Histogram => "histogram",
    };
    let unit = match metric.unit {
        Unit::Ratio | Unit::Count(_) => "",
        Unit::Seconds => "seconds",
        Unit::Bytes => "bytes",
        Unit::Hertz => "hertz",
        Unit::Watts => "watts",
        Unit::Joules => "joules",
        Unit::Celsius => "celsius",
    };
    let labels = [("__type__", kind), ("__unit__", unit)].into_iter().filter(|(_, value)| !value.is_empty());
    labels.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// What Prometheus must have, by name and labels.
fn expected(points: &[Point], resource: &Attributes, typed: bool) -> BTreeMap<Attributes, Samples> {
    let mut of_resource = Attributes::new();
    for (key, label) in [("service.name", "job"), ("service.instance.id", "instance"), ("host.name", "host_name")] {
        of_resource.extend(resource.get(key).map(|value| (label.to_owned(), value.clone())));
    }
    let mut all = BTreeMap::<Attributes, Samples>::new();
    for point in points {
        let mut labels = of_resource.clone();
        labels.extend(point.series.attributes.iter().map(|(key, value)| (label_name(key), value.clone())));
        let metric = definition(&point.series.name);
        labels.insert("__name__".into(), metric_name(&metric));
        if typed {
            labels.extend(type_and_unit(&metric));
        }
        let sample = match point.value {
            Value::Number(number) => Sample::Number(number),
            Value::Distribution(count, sum) => Sample::Native(count as f64, sum),
        };
        let before = all.entry(labels).or_default().insert(ms(point), sample);
        assert!(before.is_none_or(|before| before == sample), "two values at one time: {point:?}");
    }
    all
}

/// All that Prometheus has.
fn stored(prometheus: &Peer) -> BTreeMap<Attributes, Samples> {
    let series = prometheus.query("{job=\"perfwatch\"}[30m]");
    let number = |value: &serde_json::Value| value.as_str().expect("a text").parse::<f64>().expect("a number");
    let time = |value: &serde_json::Value| (value.as_f64().expect("seconds") * 1000.0).round() as u64;
    let all = series.iter().map(|series| {
        let labels: Attributes = serde_json::from_value(series["metric"].clone()).expect("labels");
        let numbers = series["values"].as_array().into_iter().flatten();
        let numbers = numbers.map(|pair| (time(&pair[0]), Sample::Number(number(&pair[1]))));
        let natives = series["histograms"].as_array().into_iter().flatten();
        let natives = natives.map(|pair| {
            let (count, sum) = (number(&pair[1]["count"]), number(&pair[1]["sum"]));
            (time(&pair[0]), Sample::Native(count, sum))
        });
        (labels, numbers.chain(natives).collect())
    });
    all.filter(|(labels, _): &(Attributes, Samples)| labels["__name__"] != "target_info").collect()
}

/// Every point that left is there once, under the name and labels that the catalogue's translation gives, and nothing else.
fn assert_all_is_in(prometheus: &Peer, points: &[Point], resource: &Attributes, typed: bool) {
    let expected = expected(points, resource, typed);
    let complete = |stored: &BTreeMap<Attributes, Samples>| *stored == expected;
    let end = Instant::now() + Duration::from_secs(20);
    let mut there = stored(prometheus);
    while !complete(&there) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(200));
        there = stored(prometheus);
    }
    let missing: Vec<_> = expected.keys().filter(|labels| !there.contains_key(*labels)).take(5).collect();
    let more: Vec<_> = there.keys().filter(|labels| !expected.contains_key(*labels)).take(5).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing {missing:#?}, and there are {more:#?}");
    for (labels, samples) in &expected {
        assert_eq!(&there[labels], samples, "{labels:?}");
    }
    let samples: usize = expected.values().map(BTreeMap::len).sum();
    println!("{} series, {samples} samples: each is there once, with its name, labels and value", expected.len());
}

#[test]
fn everything_arrives_in_prometheus_with_the_names_of_the_catalogue() {
    let Some(prometheus) = peers::prometheus() else { return };
    let (points, resource) = run(prometheus.address, PROMETHEUS_OTLP);
    assert_as_in_the_catalogue(&points);
    assert_begins_at_zero(&points);
    assert_all_is_in(&prometheus, &points, &resource, false);
    quantiles::assert_in_prometheus(&prometheus);
}

#[test]
fn everything_arrives_through_the_collector_with_types_and_units() {
    // The one way to see a type and a unit that came over OTLP: told so, Prometheus makes labels of them.
    let Some(prometheus) = peers::prometheus_and(",type-and-unit-labels") else { return };
    let Some(collector) = peers::collector(prometheus.address) else { return };
    let (points, resource) = run(collector.address, "");
    assert_all_is_in(&prometheus, &points, &resource, true);
    quantiles::assert_in_prometheus(&prometheus);
}

#[test]
fn everything_arrives_in_victoria_metrics_which_decodes_otlp_on_its_own() {
    let Some(victoria) = peers::victoria_metrics() else { return };
    let (points, resource) = run(victoria.address, VICTORIA_OTLP);
    let mut newest = BTreeMap::<(String, Attributes), (f64, Option<f64>)>::new();
    for point in &points {
        let labels = point.series.attributes.iter().map(|(key, value)| (label_name(key), value.clone())).collect();
        let value = match point.value {
            Value::Number(number) => (number, None),
            Value::Distribution(count, sum) => (count as f64, Some(sum)),
        };
        newest.insert((metric_name(&definition(&point.series.name)), labels), value);
    }
    let of_resource: BTreeSet<String> = resource.keys().map(|key| label_name(key)).collect();
    let told = || {
        let series = victoria.query("last_over_time({service_name=\"perfwatch\"}[30m])");
        let all = series.iter().map(|series| {
            let mut labels: Attributes = serde_json::from_value(series["metric"].clone()).expect("labels");
            let name = labels.remove("__name__").expect("it keeps names");
            // Of buckets all that matters is below; the sender's resource and scope stand on every series.
            labels.retain(|key, _| !of_resource.contains(key) && !key.starts_with("scope_"));
            ((name, labels), series["value"][1].as_str().expect("a text").parse::<f64>().expect("a number"))
        });
        all.filter(|((_, labels), _)| !labels.contains_key("vmrange")).collect::<BTreeMap<_, _>>()
    };
    let mut expected = BTreeMap::new();
    for ((name, labels), (value, sum)) in newest {
        let Some(sum) = sum else {
            expected.insert((name, labels), value);
            continue;
        };
        expected.insert((format!("{name}_count"), labels.clone()), value);
        expected.insert((format!("{name}_sum"), labels), sum);
    }
    let end = Instant::now() + Duration::from_secs(20);
    // It keeps decimals, a block of samples at one scale: whole numbers are exact, others nearly.
    let same = |told: f64, value: f64| (told - value).abs() <= value.abs() * 1e-10;
    let apart = |told: &BTreeMap<_, f64>| -> Vec<_> {
        let differs = |(key, value): &(&_, &f64)| !told.get(*key).is_some_and(|told| same(*told, **value));
        expected.iter().filter(differs).map(|(key, value)| format!("{key:?} {value}")).take(5).collect()
    };
    while !apart(&told()).is_empty() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(300));
    }
    let told = told();
    let apart = apart(&told);
    let more: Vec<_> = told.iter().filter(|(key, _)| !expected.contains_key(*key)).take(5).collect();
    assert!(apart.is_empty() && more.is_empty(), "expected {apart:#?}, and there are {more:#?}");
    println!("VictoriaMetrics: {} series, each with its name, labels and last value", expected.len());
    quantiles::assert_in_victoria_metrics(&victoria);
}
