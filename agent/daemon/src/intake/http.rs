//! OTLP over HTTP/1.1, as protobuf or JSON; who sends JSON is answered in JSON.

use std::io::Read as _;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
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
use super::arrival::{self, Arrived, Hold, Missed};
use super::book::Refused;
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
        .with_state(Arc::new(Listener { shared, hold: Hold::default() }));
    if let Err(error) = axum::serve(Limited::new(listener), router).await {
        tracing::error!(%error, "otlp intake over http stopped");
    }
}

/// What the requests of this listener share.
struct Listener {
    shared: Arc<Shared>,
    hold: Hold,
}

impl Listener {
    async fn read(&self, body: Body) -> Result<Arrived<'_>, Refusal> {
        match tokio::time::timeout(PATIENCE, self.hold.receive(body, MAX_MESSAGE)).await {
            Ok(Ok(arrived)) => Ok(arrived),
            Ok(Err(Missed::TooLarge | Missed::Broken)) => Err(too_large()),
            Ok(Err(Missed::NoRoom)) => Err(self.defer()),
            Err(_) => {
                Err(refusal(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "the message did not arrive in time"))
            }
        }
    }

    fn defer(&self) -> Refusal {
        self.shared.defer();
        busy(arrival::AGAIN)
    }
}

async fn nothing_here(request: Request) -> Response {
    let format = Format::of(request.headers()).unwrap_or(Format::Protobuf);
    refusal(StatusCode::NOT_FOUND, Code::Unimplemented, "there are /v1/metrics and /v1/traces").answer(format)
}

async fn metrics(State(listener): State<Arc<Listener>>, request: Request) -> Response {
    let answer =
        |(rejected_data_points, error_message)| ExportMetricsPartialSuccess { rejected_data_points, error_message };
    let answer = |refused: Refused| ExportMetricsServiceResponse { partial_success: refused.partial().map(answer) };
    export::<ExportMetricsServiceRequest, _>(&listener, request, take_metrics, answer).await
}

async fn traces(State(listener): State<Arc<Listener>>, request: Request) -> Response {
    let answer = |(rejected_spans, error_message)| ExportTracePartialSuccess { rejected_spans, error_message };
    let answer = |refused: Refused| ExportTraceServiceResponse { partial_success: refused.partial().map(answer) };
    export::<ExportTraceServiceRequest, _>(&listener, request, take_spans, answer).await
}

/// Takes what one request exports, and answers.
async fn export<T, A>(
    listener: &Listener,
    request: Request,
    take: fn(&Shared, &T, Option<u32>) -> Result<Refused, Duration>,
    answer: impl FnOnce(Refused) -> A,
) -> Response
where
    T: Message + Default + DeserializeOwned,
    A: Message + Serialize,
{
    let Some(format) = Format::of(request.headers()) else {
        let why = "the content type must be application/x-protobuf or application/json";
        return refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, why).answer(Format::Protobuf);
    };
    let (parts, body) = request.into_parts();
    let taken = async {
        let is_packed = is_packed(&parts.headers)?;
        let Arrived { bytes, room: _room } = listener.read(body).await?;
        let _place = listener.shared.place().await.ok_or_else(|| listener.defer())?;
        let bytes = if is_packed { unpack(&bytes)? } else { bytes };
        let sent = decode(&bytes, format)?;
        drop(bytes);
        take(&listener.shared, &sent, None).map_err(busy)
    };
    match taken.await {
        Ok(refused) => format.encode(StatusCode::OK, &answer(refused)),
        Err(refusal) => refusal.answer(format),
    }
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

fn is_packed(headers: &HeaderMap) -> Result<bool, Refusal> {
    match header_of(headers, header::CONTENT_ENCODING) {
        "" | "identity" => Ok(false),
        "gzip" => Ok(true),
        _ => {
            let why = "the content encoding must be gzip, or none";
            Err(refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::InvalidArgument, why))
        }
    }
}

fn decode<T: Message + Default + DeserializeOwned>(bytes: &[u8], format: Format) -> Result<T, Refusal> {
    let too_much = match format {
        Format::Protobuf => bulk::is_too_much(bytes),
        Format::Json => bulk::is_too_much_json(bytes),
    };
    if too_much {
        return Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, Code::InvalidArgument, bulk::TOO_MANY));
    }
    let decoded = match format {
        Format::Protobuf => T::decode(bytes).map_err(|error| error.to_string()),
        Format::Json => json::decode(bytes).map_err(|error| error.to_string()),
    };
    decoded.map_err(|error| {
        refusal(StatusCode::BAD_REQUEST, Code::InvalidArgument, &format!("not an OTLP message: {error}"))
    })
}

fn unpack(packed: &[u8]) -> Result<Vec<u8>, Refusal> {
    let mut unpacked = Vec::new();
    let read = GzDecoder::new(packed).take(MAX_MESSAGE as u64 + 1).read_to_end(&mut unpacked);
    if let Err(error) = read {
        return Err(refusal(StatusCode::BAD_REQUEST, Code::InvalidArgument, &format!("not gzip: {error}")));
    }
    if unpacked.len() > MAX_MESSAGE { Err(too_large()) } else { Ok(unpacked) }
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
    /// After how long it may come again.
    after: Option<Duration>,
}

impl Refusal {
    /// The error as OTLP wants it: a `google.rpc.Status` in the format of the request.
    fn answer(self, format: Format) -> Response {
        let Self { status, code, why, after } = self;
        let mut answer = format.encode(status, &Status { code: code as i32, message: why });
        if let Some(after) = after {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            answer.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        answer
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
    Refusal { status, code, why: why.to_owned(), after: None }
}

fn busy(after: Duration) -> Refusal {
    let why = "too much at a time; send it again";
    Refusal { after: Some(after), ..refusal(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, why) }
}
