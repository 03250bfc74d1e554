//! Who sent something: the server behind a resource.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};

/// Longest text that is taken from outside.
pub(super) const MAX_TEXT: usize = 256;

/// What tells one instance of a service from another, best first.
const INSTANCE: &[&str] = &["service.instance.id", "process.pid", "k8s.pod.name", "container.id", "host.name"];
/// What is kept of a resource beside service and instance.
const KEPT: &[&str] = &["service.namespace", "service.version", "k8s.pod.name", "k8s.namespace.name", "container.id"];
/// Model servers by what their services, scopes and metrics are called: (prefix, kind).
const KINDS: &[(&str, &str)] = &[
    ("vllm", "vllm"),
    ("triton", "triton"),
    ("sglang", "sglang"),
    ("text-generation", "tgi"),
    ("tgi_", "tgi"),
    ("llamacpp", "llama.cpp"),
];

/// The kind of server that something with this name belongs to.
pub(super) fn kind(name: &str) -> Option<&'static str> {
    KINDS.iter().find(|(prefix, _)| name.starts_with(prefix)).map(|(_, kind)| *kind)
}

/// A server as a resource describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) service: String,
    pub(super) instance: String,
    pub(super) about: Vec<(&'static str, String)>,
    /// The process, where the kernel vouches for it.
    pub(super) pid: Option<u32>,
    pub(super) kind: Option<&'static str>,
}

impl Identity {
    /// Who a resource is. `hint` is the kind of server that its scopes or metrics give away; `peer` the process at the other
    /// end of a UNIX socket. That process is the server unless the resource says otherwise: then it is a collector.
    pub(super) fn of(attributes: &[KeyValue], hint: Option<&'static str>, peer: Option<u32>) -> Self {
        let get = |key: &str| attributes.iter().find(|attribute| attribute.key == key).and_then(text);
        let service = get("service.name").filter(|name| !name.is_empty());
        let kind = service.as_deref().and_then(kind).or(hint);
        // SDKs write `unknown_service:python` when nobody named the service; vLLM's kind says more.
        let unnamed = service.as_deref().is_none_or(|name| name.starts_with("unknown_service"));
        let service = match (unnamed.then_some(kind).flatten(), service) {
            (Some(kind), _) => kind.to_owned(),
            (None, name) => name.unwrap_or_else(|| "unknown_service".to_owned()),
        };
        let said = get("process.pid").and_then(|pid| pid.parse::<u32>().ok());
        let pid = peer.filter(|peer| said.is_none_or(|said| said == *peer));
        let instance = INSTANCE.iter().find_map(|key| get(key)).or_else(|| pid.map(|pid| pid.to_string()));
        let about = KEPT.iter().filter_map(|key| Some((*key, get(key)?))).collect();
        Self { service, instance: instance.unwrap_or_else(|| "default".to_owned()), about, pid, kind }
    }
}

/// An attribute's value as text, fit for a terminal and bounded; `None` for lists and the like.
pub(super) fn text(attribute: &KeyValue) -> Option<String> {
    Some(match attribute.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => clean(text),
        Value::BoolValue(value) => value.to_string(),
        Value::IntValue(value) => value.to_string(),
        Value::DoubleValue(value) => value.to_string(),
        _ => return None,
    })
}

/// Without control characters and without what looks like a secret, which errors like to quote with the URL that failed.
fn clean(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).take(MAX_TEXT).collect();
    perfwatch_probes::redact::text(&text)
}

/// An attribute's value as a number.
pub(super) fn number(value: Option<&AnyValue>) -> Option<f64> {
    match value?.value.as_ref()? {
        Value::IntValue(value) => Some(*value as f64),
        Value::DoubleValue(value) if value.is_finite() => Some(*value),
        Value::StringValue(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(key: &str, value: &str) -> KeyValue {
        let value = Some(AnyValue { value: Some(Value::StringValue(value.to_owned())) });
        KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
    }

    #[test]
    fn a_service_that_nobody_named_goes_by_its_kind() {
        let unnamed = [attribute("service.name", "unknown_service:python")];
        let identity = Identity::of(&unnamed, Some("vllm"), Some(7));
        assert_eq!((identity.service.as_str(), identity.instance.as_str()), ("vllm", "7"));
        assert_eq!(Identity::of(&unnamed, None, None).service, "unknown_service:python");
        let named = [attribute("service.name", "triton-inference-server")];
        assert_eq!(Identity::of(&named, None, None).kind, Some("triton"));
    }

    #[test]
    fn a_collectors_process_is_not_taken_for_the_servers() {
        let own = [attribute("process.pid", "7")];
        assert_eq!(Identity::of(&own, None, Some(7)).pid, Some(7));
        assert_eq!(Identity::of(&own, None, Some(8)).pid, None);
        assert_eq!(Identity::of(&[], None, Some(8)).pid, Some(8));
    }

    #[test]
    fn nothing_from_outside_can_steer_a_terminal() {
        let hostile = [attribute("service.name", "a\u{1b}[31m")];
        assert_eq!(Identity::of(&hostile, None, None).service, "a\u{fffd}[31m");
        assert_eq!(clean(&"x".repeat(1_000)).len(), MAX_TEXT);
    }
}
