//! What a transaction writes.

use std::collections::VecDeque;

use perfwatch_model::{Finding, Number, Tick};
use rusqlite::types::Value;
use rusqlite::{Transaction, params};

use super::load;
use super::sessions::{Progress, SESSION_BYTES, Sessions};
use crate::entities::{Entities, EntityRow};
use crate::failpoint::{self, Point};
use crate::judged::{Episode, Judged, JudgedWriting};
use crate::totals::{Amount, Entry, JournalId, SeriesKey, Totals};

/// A tick on its way to disk.
#[derive(Debug)]
pub(super) struct Row {
    seq: u64,
    mono_ns: u64,
    wall_ns: u64,
    dt_ns: u64,
    blob: Vec<u8>,
}

impl Row {
    pub(super) fn new(seq: u64, tick: &Tick, blob: Vec<u8>) -> Self {
        Self { seq, mono_ns: tick.end.mono_ns, wall_ns: tick.end.wall_ns, dt_ns: tick.dt_ns, blob }
    }

    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    pub(super) fn bytes(&self) -> u64 {
        self.blob.len() as u64
    }
}

/// What a transaction writes beside ticks, copied out so that no lock is held while the disk works.
#[derive(Debug, Default)]
pub(super) struct Writing {
    listed: Vec<Listed>,
    counters: Vec<(JournalId, Value, Value)>,
    histograms: Vec<(JournalId, u64, u128, Vec<u8>, u64, f64)>,
    gone: Vec<JournalId>,
    sessions: Vec<(Progress, u64)>,
    sessions_gone: Vec<[u8; SESSION_BYTES]>,
    entities: Vec<EntityRow>,
    entities_gone: Vec<String>,
    pub(super) judged: JudgedWriting,
    /// Numbers of series below this were given; none is given twice.
    next_series: JournalId,
}

/// A series for the dictionary.
#[derive(Debug)]
struct Listed {
    id: JournalId,
    key: SeriesKey,
    unit: String,
    scale: f64,
    instrument: &'static str,
    integers: String,
}

impl Writing {
    /// What differs from the disk.
    pub(super) fn of(totals: &Totals, sessions: &Sessions, entities: &Entities, judged: &Judged) -> Self {
        let mut writing = Self {
            gone: totals.gone().to_vec(),
            sessions: sessions.unwritten().collect(),
            sessions_gone: sessions.gone().to_vec(),
            entities: entities.unwritten().cloned().collect(),
            entities_gone: entities.gone().to_vec(),
            judged: judged.writing(),
            next_series: totals.next(),
            ..Self::default()
        };
        for (id, entry) in totals.unwritten() {
            if !entry.is_listed() {
                writing.listed.push(Listed::of(id, entry));
            }
            match entry.amount() {
                Amount::None => {}
                Amount::Counter(total) => writing.counters.push((id, last(entry.last()), exact(*total))),
                Amount::Measured(total) => {
                    let last = entry.last().map(|last| match last {
                        Number::Int(value) => Number::Float(value as f64 * entry.scale()),
                        Number::Float(_) => last,
                    });
                    writing.counters.push((id, self::last(last), Value::Real(*total)));
                }
                Amount::Histogram(all) => {
                    let buckets = load::pack(&all.hdr);
                    let (count, sum) = (all.hdr.count(), all.hdr.sum());
                    writing.histograms.push((id, count, sum, buckets, all.bounded_count, all.bounded_sum));
                }
            }
        }
        writing
    }

    /// Writes it and the ticks.
    pub(super) fn write(&self, transaction: &Transaction<'_>, ticks: &VecDeque<Row>) -> rusqlite::Result<()> {
        self.write_dictionary(transaction)?;
        self.write_totals(transaction)?;
        failpoint::pass(Point::TotalsWritten);
        let mut advance = transaction
            .prepare_cached("INSERT OR REPLACE INTO sessions (id, seq, seen_wall_ns) VALUES (?1, ?2, ?3)")?;
        for (progress, seen) in &self.sessions {
            advance.execute(params![progress.session, progress.seq.cast_signed(), seen.cast_signed()])?;
        }
        for session in &self.sessions_gone {
            transaction.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([session])?;
        }
        let mut keep = transaction
            .prepare_cached("INSERT INTO ticks (seq, mono_ns, wall_ns, dt_ns, data) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for row in ticks {
            let [seq, mono, wall, dt] = [row.seq, row.mono_ns, row.wall_ns, row.dt_ns].map(u64::cast_signed);
            keep.execute(params![seq, mono, wall, dt, row.blob])?;
        }
        self.write_judged(transaction)?;
        failpoint::pass(Point::JudgementWritten);
        Ok(())
    }

    fn write_dictionary(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        // First, so that what comes finds their room.
        for id in &self.gone {
            transaction.prepare_cached("DELETE FROM series WHERE id = ?1")?.execute([id])?;
            transaction.prepare_cached("DELETE FROM totals WHERE series = ?1")?.execute([id])?;
        }
        if !self.gone.is_empty() {
            transaction
                .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('next_series', ?1)")?
                .execute([self.next_series])?;
        }
        for id in &self.entities_gone {
            transaction.prepare_cached("DELETE FROM entities WHERE id = ?1")?.execute([id])?;
        }
        let mut insert = transaction.prepare_cached(
            "INSERT INTO series (id, metric, unit, scale, instrument, entity, attributes, integers) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for Listed { id, key, unit, scale, instrument, integers } in &self.listed {
            insert.execute(params![id, key.metric, unit, scale, instrument, key.entity, key.attributes, integers])?;
        }
        let mut describe =
            transaction.prepare_cached("INSERT OR REPLACE INTO entities (id, kind, attributes) VALUES (?1, ?2, ?3)")?;
        for EntityRow { id, kind, attributes } in &self.entities {
            describe.execute(params![id, kind, attributes])?;
        }
        Ok(())
    }

    fn write_totals(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let mut count =
            transaction.prepare_cached("INSERT OR REPLACE INTO totals (series, last, total) VALUES (?1, ?2, ?3)")?;
        for (id, last, total) in &self.counters {
            count.execute(params![id, last, total])?;
        }
        let mut spread = transaction.prepare_cached(
            "INSERT OR REPLACE INTO totals (series, count, sum, buckets, bounded_count, bounded_sum) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        )?;
        for (id, count, sum, buckets, bounded_count, bounded_sum) in &self.histograms {
            let counts = (count.cast_signed(), bounded_count.cast_signed());
            spread.execute(params![id, counts.0, exact(*sum), buckets, counts.1, bounded_sum])?;
        }
        Ok(())
    }

    fn write_judged(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        for line in &self.judged.lines_gone {
            transaction.prepare_cached("DELETE FROM lines WHERE id = ?1")?.execute([line])?;
        }
        let mut name =
            transaction.prepare_cached("INSERT INTO lines (id, entity, ledger, label) VALUES (?1, ?2, ?3, ?4)")?;
        for (id, line) in &self.judged.lines {
            name.execute(params![id, line.entity, line.kind.name(), line.label])?;
        }
        let mut split =
            transaction.prepare_cached("INSERT INTO ledger (seq, line, ns, quality) VALUES (?1, ?2, ?3, ?4)")?;
        for (seq, line, ns, quality) in &self.judged.ledger {
            split.execute(params![seq.cast_signed(), line, ns.cast_signed(), quality.name()])?;
        }
        let mut begin = transaction.prepare_cached(
            "INSERT INTO findings (id, seq, last_seq, wall_ns, rule, entity, severity, summary, finding) \
             VALUES (?1, ?2, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?;
        for Episode { id, seq, wall_ns, finding } in &self.judged.episodes {
            let (seq, wall) = (seq.cast_signed(), wall_ns.cast_signed());
            let Finding { id: rule, entity, severity, summary, .. } = finding;
            // Numbers and texts alone: there is nothing in a finding that JSON has no word for.
            let whole = serde_json::to_string(finding).unwrap_or_default();
            begin.execute(params![id, seq, wall, rule, entity, severity.name(), summary, whole])?;
        }
        let mut stand = transaction.prepare_cached("UPDATE findings SET last_seq = ?2 WHERE id = ?1")?;
        for (id, seq) in &self.judged.stood {
            stand.execute(params![id, seq.cast_signed()])?;
        }
        Ok(())
    }
}

impl Listed {
    fn of(id: JournalId, entry: &Entry) -> Self {
        let instrument = match entry.amount() {
            Amount::None => "gauge",
            Amount::Counter(_) | Amount::Measured(_) => "counter",
            Amount::Histogram(_) => "histogram",
        };
        let (key, unit, integers) = (entry.key().clone(), entry.unit().to_owned(), entry.integers().to_owned());
        Self { id, key, unit, scale: entry.scale(), instrument, integers }
    }
}

fn last(number: Option<Number>) -> Value {
    match number {
        None => Value::Null,
        Some(Number::Int(value)) => Value::Integer(value.cast_signed()),
        Some(Number::Float(value)) => Value::Real(value),
    }
}

/// An integer where `SQLite` has room for it, else its digits.
pub(crate) fn exact(number: u128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Integer)
}
