use super::*;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Status, span::Event};

const BASE: u64 = 1_700_000_000_000_000_000;
const US: u64 = 1_000;

/// A span of trace 1 from and to these microseconds.
pub(in crate::intake) fn span(name: &str, (id, parent): (u8, u8), (start, end): (u64, u64)) -> Span {
    Span {
        trace_id: vec![1; 16],
        span_id: vec![id; 8],
        parent_span_id: if parent == 0 { Vec::new() } else { vec![parent; 8] },
        name: name.to_owned(),
        kind: 2,
        start_time_unix_nano: BASE + start * US,
        end_time_unix_nano: BASE + end * US,
        ..Span::default()
    }
}

pub(in crate::intake) fn with(mut span: Span, key: &str, value: Value) -> Span {
    let value = Some(AnyValue { value: Some(value) });
    span.attributes.push(KeyValue { key: key.to_owned(), value, ..KeyValue::default() });
    span
}

fn event(mut span: Span, name: &str, at: u64) -> Span {
    span.events.push(Event { name: name.to_owned(), time_unix_nano: BASE + at * US, ..Event::default() });
    span
}

pub(in crate::intake) fn scope(name: &str, spans: Vec<Span>) -> ScopeSpans {
    let scope = Some(InstrumentationScope { name: name.to_owned(), ..InstrumentationScope::default() });
    ScopeSpans { scope, spans, ..ScopeSpans::default() }
}

/// A request as vLLM traces it: attribute names as of 0.6 and later.
pub(in crate::intake) fn vllm_request() -> Span {
    let mut request = span("llm_request", (1, 0), (0, 1_000_000));
    for (key, seconds) in [
        ("gen_ai.latency.time_in_queue", 0.1),
        ("gen_ai.latency.time_to_first_token", 0.35),
        ("gen_ai.latency.e2e", 0.98),
        ("gen_ai.latency.time_in_model_prefill", 0.25),
        ("gen_ai.latency.time_in_model_decode", 0.6),
        ("gen_ai.latency.time_in_model_inference", 0.85),
    ] {
        request = with(request, key, Value::DoubleValue(seconds));
    }
    with(request, "gen_ai.usage.prompt_tokens", Value::IntValue(512))
}

/// The spans of one HTTP request to a simple model, in the order in which they end. Times as in Triton's guide to tracing.
pub(in crate::intake) fn triton_request() -> Vec<Span> {
    let compute = span("compute", (3, 2), (303, 2_957));
    let compute = event(compute, "COMPUTE_START", 303);
    let compute = event(compute, "COMPUTE_INPUT_END", 2_569);
    let compute = event(compute, "COMPUTE_OUTPUT_START", 2_913);
    let compute = event(compute, "COMPUTE_END", 2_957);
    let model =
        with(span("simple", (2, 1), (201, 3_059)), "triton.model_name", Value::StringValue("simple".to_owned()));
    let model = event(event(event(model, "REQUEST_START", 201), "QUEUE_START", 207), "REQUEST_END", 3_059);
    let root = span("InferRequest", (1, 0), (0, 3_130));
    let root = event(event(root, "HTTP_RECV_START", 0), "HTTP_RECV_END", 48);
    let root = event(event(root, "HTTP_SEND_START", 3_097), "HTTP_SEND_END", 3_128);
    vec![compute, model, root]
}

fn said(scopes: &[ScopeSpans]) -> Vec<Saying> {
    said_by(scopes, &mut Computes::default())
}

fn said_by(scopes: &[ScopeSpans], computes: &mut Computes) -> Vec<Saying> {
    let mut all = Vec::new();
    assert_eq!(read(scopes, computes, Some(1.0), |saying| all.push(saying)), 0);
    all
}

fn stages(sayings: &[Saying]) -> Vec<(Stage, u64)> {
    let mut stages: Vec<_> = sayings
        .iter()
        .filter_map(|saying| match saying {
            Saying::Stage { stage, ns } => Some((*stage, ns / US)),
            _ => None,
        })
        .collect();
    stages.sort_unstable();
    stages
}

fn requests(sayings: &[Saying]) -> Vec<u64> {
    let request = |saying: &Saying| if let Saying::Request { ns, .. } = saying { Some(ns / US) } else { None };
    sayings.iter().filter_map(request).collect()
}

#[test]
fn vllm_puts_its_stages_into_attributes() {
    let scopes = [scope("vllm.llm_engine", vec![vllm_request()])];
    let said = said(&scopes);
    assert_eq!(requests(&said), [980_000], "what vLLM says, not the span's length");
    let wanted = [(Stage::Queue, 100_000), (Stage::Prefill, 250_000), (Stage::Decode, 600_000)];
    assert_eq!(stages(&said), wanted, "inference contains prefill and decode");
    assert!(said.contains(&Saying::FirstToken { ns: 350_000_000 }));
    assert_eq!(kind(&scopes), Some("vllm"));
}

#[test]
fn an_older_vllm_that_knows_no_prefill_has_one_compute_stage() {
    let request = span("llm_request", (1, 0), (0, 500));
    let request = with(request, "gen_ai.latency.time_in_model_execute", Value::DoubleValue(0.000_2));
    let said = said(&[scope("vllm.llm_engine", vec![request])]);
    assert_eq!((requests(&said), stages(&said)), (vec![500], vec![(Stage::Compute, 200)]));
}

#[test]
fn tritons_stages_lie_between_its_events() {
    let scopes = [scope("triton-server", triton_request())];
    let said = said(&scopes);
    assert_eq!(requests(&said), [3_130], "one request, though every span has kind SERVER");
    let wanted = [(Stage::Queue, 96), (Stage::Transfer, 2_266 + 44), (Stage::Compute, 344), (Stage::Send, 31)];
    assert_eq!(stages(&said), wanted);
    assert_eq!(kind(&scopes), Some("triton"));
}

#[test]
fn a_model_span_finds_its_computation_in_an_earlier_batch_and_in_any_order() {
    let mut computes = Computes::default();
    let spans = triton_request();
    said_by(&[scope("triton-server", vec![spans[0].clone()])], &mut computes);
    let later = said_by(&[scope("triton-server", spans[1..].to_vec())], &mut computes);
    assert_eq!(stages(&later)[0], (Stage::Queue, 96));
    let reversed: Vec<_> = spans.into_iter().rev().collect();
    assert_eq!(stages(&said(&[scope("triton-server", reversed)])).len(), 4);
}

#[test]
fn computations_without_a_model_are_forgotten_in_time() {
    let mut computes = Computes::default();
    let compute = &triton_request()[0];
    for number in 0..20_000_u64 {
        let mut compute = compute.clone();
        compute.parent_span_id = number.to_be_bytes().to_vec();
        said_by(&[scope("triton-server", vec![compute])], &mut computes);
    }
    assert!(format!("{computes:?}").len() < 2_000_000, "bounded");
}

#[test]
fn a_request_is_what_came_from_outside() {
    let root = span("POST /predict", (1, 9), (0, 100));
    let mut inner = span("inner", (2, 1), (10, 90));
    inner.flags = KNOWS_LOCAL_PARENT;
    let mut failing = span("GET /x", (3, 0), (0, 7));
    failing.status = Some(Status { code: 2, ..Status::default() });
    let said = said(&[scope("app", vec![inner, root, failing])]);
    assert_eq!(requests(&said), [100, 7]);
    let failures = said.iter().filter(|saying| matches!(saying, Saying::Request { failed: true, .. }));
    assert_eq!(failures.count(), 1);
}

const KNOWS_LOCAL_PARENT: u32 = 0x100;

fn internal(name: &str, ids: (u8, u8), times: (u64, u64)) -> Span {
    Span { kind: 1, ..span(name, ids, times) }
}

#[test]
fn nested_stages_share_their_time_instead_of_counting_it_twice() {
    let spans = vec![
        internal("model.prefill", (4, 3), (20, 40)),
        internal("model.decode", (5, 9), (40, 70)),
        internal("step", (9, 3), (40, 75)),
        internal("inference", (3, 1), (20, 80)),
        internal("Tokenize", (2, 1), (5, 15)),
        span("POST /generate", (1, 0), (0, 100)),
    ];
    let said = said(&[scope("app", spans)]);
    let wanted = [(Stage::Preprocess, 10), (Stage::Compute, 10), (Stage::Prefill, 20), (Stage::Decode, 30)];
    assert_eq!(stages(&said), wanted);
}

#[test]
fn stages_whose_parents_are_in_another_message_are_marked() {
    let is_torn = |spans: &[&Span]| {
        let spans = spans.iter().map(|span| (*span).clone()).collect();
        said(&[scope("app", spans)]).contains(&Saying::Torn)
    };
    let root = span("POST /generate", (1, 7), (0, 100));
    let outer = internal("inference", (2, 1), (10, 90));
    let step = internal("step", (3, 2), (20, 80));
    let inner = internal("prefill", (4, 3), (30, 70));
    assert!(!is_torn(&[&inner, &step, &outer, &root]), "the caller of a request is nobody's stage");
    assert!(is_torn(&[&inner]) && is_torn(&[&inner, &step]) && is_torn(&[&outer]));
    assert!(is_torn(&[&outer, &inner, &root]), "what is between them is missing");
    assert!(!is_torn(&[&root]) && !is_torn(&[&root, &step]), "no stages");
    let remote = Span { flags: 0x300, ..outer.clone() };
    assert!(!is_torn(&[&remote]), "its parent is another process's");
}

#[test]
fn only_what_happens_inside_a_process_is_a_stage_by_its_name() {
    let of = |kind| stages(&said(&[scope("app", vec![Span { kind, ..internal("POST /v1/predict", (2, 0), (0, 9)) }])]));
    assert_eq!((of(1), of(0)), (vec![(Stage::Compute, 9)], vec![(Stage::Compute, 9)]));
    assert_eq!((of(2), of(3), of(4), of(5)), (vec![], vec![], vec![], vec![]), "a gateway waits for the model");
}

#[test]
fn a_scope_that_begins_like_tritons_is_not_tritons() {
    for name in ["triton", "tritonclient.http", "triton-server-proxy"] {
        let scopes = [scope(name, vec![span("POST /x", (1, 0), (0, 7)), internal("infer", (2, 1), (1, 5))])];
        let said = said(&scopes);
        assert_eq!((requests(&said), stages(&said)), (vec![7], vec![(Stage::Compute, 4)]), "{name}");
        assert_eq!(kind(&scopes), None, "{name}");
    }
}

#[test]
fn the_genai_conventions_and_an_explicit_stage_are_understood() {
    let chat = |kind| {
        let chat = with(span("chat llama", (2, 1), (0, 50)), "gen_ai.operation.name", text("chat"));
        Span { kind, ..chat }
    };
    assert_eq!(stages(&said(&[scope("app", vec![chat(3)])])), [(Stage::Compute, 50)]);
    let served = said(&[scope("app", vec![Span { parent_span_id: Vec::new(), ..chat(2) }])]);
    assert_eq!((requests(&served), stages(&served)), (vec![50], vec![]), "a server's own span is the request");
    let marked = with(internal("anything", (2, 1), (0, 8)), "perfwatch.stage", text("batch_wait"));
    let database = with(Span { kind: 3, ..span("SELECT", (3, 1), (0, 9)) }, "db.system.name", text("redis"));
    let said = said(&[scope("app", vec![marked, database])]);
    assert_eq!(stages(&said), [(Stage::DataLoad, 9), (Stage::BatchWait, 8)]);
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

#[test]
fn malformed_spans_are_counted_and_hurt_nobody() {
    let fine = span("GET /", (1, 0), (0, 5));
    let bad = [
        Span { trace_id: vec![1; 15], ..fine.clone() },
        Span { span_id: Vec::new(), ..fine.clone() },
        Span { start_time_unix_nano: 0, ..fine.clone() },
        Span { end_time_unix_nano: 1, ..fine.clone() },
    ];
    let circle = [internal("infer", (1, 2), (0, 5)), internal("infer", (2, 1), (0, 5))];
    let spans: Vec<_> = bad.into_iter().chain(circle).chain([fine]).collect();
    let mut all = Vec::new();
    let malformed = read(&[scope("app", spans)], &mut Computes::default(), None, |saying| all.push(saying));
    assert_eq!((malformed, requests(&all)), (4, vec![5]));
}
