//! A tick as the journal keeps it: protobuf messages in columns, compressed with a checksum.
//!
//! Series are journal numbers, entities are listed by name: a row can be read without the process that wrote it.

mod gpu_rows;
mod minute_rows;
mod rows;

use std::io;

use perfwatch_model::{Absence, EntityId, GpuTick, Histogram, Number, Reason, SeriesTable, ServerTick, Tick, metrics};
use prost::Message as _;
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::CParameter;

use crate::journal::Commit;
use crate::minute::Minute;
use crate::totals::{JournalId, Totals};
use gpu_rows::GpuRow;
use rows::{AbsenceKindRow, AbsenceRow, HistogramRow, ServerRow, TickRow};

/// A row beyond this is not one of ours: a thousand servers make less than a tenth of it.
const MAX_ROW: usize = 64 << 20;
/// Fast: a tick is compressed every second, and columns compress well at any level.
const LEVEL: i32 = 1;

/// A tick out of the journal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct StoredTick {
    /// The entities that `absent`, `servers` and `gpus` are about, as `kind:id`; an [`EntityId`] in them is a place in this list.
    pub entities: Vec<String>,
    /// Values, sorted by series.
    pub values: Vec<(JournalId, Number)>,
    /// What each histogram series gained, sorted by series.
    pub histograms: Vec<(JournalId, Histogram)>,
    /// What could not be read.
    pub absent: Vec<Absence>,
    /// Instrumented servers.
    pub servers: Vec<ServerTick>,
    /// GPUs.
    pub gpus: Vec<GpuTick>,
    /// What counters gained where that is not the difference to the tick before; sorted by series.
    pub gains: Vec<(JournalId, Number)>,
    /// The ledgers and findings beside it are not of this very tick: it is the agent's last, or several in one.
    pub unjudged: bool,
    /// What was on the screen beside all this; see [`Tick::scene`].
    pub scene: Vec<u8>,
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
    pub(crate) fn encode(&mut self, commit: &Commit<'_>, totals: &Totals) -> io::Result<Vec<u8>> {
        let mut row = row(commit.tick, commit.table, totals);
        row.unjudged = !commit.judged;
        for (id, gained) in totals.stated_gains() {
            match gained {
                Number::Int(gained) => {
                    row.gain_int_series.push(id);
                    row.gain_ints.push(gained);
                }
                Number::Float(gained) => {
                    row.gain_float_series.push(id);
                    row.gain_floats.push(gained);
                }
            }
        }
        self.compress(&row)
    }

    /// A minute.
    pub(crate) fn encode_minute(&mut self, minute: &Minute) -> io::Result<Vec<u8>> {
        self.compress(&minute_rows::MinuteRow::of(minute))
    }

    fn compress(&mut self, row: &impl prost::Message) -> io::Result<Vec<u8>> {
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
            kind: AbsenceKindRow::from(absence.reason.kind).into(),
        });
    }
    for server in &tick.servers {
        let Some(entity) = names.place(server.entity) else { continue };
        row.servers.push(ServerRow::of(entity, server));
    }
    for gpu in &tick.gpus {
        let Some(entity) = names.place(gpu.entity) else { continue };
        let servers = gpu.servers.iter().filter_map(|server| names.place(*server)).collect();
        row.gpus.push(GpuRow::of(entity, servers, gpu));
    }
    row.entities = names.listed;
    row.scene.clone_from(&tick.scene);
    row
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

fn plain(blob: &[u8]) -> io::Result<Vec<u8>> {
    if blob.is_empty() {
        return Err(invalid("a row is empty"));
    }
    let size = Decompressor::upper_bound(blob).unwrap_or(MAX_ROW).min(MAX_ROW);
    zstd::bulk::decompress(blob, size)
}

fn numbers(
    int_series: Vec<JournalId>,
    ints: Vec<u64>,
    float_series: Vec<JournalId>,
    floats: Vec<f64>,
) -> Vec<(JournalId, Number)> {
    let ints = int_series.into_iter().zip(ints.into_iter().map(Number::Int));
    let floats = float_series.into_iter().zip(floats.into_iter().map(Number::Float));
    let mut numbers: Vec<_> = ints.chain(floats).collect();
    numbers.sort_unstable_by_key(|(id, _)| *id);
    numbers
}

/// A minute from its blob in the journal.
pub(crate) fn decode_minute(blob: &[u8]) -> io::Result<Minute> {
    minute_rows::decode(&plain(blob)?)
}

/// A tick from its blob in the journal.
///
/// # Errors
/// The blob is not whole, or does not follow the format.
pub fn decode(blob: &[u8]) -> io::Result<StoredTick> {
    let row = TickRow::decode(plain(blob)?.as_slice()).map_err(|error| invalid(&error.to_string()))?;
    let gains_fit =
        row.gain_int_series.len() == row.gain_ints.len() && row.gain_float_series.len() == row.gain_floats.len();
    if row.int_series.len() != row.ints.len() || row.float_series.len() != row.floats.len() || !gains_fit {
        return Err(invalid("a tick has more series than values"));
    }
    let values = numbers(row.int_series, row.ints, row.float_series, row.floats);
    let gains = numbers(row.gain_int_series, row.gain_ints, row.gain_float_series, row.gain_floats);
    let entity = |at: u32| -> io::Result<EntityId> {
        if (at as usize) < row.entities.len() { Ok(EntityId(at)) } else { Err(invalid("a tick names no such entity")) }
    };
    let mut absent = Vec::with_capacity(row.absent.len());
    for gap in row.absent {
        // A metric that a newer agent knew has no constant here; its name is all that is lost.
        let Some(metric) = metrics::find(&gap.metric) else { continue };
        let kind = gap.kind().into();
        let reason = Reason { text: gap.text.into(), cure: gap.cure.into(), kind };
        absent.push(Absence { metric: metric.name, entity: entity(gap.entity)?, reason });
    }
    let servers = row.servers.into_iter().map(|server| {
        let about = entity(server.entity)?;
        server.tick(about)
    });
    let servers = servers.collect::<io::Result<_>>()?;
    let gpus = row.gpus.into_iter().map(|gpu| gpu.tick(entity)).collect::<io::Result<_>>()?;
    let histograms = row.histograms.into_iter().map(HistogramRow::histogram).collect::<io::Result<_>>()?;
    let unjudged = row.unjudged;
    let (entities, scene) = (row.entities, row.scene);
    Ok(StoredTick { entities, values, histograms, absent, servers, gpus, gains, unjudged, scene })
}

#[cfg(test)]
mod tests;
