//! Flushes as totals: what a catch-up flush is added up from.

use perfwatch_wire::limits::{MAX_MESSAGE, MAX_SERIES};
use perfwatch_wire::message::{ControlGroup, Flush, Histogram, Welcome};
use perfwatch_wire::sparse;
use prost::Message as _;

/// Bytes that stand before a message inside another at most: its field's number, and its length.
pub(crate) const PREFIX: usize = 5;

/// What an agent takes in one flush.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of the whole message.
    pub(crate) bytes: usize,
    /// Distributions.
    pub(crate) series: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: MAX_MESSAGE, series: MAX_SERIES }
    }
}

impl Limits {
    /// Those that the agent told; no bytes means that it does not say.
    pub(crate) fn told(welcome: &Welcome) -> Self {
        let bytes = match welcome.max_message_bytes {
            0 => MAX_MESSAGE,
            bytes => MAX_MESSAGE.min(bytes as usize),
        };
        Self { bytes, series: MAX_SERIES.min(welcome.max_series as usize) }
    }
}

/// A flush without what cannot be added up or is of no use later: its slots (they are counted as lost) and slow requests.
pub(crate) fn of(flush: &Flush) -> Flush {
    let slots_lost = flush.slots_lost + flush.slots.len() as u64;
    Flush { slots: Vec::new(), slow: Vec::new(), slots_lost, ..flush.clone() }
}

/// Adds the totals of the flush that came after `sum`; `sum` then ends where that one does.
pub(crate) fn absorb(sum: &mut Flush, later: &Flush) {
    sum.seq = later.seq;
    sum.end_ns = later.end_ns;
    for (mine, theirs) in [
        (&mut sum.requests_started, later.requests_started),
        (&mut sum.requests_completed, later.requests_completed),
        (&mut sum.requests_failed, later.requests_failed),
        (&mut sum.requests_cancelled, later.requests_cancelled),
        (&mut sum.requests_abandoned, later.requests_abandoned),
        (&mut sum.dispatches, later.dispatches),
        (&mut sum.dispatches_ready2, later.dispatches_ready2),
        (&mut sum.prompt_tokens, later.prompt_tokens),
        (&mut sum.generated_tokens, later.generated_tokens),
        (&mut sum.cache_hits, later.cache_hits),
        (&mut sum.cache_misses, later.cache_misses),
        (&mut sum.slots_lost, later.slots_lost),
        (&mut sum.series_dropped, later.series_dropped),
    ] {
        *mine = mine.wrapping_add(theirs);
    }
    for error in &later.errors {
        match sum.errors.iter_mut().find(|known| known.kind == error.kind) {
            Some(known) => known.count += error.count,
            None => sum.errors.push(error.clone()),
        }
    }
    for entry in &later.occupancy {
        match sum.occupancy.iter_mut().find(|known| known.stage == entry.stage) {
            Some(known) => known.ns = known.ns.wrapping_add(entry.ns),
            None => sum.occupancy.push(*entry),
        }
    }
    later.histograms.iter().for_each(|histogram| add(&mut sum.histograms, histogram));
    more(&mut sum.cpu_ns, later.cpu_ns);
    more(&mut sum.run_delay_ns, later.run_delay_ns);
    sum.in_flight.clone_from(&later.in_flight);
    sum.stages.clone_from(&later.stages);
    sum.threads = later.threads;
    sum.cpus_allowed.clone_from(&later.cpus_allowed);
    sum.control_group = match (sum.control_group.take(), &later.control_group) {
        (Some(before), Some(later)) => Some(add_group(&before, later)),
        (before, later) => later.clone().or(before),
    };
}

/// Adds a distribution to those of which it may be one.
pub(crate) fn add(all: &mut Vec<Histogram>, histogram: &Histogram) {
    match all.iter_mut().find(|known| same(known, histogram)) {
        Some(known) => add_histogram(known, histogram),
        None => all.push(histogram.clone()),
    }
}

/// Bytes that the distributions take in a flush at most.
pub(crate) fn size(histograms: &[Histogram]) -> usize {
    histograms.iter().map(|histogram| histogram.encoded_len() + PREFIX).sum()
}

/// Moves as many of the waiting distributions into the flush as the agent takes. One that is in the flush already grows by
/// no more than the other takes alone: there are fewer distances between the buckets of both, and none is larger.
pub(crate) fn fill(flush: &mut Flush, waiting: &mut Vec<Histogram>, limits: Limits) {
    let mut room = limits.bytes.saturating_sub(flush.encoded_len() + PREFIX);
    waiting.retain(|histogram| {
        let Some(rest) = room.checked_sub(histogram.encoded_len() + PREFIX) else { return true };
        let known = flush.histograms.iter().any(|known| same(known, histogram));
        if !known && flush.histograms.len() >= limits.series {
            return true;
        }
        add(&mut flush.histograms, histogram);
        room = rest;
        false
    });
}

fn same(one: &Histogram, other: &Histogram) -> bool {
    one.name == other.name && one.stage == other.stage
}

fn add_histogram(sum: &mut Histogram, later: &Histogram) {
    let mut buckets: Vec<(u32, u64)> = sparse::pairs(sum).chain(sparse::pairs(later)).collect();
    buckets.sort_by_key(|(index, _)| *index);
    buckets.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        kept.1 += if same { next.1 } else { 0 };
        same
    });
    sum.index_deltas.clear();
    sum.counts.clear();
    sparse::pack(sum, buckets);
    sum.sum = sum.sum.wrapping_add(later.sum);
}

fn more(sum: &mut Option<u64>, later: Option<u64>) {
    *sum = match (*sum, later) {
        (Some(sum), Some(later)) => Some(sum.saturating_add(later)),
        (sum, later) => later.or(sum),
    };
}

fn add_group(before: &ControlGroup, later: &ControlGroup) -> ControlGroup {
    let mut sum = later.clone();
    for (mine, theirs) in [
        (&mut sum.periods, before.periods),
        (&mut sum.throttled_periods, before.throttled_periods),
        (&mut sum.throttled_ns, before.throttled_ns),
        (&mut sum.memory_limit_hits, before.memory_limit_hits),
        (&mut sum.oom_kills, before.oom_kills),
        (&mut sum.cpu_some_ns, before.cpu_some_ns),
        (&mut sum.memory_some_ns, before.memory_some_ns),
        (&mut sum.memory_full_ns, before.memory_full_ns),
        (&mut sum.io_some_ns, before.io_some_ns),
        (&mut sum.io_full_ns, before.io_full_ns),
        (&mut sum.cpu_ns, before.cpu_ns),
    ] {
        more(mine, theirs);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use perfwatch_wire::message::{ErrorCount, Slot, StageCount, StageTime};

    fn flush(seq: u64, buckets: &[(u32, u64)]) -> Flush {
        let mut histogram = Histogram { name: "own".into(), unit: "ns".into(), sum: seq, ..Histogram::default() };
        sparse::pack(&mut histogram, buckets.iter().copied());
        Flush {
            seq,
            start_ns: seq * 100,
            end_ns: (seq + 1) * 100,
            requests_failed: 2,
            errors: vec![ErrorCount { kind: "timeout".into(), count: 2 }],
            occupancy: vec![StageTime { stage: 3, ns: 5 }],
            in_flight: vec![StageCount { stage: 0, count: seq }],
            histograms: vec![histogram],
            cpu_ns: Some(10),
            slots: vec![Slot::default()],
            control_group: Some(ControlGroup { periods: Some(4), memory_bytes: Some(seq), ..ControlGroup::default() }),
            ..Flush::default()
        }
    }

    #[test]
    fn differences_add_and_states_are_the_newest() {
        let mut sum = of(&flush(1, &[(3, 1), (9, 2)]));
        absorb(&mut sum, &of(&flush(2, &[(3, 5), (4, 1), (700, 1)])));
        assert_eq!((sum.seq, sum.start_ns, sum.end_ns), (2, 100, 300));
        assert_eq!((sum.requests_failed, sum.errors[0].count, sum.occupancy[0].ns), (4, 4, 10));
        assert_eq!((sum.in_flight[0].count, sum.cpu_ns), (2, Some(20)));
        assert_eq!((sum.slots.len(), sum.slots_lost), (0, 2));
        let group = sum.control_group.as_ref().expect("both had one");
        assert_eq!((group.periods, group.memory_bytes), (Some(8), Some(2)));
        assert_eq!(sparse::pairs(&sum.histograms[0]).collect::<Vec<_>>(), [(3, 6), (4, 1), (9, 2), (700, 1)]);
        assert_eq!(sum.histograms[0].sum, 3);
        assert_eq!(perfwatch_wire::validate::flush(&sum), Ok(()));
    }
}
