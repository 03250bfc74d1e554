//! A small agent's worth of ticks, and an exporter for them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::time::Duration;

use perfwatch_export::receiver::Receiver;
use perfwatch_export::{Exporter, OtlpConfig, RetryPolicy};
use perfwatch_model::{
    Entity, EntityId, EntityKind, Finding, Histogram, MetricDef, Number, SeriesId, SeriesTable, Severity, Stamp, Tick,
};
use tokio::runtime::Handle;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// Some moment in 2027.
pub(crate) const EPOCH: u64 = 1_800_000_000 * SECOND;
/// Long enough for any machine; reached only when a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const PROTOCOLS: [&str; 2] = ["http/protobuf", "grpc"];

/// The receiver's endpoint for a protocol.
pub(crate) fn endpoint(receiver: &Receiver, protocol: &str) -> String {
    if protocol == "grpc" { receiver.grpc_endpoint() } else { receiver.http_endpoint() }
}

/// A configuration from variables.
pub(crate) fn config(variables: &[(&str, &str)]) -> OtlpConfig {
    OtlpConfig::from_lookup(|name| {
        variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    })
    .expect("valid variables")
}

/// An exporter that is quick to try again, exporting each tick.
pub(crate) fn exporter(endpoint: &str, protocol: &str, more: &[(&str, &str)]) -> Exporter {
    let mut variables = vec![
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", protocol),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("OTEL_RESOURCE_ATTRIBUTES", "host.name=node-7"),
    ];
    variables.extend_from_slice(more);
    let retry = RetryPolicy { first: Duration::from_millis(10), most: Duration::from_millis(50) };
    Exporter::start_with(&config(&variables), false, retry, &Handle::current()).expect("nothing is missing")
}

/// Makes ticks of one server.
pub(crate) struct Feed {
    pub(crate) table: SeriesTable,
    pub(crate) server: EntityId,
    now: u64,
}

impl Feed {
    pub(crate) fn new() -> Self {
        let mut table = SeriesTable::new();
        table.entity(Entity::new(EntityKind::Host, "node-7").with("host.arch", "amd64"));
        let server = table.entity(
            Entity::new(EntityKind::Server, "shop/1").with("service.name", "shop").with("service.instance.id", "1"),
        );
        Self { table, server, now: 0 }
    }

    pub(crate) fn series(&mut self, metric: &'static MetricDef) -> SeriesId {
        self.table.series(metric, self.server, &[])
    }

    pub(crate) fn tick(&mut self, values: &[(SeriesId, Number)], histograms: &[(SeriesId, Histogram)]) -> Tick {
        self.now += SECOND;
        let mut tick = Tick {
            end: Stamp { mono_ns: self.now, wall_ns: EPOCH + self.now },
            dt_ns: SECOND,
            values: values.to_vec(),
            histograms: histograms.to_vec(),
            ..Tick::default()
        };
        tick.seal();
        tick
    }
}

pub(crate) fn overload() -> Finding {
    Finding {
        id: "overload".into(),
        severity: Severity::Warning,
        entity: "server:shop/1".to_owned(),
        summary: "more work arrives than the server can do".into(),
        detail: "120 requests arrive a second, 90 leave.".to_owned(),
        evidence: Vec::new(),
        cost: None,
        remedies: Vec::new(),
    }
}
