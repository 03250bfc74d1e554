//! A range of an archive as a file of its own: a recording.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rusqlite::{Connection, params};

use super::{Archive, ArchiveError};
use crate::journal::{escaped, schema};

/// Every table that a recording takes over, and which of its rows: what is about the range, and what names things in it.
/// The sessions and what waits for export stay where they are.
const TABLES: &[(&str, &str, &str)] = &[
    ("meta", "key, value", "key <> 'boot'"),
    ("series", "id, metric, unit, scale, instrument, entity, attributes, integers", "true"),
    ("entities", "id, kind, attributes", "true"),
    ("lines", "id, entity, ledger, label", "true"),
    ("ticks", "seq, mono_ns, wall_ns, dt_ns, data", "seq BETWEEN ?1 AND ?2"),
    ("ledger", "seq, line, ns, quality", "seq BETWEEN ?1 AND ?2"),
    (
        "findings",
        "id, seq, last_seq, wall_ns, rule, entity, severity, summary, finding",
        "seq <= ?2 AND last_seq >= ?1",
    ),
];

impl Archive {
    /// Writes the ticks `from` to `to` and all that belongs to them into a new file, readable by its owner alone, and says
    /// how many there are. The file is a journal without totals, sessions and exports, and without a log beside it.
    ///
    /// # Errors
    /// There is a file of that name, it cannot be written, or this one is damaged or of an older layout.
    pub fn copy(&self, from: u64, to: u64, into: impl AsRef<Path>) -> Result<u64, ArchiveError> {
        self.copy_shown_from(from, to, from, into)
    }

    /// The same, and the copy tells that it is to be seen from tick `shown` on: those before it only warm the rules up.
    ///
    /// # Errors
    /// As [`Archive::copy`].
    pub fn copy_shown_from(&self, from: u64, to: u64, shown: u64, into: impl AsRef<Path>) -> Result<u64, ArchiveError> {
        let into = into.as_ref();
        let failed = |reason: String| ArchiveError::Write { path: into.to_path_buf(), reason };
        if self.version < schema::VERSION {
            return Err(failed(format!("{} is of an older layout; start an agent on it once", self.path.display())));
        }
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(into)
            .map_err(|error| failed(error.to_string()))?;
        let copied = self.fill(from, to, shown, into);
        if copied.is_err() {
            let _ = std::fs::remove_file(into);
        }
        copied.map_err(|error| failed(error.to_string()))
    }

    fn fill(&self, from: u64, to: u64, shown: u64, into: &Path) -> rusqlite::Result<u64> {
        let mut target = Connection::open(into)?;
        target.pragma_update(None, "synchronous", "OFF")?;
        target.execute("ATTACH ?1 AS source", [format!("file:{}", escaped(&self.path))])?;
        let transaction = target.transaction()?;
        schema::create(&transaction)?;
        let mut ticks = 0;
        for (table, columns, which) in TABLES {
            let copy = format!(
                "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM source.{table} WHERE ({which}) AND ?1 <= ?2"
            );
            let rows = transaction.execute(&copy, params![from.cast_signed(), to.cast_signed()])?;
            if *table == "ticks" {
                ticks = rows as u64;
            }
        }
        transaction.execute("INSERT INTO meta (key, value) VALUES ('boot', '')", [])?;
        let shown_from = "INSERT OR REPLACE INTO meta (key, value) VALUES ('shown_from', ?1)";
        transaction.execute(shown_from, [shown.cast_signed()])?;
        transaction.pragma_update(None, "application_id", schema::APPLICATION)?;
        transaction.pragma_update(None, "user_version", schema::VERSION)?;
        transaction.commit()?;
        Ok(ticks)
    }
}
