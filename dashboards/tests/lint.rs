//! The rules of Grafana's dashboard-linter, held against the dashboards.
//!
//! The linter itself cannot be had from the module proxy; these are its rules by name and meaning, written anew, and some
//! that follow from what perfwatch is. Rules about Loki (`target-logql`, `target-logql-auto`) have nothing to look at here.

mod common;

use common::{dashboards, list, panels, queries, resolved, text};
use perfwatch_model::prometheus::metric_name;
use perfwatch_model::{Instrument, Level, MetricDef, metrics};
use promql_parser::label::MatchOp;
use promql_parser::parser::{self, Expr, VectorSelector};
use serde_json::Value;

/// Grafana's ids of units that the dashboards use.
const UNITS: &[&str] =
    &["none", "short", "percentunit", "s", "bytes", "binBps", "reqps", "cps", "ops", "hertz", "watt"];

/// A selector within a query, and the function whose range argument it is.
struct Selected<'a> {
    selector: &'a VectorSelector,
    function: Option<&'a str>,
}

fn selected<'a>(expr: &'a Expr, function: Option<&'a str>, out: &mut Vec<Selected<'a>>) {
    match expr {
        Expr::Aggregate(inner) => {
            selected(&inner.expr, None, out);
            if let Some(param) = &inner.param {
                selected(param, None, out);
            }
        }
        Expr::Unary(inner) => selected(&inner.expr, None, out),
        Expr::Binary(inner) => {
            selected(&inner.lhs, None, out);
            selected(&inner.rhs, None, out);
        }
        Expr::Paren(inner) => selected(&inner.expr, function, out),
        Expr::Subquery(inner) => selected(&inner.expr, None, out),
        Expr::VectorSelector(selector) => out.push(Selected { selector, function: None }),
        Expr::MatrixSelector(range) => out.push(Selected { selector: &range.vs, function }),
        Expr::Call(call) => {
            for argument in &call.args.args {
                selected(argument, Some(call.func.name), out);
            }
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) | Expr::Extension(_) => {}
    }
}

fn parsed(query: &str) -> Expr {
    parser::parse(&resolved(query)).unwrap_or_else(|error| panic!("no PromQL: {error}\n{query}"))
}

fn metric_of(selector: &VectorSelector) -> &'static MetricDef {
    let name = selector.name.as_deref().expect("every selector names its metric");
    metrics::all()
        .find(|metric| metric_name(metric) == name)
        .unwrap_or_else(|| panic!("{name} is no metric of perfwatch"))
}

/// Runs `check` over every selector of every query of every dashboard.
fn each_selector(mut check: impl FnMut(&str, &Selected<'_>)) {
    let mut seen = 0;
    for (path, dashboard) in dashboards() {
        for (title, query) in queries(&dashboard) {
            let expr = parsed(&query);
            let mut all = Vec::new();
            selected(&expr, None, &mut all);
            assert!(!all.is_empty(), "{path}, {title}: asks for nothing");
            seen += all.len();
            for selected in &all {
                check(&format!("{path}, {title}: {query}"), selected);
            }
        }
    }
    assert!(seen > 50, "only {seen} selectors were looked at");
}

#[test]
fn template_datasource() {
    for (path, dashboard) in dashboards() {
        let sources: Vec<_> =
            list(&dashboard, "/templating/list").iter().filter(|variable| variable["type"] == "datasource").collect();
        let [source] = sources.as_slice() else { panic!("{path}: one variable chooses the data source") };
        assert_eq!((text(source, "/name"), text(source, "/label")), ("datasource", "Data source"), "{path}");
        assert_eq!(text(source, "/query"), "prometheus", "{path}");
    }
}

#[test]
fn template_job_and_template_instance() {
    for (path, dashboard) in dashboards() {
        for (name, label) in [("job", "Job"), ("instance", "Instance")] {
            let variable = list(&dashboard, "/templating/list").iter().find(|variable| variable["name"] == name);
            let variable = variable.unwrap_or_else(|| panic!("{path}: no variable {name}"));
            assert_eq!(text(variable, "/type"), "query", "{path}");
            assert_eq!(text(variable, "/label"), label, "{path}");
            assert_eq!(text(variable, "/allValue"), ".+", "{path}");
            assert_eq!(variable["multi"], true, "{path}");
            assert_eq!(text(variable, "/datasource/uid"), "${datasource}", "{path}");
        }
    }
}

/// `label_values(selector, label)`, taken apart.
fn values_query(query: &str) -> Option<(&str, &str)> {
    query.strip_prefix("label_values(")?.strip_suffix(')')?.rsplit_once(", ")
}

#[test]
fn template_label_promql_and_on_time_change_reload_and_each_variable_is_chained_to_those_before_it() {
    for (path, dashboard) in dashboards() {
        let mut before: Vec<String> = Vec::new();
        for variable in list(&dashboard, "/templating/list").iter().filter(|variable| variable["type"] == "query") {
            let name = text(variable, "/name");
            assert_eq!(variable["refresh"], 2, "{path}, {name}");
            let (selector, _) = values_query(text(variable, "/query")).expect("a query for the values of a label");
            let expr = parsed(selector);
            let Expr::VectorSelector(vector) = &expr else { panic!("{path}, {name}: {selector}") };
            metric_of(vector);
            for earlier in &before {
                assert!(selector.contains(&format!("=~\"${earlier}\"")), "{path}: {name} does not follow {earlier}");
            }
            before.push(name.to_owned());
        }
        assert!(before.len() >= 2, "{path}");
    }
}

#[test]
fn panel_datasource_and_title_and_description_and_no_targets() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let title = text(panel, "/title");
            assert!(!title.is_empty() && text(panel, "/description").len() > title.len(), "{path}, {title}");
            assert_eq!(text(panel, "/datasource/uid"), "${datasource}", "{path}, {title}");
            let targets = list(panel, "/targets");
            assert!(!targets.is_empty(), "{path}, {title}");
            for target in targets {
                assert_eq!(text(target, "/datasource/uid"), "${datasource}", "{path}, {title}");
                assert!(!text(target, "/legendFormat").is_empty(), "{path}, {title}");
            }
        }
    }
}

#[test]
fn panel_units() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let unit = text(panel, "/fieldConfig/defaults/unit");
            assert!(UNITS.contains(&unit), "{path}, {}: `{unit}`", text(panel, "/title"));
        }
    }
}

#[test]
fn target_promql_and_every_selector_is_of_the_catalogue() {
    each_selector(|_, selected| {
        metric_of(selected.selector);
    });
}

#[test]
fn target_job_and_target_instance() {
    each_selector(|place, selected| {
        for name in ["job", "instance"] {
            let found = selected.selector.matchers.matchers.iter().any(|matcher| {
                // Resolved, the variable is what stands for all.
                matcher.name == name && matcher.value == ".+" && matches!(matcher.op, MatchOp::Re(_))
            });
            assert!(found, "{place}\n lacks {name}=~\"${name}\"");
        }
    });
}

#[test]
fn target_counter_agg_and_histograms_are_taken_as_rates_and_gauges_never() {
    each_selector(|place, selected| {
        let metric = metric_of(selected.selector);
        match metric.instrument {
            Instrument::Counter | Instrument::Histogram => {
                assert!(matches!(selected.function, Some("rate" | "irate" | "increase")), "{place}");
            }
            Instrument::Gauge => assert_eq!(selected.function, None, "{place}"),
        }
    });
}

#[test]
fn target_rate_interval() {
    for (path, dashboard) in dashboards() {
        for (title, query) in queries(&dashboard) {
            for range in query.split('[').skip(1) {
                assert!(range.starts_with("$__rate_interval]"), "{path}, {title}: {query}");
            }
        }
    }
}

#[test]
fn uneditable_dashboard() {
    for (path, dashboard) in dashboards() {
        assert_eq!(dashboard["editable"], false, "{path}");
    }
}

#[test]
fn a_heatmap_asks_for_native_histograms_and_for_their_increase() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard).filter(|panel| panel["type"] == "heatmap") {
            for target in list(panel, "/targets") {
                assert_eq!(text(target, "/format"), "heatmap", "{path}");
                let expr = parsed(text(target, "/expr"));
                let mut all = Vec::new();
                selected(&expr, None, &mut all);
                assert!(all.iter().all(|one| one.function == Some("increase")), "{path}");
                assert!(all.iter().all(|one| metric_of(one.selector).instrument == Instrument::Histogram), "{path}");
            }
        }
    }
}

#[test]
fn what_is_not_sent_by_default_is_said_where_it_is_shown() {
    for (path, dashboard) in dashboards() {
        for panel in panels(&dashboard) {
            let targets = list(panel, "/targets").iter().map(|target| parsed(text(target, "/expr")));
            for expr in targets {
                let mut all = Vec::new();
                selected(&expr, None, &mut all);
                for metric in all.iter().map(|one| metric_of(one.selector)) {
                    let description = text(panel, "/description");
                    assert!(description.contains(&format!("`{}`: {}", metric.name, metric.brief)), "{path}");
                    assert_eq!(
                        metric.level == Level::Full,
                        description.contains("otlp.level"),
                        "{path}, {description}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_is_no_promql_is_found() {
    let parses =
        |dashboard: &Value| queries(dashboard).iter().all(|(_, query)| parser::parse(&resolved(query)).is_ok());
    let (_, mut dashboard) = dashboards().remove(0);
    assert!(parses(&dashboard));
    dashboard["panels"][1]["targets"][0]["expr"] = "rate(perfwatch_server_requests_total)".into();
    assert!(!parses(&dashboard), "a rate needs a range");
}
