//! The gRPC side.

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsPartialSuccess, ExportLogsServiceRequest, ExportLogsServiceResponse,
    logs_service_server::{LogsService, LogsServiceServer},
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    trace_service_server::{TraceService, TraceServiceServer},
};
use prost::Message;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codec::CompressionEncoding::Gzip;
use tonic::metadata::KeyAndValueRef;
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{Answer, Attempt, Received, Shared};
use crate::config::Signal;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let service = || Service(Arc::clone(&shared));
    let served = Server::builder()
        .add_service(MetricsServiceServer::new(service()).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(LogsServiceServer::new(service()).accept_compressed(Gzip).send_compressed(Gzip))
        .add_service(TraceServiceServer::new(service()).accept_compressed(Gzip).send_compressed(Gzip))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await;
    if let Err(error) = served {
        tracing::warn!(%error, "receiver stopped");
    }
}

struct Service(Arc<Shared>);

/// What was rejected, and why.
type Partial = Option<(i64, String)>;

impl Service {
    async fn take<T: Message>(
        &self,
        signal: Signal,
        request: Request<T>,
        keep: impl FnOnce(&mut Received, T),
    ) -> Result<Partial, Status> {
        let (metadata, _, message) = request.into_parts();
        let headers = metadata
            .iter()
            .filter_map(|pair| match pair {
                KeyAndValueRef::Ascii(key, value) => {
                    Some((key.as_str().to_owned(), value.to_str().unwrap_or_default().to_owned()))
                }
                KeyAndValueRef::Binary(..) => None,
            })
            .collect();
        let attempt = Attempt { signal, message: message.encode_to_vec().into(), headers };
        let refused = match self.0.arrive(attempt).due().await {
            Answer::Accept => {
                self.0.keep(|received| keep(received, message));
                return Ok(None);
            }
            Answer::Lose => {
                self.0.keep(|received| keep(received, message));
                return Err(Status::unavailable("the answer is lost"));
            }
            Answer::Partial { rejected, message: why } => {
                self.0.keep(|received| keep(received, message));
                return Ok(Some((rejected, why)));
            }
            refused => refused,
        };
        Err(match refused {
            Answer::Busy(Some(after)) => {
                let details = ErrorDetails::with_retry_info(Some(after));
                Status::with_error_details(Code::Unavailable, "busy", details)
            }
            Answer::Busy(None) => Status::unavailable("busy"),
            Answer::Refuse(message) => Status::invalid_argument(message),
            Answer::Code(code, None) => Status::new(Code::from_i32(code), "as told"),
            Answer::Code(code, Some(after)) => {
                let details = ErrorDetails::with_retry_info(Some(after));
                Status::with_error_details(Code::from_i32(code), "as told", details)
            }
            _ => Status::internal("as told"),
        })
    }
}

#[tonic::async_trait]
impl MetricsService for Service {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let partial = self.take(Signal::Metrics, request, |received, message| received.metrics.push(message)).await?;
        let partial_success = partial.map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
            rejected_data_points,
            error_message,
        });
        Ok(Response::new(ExportMetricsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl LogsService for Service {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        let partial = self.take(Signal::Logs, request, |received, message| received.logs.push(message)).await?;
        let partial_success = partial.map(|(rejected_log_records, error_message)| ExportLogsPartialSuccess {
            rejected_log_records,
            error_message,
        });
        Ok(Response::new(ExportLogsServiceResponse { partial_success }))
    }
}

#[tonic::async_trait]
impl TraceService for Service {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let partial = self.take(Signal::Traces, request, |received, message| received.traces.push(message)).await?;
        let partial_success =
            partial.map(|(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message });
        Ok(Response::new(ExportTraceServiceResponse { partial_success }))
    }
}
