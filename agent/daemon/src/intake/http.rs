//! OTLP over HTTP/1.1, as protobuf or JSON; who sends JSON is answered in JSON.

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
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::TcpListener;
use tonic::Code;

use super::Shared;
use super::bulk;
use super::grpc::{MAX_MESSAGE, take_metrics, take_spans};
use super::json;
use super::listen::Limited;

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

async fn nothing_here(request: Request) -> Response {
    let format = Format::of(request.headers()).unwrap_or(Format::Protobuf);
    refusal(StatusCode::NOT_FOUND, Code::Unimplemented, "there are /v1/metrics and /v1/traces").answer(format)
}

async fn metrics(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let _place = shared.place().await;
    let (format, sent) = match message::<ExportMetricsServiceRequest>(request).await {
        (format, Ok(sent)) => (format, sent),
        (format, Err(refusal)) => return refusal.answer(format),
    };
    let refused = match take_metrics(&shared, &sent, None) {
        Ok(refused) => refused,
        Err(after) => return busy(after, format),
    };
    let partial_success = refused.partial().map(|(rejected_data_points, error_message)| ExportMetricsPartialSuccess {
        rejected_data_points,
        error_message,
    });
    format.encode(StatusCode::OK, &ExportMetricsServiceResponse { partial_success })
}

async fn traces(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let _place = shared.place().await;
    let (format, sent) = match message::<ExportTraceServiceRequest>(request).await {
        (format, Ok(sent)) => (format, sent),
        (format, Err(refusal)) => return refusal.answer(format),
    };
    let refused = match take_spans(&shared, &sent, None) {
        Ok(refused) => refused,
        Err(after) => return busy(after, format),
    };
    let partial_success = refused
        .partial()
        .map(|(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message });
    format.encode(StatusCode::OK, &ExportTraceServiceResponse { partial_success })
}

/// How a message is written.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Format {
    Protobuf,
    Json,
}

impl Format {
    fn of(headers: &HeaderMap) -> Option<Self> {
        match header_of(headers, header::CONTENT_TYPE) {
            "application/x-protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn encode(self, status: StatusCode, message: &(impl Message + Serialize)) -> Response {
        let (kind, body) = match self {
            Self::Protobuf => ("application/x-protobuf", message.encode_to_vec()),
            Self::Json => ("application/json", serde_json::to_vec(message).expect("plain values become JSON")),
        };
        (status, [(header::CONTENT_TYPE, kind)], body).into_response()
    }
}

/// The message of a request, or what is wrong with it; and how to answer.
async fn message<T: Message + Default + DeserializeOwned>(request: Request) -> (Format, Result<T, Refusal>) {
    let (parts, body) = request.into_parts();
    let Some(format) = Format::of(&parts.headers) else {
        let why = "the content type must be application/x-protobuf or application/json";
        return (Format::Protobuf, Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, why)));
    };
    let bytes = match header_of(&parts.headers, header::CONTENT_ENCODING) {
        "" | "identity" => read(body).await,
        "gzip" => read(body).await.and_then(|packed| unpack(&packed)),
        _ => {
            let why = "the content encoding must be gzip, or none";
            Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, why))
        }
    };
    let message = bytes.and_then(|bytes| {
        let too_much = match format {
            Format::Protobuf => bulk::is_too_much(&bytes),
            Format::Json => bulk::is_too_much_json(&bytes),
        };
        if too_much {
            return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, bulk::TOO_MANY));
        }
        let decoded = match format {
            Format::Protobuf => T::decode(bytes).map_err(|error| error.to_string()),
            Format::Json => json::decode(&bytes).map_err(|error| error.to_string()),
        };
        decoded.map_err(|error| {
            refusal(StatusCode::BAD_REQUEST, Code::InvalidArgument, &format!("not an OTLP message: {error}"))
        })
    });
    (format, message)
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
    let read = GzDecoder::new(packed).take(MAX_MESSAGE as u64 + 1).read_to_end(&mut unpacked);
    if let Err(error) = read {
        return Err(refusal(StatusCode::BAD_REQUEST, Code::InvalidArgument, &format!("not gzip: {error}")));
    }
    if unpacked.len() > MAX_MESSAGE { Err(too_large()) } else { Ok(unpacked.into()) }
}

fn too_large() -> Refusal {
    let why = "a message may have 4 MiB, unpacked, and must arrive whole";
    refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, why)
}

fn header_of(headers: &HeaderMap, name: header::HeaderName) -> &str {
    let text = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

/// Why a request is not taken at all.
struct Refusal {
    status: StatusCode,
    code: Code,
    why: String,
}

impl Refusal {
    /// The error as OTLP wants it: a `google.rpc.Status` in the format of the request.
    fn answer(self, format: Format) -> Response {
        let Self { status, code, why } = self;
        format.encode(status, &Status { code: code as i32, message: why })
    }
}

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, Message, Serialize)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
    #[prost(string, tag = "2")]
    message: String,
}

fn refusal(status: StatusCode, code: Code, why: &str) -> Refusal {
    Refusal { status, code, why: why.to_owned() }
}

fn busy(after: Duration, format: Format) -> Response {
    let mut answer =
        refusal(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, "too much at a time; send it again").answer(format);
    let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    answer
}
