//! Metrics: each point finds its series, within the limits.

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, metric::Data, number_data_point,
};
use perfwatch_model::{Attr, AttrValue, Instrument, MetricDef};

use super::book::{Refused, points_of};
use super::exponential::Exponential;
use super::metered;
use super::names::Names;
use super::resource;
use super::server::Server;
use super::stream::{self, Kind, Span, Stream, Taken, Temporality};
use super::units::Scale;

/// Series of one server. A distribution counts for one more with every 64 buckets.
const MAX_SERVER_SERIES: usize = 2_000;
/// Series of all servers together.
const MAX_SERIES: usize = 10_000;
/// Buckets up to which a distribution may go into the overflow series of its metric: these are beyond the limits, and there
/// are as many as metrics.
const MAX_OVERFLOW_WEIGHT: usize = 4;
/// Attributes of a series; OpenTelemetry's own limit is 128.
const MAX_ATTRIBUTES: usize = 32;
/// What OpenTelemetry's SDKs call the series in which the excess goes.
const OVERFLOW: Attr = Attr::fixed("otel.metric.overflow", "true");
const NO_ROOM: &str = "the limit of series is reached: 2000 of a server, 10000 of all";
const FULL_METRIC: &str = "a metric has no data, or is a summary, whose quantiles cannot be added up";
const NO_TEMPORALITY: &str = "a metric does not say whether it is delta or cumulative";

/// Takes the metrics of one resource.
pub(super) struct Reader<'a> {
    pub(super) server: &'a mut Server,
    pub(super) names: &'a mut Names,
    /// Series of all other servers.
    pub(super) others: usize,
    pub(super) refused: &'a mut Refused,
    /// Points refused because of the limit of series.
    pub(super) beyond: u64,
}

/// What all points of a metric share.
#[derive(Clone, Copy)]
struct About {
    metric: &'static MetricDef,
    scale: Scale,
    kind: Kind,
    temporality: Temporality,
}

impl Reader<'_> {
    pub(super) fn take(&mut self, metric: &Metric) {
        let points = points_of(metric);
        let gauge = Ok(Temporality::Cumulative);
        let (kind, temporality) = match &metric.data {
            Some(Data::Gauge(_)) => (Kind::Gauge, gauge),
            Some(Data::Sum(sum)) if sum.is_monotonic => (Kind::Counter, temporality(sum.aggregation_temporality)),
            Some(Data::Sum(sum)) => (Kind::Gauge, temporality(sum.aggregation_temporality)),
            Some(Data::Histogram(data)) => (Kind::Explicit, temporality(data.aggregation_temporality)),
            Some(Data::ExponentialHistogram(data)) => (Kind::Exponential, temporality(data.aggregation_temporality)),
            Some(Data::Summary(_)) | None => return self.refused.add(points.max(1), FULL_METRIC),
        };
        if points == 0 {
            // Nothing to keep, and no reason to keep its name.
            return;
        }
        let instrument = match kind {
            Kind::Gauge => Instrument::Gauge,
            Kind::Counter => Instrument::Counter,
            Kind::Explicit | Kind::Exponential => Instrument::Histogram,
        };
        let about = temporality.map_err(str::to_owned).and_then(|temporality| {
            let (metric, scale) = self.names.metric(&metric.name, &metric.unit, instrument)?;
            Ok(About { metric, scale, kind, temporality })
        });
        let about = match about {
            Ok(about) => about,
            Err(why) => return self.refused.add(points, &why),
        };
        match &metric.data {
            Some(Data::Gauge(data)) => data.data_points.iter().for_each(|point| self.number(about, point)),
            Some(Data::Sum(data)) => data.data_points.iter().for_each(|point| self.number(about, point)),
            Some(Data::Histogram(data)) => data.data_points.iter().for_each(|point| {
                let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
                let since = self.server.since_ns;
                let buckets = point.bucket_counts.len();
                self.distribution(about, (&point.attributes, point.flags, span, buckets), |stream| {
                    stream.explicit(point, about.temporality, since)
                });
            }),
            Some(Data::ExponentialHistogram(data)) => data.data_points.iter().for_each(|point| {
                let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
                let since = self.server.since_ns;
                let buckets = point.positive.as_ref().map_or(0, |buckets| buckets.bucket_counts.len());
                self.distribution(about, (&point.attributes, point.flags, span, buckets), |stream| {
                    stream.exponential(Exponential::read(point)?, span, about.temporality, since)
                });
            }),
            Some(Data::Summary(_)) | None => {}
        }
    }

    fn number(&mut self, about: About, point: &NumberDataPoint) {
        if has_no_value(point.flags) {
            return;
        }
        let span = Span { start: point.start_time_unix_nano, end: point.time_unix_nano };
        let Some(value) = point.value else {
            return self.refused.add(1, "a point has no value");
        };
        let since = self.server.since_ns;
        let Some((_, stream)) = self.stream(about, &point.attributes, stream::weight(0)) else { return };
        let taken = if about.kind == Kind::Gauge {
            let value = match value {
                number_data_point::Value::AsInt(value) => value as f64,
                number_data_point::Value::AsDouble(value) => value,
            };
            stream.level(value, span, about.temporality)
        } else {
            let value = match value {
                number_data_point::Value::AsInt(value) => about.scale.int(value),
                number_data_point::Value::AsDouble(value) => about.scale.float(value),
            };
            stream.count(value, span, about.temporality, since).map(|_| ())
        };
        if let Err(why) = taken {
            self.refused.add(1, why);
        }
    }

    fn distribution(
        &mut self,
        about: About,
        (attributes, flags, span, buckets): (&[KeyValue], u32, Span, usize),
        take: impl FnOnce(&mut Stream) -> Result<Taken<perfwatch_model::Histogram>, &'static str>,
    ) {
        if has_no_value(flags) {
            return;
        }
        let Some((failed, stream)) = self.stream(about, attributes, stream::weight(buckets)) else { return };
        match take(stream) {
            Ok(Taken::Gained(gained, interval_ns)) if metered::is_duration(about.metric.name) => {
                self.server.metered.add(&gained, failed, interval_ns, span.end);
            }
            Ok(_) => {}
            Err(why) => self.refused.add(1, why),
        }
    }

    /// The series of a point, and whether its attributes say that its requests failed; `None` when it was refused.
    ///
    /// Beyond the limits, what can be added up without knowing whose it was (deltas of counters and distributions) goes to
    /// one series per metric with `otel.metric.overflow`; totals and levels cannot, and are refused.
    fn stream(&mut self, about: About, attributes: &[KeyValue], weight: usize) -> Option<(bool, &mut Stream)> {
        let key = self.attrs(attributes).map(|attrs| (about.metric.name, attrs));
        let fits = key.as_ref().is_some_and(|key| {
            let known = self.server.streams.get(key).map_or(0, |stream| stream.weight);
            let own = self.server.weight + weight.saturating_sub(known);
            weight <= known || (own <= MAX_SERVER_SERIES && own + self.others <= MAX_SERIES)
        });
        let failed = key.as_ref().is_some_and(|(_, attrs)| metered::failed(attrs));
        let key = match key.filter(|_| fits) {
            Some(key) => key,
            None if about.temporality == Temporality::Delta
                && about.kind != Kind::Gauge
                && weight <= MAX_OVERFLOW_WEIGHT =>
            {
                (about.metric.name, vec![OVERFLOW])
            }
            None => {
                self.refused.add(1, NO_ROOM);
                self.beyond += 1;
                return None;
            }
        };
        let fresh = || Stream::new(about.metric, about.scale, about.kind);
        let overflows = key.1.first() == Some(&OVERFLOW);
        let stream = self.server.streams.entry(key).or_insert_with(fresh);
        self.server.weight += weight.saturating_sub(stream.weight);
        stream.weight = stream.weight.max(weight);
        if overflows {
            stream.forget_place();
        }
        Some((failed, stream))
    }

    /// A point's attributes, sorted; `None` when there are too many, or more keys than can be kept.
    fn attrs(&mut self, attributes: &[KeyValue]) -> Option<Vec<Attr>> {
        if attributes.len() > MAX_ATTRIBUTES {
            return None;
        }
        let mut attrs = Vec::with_capacity(attributes.len());
        for attribute in attributes {
            let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
                Some(Value::IntValue(value)) => AttrValue::Int(*value),
                _ => AttrValue::from(resource::text(attribute).unwrap_or_default()),
            };
            attrs.push(Attr { key: self.names.key(&attribute.key)?, value });
        }
        attrs.sort_unstable_by_key(|attr| attr.key);
        Some(attrs)
    }
}

fn temporality(value: i32) -> Result<Temporality, &'static str> {
    match AggregationTemporality::try_from(value) {
        Ok(AggregationTemporality::Delta) => Ok(Temporality::Delta),
        Ok(AggregationTemporality::Cumulative) => Ok(Temporality::Cumulative),
        _ => Err(NO_TEMPORALITY),
    }
}

/// The flag `FLAG_NO_RECORDED_VALUE`: the series ended, and this is no measurement.
fn has_no_value(flags: u32) -> bool {
    flags & 1 == 1
}
