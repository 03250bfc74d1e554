//! Export over OTLP: what arrived, what did not, what waits.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Seconds};

/// By `perfwatch.signal` (metrics, logs).
pub const SENT: MetricDef =
    MetricDef::counter("perfwatch.export.sent", Count("{item}"), "Data points and log records that a receiver took.");
/// By `perfwatch.reason`.
pub const DROPPED: MetricDef = MetricDef::counter(
    "perfwatch.export.dropped",
    Count("{item}"),
    "Data points and log records that never arrive, by reason.",
);
/// Series that stay home for an attribute that would break backends.
pub const REFUSED_SERIES: MetricDef = MetricDef::gauge(
    "perfwatch.export.refused_series",
    Count("{series}"),
    "Series that are not exported because an attribute's key would break backends.",
)
.full();
/// Requests that wait.
pub const OUTBOX_REQUESTS: MetricDef = MetricDef::gauge(
    "perfwatch.export.outbox.requests",
    Count("{request}"),
    "Encoded requests that are not delivered yet.",
)
.full();
/// Their bytes.
pub const OUTBOX_SIZE: MetricDef = MetricDef::gauge(
    "perfwatch.export.outbox.size",
    Bytes,
    "Bytes of the encoded requests that are not delivered yet.",
)
.full();
/// Age of the oldest.
pub const OUTBOX_AGE: MetricDef = MetricDef::gauge(
    "perfwatch.export.outbox.age",
    Seconds,
    "Age of the oldest encoded request that is not delivered yet; 0 when there is none.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[&SENT, &DROPPED, &REFUSED_SERIES, &OUTBOX_REQUESTS, &OUTBOX_SIZE, &OUTBOX_AGE];
