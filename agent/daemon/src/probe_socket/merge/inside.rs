//! What a server's processes say about themselves: all there is to know where the agent cannot see them, because they live
//! in another PID namespace and share only the socket's folder with it.

use perfwatch_model::metrics::server;
use perfwatch_model::{EntityId, MetricDef, Number, SeriesId, SeriesTable, Tick};
use perfwatch_wire::message::Flush;

/// CPU numbers that are told apart, as many as the SDK asks the kernel for.
const MAX_CPUS: usize = 1_024;

/// Counters, in the order of [`METRICS`].
type Gains = [Option<u64>; METRICS.len()];

const METRICS: [&MetricDef; 5] = [
    &server::CPU_TIME,
    &server::CPU_RUN_DELAY,
    &server::CPU_PERIODS,
    &server::CPU_THROTTLED_PERIODS,
    &server::CPU_THROTTLED,
];
/// How many of them belong to a process; the others belong to its control group, of which all processes in it tell.
const OF_PROCESS: usize = 2;

/// What one process told since the last tick.
#[derive(Debug, Default)]
pub(super) struct Told {
    gains: Gains,
    quota_ns_per_s: Option<u64>,
    cpus: Option<Cpus>,
}

impl Told {
    pub(super) fn add(&mut self, flush: &Flush) {
        let group = flush.control_group.as_ref();
        let gains = [
            flush.cpu_ns,
            flush.run_delay_ns,
            group.and_then(|group| group.periods),
            group.and_then(|group| group.throttled_periods),
            group.and_then(|group| group.throttled_ns),
        ];
        for (sum, gained) in self.gains.iter_mut().zip(gains) {
            *sum = gained.map(|gained| sum.unwrap_or(0).saturating_add(gained)).or(*sum);
        }
        self.quota_ns_per_s = group.and_then(|group| group.quota_ns_per_s);
        self.cpus = Cpus::parse(&flush.cpus_allowed);
    }
}

/// A server's running totals as its processes tell them.
#[derive(Debug)]
pub(super) struct Inside {
    entity: EntityId,
    counters: [Option<(SeriesId, u64)>; METRICS.len()],
}

impl Inside {
    pub(super) fn new(entity: EntityId) -> Self {
        Self { entity, counters: [None; METRICS.len()] }
    }

    /// Appends what the processes told for this tick. Not to be called while the agent sees one of them itself: its own
    /// probe fills the same series then.
    pub(super) fn report(&mut self, told: &[Told], tick: &mut Tick, table: &mut SeriesTable) {
        for (at, metric) in METRICS.into_iter().enumerate() {
            let gains = told.iter().filter_map(|told| told.gains[at]);
            let gained = if at < OF_PROCESS { gains.reduce(u64::saturating_add) } else { gains.max() };
            if let Some(gained) = gained {
                let (_, total) = self.counters[at].get_or_insert_with(|| (table.series(metric, self.entity, &[]), 0));
                *total = total.saturating_add(gained);
            }
            tick.values.extend(self.counters[at].map(|(series, total)| (series, Number::Int(total))));
        }
        if let Some(quota) = told.iter().filter_map(|told| told.quota_ns_per_s).min() {
            let series = table.series(&server::CPU_QUOTA, self.entity, &[]);
            tick.values.push((series, Number::Float(quota as f64 * 1e-9)));
        }
        if let Some(cpus) = told.iter().filter_map(|told| told.cpus).reduce(Cpus::or) {
            let series = table.series(&server::CPU_CAPACITY, self.entity, &[]);
            tick.values.push((series, Number::Float(f64::from(cpus.count()))));
        }
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cpus([u64; MAX_CPUS / 64]);

impl Cpus {
    /// From a kernel list such as `0-3,8`; `None` when it is none, or empty.
    fn parse(list: &str) -> Option<Self> {
        let mut cpus = Self([0; MAX_CPUS / 64]);
        for part in list.trim().split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
            (first..=last.min(MAX_CPUS - 1)).for_each(|cpu| cpus.0[cpu / 64] |= 1 << (cpu % 64));
        }
        (cpus.count() > 0).then_some(cpus)
    }

    fn or(self, other: Self) -> Self {
        Self(std::array::from_fn(|at| self.0[at] | other.0[at]))
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_lists_are_understood_and_bounded() {
        assert_eq!(Cpus::parse("0-3,8\n").map(|cpus| cpus.count()), Some(5));
        assert_eq!(Cpus::parse("0-18446744073709551615").map(|cpus| cpus.count()), Some(1_024));
        assert_eq!(Cpus::parse("7-3").map(|cpus| cpus.count()), None);
        assert_eq!((Cpus::parse(""), Cpus::parse("all"), Cpus::parse("9999")), (None, None, None));
    }
}
