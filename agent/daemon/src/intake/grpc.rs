//! OTLP over gRPC.

use std::convert::Infallible;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::codec::{CompressionEncoding::Gzip, EnabledCompressionEncodings};
use tonic::codegen::{self, BoxFuture, StdError, http};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::Shared;
use super::arrival::{self, Arrived, Hold, Missed};
use super::book::Refused;
use super::codec::Checked;
use super::gate;

/// Largest message, unpacked.
pub(super) const MAX_MESSAGE: usize = 4 << 20;
/// A message's length and whether it is packed, before it.
const PREFIX: usize = 5;
/// Messages of one connection at a time.
const MAX_CONCURRENT: usize = 8;
/// How long a message may take to arrive and be answered.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn serve<T>(incoming: impl Stream<Item = io::Result<T>>, shared: Arc<Shared>)
where
    T: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let hold = Arc::new(Hold::default());
    let served = Server::builder()
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        .timeout(PATIENCE)
        .add_service(Service::<Metrics>::new(&shared, &hold))
        .add_service(Service::<Traces>::new(&shared, &hold))
        .serve_with_incoming(incoming)
        .await;
    if let Err(error) = served {
        tracing::error!(%error, "otlp intake over grpc stopped");
    }
}

/// What can be exported. The services that the protocol's crate generates decode before anybody could look at a message.
trait Signal: Send + Sync + 'static {
    type Sent: Message + Default + 'static;
    type Answer: Message + 'static;
    /// Name of the gRPC service.
    const SERVICE: &'static str;
    /// Path of its only method.
    const EXPORT: &'static str;
    fn take(shared: &Shared, sent: &Self::Sent, peer: Option<u32>) -> Result<Self::Answer, Duration>;
}

struct Metrics;

impl Signal for Metrics {
    type Sent = ExportMetricsServiceRequest;
    type Answer = ExportMetricsServiceResponse;
    const SERVICE: &'static str = "opentelemetry.proto.collector.metrics.v1.MetricsService";
    const EXPORT: &'static str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

    fn take(shared: &Shared, sent: &Self::Sent, peer: Option<u32>) -> Result<Self::Answer, Duration> {
        let partial_success = take_metrics(shared, sent, peer)?.partial();
        let partial =
            |(rejected_data_points, error_message)| ExportMetricsPartialSuccess { rejected_data_points, error_message };
        Ok(ExportMetricsServiceResponse { partial_success: partial_success.map(partial) })
    }
}

struct Traces;

impl Signal for Traces {
    type Sent = ExportTraceServiceRequest;
    type Answer = ExportTraceServiceResponse;
    const SERVICE: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
    const EXPORT: &'static str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

    fn take(shared: &Shared, sent: &Self::Sent, peer: Option<u32>) -> Result<Self::Answer, Duration> {
        let partial_success = take_spans(shared, sent, peer)?.partial();
        let partial = |(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message };
        Ok(ExportTraceServiceResponse { partial_success: partial_success.map(partial) })
    }
}

/// The gRPC service of one signal.
struct Service<S> {
    shared: Arc<Shared>,
    hold: Arc<Hold>,
    signal: PhantomData<S>,
}

impl<S> Service<S> {
    fn new(shared: &Arc<Shared>, hold: &Arc<Hold>) -> Self {
        Self { shared: Arc::clone(shared), hold: Arc::clone(hold), signal: PhantomData }
    }
}

impl<S> Clone for Service<S> {
    fn clone(&self) -> Self {
        Self::new(&self.shared, &self.hold)
    }
}

impl<S: Signal> NamedService for Service<S> {
    const NAME: &'static str = S::SERVICE;
}

impl<S: Signal, B> codegen::Service<http::Request<B>> for Service<S>
where
    B: codegen::Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let service = self.clone();
        Box::pin(async move {
            if request.uri().path() != S::EXPORT {
                return Ok(Status::unimplemented("there is only Export").into_http());
            }
            let (shared, hold) = (Arc::clone(&service.shared), Arc::clone(&service.hold));
            let (parts, body) = request.into_parts();
            let Arrived { bytes, room: _room } = match hold.receive(body, PREFIX + MAX_MESSAGE).await {
                Ok(arrived) => arrived,
                Err(Missed::TooLarge) => return Ok(Status::out_of_range("a message may have 4 MiB").into_http()),
                Err(Missed::Broken) => return Ok(Status::cancelled("the message broke off").into_http()),
                Err(Missed::NoRoom) => {
                    shared.defer();
                    return Ok(busy(arrival::AGAIN).into_http());
                }
            };
            let Some(_place) = shared.place().await else {
                shared.defer();
                return Ok(busy(arrival::AGAIN).into_http());
            };
            let request = http::Request::from_parts(parts, axum::body::Body::from(bytes));
            let mut accepted = EnabledCompressionEncodings::default();
            accepted.enable(Gzip);
            let mut grpc = Grpc::new(Checked::default())
                .apply_compression_config(accepted, EnabledCompressionEncodings::default())
                .apply_max_message_size_config(Some(MAX_MESSAGE), None);
            Ok(grpc.unary(service, request).await)
        })
    }
}

impl<S: Signal> UnaryService<S::Sent> for Service<S> {
    type Response = S::Answer;
    type Future = std::future::Ready<Result<Response<S::Answer>, Status>>;

    fn call(&mut self, request: Request<S::Sent>) -> Self::Future {
        let taken = S::take(&self.shared, request.get_ref(), peer(&request));
        std::future::ready(taken.map(Response::new).map_err(busy))
    }
}

fn busy(after: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(after));
    Status::with_error_details(Code::Unavailable, "too much at a time; send it again", details)
}

/// The process at the other end of a UNIX socket; `None` over TCP, and in a pid namespace that is not visible here.
fn peer<T>(request: &Request<T>) -> Option<u32> {
    let pid = request.extensions().get::<UdsConnectInfo>()?.peer_cred?.pid()?;
    u32::try_from(pid).ok().filter(|pid| *pid > 0)
}

/// Takes metrics, whichever way they came; or says after how long they may come again.
pub(super) fn take_metrics(
    shared: &Shared,
    sent: &ExportMetricsServiceRequest,
    peer: Option<u32>,
) -> Result<Refused, Duration> {
    shared.admit(gate::metrics_in(&sent.resource_metrics))?;
    let mut refused = Refused::default();
    let now = shared.mono_ns();
    for resource in &sent.resource_metrics {
        let part = shared.book().take_metrics(resource, peer, now);
        refused.add(part.count as u64, &part.why);
    }
    Ok(refused)
}

/// Takes spans, whichever way they came; or says after how long they may come again.
pub(super) fn take_spans(
    shared: &Shared,
    sent: &ExportTraceServiceRequest,
    peer: Option<u32>,
) -> Result<Refused, Duration> {
    shared.admit(gate::spans_in(&sent.resource_spans))?;
    let mut refused = Refused::default();
    let now = shared.mono_ns();
    for resource in &sent.resource_spans {
        let part = shared.book().take_spans(resource, peer, now);
        refused.add(part.count as u64, &part.why);
    }
    Ok(refused)
}
