//! From ticks to judgements, calmly.
//!
//! Rules answer anew each tick; the engine keeps each server's history, asks them, and makes findings of their answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perfwatch_model::{EntityId, Finding, Reason, SeriesTable, Severity, Stamp, Tick};

use crate::facts::{FactReader, HostFacts};
use crate::rules::{GPU_RULES, RULES, Verdict};
use crate::standing::Standing;
use crate::window::{GpuRecord, GpuWindow, LoadWindow, Record, ServerWindow};

/// Silence after which a server is no longer live. A flush comes each second; two may be late.
const SILENCE_NS: u64 = 3_000_000_000;

/// What the findings of experimental rules say.
const EXPERIMENTAL: &str = "(An experimental rule: no recording of a real GPU has proven it yet.)";

/// Settings of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Nanoseconds that a rule looks at.
    pub window_ns: u64,
    /// Whether rules are asked too that are experimental.
    pub experimental: bool,
}

impl Config {
    /// The shortest window, and the default: what tells causes apart was measured over 12 s, and shorter windows see
    /// bursts as trends.
    pub const MIN_WINDOW_NS: u64 = 10_000_000_000;
}

impl Default for Config {
    fn default() -> Self {
        Self { window_ns: Self::MIN_WINDOW_NS, experimental: false }
    }
}

/// Judges tick after tick. Belongs to one [`SeriesTable`].
#[derive(Debug)]
pub struct Engine {
    config: Config,
    reader: FactReader,
    servers: BTreeMap<EntityId, History>,
    gpus: BTreeMap<EntityId, GpuHistory>,
}

/// What the engine remembers of a server.
#[derive(Debug, Default)]
struct History {
    records: Records<Record>,
    silent_ns: u64,
    standings: [Standing; RULES.len()],
}

/// What the engine remembers of a GPU.
#[derive(Debug, Default)]
struct GpuHistory {
    records: Records<GpuRecord>,
    standings: [Standing; GPU_RULES.len()],
}

/// The newest ticks of something, as many as a window takes, each with its length.
#[derive(Debug)]
struct Records<R>(VecDeque<(u64, Arc<R>)>);

impl<R> Default for Records<R> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<R> Records<R> {
    fn add(&mut self, dt_ns: u64, record: Arc<R>, window_ns: u64) {
        self.0.push_back((dt_ns, record));
        while self.0.len() > 1 && self.covers_without(1, window_ns) {
            self.0.pop_front();
        }
    }

    fn is_full(&self, window_ns: u64) -> bool {
        self.covers_without(0, window_ns)
    }

    /// Ticks are a second long within the scheduler's jitter; half a tick short still counts as the whole window.
    fn covers_without(&self, oldest: usize, window_ns: u64) -> bool {
        let half_tick = self.0.back().map_or(0, |(dt_ns, _)| dt_ns / 2);
        self.0.iter().skip(oldest).map(|(dt_ns, _)| dt_ns).sum::<u64>() + half_tick >= window_ns
    }

    fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.0.iter().map(|(_, record)| record)
    }
}

/// Everything that one tick leads to.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// End of the tick.
    pub end: Stamp,
    /// The machine in this tick.
    pub host: HostFacts,
    /// Every server known.
    pub servers: Vec<ServerJudgement>,
    /// Every GPU known.
    pub gpus: Vec<GpuJudgement>,
    /// What is wrong, worst first; of equal severity in the order of [`RULES`] and [`GPU_RULES`], then of entities.
    pub findings: Vec<Finding>,
    /// Rules that cannot decide, and why.
    pub undecided: Vec<Undecided>,
}

/// One server, now and over the window.
#[derive(Clone, Debug)]
pub struct ServerJudgement {
    /// Which server.
    pub entity: EntityId,
    /// The same as `server:<id>`.
    pub id: String,
    /// What a person calls it: the service.
    pub name: String,
    /// False when it has reported nothing for more than 3 s.
    pub live: bool,
    /// This tick's facts and ledgers.
    pub tick: Arc<Record>,
    /// The last seconds: up to the window's length, fewer just after the start.
    pub window: ServerWindow,
}

/// One GPU, now and over the window.
#[derive(Clone, Debug)]
pub struct GpuJudgement {
    /// Which GPU.
    pub entity: EntityId,
    /// The same as `gpu:<UUID>`.
    pub id: String,
    /// This tick's facts and ledger.
    pub tick: Arc<GpuRecord>,
    /// The last seconds.
    pub window: GpuWindow,
}

/// A rule that cannot decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecided {
    /// Its id.
    pub rule: &'static str,
    /// About what, as `kind:id`.
    pub entity: String,
    /// What is missing, and what would give it.
    pub reason: Reason,
}

impl Engine {
    /// An engine that has seen nothing. A window shorter than [`Config::MIN_WINDOW_NS`] is made that long.
    pub fn new(config: Config) -> Self {
        let config = Config { window_ns: config.window_ns.max(Config::MIN_WINDOW_NS), ..config };
        Self { config, reader: FactReader::new(), servers: BTreeMap::new(), gpus: BTreeMap::new() }
    }

    /// Whether experimental rules are asked from now on.
    pub fn ask_experimental(&mut self, experimental: bool) {
        self.config.experimental = experimental;
    }

    /// Judges the next tick. Ticks must be sealed, come in order, and name their series by the same table each time.
    ///
    /// A server is judged from its first tick on, but rules answer only once the window is full; a server whose entity
    /// retired is forgotten, with its findings.
    pub fn push(&mut self, tick: &Tick, table: &SeriesTable) -> Judgement {
        let facts = self.reader.read(tick, table);
        self.servers.retain(|entity, _| table.entity_of(*entity).is_some());
        self.gpus.retain(|entity, _| table.entity_of(*entity).is_some());
        let mut judgement = Judgement {
            end: facts.end,
            host: facts.host,
            servers: Vec::with_capacity(facts.servers.len()),
            gpus: Vec::with_capacity(facts.gpus.len()),
            findings: Vec::new(),
            undecided: Vec::new(),
        };
        let mut found: Vec<(Severity, usize, Finding)> = Vec::new();
        for server in facts.servers {
            let Some(entity) = table.entity_of(server.entity) else { continue };
            let history = self.servers.entry(server.entity).or_default();
            let tick = Arc::new(Record::new(server));
            history.add(Arc::clone(&tick), self.config.window_ns);
            let full = history.records.is_full(self.config.window_ns);
            let Some(window) = ServerWindow::of(history.records.iter(), full) else { continue };
            let id = entity.to_string();
            for (order, (rule, standing)) in RULES.iter().zip(&mut history.standings).enumerate() {
                let (rule_id, experimental) = (rule.id(), false);
                let asked = Asked { rule: rule_id, summary: rule.summary(), experimental, order, entity: &id };
                let answer = full.then(|| rule.judge(&window));
                asked.answered(answer, standing, &mut found, &mut judgement.undecided);
            }
            let service = entity.attributes.iter().find(|attr| attr.key == "service.name");
            let name = match service {
                Some(attr) => attr.value.to_string(),
                None => entity.id.split('/').next().unwrap_or_default().to_owned(),
            };
            let live = history.silent_ns <= SILENCE_NS;
            judgement.servers.push(ServerJudgement { entity: tick.facts.entity, id, name, live, tick, window });
        }
        for gpu in facts.gpus {
            let Some(entity) = table.entity_of(gpu.entity) else { continue };
            let history = self.gpus.entry(gpu.entity).or_default();
            let tick = Arc::new(GpuRecord::new(gpu));
            history.records.add(tick.facts.dt_ns, Arc::clone(&tick), self.config.window_ns);
            let full = history.records.is_full(self.config.window_ns);
            let Some(mut window) = GpuWindow::of(history.records.iter(), full) else { continue };
            let on = judgement.servers.iter().filter(|server| window.servers.contains(&server.entity));
            window.users_are_hurt = on.map(|server| &server.window.load).any(LoadWindow::users_are_hurt);
            let id = entity.to_string();
            let rules = GPU_RULES.iter().zip(&mut history.standings).enumerate();
            for (order, (rule, standing)) in
                rules.filter(|(_, (rule, _))| self.config.experimental || !rule.is_experimental())
            {
                let order = RULES.len() + order;
                let (rule_id, experimental) = (rule.id(), rule.is_experimental());
                let asked = Asked { rule: rule_id, summary: rule.summary(), experimental, order, entity: &id };
                let answer = full.then(|| rule.judge(&window));
                asked.answered(answer, standing, &mut found, &mut judgement.undecided);
            }
            judgement.gpus.push(GpuJudgement { entity: tick.facts.entity, id, tick, window });
        }
        found.sort_by(|(a_severity, a_rule, a), (b_severity, b_rule, b)| {
            b_severity.cmp(a_severity).then(a_rule.cmp(b_rule)).then_with(|| a.entity.cmp(&b.entity))
        });
        judgement.findings = found.into_iter().map(|(_, _, finding)| finding).collect();
        judgement
    }
}

impl History {
    fn add(&mut self, record: Arc<Record>, window_ns: u64) {
        self.silent_ns = match record.facts.slots.value() {
            Some(_) => 0,
            None => self.silent_ns.saturating_add(record.facts.dt_ns),
        };
        self.records.add(record.facts.dt_ns, record, window_ns);
    }
}

/// A rule that was asked about something.
struct Asked<'a> {
    rule: &'static str,
    summary: &'static str,
    experimental: bool,
    /// Its place among all rules.
    order: usize,
    entity: &'a str,
}

impl Asked<'_> {
    /// Takes its answer, of which there is none as long as the window is not full, and makes a finding of it when that stands.
    fn answered(
        &self,
        answer: Option<Verdict>,
        standing: &mut Standing,
        found: &mut Vec<(Severity, usize, Finding)>,
        undecided: &mut Vec<Undecided>,
    ) {
        let not_full = || Verdict::Undecided(Reason::fixed("the window is not full yet", "wait ten seconds"));
        let verdict = answer.unwrap_or_else(not_full);
        if let Verdict::Undecided(reason) = &verdict {
            undecided.push(Undecided { rule: self.rule, entity: self.entity.to_owned(), reason: reason.clone() });
        }
        standing.update(verdict);
        if let Some(diagnosis) = standing.finding() {
            let finding = Finding {
                id: self.rule.into(),
                severity: diagnosis.severity,
                entity: self.entity.to_owned(),
                summary: self.summary.into(),
                detail: if self.experimental {
                    format!("{} {EXPERIMENTAL}", diagnosis.detail)
                } else {
                    diagnosis.detail.clone()
                },
                evidence: diagnosis.evidence.clone(),
                cost: None,
                remedies: diagnosis.remedies.clone(),
            };
            found.push((diagnosis.severity, self.order, finding));
        }
    }
}
