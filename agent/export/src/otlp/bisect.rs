//! Halves of a request that was refused, to find what its receiver cannot stand.

use std::ops::Range;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
};
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
use prost::Message as _;

use super::batch::Encoded;
use crate::config::Signal;
use crate::gzip;

/// Both halves, in order, each a request of its own; `None` for one item, and for what cannot be read.
pub(crate) fn halves(signal: Signal, request: &Encoded) -> Option<[Encoded; 2]> {
    if request.items < 2 {
        return None;
    }
    let message = gzip::unpack(&request.body).ok()?;
    let (middle, end) = (request.items / 2, request.items);
    match signal {
        Signal::Metrics => {
            let all = ExportMetricsServiceRequest::decode(message.as_slice()).ok()?;
            Some([0..middle, middle..end].map(|range| Encoded::new(&points(&all, &range), range.end - range.start)))
        }
        Signal::Logs => {
            let all = ExportLogsServiceRequest::decode(message.as_slice()).ok()?;
            Some([0..middle, middle..end].map(|range| Encoded::new(&records(&all, &range), range.end - range.start)))
        }
        Signal::Traces => None,
    }
}

/// Keeps what has its number in the range.
fn keep<T>(items: &mut Vec<T>, next: &mut u64, range: &Range<u64>) -> bool {
    items.retain(|_| {
        let number = *next;
        *next += 1;
        range.contains(&number)
    });
    !items.is_empty()
}

fn points(all: &ExportMetricsServiceRequest, range: &Range<u64>) -> ExportMetricsServiceRequest {
    let (mut part, mut next) = (all.clone(), 0);
    let mut of_metric = |metric: &mut Metric| match &mut metric.data {
        Some(Data::Gauge(data)) => keep(&mut data.data_points, &mut next, range),
        Some(Data::Sum(data)) => keep(&mut data.data_points, &mut next, range),
        Some(Data::Histogram(data)) => keep(&mut data.data_points, &mut next, range),
        Some(Data::ExponentialHistogram(data)) => keep(&mut data.data_points, &mut next, range),
        Some(Data::Summary(data)) => keep(&mut data.data_points, &mut next, range),
        None => false,
    };
    for resource in &mut part.resource_metrics {
        for scope in &mut resource.scope_metrics {
            scope.metrics.retain_mut(&mut of_metric);
        }
        resource.scope_metrics.retain(|scope| !scope.metrics.is_empty());
    }
    part.resource_metrics.retain(|resource| !resource.scope_metrics.is_empty());
    part
}

fn records(all: &ExportLogsServiceRequest, range: &Range<u64>) -> ExportLogsServiceRequest {
    let (mut part, mut next) = (all.clone(), 0);
    for resource in &mut part.resource_logs {
        resource.scope_logs.retain_mut(|scope| keep(&mut scope.log_records, &mut next, range));
    }
    part.resource_logs.retain(|resource| !resource.scope_logs.is_empty());
    part
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::otlp::batch::{Batches, MAX_REQUEST};
    use crate::otlp::points::Point;
    use opentelemetry_proto::tonic::resource::v1::Resource;
    use perfwatch_model::metrics::{gpu, host};

    fn request(points: u64) -> Encoded {
        let mut batches = Batches::new(Resource::default(), MAX_REQUEST);
        for at in 0..points {
            let metric = if at < points / 3 { &host::CPU_UTILIZATION } else { &gpu::POWER };
            batches.push(metric, Point::gauge(&[], at, 0.5));
        }
        batches.finish().remove(0)
    }

    /// The times of all points, with their metrics.
    fn told(request: &Encoded) -> Vec<(String, u64)> {
        let plain = gzip::unpack(&request.body).expect("we packed it");
        let all = ExportMetricsServiceRequest::decode(plain.as_slice()).expect("we encoded it");
        let metrics = all.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
        let mut told = Vec::new();
        for metric in metrics.flat_map(|scope| &scope.metrics) {
            let Some(Data::Gauge(data)) = &metric.data else { panic!("not a gauge") };
            told.extend(data.data_points.iter().map(|point| (metric.name.clone(), point.time_unix_nano)));
        }
        told
    }

    #[test]
    fn both_halves_are_the_whole_down_to_single_points() {
        for points in [2, 3, 7, 100] {
            let whole = request(points);
            let (mut parts, mut single) = (vec![whole.clone()], Vec::new());
            while let Some(part) = parts.pop() {
                match halves(Signal::Metrics, &part) {
                    Some([first, second]) => {
                        assert_eq!(first.items + second.items, part.items);
                        parts.extend([second, first]);
                    }
                    None => single.extend(told(&part)),
                }
            }
            assert_eq!(single, told(&whole));
        }
    }

    #[test]
    fn the_same_halves_come_of_the_same_request() {
        let whole = request(9);
        assert_eq!(halves(Signal::Metrics, &whole), halves(Signal::Metrics, &whole));
    }

    #[test]
    fn what_cannot_be_read_is_not_halved() {
        let broken = Encoded { body: gzip::pack(b"\xff\xff\xff").into(), items: 5 };
        assert_eq!(halves(Signal::Metrics, &broken), None);
    }
}
