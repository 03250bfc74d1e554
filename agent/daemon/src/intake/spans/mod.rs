//! What spans say about requests and stages. The mapping is documented in [`super`]; one file per vocabulary.

mod generic;
mod triton;
mod vllm;

use opentelemetry_proto::tonic::common::v1::AnyValue;
use opentelemetry_proto::tonic::trace::v1::{ScopeSpans, Span};
use perfwatch_model::Stage;

use super::resource;
use super::sampling::Sampling;
pub(super) use triton::Computes;

/// One thing that a span says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Saying {
    /// A request ended. `native` when the model server says so itself, and not the HTTP server around it.
    Request { ns: u64, failed: bool, sampling: Sampling, native: bool },
    /// A request had spent this long in a stage.
    Stage { stage: Stage, ns: u64 },
    /// Some of these stages may lie in another one that came or comes in another message: its time holds theirs too.
    Torn,
    /// Its first token came after this long.
    FirstToken { ns: u64 },
}

/// What a batch of one resource's spans says, with how many spans were malformed.
pub(super) fn read(
    scopes: &[ScopeSpans],
    computes: &mut Computes,
    configured: Option<f64>,
    mut say: impl FnMut(Saying),
) -> u64 {
    let mut malformed = 0;
    let mut generic = Vec::new();
    let mut models = Vec::new();
    for scope in scopes {
        let triton = scope.scope.as_ref().is_some_and(|scope| scope.name == triton::SCOPE);
        for span in &scope.spans {
            if !is_well_formed(span) {
                malformed += 1;
                continue;
            }
            let sampling = Sampling::of(&span.trace_state, configured);
            if vllm::is_request(span) {
                vllm::read(span, sampling, &mut say);
            } else if triton || triton::is_ours(span) {
                // Computations go first: a model's queue ends where its computation begins.
                if triton::is_model(span) {
                    models.push(span);
                } else {
                    triton::read(span, sampling, computes, &mut say);
                }
            } else {
                generic.push((span, sampling));
            }
        }
    }
    for model in models {
        triton::read_model(model, computes, &mut say);
    }
    generic::read(&generic, &mut say);
    malformed
}

/// The kind of server that a batch's scopes and attributes give away.
pub(super) fn kind(scopes: &[ScopeSpans]) -> Option<&'static str> {
    scopes.iter().find_map(|scope| {
        let named = scope.scope.as_ref().map(|scope| scope.name.as_str());
        let named = named.filter(|name| *name == triton::SCOPE || !name.starts_with("triton")).and_then(resource::kind);
        named.or_else(|| scope.spans.iter().any(triton::is_ours).then_some("triton"))
    })
}

fn is_well_formed(span: &Span) -> bool {
    span.trace_id.len() == 16
        && span.span_id.len() == 8
        && matches!(span.parent_span_id.len(), 0 | 8)
        && span.start_time_unix_nano > 0
        && span.end_time_unix_nano >= span.start_time_unix_nano
}

fn duration_ns(span: &Span) -> u64 {
    span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code == 2)
}

fn attribute<'a>(span: &'a Span, key: &str) -> Option<&'a AnyValue> {
    span.attributes.iter().find(|attribute| attribute.key == key)?.value.as_ref()
}

/// Seconds in an attribute, as nanoseconds; `None` where they are missing, negative or beyond a day.
fn seconds(span: &Span, key: &str) -> Option<u64> {
    let seconds = resource::number(attribute(span, key)).filter(|seconds| (0.0..=86_400.0).contains(seconds))?;
    Some((seconds * 1e9).round() as u64)
}

#[cfg(test)]
pub(super) mod tests;
