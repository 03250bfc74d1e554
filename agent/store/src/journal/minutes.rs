//! Minutes out of seconds. A minute is made of the ticks on disk, so that a kill at any moment costs nothing: what was not
//! made yet is made later, of the same ticks.

use std::collections::BTreeMap;

use perfwatch_model::Quality;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::file::{Failure, File};
use crate::codec::{self, Encoder, StoredTick};
use crate::failpoint::{self, Point};
use crate::minute::Folding;
use crate::totals::Kinds;

const MINUTE_NS: u64 = 60_000_000_000;
/// Ticks in a minute at most: only where the wall clock stands still are there more than sixty.
const MAX_TICKS: u64 = 120;
/// Minutes made at a time: what an older version left comes bit by bit, newer ticks first wait.
const AT_ONCE: u32 = 5;

/// A minute that is being made.
struct Making {
    minute: u64,
    first_seq: u64,
    last_seq: u64,
    mono_ns: u64,
    wall_ns: u64,
    dt_ns: u64,
    ticks: u64,
    folding: Folding,
}

/// A tick's row.
struct Second {
    seq: u64,
    mono_ns: u64,
    wall_ns: u64,
    dt_ns: u64,
    tick: StoredTick,
}

impl File {
    /// Makes the minutes that are over and are not there yet.
    pub(super) fn make_minutes(&mut self, kinds: &Kinds, encoder: &mut Encoder) -> Result<(), Failure> {
        for _ in 0..AT_ONCE {
            let Some(made) = next_minute(self.connection(), kinds)? else { return Ok(()) };
            let blob =
                encoder.encode_minute(made.folding.minute()).map_err(|error| Failure::Trouble(error.to_string()))?;
            self.keep_minute(&made, &blob)?;
        }
        Ok(())
    }

    fn keep_minute(&mut self, made: &Making, blob: &[u8]) -> Result<(), Failure> {
        let transaction = self.begin()?;
        let [first, last, mono, wall, dt, ticks] =
            [made.first_seq, made.last_seq, made.mono_ns, made.wall_ns, made.dt_ns, made.ticks].map(u64::cast_signed);
        transaction
            .prepare_cached(
                "INSERT INTO ticks_1m (first_seq, last_seq, mono_ns, wall_ns, dt_ns, ticks, data) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![first, last, mono, wall, dt, ticks, blob])?;
        let mut insert = transaction
            .prepare_cached("INSERT INTO ledger_1m (first_seq, line, ns, quality) VALUES (?1, ?2, ?3, ?4)")?;
        for (line, (ns, quality)) in summed(&transaction, made)? {
            insert.execute(params![first, line, ns.cast_signed(), quality.name()])?;
        }
        drop(insert);
        failpoint::pass(Point::MinuteWritten);
        transaction.commit()?;
        Ok(())
    }
}

/// The first minute that is over and is not in the table; `None` when there is none.
fn next_minute(connection: &Connection, kinds: &Kinds) -> Result<Option<Making>, Failure> {
    let newest = "SELECT last_seq FROM ticks_1m ORDER BY first_seq DESC LIMIT 1";
    let made: Option<i64> = connection.query_row(newest, [], |row| row.get(0)).optional()?;
    if !may_be_over(connection, made)? {
        return Ok(None);
    }
    let mut ticks = connection
        .prepare_cached("SELECT seq, mono_ns, wall_ns, dt_ns, data FROM ticks WHERE seq >= ?1 ORDER BY seq")?;
    // From the last one that is in a minute: the difference to it is part of the next.
    let mut rows = ticks.query([made.unwrap_or_default()])?;
    let mut before = None;
    let mut making: Option<Making> = None;
    while let Some(row) = rows.next()? {
        let number = |at: usize| row.get::<_, i64>(at).map(i64::cast_unsigned);
        let [seq, mono_ns, wall_ns, dt_ns] = [number(0)?, number(1)?, number(2)?, number(3)?];
        let blob: Vec<u8> = row.get(4)?;
        let tick = match codec::decode(&blob) {
            Ok(tick) => tick,
            // The others are whole. The minute says how many it is made of.
            Err(error) => {
                tracing::error!(seq, %error, "a tick in the journal is damaged");
                continue;
            }
        };
        if made.is_some_and(|made| seq <= made.cast_unsigned()) {
            before = Some(tick);
            continue;
        }
        let second = Second { seq, mono_ns, wall_ns, dt_ns, tick };
        match &mut making {
            None => making = Some(Making::begun(&second, before.take().as_ref(), kinds)),
            Some(making) if making.holds(&second) => making.add(&second, kinds),
            Some(_) => return Ok(making),
        }
    }
    Ok(None)
}

/// Whether the newest tick ended in another minute than the first that is in none yet, without reading them all.
fn may_be_over(connection: &Connection, made: Option<i64>) -> Result<bool, Failure> {
    let edge = |order: &str| -> rusqlite::Result<Option<(i64, i64)>> {
        let query = format!("SELECT seq, wall_ns FROM ticks WHERE seq > ?1 ORDER BY seq {order} LIMIT 1");
        let mut find = connection.prepare_cached(&query)?;
        find.query_row([made.unwrap_or(-1)], |row| Ok((row.get(0)?, row.get(1)?))).optional()
    };
    let Some(((first, began), (last, ended))) = edge("ASC")?.zip(edge("DESC")?) else { return Ok(false) };
    let many = last.saturating_sub(first).cast_unsigned() >= MAX_TICKS;
    Ok(many || minute_of(began.cast_unsigned()) != minute_of(ended.cast_unsigned()))
}

/// The minute in which a tick ended.
fn minute_of(wall_ns: u64) -> u64 {
    wall_ns.saturating_sub(1) / MINUTE_NS
}

impl Making {
    fn begun(first: &Second, before: Option<&StoredTick>, kinds: &Kinds) -> Self {
        let mut making = Self {
            minute: minute_of(first.wall_ns),
            first_seq: first.seq,
            last_seq: first.seq,
            mono_ns: 0,
            wall_ns: 0,
            dt_ns: 0,
            ticks: 0,
            folding: Folding::after(before),
        };
        making.add(first, kinds);
        making
    }

    fn holds(&self, second: &Second) -> bool {
        minute_of(second.wall_ns) == self.minute && self.ticks < MAX_TICKS
    }

    fn add(&mut self, second: &Second, kinds: &Kinds) {
        self.folding.add(&second.tick, |id| kinds.get(&id).copied());
        (self.last_seq, self.mono_ns, self.wall_ns) = (second.seq, second.mono_ns, second.wall_ns);
        self.dt_ns = self.dt_ns.saturating_add(second.dt_ns);
        self.ticks += 1;
    }
}

/// The ledgers of its ticks, line by line.
fn summed(connection: &Connection, made: &Making) -> Result<BTreeMap<u32, (u64, Quality)>, Failure> {
    let mut lines = BTreeMap::<u32, (u64, Quality)>::new();
    let mut find = connection.prepare_cached("SELECT line, ns, quality FROM ledger WHERE seq BETWEEN ?1 AND ?2")?;
    let mut rows = find.query(params![made.first_seq.cast_signed(), made.last_seq.cast_signed()])?;
    while let Some(row) = rows.next()? {
        let (line, ns, quality): (u32, i64, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let quality = Quality::find(&quality);
        let quality = quality.ok_or_else(|| Failure::Damaged("a ledger's quality is none".to_owned()))?;
        let (sum, worst) = lines.entry(line).or_insert((0, quality));
        *sum = sum.saturating_add(ns.cast_unsigned());
        *worst = worst.worst(quality);
    }
    Ok(lines)
}
