//! OTLP over gRPC.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::Shared;
use super::book::{Refused, points_of, spans_of};

/// Largest message, unpacked.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// Messages of one connection at a time.
const MAX_CONCURRENT: usize = 8;
/// How long a message may take to arrive and be answered.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn serve<T>(incoming: impl Stream<Item = io::Result<T>>, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let service = || Service(Arc::clone(&shared));
    let metrics = MetricsServiceServer::new(service()).max_decoding_message_size(MAX_MESSAGE).accept_compressed(Gzip);
    let traces = TraceServiceServer::new(service()).max_decoding_message_size(MAX_MESSAGE).accept_compressed(Gzip);
    let served = Server::builder()
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .timeout(PATIENCE)
        .add_service(metrics)
        .add_service(traces)
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "otlp intake over grpc stopped");
    }
}

struct Service(Arc<Shared>);

impl Service {
    fn admit(&self, points: u64) -> Result<(), Status> {
        self.0.admit(points).map_err(|after| {
            let details = ErrorDetails::with_retry_info(Some(after));
            Status::with_error_details(Code::Unavailable, "too much at a time; send it again", details)
        })
    }
}

/// The process at the other end of a UNIX socket; `None` over TCP, and in a pid namespace that is not visible here.
fn peer<T>(request: &Request<T>) -> Option<u32> {
    let pid = request.extensions().get::<UdsConnectInfo>()?.peer_cred?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let peer = peer(&request);
        let refused = take_metrics(&self.0, request.get_ref(), peer, |points| self.admit(points))?;
        let partial_success = refused.partial().map(|(rejected_data_points, error_message)| {
            ExportMetricsPartialSuccess { rejected_data_points, error_message }
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let peer = peer(&request);
        let refused = take_spans(&self.0, request.get_ref(), peer, |spans| self.admit(spans))?;
        let partial_success = refused
            .partial()
            .map(|(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}

/// Takes metrics, whichever way they came.
pub(super) fn take_metrics<E>(
    shared: &Shared,
    sent: &ExportMetricsServiceRequest,
    peer: Option<u32>,
    admit: impl FnOnce(u64) -> Result<(), E>,
) -> Result<Refused, E> {
    let scopes = sent.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
    admit(scopes.flat_map(|scope| &scope.metrics).map(points_of).sum())?;
    let mut refused = Refused::default();
    let now = shared.mono_ns();
    for resource in &sent.resource_metrics {
        let part = shared.book().take_metrics(resource, peer, now);
        refused.add(part.count as u64, &part.why);
    }
    Ok(refused)
}

/// Takes spans, whichever way they came.
pub(super) fn take_spans<E>(
    shared: &Shared,
    sent: &ExportTraceServiceRequest,
    peer: Option<u32>,
    admit: impl FnOnce(u64) -> Result<(), E>,
) -> Result<Refused, E> {
    admit(sent.resource_spans.iter().map(spans_of).sum())?;
    let mut refused = Refused::default();
    let now = shared.mono_ns();
    for resource in &sent.resource_spans {
        let part = shared.book().take_spans(resource, peer, now);
        refused.add(part.count as u64, &part.why);
    }
    Ok(refused)
}
