//! Grafana dashboards and Prometheus rules, generated from the metric catalogue.
//!
//! A panel names its metrics by the catalogue's constants: the names that Prometheus gives them, units and descriptions
//! follow from those, so that a dashboard cannot ask for what perfwatch does not send. The files are committed; a test
//! holds them against what this crate makes.

mod dashboard;
mod expr;
mod label;
mod model_server;
mod overview;
mod palette;
mod panel;
mod rules;
mod shared;
mod variable;

/// A generated file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// Where it lies, below the folder of dashboards.
    pub path: &'static str,
    /// What is in it.
    pub text: String,
}

/// Everything that is generated.
pub fn files() -> Vec<Generated> {
    let dashboards = [
        ("grafana/perfwatch-overview.json", overview::dashboard()),
        ("grafana/perfwatch-model-server.json", model_server::dashboard()),
    ];
    let rules = Generated { path: "prometheus/rules.yml", text: rules::text() };
    dashboards
        .into_iter()
        .map(|(path, dashboard)| Generated { path, text: dashboard.to_text() })
        .chain([rules])
        .collect()
}
