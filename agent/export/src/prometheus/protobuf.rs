//! Length-delimited messages, with native histograms.

use perfwatch_model::Instrument;
use prost::Message as _;

use super::families::{Family, Labelled};
use super::message::{
    Bucket, Counter, Exemplar, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType, Timestamp,
};
use super::values::{self, Values, within};
use super::{Source, Total, buckets};

/// All families; empty when no series of them has a value.
pub(super) fn write(
    families: &[Family],
    values: &Values,
    source: &Source<'_>,
    resource: &[(String, String)],
) -> Vec<u8> {
    let mut out = Vec::with_capacity(32 << 10);
    for family in families {
        let metric: Vec<Metric> =
            family.series.iter().filter_map(|series| self::metric(family, series, values, source)).collect();
        if metric.is_empty() {
            continue;
        }
        let kind = match family.metric.instrument {
            Instrument::Gauge => MetricType::Gauge,
            Instrument::Counter => MetricType::Counter,
            Instrument::Histogram => MetricType::Histogram,
        };
        let message = MetricFamily {
            name: family.name.clone(),
            help: family.metric.brief.to_owned(),
            kind: kind.into(),
            metric,
            unit: family.unit().to_owned(),
        };
        append(&message, &mut out);
    }
    if !out.is_empty() && !resource.is_empty() {
        let metric = Metric { label: pairs(resource), gauge: Some(Gauge { value: 1.0 }), ..Metric::default() };
        let message = MetricFamily {
            name: "target_info".to_owned(),
            help: "The agent that measured.".to_owned(),
            kind: MetricType::Gauge.into(),
            metric: vec![metric],
            unit: String::new(),
        };
        append(&message, &mut out);
    }
    out
}

fn append(message: &MetricFamily, out: &mut Vec<u8>) {
    message.encode_length_delimited(out).expect("a vector grows as needed");
}

fn pairs(labels: &[(String, String)]) -> Vec<LabelPair> {
    labels.iter().map(|(name, value)| LabelPair { name: name.clone(), value: value.clone() }).collect()
}

fn metric(family: &Family, series: &Labelled, values: &Values, source: &Source<'_>) -> Option<Metric> {
    let unit = family.metric.unit;
    let mut metric = Metric { label: pairs(&series.labels), ..Metric::default() };
    if family.metric.instrument == Instrument::Gauge {
        metric.gauge = Some(Gauge { value: unit.outside(values.gauge(series.id)?) });
        return Some(metric);
    }
    let created = Some(Timestamp::at(source.created_wall_ns));
    match source.totals.of(series.id)? {
        Total::Whole(whole) => {
            metric.counter = Some(Counter { value: buckets::outside(whole, unit), created_timestamp: created });
        }
        Total::Measured(value) => metric.counter = Some(Counter { value, created_timestamp: created }),
        Total::Hdr(hdr) => {
            let exemplars = values.exemplars(family.metric, series.entity);
            let mut counts = Vec::new();
            buckets::cumulative(hdr, unit, &mut counts);
            let bounds = buckets::bounds(unit);
            let mut histogram = Histogram {
                sample_count: hdr.count(),
                sample_sum: buckets::outside(hdr.sum(), unit),
                bucket: classic(bounds, &counts, hdr.count(), exemplars),
                created_timestamp: created,
                exemplars: exemplars.iter().map(exemplar).collect(),
                ..Histogram::default()
            };
            buckets::native(hdr, unit, &mut histogram);
            metric.histogram = Some(histogram);
        }
        Total::Bounded(bounded, since_wall_ns) => {
            let mut below = 0_u64;
            let counts: Vec<u64> = bounded
                .counts
                .iter()
                .map(|count| {
                    below = below.saturating_add(*count);
                    below
                })
                .collect();
            metric.histogram = Some(Histogram {
                sample_count: below,
                sample_sum: bounded.sum,
                bucket: classic(&bounded.bounds, &counts, below, &[]),
                created_timestamp: Some(Timestamp::at(since_wall_ns)),
                ..Histogram::default()
            });
        }
    }
    Some(metric)
}

fn classic(bounds: &[f64], counts: &[u64], count: u64, exemplars: &[values::Exemplar]) -> Vec<Bucket> {
    let mut over = f64::NEG_INFINITY;
    let last = std::iter::once((&f64::INFINITY, &count));
    bounds
        .iter()
        .zip(counts)
        .chain(last)
        .map(|(bound, below)| {
            let exemplar = within(exemplars, over, *bound).map(exemplar);
            over = *bound;
            Bucket { cumulative_count: *below, upper_bound: *bound, exemplar }
        })
        .collect()
}

fn exemplar(exemplar: &values::Exemplar) -> Exemplar {
    let trace_id = LabelPair { name: "trace_id".to_owned(), value: exemplar.trace_id.clone() };
    Exemplar { label: vec![trace_id], value: exemplar.seconds, timestamp: Some(Timestamp::at(exemplar.ended_wall_ns)) }
}
