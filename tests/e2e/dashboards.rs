//! What dashboards and alerts name must exist.

use perfwatch_model::metrics;

use crate::ROOT;

/// What Prometheus' OTLP receiver appends to a metric's name: the unit, `_total`, and the parts of a histogram.
const SUFFIXES: &[&str] =
    &["_seconds", "_bytes", "_watts", "_joules", "_celsius", "_hertz", "_ratio", "_total", "_bucket", "_count", "_sum"];

/// A metric's name as Prometheus' OTLP receiver writes it, before anything is appended.
fn in_prometheus(name: &str) -> String {
    name.replace('.', "_")
}

/// True when `metric` is the name of one of perfwatch's, with nothing but known suffixes after it.
fn is_known(metric: &str) -> bool {
    let mut name = metric;
    loop {
        if metrics::all().any(|known| in_prometheus(known.name) == name) {
            return true;
        }
        match SUFFIXES.iter().find_map(|suffix| name.strip_suffix(suffix)) {
            Some(shorter) => name = shorter,
            None => return false,
        }
    }
}

#[test]
fn a_typo_behind_a_metrics_name_is_no_metric() {
    assert!(is_known("perfwatch_finding_active") && is_known("perfwatch_pressure_time_seconds_total"));
    assert!(!is_known("perfwatch_finding_activ") && !is_known("perfwatch_finding_active_s"));
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
            assert!(is_known(metric), "{metric} is no metric of perfwatch");
        }
    }
    assert!(named >= 2, "no metric was found in the rules");
}
