//! OTLP over HTTP/1.1 with protobuf.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message;
use tokio::net::TcpListener;
use tonic::Code;

use super::Shared;
use super::grpc::{MAX_MESSAGE, take_metrics, take_spans};
use super::listen::Limited;

/// Largest message after unpacking.
const MAX_UNPACKED: usize = 16 << 20;
const PROTOBUF: &str = "application/x-protobuf";
/// How long a message may take to arrive.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let router = Router::new()
        .route("/v1/metrics", post(metrics))
        .route("/v1/traces", post(traces))
        .fallback(nothing_here)
        .with_state(shared);
    if let Err(error) = axum::serve(Limited::new(listener), router).await {
        tracing::error!(%error, "otlp intake over http stopped");
    }
}

async fn nothing_here() -> Response {
    refusal(StatusCode::NOT_FOUND, Code::Unimplemented, "there are /v1/metrics and /v1/traces").answer()
}

async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let sent: ExportMetricsServiceRequest = match message(request).await {
        Ok(sent) => sent,
        Err(refusal) => return refusal.answer(),
    };
    let refused = match take_metrics(&shared, &sent, None, |points| shared.admit(points)) {
        Ok(refused) => refused,
        Err(after) => return busy(after),
    };
    let partial_success = refused.partial().map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
        rejected_data_points,
        error_message,
    });
    protobuf(StatusCode::OK, &ExportMetricsServiceResponse { partial_success })
}

async fn traces(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let sent: ExportTraceServiceRequest = match message(request).await {
        Ok(sent) => sent,
        Err(refusal) => return refusal.answer(),
    };
    let refused = match take_spans(&shared, &sent, None, |spans| shared.admit(spans)) {
        Ok(refused) => refused,
        Err(after) => return busy(after),
    };
    let partial_success = refused
        .partial()
        .map(|(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message });
    protobuf(StatusCode::OK, &ExportTraceServiceResponse { partial_success })
}

/// The message of a request, or the answer that says what is wrong with it.
async fn message<T: Message + Default>(request: Request) -> Result<T, Refusal> {
    let (parts, body) = request.into_parts();
    let invalid = |status, why: &str| refusal(status, Code::InvalidArgument, why);
    if header_of(&parts.headers, header::CONTENT_TYPE) != PROTOBUF {
        return Err(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content type must be application/x-protobuf"));
    }
    let packed = read(body).await?;
    let bytes = match header_of(&parts.headers, header::CONTENT_ENCODING) {
        "" | "identity" => packed,
        "gzip" => unpack(&packed)?,
        _ => return Err(invalid(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the content encoding must be gzip, or none")),
    };
    T::decode(bytes).map_err(|error| invalid(StatusCode::BAD_REQUEST, &format!("not an OTLP message: {error}")))
}

async fn read(body: Body) -> Result<Bytes, Refusal> {
    match tokio::time::timeout(PATIENCE, to_bytes(body, MAX_MESSAGE)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(_)) => Err(too_large()),
        Err(_) => {
            Err(refusal(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "the message did not arrive in time"))
        }
    }
}

fn unpack(packed: &[u8]) -> Result<Bytes, Refusal> {
    let mut unpacked = Vec::new();
    let read = GzDecoder::new(packed).take(MAX_UNPACKED as u64 + 1).read_to_end(&mut unpacked);
    if let Err(error) = read {
        return Err(refusal(StatusCode::BAD_REQUEST, Code::InvalidArgument, &format!("not gzip: {error}")));
    }
    if unpacked.len() > MAX_UNPACKED { Err(too_large()) } else { Ok(unpacked.into()) }
}

fn too_large() -> Refusal {
    let why = "a message may have 4 MiB, and 16 MiB unpacked, and must arrive whole";
    refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, why)
}

fn header_of(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

fn protobuf(status: StatusCode, message: &impl Message) -> Response {
    (status, [(header::CONTENT_TYPE, PROTOBUF)], message.encode_to_vec()).into_response()
}

/// Why a request is not taken at all.
struct Refusal {
    status: StatusCode,
    code: Code,
    why: String,
}

impl Refusal {
    /// The error as OTLP wants it: a status in protobuf.
    fn answer(self) -> Response {
        let Self { status, code, why } = self;
        protobuf(status, &tonic_types::Status { code: code as i32, message: why, details: Vec::new() })
    }
}

fn refusal(status: StatusCode, code: Code, why: &str) -> Refusal {
    Refusal { status, code, why: why.to_owned() }
}

fn busy(after: Duration) -> Response {
    let mut answer =
        refusal(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "too much at a time; send it again").answer();
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}
