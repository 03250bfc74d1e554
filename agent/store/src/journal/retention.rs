//! What goes when there is too much: by age, and by bytes.

use super::JournalOptions;
use super::file::{Failure, File, PAGE};

/// The oldest go when this much of the cap is used…
const SHED_ABOVE: f64 = 0.95;
/// …until it is this much, so that it does not happen every minute.
const SHED_TO: f64 = 0.90;
/// Ticks that stay while there are minutes which could go: an hour.
const LAST_HOUR: i64 = 3_600;

/// How far back the journal reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) struct Oldest {
    /// Number and end of its oldest tick.
    pub(super) second: Option<(u64, u64)>,
    /// The first tick of its oldest minute, and the minute's end.
    pub(super) minute: Option<(u64, u64)>,
}

impl Oldest {
    /// The oldest tick that anything is about.
    pub(super) fn seq(&self) -> Option<u64> {
        [self.second, self.minute].into_iter().flatten().map(|(seq, _)| seq).min()
    }
}

impl File {
    /// Drops what is older than it may be, and the oldest when the cap is near, counting `waiting` bytes that are about to
    /// be written: seconds before minutes, but for the last hour. The newest tick always stays: it says where the journal
    /// goes on.
    ///
    /// Age is counted in ticks, one a second: no step of the wall clock makes history old, and what was measured stays for a
    /// day of measuring.
    pub(super) fn tidy(&mut self, waiting: u64, options: &JournalOptions) -> Result<Oldest, Failure> {
        self.measure()?;
        if let Some((_, newest)) = self.edges("ticks", "seq")? {
            let before =
                |seconds: u64| newest.saturating_sub(i64::try_from(seconds).unwrap_or(i64::MAX)).saturating_add(1);
            self.drop_seconds(before(options.keep_s).min(newest))?;
            self.drop_minutes(before(options.keep_minutes_s))?;
            self.measure()?;
        }
        // A large blob leaves the rest of its last page empty.
        let room = waiting.saturating_mul(5) / 4 / PAGE;
        let limit = |share: f64| ((self.max_pages() as f64 * share) as u64).saturating_sub(room);
        let (above, to) = (limit(SHED_ABOVE), limit(SHED_TO));
        let mut goal = above;
        while self.pages_used() > goal {
            goal = to;
            let Some((oldest, newest)) = self.edges("ticks", "seq")? else { break };
            let minutes = self.edges("ticks_1m", "first_seq")?;
            match minutes {
                Some((first, last)) if first < last && newest.saturating_sub(oldest) < LAST_HOUR => {
                    self.drop_minutes(first.saturating_add(last.saturating_sub(first) / 20 + 1))?;
                }
                _ if newest == oldest => break,
                _ => self.drop_seconds(oldest.saturating_add(newest.saturating_sub(oldest) / 20 + 1).min(newest))?,
            }
            tracing::debug!(oldest, "oldest history left the journal: it is full");
            self.measure()?;
        }
        self.oldest()
    }

    /// The least and the greatest number in a table.
    fn edges(&self, table: &str, key: &str) -> Result<Option<(i64, i64)>, Failure> {
        let edge = |which: &str| -> rusqlite::Result<Option<i64>> {
            self.connection().query_row(&format!("SELECT {which}({key}) FROM {table}"), [], |row| row.get(0))
        };
        Ok(edge("min")?.zip(edge("max")?))
    }

    fn drop_seconds(&self, before: i64) -> Result<(), Failure> {
        for delete in ["DELETE FROM ticks WHERE seq < ?1", "DELETE FROM ledger WHERE seq < ?1"] {
            self.connection().prepare_cached(delete)?.execute([before])?;
        }
        Ok(())
    }

    /// The newest minute always stays: it says where the making of minutes goes on, and without it they would all be made
    /// again of the seconds that are left, to be dropped again. Findings stay as long as the minutes: there are few, and
    /// they are what one looks for in the past.
    fn drop_minutes(&self, before: i64) -> Result<(), Failure> {
        let Some((_, newest)) = self.edges("ticks_1m", "first_seq")? else { return Ok(()) };
        for (delete, before) in [
            ("DELETE FROM ticks_1m WHERE first_seq < ?1", before.min(newest)),
            ("DELETE FROM ledger_1m WHERE first_seq < ?1", before.min(newest)),
            ("DELETE FROM findings WHERE last_seq < ?1", before),
        ] {
            self.connection().prepare_cached(delete)?.execute([before])?;
        }
        Ok(())
    }

    /// How far back it reaches.
    pub(super) fn oldest(&self) -> Result<Oldest, Failure> {
        let first = |query: &str| -> rusqlite::Result<Option<(u64, u64)>> {
            let mut find = self.connection().prepare_cached(query)?;
            let mut rows = find.query([])?;
            let Some(row) = rows.next()? else { return Ok(None) };
            Ok(Some((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned())))
        };
        Ok(Oldest {
            second: first("SELECT seq, wall_ns FROM ticks ORDER BY seq LIMIT 1")?,
            minute: first("SELECT first_seq, wall_ns FROM ticks_1m ORDER BY first_seq LIMIT 1")?,
        })
    }
}
