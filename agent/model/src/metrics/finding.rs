//! Findings as numbers, so that dashboards and alerts can query them.

use crate::MetricDef;
use crate::Unit::Count;

/// By `perfwatch.finding.id` and `perfwatch.finding.severity`, on the finding's entity.
pub const ACTIVE: MetricDef = MetricDef::gauge(
    "perfwatch.finding.active",
    Count("{finding}"),
    "Whether the finding stands: 1 or 0. Over OTLP the mean of the interval, so 0.5 is half of it.",
);

/// All of them.
pub const ALL: &[&MetricDef] = &[&ACTIVE];
