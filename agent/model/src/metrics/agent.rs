//! perfwatch itself.
//!
//! Its CPU time and memory are not `process.*`: those are the watched processes', and a sum over them must not include who
//! watches.

use crate::MetricDef;
use crate::Unit::{Bytes, Count, Seconds};

/// CPU time of the agent.
pub const CPU_TIME: MetricDef =
    MetricDef::counter("perfwatch.agent.cpu.time", Seconds, "CPU time that the agent itself used.");
/// Memory of the agent.
pub const MEMORY_USAGE: MetricDef =
    MetricDef::gauge("perfwatch.agent.memory.usage", Bytes, "Physical memory that the agent itself holds.");
/// By `perfwatch.probe`.
pub const PROBE_TIME: MetricDef =
    MetricDef::counter("perfwatch.agent.probe.time", Seconds, "Time spent in each probe.").full();
/// How late ticks close.
pub const LATENESS: MetricDef = MetricDef::gauge(
    "perfwatch.agent.tick.lateness",
    Seconds,
    "How long after its due time the newest tick was closed.",
);
/// Ticks that were not taken.
pub const TICKS_MISSED: MetricDef =
    MetricDef::counter("perfwatch.agent.tick.missed", Count("{tick}"), "Ticks that could not be taken in time.");
/// By `perfwatch.reason`.
pub const DROPPED: MetricDef = MetricDef::counter(
    "perfwatch.agent.dropped",
    Count("{item}"),
    "Messages and values that had to be dropped, by reason.",
);
/// Connected SDK sessions.
pub const SESSIONS: MetricDef =
    MetricDef::gauge("perfwatch.agent.sessions", Count("{session}"), "SDK sessions that are connected.");

/// Of its database, without the write-ahead log.
pub const JOURNAL_SIZE: MetricDef =
    MetricDef::gauge("perfwatch.agent.journal.size", Bytes, "Bytes of the journal on disk that hold something.");

/// All of them.
pub const ALL: &[&MetricDef] =
    &[&CPU_TIME, &MEMORY_USAGE, &PROBE_TIME, &LATENESS, &TICKS_MISSED, &DROPPED, &SESSIONS, &JOURNAL_SIZE];
