//! The exporter as the agent sees it.

use std::collections::BTreeMap;
use std::time::Duration;

use perfwatch_model::snapshot::ExportView;
use perfwatch_model::{Finding, SeriesTable, Tick};
use tokio::runtime::Handle;

use crate::client::StartError;
use crate::client::backoff::RetryPolicy;
use crate::client::sender::Sender;
use crate::config::{OtlpConfig, Signal};
use crate::otlp::encode::Encoder;

/// Accumulates ticks, encodes them once an interval, and hands the bytes to background tasks. Never blocks on a network.
pub struct Exporter {
    encoder: Encoder,
    metrics: Option<Sender>,
    logs: Option<Sender>,
    interval_ns: u64,
    due_ns: Option<u64>,
}

impl Exporter {
    /// An exporter to the endpoints of `config`, with tasks on `runtime`; at level of detail `full`, or the default one
    /// that leaves out processes and single cores. Connects to nothing yet. Without endpoints it does nothing.
    ///
    /// # Errors
    ///
    /// When a file for TLS cannot be used. An endpoint that does not answer is no error: it is tried again, and told in
    /// [`Exporter::views`].
    pub fn start(config: &OtlpConfig, full: bool, runtime: &Handle) -> Result<Self, StartError> {
        Self::start_with(config, full, RetryPolicy::default(), runtime)
    }

    /// As [`Exporter::start`], with other waits between attempts.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start_with(
        config: &OtlpConfig,
        full: bool,
        retry: RetryPolicy,
        runtime: &Handle,
    ) -> Result<Self, StartError> {
        let sender = |target: &Option<_>, signal| {
            target.as_ref().map(|target| Sender::start(target, signal, retry, runtime)).transpose()
        };
        Ok(Self {
            encoder: Encoder::new(config.resource.clone(), full),
            metrics: sender(&config.metrics, Signal::Metrics)?,
            logs: sender(&config.logs, Signal::Logs)?,
            interval_ns: u64::try_from(config.interval.as_nanos()).unwrap_or(u64::MAX),
            due_ns: None,
        })
    }

    /// True when there is nowhere to export to.
    pub fn is_off(&self) -> bool {
        self.metrics.is_none() && self.logs.is_none()
    }

    /// Takes in a closed tick and the findings that stand after it. Findings that changed leave at once, metrics when the
    /// interval is over.
    pub fn offer(&mut self, tick: &Tick, table: &SeriesTable, findings: &[Finding]) {
        if self.is_off() {
            return;
        }
        self.encoder.offer(tick, table, findings);
        if let Some(events) = self.encoder.events(table)
            && let Some(logs) = &self.logs
        {
            logs.offer(events);
        }
        let now = tick.end.mono_ns;
        // Ticks end within milliseconds of a whole second; one that is a little early is the one that was meant.
        let slack = tick.dt_ns / 2;
        let first_due = now.saturating_sub(tick.dt_ns).saturating_add(self.interval_ns);
        let due = *self.due_ns.get_or_insert(first_due);
        if now.saturating_add(slack) >= due {
            self.export(table);
            self.due_ns = Some(now.saturating_add(self.interval_ns));
        }
    }

    /// Queues everything measured since the last export.
    fn export(&mut self, table: &SeriesTable) {
        // Without a destination the accumulators are emptied all the same.
        let requests = self.encoder.metrics(table);
        if let Some(metrics) = &self.metrics {
            for request in requests {
                metrics.offer(request);
            }
        }
    }

    /// Exports what was offered and waits until all is delivered, at most `within`; what is not is dropped and counted.
    /// For the end: nothing is delivered afterwards.
    pub async fn flush(&mut self, table: &SeriesTable, within: Duration) {
        self.export(table);
        tokio::join!(finish(self.metrics.as_mut(), within), finish(self.logs.as_mut(), within));
    }

    /// Each destination and how it goes there.
    pub fn views(&self) -> Vec<ExportView> {
        let view = |sender: &Sender, is_metrics: bool| ExportView {
            endpoint: sender.endpoint().to_owned(),
            state: match self.encoder.waits_for_clock().filter(|_| is_metrics) {
                Some(behind_ns) => {
                    format!("waiting: the wall clock was set back by {} s", behind_ns / 1_000_000_000)
                }
                None => sender.state(),
            },
            sent: sender.sent(),
            dropped: sender.dropped().values().sum(),
        };
        let metrics = self.metrics.iter().map(|sender| view(sender, true));
        metrics.chain(self.logs.iter().map(|sender| view(sender, false))).collect()
    }

    /// Data points and records that were not delivered, by reason, since the start.
    pub fn dropped(&self) -> BTreeMap<&'static str, u64> {
        let mut all = BTreeMap::new();
        for sender in self.metrics.iter().chain(&self.logs) {
            for (reason, items) in sender.dropped() {
                *all.entry(reason).or_default() += items;
            }
        }
        all
    }

    /// Series that cannot leave because an attribute's key would break backends.
    pub fn refused_series(&self) -> usize {
        self.encoder.refused()
    }
}

async fn finish(sender: Option<&mut Sender>, within: Duration) {
    if let Some(sender) = sender {
        sender.finish(within).await;
    }
}
