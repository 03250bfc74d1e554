//! Which attributes a point carries.
//!
//! There is one resource, the agent's. What an entity is goes on its points, because backends turn resource attributes
//! into labels only on request. The host and the agent are what the resource describes, so their points repeat nothing.

use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value::Value};
use perfwatch_model::{Attr, AttrValue, Entity, EntityKind};

/// Names by which points carry what would otherwise clash with the resource's own identity once a backend turns both
/// into labels.
const RENAMED: &[(&str, &str)] = &[
    ("service.name", "perfwatch.server.name"),
    ("service.namespace", "perfwatch.server.namespace"),
    ("service.instance.id", "perfwatch.server.instance"),
    ("service.version", "perfwatch.server.version"),
];

/// True for keys that break backends: Prometheus' receiver panics on `le`, and `__*` is its own.
pub(crate) fn is_refused(key: &str) -> bool {
    key == "le" || key == "quantile" || key.starts_with("__") || key.is_empty()
}

/// A text attribute.
pub(crate) fn text(key: impl Into<String>, value: impl Into<String>) -> KeyValue {
    with_value(key, Value::StringValue(value.into()))
}

/// An attribute of any type.
pub(crate) fn with_value(key: impl Into<String>, value: Value) -> KeyValue {
    KeyValue { key: key.into(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn convert(attr: &Attr) -> KeyValue {
    let key = RENAMED.iter().find(|(from, _)| *from == attr.key).map_or(attr.key, |(_, to)| to);
    with_value(key, value_of(&attr.value))
}

/// A value as OTLP writes it.
pub(crate) fn value_of(value: &AttrValue) -> Value {
    match value {
        AttrValue::Text(text) => Value::StringValue(text.clone().into_owned()),
        AttrValue::Int(number) => Value::IntValue(*number),
    }
}

/// The attribute that tells an entity from others of its kind, where none of its own does.
fn identity(entity: &Entity) -> Option<KeyValue> {
    let key = match entity.kind {
        EntityKind::Host | EntityKind::Agent => return None,
        EntityKind::Cgroup => "perfwatch.cgroup.id",
        EntityKind::Gpu => "hw.id",
        EntityKind::Process => "perfwatch.process.id",
        EntityKind::Server => "perfwatch.server.id",
    };
    let says = |key: &str| entity.attributes.iter().any(|attr| attr.key == key);
    let named = match entity.kind {
        EntityKind::Server => says("service.name") && says("service.instance.id"),
        _ => entity.attributes.iter().any(|attr| matches!(&attr.value, AttrValue::Text(text) if *text == entity.id)),
    };
    (!named).then(|| text(key, entity.id.clone()))
}

/// The attributes of a series' points, sorted by key; `Err` with the key when one is refused. What the series says wins
/// over what its entity says.
pub(crate) fn of_series(entity: &Entity, attrs: &[Attr]) -> Result<Vec<KeyValue>, &'static str> {
    let about = match entity.kind {
        EntityKind::Host | EntityKind::Agent => &[],
        _ => entity.attributes.as_slice(),
    };
    if let Some(refused) = about.iter().chain(attrs).find(|attr| is_refused(attr.key)) {
        return Err(refused.key);
    }
    let mut out: Vec<KeyValue> = attrs.iter().chain(about).map(convert).chain(identity(entity)).collect();
    // The sort is stable, so of two with one key the series' own stays.
    out.sort_by(|left, right| left.key.cmp(&right.key));
    out.dedup_by(|later, first| later.key == first.key);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(attributes: &[KeyValue]) -> Vec<&str> {
        attributes.iter().map(|attribute| attribute.key.as_str()).collect()
    }

    #[test]
    fn a_servers_name_does_not_clash_with_the_agents() {
        let server = Entity::new(EntityKind::Server, "shop/1")
            .with("service.name", "shop")
            .with("service.instance.id", "1".to_owned());
        let out = of_series(&server, &[Attr::fixed("perfwatch.stage", "queue")]).expect("no key is refused");
        assert_eq!(keys(&out), ["perfwatch.server.instance", "perfwatch.server.name", "perfwatch.stage"]);
    }

    #[test]
    fn entities_of_a_kind_are_always_told_apart() {
        let process = Entity::new(EntityKind::Process, "7:1234").with("process.pid", 7_i64);
        let out = of_series(&process, &[]).expect("no key is refused");
        assert_eq!(keys(&out), ["perfwatch.process.id", "process.pid"]);
        let gpu = Entity::new(EntityKind::Gpu, "GPU-1").with("hw.id", "GPU-1");
        assert_eq!(keys(&of_series(&gpu, &[]).expect("no key is refused")), ["hw.id"]);
    }

    #[test]
    fn the_host_is_described_by_the_resource_alone() {
        let host = Entity::new(EntityKind::Host, "node-1").with("host.name", "node-1");
        assert!(of_series(&host, &[]).expect("no key is refused").is_empty());
    }

    #[test]
    fn keys_that_break_backends_are_refused() {
        let host = Entity::new(EntityKind::Host, "node-1");
        for key in ["le", "quantile", "__name__"] {
            assert_eq!(of_series(&host, &[Attr::fixed(key, "1")]), Err(key));
        }
    }

    #[test]
    fn a_series_own_attribute_wins() {
        let gpu = Entity::new(EntityKind::Gpu, "GPU-1").with("hw.id", "GPU-1").with("hw.name", "entity");
        let out = of_series(&gpu, &[Attr::fixed("hw.name", "series")]).expect("no key is refused");
        assert_eq!(out, [text("hw.id", "GPU-1"), text("hw.name", "series")]);
    }
}
