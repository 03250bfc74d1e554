//! Ships ticks and findings to other systems over OTLP.
//!
//! An [`Encoder`] sees every tick before and after it is added to the totals, and every export interval encodes one set of
//! requests. Whoever holds it keeps them, with the streams' state, in one transaction, and only then gives them to a
//! [`Lane`], which delivers them one after the other. Metrics are built as OTLP messages here, because the OpenTelemetry SDK
//! cannot carry histograms that were aggregated elsewhere; the agent's own spans and log go through the SDK
//! ([`OwnTelemetry`]).
//!
//! What leaves, under which names and attributes, is told in this crate's `README.md`.

#[cfg(any(test, feature = "receiver"))]
pub mod adder;
mod client;
mod config;
mod gzip;
mod otlp;
mod own_telemetry;
pub mod prometheus;
#[cfg(feature = "receiver")]
pub mod receiver;

pub use client::StartError;
pub use client::backoff::RetryPolicy;
pub use client::lane::{Lane, Observer, Refused, Settled, Step};
pub use config::{ConfigError, Headers, OtlpConfig, Protocol, Signal, Target, TlsFiles};
pub use otlp::batch::Encoded;
pub use otlp::encode::{Encoder, Exported};
pub use otlp::exphist;
pub use otlp::totals::{Base, Stream, StreamId, Total, Totals};
pub use own_telemetry::OwnTelemetry;
