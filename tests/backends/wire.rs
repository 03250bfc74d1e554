//! What is on the wire: OTLP requests as a backend reads them.

use std::collections::BTreeMap;
use std::io::Read as _;

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data, number_data_point};
use prost::Message as _;

/// Attributes as text, by key.
pub(crate) type Attributes = BTreeMap<String, String>;

/// What kind of series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Gauge,
    Counter,
    Native,
    Bounded,
}

/// The value of a point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value {
    Number(f64),
    /// Count and sum.
    Distribution(u64, f64),
}

/// One series: the metric's name, unit and kind, and its point's attributes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) unit: String,
    pub(crate) kind: Kind,
    pub(crate) attributes: Attributes,
}

/// One point of it.
#[derive(Clone, Debug)]
pub(crate) struct Point {
    pub(crate) series: Series,
    pub(crate) description: String,
    pub(crate) start_ns: u64,
    pub(crate) time_ns: u64,
    pub(crate) value: Value,
}

/// The message of a body, whether it is compressed or not.
pub(crate) fn decode(body: &[u8], gzip: bool) -> Option<ExportMetricsServiceRequest> {
    let mut plain = Vec::new();
    let bytes = if gzip {
        GzDecoder::new(body).read_to_end(&mut plain).ok()?;
        &plain
    } else {
        body
    };
    ExportMetricsServiceRequest::decode(bytes).ok()
}

pub(crate) fn attributes(of: &[KeyValue]) -> Attributes {
    let text = |value: &KeyValue| match value.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        other => panic!("an attribute of another type: {other:?}"),
    };
    of.iter().map(|attribute| (attribute.key.clone(), text(attribute))).collect()
}

/// All points of a request, in its order.
pub(crate) fn points(request: &ExportMetricsServiceRequest) -> Vec<Point> {
    let resources = request.resource_metrics.iter();
    let metrics = resources.flat_map(|resource| &resource.scope_metrics).flat_map(|scope| &scope.metrics);
    metrics.flat_map(of_metric).collect()
}

fn of_metric(metric: &Metric) -> Vec<Point> {
    let point = |kind, of: &[KeyValue], (start_ns, time_ns), value| Point {
        series: Series { name: metric.name.clone(), unit: metric.unit.clone(), kind, attributes: attributes(of) },
        description: metric.description.clone(),
        start_ns,
        time_ns,
        value,
    };
    let number = |value: &Option<number_data_point::Value>| match value {
        Some(number_data_point::Value::AsInt(number)) => Value::Number(*number as f64),
        Some(number_data_point::Value::AsDouble(number)) => Value::Number(*number),
        None => panic!("a point without a value: {}", metric.name),
    };
    match metric.data.as_ref().expect("a metric has data") {
        Data::Gauge(gauge) => {
            let of = gauge.data_points.iter();
            of.map(|p| point(Kind::Gauge, &p.attributes, (0, p.time_unix_nano), number(&p.value))).collect()
        }
        Data::Sum(sum) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "{} is no counter", metric.name);
            let of = sum.data_points.iter();
            of.map(|p| {
                point(Kind::Counter, &p.attributes, (p.start_time_unix_nano, p.time_unix_nano), number(&p.value))
            })
            .collect()
        }
        Data::ExponentialHistogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 2, "{} is not cumulative", metric.name);
            let of = histogram.data_points.iter();
            of.map(|p| {
                let value = Value::Distribution(p.count, p.sum.unwrap_or_default());
                point(Kind::Native, &p.attributes, (p.start_time_unix_nano, p.time_unix_nano), value)
            })
            .collect()
        }
        Data::Histogram(histogram) => {
            assert_eq!(histogram.aggregation_temporality, 2, "{} is not cumulative", metric.name);
            let of = histogram.data_points.iter();
            of.map(|p| {
                let value = Value::Distribution(p.count, p.sum.unwrap_or_default());
                point(Kind::Bounded, &p.attributes, (p.start_time_unix_nano, p.time_unix_nano), value)
            })
            .collect()
        }
        Data::Summary(_) => panic!("{} is a summary", metric.name),
    }
}
