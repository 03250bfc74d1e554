//! A small agent's worth of ticks, and an exporter for them.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use perfwatch_export::adder::Adder;
use perfwatch_export::receiver::Receiver;
use perfwatch_export::{Encoded, Encoder, Lane, Observer, OtlpConfig, Refused, RetryPolicy, Signal, StartError, Step};
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

/// Retries that a test can wait for.
pub(crate) const QUICK: RetryPolicy = RetryPolicy { first: Duration::from_millis(10), most: Duration::from_millis(50) };

/// What the agent does with an encoder and lanes, without a journal: keeps nothing, drops nothing.
pub(crate) struct Exporter {
    encoder: Encoder,
    totals: Adder,
    lanes: Vec<(Signal, Lane)>,
    settled: mpsc::Receiver<(u64, Step)>,
    posted: u64,
    done: u64,
    pub(crate) sent: u64,
    pub(crate) rejected: u64,
    pub(crate) refused: Vec<Refused>,
}

impl Exporter {
    pub(crate) fn start(config: &OtlpConfig) -> Result<Self, StartError> {
        let (told, settled) = mpsc::channel();
        let told = Mutex::new(told);
        let observer: Observer = Arc::new(move |number, step| {
            let _ = told.lock().expect("no test panics holding it").send((number, step));
        });
        let mut lanes = Vec::new();
        for (target, signal) in [(&config.metrics, Signal::Metrics), (&config.logs, Signal::Logs)] {
            if let Some(target) = target {
                lanes.push((signal, Lane::start(target, signal, QUICK, &Handle::current(), Arc::clone(&observer))?));
            }
        }
        let (encoder, totals) = (Encoder::new(config, false), Adder::new());
        Ok(Self { encoder, totals, lanes, settled, posted: 0, done: 0, sent: 0, rejected: 0, refused: Vec::new() })
    }

    pub(crate) fn offer(&mut self, tick: &Tick, table: &SeriesTable, findings: &[Finding]) {
        self.encoder.before(tick, table, &self.totals);
        self.totals.add(tick, table);
        let exported = self.encoder.after(tick, table, &self.totals, findings, false);
        exported.metrics.into_iter().for_each(|request| self.post(Signal::Metrics, request));
        exported.logs.into_iter().for_each(|request| self.post(Signal::Logs, request));
    }

    pub(crate) fn post(&mut self, signal: Signal, request: Encoded) {
        let lane = self.lanes.iter().find(|(known, _)| *known == signal);
        lane.expect("the signal has a lane").1.push(self.posted, request);
        self.posted += 1;
    }

    /// Exports the rest and waits until everything is settled, at most so long; what is not stays where it is.
    pub(crate) async fn flush(&mut self, table: &SeriesTable, within: Duration) {
        let rest = self.encoder.rest(table, &self.totals);
        rest.metrics.into_iter().for_each(|request| self.post(Signal::Metrics, request));
        let until = tokio::time::Instant::now() + within;
        while self.done < self.posted && tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_millis(5)).await;
            while let Ok((_, step)) = self.settled.try_recv() {
                let Step::Settled(settled) = step else { continue };
                self.done += 1;
                self.sent += settled.sent;
                self.rejected += settled.rejected;
                self.refused.extend(settled.refused);
            }
        }
    }

    /// Requests that are not settled.
    pub(crate) fn waiting(&self) -> u64 {
        self.posted - self.done
    }

    /// How it goes with metrics.
    pub(crate) fn state(&self) -> String {
        self.lanes[0].1.state()
    }

    pub(crate) fn endpoint(&self) -> &str {
        self.lanes[0].1.endpoint()
    }
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
    Exporter::start(&config(&variables)).expect("nothing is missing")
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
        experimental: false,
    }
}
