//! The database on disk.

use std::collections::VecDeque;

use rusqlite::{Connection, ErrorCode, OpenFlags, Transaction, TransactionBehavior, params};

use super::writing::{Row, Writing};
use super::{JournalOptions, load, place, schema};
use crate::failpoint::{self, Point};
use crate::outbox::{self, Outgoing, Parcel};

/// The least a journal may be allowed: below it the write-ahead log alone would fill it.
pub const MIN_CAP: u64 = 16_000_000;
/// Of the cap, left to the write-ahead log and its index.
const WAL_ROOM: u64 = 8 << 20;
/// `SQLite`'s page, as it makes new databases.
pub(super) const PAGE: u64 = 4096;

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
        let found = Self::connect(options).and_then(|mut file| {
            let loaded = file.load(options)?;
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
            Ok((_, load::Found::Newer(version) | load::Found::Older(version))) => {
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
            load::Found::Older(_) => Err(Failure::Refused(
                "an older agent wrote it, and its layout cannot be changed while there is no room".to_owned(),
            )),
            load::Found::Newer(_) | load::Found::Foreign => {
                Err(Failure::Refused("it is not a journal that this agent writes".to_owned()))
            }
        }
    }

    /// Opens the journal that [`File::peek`] read, and whose next tick was to be this.
    pub(super) fn reopen(options: &JournalOptions, next_seq: u64) -> Result<Self, Failure> {
        let mut file = Self::connect(options)?;
        let load::Found::Journal(loaded) = file.load(options)? else {
            return Err(Failure::Damaged("it was a journal, and is none any more".to_owned()));
        };
        if loaded.next_seq != next_seq {
            return Err(Failure::Damaged("somebody else wrote into it".to_owned()));
        }
        loaded.note_boot(&file.connection, &options.boot)?;
        Ok(file)
    }

    /// Reads what is there, once it is of our version.
    fn load(&mut self, options: &JournalOptions) -> Result<load::Found, Failure> {
        match load::load(&self.connection, options)? {
            load::Found::Older(version) => {
                schema::migrate(&mut self.connection, version)?;
                load::load(&self.connection, options)
            }
            found => Ok(found),
        }
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
        schema::create(&transaction)?;
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
    pub(super) fn write(
        &mut self,
        writing: &Writing,
        ticks: &VecDeque<Row>,
        outgoing: &Outgoing,
    ) -> Result<(), Failure> {
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        writing.write(&transaction, ticks)?;
        outbox::write(&transaction, outgoing)?;
        failpoint::pass(Point::RowsWritten);
        transaction.commit()?;
        failpoint::pass(Point::Committed);
        self.grown += ticks.iter().map(Row::bytes).sum::<u64>() + writing.judged.bytes() + outgoing.bytes();
        Ok(())
    }

    /// True when so much was written, with the `growth` of the totals that is to come, that the cap may be near.
    pub(super) fn has_grown(&self, growth: u64) -> bool {
        self.grown.saturating_add(growth) > self.max_pages * PAGE / 100
    }

    /// Looks at the size.
    pub(super) fn measure(&mut self) -> Result<(), Failure> {
        self.pages_used = self.pages()?;
        self.grown = 0;
        Ok(())
    }

    pub(super) fn pages_used(&self) -> u64 {
        self.pages_used
    }

    pub(super) fn max_pages(&self) -> u64 {
        self.max_pages
    }

    pub(super) fn begin(&mut self) -> Result<Transaction<'_>, Failure> {
        Ok(self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
    }

    /// See [`outbox::parcels`].
    pub(super) fn parcels(&self, signal: &str, after: u64, most_bytes: u64) -> Result<Vec<Parcel>, Failure> {
        Ok(outbox::parcels(&self.connection, signal, after, most_bytes)?)
    }

    /// Makes the database as good as full.
    #[cfg(test)]
    pub(super) fn allow_no_growth(&self, no: bool) {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).expect("a number");
        let max = if no { pages } else { self.max_pages as i64 };
        self.connection.pragma_update(None, "max_page_count", max).expect("accepted");
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }
}
