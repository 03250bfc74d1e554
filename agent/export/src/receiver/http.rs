//! The HTTP side.

use std::io::{self, Read as _};
use std::sync::Arc;

use bytes::Bytes;
use flate2::read::GzDecoder;
use http::{Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::{logs::v1 as logs, metrics::v1 as metrics, trace::v1 as trace};
use prost::Message;
use tokio::net::TcpListener;
use tonic_types::Status;

use super::{Answer, Attempt, Received, Shared};
use crate::config::Signal;

pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((stream, _)) = listener.accept().await {
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(request, &shared));
            // An error is the client hanging up, or `Answer::Close`.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

fn plain(status: StatusCode, message: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(message.as_bytes())));
    *response.status_mut() = status;
    response
}

fn protobuf(status: StatusCode, message: &impl Message) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(message.encode_to_vec().into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/x-protobuf"));
    response
}

async fn answer(request: Request<Incoming>, shared: &Shared) -> io::Result<Response<Full<Bytes>>> {
    let signal = match request.uri().path() {
        "/v1/metrics" => Signal::Metrics,
        "/v1/logs" => Signal::Logs,
        "/v1/traces" => Signal::Traces,
        _ => return Ok(plain(StatusCode::NOT_FOUND, "no such path")),
    };
    let (parts, body) = request.into_parts();
    if parts.headers.get(header::CONTENT_TYPE).is_none_or(|kind| kind != "application/x-protobuf") {
        return Ok(plain(StatusCode::UNSUPPORTED_MEDIA_TYPE, "not protobuf"));
    }
    let mut message = body.collect().await.map_err(io::Error::other)?.to_bytes();
    if parts.headers.get(header::CONTENT_ENCODING).is_some_and(|encoding| encoding == "gzip") {
        let mut plain = Vec::new();
        GzDecoder::new(&message[..]).read_to_end(&mut plain)?;
        message = plain.into();
    }
    let value = |value: &header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = parts.headers.iter().map(|(name, text)| (name.as_str().to_owned(), value(text))).collect();
    let due = shared.arrive(Attempt { signal, message: message.clone(), headers }).due().await;
    let refused = match due {
        Answer::Accept => return Ok(keep(signal, message, shared, None)),
        Answer::Lose => {
            keep(signal, message, shared, None);
            return Err(io::Error::other("closing, as told"));
        }
        Answer::Partial { rejected, message: why } => return Ok(keep(signal, message, shared, Some((rejected, why)))),
        refused => refused,
    };
    Ok(match refused {
        Answer::Busy(after) => {
            let mut response = plain(StatusCode::SERVICE_UNAVAILABLE, "busy");
            if let Some(after) = after {
                response.headers_mut().insert(header::RETRY_AFTER, after.as_secs().into());
            }
            response
        }
        Answer::Refuse(message) => protobuf(StatusCode::BAD_REQUEST, &Status { code: 3, message, details: Vec::new() }),
        Answer::Status(status) => {
            plain(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), "as told")
        }
        Answer::Code(..) => plain(StatusCode::INTERNAL_SERVER_ERROR, "as told"),
        _ => return Err(io::Error::other("closing, as told")),
    })
}

/// Keeps a request and makes the accepting answer; one that cannot be decoded is refused.
fn keep(signal: Signal, message: Bytes, shared: &Shared, partial: Option<(i64, String)>) -> Response<Full<Bytes>> {
    fn decoded<T: Message + Default>(message: Bytes, shared: &Shared, keep: impl FnOnce(&mut Received, T)) -> bool {
        match T::decode(message) {
            Ok(message) => {
                shared.keep(|received| keep(received, message));
                true
            }
            Err(_) => false,
        }
    }
    let (taken, response) = match signal {
        Signal::Metrics => {
            let partial = partial.map(|(rejected_data_points, error_message)| metrics::ExportMetricsPartialSuccess {
                rejected_data_points,
                error_message,
            });
            let taken = decoded(message, shared, |received, message| received.metrics.push(message));
            (taken, protobuf(StatusCode::OK, &metrics::ExportMetricsServiceResponse { partial_success: partial }))
        }
        Signal::Logs => {
            let partial = partial.map(|(rejected_log_records, error_message)| logs::ExportLogsPartialSuccess {
                rejected_log_records,
                error_message,
            });
            let taken = decoded(message, shared, |received, message| received.logs.push(message));
            (taken, protobuf(StatusCode::OK, &logs::ExportLogsServiceResponse { partial_success: partial }))
        }
        Signal::Traces => {
            let partial = partial.map(|(rejected_spans, error_message)| trace::ExportTracePartialSuccess {
                rejected_spans,
                error_message,
            });
            let taken = decoded(message, shared, |received, message| received.traces.push(message));
            (taken, protobuf(StatusCode::OK, &trace::ExportTraceServiceResponse { partial_success: partial }))
        }
    };
    if taken { response } else { plain(StatusCode::BAD_REQUEST, "the message cannot be decoded") }
}
