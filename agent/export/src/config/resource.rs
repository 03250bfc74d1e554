//! The resource: who sends.

use super::error::Lookup;
use super::headers::percent_decode;
use crate::otlp::attributes::is_refused;

const ATTRIBUTES: &str = "OTEL_RESOURCE_ATTRIBUTES";

/// `service.name` and `service.version`, then what the environment says, which wins.
pub(super) fn attributes(lookup: &Lookup<'_>) -> Vec<(String, String)> {
    let mut out = vec![
        ("service.name".to_owned(), "perfwatch".to_owned()),
        ("service.version".to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ];
    let mut set = |key: String, value: String| match out.iter_mut().find(|(known, _)| *known == key) {
        Some((_, old)) => *old = value,
        None => out.push((key, value)),
    };
    let list = lookup.get(ATTRIBUTES).unwrap_or_default();
    let pairs: Result<Vec<_>, _> =
        list.split(',').map(str::trim).filter(|pair| !pair.is_empty()).map(|pair| parse(pair).ok_or(pair)).collect();
    match pairs {
        Ok(pairs) => pairs.into_iter().for_each(|(key, value)| {
            if is_refused(&key) {
                lookup.ignore(ATTRIBUTES, &key, "a key that backends keep for themselves; it is left out");
            } else {
                set(key, value);
            }
        }),
        // All or nothing, says the specification: half of a description may be another's.
        Err(pair) => {
            lookup.ignore(ATTRIBUTES, pair, "which is not `key=value` with `%2C` for a comma; none of them is taken");
        }
    }
    if let Some(name) = lookup.get("OTEL_SERVICE_NAME") {
        set("service.name".to_owned(), name);
    }
    out
}

/// A pair with both sides percent-decoded.
fn parse(pair: &str) -> Option<(String, String)> {
    let text = |part: &str| String::from_utf8(percent_decode(part.trim())?).ok();
    let (key, value) = pair.split_once('=')?;
    Some((text(key).filter(|key| !key.is_empty())?, text(value)?))
}
