//! Where in an archive a time lies. Numbers of ticks rise for ever; the wall clock may have been stepped, so that a time
//! came twice, or never.

use perfwatch_model::Stamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Archive, ArchiveError, unsigned};

/// A tick without what it holds.
#[derive(Clone, Copy, Debug)]
pub struct When {
    /// Its number.
    pub seq: u64,
    /// Its end.
    pub end: Stamp,
    /// Its length in nanoseconds.
    pub dt_ns: u64,
}

/// Tells of ticks that are shown newest first whether they lie less than `ns` nanoseconds before the newest's end, which itself
/// always does. A step of the wall clock changes nothing; an absence of the agent counts.
pub fn newest(ns: u64) -> impl FnMut(When) -> bool {
    let mut later: Option<When> = None;
    let mut passed = 0_u64;
    move |tick| {
        let Some(later) = later.replace(tick) else { return true };
        passed = passed.saturating_add(later.end.passed_since(tick.end, later.dt_ns));
        // Ticks are a second long within the scheduler's jitter: three seconds are three ticks.
        passed.saturating_add(tick.dt_ns / 2) < ns
    }
}

impl Archive {
    /// Number of the first tick that ended at or after a time, in nanoseconds since 1970, where that time was passed last;
    /// `None` when all ended before.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn seek(&self, wall_ns: u64) -> Result<Option<u64>, ArchiveError> {
        // The plus signs keep SQLite from going through the ticks themselves instead of their times.
        let find = |connection: &Connection| -> rusqlite::Result<Option<u64>> {
            let wall_ns = i64::try_from(wall_ns).unwrap_or(i64::MAX);
            let one = |sql: &str, below: i64| {
                let found = connection.prepare_cached(sql)?.query_row(params![wall_ns, below], |row| row.get(0));
                found.optional().map(Option::flatten)
            };
            let newest = "SELECT max(+seq) FROM ticks WHERE wall_ns >= ?1 AND +seq < ?2";
            let Some(newest) = one(newest, i64::MAX)? else { return Ok(None) };
            let before = one("SELECT max(+seq) FROM ticks WHERE wall_ns < ?1 AND +seq < ?2", newest)?;
            let first = "SELECT seq FROM ticks WHERE seq > ?1 ORDER BY seq LIMIT 1";
            connection.prepare_cached(first)?.query_row([before.unwrap_or(-1)], |row| unsigned(row, 0)).optional()
        };
        find(&self.connection).map_err(|error| self.damaged(error))
    }

    /// Numbers of the first and the last tick of those that ended from `from` to `to`, in nanoseconds since 1970: where that
    /// time came twice there are others between them.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn reach(&self, from: u64, to: u64) -> Result<Option<(u64, u64)>, ArchiveError> {
        let limits = [from, to].map(|wall_ns| i64::try_from(wall_ns).unwrap_or(i64::MAX));
        let sql = "SELECT min(+seq), max(+seq) FROM ticks WHERE wall_ns BETWEEN ?1 AND ?2";
        let ends = self.connection.prepare_cached(sql).and_then(|mut find| {
            find.query_row(limits, |row| Ok((row.get::<_, Option<i64>>(0)?, row.get::<_, Option<i64>>(1)?)))
        });
        let (first, last) = ends.map_err(|error| self.damaged(error))?;
        Ok(first.zip(last).map(|(first, last)| (first.cast_unsigned(), last.cast_unsigned())))
    }

    /// The same of the newest unbroken row of such ticks: what lay between two passes of that time is not in it.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn within(&self, from: u64, to: u64) -> Result<Option<(u64, u64)>, ArchiveError> {
        let Some((_, last)) = self.reach(from, to)? else { return Ok(None) };
        let mut first = last;
        let mut later = u64::MAX;
        self.back_from(last, |tick| {
            let follows = (from..=to.min(later)).contains(&tick.end.wall_ns);
            if follows {
                (first, later) = (tick.seq, tick.end.wall_ns);
            }
            follows
        })?;
        Ok(Some((first, last)))
    }

    /// Numbers of the first and the last tick of the newest `ns` nanoseconds.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn newest(&self, ns: u64) -> Result<Option<(u64, u64)>, ArchiveError> {
        let Some(span) = self.span()? else { return Ok(None) };
        let (mut first, mut lies_within) = (span.last_seq, newest(ns));
        self.back_from(span.last_seq, |tick| {
            let within = lies_within(tick);
            if within {
                first = tick.seq;
            }
            within
        })?;
        Ok(Some((first, span.last_seq)))
    }

    /// Nanoseconds between its ticks from this number on that nobody measured: no agent ran, or the machine slept.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn absent_ns(&self, first_seq: u64) -> Result<u64, ArchiveError> {
        let Some(span) = self.span()? else { return Ok(0) };
        let (mut later, mut absent): (Option<When>, u64) = (None, 0);
        self.back_from(span.last_seq, |tick| {
            if tick.seq < first_seq {
                return false;
            }
            if let Some(later) = later.replace(tick) {
                absent = absent.saturating_add(later.end.passed_since(tick.end, later.dt_ns) - later.dt_ns);
            }
            true
        })?;
        Ok(absent)
    }

    /// Shows ticks from this number down, for as long as it is answered with true.
    fn back_from(&self, seq: u64, mut show: impl FnMut(When) -> bool) -> Result<(), ArchiveError> {
        let mut read = || -> rusqlite::Result<()> {
            let sql = "SELECT seq, mono_ns, wall_ns, dt_ns FROM ticks WHERE seq <= ?1 ORDER BY seq DESC";
            let mut find = self.connection.prepare_cached(sql)?;
            let mut rows = find.query([seq.cast_signed()])?;
            while let Some(row) = rows.next()? {
                let end = Stamp { mono_ns: unsigned(row, 1)?, wall_ns: unsigned(row, 2)? };
                if !show(When { seq: unsigned(row, 0)?, end, dt_ns: unsigned(row, 3)? }) {
                    break;
                }
            }
            Ok(())
        };
        read().map_err(|error| self.damaged(error))
    }
}
