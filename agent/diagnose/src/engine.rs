//! From ticks to judgements, calmly.
//!
//! Rules answer anew each tick; the engine keeps each server's history, asks them, and makes findings of their answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perfwatch_model::{EntityId, Finding, Reason, SeriesTable, Severity, Stamp, Tick};

use crate::facts::{FactReader, HostFacts};
use crate::recollection::{GpuRecollection, Recollection};
use crate::rules::{GPU_RULES, HOST_RULES, RULES, Rule, UNHEALTHY, Verdict};
use crate::standing::Standing;
use crate::window::{GpuRecord, GpuWindow, Incidents, LoadWindow, MemoryTrail, REMEMBERED_NS, Record, ServerWindow};

/// Silence after which a server is no longer live. A flush comes each second; two may be late.
const SILENCE_NS: u64 = 3_000_000_000;

/// Why a rule that fires has no finding.
const RISING: Reason = Reason::fixed("it looks so, and has not for three seconds yet", "wait for the next two seconds");

/// What the findings of experimental rules say.
const EXPERIMENTAL: &str = "(Experimental: no recording of a real GPU has proven this rule; agents ask it only with \
                            rules = \"all\".)";

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
    /// Where the rules about the machine stand.
    host: [Standing; HOST_RULES.len()],
    /// Of GPUs that are yet to be seen.
    recalled: Recollection,
    /// End of the first tick since then.
    recalled_since_ns: Option<u64>,
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
    incidents: Incidents,
    memory: MemoryTrail,
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
    /// What is wrong, worst first; of equal severity in the order of [`RULES`], [`GPU_RULES`] and [`HOST_RULES`], then of
    /// entities.
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
        Self {
            config,
            reader: FactReader::new(),
            servers: BTreeMap::new(),
            gpus: BTreeMap::new(),
            host: Default::default(),
            recalled: Recollection::default(),
            recalled_since_ns: None,
        }
    }

    /// What whoever goes on after this engine has to know.
    pub fn recollection(&self, table: &SeriesTable) -> Recollection {
        // Of GPUs that were not seen yet, what was known before.
        let mut all = self.recalled.clone();
        for (entity, history) in &self.gpus {
            let Some(id) = table.entity_of(*entity).map(ToString::to_string) else { continue };
            let incidents = history.incidents.clone();
            let stands = !incidents.is_empty() && history.standings[UNHEALTHY].finding().is_some();
            let mut totals = self.reader.totals(*entity, &id);
            // It changes each second, and tells only whether what happened is over.
            totals.energy = totals.energy.filter(|_| !incidents.is_empty());
            all.add(id, GpuRecollection { incidents, stands, totals });
        }
        all
    }

    /// Goes on where another engine ended, in the same boot of the machine.
    pub fn recall(&mut self, recollection: Recollection) {
        self.reader.recall(recollection.totals());
        (self.recalled, self.recalled_since_ns) = (recollection, None);
    }

    /// Whether experimental rules are asked from now on.
    pub fn ask_experimental(&mut self, experimental: bool) {
        self.config.experimental = experimental;
    }

    /// What is known of GPUs that are not seen for so long is no use to who sees them again.
    fn forget_unseen(&mut self, now_ns: u64) {
        let since_ns = *self.recalled_since_ns.get_or_insert(now_ns);
        if now_ns.saturating_sub(since_ns) > REMEMBERED_NS {
            self.recall(Recollection::default());
        }
        self.recalled.forget(now_ns);
    }

    /// Judges the next tick. Ticks must be sealed, come in order, and name their series by the same table each time.
    ///
    /// A server is judged from its first tick on, but most rules answer only once the window is full; a server whose entity
    /// retired is forgotten, with its findings.
    pub fn push(&mut self, tick: &Tick, table: &SeriesTable) -> Judgement {
        let facts = self.reader.read(tick, table);
        self.forget_unseen(facts.end.mono_ns);
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
        let mut answers = Answers::default();
        for server in facts.servers {
            let Some(entity) = table.entity_of(server.entity) else { continue };
            let history = self.servers.entry(server.entity).or_default();
            let tick = Arc::new(Record::new(server));
            history.add(Arc::clone(&tick), self.config.window_ns);
            let full = history.records.is_full(self.config.window_ns);
            let Some(window) = ServerWindow::of(history.records.iter(), full) else { continue };
            let id = entity.to_string();
            self.config.ask(&SERVER, &mut history.standings, &id, (&window, full), &mut answers);
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
            let id = entity.to_string();
            let history = self.gpus.entry(gpu.entity).or_insert_with(|| GpuHistory::going_on(self.recalled.take(&id)));
            let tick = Arc::new(GpuRecord::new(gpu));
            history.records.add(tick.facts.dt_ns, Arc::clone(&tick), self.config.window_ns);
            history.incidents.add(&tick.facts, facts.end.mono_ns);
            history.memory.add(&tick.facts, facts.end.mono_ns);
            let full = history.records.is_full(self.config.window_ns);
            let window = GpuWindow::of(history.records.iter(), full, &history.incidents, &history.memory);
            let Some(mut window) = window else { continue };
            let on = judgement.servers.iter().filter(|server| window.servers.contains(&server.entity));
            let parent = entity.attributes.iter().find(|attr| attr.key == "hw.parent");
            window.parent = parent.map(|attr| attr.value.to_string());
            window.users_are_hurt = on.map(|server| &server.window.load).any(LoadWindow::users_are_hurt);
            self.config.ask(&GPU, &mut history.standings, &id, (&window, full), &mut answers);
            judgement.gpus.push(GpuJudgement { entity: tick.facts.entity, id, tick, window });
        }
        if let Some(entity) = judgement.host.entity.and_then(|entity| table.entity_of(entity)) {
            self.config.ask(&HOST, &mut self.host, &entity.to_string(), (&judgement.host, true), &mut answers);
        }
        judgement.findings = answers.findings();
        judgement.undecided = answers.undecided;
        judgement
    }
}

impl GpuHistory {
    fn going_on(recalled: Option<GpuRecollection>) -> Self {
        let GpuRecollection { incidents, stands, .. } = recalled.unwrap_or_default();
        let mut history = Self { incidents, ..Self::default() };
        if stands {
            history.standings[UNHEALTHY] = Standing::going_on();
        }
        history
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

/// Rules about one sort of thing, and the place of the first of them among all.
struct Sort<Window: 'static> {
    rules: &'static [&'static dyn Rule<Window>],
    first: usize,
}

const SERVER: Sort<ServerWindow> = Sort { rules: RULES, first: 0 };
const GPU: Sort<GpuWindow> = Sort { rules: GPU_RULES, first: RULES.len() };
const HOST: Sort<HostFacts> = Sort { rules: HOST_RULES, first: RULES.len() + GPU_RULES.len() };

/// What the rules said in one tick.
#[derive(Default)]
struct Answers {
    found: Vec<(Severity, usize, Finding)>,
    undecided: Vec<Undecided>,
}

impl Config {
    /// Asks each rule about one thing, as far as its window is full.
    fn ask<Window>(
        &self,
        sort: &Sort<Window>,
        standings: &mut [Standing],
        entity: &str,
        (window, full): (&Window, bool),
        answers: &mut Answers,
    ) {
        for (at, (rule, standing)) in sort.rules.iter().zip(standings).enumerate() {
            if rule.is_experimental() && !self.experimental {
                continue;
            }
            let verdict = if full || rule.is_of_the_moment() {
                rule.judge(window)
            } else {
                Verdict::Undecided(Reason::fixed("the window is not full yet", "wait ten seconds"))
            };
            answers.take(*rule, sort.first + at, entity, verdict, standing);
        }
    }
}

impl Answers {
    /// Takes a rule's answer, and makes a finding of it when that stands.
    fn take<Window>(
        &mut self,
        rule: &dyn Rule<Window>,
        place: usize,
        entity: &str,
        verdict: Verdict,
        standing: &mut Standing,
    ) {
        let open = match &verdict {
            Verdict::Undecided(reason) => Some(reason.clone()),
            Verdict::Firing(_) => Some(RISING),
            Verdict::Clear => None,
        };
        let is_firing = matches!(verdict, Verdict::Firing(_));
        standing.update(verdict);
        if let Some(reason) = open.filter(|_| !is_firing || standing.finding().is_none()) {
            self.undecided.push(Undecided { rule: rule.id(), entity: entity.to_owned(), reason });
        }
        if let Some(diagnosis) = standing.finding() {
            let finding = Finding {
                id: rule.id().into(),
                severity: diagnosis.severity,
                entity: entity.to_owned(),
                summary: rule.summary().into(),
                detail: if rule.is_experimental() {
                    format!("{} {EXPERIMENTAL}", diagnosis.detail)
                } else {
                    diagnosis.detail.clone()
                },
                evidence: diagnosis.evidence.clone(),
                cost: None,
                remedies: diagnosis.remedies.clone(),
                experimental: rule.is_experimental(),
            };
            self.found.push((diagnosis.severity, place, finding));
        }
    }

    /// What is wrong, worst first.
    fn findings(&mut self) -> Vec<Finding> {
        self.found.sort_by(|(a_severity, a_place, a), (b_severity, b_place, b)| {
            b_severity.cmp(a_severity).then(a_place.cmp(b_place)).then_with(|| a.entity.cmp(&b.entity))
        });
        std::mem::take(&mut self.found).into_iter().map(|(_, _, finding)| finding).collect()
    }
}
