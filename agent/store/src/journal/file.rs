//! The database on disk.

use std::collections::VecDeque;

use perfwatch_model::{Number, Tick};
use rusqlite::types::Value;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, params};

use super::sessions::{Progress, SESSION_BYTES, Sessions};
use super::{JournalOptions, load, place, schema};
use crate::failpoint::{self, Point};
use crate::totals::{Amount, JournalId, SeriesKey, Totals};

/// The least a journal may be allowed: below it the write-ahead log alone would fill it.
pub const MIN_CAP: u64 = 16_000_000;
/// Of the cap, left to the write-ahead log and its index.
const WAL_ROOM: u64 = 8 << 20;
/// `SQLite`'s page, as it makes new databases.
const PAGE: u64 = 4096;
/// The oldest ticks go when this much of the cap is used…
const SHED_ABOVE: f64 = 0.95;
/// …until it is this much, so that it does not happen every minute.
const SHED_TO: f64 = 0.90;

impl JournalOptions {
    /// Bytes that the database may have: the cap less the room of the log.
    pub(super) fn database_bytes(&self) -> u64 {
        self.cap_bytes.max(MIN_CAP).saturating_sub(WAL_ROOM)
    }
}

/// Why the disk did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The file cannot be trusted.
    #[error("the journal is damaged: {0}")]
    Damaged(String),
    /// It may work later.
    #[error("{0}")]
    Trouble(String),
    /// It will not work while this agent runs.
    #[error("{0}")]
    Refused(String),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let words = match &error {
            rusqlite::Error::SqliteFailure(_, Some(message)) => message.clone(),
            other => other.to_string(),
        };
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => Self::Damaged(words),
            Some(ErrorCode::ReadOnly | ErrorCode::PermissionDenied | ErrorCode::CannotOpen) => Self::Refused(words),
            // A table is missing, a row is there twice, a cell holds what it never should.
            Some(ErrorCode::Unknown | ErrorCode::ConstraintViolation | ErrorCode::TypeMismatch) | None => {
                Self::Damaged(words)
            }
            Some(_) => Self::Trouble(words),
        }
    }
}

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

    pub(super) fn bytes(&self) -> u64 {
        self.blob.len() as u64
    }
}

/// What a transaction writes beside ticks, copied out so that no lock is held while the disk works.
#[derive(Debug, Default)]
pub(super) struct Writing {
    listed: Vec<(JournalId, SeriesKey, String, f64, &'static str)>,
    counters: Vec<(JournalId, Value, Value)>,
    histograms: Vec<(JournalId, u64, u128, Vec<u8>, u64, f64)>,
    gone: Vec<JournalId>,
    sessions: Vec<(Progress, u64)>,
    sessions_gone: Vec<[u8; SESSION_BYTES]>,
}

impl Writing {
    /// What differs from the disk.
    pub(super) fn of(totals: &Totals, sessions: &Sessions) -> Self {
        let mut writing = Self {
            gone: totals.gone().to_vec(),
            sessions: sessions.unwritten().collect(),
            sessions_gone: sessions.gone().to_vec(),
            ..Self::default()
        };
        for (id, entry) in totals.unwritten() {
            let instrument = match entry.amount() {
                Amount::None => "gauge",
                Amount::Counter(_) | Amount::Measured(_) => "counter",
                Amount::Histogram(_) => "histogram",
            };
            if !entry.is_listed() {
                let unit = entry.unit().to_owned();
                writing.listed.push((id, entry.key().clone(), unit, entry.scale(), instrument));
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
}

/// An open database.
#[derive(Debug)]
pub(super) struct File {
    connection: Connection,
    pages_used: u64,
    max_pages: u64,
    /// Bytes of ticks written since the last look at the size.
    grown: u64,
}

impl File {
    /// Opens the journal there, or makes one. What is damaged or newer is set aside first.
    pub(super) fn open(options: &JournalOptions) -> Result<(Self, load::Loaded), Failure> {
        let found = Self::connect(options).and_then(|file| {
            let loaded = load::load(&file.connection, options)?;
            Ok((file, loaded))
        });
        let why = match found {
            Ok((file, load::Found::Journal(loaded))) => {
                loaded.note_boot(&file.connection, &options.boot)?;
                return Ok((file, *loaded));
            }
            Ok((_, load::Found::Foreign)) => {
                return Err(Failure::Refused("it is the database of another program".to_owned()));
            }
            Ok((mut file, load::Found::Nothing)) => {
                file.make(options, options.now_wall_ns)?;
                return Ok((file, load::Loaded::fresh(options.now_wall_ns)));
            }
            Ok((_, load::Found::Newer(version))) => {
                tracing::warn!(version, ours = schema::VERSION, "journal written by a newer agent");
                "newer"
            }
            Err(Failure::Damaged(reason)) => {
                tracing::error!(path = %options.path.display(), reason, "journal damaged");
                "corrupt"
            }
            Err(failure) => return Err(failure),
        };
        place::set_aside(options, why).map_err(Failure::Refused)?;
        Ok((Self::create(options, options.now_wall_ns)?, load::Loaded::fresh(options.now_wall_ns)))
    }

    /// What is there, read without writing a byte, for a disk that has no room for the log of one that is open. `None` where
    /// nothing was ever written.
    pub(super) fn peek(options: &JournalOptions) -> Result<Option<load::Loaded>, Failure> {
        if !place::holds_anything(&options.path) {
            return Ok(None);
        }
        if place::has_log(&options.path) {
            return Err(Failure::Refused("its log cannot be read while there is no room".to_owned()));
        }
        let address = format!("file:{}?immutable=1", place::escaped(&options.path));
        let connection =
            Connection::open_with_flags(address, OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI)?;
        match load::load(&connection, options)? {
            load::Found::Journal(loaded) => Ok(Some(*loaded)),
            load::Found::Nothing => Ok(None),
            load::Found::Newer(_) | load::Found::Foreign => {
                Err(Failure::Refused("it is not a journal that this agent writes".to_owned()))
            }
        }
    }

    /// Opens the journal that [`File::peek`] read, and whose next tick was to be this.
    pub(super) fn reopen(options: &JournalOptions, next_seq: u64) -> Result<Self, Failure> {
        let file = Self::connect(options)?;
        let load::Found::Journal(loaded) = load::load(&file.connection, options)? else {
            return Err(Failure::Damaged("it was a journal, and is none any more".to_owned()));
        };
        if loaded.next_seq != next_seq {
            return Err(Failure::Damaged("somebody else wrote into it".to_owned()));
        }
        loaded.note_boot(&file.connection, &options.boot)?;
        Ok(file)
    }

    /// Makes a journal where there is none.
    pub(super) fn create(options: &JournalOptions, since_wall_ns: u64) -> Result<Self, Failure> {
        let mut file = Self::connect(options)?;
        if !matches!(load::load(&file.connection, options)?, load::Found::Nothing) {
            return Err(Failure::Trouble("somebody else made a journal there".to_owned()));
        }
        file.make(options, since_wall_ns)?;
        Ok(file)
    }

    fn connect(options: &JournalOptions) -> Result<Self, Failure> {
        place::prepare(&options.path).map_err(|error| match error.kind() {
            std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => Failure::Trouble(error.to_string()),
            _ => Failure::Refused(error.to_string()),
        })?;
        let connection = Connection::open(&options.path)?;
        // Somebody may be reading with another tool; that never blocks us in WAL mode but for a moment.
        connection.busy_timeout(std::time::Duration::from_secs(2))?;
        let max_pages = options.database_bytes() / PAGE;
        connection.pragma_update(None, "max_page_count", max_pages.cast_signed())?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", (WAL_ROOM / 2).cast_signed())?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        let mut file = Self { connection, pages_used: 0, max_pages, grown: 0 };
        file.pages_used = file.pages()?;
        Ok(file)
    }

    fn make(&mut self, options: &JournalOptions, since_wall_ns: u64) -> Result<(), Failure> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(schema::TABLES)?;
        {
            let mut meta = transaction.prepare("INSERT INTO meta (key, value) VALUES (?1, ?2)")?;
            meta.execute(params!["created_wall_ns", since_wall_ns as i64])?;
            meta.execute(params!["boot", options.boot])?;
            meta.execute(params!["written_by", concat!("perfwatch ", env!("CARGO_PKG_VERSION"))])?;
        }
        transaction.pragma_update(None, "application_id", schema::APPLICATION)?;
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
        transaction.commit()?;
        Ok(())
    }

    fn pages(&self) -> Result<u64, Failure> {
        let count = |name: &str| -> rusqlite::Result<i64> {
            self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0))
        };
        Ok((count("page_count")? - count("freelist_count")?).max(0) as u64)
    }

    /// Bytes of the database that hold something.
    pub(super) fn bytes(&self) -> u64 {
        self.pages_used * PAGE
    }

    /// Writes everything in one transaction: all of it is there afterwards, or nothing.
    pub(super) fn write(&mut self, writing: &Writing, ticks: &VecDeque<Row>) -> Result<(), Failure> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        {
            // First, so that what comes finds their room.
            for id in &writing.gone {
                transaction.prepare_cached("DELETE FROM series WHERE id = ?1")?.execute([id])?;
                transaction.prepare_cached("DELETE FROM totals WHERE series = ?1")?.execute([id])?;
            }
            let mut insert = transaction.prepare_cached(
                "INSERT INTO series (id, metric, unit, scale, instrument, entity, attributes) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?;
            for (id, key, unit, scale, instrument) in &writing.listed {
                insert.execute(params![id, key.metric, unit, scale, instrument, key.entity, key.attributes])?;
            }
            let mut count = transaction
                .prepare_cached("INSERT OR REPLACE INTO totals (series, last, total) VALUES (?1, ?2, ?3)")?;
            for (id, last, total) in &writing.counters {
                count.execute(params![id, last, total])?;
            }
            let mut spread = transaction.prepare_cached(
                "INSERT OR REPLACE INTO totals (series, count, sum, buckets, bounded_count, bounded_sum) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?;
            for (id, count, sum, buckets, bounded_count, bounded_sum) in &writing.histograms {
                let counts = (count.cast_signed(), bounded_count.cast_signed());
                spread.execute(params![id, counts.0, exact(*sum), buckets, counts.1, bounded_sum])?;
            }
            failpoint::pass(Point::TotalsWritten);
            let mut advance = transaction
                .prepare_cached("INSERT OR REPLACE INTO sessions (id, seq, seen_wall_ns) VALUES (?1, ?2, ?3)")?;
            for (progress, seen) in &writing.sessions {
                advance.execute(params![progress.session, progress.seq.cast_signed(), seen.cast_signed()])?;
            }
            for session in &writing.sessions_gone {
                transaction.prepare_cached("DELETE FROM sessions WHERE id = ?1")?.execute([session])?;
            }
            let mut keep = transaction
                .prepare_cached("INSERT INTO ticks (seq, mono_ns, wall_ns, dt_ns, data) VALUES (?1, ?2, ?3, ?4, ?5)")?;
            for row in ticks {
                let [seq, mono, wall, dt] = [row.seq, row.mono_ns, row.wall_ns, row.dt_ns].map(u64::cast_signed);
                keep.execute(params![seq, mono, wall, dt, row.blob])?;
            }
        }
        failpoint::pass(Point::RowsWritten);
        transaction.commit()?;
        failpoint::pass(Point::Committed);
        self.grown += ticks.iter().map(Row::bytes).sum::<u64>();
        Ok(())
    }

    /// True when so much was written, with the `growth` of the totals that is to come, that the cap may be near.
    pub(super) fn has_grown(&self, growth: u64) -> bool {
        self.grown.saturating_add(growth) > self.max_pages * PAGE / 100
    }

    /// Drops the oldest ticks when the cap is near, counting `waiting` bytes that are about to be written; the number of
    /// the oldest that is left. The newest always is: it says where the journal goes on.
    pub(super) fn tidy(&mut self, waiting: u64) -> Result<Option<u64>, Failure> {
        self.pages_used = self.pages()?;
        self.grown = 0;
        // A large blob leaves the rest of its last page empty.
        let room = waiting * 5 / 4 / PAGE;
        let limit = |share: f64| ((self.max_pages as f64 * share) as u64).saturating_sub(room);
        let mut goal = limit(SHED_ABOVE);
        loop {
            let edge = |which: &str| -> rusqlite::Result<Option<i64>> {
                self.connection.query_row(&format!("SELECT {which}(seq) FROM ticks"), [], |row| row.get(0))
            };
            let (Some(oldest), Some(newest)) = (edge("min")?, edge("max")?) else { return Ok(None) };
            if self.pages_used <= goal || newest == oldest {
                return Ok(u64::try_from(oldest).ok());
            }
            goal = limit(SHED_TO);
            let before = oldest + (newest - oldest) / 20 + 1;
            let shed = self.connection.execute("DELETE FROM ticks WHERE seq < ?1", [before])?;
            tracing::debug!(ticks = shed, "oldest ticks left the journal");
            self.pages_used = self.pages()?;
        }
    }

    /// Makes the database as good as full.
    #[cfg(test)]
    pub(super) fn allow_no_growth(&self, no: bool) {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
        let max = if no { pages } else { self.max_pages as i64 };
        self.connection.pragma_update(None, "max_page_count", max).expect("accepted");
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
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
fn exact(number: u128) -> Value {
    i64::try_from(number).map_or_else(|_| Value::Text(number.to_string()), Value::Integer)
}
