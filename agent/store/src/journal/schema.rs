//! The database's layout. `sqlite3 journal.db` shows it; a change to it raises [`VERSION`].

/// `PRAGMA application_id` of a journal: "pwjl".
pub(super) const APPLICATION: i32 = 0x7077_6a6c;
/// `PRAGMA user_version` of the layout below.
pub(super) const VERSION: i32 = 1;

/// Counts and sums are integers where they fit `SQLite`'s 64 bits, else decimal texts: they are exact either way.
pub(super) const TABLES: &str = "
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
