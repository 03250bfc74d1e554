//! One server over the last seconds: everything that a rule may look at.

mod batch;
mod cpu;
mod gpu;
mod group;
mod load;
mod loading;
mod told;

use std::borrow::Cow;
use std::sync::Arc;

use perfwatch_model::{EntityId, Evidence, Ledger, Quality, Reason, SparseHdr, Stage};

pub use batch::BatchWindow;
pub use cpu::CpuWindow;
pub use gpu::REMEMBERED_NS;
pub use gpu::{GpuRecord, GpuWindow, Incidents, MemoryAt, MemoryTrail};
pub use group::GroupWindow;
pub use load::{FAILING, GROWTH, LoadWindow};
pub use loading::{FLAT as LOADERS_FLAT, Loaders, Occupancy};
pub use told::ToldWindow;

use crate::Fact;
use crate::facts::ServerFacts;
use crate::ledger::{cpu_ledger, request_ledger};

/// How much of a window must be known for a number to stand for it. One or two lost ticks (a flush that came late, the
/// first reading of a counter) change a mean of ten little; more could hide what happened.
const MIN_COVERAGE: f64 = 0.7;

/// One server in one tick: its facts and the ledgers made of them.
#[derive(Clone, Debug)]
pub struct Record {
    /// What the tick says.
    pub facts: ServerFacts,
    /// Where the time of its CPUs went.
    pub cpu: Option<Ledger>,
    /// Where its requests' time went.
    pub requests: Option<Ledger>,
}

impl Record {
    /// Makes the ledgers of a tick.
    pub fn new(facts: ServerFacts) -> Self {
        Self { cpu: cpu_ledger(&facts), requests: request_ledger(&facts), facts }
    }
}

/// One server over the last seconds.
///
/// Numbers are means over the time in which they are known; one that is known for less than 70 % of the window is
/// unknown. The ledgers are the sums of the ticks' ledgers.
#[derive(Clone, Debug)]
pub struct ServerWindow {
    /// Which server.
    pub entity: EntityId,
    /// Nanoseconds covered.
    pub span_ns: u64,
    /// True when the history is as long as a window must be for a rule to judge it.
    pub full: bool,
    /// What the server got from the machine, as shares of its CPUs.
    pub cpu: CpuWindow,
    /// What its control group got besides, by its own word.
    pub group: GroupWindow,
    /// Requests that came, went and stayed.
    pub load: LoadWindow,
    /// Batches executed.
    pub batch: BatchWindow,
    /// Tokens, look-ups and errors.
    pub told: ToldWindow,
    /// Requests that were being preprocessed or waited for data.
    pub loaders: Fact<Loaders>,
    /// Durations of requests that ended, in nanoseconds.
    pub duration: SparseHdr,
    /// Durations by stage of requests that ended, in nanoseconds, in order of the vocabulary.
    pub stage_durations: Vec<(String, SparseHdr)>,
    /// Where the time of its CPUs went.
    pub cpu_ledger: Option<Ledger>,
    /// Where its requests' time went.
    pub request_ledger: Option<Ledger>,
}

impl ServerWindow {
    /// The window that consists of these records of one server, oldest first. `full` says whether they cover as much time
    /// as rules need. `None` without a record.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Arc<Record>>, full: bool) -> Option<Self> {
        let records: Vec<&Record> = records.into_iter().map(Arc::as_ref).collect();
        let entity = records.first()?.facts.entity;
        let span_ns = records.iter().map(|record| record.facts.dt_ns).sum();
        Some(Self {
            entity,
            span_ns,
            full,
            cpu: CpuWindow::of(&records, span_ns),
            group: GroupWindow::of(&records, span_ns),
            load: LoadWindow::of(&records, span_ns),
            batch: BatchWindow::of(&records, span_ns),
            told: ToldWindow::of(&records, span_ns),
            loaders: Loaders::of(&records, span_ns),
            duration: merged(records.iter().map(|record| &record.facts.duration)),
            stage_durations: stage_durations(&records),
            cpu_ledger: sum(records.iter().filter_map(|record| record.cpu.as_ref())),
            request_ledger: sum(records.iter().filter_map(|record| record.requests.as_ref())),
        })
    }

    /// Seconds covered.
    pub fn span_s(&self) -> f64 {
        seconds(self.span_ns)
    }

    /// Share of request-seconds in a stage; unknown when there was no request or no report.
    pub fn stage_share(&self, stage: &str) -> Fact<f64> {
        let Some(ledger) = &self.request_ledger else { return Fact::missing("the server reported no stages") };
        match ledger.share(stage) {
            Some(share) => Fact::known(share, worst(ledger)),
            None => Fact::missing("there was no request in this window"),
        }
    }

    /// The stage in which requests spent most time, and its share of request-seconds.
    pub fn dominant_stage(&self) -> Option<(Cow<'static, str>, f64)> {
        let ledger = self.request_ledger.as_ref()?;
        let largest = ledger.entries().iter().max_by_key(|entry| entry.ns)?;
        Some((largest.label.clone(), ledger.share(&largest.label)?))
    }

    /// Share of CPU time that was idle while requests waited for something other than the model: all `starved.…` causes.
    pub fn starved_share(&self) -> Option<f64> {
        let ledger = self.cpu_ledger.as_ref().filter(|ledger| ledger.interval_ns() > 0)?;
        let starved = ledger.entries().iter().filter(|entry| entry.label.starts_with("starved."));
        Some(starved.map(|entry| entry.ns).sum::<u64>() as f64 / ledger.interval_ns() as f64)
    }

    /// 99th percentile of the duration of requests that ended, in seconds.
    pub fn p99_s(&self) -> Option<f64> {
        self.duration.quantile(0.99).map(seconds)
    }

    /// A fact of this window as evidence; `None` when it is not known.
    pub fn evidence(
        &self,
        name: &'static str,
        fact: &Fact<f64>,
        threshold: Option<f64>,
        unit: &'static str,
    ) -> Option<Evidence> {
        evidence(self.span_s(), name, fact, threshold, unit)
    }
}

/// A fact of a window of so many seconds as evidence.
pub(crate) fn evidence(
    window_s: f64,
    name: &'static str,
    fact: &Fact<f64>,
    threshold: Option<f64>,
    unit: &'static str,
) -> Option<Evidence> {
    Some(Evidence {
        metric: Cow::Borrowed(name),
        value: fact.get()?,
        threshold,
        unit: Cow::Borrowed(unit),
        window_s,
        quality: fact.quality,
    })
}

/// Nanoseconds as seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

/// The worst quality of any part of a ledger that is not empty.
fn worst(ledger: &Ledger) -> Quality {
    let parts = ledger.entries().iter().filter(|entry| entry.ns > 0);
    parts.map(|entry| entry.quality).max().unwrap_or(Quality::Unknown)
}

fn sum<'a>(ledgers: impl Iterator<Item = &'a Ledger>) -> Option<Ledger> {
    ledgers.fold(None, |whole: Option<Ledger>, part| {
        let mut whole = whole.unwrap_or_default();
        whole.add(part);
        Some(whole)
    })
}

fn merged<'a>(parts: impl Iterator<Item = &'a SparseHdr>) -> SparseHdr {
    let mut whole = SparseHdr::new();
    parts.for_each(|part| whole.add(part));
    whole
}

fn stage_durations(records: &[&Record]) -> Vec<(String, SparseHdr)> {
    let mut stages: Vec<(String, SparseHdr)> = Vec::new();
    for (stage, part) in records.iter().flat_map(|record| &record.facts.stage_durations) {
        match stages.iter_mut().find(|(known, _)| known == stage) {
            Some((_, whole)) => whole.add(part),
            None => stages.push((stage.clone(), part.clone())),
        }
    }
    // Built-in stages in their order, then the server's own by name.
    stages.sort_by(|(a, _), (b, _)| {
        let order = |name: &str| Stage::from_name(name).map_or(Stage::COUNT, Stage::index);
        (order(a), a).cmp(&(order(b), b))
    });
    stages
}

/// Adds up a quantity over the ticks in which it is known.
struct Mean {
    numerator: f64,
    denominator: f64,
    known_ns: u64,
    quality: Option<Quality>,
    reason: Option<Reason>,
}

impl Mean {
    /// Σ numerator / Σ denominator over the records that have both, unknown when they cover too little of the window.
    /// Nothing over nothing is `empty`.
    fn over(
        records: &[&Record],
        span_ns: u64,
        empty: f64,
        part: impl Fn(&ServerFacts) -> Result<(f64, f64, Quality), Reason>,
    ) -> Fact<f64> {
        let mut mean = Self { numerator: 0.0, denominator: 0.0, known_ns: 0, quality: None, reason: None };
        for record in records {
            match part(&record.facts) {
                Ok((numerator, denominator, quality)) => {
                    mean.numerator += numerator;
                    mean.denominator += denominator;
                    mean.known_ns += record.facts.dt_ns;
                    mean.quality = Some(mean.quality.map_or(quality, |known| known.worst(quality)));
                }
                Err(reason) => mean.reason = Some(reason),
            }
        }
        match mean.quality {
            Some(quality) if covers(mean.known_ns, span_ns) => {
                let value = if mean.denominator > 0.0 { mean.numerator / mean.denominator } else { empty };
                Fact::known(value, quality)
            }
            _ => Fact::unknown(mean.reason.unwrap_or(Reason::fixed("nothing was measured", ""))),
        }
    }
}

/// True when what is known stands for the whole.
fn covers(known_ns: u64, span_ns: u64) -> bool {
    known_ns > 0 && known_ns as f64 >= span_ns as f64 * MIN_COVERAGE
}
