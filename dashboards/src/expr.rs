//! Queries, put together from the catalogue.

use perfwatch_model::prometheus::metric_name;
use perfwatch_model::{Instrument, MetricDef};

use crate::label::{Label, SERVER, SERVER_INSTANCE};

/// Grafana's own: at least four times the interval between two samples.
const RANGE: &str = "$__rate_interval";

/// What the dashboard's variables select.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Hosts and their agents.
    Hosts,
    /// Servers on them.
    Servers,
    /// Everything: alerts have no variables.
    All,
}

/// An expression, and the metrics in it.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) text: String,
    pub(crate) metrics: Vec<&'static MetricDef>,
}

/// `label=~"pattern"` or `label="value"`.
#[derive(Clone, Debug)]
pub(crate) struct Match(String);

impl Match {
    pub(crate) fn is(label: Label, value: &str) -> Self {
        Self(format!("{}=\"{value}\"", label.name()))
    }

    pub(crate) fn like(label: Label, pattern: &str) -> Self {
        Self(format!("{}=~\"{pattern}\"", label.name()))
    }
}

fn selector(metric: &MetricDef, scope: Scope, matches: &[Match]) -> String {
    let mut all = match scope {
        Scope::All => Vec::new(),
        Scope::Hosts | Scope::Servers => {
            vec![Match::like(Label::Job, "$job"), Match::like(Label::Instance, "$instance")]
        }
    };
    if scope == Scope::Servers {
        all.extend([Match::like(SERVER, "$server"), Match::like(SERVER_INSTANCE, "$server_instance")]);
    }
    all.extend_from_slice(matches);
    let all: Vec<String> = all.into_iter().map(|Match(text)| text).collect();
    let name = metric_name(metric);
    if all.is_empty() { name } else { format!("{name}{{{}}}", all.join(", ")) }
}

fn names(labels: &[Label]) -> String {
    labels.iter().map(|label| label.name()).collect::<Vec<_>>().join(", ")
}

impl Expr {
    fn of(metric: &'static MetricDef, text: String) -> Self {
        Self { text, metrics: vec![metric] }
    }

    /// A gauge's values.
    pub(crate) fn gauge(metric: &'static MetricDef, scope: Scope, matches: &[Match]) -> Self {
        debug_assert_eq!(metric.instrument, Instrument::Gauge, "{}", metric.name);
        Self::of(metric, selector(metric, scope, matches))
    }

    /// What a counter or a histogram gains per second.
    pub(crate) fn rate(metric: &'static MetricDef, scope: Scope, matches: &[Match]) -> Self {
        Self::over("rate", RANGE, metric, scope, matches)
    }

    /// What a counter or a histogram gains in an interval.
    pub(crate) fn increase(metric: &'static MetricDef, scope: Scope, matches: &[Match]) -> Self {
        Self::over("increase", RANGE, metric, scope, matches)
    }

    /// A function over a range that is not Grafana's: for rules.
    pub(crate) fn over(
        function: &str,
        range: &str,
        metric: &'static MetricDef,
        scope: Scope,
        matches: &[Match],
    ) -> Self {
        debug_assert_ne!(metric.instrument, Instrument::Gauge, "{}", metric.name);
        Self::of(metric, format!("{function}({}[{range}])", selector(metric, scope, matches)))
    }

    fn map(self, text: impl FnOnce(&str) -> String) -> Self {
        Self { text: text(&self.text), metrics: self.metrics }
    }

    fn with(mut self, other: Self, text: impl FnOnce(&str, &str) -> String) -> Self {
        self.text = text(&self.text, &other.text);
        for metric in other.metrics {
            if !self.metrics.iter().any(|known| known.name == metric.name) {
                self.metrics.push(metric);
            }
        }
        self
    }

    /// To whole numbers, upwards.
    pub(crate) fn ceil(self) -> Self {
        self.map(|text| format!("ceil({text})"))
    }

    pub(crate) fn sum(self) -> Self {
        self.map(|text| format!("sum({text})"))
    }

    pub(crate) fn max(self) -> Self {
        self.map(|text| format!("max({text})"))
    }

    pub(crate) fn sum_by(self, labels: &[Label]) -> Self {
        self.map(|text| format!("sum by ({}) ({text})", names(labels)))
    }

    pub(crate) fn max_by(self, labels: &[Label]) -> Self {
        self.map(|text| format!("max by ({}) ({text})", names(labels)))
    }

    /// Of a histogram.
    pub(crate) fn quantile(self, quantile: f64) -> Self {
        self.map(|text| format!("histogram_quantile({quantile}, {text})"))
    }

    /// Of a histogram: the mean of what it gained.
    pub(crate) fn mean(self) -> Self {
        self.map(|text| format!("histogram_avg({text})"))
    }

    pub(crate) fn divided_by(self, other: Self) -> Self {
        self.with(other, |text, other| format!("{text} / {other}"))
    }

    /// The share of each of these parts in all of them.
    pub(crate) fn share_of(self, parts: Label, whole: Self) -> Self {
        self.with(whole, |text, whole| format!("{text} / ignoring ({}) group_left () {whole}", parts.name()))
    }

    /// These, and where there are none of these, the others.
    pub(crate) fn or(self, other: Self) -> Self {
        self.with(other, |text, other| format!("{text} or {other}"))
    }

    pub(crate) fn times(self, factor: f64) -> Self {
        self.map(|text| format!("{factor} * {text}"))
    }

    pub(crate) fn minus_from(self, number: f64) -> Self {
        self.map(|text| format!("{number} - {text}"))
    }

    pub(crate) fn in_brackets(self) -> Self {
        self.map(|text| format!("({text})"))
    }

    pub(crate) fn above(self, number: f64) -> Self {
        self.map(|text| format!("{text} > {number}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::label::STAGE;
    use perfwatch_model::metrics::server;

    #[test]
    fn a_query_is_what_one_would_write() {
        let rate = Expr::rate(&server::STAGE_TIME, Scope::Hosts, &[Match::is(STAGE, "queue")]).sum_by(&[STAGE]);
        assert_eq!(
            rate.text,
            "sum by (perfwatch_stage) (rate(perfwatch_server_stage_time_seconds_total{job=~\"$job\", \
             instance=~\"$instance\", perfwatch_stage=\"queue\"}[$__rate_interval]))"
        );
        let p99 = Expr::over("rate", "5m", &server::REQUEST_DURATION, Scope::All, &[]).sum_by(&[]).quantile(0.99);
        assert_eq!(
            p99.text,
            "histogram_quantile(0.99, sum by () (rate(perfwatch_server_request_duration_seconds[5m])))"
        );
        let ratio = p99.clone().divided_by(rate);
        assert_eq!(ratio.metrics.len(), 2);
        assert_eq!(p99.clone().divided_by(p99).metrics.len(), 1);
    }
}
