//! What export asks of whoever adds ticks up, and what it wants to be kept of it.

use perfwatch_model::{Bounded, MetricDef, SeriesId, SeriesTable, SparseHdr};

/// The number of a series for ever; a [`SeriesId`] is one for as long as the agent lives.
pub type StreamId = u32;

/// What a cumulative series amounts to since its journal began.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Total<'a> {
    /// A counter, in the metric's inside unit.
    Int(u128),
    /// A counter that was not always an integer, in the metric's unit.
    Float(f64),
    /// A histogram of ours. Of one with its server's bounds, nothing: [`Stream::bounded`] has it.
    Hdr(&'a SparseHdr),
}

/// Adds ticks up.
pub trait Totals {
    /// The number of a series, if it has one: from before, or since the tick at hand is added.
    fn number(&self, series: SeriesId, table: &SeriesTable) -> Option<StreamId>;
    /// Its total; `None` once it was forgotten.
    fn total(&self, number: StreamId) -> Option<Total<'_>>;
    /// Its metric, of a series that this agent has not seen; `None` when nothing is known of it.
    fn metric(&self, number: StreamId) -> Option<&'static MetricDef>;
}

/// What a total was before a stream began.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Base {
    /// Nothing.
    #[default]
    Nothing,
    /// A counter's total.
    Int(u128),
    /// A counter's total in its unit.
    Float(f64),
    /// A histogram.
    Hdr(SparseHdr),
}

impl Base {
    pub(crate) fn of(total: Total<'_>) -> Self {
        match total {
            Total::Int(0) => Self::Nothing,
            Total::Int(total) => Self::Int(total),
            Total::Float(total) => Self::Float(total),
            Total::Hdr(all) if all.is_empty() => Self::Nothing,
            Total::Hdr(all) => Self::Hdr(all.clone()),
        }
    }
}

/// Where a cumulative stream stands: all that must be kept for it to go on in the next agent.
#[derive(Clone, Debug, PartialEq)]
pub struct Stream {
    /// When it began, in export time.
    pub start_ns: u64,
    /// Stamp of the newest point that was encoded; 0 before the first.
    pub exported_ns: u64,
    /// The series' total before it began.
    pub base: Base,
    /// What a histogram with its server's own bounds gained since then.
    pub bounded: Option<Bounded>,
    /// The attributes of its points, encoded.
    pub attributes: Vec<u8>,
}
