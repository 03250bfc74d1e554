//! The minutes of an archive.

use perfwatch_model::{Histogram, Number, Quality, SeriesId, Stamp};
use rusqlite::params;

use super::{Archive, ArchiveError, unsigned};
use crate::codec;
use crate::judged::{LedgerKind, LedgerRow};
use crate::minute::{Minute, Spread};

/// A minute out of an archive; its series are those of [`Archive::table`].
#[derive(Clone, Debug, PartialEq)]
pub struct ArchivedMinute {
    /// Number of its first tick.
    pub first_seq: u64,
    /// Number of its last.
    pub last_seq: u64,
    /// End of its last tick.
    pub end: Stamp,
    /// Nanoseconds that its ticks cover.
    pub dt_ns: u64,
    /// How many ticks it is made of.
    pub ticks: u64,
    /// What each counter gained: an integer in the metric's inside unit, else a number in its unit.
    pub counters: Vec<(SeriesId, Number)>,
    /// The spread of each gauge.
    pub gauges: Vec<(SeriesId, Spread)>,
    /// What each histogram gained; several where a server's bounds changed.
    pub histograms: Vec<(SeriesId, Vec<Histogram>)>,
}

impl Archive {
    /// Shows the minutes that ended between two times (nanoseconds since 1970, both included) and began before the tick
    /// `before_seq`, one after the other. Series that the journal has forgotten, as those of processes that are no more, are
    /// left out; so is a minute that is damaged, and the log says so.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn each_minute(
        &self,
        (from_wall_ns, to_wall_ns): (u64, u64),
        before_seq: u64,
        mut show: impl FnMut(ArchivedMinute),
    ) -> Result<(), ArchiveError> {
        if self.version < 2 {
            return Ok(());
        }
        let damaged = |error: rusqlite::Error| self.damaged(error);
        let mut find = self
            .connection
            .prepare_cached(
                "SELECT first_seq, last_seq, mono_ns, wall_ns, dt_ns, ticks, data FROM ticks_1m \
                 WHERE wall_ns BETWEEN ?1 AND ?2 AND first_seq < ?3 ORDER BY first_seq",
            )
            .map_err(damaged)?;
        let limits = [from_wall_ns, to_wall_ns, before_seq].map(|limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let mut rows = find.query(limits).map_err(damaged)?;
        while let Some(row) = rows.next().map_err(damaged)? {
            let number = |at| unsigned(row, at).map_err(damaged);
            let first_seq = number(0)?;
            let blob = row.get_ref(6).ok().and_then(|data| data.as_blob().ok()).unwrap_or_default();
            let minute = match codec::decode_minute(blob) {
                Ok(minute) => minute,
                Err(error) => {
                    tracing::error!(path = %self.path.display(), first_seq, %error, "a minute is damaged");
                    continue;
                }
            };
            if !self.dictionary.borrow().knows_all(minute.series()) {
                self.learn()?;
            }
            let Minute { counters, gauges, histograms } = minute;
            let names = self.dictionary.borrow();
            let minute = ArchivedMinute {
                first_seq,
                last_seq: number(1)?,
                end: Stamp { mono_ns: number(2)?, wall_ns: number(3)? },
                dt_ns: number(4)?,
                ticks: number(5)?,
                counters: names.named(counters),
                gauges: names.named(gauges),
                histograms: names.named(histograms),
            };
            drop(names);
            show(minute);
        }
        Ok(())
    }

    /// The summed ledgers of the minute that begins with tick `first_seq`.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn minute_ledgers(&self, first_seq: u64) -> Result<Vec<LedgerRow>, ArchiveError> {
        if self.version < 2 {
            return Ok(Vec::new());
        }
        let read = || -> rusqlite::Result<Vec<LedgerRow>> {
            let mut find = self.connection.prepare_cached(
                "SELECT entity, ledger, label, ns, quality FROM ledger_1m JOIN lines ON lines.id = line \
                 WHERE first_seq = ?1",
            )?;
            let mut rows = find.query(params![first_seq.cast_signed()])?;
            let mut ledgers = Vec::new();
            while let Some(row) = rows.next()? {
                let (kind, quality): (String, String) = (row.get(1)?, row.get(4)?);
                let (Some(kind), Some(quality)) = (LedgerKind::find(&kind), Quality::find(&quality)) else { continue };
                ledgers.push(LedgerRow {
                    entity: row.get(0)?,
                    kind,
                    label: row.get(2)?,
                    ns: unsigned(row, 3)?,
                    quality,
                });
            }
            ledgers.sort();
            Ok(ledgers)
        };
        read().map_err(|error| self.damaged(error))
    }
}
