//! What Grafana does between a dashboard and its data source: variables in order, then queries with their values in them.

use serde_json::Value;

use super::api;
use crate::ROOT;
use crate::peers::Peer;

/// A committed dashboard.
pub(super) struct Dashboard {
    pub(super) title: String,
    json: Value,
}

/// A query with its place and what it must answer.
pub(super) struct Query {
    pub(super) place: String,
    pub(super) expr: String,
    pub(super) heatmap: bool,
}

/// Variables and what was chosen for each, in the order of the dashboard.
pub(super) type Choice = Vec<(String, String)>;

impl Dashboard {
    /// Every committed one.
    pub(super) fn all() -> Vec<Self> {
        let files = std::fs::read_dir(format!("{ROOT}/dashboards/grafana")).expect("they are committed");
        let read = |path| std::fs::read_to_string(path).expect("text");
        let parse = |text: String| serde_json::from_str::<Value>(&text).expect("JSON");
        let all = files.map(|file| parse(read(file.expect("an entry").path())));
        all.map(|json| Self { title: json["title"].as_str().expect("a title").to_owned(), json }).collect()
    }

    fn list(&self, pointer: &str) -> &[Value] {
        self.json.pointer(pointer).and_then(Value::as_array).expect("a list")
    }

    /// "All" for every variable.
    pub(super) fn all_chosen(&self) -> Choice {
        let queried = self.list("/templating/list").iter().filter(|variable| variable["type"] == "query");
        queried.map(|variable| (text(variable, "name"), text(variable, "allValue"))).collect()
    }

    /// Chooses the first value that each variable offers, or `prefer` where it is offered; each must offer one.
    pub(super) fn chosen(&self, prometheus: &Peer, prefer: &[&str]) -> Choice {
        let mut choice = Choice::new();
        for variable in self.list("/templating/list").iter().filter(|variable| variable["type"] == "query") {
            let (name, query) = (text(variable, "name"), text(variable, "query"));
            let taken = query.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(')'));
            let (selector, label) = taken.and_then(|taken| taken.rsplit_once(", ")).expect("values of a label");
            let values =
                api(prometheus, &format!("label/{label}/values"), &[("match[]", &resolved(selector, &choice))]);
            let values: Vec<&str> = values.as_array().expect("a list").iter().filter_map(Value::as_str).collect();
            let value = values.iter().find(|value| prefer.contains(value)).or(values.first());
            let value = value.unwrap_or_else(|| panic!("{}: ${name} offers nothing", self.title));
            choice.push((name, pattern(value)));
        }
        choice
    }

    /// Every query of panels and annotations, with the choice in it.
    pub(super) fn queries(&self, choice: &Choice) -> Vec<Query> {
        let mut all = Vec::new();
        for panel in self.list("/panels").iter().filter(|panel| panel["type"] != "row") {
            for target in panel["targets"].as_array().expect("targets") {
                all.push(Query {
                    place: format!("{}, {}, {}", self.title, text(panel, "title"), text(target, "refId")),
                    expr: resolved(&text(target, "expr"), choice),
                    heatmap: target["format"] == "heatmap",
                });
            }
        }
        for annotation in self.list("/annotations/list") {
            let place = format!("{}, annotation {}", self.title, text(annotation, "name"));
            all.push(Query { place, expr: resolved(&text(annotation, "expr"), choice), heatmap: false });
        }
        all
    }
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}

/// A value as Grafana writes it into a query between quotes: a regular expression, its backslashes doubled.
fn pattern(value: &str) -> String {
    let special = |c: char| "\\^$.*+?()[]{}|".contains(c);
    value.chars().map(|c| if special(c) { format!("\\\\{c}") } else { c.to_string() }).collect()
}

/// The query with its variables replaced. The longest names first: one may begin as another.
fn resolved(query: &str, choice: &Choice) -> String {
    let mut choice: Vec<_> = choice.iter().collect();
    choice.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    let query = query.replace("$__rate_interval", "20s");
    let query = choice.iter().fold(query, |query, (name, value)| query.replace(&format!("${name}"), value));
    assert!(!query.contains('$'), "a variable is left in {query}");
    query
}
