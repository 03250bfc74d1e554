//! Names and labels of everything that is exposed, made anew only when a series comes or goes.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use perfwatch_model::{EntityId, Instrument, Level, MetricDef, SeriesId, SeriesTable, prometheus};

use crate::otlp::attributes;

/// Words that Prometheus appends for a unit. Only a name that ends in one may say in `OpenMetrics` that it has this unit.
const UNITS: &[&str] = &["seconds", "bytes", "hertz", "watts", "joules", "celsius", "ratio"];

/// All series of one metric.
#[derive(Debug)]
pub(super) struct Family {
    pub(super) metric: &'static MetricDef,
    /// Its name, of a counter with `_total`.
    pub(super) name: String,
    pub(super) series: Vec<Labelled>,
}

/// A series and its labels.
#[derive(Debug)]
pub(super) struct Labelled {
    pub(super) id: SeriesId,
    pub(super) entity: EntityId,
    pub(super) labels: Vec<(String, String)>,
    /// The same as text: `a="1",b="2"`.
    pub(super) written: String,
}

impl Family {
    /// The name without what a counter's sample has behind it.
    pub(super) fn stem(&self) -> &str {
        match self.metric.instrument {
            Instrument::Counter => self.name.strip_suffix("_total").unwrap_or(&self.name),
            Instrument::Gauge | Instrument::Histogram => &self.name,
        }
    }

    /// The unit that its name ends in; empty where it ends in none.
    pub(super) fn unit(&self) -> &'static str {
        let ends = |unit: &&&str| self.stem().strip_suffix(**unit).is_some_and(|rest| rest.ends_with('_'));
        UNITS.iter().find(ends).copied().unwrap_or_default()
    }
}

/// Everything that is exposed of this table, by name. At level of detail default only what leaves by default.
pub(super) fn of_table(table: &SeriesTable, full: bool) -> Vec<Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut names: BTreeMap<&str, String> = BTreeMap::new();
    for (id, series) in table.iter() {
        let metric = series.metric;
        if !full && metric.level != Level::Default {
            continue;
        }
        let Some(entity) = table.entity_of(series.entity) else { continue };
        // A key that backends refuse leaves neither over OTLP nor here.
        let Ok(attributes) = attributes::of_series(entity, &series.attrs) else { continue };
        let labels = labels(&attributes);
        let written = written(&labels);
        let name = names.entry(metric.name).or_insert_with(|| prometheus::metric_name(metric));
        if !families.contains_key(name) {
            families.insert(name.clone(), Family { metric, name: name.clone(), series: Vec::new() });
        }
        if let Some(family) = families.get_mut(name) {
            family.series.push(Labelled { id, entity: series.entity, labels, written });
        }
    }
    let mut families: Vec<Family> = families.into_values().collect();
    for family in &mut families {
        // A scraper refuses a whole answer in which a series is twice.
        family.series.sort_by(|left, right| (&left.written, left.id).cmp(&(&right.written, right.id)));
        family.series.dedup_by(|later, first| later.written == first.written);
    }
    families
}

/// Labels as Prometheus' OTLP receiver makes them: of two keys that become one label the values stand together.
fn labels(attributes: &[KeyValue]) -> Vec<(String, String)> {
    let mut labels: BTreeMap<String, String> = BTreeMap::new();
    for attribute in attributes {
        let value = match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::StringValue(text)) => text.clone(),
            Some(Value::IntValue(number)) => number.to_string(),
            // Nothing else is made of an attribute; an empty label is none.
            _ => continue,
        };
        if value.is_empty() {
            continue;
        }
        let label = labels.entry(prometheus::label_name(&attribute.key)).or_default();
        if !label.is_empty() {
            label.push(';');
        }
        label.push_str(&value);
    }
    labels.into_iter().collect()
}

/// Labels of the resource, for `target_info`.
pub(super) fn of_resource(resource: &[(String, String)]) -> Vec<(String, String)> {
    let attributes: Vec<_> = resource.iter().map(|(key, value)| attributes::text(key, value)).collect();
    labels(&attributes)
}

/// `a="1",b="2"`, with backslashes, quotes and line breaks escaped.
pub(super) fn written(labels: &[(String, String)]) -> String {
    let mut out = String::new();
    for (name, value) in labels {
        if !out.is_empty() {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        escape(value, true, &mut out);
        out.push('"');
    }
    out
}

/// Appends a text with backslashes and line breaks escaped, and quotes where they would end it.
pub(super) fn escape(text: &str, quotes: bool, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if quotes => out.push_str("\\\""),
            other => out.push(other),
        }
    }
}
