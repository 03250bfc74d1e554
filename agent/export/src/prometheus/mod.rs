//! `/metrics`: what is known, in the formats that Prometheus pulls.
//!
//! Names and labels are those that the same series has after it went to Prometheus over OTLP. Counters and distributions
//! are totals since the journal began, so that they go on over a restart of the agent; gauges are as they were read last.

mod accept;
mod buckets;
mod families;
mod message;
mod protobuf;
mod text;
mod values;

use std::sync::Arc;

use perfwatch_model::{Bounded, SeriesId, SeriesTable, SparseHdr, Tick};

pub use accept::Format;

use families::Family;
use values::Values;

/// What a counter or a distribution amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Total<'a> {
    /// A counter, in the metric's inside unit.
    Whole(u128),
    /// A counter that was not always an integer, in the metric's unit.
    Measured(f64),
    /// A distribution that was recorded by us.
    Hdr(&'a SparseHdr),
    /// A distribution with the bounds of its server, and when it was empty.
    Bounded(&'a Bounded, u64),
}

/// Where totals are looked up. A series that has none yet is left out.
pub trait Totals {
    /// What the series amounts to.
    fn of(&self, series: SeriesId) -> Option<Total<'_>>;
}

/// What is to be exposed.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Names the series.
    pub table: &'a SeriesTable,
    /// The newest ticks, oldest first; a gauge is as the newest tick has it that has it.
    pub ticks: &'a [Arc<Tick>],
    /// Counters and distributions.
    pub totals: &'a dyn Totals,
    /// When all totals were 0, in nanoseconds since 1970.
    pub created_wall_ns: u64,
}

/// Writes expositions, and keeps the names and labels for the next one.
#[derive(Debug)]
pub struct Exposition {
    full: bool,
    resource: String,
    resource_labels: Vec<(String, String)>,
    families: Vec<Family>,
    generation: Option<u64>,
}

impl Exposition {
    /// For what leaves by default, or at level of detail `full`; `resource` describes who tells it.
    pub fn new(full: bool, resource: &[(String, String)]) -> Self {
        let resource_labels = families::of_resource(resource);
        let resource = families::written(&resource_labels);
        Self { full, resource, resource_labels, families: Vec::new(), generation: None }
    }

    /// The exposition; empty when nothing is known yet.
    pub fn write(&mut self, format: Format, source: &Source<'_>) -> Vec<u8> {
        if self.generation != Some(source.table.generation()) {
            self.families = families::of_table(source.table, self.full);
            self.generation = Some(source.table.generation());
        }
        if source.ticks.is_empty() {
            return Vec::new();
        }
        let values = Values::gather(&self.families, source);
        match format {
            Format::Text => text::write(&self.families, &values, source, &self.resource, text::Dialect::Prometheus),
            Format::OpenMetrics => {
                text::write(&self.families, &values, source, &self.resource, text::Dialect::OpenMetrics)
            }
            Format::Protobuf => protobuf::write(&self.families, &values, source, &self.resource_labels),
        }
    }
}

#[cfg(test)]
mod tests;
