//! The tables of the outbox.

use std::collections::BTreeMap;

use perfwatch_model::Bounded;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, Row, Transaction, params};

use super::{Accumulator, DeadLetter, ExportCursor, Outgoing, Parcel, ParcelInfo, Restored};
use crate::failpoint::{self, Point};
use crate::journal::{exact, pack, unpack};
use crate::totals::{Amount, Distribution, JournalId};

/// Their layout, part of the journal's.
pub(crate) const TABLES: &str = "
-- How far each reader of the ticks got. wall_ns: the newest stamp it gave. `otlp.count.…`: items that arrived or were
-- dropped since the journal began, in seq.
CREATE TABLE cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL, wall_ns INTEGER NOT NULL) WITHOUT ROWID;
-- Cumulative streams that leave over OTLP: what leaves is the series' total less the base. base: a counter's total (REAL
-- where totals.total is), a histogram's sum; base_buckets as totals.buckets. bounded: what a histogram with its server's
-- bounds gained since the start. attributes: the points' OTLP attributes.
CREATE TABLE accumulators (
    series INTEGER PRIMARY KEY,
    start_wall_ns INTEGER NOT NULL,
    exported_wall_ns INTEGER NOT NULL,
    base,
    base_buckets BLOB,
    bounded BLOB,
    attributes BLOB NOT NULL
);
-- Requests that are not delivered yet; body is the encoded request, compressed with gzip.
CREATE TABLE outbox (
    id INTEGER PRIMARY KEY,
    endpoint TEXT NOT NULL,
    signal TEXT NOT NULL,
    created_wall_ns INTEGER NOT NULL,
    items INTEGER NOT NULL,
    body BLOB NOT NULL
);
-- Parts of requests that a receiver refused for good; the newest few. body as in outbox.
CREATE TABLE dead_letter (
    id INTEGER PRIMARY KEY,
    signal TEXT NOT NULL,
    refused_wall_ns INTEGER NOT NULL,
    why TEXT NOT NULL,
    items INTEGER NOT NULL,
    body BLOB NOT NULL
);
";

/// Under which name OTLP export is in `cursors`; the newest id of a parcel has a row of its own there.
const OTLP: &str = "otlp";
const PARCELS: &str = "otlp.outbox";
/// Before the names of counts.
const COUNT: &str = "otlp.count.";
/// Dead letters that are kept; they are for a look at what is wrong, not for sending.
const MAX_DEAD: i64 = 256;

/// Writes what a tick's transaction holds for export.
pub(crate) fn write(transaction: &Transaction<'_>, outgoing: &Outgoing) -> rusqlite::Result<()> {
    if outgoing.is_empty() {
        return Ok(());
    }
    // First, so that what comes finds their room.
    for id in &outgoing.done {
        transaction.prepare_cached("DELETE FROM outbox WHERE id = ?1")?.execute([id.cast_signed()])?;
    }
    if !outgoing.done.is_empty() {
        failpoint::pass(Point::OutboxDeleted);
    }
    for (series, stream) in &outgoing.accumulators {
        match stream {
            Some(stream) => put_accumulator(transaction, *series, stream)?,
            None => {
                transaction.prepare_cached("DELETE FROM accumulators WHERE series = ?1")?.execute([series])?;
            }
        }
    }
    failpoint::pass(Point::StreamsWritten);
    let mut advance =
        transaction.prepare_cached("INSERT OR REPLACE INTO cursors (name, seq, wall_ns) VALUES (?1, ?2, ?3)")?;
    if let Some(ExportCursor { seq, wall_ns }) = outgoing.cursor {
        advance.execute(params![OTLP, seq.cast_signed(), wall_ns.cast_signed()])?;
    }
    for parcel in &outgoing.parcels {
        let Parcel { id, endpoint, signal, created_wall_ns, items, body } = &**parcel;
        transaction
            .prepare_cached(
                "INSERT INTO outbox (id, endpoint, signal, created_wall_ns, items, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?
            .execute(params![
                id.cast_signed(),
                endpoint,
                signal,
                created_wall_ns.cast_signed(),
                items.cast_signed(),
                body
            ])?;
        advance.execute(params![PARCELS, id.cast_signed(), created_wall_ns.cast_signed()])?;
    }
    for (name, count) in &outgoing.counts {
        advance.execute(params![format!("{COUNT}{name}"), count.cast_signed(), 0])?;
    }
    for dead in &outgoing.dead {
        bury(transaction, dead)?;
    }
    failpoint::pass(Point::OutboxWritten);
    Ok(())
}

fn put_accumulator(transaction: &Transaction<'_>, series: JournalId, stream: &Accumulator) -> rusqlite::Result<()> {
    let (base, buckets) = match &stream.base {
        Amount::None => (Value::Null, None),
        Amount::Counter(total) => (exact(*total), None),
        Amount::Measured(total) => (Value::Real(*total), None),
        Amount::Histogram(all) => (exact(all.hdr.sum()), Some(pack(&all.hdr))),
    };
    let (start, exported) = (stream.start_wall_ns.cast_signed(), stream.exported_wall_ns.cast_signed());
    let bounded = stream.bounded.as_ref().map(flatten);
    transaction
        .prepare_cached(
            "INSERT OR REPLACE INTO accumulators \
             (series, start_wall_ns, exported_wall_ns, base, base_buckets, bounded, attributes) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(params![series, start, exported, base, buckets, bounded, stream.attributes])?;
    Ok(())
}

fn bury(transaction: &Transaction<'_>, dead: &DeadLetter) -> rusqlite::Result<()> {
    let DeadLetter { signal, refused_wall_ns, why, items, body } = dead;
    transaction
        .prepare_cached(
            "INSERT INTO dead_letter (signal, refused_wall_ns, why, items, body) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![signal, refused_wall_ns.cast_signed(), why, items.cast_signed(), body])?;
    let oldest = transaction.last_insert_rowid() - MAX_DEAD;
    transaction.prepare_cached("DELETE FROM dead_letter WHERE id <= ?1")?.execute([oldest])?;
    Ok(())
}

/// Bounds, counts and sum, eight bytes each.
fn flatten(bounded: &Bounded) -> Vec<u8> {
    let bounds = bounded.bounds.iter().flat_map(|bound| bound.to_le_bytes());
    let counts = bounded.counts.iter().flat_map(|count| count.to_le_bytes());
    bounds.chain(counts).chain(bounded.sum.to_le_bytes()).collect()
}

fn unflatten(bytes: &[u8]) -> Option<Bounded> {
    let (words, rest) = bytes.as_chunks::<8>();
    let bounds = words.len().checked_sub(2)? / 2;
    if !rest.is_empty() || !words.len().is_multiple_of(2) {
        return None;
    }
    Some(Bounded {
        bounds: words[..bounds].iter().map(|word| f64::from_le_bytes(*word)).collect(),
        counts: words[bounds..words.len() - 1].iter().map(|word| u64::from_le_bytes(*word)).collect(),
        sum: f64::from_le_bytes(*words.last()?),
    })
}

/// Reads back what an agent left. An inner `Err` says what does not make sense.
pub(crate) fn load(connection: &Connection) -> rusqlite::Result<Result<Restored, String>> {
    let cursor = |name: &str| -> rusqlite::Result<Option<ExportCursor>> {
        let mut rows = connection.prepare("SELECT seq, wall_ns FROM cursors WHERE name = ?1")?;
        let mut rows = rows.query([name])?;
        let Some(row) = rows.next()? else { return Ok(None) };
        let (seq, wall_ns): (i64, i64) = (row.get(0)?, row.get(1)?);
        Ok(Some(ExportCursor { seq: seq.cast_unsigned(), wall_ns: wall_ns.cast_unsigned() }))
    };
    let mut accumulators = BTreeMap::new();
    let mut streams = connection.prepare(
        "SELECT series, start_wall_ns, exported_wall_ns, base, base_buckets, bounded, attributes FROM accumulators",
    )?;
    let mut rows = streams.query([])?;
    while let Some(row) = rows.next()? {
        let series: JournalId = row.get("series")?;
        match accumulator(row)? {
            Some(stream) => accumulators.insert(series, stream),
            None => return Ok(Err(format!("the export stream of series {series} is not whole"))),
        };
    }
    let mut parcels = Vec::new();
    let mut waiting = connection
        .prepare("SELECT id, items, length(body), created_wall_ns, endpoint, signal FROM outbox ORDER BY id")?;
    let mut rows = waiting.query([])?;
    while let Some(row) = rows.next()? {
        let [id, items, bytes, created_wall_ns] =
            [row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?, row.get(3)?].map(i64::cast_unsigned);
        parcels.push(ParcelInfo { id, endpoint: row.get(4)?, signal: row.get(5)?, items, created_wall_ns, bytes });
    }
    let mut counts = BTreeMap::new();
    let mut known = connection.prepare("SELECT name, seq FROM cursors WHERE name GLOB 'otlp.count.*'")?;
    let mut rows = known.query([])?;
    while let Some(row) = rows.next()? {
        let (name, count): (String, i64) = (row.get(0)?, row.get(1)?);
        counts.insert(name.trim_start_matches(COUNT).to_owned(), count.cast_unsigned());
    }
    let newest = cursor(PARCELS)?.map_or(0, |cursor| cursor.seq);
    let newest_parcel = parcels.last().map_or(newest, |last| last.id.max(newest));
    Ok(Ok(Restored { accumulators, cursor: cursor(OTLP)?, parcels, newest_parcel, counts }))
}

fn accumulator(row: &Row<'_>) -> rusqlite::Result<Option<Accumulator>> {
    let buckets: Option<Vec<u8>> = row.get("base_buckets")?;
    let whole = match row.get_ref("base")? {
        ValueRef::Integer(total) => u128::try_from(total).ok(),
        ValueRef::Text(digits) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
        ValueRef::Null | ValueRef::Real(_) | ValueRef::Blob(_) => None,
    };
    let base = match (row.get_ref("base")?, whole, buckets) {
        (ValueRef::Null, _, None) => Amount::None,
        (ValueRef::Real(total), _, None) => Amount::Measured(total),
        (_, Some(total), None) => Amount::Counter(total),
        (_, Some(sum), Some(buckets)) => match unpack(&buckets, sum) {
            Some(hdr) => Amount::Histogram(Distribution { hdr, ..Distribution::default() }),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let bounded = match row.get::<_, Option<Vec<u8>>>("bounded")?.map(|bytes| unflatten(&bytes)) {
        None => None,
        Some(None) => return Ok(None),
        Some(bounded) => bounded,
    };
    let (start, exported): (i64, i64) = (row.get("start_wall_ns")?, row.get("exported_wall_ns")?);
    Ok(Some(Accumulator {
        start_wall_ns: start.cast_unsigned(),
        exported_wall_ns: exported.cast_unsigned(),
        base,
        bounded,
        attributes: row.get("attributes")?,
    }))
}

/// The oldest requests of a signal after number `after`: at least one if there is any, further ones while all together
/// have at most so many bytes.
pub(crate) fn parcels(
    connection: &Connection,
    signal: &str,
    after: u64,
    most_bytes: u64,
) -> rusqlite::Result<Vec<Parcel>> {
    let mut waiting = connection.prepare_cached(
        "SELECT id, created_wall_ns, items, body, endpoint FROM outbox WHERE id > ?1 AND signal = ?2 ORDER BY id",
    )?;
    let mut rows = waiting.query(params![after.cast_signed(), signal])?;
    let (mut parcels, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let [id, created_wall_ns, items] = [row.get::<_, i64>(0)?, row.get(1)?, row.get(2)?].map(i64::cast_unsigned);
        let body: Vec<u8> = row.get(3)?;
        bytes += body.len() as u64;
        if !parcels.is_empty() && bytes > most_bytes {
            break;
        }
        let (endpoint, signal) = (row.get(4)?, signal.to_owned());
        parcels.push(Parcel { id, endpoint, signal, created_wall_ns, items, body });
    }
    Ok(parcels)
}
