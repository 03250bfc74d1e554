//! The intake without its listeners.

use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use perfwatch_model::{SeriesTable, Stamp, Tick};
use prost::Message;

use super::book::Book;
use super::gate;

/// Takes in messages of OTLP in protobuf as the listeners do, and gives them to ticks: for benchmarks.
#[derive(Debug)]
pub struct Inlet {
    book: Book,
}

/// Why a message was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untaken {
    /// It is no message of OTLP.
    #[error("not an OTLP message: {0}")]
    Malformed(#[from] prost::DecodeError),
    /// Too much came at a time; it may come again after this long.
    #[error("too much at a time; send it again in {0:?}")]
    Busy(Duration),
}

impl Inlet {
    /// An intake that starts now. `sampling` is the share of requests that are traced, where spans do not say it.
    pub fn new(now: Stamp, sampling: Option<f64>) -> Self {
        Self { book: Book::new(sampling, now) }
    }

    /// Takes an `ExportMetricsServiceRequest`; how many of its points were refused.
    ///
    /// # Errors
    /// It is no such message, or too much came at a time.
    pub fn metrics(&mut self, message: &[u8], mono_ns: u64) -> Result<u64, Untaken> {
        let sent = ExportMetricsServiceRequest::decode(message)?;
        self.book.admit(gate::metrics_in(&sent.resource_metrics), mono_ns).map_err(Untaken::Busy)?;
        let refused = sent.resource_metrics.iter().map(|part| self.book.take_metrics(part, None, mono_ns).count as u64);
        Ok(refused.sum())
    }

    /// Takes an `ExportTraceServiceRequest`; how many of its spans were refused.
    ///
    /// # Errors
    /// It is no such message, or too much came at a time.
    pub fn traces(&mut self, message: &[u8], mono_ns: u64) -> Result<u64, Untaken> {
        let sent = ExportTraceServiceRequest::decode(message)?;
        self.book.admit(gate::spans_in(&sent.resource_spans), mono_ns).map_err(Untaken::Busy)?;
        let refused = sent.resource_spans.iter().map(|part| self.book.take_spans(part, None, mono_ns).count as u64);
        Ok(refused.sum())
    }

    /// Appends what came to a tick.
    pub fn close(&mut self, tick: &mut Tick, table: &mut SeriesTable) {
        self.book.close(tick, table, &|_| false);
    }
}
