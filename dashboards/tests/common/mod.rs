//! Dashboards as the tests look at them.

#![allow(dead_code, reason = "not every test needs all of it")]

use serde_json::Value;

/// Every dashboard, by file name.
pub(crate) fn dashboards() -> Vec<(&'static str, Value)> {
    let files = perfwatch_dashboards::files().into_iter().filter(|file| file.path.starts_with("grafana/"));
    files.map(|file| (file.path, serde_json::from_str(&file.text).expect("it is JSON"))).collect()
}

/// What is at `pointer`, as text.
pub(crate) fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What is at `pointer`, as a list.
pub(crate) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Panels that show something.
pub(crate) fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    list(dashboard, "/panels").iter().filter(|panel| panel["type"] != "row")
}

/// Every query of panels and annotations, with its panel's title.
pub(crate) fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let of_panels = panels(dashboard).flat_map(|panel| {
        let title = text(panel, "/title").to_owned();
        list(panel, "/targets").iter().map(move |target| (title.clone(), text(target, "/expr").to_owned()))
    });
    let of_annotations = list(dashboard, "/annotations/list")
        .iter()
        .map(|annotation| (text(annotation, "/name").to_owned(), text(annotation, "/expr").to_owned()));
    of_panels.chain(of_annotations).collect()
}

/// A query as Prometheus would get it, all variables at "all".
pub(crate) fn resolved(query: &str) -> String {
    query
        .replace("$__rate_interval", "1m")
        .replace("$server_instance", ".*")
        .replace("$server", ".*")
        .replace("$job", ".+")
        .replace("$instance", ".+")
}
