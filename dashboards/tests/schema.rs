//! Grafana's own types, as a JSON schema, take the dashboards.
//!
//! `schema/` was made from `@grafana/schema` 13.2.3 (Apache-2.0) with `ts-json-schema-generator` 2.4.0 in a folder into which
//! npm had installed both: `ts-json-schema-generator --no-type-check --path TYPES.d.ts --type Dashboard`, with
//! `raw/dashboard/x/types.gen.d.ts`; and `--type Options`, `--type FieldConfig` with each panel's
//! `raw/composable/PANEL/panelcfg/x/*.d.ts`.

mod common;

use common::{dashboards, list, panels, text};
use jsonschema::Validator;
use serde_json::Value;

/// Options and field options of a panel type.
const PANELS: &[(&str, &str, &str)] = &[
    ("timeseries", include_str!("schema/timeseries-options.json"), include_str!("schema/timeseries-field.json")),
    ("heatmap", include_str!("schema/heatmap-options.json"), include_str!("schema/heatmap-field.json")),
    (
        "state-timeline",
        include_str!("schema/statetimeline-options.json"),
        include_str!("schema/statetimeline-field.json"),
    ),
    // A stat draws no axes: it has no field options of its own.
    ("stat", include_str!("schema/stat-options.json"), "{\"type\":\"object\",\"maxProperties\":0}"),
];

/// What an annotation holds for its data source, which the dashboard's own type does not know.
const OF_PROMETHEUS: &[&str] = &["expr", "step", "titleFormat", "textFormat", "tagKeys", "useValueForTime"];

fn validator(schema: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(schema).expect("JSON")).expect("a schema")
}

fn errors(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

fn without_what_is_the_data_sources(dashboard: &Value) -> Value {
    let mut dashboard = dashboard.clone();
    let annotations = dashboard.pointer_mut("/annotations/list").and_then(Value::as_array_mut).expect("annotations");
    for annotation in annotations.iter_mut().filter_map(Value::as_object_mut) {
        annotation.retain(|key, _| !OF_PROMETHEUS.contains(&key.as_str()));
    }
    dashboard
}

#[test]
fn every_dashboard_is_what_grafana_calls_one() {
    let schema = validator(include_str!("schema/dashboard.json"));
    for (path, dashboard) in dashboards() {
        let wrong = errors(&schema, &without_what_is_the_data_sources(&dashboard));
        assert!(wrong.is_empty(), "{path}: {wrong:#?}");
    }
}

#[test]
fn every_panel_has_the_options_of_its_type() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let kind = text(panel, "/type");
            let known = PANELS.iter().find(|(known, ..)| *known == kind);
            let (_, options, field) = known.unwrap_or_else(|| panic!("{path}: no schema for panels of type {kind}"));
            let mut wrong = errors(&validator(options), &panel["options"]);
            wrong.extend(errors(&validator(field), &panel["fieldConfig"]["defaults"]["custom"]));
            assert!(wrong.is_empty(), "{path}, {}: {wrong:#?}", text(panel, "/title"));
        }
    }
}

#[test]
fn the_schema_finds_what_is_wrong() {
    let schema = validator(include_str!("schema/dashboard.json"));
    let (_, dashboard) = dashboards().remove(0);
    let mut wrong = without_what_is_the_data_sources(&dashboard);
    wrong["panels"][1]["gridPos"]["w"] = "wide".into();
    assert!(!errors(&schema, &wrong).is_empty());
    let stat = panels(&dashboard).find(|panel| panel["type"] == "stat").expect("there is one");
    let mut options = stat["options"].clone();
    options["colourMode"] = "value".into();
    assert!(!errors(&validator(PANELS[3].1), &options).is_empty());
}

#[test]
fn ids_are_unique_and_no_panel_lies_on_another() {
    for (path, dashboard) in dashboards() {
        let all = list(&dashboard, "/panels");
        let mut ids: Vec<_> = all.iter().map(|panel| panel["id"].as_u64().expect("an id")).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), all.len(), "{path}");
        let mut taken = std::collections::HashSet::new();
        for panel in all {
            let at = |key: &str| panel["gridPos"][key].as_u64().expect("a number");
            assert!(at("x") + at("w") <= 24, "{path}, {}: beyond the grid", text(panel, "/title"));
            for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                assert!(taken.insert((x, y)), "{path}, {}: lies on another panel", text(panel, "/title"));
            }
        }
    }
}
