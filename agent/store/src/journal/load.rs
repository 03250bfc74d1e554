//! Reading a journal back when the agent starts.

use perfwatch_model::{Number, SparseHdr};
use prost::encoding::{decode_varint, encode_varint};
use rusqlite::types::{FromSqlError, ValueRef};
use rusqlite::{Connection, Row};

use super::file::Failure;
use super::sessions::{Progress, SESSION_BYTES, Sessions};
use super::{JournalOptions, schema};
use crate::entities::{Entities, EntityRow};
use crate::judged::{Judged, LedgerKind, Line};
use crate::outbox::{self, Restored};
use crate::totals::{Amount, Distribution, Entry, JournalId, SeriesKey, SeriesTotal, Totals};

/// Everything that goes on where the last agent stopped.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) totals: Totals,
    pub(super) sessions: Sessions,
    pub(super) next_seq: u64,
    pub(super) since_wall_ns: u64,
    pub(super) entities: Entities,
    pub(super) judged: Judged,
    pub(super) export: Restored,
    /// The machine was started anew since it was written.
    rebooted: bool,
}

impl Loaded {
    pub(super) fn fresh(since_wall_ns: u64) -> Self {
        Self { since_wall_ns, ..Self::default() }
    }

    /// Writes down in which boot it goes on, where that is another one.
    pub(super) fn note_boot(&self, connection: &Connection, boot: &str) -> Result<(), Failure> {
        if self.rebooted {
            connection.execute("UPDATE meta SET value = ?1 WHERE key = 'boot'", [boot])?;
        }
        Ok(())
    }
}

/// What lies there.
#[derive(Debug)]
pub(super) enum Found {
    /// An empty file.
    Nothing,
    /// A journal of this layout.
    Journal(Box<Loaded>),
    /// A journal of an earlier layout.
    Older(i32),
    /// A journal of a later layout.
    Newer(i32),
    /// Somebody else's database.
    Foreign,
}

pub(super) fn load(connection: &Connection, options: &JournalOptions) -> Result<Found, Failure> {
    let pragma =
        |name: &str| -> rusqlite::Result<i32> { connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)) };
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    let tables = |condition: &str| -> rusqlite::Result<i64> {
        let count = format!("SELECT count(*) FROM sqlite_master WHERE type = 'table' {condition}");
        connection.query_row(&count, [], |row| row.get(0))
    };
    if application != schema::APPLICATION {
        return if tables("")? == 0 {
            Ok(Found::Nothing)
        } else if tables("AND name IN ('ticks', 'sessions', 'totals')")? == 3 {
            Err(Failure::Damaged("its header does not say that it is a journal".to_owned()))
        } else {
            Ok(Found::Foreign)
        };
    }
    match version {
        schema::VERSION => Ok(Found::Journal(Box::new(everything(connection, options)?))),
        newer if newer > schema::VERSION => Ok(Found::Newer(newer)),
        older if older > 0 => Ok(Found::Older(older)),
        _ => Err(Failure::Damaged(format!("its header says version {version}"))),
    }
}

fn everything(connection: &Connection, options: &JournalOptions) -> Result<Loaded, Failure> {
    let next_seq = next_seq(connection)?;
    let meta = "SELECT value FROM meta WHERE key = ?1";
    let since: i64 = connection.query_row(meta, ["created_wall_ns"], |row| row.get(0))?;
    let boot: String = connection.query_row(meta, ["boot"], |row| row.get(0))?;
    let mut totals = Totals::default();
    let mut series = connection.prepare(
        "SELECT id, metric, unit, scale, instrument, entity, attributes, integers, last, total, sum, buckets, \
         bounded_count, bounded_sum FROM series LEFT JOIN totals ON totals.series = series.id",
    )?;
    let mut rows = series.query([])?;
    while let Some(row) = rows.next()? {
        let (last, integers): (_, String) = (last(row)?, row.get("integers")?);
        let id: JournalId = row.get("id")?;
        if id == JournalId::MAX {
            return Err(Failure::Damaged("a series has a number that is none".to_owned()));
        }
        totals.restore(id, Entry::restored(series_total(row)?, &integers, last, next_seq));
    }
    let next: Option<JournalId> =
        connection.query_row("SELECT max(value) FROM meta WHERE key = 'next_series'", [], |row| row.get(0))?;
    totals.never_below(next.unwrap_or_default());
    let rebooted = boot != options.boot;
    if rebooted {
        totals.rebooted();
    }
    let mut sessions = Sessions::default();
    let mut known = connection.prepare("SELECT id, seq, seen_wall_ns FROM sessions")?;
    let mut rows = known.query([])?;
    while let Some(row) = rows.next()? {
        let session: [u8; SESSION_BYTES] = row.get(0)?;
        let (seq, seen): (i64, i64) = (row.get(1)?, row.get(2)?);
        sessions.restore(Progress { session, seq: seq.cast_unsigned() }, seen.cast_unsigned());
    }
    let export = outbox::load(connection)?.map_err(Failure::Damaged)?;
    Ok(Loaded {
        totals,
        sessions,
        next_seq,
        since_wall_ns: since.cast_unsigned(),
        entities: entities(connection)?,
        judged: judged(connection, next_seq)?,
        export,
        rebooted,
    })
}

fn entities(connection: &Connection) -> Result<Entities, Failure> {
    let mut entities = Entities::default();
    let mut known = connection.prepare("SELECT id, kind, attributes FROM entities")?;
    let mut rows = known.query([])?;
    while let Some(row) = rows.next()? {
        entities.restore(EntityRow { id: row.get(0)?, kind: row.get(1)?, attributes: row.get(2)? });
    }
    Ok(entities)
}

fn judged(connection: &Connection, next_seq: u64) -> Result<Judged, Failure> {
    let mut judged = Judged::default();
    let mut lines = connection.prepare("SELECT id, entity, ledger, label FROM lines")?;
    let mut rows = lines.query([])?;
    while let Some(row) = rows.next()? {
        let (id, ledger): (u32, String) = (row.get(0)?, row.get(2)?);
        let kind = LedgerKind::find(&ledger);
        let kind = kind.ok_or_else(|| Failure::Damaged(format!("there is no ledger `{ledger}`")))?;
        if id == u32::MAX {
            return Err(Failure::Damaged("a ledger's line has a number that is none".to_owned()));
        }
        judged.restore_line(id, Line { entity: row.get(1)?, kind, label: row.get(3)? }, next_seq);
    }
    let newest: Option<i64> = connection.query_row("SELECT max(id) FROM findings", [], |row| row.get(0))?;
    judged.restore_episodes(newest.map_or(0, |newest| newest.saturating_add(1)));
    Ok(judged)
}

/// Number of the tick that is to be written next.
pub(super) fn next_seq(connection: &Connection) -> Result<u64, Failure> {
    let newest: Option<i64> = connection.query_row("SELECT max(seq) FROM ticks", [], |row| row.get(0))?;
    Ok(newest.map_or(0, |newest| newest.cast_unsigned().saturating_add(1)))
}

fn series_total(row: &Row<'_>) -> Result<SeriesTotal, Failure> {
    let key = SeriesKey { metric: row.get("metric")?, entity: row.get("entity")?, attributes: row.get("attributes")? };
    let instrument: String = row.get("instrument")?;
    let amount = match instrument.as_str() {
        "gauge" => Amount::None,
        "counter" => match row.get_ref("total")? {
            ValueRef::Real(total) => Amount::Measured(total),
            _ => Amount::Counter(exact(row, "total")?),
        },
        "histogram" => {
            let buckets: Vec<u8> = row.get::<_, Option<_>>("buckets")?.unwrap_or_default();
            let hdr = unpack(&buckets, exact(row, "sum")?);
            Amount::Histogram(Distribution {
                hdr: hdr.ok_or_else(|| Failure::Damaged(format!("the buckets of {} are not whole", key.metric)))?,
                bounded_count: row.get::<_, Option<i64>>("bounded_count")?.unwrap_or_default().cast_unsigned(),
                bounded_sum: row.get::<_, Option<f64>>("bounded_sum")?.unwrap_or_default(),
            })
        }
        other => return Err(Failure::Damaged(format!("there is no instrument `{other}`"))),
    };
    Ok(SeriesTotal { key, unit: row.get("unit")?, scale: row.get("scale")?, amount })
}

/// A counter's last value; `SQLite` keeps one that has no fraction as an integer, whose scale may be another.
fn last(row: &Row<'_>) -> Result<Option<Number>, Failure> {
    let measured = matches!(row.get_ref("total")?, ValueRef::Real(_));
    match row.get_ref("last")? {
        ValueRef::Null => Ok(None),
        ValueRef::Integer(value) if measured => Ok(Some(Number::Float(value as f64))),
        ValueRef::Integer(value) => Ok(Some(Number::Int(value.cast_unsigned()))),
        ValueRef::Real(value) => Ok(Some(Number::Float(value))),
        ValueRef::Text(_) | ValueRef::Blob(_) => Err(Failure::Damaged("`last` holds no number".to_owned())),
    }
}

/// An integer that is stored as one or, when it is too large, as its digits.
fn exact(row: &Row<'_>, column: &str) -> Result<u128, Failure> {
    match row.get_ref(column)? {
        ValueRef::Null => Some(0),
        ValueRef::Integer(number) => u128::try_from(number).ok(),
        ValueRef::Text(digits) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()),
        ValueRef::Real(_) | ValueRef::Blob(_) => None,
    }
    .ok_or_else(|| Failure::Damaged(format!("`{column}` holds no count: {}", FromSqlError::InvalidType)))
}

/// Buckets as varints: distance to the bucket before, count.
pub(crate) fn pack(hdr: &SparseHdr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(hdr.buckets().len() * 3);
    let mut before = 0;
    for (bucket, count) in hdr.buckets() {
        encode_varint(u64::from(bucket - before), &mut bytes);
        encode_varint(*count, &mut bytes);
        before = *bucket;
    }
    bytes
}

pub(crate) fn unpack(mut bytes: &[u8], sum: u128) -> Option<SparseHdr> {
    let mut buckets = Vec::new();
    let mut bucket = 0u16;
    while !bytes.is_empty() {
        let distance = decode_varint(&mut bytes).ok()?;
        bucket = bucket.checked_add(u16::try_from(distance).ok()?)?;
        buckets.push((bucket, decode_varint(&mut bytes).ok()?));
    }
    SparseHdr::from_buckets(buckets, sum)
}
