//! Servers without a vocabulary of their own: kinds, `GenAI` conventions, and names that say what they mean.

use std::collections::HashMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use perfwatch_model::Stage;

use super::{Saying, attribute, duration_ns, failed};
use crate::intake::sampling::Sampling;

const UNSPECIFIED: i32 = 0;
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
const CONSUMER: i32 = 5;
/// Bits of a span's flags: whether it says where its parent is, and that it is elsewhere.
const KNOWS_PARENT: u32 = 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
/// Levels that are climbed from a span to one that is mapped.
const MAX_DEPTH: usize = 64;

/// Operations of the `GenAI` conventions in which a model computes.
const COMPUTING: &[&str] = &["chat", "text_completion", "generate_content", "embeddings"];

/// Last parts of names that say what a span is.
const NAMES: &[(&str, Stage)] = &[
    ("queue", Stage::Queue),
    ("queue_wait", Stage::Queue),
    ("queued", Stage::Queue),
    ("preprocess", Stage::Preprocess),
    ("preprocessing", Stage::Preprocess),
    ("tokenize", Stage::Preprocess),
    ("data_load", Stage::DataLoad),
    ("load_data", Stage::DataLoad),
    ("fetch_features", Stage::DataLoad),
    ("batch_wait", Stage::BatchWait),
    ("transfer", Stage::Transfer),
    ("compute", Stage::Compute),
    ("inference", Stage::Compute),
    ("infer", Stage::Compute),
    ("predict", Stage::Compute),
    ("forward", Stage::Compute),
    ("prefill", Stage::Prefill),
    ("decode", Stage::Decode),
    ("postprocess", Stage::Postprocess),
    ("postprocessing", Stage::Postprocess),
    ("detokenize", Stage::Postprocess),
    ("send", Stage::Send),
];

type Id<'a> = (&'a [u8], &'a [u8]);

/// Reads spans of one resource. A stage's time is its span's less that of the mapped spans directly below it: a request is in
/// one stage at a time. Spans that are in other messages cannot be taken off; where there may be such, it is said.
pub(super) fn read(spans: &[(&Span, Sampling)], say: &mut impl FnMut(Saying)) {
    let stages: Vec<Option<Stage>> = spans.iter().map(|(span, _)| stage(span)).collect();
    let by_id: HashMap<Id<'_>, usize> =
        spans.iter().enumerate().map(|(at, (span, _))| ((&span.trace_id[..], &span.span_id[..]), at)).collect();
    let mut own: Vec<u64> = spans.iter().map(|(span, _)| duration_ns(span)).collect();
    let mut is_torn = false;
    for (at, (span, _)) in spans.iter().enumerate().filter(|(at, _)| stages[*at].is_some()) {
        match above(at, spans, &stages, &by_id) {
            Above::Stage(above) => own[above] = own[above].saturating_sub(duration_ns(span)),
            Above::Nothing => {}
            Above::Elsewhere => is_torn = true,
        }
    }
    if is_torn {
        say(Saying::Torn);
    }
    for (at, (span, sampling)) in spans.iter().enumerate() {
        if is_request(span) {
            let (ns, failed) = (duration_ns(span), failed(span));
            say(Saying::Request { ns, failed, sampling: *sampling, native: false });
        }
        if let Some(stage) = stages[at] {
            say(Saying::Stage { stage, ns: own[at] });
        }
    }
}

/// What is above a stage.
enum Above {
    /// This span is the next stage.
    Stage(usize),
    /// No stage, up to the request or to where the trace came into this process.
    Nothing,
    /// It cannot be seen in this message.
    Elsewhere,
}

fn above(at: usize, spans: &[(&Span, Sampling)], stages: &[Option<Stage>], by_id: &HashMap<Id<'_>, usize>) -> Above {
    let mut below = at;
    for _ in 0..MAX_DEPTH {
        let span = spans[below].0;
        let is_outermost = span.parent_span_id.is_empty() || span.flags & PARENT_IS_REMOTE != 0 || is_request(span);
        match by_id.get(&(&span.trace_id[..], &span.parent_span_id[..])) {
            Some(above) if *above != at && stages[*above].is_some() => return Above::Stage(*above),
            Some(above) => below = *above,
            None if is_outermost => return Above::Nothing,
            None => return Above::Elsewhere,
        }
    }
    Above::Elsewhere
}

/// A request is what came from outside: a server's or consumer's span whose parent, if any, is elsewhere.
fn is_request(span: &Span) -> bool {
    let parent_is_here = span.flags & (KNOWS_PARENT | PARENT_IS_REMOTE) == KNOWS_PARENT;
    let local_parent = !span.parent_span_id.is_empty() && parent_is_here;
    match span.kind {
        SERVER | CONSUMER => !local_parent,
        // A model that runs in this process and is called from no request: a batch job, a notebook.
        INTERNAL => span.parent_span_id.is_empty() && computes(span),
        _ => false,
    }
}

fn computes(span: &Span) -> bool {
    text(span, "gen_ai.operation.name").is_some_and(|name| COMPUTING.contains(&name))
}

fn stage(span: &Span) -> Option<Stage> {
    if let Some(name) = text(span, "perfwatch.stage") {
        return Stage::from_name(name);
    }
    if matches!(span.kind, SERVER | CONSUMER) {
        return None;
    }
    if computes(span) {
        return Some(Stage::Compute);
    }
    if attribute(span, "db.system.name").or_else(|| attribute(span, "db.system")).is_some() {
        return Some(Stage::DataLoad);
    }
    // A client's `POST /v1/predict` is a wait for a model elsewhere. Who says no kind means an internal one.
    if !matches!(span.kind, UNSPECIFIED | INTERNAL) {
        return None;
    }
    let last = span.name.rsplit(['.', '/', ':', ' ']).next().unwrap_or_default().to_ascii_lowercase().replace('-', "_");
    NAMES.iter().find(|(name, _)| *name == last).map(|(_, stage)| *stage)
}

fn text<'a>(span: &'a Span, key: &str) -> Option<&'a str> {
    match attribute(span, key)?.value.as_ref()? {
        Value::StringValue(text) => Some(text),
        _ => None,
    }
}
