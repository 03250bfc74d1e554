//! The resource: who sends.

use super::error::{ConfigError, Lookup};
use super::headers::percent_decode;
use crate::otlp::attributes::is_refused;

const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// `service.name` and `service.version`, then what the environment says, which wins.
pub(super) fn attributes(lookup: &Lookup<'_>) -> Result<Vec<(String, String)>, ConfigError> {
    let mut out = vec![
        ("service.name".to_owned(), "perfwatch".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut set = |key: &str, value: String| match out.iter_mut().find(|(known, _)| known == key) {
        Some((_, old)) => *old = value,
        None => out.push((key.to_owned(), value)),
    };
    let list = lookup.get(ATTRIBUTES).unwrap_or_default();
    for pair in list.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let wrong = |problem: &str, hint: &str| ConfigError::new(ATTRIBUTES, pair, problem, hint);
        let Some((key, value)) = pair.split_once('=') else {
            return Err(wrong("has no `=`", "write `key=value,key=value`"));
        };
        let key = key.trim();
        if is_refused(key) {
            return Err(wrong("has a key that backends keep for themselves", "choose another key"));
        }
        let value = percent_decode(value.trim())
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| wrong("has a broken percent-encoding", "write `%2C` for a comma, `%25` for a percent"))?;
        set(key, value);
    }
    if let Some(name) = lookup.get("OTEL_SERVICE_NAME") {
        set("service.name", name);
    }
    Ok(out)
}
