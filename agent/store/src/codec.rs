//! A tick as the journal keeps it: protobuf messages in columns, compressed with a checksum.
//!
//! Series are journal numbers, entities are listed by name: a row can be read without the process that wrote it.

mod rows;

use std::io;

use perfwatch_model::{Absence, EntityId, Histogram, Number, Reason, SeriesTable, ServerTick, Tick, metrics};
use prost::Message as _;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::totals::{JournalId, Totals};
use rows::{AbsenceRow, HistogramRow, ServerRow, TickRow};

/// A row beyond this is not one of ours: a thousand servers make less than a tenth of it.
const MAX_ROW: usize = 64 << 20;
/// Fast: a tick is compressed every second, and columns compress well at any level.
const LEVEL: i32 = 1;

/// A tick out of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredTick {
    /// The entities that `absent` and `servers` are about, as `kind:id`; an [`EntityId`] in them is a place in this list.
    pub entities: Vec<String>,
    /// Values, sorted by series.
    pub values: Vec<(JournalId, Number)>,
    /// What each histogram series gained, sorted by series.
    pub histograms: Vec<(JournalId, Histogram)>,
    /// What could not be read.
    pub absent: Vec<Absence>,
    /// Instrumented servers.
    pub servers: Vec<ServerTick>,
}

/// Encodes ticks; keeps its buffers.
pub(crate) struct Encoder {
    compressor: Compressor<'static>,
    plain: Vec<u8>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").finish_non_exhaustive()
    }
}

impl Encoder {
    pub(crate) fn new() -> io::Result<Self> {
        let mut compressor = Compressor::new(LEVEL)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true))?;
        Ok(Self { compressor, plain: Vec::new() })
    }

    /// A tick whose series `totals` has met.
    pub(crate) fn encode(&mut self, tick: &Tick, table: &SeriesTable, totals: &Totals) -> io::Result<Vec<u8>> {
        let row = row(tick, table, totals);
        self.plain.clear();
        row.encode(&mut self.plain).map_err(io::Error::other)?;
        self.compressor.compress(&self.plain)
    }
}

/// Names of entities, listed once each.
struct Names<'a> {
    table: &'a SeriesTable,
    known: Vec<EntityId>,
    listed: Vec<String>,
}

impl Names<'_> {
    /// The entity's place in the list; `None` once it retired.
    fn place(&mut self, entity: EntityId) -> Option<u32> {
        if let Some(at) = self.known.iter().position(|known| *known == entity) {
            return Some(at as u32);
        }
        self.listed.push(self.table.entity_of(entity)?.to_string());
        self.known.push(entity);
        Some(self.known.len() as u32 - 1)
    }
}

fn row(tick: &Tick, table: &SeriesTable, totals: &Totals) -> TickRow {
    let mut row = TickRow::default();
    let mut values: Vec<_> =
        tick.values.iter().filter_map(|(series, number)| Some((totals.id_of(*series)?, *number))).collect();
    values.sort_unstable_by_key(|(id, _)| *id);
    for (id, number) in values {
        match number {
            Number::Int(value) => {
                row.int_series.push(id);
                row.ints.push(value);
            }
            Number::Float(value) => {
                row.float_series.push(id);
                row.floats.push(value);
            }
        }
    }
    let mut histograms: Vec<_> = tick
        .histograms
        .iter()
        .filter_map(|(series, gained)| Some(HistogramRow::of(totals.id_of(*series)?, gained)))
        .collect();
    histograms.sort_unstable_by_key(|row| row.series);
    row.histograms = histograms;
    let mut names = Names { table, known: Vec::new(), listed: Vec::new() };
    for absence in &tick.absent {
        let Some(entity) = names.place(absence.entity) else { continue };
        row.absent.push(AbsenceRow {
            metric: absence.metric.to_owned(),
            entity,
            text: absence.reason.text.to_string(),
            cure: absence.reason.cure.to_string(),
        });
    }
    for server in &tick.servers {
        let Some(entity) = names.place(server.entity) else { continue };
        row.servers.push(ServerRow::of(entity, server));
    }
    row.entities = names.listed;
    row
}

/// A tick from its blob in the journal.
///
/// # Errors
/// The blob is not whole, or does not follow the format.
pub fn decode(blob: &[u8]) -> io::Result<StoredTick> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    if blob.is_empty() {
        return Err(invalid("a tick's row is empty"));
    }
    let size = Decompressor::upper_bound(blob).unwrap_or(MAX_ROW).min(MAX_ROW);
    let plain = zstd::bulk::decompress(blob, size)?;
    let row = TickRow::decode(plain.as_slice()).map_err(|error| invalid(&error.to_string()))?;
    if row.int_series.len() != row.ints.len() || row.float_series.len() != row.floats.len() {
        return Err(invalid("a tick has more series than values"));
    }
    let ints = row.int_series.into_iter().zip(row.ints.into_iter().map(Number::Int));
    let floats = row.float_series.into_iter().zip(row.floats.into_iter().map(Number::Float));
    let mut values: Vec<_> = ints.chain(floats).collect();
    values.sort_unstable_by_key(|(id, _)| *id);
    let entity = |at: u32| -> io::Result<EntityId> {
        if (at as usize) < row.entities.len() { Ok(EntityId(at)) } else { Err(invalid("a tick names no such entity")) }
    };
    let mut absent = Vec::with_capacity(row.absent.len());
    for gap in row.absent {
        // A metric that a newer agent knew has no constant here; its name is all that is lost.
        let Some(metric) = metrics::find(&gap.metric) else { continue };
        let reason = Reason::new(gap.text, gap.cure);
        absent.push(Absence { metric: metric.name, entity: entity(gap.entity)?, reason });
    }
    let servers = row.servers.into_iter().map(|server| {
        let about = entity(server.entity)?;
        server.tick(about)
    });
    let servers = servers.collect::<io::Result<_>>()?;
    let histograms = row.histograms.into_iter().map(HistogramRow::histogram).collect::<io::Result<_>>()?;
    Ok(StoredTick { entities: row.entities, values, histograms, absent, servers })
}

#[cfg(test)]
mod tests;
