//! OTLP requests made by hand: what no perfwatch would send among them.

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram, HistogramDataPoint, Metric,
    NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, exemplar, exponential_histogram_data_point::Buckets,
    metric::Data, number_data_point::Value,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use crate::http;
use crate::peers::{PROMETHEUS_OTLP, Peer};

pub(crate) const CUMULATIVE: i32 = 2;
pub(crate) const DELTA: i32 = 1;

/// Seconds since the epoch, now.
pub(crate) fn now() -> f64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    now.tv_sec as f64
}

fn ns(seconds: f64) -> u64 {
    (seconds * 1e9) as u64
}

pub(crate) fn text(key: &str, value: &str) -> KeyValue {
    let value = AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) };
    KeyValue { key: key.to_owned(), value: Some(value), ..KeyValue::default() }
}

fn metric(name: &str, data: Data) -> Metric {
    Metric { name: name.to_owned(), data: Some(data), ..Metric::default() }
}

fn number(at: f64, value: f64) -> NumberDataPoint {
    NumberDataPoint { time_unix_nano: ns(at), value: Some(Value::AsDouble(value)), ..NumberDataPoint::default() }
}

pub(crate) fn gauge(name: &str, at: f64, value: f64) -> Metric {
    metric(name, Data::Gauge(Gauge { data_points: vec![number(at, value)] }))
}

/// A counter's points: when it began, then when and how much.
pub(crate) fn sum(name: &str, temporality: i32, start: f64, points: &[(f64, f64)]) -> Metric {
    let point = |(at, value): &(f64, f64)| NumberDataPoint { start_time_unix_nano: ns(start), ..number(*at, *value) };
    let data_points = points.iter().map(point).collect();
    metric(name, Data::Sum(Sum { data_points, aggregation_temporality: temporality, is_monotonic: true }))
}

/// An exponential histogram with these buckets from index 0 on.
pub(crate) fn native(name: &str, temporality: i32, scale: i32, at: f64, counts: &[u64]) -> Metric {
    let point = ExponentialHistogramDataPoint {
        start_time_unix_nano: ns(at - 60.0),
        time_unix_nano: ns(at),
        count: counts.iter().sum(),
        sum: Some(1.0),
        scale,
        positive: Some(Buckets { offset: 0, bucket_counts: counts.to_vec() }),
        ..ExponentialHistogramDataPoint::default()
    };
    let data = ExponentialHistogram { data_points: vec![point], aggregation_temporality: temporality };
    metric(name, Data::ExponentialHistogram(data))
}

/// An explicit-bounds histogram of one value, with these attributes.
pub(crate) fn bounded(name: &str, at: f64, attributes: Vec<KeyValue>) -> Metric {
    let point = HistogramDataPoint {
        time_unix_nano: ns(at),
        count: 1,
        sum: Some(1.0),
        bucket_counts: vec![1, 0],
        explicit_bounds: vec![2.0],
        attributes,
        ..HistogramDataPoint::default()
    };
    metric(name, Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality: CUMULATIVE }))
}

/// The same counter with an exemplar on its last point.
pub(crate) fn with_exemplar(mut of: Metric, at: f64) -> Metric {
    if let Some(Data::Sum(sum)) = &mut of.data {
        let exemplar = Exemplar {
            time_unix_nano: ns(at),
            trace_id: vec![7; 16],
            span_id: vec![7; 8],
            value: Some(exemplar::Value::AsDouble(1.0)),
            ..Exemplar::default()
        };
        sum.data_points.last_mut().expect("it has points").exemplars.push(exemplar);
    }
    of
}

/// A request of one resource. It has a `version`, so that Prometheus makes a `target_info` of it.
pub(crate) fn request(instance: &str, metrics: Vec<Metric>) -> ExportMetricsServiceRequest {
    let attributes = vec![text("service.name", "table"), text("service.instance.id", instance), text("version", "1")];
    let scope_metrics = vec![ScopeMetrics { metrics, ..ScopeMetrics::default() }];
    let resource = Some(Resource { attributes, ..Resource::default() });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics { resource, scope_metrics, ..ResourceMetrics::default() }],
    }
}

/// Sends it; status and, of an error, the words that say what it is.
pub(crate) fn post(to: &Peer, instance: &str, metrics: Vec<Metric>) -> String {
    post_as(to, &request(instance, metrics).encode_to_vec(), "Content-Type: application/x-protobuf\r\n")
}

pub(crate) fn post_as(to: &Peer, body: &[u8], headers: &str) -> String {
    match http::send(to.address, "POST", &format!("{PROMETHEUS_OTLP}/v1/metrics"), headers, body) {
        Ok(answer) if answer.status == 200 && answer.body.is_empty() => "200".to_owned(),
        Ok(answer) => {
            // A message twice, in protobuf: once as it is and once as its detail.
            let text: String = answer.text().chars().filter(|c| (' '..='~').contains(c)).collect();
            let (text, half) = (text.trim(), text.trim().len() / 2);
            let once = if text.is_char_boundary(half) && text[..half] == text[half..] { &text[..half] } else { text };
            format!("{} {once}", answer.status)
        }
        Err(error) => error.to_string(),
    }
}
