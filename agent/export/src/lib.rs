//! Ships ticks and findings to other systems over OTLP.
//!
//! [`Exporter`] is offered every tick; it accumulates, and every export interval encodes one set of requests that tasks of
//! its own deliver. Metrics are built as OTLP messages here, because the OpenTelemetry SDK cannot carry histograms that
//! were aggregated elsewhere; the agent's own spans and log go through the SDK ([`OwnTelemetry`]).
//!
//! What leaves, under which names and attributes, is told in this crate's `README.md`.

mod client;
mod config;
mod exporter;
mod otlp;
mod own_telemetry;
#[cfg(feature = "receiver")]
pub mod receiver;

pub use client::StartError;
pub use client::backoff::RetryPolicy;
pub use config::{ConfigError, Headers, OtlpConfig, Protocol, Signal, Target, TlsFiles};
pub use exporter::Exporter;
pub use otlp::exphist;
pub use own_telemetry::OwnTelemetry;
