//! What every series amounts to since the journal began: the sum of all its ticks, across restarts of the agent.

mod entry;

use std::collections::{BTreeMap, HashMap};

use perfwatch_model::{EntityKind, Histogram, Instrument, MetricDef, Series, SeriesId, SeriesTable, Tick};

pub(crate) use entry::Entry;
pub use entry::{Amount, Distribution, SeriesKey, SeriesTotal};

/// Ticks for which a series of a thing that comes and goes is kept after its last value: ten minutes.
const KEEP_TICKS: u64 = 600;

/// Series that are remembered, some 50 MB; the ones that were silent longest go first. A server without a fixed instance
/// leaves some fifty behind with each restart, so this is for a thousand restarts, and against names without end.
const MAX_SERIES: usize = 100_000;

/// Number of a series in the journal. Unlike a [`SeriesId`] it survives the process.
pub type JournalId = u32;

/// The dictionary of series and their running totals.
///
/// This is the truth while the agent runs; the journal on disk follows it. What changed since the last successful write is
/// remembered, so that a write after an outage brings everything up to date at once.
#[derive(Debug, Default)]
pub struct Totals {
    entries: BTreeMap<JournalId, Entry>,
    by_key: HashMap<SeriesKey, JournalId>,
    /// By [`SeriesId`] of this run.
    known: Vec<Option<JournalId>>,
    next: JournalId,
    gone: Vec<JournalId>,
}

impl Totals {
    /// Adds a series as it was written, before the first tick of this run.
    pub(crate) fn restore(&mut self, id: JournalId, entry: Entry) {
        self.next = self.next.max(id + 1);
        self.by_key.insert(entry.key().clone(), id);
        self.entries.insert(id, entry);
    }

    /// The machine was started anew: the kernel's counters began at 0.
    pub(crate) fn rebooted(&mut self) {
        self.entries.values_mut().for_each(Entry::begin_at_zero);
    }

    /// Adds a tick, which is number `seq` of the journal.
    pub(crate) fn fold(&mut self, seq: u64, tick: &Tick, table: &SeriesTable) {
        for (series, number) in &tick.values {
            if let Some(entry) = self.entry(*series, table) {
                entry.count_up(seq, *number);
            }
        }
        for (series, gained) in &tick.histograms {
            if let Some(entry) = self.entry(*series, table) {
                match gained {
                    Histogram::Hdr(gained) => entry.add(seq, gained),
                    Histogram::Bounded(gained) => entry.add_bounded(seq, gained),
                }
            }
        }
    }

    /// The journal's number of a series that a folded tick held.
    pub(crate) fn id_of(&self, series: SeriesId) -> Option<JournalId> {
        self.known.get(series.0 as usize).copied().flatten()
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
            self.entries.insert(id, Entry::new(key.clone(), about.metric));
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
    /// makes thousands of them a day. Of everything else, what is beyond [`MAX_SERIES`].
    pub(crate) fn forget(&mut self, oldest: u64, newest: u64) {
        let before = oldest.min(newest.saturating_sub(KEEP_TICKS));
        let passing = |key: &SeriesKey| key.entity.starts_with("process:") || key.entity.starts_with("cgroup:");
        let old = |entry: &&mut Entry| entry.seen() < before && passing(entry.key());
        for (id, entry) in self.entries.extract_if(.., |_, entry| old(&entry)) {
            self.by_key.remove(entry.key());
            self.gone.push(id);
        }
        self.forget_beyond(MAX_SERIES);
    }

    /// Forgets the longest silent series beyond the limit.
    fn forget_beyond(&mut self, limit: usize) {
        let excess = self.entries.len().saturating_sub(limit);
        if excess == 0 {
            return;
        }
        let mut by_age: Vec<_> = self.entries.iter().map(|(id, entry)| (entry.seen(), *id)).collect();
        by_age.select_nth_unstable(excess - 1);
        for (_, id) in &by_age[..excess] {
            if let Some(entry) = self.entries.remove(id) {
                self.by_key.remove(entry.key());
                self.gone.push(*id);
            }
        }
    }
}

/// Whether a counter is one that the agent itself adds up from 0 when it starts. What the kernel or a device counts goes on
/// while no agent runs.
fn counts_from_zero(series: &Series, table: &SeriesTable) -> bool {
    let MetricDef { instrument, name, .. } = series.metric;
    *instrument == Instrument::Counter
        && match table.entity_of(series.entity).map(|entity| entity.kind) {
            Some(EntityKind::Agent) => true,
            // The SDK's counts; what a server's processes get of the CPU comes from the kernel.
            Some(EntityKind::Server) => !name.starts_with("perfwatch.server.cpu."),
            _ => false,
        }
}

#[cfg(test)]
mod tests;
