//! Steps through an archive, for a replay.

use perfwatch_model::Stamp;
use rusqlite::{OptionalExtension as _, Row};

use super::{Archive, ArchiveError, Archived, unsigned};
use crate::codec::{self, StoredTick};

/// A tick whose series have yet to be looked up.
#[derive(Debug)]
pub struct Unnamed {
    seq: u64,
    end: Stamp,
    dt_ns: u64,
    stored: StoredTick,
}

impl Unnamed {
    /// Its number.
    pub fn seq(&self) -> u64 {
        self.seq
    }

    /// When it ended.
    pub fn end(&self) -> Stamp {
        self.end
    }

    /// What was on the screen beside what the tick tells.
    pub fn scene(&self) -> &[u8] {
        &self.stored.scene
    }
}

impl Archive {
    /// The first tick with this number or a higher one, for who changes the table before its series are looked up in it. One
    /// that is damaged is left out, and the log says so.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn unnamed(&self, seq: u64) -> Result<Option<Unnamed>, ArchiveError> {
        let sql = "SELECT seq, mono_ns, wall_ns, dt_ns, data FROM ticks WHERE seq >= ?1 ORDER BY seq LIMIT 1";
        let read = |row: &Row<'_>| {
            let end = Stamp { mono_ns: unsigned(row, 1)?, wall_ns: unsigned(row, 2)? };
            Ok((unsigned(row, 0)?, end, unsigned(row, 3)?, row.get::<_, Vec<u8>>(4)?))
        };
        let mut from = seq;
        loop {
            let row = self.connection.prepare_cached(sql);
            let row = row.and_then(|mut find| find.query_row([from.cast_signed()], read).optional());
            let Some((seq, end, dt_ns, blob)) = row.map_err(|error| self.damaged(error))? else { return Ok(None) };
            match codec::decode(&blob) {
                Ok(stored) => return Ok(Some(Unnamed { seq, end, dt_ns, stored })),
                Err(error) => self.tell_damaged(seq, &error),
            }
            from = seq.saturating_add(1);
        }
    }

    /// The tick with its series.
    ///
    /// # Errors
    /// The dictionary is damaged.
    pub fn resolve(&self, unnamed: Unnamed) -> Result<Archived, ArchiveError> {
        let Unnamed { seq, end, dt_ns, stored } = unnamed;
        self.named(seq, stored, end, dt_ns)
    }

    /// Begins a new [`Archive::table`], in which these servers and devices live (`kind:id`, in the order in which they came; all
    /// that were ever met without it): what an agent knew before a restart is not what it knows after it. From here on the
    /// table has only the series that an agent knew by the tick that was read last: rules ask whether there is one.
    ///
    /// # Errors
    /// The dictionary is damaged.
    pub fn begin_anew(&self, living: Option<&[&str]>) -> Result<(), ArchiveError> {
        self.dictionary.borrow_mut().begin_anew(living);
        self.learn()
    }

    /// Tells which servers and devices live from here on; the others retire.
    pub fn living(&self, living: &[&str]) {
        self.dictionary.borrow_mut().living(living);
    }

    /// Number of the tick from which on a recording is meant to be seen: those before it only warm the rules up.
    pub fn shown_from(&self) -> Option<u64> {
        let sql = "SELECT value FROM meta WHERE key = 'shown_from'";
        self.connection.query_row(sql, (), |row| unsigned(row, 0)).ok()
    }

    /// When a tick ended, nanoseconds since 1970; `None` when it is not there.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn wall_of(&self, seq: u64) -> Result<Option<u64>, ArchiveError> {
        let sql = "SELECT wall_ns FROM ticks WHERE seq = ?1";
        let found = self.connection.query_row(sql, [seq.cast_signed()], |row| unsigned(row, 0)).optional();
        found.map_err(|error| self.damaged(error))
    }

    /// How many ticks have numbers from `from` to `to`.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn count(&self, from: u64, to: u64) -> Result<u64, ArchiveError> {
        let sql = "SELECT count(*) FROM ticks WHERE seq BETWEEN ?1 AND ?2";
        let found = self.connection.query_row(sql, [from.cast_signed(), to.cast_signed()], |row| unsigned(row, 0));
        found.map_err(|error| self.damaged(error))
    }

    /// Number of the tick that lies `ticks` rows before this one, or of the oldest.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn before(&self, seq: u64, ticks: u64) -> Result<u64, ArchiveError> {
        self.far("SELECT min(seq) FROM (SELECT seq FROM ticks WHERE seq <= ?1 ORDER BY seq DESC LIMIT ?2)", seq, ticks)
    }

    /// Number of the tick that lies `ticks` rows after this one, or of the newest.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn after(&self, seq: u64, ticks: u64) -> Result<u64, ArchiveError> {
        self.far("SELECT max(seq) FROM (SELECT seq FROM ticks WHERE seq >= ?1 ORDER BY seq LIMIT ?2)", seq, ticks)
    }

    fn far(&self, sql: &str, seq: u64, ticks: u64) -> Result<u64, ArchiveError> {
        let limit = i64::try_from(ticks.saturating_add(1)).unwrap_or(i64::MAX);
        let found = self.connection.query_row(sql, (seq.cast_signed(), limit), |row| row.get::<_, Option<i64>>(0));
        Ok(found.map_err(|error| self.damaged(error))?.map_or(seq, i64::cast_unsigned))
    }
}
