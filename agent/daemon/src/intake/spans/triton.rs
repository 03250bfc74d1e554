//! Triton: a root span `InferRequest`, under it one span per model, under each a span `compute`; the stages lie between
//! their events. All of them have kind SERVER.

use std::collections::{HashMap, VecDeque};

use opentelemetry_proto::tonic::trace::v1::Span;
use perfwatch_model::Stage;

use super::{Saying, duration_ns, failed};
use crate::intake::sampling::Sampling;

/// Name of its tracer, and so of its spans' scope. Others begin alike: the compiler of the same name, clients.
pub(super) const SCOPE: &str = "triton-server";
const ROOT: &str = "InferRequest";
const COMPUTE: &str = "compute";
const QUEUE_START: &str = "QUEUE_START";
/// Computations whose model span has not come yet. It ends right after them; Triton sends what ended in order.
const MAX_COMPUTES: usize = 4_096;

type SpanId = (Vec<u8>, Vec<u8>);

/// Starts of computations by the model span that they belong to; the oldest are forgotten.
#[derive(Debug, Default)]
pub(in crate::intake) struct Computes {
    starts: HashMap<SpanId, u64>,
    order: VecDeque<SpanId>,
}

impl Computes {
    fn put(&mut self, model: SpanId, start: u64) {
        if self.starts.insert(model.clone(), start).is_none() {
            self.order.push_back(model);
        }
        if self.order.len() > MAX_COMPUTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.starts.remove(&oldest);
        }
    }

    fn take(&mut self, model: &SpanId) -> Option<u64> {
        self.starts.remove(model)
    }
}

pub(super) fn is_ours(span: &Span) -> bool {
    span.name == ROOT || span.attributes.iter().any(|attribute| attribute.key.starts_with("triton."))
}

pub(super) fn is_model(span: &Span) -> bool {
    event(span, QUEUE_START).is_some()
}

/// Reads the root and the computations.
pub(super) fn read(span: &Span, sampling: Sampling, computes: &mut Computes, say: &mut impl FnMut(Saying)) {
    match span.name.as_str() {
        ROOT => {
            say(Saying::Request { ns: duration_ns(span), failed: failed(span), sampling, native: true });
            // Receiving has no stage of its own, and for gRPC it begins before there is a request.
            for (start, end) in [("HTTP_SEND_START", "HTTP_SEND_END"), ("GRPC_SEND_START", "GRPC_SEND_END")] {
                if let Some(ns) = between(span, start, end) {
                    say(Saying::Stage { stage: Stage::Send, ns });
                }
            }
        }
        COMPUTE => {
            let start = event(span, "COMPUTE_START").unwrap_or(span.start_time_unix_nano);
            computes.put((span.trace_id.clone(), span.parent_span_id.clone()), start);
            let input = between(span, "COMPUTE_START", "COMPUTE_INPUT_END");
            let output = between(span, "COMPUTE_OUTPUT_START", "COMPUTE_END");
            let copied = input.unwrap_or(0).saturating_add(output.unwrap_or(0));
            if input.or(output).is_some() {
                say(Saying::Stage { stage: Stage::Transfer, ns: copied });
            }
            let whole = || duration_ns(span).saturating_sub(copied);
            let ns = between(span, "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START").unwrap_or_else(whole);
            say(Saying::Stage { stage: Stage::Compute, ns });
        }
        _ => {}
    }
}

/// Reads a model's span. An ensemble's has no computation of its own, and its queue is that of its models.
pub(super) fn read_model(span: &Span, computes: &mut Computes, say: &mut impl FnMut(Saying)) {
    let Some(queued) = event(span, QUEUE_START) else { return };
    if let Some(start) = computes.take(&(span.trace_id.clone(), span.span_id.clone())) {
        say(Saying::Stage { stage: Stage::Queue, ns: start.saturating_sub(queued) });
    }
}

fn event(span: &Span, name: &str) -> Option<u64> {
    span.events.iter().find(|event| event.name == name).map(|event| event.time_unix_nano)
}

fn between(span: &Span, start: &str, end: &str) -> Option<u64> {
    event(span, end)?.checked_sub(event(span, start)?)
}
