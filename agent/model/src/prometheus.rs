//! What Prometheus calls a metric and a label that arrived over OTLP.
//!
//! The rules are those of its translation strategy `UnderscoreEscapingWithSuffixes`, the default, as far as the catalogue
//! needs them: every character that is no letter, digit or colon separates words; the unit is appended in words unless the
//! name says it already; counters end in `_total`; gauges of unit 1 end in `_ratio`. Native histograms get no suffix. One
//! function for `/metrics`, dashboards, alerts and tests, so that all of them agree with what a backend stores.

use crate::{Instrument, MetricDef, Unit};

/// The unit in words; `None` where Prometheus appends nothing, as for counts of things.
const fn suffix(unit: Unit) -> Option<&'static str> {
    match unit {
        Unit::Seconds => Some("seconds"),
        Unit::Bytes => Some("bytes"),
        Unit::Hertz => Some("hertz"),
        Unit::Watts => Some("watts"),
        Unit::Joules => Some("joules"),
        Unit::Celsius => Some("celsius"),
        Unit::Ratio | Unit::Count(_) => None,
    }
}

/// The metric's name in Prometheus: `system.cpu.time` (counter, seconds) is `system_cpu_time_seconds_total`.
///
/// A classic histogram's parts have `_bucket`, `_sum` or `_count` behind this.
pub fn metric_name(metric: &MetricDef) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == ':';
    let mut words: Vec<&str> = metric.name.split(|c| !is_word(c)).filter(|word| !word.is_empty()).collect();
    if let Some(unit) = suffix(metric.unit)
        && !words.contains(&unit)
    {
        words.push(unit);
    }
    let last = match (metric.instrument, metric.unit) {
        (Instrument::Counter, _) => Some("total"),
        (Instrument::Gauge, Unit::Ratio) => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        words.retain(|word| *word != last);
        words.push(last);
    }
    let name = words.join("_");
    if name.starts_with(|c: char| c.is_ascii_digit()) { format!("_{name}") } else { name }
}

/// The label that an attribute becomes: `perfwatch.stage` is `perfwatch_stage`.
///
/// Of the resource only `service.name` (as `job`, behind `service.namespace/` if there is one) and `service.instance.id`
/// (as `instance`) become labels unless the backend is told to promote others.
pub fn label_name(key: &str) -> String {
    let label: String = key.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    match label.chars().next() {
        Some(first) if first.is_ascii_digit() => format!("key_{label}"),
        // Two underscores in front are Prometheus' own.
        Some('_') if !label.starts_with("__") => format!("key{label}"),
        _ => label,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::{self, agent, finding, gpu, host, process, server};

    #[test]
    fn names_follow_the_translation_of_the_otlp_receiver() {
        for (metric, name) in [
            (&host::CPU_TIME, "system_cpu_time_seconds_total"),
            (&host::CPU_UTILIZATION, "system_cpu_utilization_ratio"),
            (&host::MEMORY_USAGE, "system_memory_usage_bytes"),
            (&host::CPU_COUNT, "system_cpu_logical_count"),
            (&process::RUN_DELAY, "perfwatch_process_run_delay_seconds_total"),
            (&gpu::POWER, "hw_power_watts"),
            (&gpu::ENERGY, "hw_energy_joules_total"),
            (&gpu::TEMPERATURE, "hw_temperature_celsius"),
            (&gpu::CLOCK, "perfwatch_gpu_clock_frequency_hertz"),
            (&server::REQUESTS, "perfwatch_server_requests_total"),
            (&server::BATCH_READY2, "perfwatch_server_batch_dispatches_ready2_total"),
            (&server::REQUEST_DURATION, "perfwatch_server_request_duration_seconds"),
            (&server::BATCH_SIZE, "perfwatch_server_batch_size"),
            (&server::TIME_TO_FIRST_TOKEN, "gen_ai_server_time_to_first_token_seconds"),
            (&agent::DROPPED, "perfwatch_agent_dropped_total"),
            (&finding::ACTIVE, "perfwatch_finding_active"),
        ] {
            assert_eq!(metric_name(metric), name);
        }
    }

    #[test]
    fn a_word_that_the_name_has_is_not_said_twice() {
        let doubled = MetricDef::counter("disk.bytes.total.read", Unit::Bytes, "B.");
        assert_eq!(metric_name(&doubled), "disk_bytes_read_total");
        let ratio = MetricDef::gauge("cache.ratio.used", Unit::Ratio, "B.");
        assert_eq!(metric_name(&ratio), "cache_used_ratio");
        let digit = MetricDef::gauge("5xx", Unit::Count("{request}"), "B.");
        assert_eq!(metric_name(&digit), "_5xx");
    }

    #[test]
    fn no_two_metrics_share_a_name_and_each_is_one() {
        let mut names: Vec<String> = metrics::all().map(metric_name).collect();
        for name in &names {
            assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        }
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }

    #[test]
    fn labels_are_escaped_as_the_receiver_does() {
        for (key, label) in [
            ("perfwatch.stage", "perfwatch_stage"),
            ("gen_ai.token.type", "gen_ai_token_type"),
            ("0lead", "key_0lead"),
            ("_x", "key_x"),
        ] {
            assert_eq!(label_name(key), label);
        }
    }
}
