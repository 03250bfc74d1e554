//! What became of an attempt, by the rules of the OTLP specification.

use std::error::Error;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceResponse, metrics::v1::ExportMetricsServiceResponse,
    trace::v1::ExportTraceServiceResponse,
};
use prost::Message;
use tonic::Code;

use crate::config::Signal;

/// What became of an attempt.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Taken, but for `rejected` items. Never to be sent again, even if some were rejected.
    Accepted { rejected: u64, message: String },
    /// To be sent again, not before `after`.
    Retry { after: Option<Duration>, fault: Fault, why: String },
    /// Never to be sent again. `divisible` when a part of it may be to blame.
    Refused { why: String, divisible: bool },
}

/// Why an attempt is to be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// No connection.
    Unreachable,
    /// Connected, and the connection ended without an answer. Some receivers die of a request, again and again.
    Closed,
    /// The receiver asks for patience, or is slow.
    Busy,
}

/// True for the HTTP answers after which a request is sent again. 500 is not among them.
pub(crate) fn is_retryable_status(status: u16) -> bool {
    matches!(status, 429 | 502 | 503 | 504)
}

/// True for the HTTP answers that may be about something within the request; the others are about who asks, or where.
pub(crate) fn may_be_about_a_point(status: u16) -> bool {
    matches!(status, 400 | 413 | 422 | 500)
}

/// The same for gRPC. A message that is too large exhausts resources.
pub(crate) fn may_be_about_a_point_of_grpc(code: Code) -> bool {
    matches!(
        code,
        Code::InvalidArgument | Code::FailedPrecondition | Code::ResourceExhausted | Code::Internal | Code::Unknown
    )
}

/// True for the gRPC answers after which a request is sent again; exhaustion only when the server says for how long.
pub(crate) fn is_retryable_code(code: Code, says_when: bool) -> bool {
    match code {
        Code::Cancelled
        | Code::DeadlineExceeded
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::ResourceExhausted => says_when,
        _ => false,
    }
}

/// Reads the body of an accepting answer. One that cannot be read says nothing about rejected items, so none are assumed.
pub(crate) fn accepted(signal: Signal, body: &[u8]) -> Outcome {
    let partial = match signal {
        Signal::Metrics => ExportMetricsServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| (partial.rejected_data_points, partial.error_message)),
        Signal::Logs => ExportLogsServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| (partial.rejected_log_records, partial.error_message)),
        Signal::Traces => ExportTraceServiceResponse::decode(body)
            .ok()
            .and_then(|response| response.partial_success)
            .map(|partial| (partial.rejected_spans, partial.error_message)),
    };
    let (rejected, message) = partial.unwrap_or_default();
    Outcome::Accepted { rejected: u64::try_from(rejected).unwrap_or(0), message: printable(&message) }
}

/// Text from outside, fit for a log or a screen: printable, not endless.
pub(crate) fn printable(text: &str) -> String {
    const MOST: usize = 200;
    let mut rest = text.trim().chars();
    let kept: String = rest.by_ref().take(MOST).collect();
    let end = if rest.next().is_some() { "…" } else { "" };
    perfwatch_model::printable(kept.as_bytes()) + end
}

/// An error with its causes, each once.
pub(crate) fn with_causes(error: &dyn Error) -> String {
    let mut out = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !out.contains(&text) {
            out.push_str(": ");
            out.push_str(&text);
        }
        cause = error.source();
    }
    printable(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exactly_the_specified_answers_are_retried() {
        let retried: Vec<u16> = (100..600).filter(|status| is_retryable_status(*status)).collect();
        assert_eq!(retried, [429, 502, 503, 504]);
        let retried = |says_when| -> Vec<i32> {
            (0..=16).filter(|code| is_retryable_code(Code::from_i32(*code), says_when)).collect()
        };
        assert_eq!(retried(false), [1, 4, 10, 11, 14, 15]);
        assert_eq!(retried(true), [1, 4, 8, 10, 11, 14, 15]);
    }

    #[test]
    fn text_from_outside_is_harmless_and_short() {
        assert_eq!(printable("  no\x1b[31m \u{202e}red\n"), "no\\x1b[31m \\u{202e}red");
        assert_eq!(printable(&"x".repeat(1_000)).chars().count(), 201);
    }

    #[test]
    fn an_empty_or_unreadable_answer_is_an_acceptance() {
        for body in [&b""[..], b"\xff\xff\xff"] {
            let expected = Outcome::Accepted { rejected: 0, message: String::new() };
            assert_eq!(accepted(Signal::Metrics, body), expected);
        }
    }
}
