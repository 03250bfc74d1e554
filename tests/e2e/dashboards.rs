//! What dashboards and alerts name must exist.

use perfwatch_model::metrics;

use crate::ROOT;

/// A metric's name as Prometheus' OTLP receiver writes it, before units and `_total` are appended.
fn in_prometheus(name: &str) -> String {
    name.replace('.', "_")
}

#[test]
fn every_metric_that_an_alert_names_is_in_the_catalogue() {
    let rules =
        std::fs::read_to_string(format!("{ROOT}/dashboards/prometheus/rules.yml")).expect("the rules can be read");
    let mut named = 0;
    for line in rules.lines().filter(|line| line.trim_start().starts_with("expr:")) {
        let words = line.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        // A selector's metric stands right before its braces; labels never do.
        for metric in words.filter(|word| word.starts_with("perfwatch_") && line.contains(&format!("{word}{{"))) {
            named += 1;
            let known = metrics::all().any(|known| metric.starts_with(&in_prometheus(known.name)));
            assert!(known, "{metric} is no metric of perfwatch");
        }
    }
    assert!(named >= 2, "no metric was found in the rules");
}
