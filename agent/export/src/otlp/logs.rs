//! Findings as OTLP log records: one when a finding rises, one when its severity changes, one when it clears.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, ArrayValue, KeyValue, KeyValueList, any_value::Value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use perfwatch_model::{Evidence, Finding, SeriesTable, Severity, metrics};

use super::attributes::{self, text, with_value};
use super::batch::{Encoded, scope};
use super::points::Point;

/// What became of a finding.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Change {
    Raised,
    Changed,
    Cleared,
}

impl Change {
    const fn name(self) -> &'static str {
        match self {
            Self::Raised => "raised",
            Self::Changed => "changed",
            Self::Cleared => "cleared",
        }
    }
}

/// A finding and what tells it from others.
type Key = (String, String);

/// Follows the findings from tick to tick.
#[derive(Default)]
pub(crate) struct FindingLog {
    standing: BTreeMap<Key, (Finding, Vec<KeyValue>)>,
    /// Findings that cleared since the last export; their gauge shows 0 once.
    cleared: BTreeMap<(Key, Severity), Vec<KeyValue>>,
    pending: Vec<LogRecord>,
}

impl FindingLog {
    /// Compares the findings of a tick with those before. `time` is the tick's stamp.
    pub(crate) fn observe(&mut self, findings: &[Finding], table: &SeriesTable, time: u64) {
        let mut before = std::mem::take(&mut self.standing);
        for finding in findings {
            let key = (finding.id.clone().into_owned(), finding.entity.clone());
            let known = before.remove(&key);
            let about = match &known {
                Some((_, about)) => about.clone(),
                None => about(&finding.entity, table),
            };
            match known {
                None => self.record(finding, &about, Change::Raised, time),
                Some((old, _)) if old.severity != finding.severity => {
                    self.cleared.insert((key.clone(), old.severity), about.clone());
                    self.record(finding, &about, Change::Changed, time);
                }
                Some(_) => {}
            }
            self.standing.insert(key, (finding.clone(), about));
        }
        for (key, (finding, about)) in before {
            self.record(&finding, &about, Change::Cleared, time);
            self.cleared.insert((key, finding.severity), about);
        }
    }

    fn record(&mut self, finding: &Finding, about: &[KeyValue], change: Change, time: u64) {
        self.pending.push(log_record(finding, about, change, time));
    }

    /// Whether each finding stands, as points of `perfwatch.finding.active`: 1 for those that do, 0 once for those that
    /// no longer do.
    pub(crate) fn active_points(&mut self, now: u64) -> Vec<Point> {
        let point = |id: &str, severity: Severity, about: &[KeyValue], value| {
            let mut attributes = about.to_vec();
            attributes.push(text("perfwatch.finding.id", id));
            attributes.push(text("perfwatch.finding.severity", severity.name()));
            Point::gauge(&attributes, now, value)
        };
        let mut points = Vec::new();
        for (((id, entity), severity), about) in std::mem::take(&mut self.cleared) {
            let stands = self.standing.get(&(id.clone(), entity)).is_some_and(|(now, _)| now.severity == severity);
            if !stands {
                points.push(point(&id, severity, &about, 0.0));
            }
        }
        points.extend(self.standing.values().map(|(finding, about)| point(&finding.id, finding.severity, about, 1.0)));
        points
    }

    /// True when something happened since the last [`FindingLog::drain`].
    pub(crate) fn has_events(&self) -> bool {
        !self.pending.is_empty()
    }

    /// The records since the last call as one request.
    pub(crate) fn drain(&mut self, resource: &Resource) -> Encoded {
        let log_records = std::mem::take(&mut self.pending);
        let items = log_records.len() as u64;
        let request = ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(resource.clone()),
                scope_logs: vec![ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() }],
                ..ResourceLogs::default()
            }],
        };
        Encoded::new(&request, items)
    }
}

/// The attributes of the entity that a finding names as `kind:id`, by which its events join the entity's metrics.
fn about(entity: &str, table: &SeriesTable) -> Vec<KeyValue> {
    let known = table.entities().find(|(_, known)| known.to_string() == entity);
    let mut attributes = known.and_then(|(_, entity)| attributes::of_series(entity, &[]).ok()).unwrap_or_default();
    attributes.push(text("perfwatch.entity", entity));
    attributes
}

fn log_record(finding: &Finding, about: &[KeyValue], change: Change, time: u64) -> LogRecord {
    // A finding that cleared is good news whatever it was.
    let severity = match (change, finding.severity) {
        (Change::Cleared, _) | (_, Severity::Note) => SeverityNumber::Info,
        (_, Severity::Warning) => SeverityNumber::Warn,
        (_, Severity::Critical) => SeverityNumber::Error,
    };
    let mut attributes = about.to_vec();
    attributes.extend([
        text("perfwatch.finding.id", finding.id.clone()),
        text("perfwatch.finding.severity", finding.severity.name()),
        text("perfwatch.finding.state", change.name()),
        text("perfwatch.finding.summary", finding.summary.clone()),
    ]);
    if change != Change::Cleared {
        attributes.push(with_value("perfwatch.finding.evidence", list(finding.evidence.iter().map(evidence))));
        let remedies = finding.remedies.iter().map(|remedy| Value::StringValue(remedy.action.clone().into_owned()));
        attributes.push(with_value("perfwatch.finding.remedies", list(remedies)));
        if let Some(cost) = &finding.cost {
            attributes.push(with_value("perfwatch.finding.cost.capacity", Value::DoubleValue(cost.capacity_per_s)));
            attributes.push(text("perfwatch.finding.cost.unit", format!("{}/s", cost.unit)));
        }
    }
    let body = match change {
        Change::Cleared => format!("cleared: {}", finding.summary),
        Change::Raised | Change::Changed => finding.detail.clone(),
    };
    LogRecord {
        time_unix_nano: time,
        observed_time_unix_nano: time,
        severity_number: severity as i32,
        severity_text: finding.severity.name().to_owned(),
        body: Some(AnyValue { value: Some(Value::StringValue(body)) }),
        attributes,
        event_name: "perfwatch.finding".to_owned(),
        ..LogRecord::default()
    }
}

fn list(values: impl Iterator<Item = Value>) -> Value {
    Value::ArrayValue(ArrayValue { values: values.map(|value| AnyValue { value: Some(value) }).collect() })
}

fn evidence(evidence: &Evidence) -> Value {
    let mut values = vec![
        text("metric", evidence.metric.clone()),
        with_value("value", Value::DoubleValue(evidence.value)),
        text("unit", evidence.unit.clone()),
        with_value("window_s", Value::DoubleValue(evidence.window_s)),
    ];
    if let Some(threshold) = evidence.threshold {
        values.push(with_value("threshold", Value::DoubleValue(threshold)));
    }
    Value::KvlistValue(KeyValueList { values })
}

/// The metric that [`FindingLog::active_points`] are points of.
pub(crate) const ACTIVE: &perfwatch_model::MetricDef = &metrics::finding::ACTIVE;

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use perfwatch_model::{Entity, EntityKind, Quality, Remedy};
    use prost::Message as _;

    pub(in crate::otlp) fn finding(severity: Severity) -> Finding {
        Finding {
            id: "overload".into(),
            severity,
            entity: "server:shop".to_owned(),
            summary: "more work arrives than the server can do".into(),
            detail: "120 requests arrive a second, 90 leave.".to_owned(),
            evidence: vec![Evidence {
                metric: "arrival_rate".into(),
                value: 120.0,
                threshold: Some(90.0),
                unit: "{request}/s".into(),
                window_s: 10.0,
                quality: Quality::Sdk,
            }],
            cost: None,
            remedies: vec![Remedy { action: "add a replica".into(), why: "it halves the load".into() }],
            experimental: false,
        }
    }

    fn records(log: &mut FindingLog) -> Vec<LogRecord> {
        let encoded = log.drain(&Resource::default());
        let request =
            ExportLogsServiceRequest::decode(crate::gzip::unpack(&encoded.body).expect("we packed it").as_slice())
                .expect("we encoded it");
        request.resource_logs[0].scope_logs[0].log_records.clone()
    }

    fn attribute<'a>(record: &'a LogRecord, key: &str) -> &'a Value {
        let found = record.attributes.iter().find(|attribute| attribute.key == key);
        found.and_then(|found| found.value.as_ref()?.value.as_ref()).unwrap_or_else(|| panic!("no attribute {key}"))
    }

    #[test]
    fn a_finding_is_told_when_it_rises_changes_and_clears_and_not_in_between() {
        let mut table = SeriesTable::new();
        table.entity(Entity::new(EntityKind::Server, "shop").with("service.name", "shop"));
        let mut log = FindingLog::default();
        let mut seen = Vec::new();
        let history: [&[Finding]; 6] = [
            &[finding(Severity::Warning)],
            &[finding(Severity::Warning)],
            &[finding(Severity::Critical)],
            &[],
            &[],
            &[finding(Severity::Note)],
        ];
        for (at, findings) in history.into_iter().enumerate() {
            log.observe(findings, &table, at as u64);
            for record in records(&mut log) {
                let Value::StringValue(state) = attribute(&record, "perfwatch.finding.state") else {
                    panic!("no text")
                };
                seen.push((record.time_unix_nano, state.clone(), record.severity_number));
            }
        }
        let expected = [(0, "raised", 13), (2, "changed", 17), (3, "cleared", 9), (5, "raised", 9)];
        assert_eq!(seen, expected.map(|(at, state, severity)| (at, state.to_owned(), severity)));
    }

    #[test]
    fn a_record_carries_the_numbers_and_what_it_is_about() {
        let mut table = SeriesTable::new();
        table.entity(Entity::new(EntityKind::Server, "shop").with("service.name", "shop"));
        let mut log = FindingLog::default();
        log.observe(&[finding(Severity::Warning)], &table, 5);
        let record = records(&mut log).remove(0);
        assert_eq!(record.event_name, "perfwatch.finding");
        let detail = Value::StringValue("120 requests arrive a second, 90 leave.".to_owned());
        assert_eq!(record.body.as_ref().and_then(|body| body.value.clone()), Some(detail));
        assert_eq!(attribute(&record, "perfwatch.server.name"), &Value::StringValue("shop".to_owned()));
        assert_eq!(attribute(&record, "perfwatch.entity"), &Value::StringValue("server:shop".to_owned()));
        let Value::ArrayValue(evidence) = attribute(&record, "perfwatch.finding.evidence") else { panic!("no list") };
        let Some(Value::KvlistValue(evidence)) = &evidence.values[0].value else { panic!("no map") };
        let keys: Vec<_> = evidence.values.iter().map(|value| value.key.as_str()).collect();
        assert_eq!(keys, ["metric", "value", "unit", "window_s", "threshold"]);
    }

    #[test]
    fn the_gauge_says_one_while_a_finding_stands_and_zero_once_after() {
        let (table, mut log) = (SeriesTable::new(), FindingLog::default());
        let values = |points: Vec<Point>| -> Vec<String> {
            points
                .into_iter()
                .map(|point| {
                    let Point::Gauge(point) = point else { panic!("not a gauge") };
                    format!("{:?}", point.value.expect("a value"))
                })
                .collect()
        };
        log.observe(&[finding(Severity::Note)], &table, 1);
        assert_eq!(values(log.active_points(1)), ["AsDouble(1.0)"]);
        log.observe(&[finding(Severity::Critical)], &table, 2);
        assert_eq!(values(log.active_points(2)), ["AsDouble(0.0)", "AsDouble(1.0)"]);
        log.observe(&[], &table, 3);
        assert_eq!(values(log.active_points(3)), ["AsDouble(0.0)"]);
        assert!(log.active_points(4).is_empty());
    }
}
