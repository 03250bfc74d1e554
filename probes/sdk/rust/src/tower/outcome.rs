//! How a call ended, from the status of its response.

use std::borrow::Cow;

use http::{HeaderMap, Response};

use crate::request::Request;

/// How a call ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Finished,
    Failed(Cow<'static, str>),
    Cancelled,
}

impl Outcome {
    pub(super) fn of<B>(response: &Response<B>) -> Self {
        let status = response.status();
        if status.is_server_error() {
            return Self::Failed(status.as_str().to_owned().into());
        }
        // A gRPC response without a body has its status among the headers.
        Self::of_grpc(response.headers()).unwrap_or(Self::Finished)
    }

    /// From `grpc-status` in headers or trailers. Which codes are the server's fault: OpenTelemetry's conventions for
    /// gRPC.
    pub(super) fn of_grpc(headers: &HeaderMap) -> Option<Self> {
        Some(match headers.get("grpc-status")?.as_bytes() {
            b"1" => Self::Cancelled,
            b"2" => Self::Failed("UNKNOWN".into()),
            b"4" => Self::Failed("DEADLINE_EXCEEDED".into()),
            b"12" => Self::Failed("UNIMPLEMENTED".into()),
            b"13" => Self::Failed("INTERNAL".into()),
            b"14" => Self::Failed("UNAVAILABLE".into()),
            b"15" => Self::Failed("DATA_LOSS".into()),
            _ => Self::Finished,
        })
    }

    pub(super) fn end(&self, request: Request) {
        match self {
            Self::Finished => request.finish(),
            Self::Failed(kind) => request.fail_with(kind),
            Self::Cancelled => request.cancel(),
        }
    }
}
