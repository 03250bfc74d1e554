//! Takes snapshots of everything recorded and turns the difference of two into one flush.

use std::collections::{HashMap, VecDeque};

use perfwatch_model::tick::MAX_SLOW;
use perfwatch_model::tick::SLOT_NS;
use perfwatch_model::{Stage, Unit};
use perfwatch_wire::limits::{MAX_MESSAGE, MAX_NAME};
use perfwatch_wire::message::{ErrorCount, Flush, Slot, StageCount, StageName, StageTime};
use perfwatch_wire::sparse;
use prost::Message as _;

use crate::activity::{Activity, COUNTERS, Changes, Counter, Counts, RING, Totals};
use crate::clock::SECOND;
use crate::control_group;
use crate::core::Core;
use crate::errors::Kind;
use crate::fork::{self, Pass};
use crate::histogram::Cumulative;
use crate::identity::cut;
use crate::process::{self, Usage};
use crate::slowest::Sample;
use crate::totals::PREFIX;

/// Slots kept while no flush can be made: 2 s. Older ones are lost (and counted); totals are not.
const KEPT_SLOTS: u64 = 20;
/// How often a shard that is being written is read again before the collection is put off to the next second.
const ATTEMPTS: usize = 20;

/// Running totals at the instant from which a session counts.
pub(crate) struct Origin {
    at_ns: u64,
    totals: Totals,
    histograms: HashMap<usize, Cumulative>,
}

impl Origin {
    /// The present totals. In a fresh process they are all zero; in the child of a fork they are the parent's.
    pub(crate) fn of(core: &Core, at_ns: u64, inside: &Pass) -> Self {
        let mut totals = Totals::default();
        for activity in core.activities(inside).into_iter().chain([core.fallback()]) {
            totals.add(&activity.read(0, &mut [], 0).unwrap_or_default());
        }
        let histograms =
            core.series(inside).iter().map(|series| (series.id, series.totals_of(&series.shards(inside)))).collect();
        Self { at_ns, totals, histograms }
    }
}

/// Where a collection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The last whole second.
    Second,
    /// This very instant; for orderly shutdown and tests.
    Now,
}

/// Everything that flushes report, as of one instant of a session.
struct Point {
    at_ns: u64,
    counts: Counts,
    in_flight: [u64; Stage::COUNT],
    /// ∫ n dt since the session began, modulo 2^64.
    occupancy: [u64; Stage::COUNT],
}

/// Collects one session's data.
pub(crate) struct Collector {
    core: &'static Core,
    origin: Totals,
    /// The end of the last flush.
    base: Point,
    base_histograms: HashMap<usize, Cumulative>,
    base_usage: Usage,
    /// Distributions that had found no place by then.
    base_refused: u64,
    latest: Option<Point>,
    slots: VecDeque<Slot>,
    slots_lost: u64,
    /// First slot that has not been taken out of the exclusive ring.
    next_slot: u64,
    process: process::Reader,
    control_group: control_group::Reader,
    base_group: Option<control_group::Reading>,
    /// Slow requests that ended after the flush that was made when they were taken.
    slow: Vec<Sample>,
    /// Bytes that a flush may take.
    max_bytes: usize,
    /// Place of the first distribution that found no room in the last flush; its values wait for the next.
    late: Option<usize>,
    /// Changes per slot, all shards together and one shard; kept to spare the allocations.
    scratch: [Vec<Changes>; 2],
}

impl Collector {
    pub(crate) fn new(core: &'static Core, origin: Origin) -> Self {
        let mut process = process::Reader::default();
        let mut control_group = control_group::Reader::new();
        Self {
            core,
            origin: origin.totals,
            base: Point {
                at_ns: origin.at_ns,
                counts: [0; COUNTERS],
                in_flight: [0; Stage::COUNT],
                occupancy: [0; Stage::COUNT],
            },
            base_histograms: origin.histograms,
            base_usage: process.read(),
            base_refused: core.refused(),
            latest: None,
            slots: VecDeque::new(),
            slots_lost: 0,
            next_slot: origin.at_ns / SLOT_NS,
            process,
            base_group: control_group.read(),
            control_group,
            slow: Vec::new(),
            max_bytes: MAX_MESSAGE,
            late: None,
            scratch: [Vec::new(), Vec::new()],
        }
    }

    /// Takes the completed slots and the totals as of `end`. False when a shard could not be read in peace; nothing is
    /// lost then, the next call catches up.
    pub(crate) fn collect(&mut self, end: End) -> bool {
        let activities = self.core.activities(&fork::enter());
        for _ in 0..ATTEMPTS {
            let now = self.core.clock.now();
            self.core.exclusive.close(now);
            let end_slot = match end {
                End::Second => now / SECOND * (SECOND / SLOT_NS),
                End::Now => now / SLOT_NS,
            };
            let first = self.next_slot.max(end_slot.saturating_sub(KEPT_SLOTS));
            let Some(totals) = self.read(&activities, first.min(end_slot), now / SLOT_NS, now / SECOND) else {
                continue;
            };
            // Read after the shards, so that no step in the totals is later than it.
            let after = self.core.clock.now();
            if after / SLOT_NS >= first.min(end_slot) + RING {
                continue; // The ring may have turned under the reader.
            }
            let at_ns = match end {
                End::Second => end_slot * SLOT_NS,
                End::Now => after,
            };
            self.take_slots(first, end_slot, &totals, end, at_ns);
            return true;
        }
        false
    }

    /// Totals of all shards, with what they counted since `second`, and into the scratch the changes of slots
    /// `first..=last`.
    fn read(&mut self, activities: &[&'static Activity], first: u64, last: u64, second: u64) -> Option<Totals> {
        let length = usize::try_from(last - first + 1).ok().filter(|length| *length <= RING as usize)?;
        let [sum, one] = &mut self.scratch;
        sum.clear();
        sum.resize(length, Changes::default());
        one.resize(length, Changes::default());
        let mut totals = Totals::default();
        for activity in activities.iter().copied().chain([self.core.fallback()]) {
            totals.add(&activity.read(first, one, second)?);
            for (sum, one) in sum.iter_mut().zip(one.iter()) {
                sum.add(one);
            }
        }
        Some(totals)
    }

    /// Takes a point at `at_ns`: walks backward from the totals to `end_slot`, and on through the slots to report.
    fn take_slots(&mut self, first: u64, end_slot: u64, totals: &Totals, end: End, at_ns: u64) {
        let mut state = totals.changes;
        let start = first.min(end_slot);
        for (offset, changes) in self.scratch[0].iter().enumerate().skip((end_slot - start) as usize).rev() {
            let slot_start = (start + offset as u64) * SLOT_NS;
            for (n, gone) in state.n.iter_mut().zip(changes.n) {
                *n = n.wrapping_sub(gone);
            }
            for (t, (gone, entered)) in state.t.iter_mut().zip(changes.t.into_iter().zip(changes.n)) {
                *t = t.wrapping_sub(gone.wrapping_sub(slot_start.wrapping_mul(entered)));
            }
        }
        // What was inside before the session began stays the parent's.
        let origin = self.origin;
        let inside: [u64; Stage::COUNT] = std::array::from_fn(|at| state.n[at].wrapping_sub(origin.changes.n[at]));
        let mut counts = totals.counts;
        if end == End::Second {
            counts.iter_mut().zip(totals.counted_since).for_each(|(count, later)| *count = count.wrapping_sub(later));
        } else {
            state = totals.changes;
        }
        let counted = |at: usize| state.n[at].wrapping_sub(origin.changes.n[at]);
        self.latest = Some(Point {
            at_ns,
            counts: std::array::from_fn(|at| counts[at].wrapping_sub(origin.counts[at])),
            in_flight: std::array::from_fn(|at| positive(counted(at))),
            occupancy: std::array::from_fn(|at| {
                counted(at).wrapping_mul(at_ns).wrapping_add(state.t[at].wrapping_sub(origin.changes.t[at]))
            }),
        });
        self.report_slots(first, end_slot, inside);
    }

    /// Appends slots `next_slot..end_slot`; `inside` are the requests per stage at the end.
    fn report_slots(&mut self, first: u64, end_slot: u64, mut inside: [u64; Stage::COUNT]) {
        if end_slot.saturating_sub(self.next_slot) >= crate::exclusive::RING - RING {
            // After such a stall old and new times share the ring's places.
            self.core.exclusive.clear_ring();
        }
        let place = self.slots.len();
        for index in (first..end_slot).rev() {
            let changes = self.scratch[0][(index - first) as usize];
            let occupancy = (0..Stage::COUNT).filter_map(|stage| {
                let ns = positive(inside[stage].wrapping_mul(SLOT_NS).wrapping_add(changes.t[stage]));
                (ns > 0).then_some(StageTime { stage: stage as u32, ns })
            });
            let occupancy = occupancy.collect();
            match self.core.exclusive.take(index) {
                _ if index * SLOT_NS < self.base.at_ns => {} // Began before the session, or in the flush before.
                Some(states) => self.slots.insert(place, Slot { index, state_ns: states.to_vec(), occupancy }),
                None => self.slots_lost += 1,
            }
            for (inside, change) in inside.iter_mut().zip(changes.n) {
                *inside = inside.wrapping_sub(change);
            }
        }
        for index in self.next_slot..first.min(end_slot) {
            self.core.exclusive.take(index);
            self.slots_lost += 1;
        }
        self.next_slot = self.next_slot.max(end_slot);
        while self.slots.len() > KEPT_SLOTS as usize {
            self.slots.pop_front();
            self.slots_lost += 1;
        }
    }

    /// What the agent takes at most in one message; 0 means that it does not say.
    pub(crate) fn limit(&mut self, max_bytes: usize) {
        self.max_bytes = if max_bytes == 0 { MAX_MESSAGE } else { max_bytes.min(MAX_MESSAGE) };
    }

    /// Whether distributions wait for the next flush because the last one was full.
    pub(crate) fn is_late(&self) -> bool {
        self.late.is_some()
    }

    /// Makes the flush from the end of the last one to the last collection, with at most `max_series` histograms. `None`
    /// when no time has passed between the two.
    pub(crate) fn make(&mut self, seq: u64, max_series: usize) -> Option<Flush> {
        let latest = self.latest.take_if(|latest| latest.at_ns > self.base.at_ns)?;
        let count = |counter: Counter| latest.counts[counter.place()].wrapping_sub(self.base.counts[counter.place()]);
        let errors: Vec<ErrorCount> = Kind::all()
            .map(|kind| (kind, count(Counter::Failed(kind))))
            .filter(|(_, count)| *count > 0)
            .map(|(kind, count)| ErrorCount { kind: self.core.kinds.name(kind).to_owned(), count })
            .collect();
        let usage = self.process.read();
        let refused = self.core.refused();
        let group = self.control_group.read();
        let gained = |now: Option<u64>, before: Option<u64>| Some(now?.saturating_sub(before?));
        let mut flush = Flush {
            seq,
            start_ns: self.base.at_ns,
            end_ns: latest.at_ns,
            requests_started: count(Counter::Started),
            requests_completed: count(Counter::Completed),
            requests_failed: errors.iter().map(|error| error.count).sum(),
            requests_cancelled: count(Counter::Cancelled),
            requests_abandoned: count(Counter::Abandoned),
            dispatches: count(Counter::Dispatches),
            dispatches_ready2: count(Counter::DispatchesReady2),
            errors,
            prompt_tokens: count(Counter::PromptTokens),
            generated_tokens: count(Counter::GeneratedTokens),
            cache_hits: count(Counter::CacheHits),
            cache_misses: count(Counter::CacheMisses),
            in_flight: nonzero(latest.in_flight).map(|(stage, count)| StageCount { stage, count }).collect(),
            occupancy: nonzero(std::array::from_fn(|at| {
                positive(latest.occupancy[at].wrapping_sub(self.base.occupancy[at]))
            }))
            .map(|(stage, ns)| StageTime { stage, ns })
            .collect(),
            slots: std::mem::take(&mut self.slots).into(),
            slots_lost: std::mem::take(&mut self.slots_lost),
            series_dropped: refused.wrapping_sub(self.base_refused),
            cpu_ns: gained(usage.cpu_ns, self.base_usage.cpu_ns),
            run_delay_ns: gained(usage.run_delay_ns, self.base_usage.run_delay_ns),
            threads: usage.threads,
            cpus_allowed: usage.cpus_allowed.clone(),
            control_group: group.as_ref().map(|now| control_group::since(now, self.base_group.as_ref())),
            ..Flush::default()
        };
        self.add_slow(&mut flush);
        self.add_histograms(&mut flush, max_series);
        self.base = latest;
        self.base_usage = usage;
        self.base_refused = refused;
        self.base_group = group;
        Some(flush)
    }

    /// The slowest requests that ended before the flush does; later ones wait for the next.
    fn add_slow(&mut self, flush: &mut Flush) {
        self.slow.extend(self.core.slowest.take(&fork::enter()));
        self.slow.sort_by_key(|sample| std::cmp::Reverse(sample.duration_ns));
        let kinds = &self.core.kinds;
        flush.slow =
            self.slow.iter().filter(|s| s.end_ns <= flush.end_ns).take(MAX_SLOW).map(|s| s.message(kinds)).collect();
        self.slow.retain(|sample| sample.end_ns > flush.end_ns);
        self.slow.truncate(MAX_SLOW);
    }

    /// Adds the distributions that changed, as far as there is room, those first that had none in the flush before. What is
    /// left out stays in the difference to the next flush.
    fn add_histograms(&mut self, flush: &mut Flush, max_series: usize) {
        let (all, names) = {
            let inside = fork::enter();
            (self.core.series(&inside), self.core.stage_names(&inside))
        };
        for (at, name) in names.iter().enumerate() {
            let stage = u32::from(Stage::FIRST_CUSTOM) + at as u32;
            flush.stages.push(StageName { stage, name: cut(name, MAX_NAME).to_owned() });
        }
        let mut room = self.max_bytes.saturating_sub(flush.encoded_len() + PREFIX);
        let start = self.late.take().unwrap_or(0);
        for (place, series) in all.iter().enumerate().cycle().skip(start).take(all.len()) {
            let totals = series.totals();
            let before = self.base_histograms.get(&series.id);
            let mut histogram = perfwatch_wire::message::Histogram {
                name: cut(&series.name, MAX_NAME).to_owned(),
                stage: series.stage,
                unit: if series.unit == Unit::Seconds {
                    "ns".into()
                } else {
                    cut(series.unit.ucum(), MAX_NAME).to_owned()
                },
                sum: totals.sum.wrapping_sub(before.map_or(0, |before| before.sum)),
                ..Default::default()
            };
            sparse::pack(&mut histogram, totals.since(before));
            // A sum without counts belongs to values that the flush before had counted already.
            if histogram.counts.is_empty() && histogram.sum == 0 {
                continue;
            }
            if flush.histograms.len() >= max_series {
                flush.series_dropped += 1;
            } else if let Some(rest) = room.checked_sub(histogram.encoded_len() + PREFIX) {
                room = rest;
                flush.histograms.push(histogram);
            } else {
                self.late.get_or_insert(place);
                continue;
            }
            self.base_histograms.insert(series.id, totals);
        }
    }
}

/// A difference that races can push a little below zero.
fn positive(value: u64) -> u64 {
    if value.cast_signed() < 0 { 0 } else { value }
}

fn nonzero(values: [u64; Stage::COUNT]) -> impl Iterator<Item = (u32, u64)> {
    values.into_iter().enumerate().filter(|(_, value)| *value > 0).map(|(at, value)| (at as u32, value))
}
