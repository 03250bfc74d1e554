//! Reads a journal, or a recording, which is one: also one that an agent is writing.

mod copy;
mod dictionary;
mod minutes;
mod steps;
#[cfg(test)]
mod tests;
mod times;

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use perfwatch_model::{Number, Quality, SeriesId, SeriesTable, Stamp, Tick};
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params};

use crate::codec::{self, StoredTick};
use crate::journal::{beside, escaped, schema};
use crate::judged::{FindingRow, LedgerKind, LedgerRow};
use dictionary::Dictionary;
pub use minutes::ArchivedMinute;
pub use steps::Unnamed;
pub use times::{When, newest};

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is not there, or cannot be opened.
    #[error("cannot read {path}: {reason}", path = path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// It is some other file.
    #[error("{path} is not a journal of perfwatch", path = path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// A later version wrote it.
    #[error("{path} was written by a newer perfwatch (layout {version}); read it with that one", path = path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its layout.
        version: i32,
    },
    /// Something in it does not make sense.
    #[error("{path} is damaged: {reason}", path = path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What.
        reason: String,
    },
    /// The copy cannot be written.
    #[error("cannot write {path}: {reason}", path = path.display())]
    Write {
        /// The copy.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// What an archive holds second by second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Number of its first tick.
    pub first_seq: u64,
    /// Number of its last.
    pub last_seq: u64,
    /// End of the first.
    pub first: Stamp,
    /// End of the last.
    pub last: Stamp,
}

/// A tick out of an archive; its series are those of [`Archive::table`].
#[derive(Clone, Debug)]
pub struct Archived {
    /// Its number. Numbers may be missing: what waited too long for a disk is lost.
    pub seq: u64,
    /// The tick.
    pub tick: Arc<Tick>,
    /// What counters gained where that is not the difference to the tick before, as the first value of one that began at 0.
    pub gains: Vec<(SeriesId, Number)>,
    /// The ledgers and findings stored beside it are what the diagnosis made of this very tick.
    pub judged: bool,
}

/// A journal that is read. Not for sharing between threads; open it once in each.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    connection: Connection,
    /// It was taken for a file that nobody writes.
    alone: bool,
    version: i32,
    dictionary: RefCell<Dictionary>,
}

impl ArchiveError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Open { .. } => "`perfwatch record` makes one; a journal is for its owner alone",
            Self::Foreign { .. } => "it takes what `perfwatch record` wrote, or an agent's journal.db",
            Self::Newer { .. } => "replay it with that version",
            Self::Damaged { .. } => "record again; `sqlite3 FILE .recover` saves what can be saved",
            Self::Write { .. } => "choose another place with -o",
        }
    }
}

/// Whether an agent writes it, or left a log behind.
fn has_log(path: &Path) -> bool {
    beside(path, "-wal").exists()
}

/// A file that is `alone`, without a log, is whole: it can be read where nothing may be written, not even a lock.
fn connect(path: &Path, alone: bool) -> rusqlite::Result<Connection> {
    let address = format!("file:{}{}", escaped(path), if alone { "?immutable=1" } else { "" });
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(address, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(2))?;
    Ok(connection)
}

impl Archive {
    /// Opens a journal for reading. Nothing is written, not even beside it, unless an agent left a log that is not in the
    /// file yet.
    ///
    /// # Errors
    /// It is not there, is no journal, is damaged, or a newer perfwatch wrote it.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ArchiveError> {
        let path = path.as_ref().to_path_buf();
        let open = |reason: String| ArchiveError::Open { path: path.clone(), reason };
        let about = std::fs::metadata(&path).map_err(|error| open(error.to_string()))?;
        if !about.is_file() {
            return Err(open("it is no file".to_owned()));
        }
        let alone = !has_log(&path);
        let connection = connect(&path, alone).map_err(|error| open(error.to_string()))?;
        let pragma = |name: &str| connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get::<_, i32>(0));
        let foreign = |_| ArchiveError::Foreign { path: path.clone() };
        let (application, version) =
            (pragma("application_id").map_err(foreign)?, pragma("user_version").map_err(foreign)?);
        if application != schema::APPLICATION || version < 1 {
            return Err(ArchiveError::Foreign { path });
        }
        if version > schema::VERSION {
            return Err(ArchiveError::Newer { path, version });
        }
        let archive = Self { path, connection, alone, version, dictionary: RefCell::default() };
        archive.learn()?;
        Ok(archive)
    }

    /// Looks whether an agent began to write the file since it was opened, and reads what that agent writes from then on.
    ///
    /// # Errors
    /// It cannot be opened any more.
    pub fn refresh(&mut self) -> Result<(), ArchiveError> {
        if self.alone && has_log(&self.path) {
            self.connection = connect(&self.path, false)
                .map_err(|error| ArchiveError::Open { path: self.path.clone(), reason: error.to_string() })?;
            self.alone = false;
        }
        Ok(())
    }

    fn damaged(&self, reason: impl std::fmt::Display) -> ArchiveError {
        ArchiveError::Damaged { path: self.path.clone(), reason: format!("{reason}") }
    }

    /// Reads the dictionary anew: an agent may have met new series.
    fn learn(&self) -> Result<(), ArchiveError> {
        let mut dictionary = self.dictionary.borrow_mut();
        dictionary.read(&self.connection, self.version).map_err(|error| self.damaged(error))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What names the series and entities of its ticks. It only ever grows; ask for it after reading ticks.
    pub fn table(&self) -> Arc<SeriesTable> {
        self.dictionary.borrow_mut().table()
    }

    /// What it holds second by second; `None` when that is nothing.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn span(&self) -> Result<Option<Span>, ArchiveError> {
        let edge = |order: &str| {
            let query = format!("SELECT seq, mono_ns, wall_ns FROM ticks ORDER BY seq {order} LIMIT 1");
            let row = |row: &Row<'_>| {
                Ok((unsigned(row, 0)?, Stamp { mono_ns: unsigned(row, 1)?, wall_ns: unsigned(row, 2)? }))
            };
            self.connection.query_row(&query, [], row).optional().map_err(|error| self.damaged(error))
        };
        let (Some((first_seq, first)), Some((last_seq, last))) = (edge("ASC")?, edge("DESC")?) else {
            return Ok(None);
        };
        Ok(Some(Span { first_seq, last_seq, first, last }))
    }

    /// End of the oldest tick or minute that it holds, in nanoseconds since 1970.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn oldest(&self) -> Result<Option<u64>, ArchiveError> {
        let minutes = if self.version < 2 { "" } else { "UNION ALL SELECT min(wall_ns) FROM ticks_1m" };
        let sql = format!("SELECT min(oldest) FROM (SELECT min(wall_ns) AS oldest FROM ticks {minutes})");
        let oldest = self.connection.query_row(&sql, [], |row| row.get::<_, Option<i64>>(0));
        Ok(oldest.map_err(|error| self.damaged(error))?.map(i64::cast_unsigned))
    }

    /// The number of the first tick with this number or a higher one, damaged or not.
    pub(crate) fn next_number(&self, seq: u64) -> Result<Option<u64>, ArchiveError> {
        self.connection
            .prepare_cached("SELECT seq FROM ticks WHERE seq >= ?1 ORDER BY seq LIMIT 1")
            .and_then(|mut find| find.query_row([seq.cast_signed()], |row| unsigned(row, 0)).optional())
            .map_err(|error| self.damaged(error))
    }

    /// Ticks from number `seq` on, at most so many. One that is damaged is left out, and the log says so.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn ticks(&self, seq: u64, most: usize) -> Result<Vec<Archived>, ArchiveError> {
        let mut find = self
            .connection
            .prepare_cached(
                "SELECT seq, mono_ns, wall_ns, dt_ns, data FROM ticks WHERE seq >= ?1 ORDER BY seq LIMIT ?2",
            )
            .map_err(|error| self.damaged(error))?;
        let limit = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = find.query(params![seq.cast_signed(), limit]).map_err(|error| self.damaged(error))?;
        let mut ticks = Vec::new();
        while let Some(row) = rows.next().map_err(|error| self.damaged(error))? {
            ticks.extend(self.archived(row)?);
        }
        Ok(ticks)
    }

    fn archived(&self, row: &Row<'_>) -> Result<Option<Archived>, ArchiveError> {
        let number = |at| unsigned(row, at).map_err(|error| self.damaged(error));
        let (seq, end, dt_ns) = (number(0)?, Stamp { mono_ns: number(1)?, wall_ns: number(2)? }, number(3)?);
        let blob = row.get_ref(4).ok().and_then(|data| data.as_blob().ok()).unwrap_or_default();
        let stored = match codec::decode(blob) {
            Ok(stored) => stored,
            Err(error) => {
                self.tell_damaged(seq, &error);
                return Ok(None);
            }
        };
        self.named(seq, stored, end, dt_ns).map(Some)
    }

    fn tell_damaged(&self, seq: u64, error: &std::io::Error) {
        tracing::error!(path = %self.path.display(), seq, %error, "a tick is damaged");
    }

    fn named(&self, seq: u64, stored: StoredTick, end: Stamp, dt_ns: u64) -> Result<Archived, ArchiveError> {
        let known = self.dictionary.borrow_mut().meet(&stored);
        if !known {
            self.learn()?;
        }
        let judged = !stored.unjudged;
        let gains = self.dictionary.borrow().named(stored.gains.iter().copied());
        let tick = self.dictionary.borrow_mut().tick(stored, end, dt_ns);
        Ok(Archived { seq, tick: Arc::new(tick), gains, judged })
    }

    /// The ledgers of the ticks `from` to `to`, line by line in the order of [`LedgerOf::rows`](crate::LedgerOf::rows).
    ///
    /// # Errors
    /// The file is damaged.
    pub fn ledgers(&self, from: u64, to: u64) -> Result<Vec<(u64, LedgerRow)>, ArchiveError> {
        if self.version < 2 {
            return Ok(Vec::new());
        }
        let read = || -> rusqlite::Result<Vec<(u64, LedgerRow)>> {
            let mut find = self.connection.prepare_cached(
                "SELECT seq, entity, ledger, label, ns, quality FROM ledger JOIN lines ON lines.id = line \
                 WHERE seq BETWEEN ?1 AND ?2",
            )?;
            let mut rows = find.query(params![from.cast_signed(), to.cast_signed()])?;
            let mut ledgers = Vec::new();
            while let Some(row) = rows.next()? {
                let (kind, quality): (String, String) = (row.get(2)?, row.get(5)?);
                // Of a later agent's kinds nothing is known here.
                let (Some(kind), Some(quality)) = (LedgerKind::find(&kind), Quality::find(&quality)) else { continue };
                let (entity, label, ns) = (row.get(1)?, row.get(3)?, unsigned(row, 4)?);
                ledgers.push((unsigned(row, 0)?, LedgerRow { entity, kind, label, ns, quality }));
            }
            ledgers.sort();
            Ok(ledgers)
        };
        read().map_err(|error| self.damaged(error))
    }

    /// The findings that stood in any of the ticks `from` to `to`, by their first tick.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn findings(&self, from: u64, to: u64) -> Result<Vec<FindingRow>, ArchiveError> {
        if self.version < 2 {
            return Ok(Vec::new());
        }
        let read = || -> rusqlite::Result<Vec<FindingRow>> {
            let mut find = self.connection.prepare_cached(
                "SELECT seq, last_seq, wall_ns, finding FROM findings WHERE seq <= ?2 AND last_seq >= ?1 ORDER BY seq, id",
            )?;
            let mut rows = find.query(params![from.cast_signed(), to.cast_signed()])?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let text: String = row.get(3)?;
                let Ok(finding) = serde_json::from_str(&text) else { continue };
                let (seq, last_seq, wall_ns) = (unsigned(row, 0)?, unsigned(row, 1)?, unsigned(row, 2)?);
                found.push(FindingRow { seq, last_seq, wall_ns, finding });
            }
            Ok(found)
        };
        read().map_err(|error| self.damaged(error))
    }
}

fn unsigned(row: &Row<'_>, at: usize) -> rusqlite::Result<u64> {
    row.get::<_, i64>(at).map(i64::cast_unsigned)
}
