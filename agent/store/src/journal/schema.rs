//! The database's layout. `sqlite3 journal.db` shows it; a change to it raises [`VERSION`] and adds a step to [`migrate`].

use rusqlite::{Connection, TransactionBehavior};

use crate::failpoint::{self, Point};
use crate::outbox;

/// `PRAGMA application_id` of a journal: "pwjl".
pub(crate) const APPLICATION: i32 = 0x7077_6a6c;
/// `PRAGMA user_version` of the layout below.
pub(crate) const VERSION: i32 = 2;

/// Counts and sums are integers where they fit `SQLite`'s 64 bits, else decimal texts: they are exact either way.
pub(crate) const TABLES_1: &str = "
-- created_wall_ns, boot, written_by
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
-- The dictionary: what the numbers in ticks and totals stand for. scale: what one integer is worth in unit.
CREATE TABLE series (
    id INTEGER PRIMARY KEY,
    metric TEXT NOT NULL,
    unit TEXT NOT NULL,
    scale REAL NOT NULL,
    instrument TEXT NOT NULL,
    entity TEXT NOT NULL,
    attributes TEXT NOT NULL
);
-- What each counter and histogram gained since created_wall_ns. last: a counter's raw value in the newest tick. Of a
-- counter that was not always an integer, total is REAL and in unit.
CREATE TABLE totals (
    series INTEGER PRIMARY KEY,
    last INTEGER,
    total,
    count INTEGER,
    sum,
    buckets BLOB,
    bounded_count INTEGER,
    bounded_sum REAL
);
-- How far each SDK session got: its flushes up to seq are in totals.
CREATE TABLE sessions (
    id BLOB PRIMARY KEY,
    seq INTEGER NOT NULL,
    seen_wall_ns INTEGER NOT NULL
) WITHOUT ROWID;
-- One row a second; data is a zstd frame of the columns described in agent/store/src/codec/rows.rs.
CREATE TABLE ticks (
    seq INTEGER PRIMARY KEY,
    mono_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    dt_ns INTEGER NOT NULL,
    data BLOB NOT NULL
);
";

/// What version 2 added, beside the tables of the outbox.
const TABLES_2: &str = "
-- JSON list of the attributes whose values are integers; in `attributes` they stand as texts.
ALTER TABLE series ADD COLUMN integers TEXT NOT NULL DEFAULT '[]';
UPDATE series SET integers = '[\"cpu.logical_number\"]' WHERE attributes LIKE '%\"cpu.logical_number\"%';
-- The wall clock may be stepped: a time is looked for among the times.
CREATE INDEX ticks_by_time ON ticks (wall_ns);
-- What the series are about; attributes as a JSON object whose integers are numbers.
CREATE TABLE entities (id TEXT PRIMARY KEY, kind TEXT NOT NULL, attributes TEXT NOT NULL) WITHOUT ROWID;
-- The parts of ledgers. ledger: cpu (where the time of its CPUs went), requests (where its requests' time went).
CREATE TABLE lines (id INTEGER PRIMARY KEY, entity TEXT NOT NULL, ledger TEXT NOT NULL, label TEXT NOT NULL);
-- Where each second's nanoseconds went; those of one ledger and tick sum to its interval. quality: how this is known.
CREATE TABLE ledger (
    seq INTEGER NOT NULL,
    line INTEGER NOT NULL,
    ns INTEGER NOT NULL,
    quality TEXT NOT NULL,
    PRIMARY KEY (seq, line)
) WITHOUT ROWID;
-- What stood found in the ticks seq to last_seq. finding: all of it as JSON, as it was in tick seq. A finding that stands
-- on gets a new row when its severity changes, and each minute.
CREATE TABLE findings (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL,
    last_seq INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    rule TEXT NOT NULL,
    entity TEXT NOT NULL,
    severity TEXT NOT NULL,
    summary TEXT NOT NULL,
    finding TEXT NOT NULL
);
CREATE INDEX findings_by_end ON findings (last_seq);
-- One row a minute: the ticks first_seq to last_seq, which are ticks in number and cover dt_ns; the stamps are the last
-- one's. data is laid out in agent/store/src/codec/minute_rows.rs.
CREATE TABLE ticks_1m (
    first_seq INTEGER PRIMARY KEY,
    last_seq INTEGER NOT NULL,
    mono_ns INTEGER NOT NULL,
    wall_ns INTEGER NOT NULL,
    dt_ns INTEGER NOT NULL,
    ticks INTEGER NOT NULL,
    data BLOB NOT NULL
);
-- The ledgers of a minute's ticks, summed.
CREATE TABLE ledger_1m (
    first_seq INTEGER NOT NULL,
    line INTEGER NOT NULL,
    ns INTEGER NOT NULL,
    quality TEXT NOT NULL,
    PRIMARY KEY (first_seq, line)
) WITHOUT ROWID;
-- For reading: the parts of each second's ledgers by name.
CREATE VIEW ledgers AS
    SELECT wall_ns, entity, ledger, label, ns, quality, seq
    FROM ledger JOIN lines ON lines.id = line JOIN ticks USING (seq);
";

/// All tables, in an empty database.
pub(crate) fn create(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES_1)?;
    second(connection)
}

fn second(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES_2)?;
    connection.execute_batch(outbox::TABLES)
}

/// Brings a journal of an older version up to date, in one transaction: afterwards it is either new or as it was.
pub(super) fn migrate(connection: &mut Connection, from: i32) -> rusqlite::Result<()> {
    tracing::info!(from, to = VERSION, "the journal's layout is brought up to date");
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if from < 2 {
        second(&transaction)?;
    }
    failpoint::pass(Point::Migrated);
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}
