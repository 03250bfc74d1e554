//! Dashboards and rules against what perfwatch really sends, in a real Prometheus.

mod filled;
mod grafana;
mod live;
mod rules;

use serde_json::Value;

use crate::http::escaped;
use crate::peers::Peer;

/// What Prometheus' API answers; no warning is accepted.
fn api(prometheus: &Peer, path: &str, parameters: &[(&str, &str)]) -> Value {
    let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let answer = prometheus.json(&format!("/api/v1/{path}?{}", query.join("&")));
    let warnings = answer["warnings"].as_array().map_or(0, Vec::len);
    assert_eq!(warnings, 0, "{path}, {parameters:?}: {answer}");
    answer["data"].clone()
}
