//! Cuts a stream of points into requests of bounded size.

use bytes::Bytes;
use opentelemetry_proto::tonic::{
    collector::metrics::v1::ExportMetricsServiceRequest,
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics},
    resource::v1::Resource,
};
use perfwatch_model::MetricDef;

use super::points::Point;
use crate::gzip;

/// A request is closed before it grows beyond this: gRPC servers refuse more than 4 MiB unless told otherwise, and the
/// protocol's own cap is 64 MiB. A single point is at most some kilobytes.
pub(crate) const MAX_REQUEST: usize = 3 << 20;
/// Allowance for the frame around a point and the fields of a metric besides its texts.
const FRAME: usize = 16;

/// An encoded request, as it is kept, sent and sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The message, compressed with gzip.
    pub body: Bytes,
    /// Data points or log records within.
    pub items: u64,
}

impl Encoded {
    pub(crate) fn new(message: &impl prost::Message, items: u64) -> Self {
        Self { body: gzip::pack(&message.encode_to_vec()).into(), items }
    }
}

/// The name under which perfwatch's instrumentation signs.
pub(crate) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "perfwatch".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// Collects points; those of a metric must come together.
pub(crate) struct Batches {
    resource: Resource,
    limit: usize,
    metrics: Vec<Metric>,
    bytes: usize,
    items: u64,
    done: Vec<Encoded>,
}

impl Batches {
    pub(crate) fn new(resource: Resource, limit: usize) -> Self {
        Self { resource, limit, metrics: Vec::new(), bytes: 0, items: 0, done: Vec::new() }
    }

    pub(crate) fn push(&mut self, metric: &MetricDef, point: Point) {
        let mut bytes = point.encoded_len() + FRAME;
        let head = FRAME + metric.name.len() + metric.brief.len() + metric.unit.ucum().len();
        if self.items > 0 && self.bytes + bytes + head > self.limit {
            self.close();
        }
        self.items += 1;
        let rest = match self.metrics.last_mut().filter(|last| last.name == metric.name) {
            Some(last) => point.join(last),
            None => Some(point),
        };
        if let Some(point) = rest {
            bytes += head;
            self.metrics.push(point.into_metric(metric));
        }
        self.bytes += bytes;
    }

    fn close(&mut self) {
        if self.items == 0 {
            return;
        }
        let request = ExportMetricsServiceRequest {
            resource_metrics: vec![ResourceMetrics {
                resource: Some(self.resource.clone()),
                scope_metrics: vec![ScopeMetrics {
                    scope: Some(scope()),
                    metrics: std::mem::take(&mut self.metrics),
                    ..ScopeMetrics::default()
                }],
                ..ResourceMetrics::default()
            }],
        };
        self.done.push(Encoded::new(&request, self.items));
        (self.bytes, self.items) = (0, 0);
    }

    /// The requests, in order; none when there was no point.
    pub(crate) fn finish(mut self) -> Vec<Encoded> {
        self.close();
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_model::metrics::{gpu, host};
    use prost::Message as _;

    fn plain(encoded: &Encoded) -> Vec<u8> {
        gzip::unpack(&encoded.body).expect("we packed it")
    }

    fn decode(encoded: &Encoded) -> Vec<Metric> {
        let request = ExportMetricsServiceRequest::decode(plain(encoded).as_slice()).expect("we encoded it");
        request.resource_metrics[0].scope_metrics[0].metrics.clone()
    }

    #[test]
    fn requests_stay_below_the_limit_and_no_point_is_lost() {
        let limit = 1_000;
        let mut batches = Batches::new(Resource::default(), limit);
        for at in 0..200 {
            batches.push(&host::CPU_UTILIZATION, Point::gauge(&[], at, 0.5));
        }
        let done = batches.finish();
        assert!(done.len() > 3, "{} requests", done.len());
        assert!(done.iter().all(|encoded| plain(encoded).len() <= limit + 100), "the resource and scope come on top");
        assert_eq!(done.iter().map(|encoded| encoded.items).sum::<u64>(), 200);
        assert!(done.iter().all(|encoded| decode(encoded).len() == 1), "the points of a metric stay together");
    }

    #[test]
    fn each_metric_comes_once() {
        let mut batches = Batches::new(Resource::default(), MAX_REQUEST);
        for metric in [&host::CPU_UTILIZATION, &gpu::POWER] {
            batches.push(metric, Point::gauge(&[], 1, 0.5));
            batches.push(metric, Point::gauge(&[], 2, 0.5));
        }
        let done = batches.finish();
        let names: Vec<_> = decode(&done[0]).into_iter().map(|metric| metric.name).collect();
        assert_eq!(names, ["system.cpu.utilization", "hw.power"]);
    }

    #[test]
    fn nothing_to_say_is_no_request() {
        assert!(Batches::new(Resource::default(), MAX_REQUEST).finish().is_empty());
    }
}
