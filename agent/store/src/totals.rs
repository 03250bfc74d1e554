//! What every series amounts to since the journal began: the sum of all its ticks, across restarts of the agent.

mod entry;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};

use perfwatch_model::{EntityKind, Histogram, Instrument, Number, Series, SeriesId, SeriesTable, Tick};

pub use entry::{Amount, Distribution, Entry, SeriesKey, SeriesTotal};

/// Ticks for which a series of a thing that comes and goes is kept after its last value: ten minutes.
const KEEP_TICKS: u64 = 600;

/// Bytes that all series may take in memory. A counter takes some 600, a distribution 16 more for each bucket that has a
/// count: a few thousand bytes as a rule, 73 kB with all 4,608. A server without a fixed instance leaves some fifty series
/// behind with each restart, so this is for a thousand restarts, and against names without end.
const MAX_BYTES: usize = 64 << 20;
/// What is left when it was exceeded, so that the search is not made anew in every tick.
const LEFT: f64 = 0.9;

/// Number of a series in the journal. Unlike a [`SeriesId`] it survives the process.
pub type JournalId = u32;

/// What kind of series each number stands for, and what one of its integers is worth in its unit.
pub(crate) type Kinds = HashMap<JournalId, (Instrument, f64)>;

/// The dictionary of series and their running totals.
///
/// This is the truth while the agent runs; the journal on disk follows it. What changed since the last successful write is
/// remembered, so that a write after an outage brings everything up to date at once.
#[derive(Debug)]
pub struct Totals {
    entries: BTreeMap<JournalId, Entry>,
    by_key: HashMap<SeriesKey, JournalId>,
    /// By [`SeriesId`] of this run.
    known: Vec<Option<JournalId>>,
    next: JournalId,
    gone: Vec<JournalId>,
    /// Of all entries together.
    bytes: usize,
    max_bytes: usize,
    /// Series that were forgotten for want of room.
    crowded_out: u64,
    /// Counters of the newest tick whose gain the tick before does not tell.
    stated: Vec<JournalId>,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            entries: BTreeMap::new(),
            by_key: HashMap::new(),
            known: Vec::new(),
            next: 0,
            gone: Vec::new(),
            bytes: 0,
            max_bytes: MAX_BYTES,
            crowded_out: 0,
            stated: Vec::new(),
        }
    }
}

impl Totals {
    /// Limits them to what a database of so many bytes has room for: half of it, the other half being for ticks. Series
    /// take less on disk than they count for here, see [`Entry::weight`].
    pub(crate) fn fit(&mut self, database_bytes: u64) {
        let half = usize::try_from(database_bytes / 2).unwrap_or(usize::MAX);
        self.max_bytes = half.min(MAX_BYTES);
    }

    /// Adds a series as it was written, before the first tick of this run.
    pub(crate) fn restore(&mut self, id: JournalId, entry: Entry) {
        self.next = self.next.max(id + 1);
        self.bytes += entry.weight();
        self.by_key.insert(entry.key().clone(), id);
        self.entries.insert(id, entry);
    }

    /// Numbers below this were given to series that may be forgotten by now; rows of ticks may still name them.
    pub(crate) fn never_below(&mut self, next: JournalId) {
        self.next = self.next.max(next);
    }

    /// The number that the next new series gets.
    pub(crate) fn next(&self) -> JournalId {
        self.next
    }

    /// Entities that a series is about, as `kind:id`.
    pub(crate) fn entities(&self) -> HashSet<&str> {
        self.entries.values().map(|entry| entry.key().entity.as_str()).collect()
    }

    /// The machine was started anew: the kernel's counters began at 0.
    pub(crate) fn rebooted(&mut self) {
        self.entries.values_mut().for_each(Entry::begin_at_zero);
    }

    /// What the counters of the newest tick gained, where that is not the difference to the tick before; by series.
    pub(crate) fn stated_gains(&self) -> Vec<(JournalId, Number)> {
        let of = |id: &JournalId| Some((*id, self.entries.get(id)?.gained()?));
        self.stated.iter().filter_map(of).collect()
    }

    /// What kind of series each number stands for.
    pub(crate) fn kinds(&self) -> Kinds {
        let kind = |(id, entry): (&JournalId, &Entry)| {
            let instrument = match entry.amount() {
                Amount::None => Instrument::Gauge,
                Amount::Counter(_) | Amount::Measured(_) => Instrument::Counter,
                Amount::Histogram(_) => Instrument::Histogram,
            };
            (*id, (instrument, entry.scale()))
        };
        self.entries.iter().map(kind).collect()
    }

    /// Adds a tick, which is number `seq` of the journal. Makes room first, so that every series of the tick is there
    /// afterwards; they exceed the limit by what one tick brings at most.
    pub(crate) fn fold(&mut self, seq: u64, tick: &Tick, table: &SeriesTable) {
        self.make_room();
        self.stated.clear();
        for (series, number) in &tick.values {
            let Some(entry) = self.entry(*series, table) else { continue };
            if !entry.count_up(seq, *number)
                && let Some(id) = self.id_of(*series)
            {
                self.stated.push(id);
            }
        }
        self.stated.sort_unstable();
        for (series, gained) in &tick.histograms {
            if let Some(entry) = self.entry(*series, table) {
                let before = entry.weight();
                match gained {
                    Histogram::Hdr(gained) => entry.add(seq, gained),
                    Histogram::Bounded(gained) => entry.add_bounded(seq, gained),
                }
                let more = entry.weight() - before;
                self.bytes += more;
            }
        }
    }

    /// The journal's number of a series: one that a folded tick held, or one that is known from before.
    pub fn find(&self, series: SeriesId, table: &SeriesTable) -> Option<JournalId> {
        self.id_of(series).filter(|id| self.entries.contains_key(id)).or_else(|| {
            let key = SeriesKey::of(table.series_of(series)?, table)?;
            self.by_key.get(&key).copied()
        })
    }

    /// A series and its total, by its number; `None` once it was forgotten.
    pub fn get(&self, number: JournalId) -> Option<&Entry> {
        self.entries.get(&number)
    }

    /// The journal's number of a series that a folded tick held.
    pub(crate) fn id_of(&self, series: SeriesId) -> Option<JournalId> {
        self.known.get(series.0 as usize).copied().flatten()
    }

    /// What a series amounts to; `None` when no folded tick held it.
    pub fn amount_of(&self, series: SeriesId) -> Option<&Amount> {
        self.entries.get(&self.id_of(series)?).map(Entry::amount)
    }

    fn entry(&mut self, series: SeriesId, table: &SeriesTable) -> Option<&mut Entry> {
        let id = match self.id_of(series).filter(|id| self.entries.contains_key(id)) {
            Some(id) => id,
            None => self.meet(series, table)?,
        };
        self.entries.get_mut(&id)
    }

    /// A series for the first time in this run. `None` when its entity has retired already and was never seen alive.
    fn meet(&mut self, series: SeriesId, table: &SeriesTable) -> Option<JournalId> {
        let about = table.series_of(series)?;
        let key = SeriesKey::of(about, table)?;
        let id = *self.by_key.entry(key).or_insert_with_key(|key| {
            let id = self.next;
            self.next += 1;
            let entry = Entry::new(key.clone(), about);
            self.bytes += entry.weight();
            self.entries.insert(id, entry);
            id
        });
        if counts_from_zero(about, table)
            && let Some(entry) = self.entries.get_mut(&id)
        {
            entry.begin_at_zero();
        }
        let at = series.0 as usize;
        if self.known.len() <= at {
            self.known.resize(at + 1, None);
        }
        self.known[at] = Some(id);
        Some(id)
    }

    /// Totals of the counters and histograms of this name and this entity (`kind:id`), or of all; gauges have none.
    pub fn query(&self, metric: Option<&str>, entity: Option<&str>) -> Vec<SeriesTotal> {
        let asked = |entry: &&Entry| {
            let key = entry.key();
            metric.is_none_or(|metric| metric == key.metric) && entity.is_none_or(|entity| entity == key.entity)
        };
        self.entries.values().filter(asked).filter_map(Entry::total).collect()
    }

    /// What differs from the last write.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = (JournalId, &Entry)> {
        self.entries.iter().filter(|(_, entry)| entry.is_changed()).map(|(id, entry)| (*id, entry))
    }

    /// Bytes by which what differs from the last write outgrew it; more than the database grows by.
    pub(crate) fn growth(&self) -> u64 {
        self.entries.values().filter(|entry| entry.is_changed()).map(|entry| entry.growth() as u64).sum()
    }

    /// Series that had to be forgotten for want of room, by this agent.
    pub(crate) fn crowded_out(&self) -> u64 {
        self.crowded_out
    }

    /// Series that were forgotten since the last write.
    pub(crate) fn gone(&self) -> &[JournalId] {
        &self.gone
    }

    /// Everything is on disk.
    pub(crate) fn written(&mut self) {
        self.entries.values_mut().for_each(Entry::written);
        self.gone.clear();
    }

    /// Nothing is on disk: the journal is a new file.
    pub(crate) fn all_unwritten(&mut self) {
        self.entries.values_mut().for_each(Entry::unwritten);
        self.gone.clear();
    }

    /// Forgets processes and control groups that no tick from `oldest` on names: they never come back, and a busy machine
    /// makes thousands of them a day.
    pub(crate) fn forget(&mut self, oldest: u64, newest: u64) {
        let before = oldest.min(newest.saturating_sub(KEEP_TICKS));
        let passing = |key: &SeriesKey| key.entity.starts_with("process:") || key.entity.starts_with("cgroup:");
        let old = |entry: &&mut Entry| entry.seen() < before && passing(entry.key());
        for (id, entry) in self.entries.extract_if(.., |_, entry| old(&entry)) {
            self.by_key.remove(entry.key());
            self.bytes -= entry.weight();
            self.gone.push(id);
        }
    }

    /// Forgets the longest silent series when all together weigh too much, of equally silent ones the heaviest.
    fn make_room(&mut self) {
        if self.bytes <= self.max_bytes {
            return;
        }
        let left = (self.max_bytes as f64 * LEFT) as usize;
        let rank = |(id, entry): (&JournalId, &Entry)| (entry.seen(), Reverse(entry.weight()), *id);
        let mut by_age: Vec<_> = self.entries.iter().map(rank).collect();
        by_age.sort_unstable();
        for (_, _, id) in by_age {
            if self.bytes <= left {
                break;
            }
            if let Some(entry) = self.entries.remove(&id) {
                self.by_key.remove(entry.key());
                self.bytes -= entry.weight();
                self.gone.push(id);
                self.crowded_out += 1;
            }
        }
        tracing::warn!(forgotten = self.crowded_out, "totals of series were forgotten: there are too many");
    }
}

/// Whether a counter is one that the agent itself adds up from 0 when it starts. What the kernel or a device counts goes on
/// while no agent runs.
///
/// Everything about a server is: what its SDK and its exporter tell is added up by the agent, and so is what the kernel
/// says of its processes and their control group, from the agent's first look on. So are metrics that say so.
fn counts_from_zero(series: &Series, table: &SeriesTable) -> bool {
    let kind = table.entity_of(series.entity).map(|entity| entity.kind);
    let adds_up = matches!(kind, Some(EntityKind::Agent | EntityKind::Server)) || series.metric.since_start;
    series.metric.instrument == Instrument::Counter && adds_up
}

#[cfg(test)]
mod tests;
