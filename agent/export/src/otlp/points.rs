//! Data points as OTLP writes them.

use opentelemetry_proto::tonic::{
    common::v1::KeyValue,
    metrics::v1::{
        AggregationTemporality, ExponentialHistogram, ExponentialHistogramDataPoint, Gauge, Histogram,
        HistogramDataPoint, Metric, NumberDataPoint, Sum, exponential_histogram_data_point::Buckets, metric::Data,
        number_data_point::Value,
    },
};
use perfwatch_model::{Bounded, MetricDef, Number, SparseHdr, Unit};
use prost::Message as _;

use super::exphist;

/// The interval a cumulative point covers, in nanoseconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) start: u64,
    pub(crate) end: u64,
}

/// A point of any kind. Its variant decides the kind of metric it can be part of.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Point {
    Gauge(NumberDataPoint),
    Sum(NumberDataPoint),
    Exponential(ExponentialHistogramDataPoint),
    Explicit(HistogramDataPoint),
}

impl Point {
    /// The mean of a gauge, in the unit that leaves.
    pub(crate) fn gauge(attributes: &[KeyValue], time: u64, value: f64) -> Self {
        Self::Gauge(NumberDataPoint {
            attributes: attributes.to_vec(),
            time_unix_nano: time,
            value: Some(Value::AsDouble(value)),
            ..NumberDataPoint::default()
        })
    }

    /// A running total. Stays an integer where the unit leaves it one and OTLP's signed 64 bits hold it.
    pub(crate) fn sum(attributes: &[KeyValue], span: Span, total: Number, unit: Unit) -> Self {
        let whole = total.as_int().filter(|_| unit.scale().to_bits() == 1.0_f64.to_bits());
        let value = match whole.map(i64::try_from) {
            Some(Ok(whole)) => Value::AsInt(whole),
            _ => Value::AsDouble(unit.outside(total)),
        };
        Self::Sum(NumberDataPoint {
            attributes: attributes.to_vec(),
            start_time_unix_nano: span.start,
            time_unix_nano: span.end,
            value: Some(value),
            ..NumberDataPoint::default()
        })
    }

    /// A cumulative histogram of ours.
    pub(crate) fn exponential(attributes: &[KeyValue], span: Span, total: &SparseHdr, unit: Unit) -> Self {
        let out = exphist::from_sparse(total, unit.scale());
        Self::Exponential(ExponentialHistogramDataPoint {
            attributes: attributes.to_vec(),
            start_time_unix_nano: span.start,
            time_unix_nano: span.end,
            count: out.count,
            sum: Some(out.sum),
            scale: out.scale,
            zero_count: out.zero_count,
            positive: Some(Buckets { offset: out.offset, bucket_counts: out.counts }),
            min: out.range.map(|(min, _)| min),
            max: out.range.map(|(_, max)| max),
            ..ExponentialHistogramDataPoint::default()
        })
    }

    /// A cumulative histogram with its server's bounds.
    pub(crate) fn explicit(attributes: &[KeyValue], span: Span, total: &Bounded) -> Self {
        Self::Explicit(HistogramDataPoint {
            attributes: attributes.to_vec(),
            start_time_unix_nano: span.start,
            time_unix_nano: span.end,
            count: total.counts.iter().fold(0, |sum, count| sum.saturating_add(*count)),
            sum: Some(total.sum),
            bucket_counts: total.counts.clone(),
            explicit_bounds: total.bounds.clone(),
            ..HistogramDataPoint::default()
        })
    }

    /// Bytes of the point on the wire, without its frame.
    pub(crate) fn encoded_len(&self) -> usize {
        match self {
            Self::Gauge(point) | Self::Sum(point) => point.encoded_len(),
            Self::Exponential(point) => point.encoded_len(),
            Self::Explicit(point) => point.encoded_len(),
        }
    }

    /// Adds the point to `metric` if that is of its kind; else hands it back.
    pub(crate) fn join(self, metric: &mut Metric) -> Option<Self> {
        match (self, metric.data.as_mut()) {
            (Self::Gauge(point), Some(Data::Gauge(data))) => data.data_points.push(point),
            (Self::Sum(point), Some(Data::Sum(data))) => data.data_points.push(point),
            (Self::Exponential(point), Some(Data::ExponentialHistogram(data))) => data.data_points.push(point),
            (Self::Explicit(point), Some(Data::Histogram(data))) => data.data_points.push(point),
            (point, _) => return Some(point),
        }
        None
    }

    /// A metric with this point alone.
    pub(crate) fn into_metric(self, metric: &MetricDef) -> Metric {
        let aggregation_temporality = AggregationTemporality::Cumulative as i32;
        let data = match self {
            Self::Gauge(point) => Data::Gauge(Gauge { data_points: vec![point] }),
            Self::Sum(point) => {
                Data::Sum(Sum { data_points: vec![point], aggregation_temporality, is_monotonic: true })
            }
            Self::Exponential(point) => {
                Data::ExponentialHistogram(ExponentialHistogram { data_points: vec![point], aggregation_temporality })
            }
            Self::Explicit(point) => Data::Histogram(Histogram { data_points: vec![point], aggregation_temporality }),
        };
        Metric {
            name: metric.name.to_owned(),
            description: metric.brief.to_owned(),
            unit: metric.unit.ucum().to_owned(),
            data: Some(data),
            ..Metric::default()
        }
    }
}
