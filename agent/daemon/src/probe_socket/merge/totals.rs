//! A server's running totals and the distributions of a tick, as series.

use std::collections::HashMap;
use std::sync::Arc;

use perfwatch_model::metrics::server;
use perfwatch_model::tick::Slot;
use perfwatch_model::{
    Attr, EntityId, Histogram, MetricDef, Number, SeriesId, SeriesTable, SparseHdr, Stage, State, Tick,
};
use perfwatch_wire::message::{self, Flush};

use super::super::OVERFLOW;
use super::catalog::Catalog;
use super::gained::Gained;

/// Attribute of a series about a stage.
const STAGE: &str = "perfwatch.stage";
/// Attribute of a series about a state.
const STATE: &str = "perfwatch.state";
/// Attribute of finished requests, and of look-ups in a cache.
const OUTCOME: &str = "perfwatch.outcome";
/// Attribute of tokens.
const TOKEN_TYPE: &str = "gen_ai.token.type";
/// Attribute of failed requests.
const ERROR_TYPE: &str = "error.type";
/// Kinds of errors per server that get a series, by whatever SDK; further ones are counted as `other`.
const MAX_ERROR_KINDS: usize = 64;
/// The kind of errors that have no series of their own.
const OTHER: &str = "other";

#[derive(Debug)]
struct Counter {
    series: SeriesId,
    total: u64,
}

/// Everything about one server that is a series.
#[derive(Debug)]
pub(super) struct Totals {
    entity: EntityId,
    started: Counter,
    completed: Counter,
    failed: Counter,
    cancelled: Counter,
    abandoned: Counter,
    dispatches: Counter,
    dispatches_ready2: Counter,
    in_flight: Counter,
    /// By kind; a kind gets its series with its first error.
    errors: HashMap<String, Counter>,
    /// Tokens read and generated, look-ups that hit and missed; a server that has none gets no series.
    tokens: Option<[Counter; 2]>,
    lookups: Option<[Counter; 2]>,
    /// Values without a series of their own.
    overflow: Option<Counter>,
    states: [Counter; State::COUNT],
    /// Time per stage; a stage gets its series when a request first enters it.
    stages: [Option<Counter>; Stage::COUNT],
    /// Distributions by name and stage on the wire, with what this tick gained.
    histograms: HashMap<(String, Option<u32>), (SeriesId, Gained)>,
}

impl Totals {
    pub(super) fn new(entity: EntityId, table: &mut SeriesTable) -> Self {
        let mut counter = |metric: &'static MetricDef, attrs: &[Attr]| Counter {
            series: table.series(metric, entity, attrs),
            total: 0,
        };
        Self {
            entity,
            started: counter(&server::REQUESTS_STARTED, &[]),
            completed: counter(&server::REQUESTS, &[Attr::fixed(OUTCOME, "completed")]),
            failed: counter(&server::REQUESTS, &[Attr::fixed(OUTCOME, "failed")]),
            cancelled: counter(&server::REQUESTS, &[Attr::fixed(OUTCOME, "cancelled")]),
            abandoned: counter(&server::REQUESTS, &[Attr::fixed(OUTCOME, "abandoned")]),
            dispatches: counter(&server::BATCH_DISPATCHES, &[]),
            dispatches_ready2: counter(&server::BATCH_READY2, &[]),
            in_flight: counter(&server::IN_FLIGHT, &[]),
            errors: HashMap::new(),
            tokens: None,
            lookups: None,
            overflow: None,
            states: State::ALL.map(|state| counter(&server::STATE_TIME, &[Attr::fixed(STATE, state.name())])),
            stages: [const { None }; Stage::COUNT],
            histograms: HashMap::new(),
        }
    }

    /// Adds everything a flush brings, late or not.
    pub(super) fn add(
        &mut self,
        flush: &Flush,
        stage_names: &mut Arc<[String]>,
        catalog: &mut Catalog,
        table: &mut SeriesTable,
    ) {
        learn_names(flush, stage_names);
        for (counter, gained) in [
            (&mut self.started, flush.requests_started),
            (&mut self.completed, flush.requests_completed),
            (&mut self.failed, flush.requests_failed),
            (&mut self.cancelled, flush.requests_cancelled),
            (&mut self.abandoned, flush.requests_abandoned),
            (&mut self.dispatches, flush.dispatches),
            (&mut self.dispatches_ready2, flush.dispatches_ready2),
        ] {
            counter.total = counter.total.wrapping_add(gained);
        }
        let entity = self.entity;
        let pair = |metric, key, values: [&'static str; 2], table: &mut SeriesTable| {
            values.map(|value| Counter { series: table.series(metric, entity, &[Attr::fixed(key, value)]), total: 0 })
        };
        let tokens = [flush.prompt_tokens, flush.generated_tokens];
        if tokens != [0; 2] {
            let pair = || pair(&server::TOKENS, TOKEN_TYPE, ["input", "output"], table);
            add_pair(self.tokens.get_or_insert_with(pair), tokens);
        }
        let lookups = [flush.cache_hits, flush.cache_misses];
        if lookups != [0; 2] {
            let pair = || pair(&server::CACHE_LOOKUPS, OUTCOME, ["hit", "miss"], table);
            add_pair(self.lookups.get_or_insert_with(pair), lookups);
        }
        self.add_errors(flush, table);
        for entry in &flush.occupancy {
            let entity = self.entity;
            let counter = self.stages[entry.stage as usize].get_or_insert_with(|| {
                let attr = Attr::text(STAGE, stage_name(entry.stage, stage_names));
                Counter { series: table.series(&server::STAGE_TIME, entity, &[attr]), total: 0 }
            });
            counter.total = counter.total.wrapping_add(entry.ns);
        }
        for histogram in &flush.histograms {
            self.add_histogram(histogram, stage_names, catalog, table);
        }
    }

    /// An SDK from before there were kinds tells only how many failed: they are `other`.
    fn add_errors(&mut self, flush: &Flush, table: &mut SeriesTable) {
        let told: u64 = flush.errors.iter().fold(0, |sum, error| sum.saturating_add(error.count));
        let untold = flush.requests_failed.saturating_sub(told);
        let kinds = flush.errors.iter().map(|error| (error.kind.as_str(), error.count));
        for (kind, count) in kinds.chain([(OTHER, untold)]).filter(|(_, count)| *count > 0) {
            let room = self.errors.len() < MAX_ERROR_KINDS;
            let kind = if room || self.errors.contains_key(kind) { kind } else { OTHER };
            let entity = self.entity;
            let counter = self.errors.entry(kind.to_owned()).or_insert_with(|| Counter {
                series: table.series(&server::ERRORS, entity, &[Attr::text(ERROR_TYPE, kind.to_owned())]),
                total: 0,
            });
            counter.total = counter.total.wrapping_add(count);
        }
    }

    fn add_histogram(
        &mut self,
        histogram: &message::Histogram,
        stage_names: &[String],
        catalog: &mut Catalog,
        table: &mut SeriesTable,
    ) {
        let Some(gained) = sparse(histogram) else { return };
        let key = (histogram.name.clone(), histogram.stage);
        if let Some((_, sum)) = self.histograms.get_mut(&key) {
            sum.add(gained);
            return;
        }
        let metric = match histogram.name.as_str() {
            "request.duration" => &server::REQUEST_DURATION,
            "stage.duration" => &server::STAGE_DURATION,
            "batch.size" => &server::BATCH_SIZE,
            "time_to_first_token" => &server::TIME_TO_FIRST_TOKEN,
            "inter_token" => &server::INTER_TOKEN,
            OVERFLOW => return self.add_overflow(&gained, table),
            own => match catalog.own(own, &histogram.unit) {
                Some(metric) => metric,
                None => return self.add_overflow(&gained, table),
            },
        };
        let attr = histogram.stage.map(|stage| Attr::text(STAGE, stage_name(stage, stage_names)));
        let series = table.series(metric, self.entity, attr.as_slice());
        let mut sum = Gained::default();
        sum.add(gained);
        self.histograms.insert(key, (series, sum));
    }

    fn add_overflow(&mut self, gained: &SparseHdr, table: &mut SeriesTable) {
        let entity = self.entity;
        let counter = self
            .overflow
            .get_or_insert_with(|| Counter { series: table.series(&server::OVERFLOW, entity, &[]), total: 0 });
        counter.total = counter.total.wrapping_add(gained.count());
    }

    /// Adds the time in each state of a closed tick's known slots.
    pub(super) fn add_states(&mut self, slots: &[Slot]) {
        for slot in slots {
            for (counter, ns) in self.states.iter_mut().zip(slot.state_ns) {
                counter.total = counter.total.wrapping_add(ns);
            }
        }
    }

    pub(super) fn set_in_flight(&mut self, requests: u64) {
        self.in_flight.total = requests;
    }

    /// Appends the totals, and what each distribution gained since the last report.
    pub(super) fn report(&mut self, tick: &mut Tick) {
        let single = [
            &self.started,
            &self.completed,
            &self.failed,
            &self.cancelled,
            &self.abandoned,
            &self.dispatches,
            &self.dispatches_ready2,
            &self.in_flight,
        ];
        let told = self.tokens.iter().chain(&self.lookups).flatten().chain(&self.overflow).chain(self.errors.values());
        for counter in single.into_iter().chain(&self.states).chain(self.stages.iter().flatten()).chain(told) {
            tick.values.push((counter.series, Number::Int(counter.total)));
        }
        for (series, gained) in self.histograms.values_mut() {
            tick.histograms.extend(gained.take().map(|all| (*series, Histogram::Hdr(all))));
        }
    }
}

fn add_pair(counters: &mut [Counter; 2], gained: [u64; 2]) {
    counters.iter_mut().zip(gained).for_each(|(counter, gained)| counter.total = counter.total.wrapping_add(gained));
}

/// A distribution from the wire, possibly only a sum whose counts came before; `None` when it is empty.
pub(super) fn sparse(histogram: &message::Histogram) -> Option<SparseHdr> {
    // Checked on arrival: indices ascend and lie below 2^16.
    let buckets: Vec<(u16, u64)> =
        perfwatch_wire::sparse::pairs(histogram).map(|(index, count)| (index as u16, count)).collect();
    if buckets.is_empty() && histogram.sum == 0 {
        return None;
    }
    SparseHdr::from_buckets(buckets, u128::from(histogram.sum))
}

fn stage_name(stage: u32, own: &[String]) -> String {
    let Some(stage) = Stage::from_index(stage as usize) else { return Stage::Other.to_string() };
    let named = stage.index().checked_sub(usize::from(Stage::FIRST_CUSTOM)).and_then(|at| own.get(at));
    named.filter(|name| !name.is_empty()).cloned().unwrap_or_else(|| stage.to_string())
}

/// Takes over the names of custom stages. All workers run the same program, so the first to name a stage decides.
fn learn_names(flush: &Flush, names: &mut Arc<[String]>) {
    for stage in &flush.stages {
        let Some(at) = (stage.stage as usize).checked_sub(usize::from(Stage::FIRST_CUSTOM)) else { continue };
        if names.get(at).is_some_and(|known| !known.is_empty()) {
            continue;
        }
        let mut longer = names.to_vec();
        longer.resize(longer.len().max(at + 1), String::new());
        longer[at].clone_from(&stage.name);
        *names = longer.into();
    }
}
