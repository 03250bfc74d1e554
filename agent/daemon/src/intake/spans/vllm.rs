//! vLLM: one span `llm_request` per request, whose times are in its attributes.

use opentelemetry_proto::tonic::trace::v1::Span;
use perfwatch_model::Stage;

use super::{Saying, duration_ns, failed, seconds};
use crate::intake::sampling::Sampling;

const PREFIX: &str = "gen_ai.latency.";
/// The attribute of each stage. What vLLM calls inference contains prefill and decode, so it counts only without them.
const STAGES: &[(&str, Stage)] = &[
    ("gen_ai.latency.time_in_queue", Stage::Queue),
    ("gen_ai.latency.time_in_model_prefill", Stage::Prefill),
    ("gen_ai.latency.time_in_model_decode", Stage::Decode),
];
/// For servers that do not tell prefill from decode, best first.
const WHOLE: &[&str] = &["gen_ai.latency.time_in_model_inference", "gen_ai.latency.time_in_model_execute"];

pub(super) fn is_request(span: &Span) -> bool {
    span.attributes.iter().any(|attribute| attribute.key.starts_with(PREFIX))
}

pub(super) fn read(span: &Span, sampling: Sampling, say: &mut impl FnMut(Saying)) {
    let ns = seconds(span, "gen_ai.latency.e2e").unwrap_or_else(|| duration_ns(span));
    say(Saying::Request { ns, failed: failed(span), sampling, native: true });
    let mut in_model = false;
    for (key, stage) in STAGES {
        if let Some(ns) = seconds(span, key) {
            in_model |= *stage != Stage::Queue;
            say(Saying::Stage { stage: *stage, ns });
        }
    }
    if !in_model && let Some(ns) = WHOLE.iter().find_map(|key| seconds(span, key)) {
        say(Saying::Stage { stage: Stage::Compute, ns });
    }
    if let Some(ns) = seconds(span, "gen_ai.latency.time_to_first_token") {
        say(Saying::FirstToken { ns });
    }
}
