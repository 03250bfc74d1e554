//! From ticks to judgements, calmly.
//!
//! Rules answer anew each tick; the engine keeps each server's history, asks them, and makes findings of their answers.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perfwatch_model::{EntityId, Finding, Reason, SeriesTable, Severity, Stamp, Tick};

use crate::facts::{FactReader, HostFacts};
use crate::rules::{RULES, Verdict};
use crate::standing::Standing;
use crate::window::{Record, ServerWindow};

/// Silence after which a server is no longer live. A flush comes each second; two may be late.
const SILENCE_NS: u64 = 3_000_000_000;

/// Settings of an [`Engine`].
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Nanoseconds that a rule looks at.
    pub window_ns: u64,
}

impl Config {
    /// The shortest window, and the default: what tells causes apart was measured over 12 s, and shorter windows see
    /// bursts as trends.
    pub const MIN_WINDOW_NS: u64 = 10_000_000_000;
}

impl Default for Config {
    fn default() -> Self {
        Self { window_ns: Self::MIN_WINDOW_NS }
    }
}

/// Judges tick after tick. Belongs to one [`SeriesTable`].
#[derive(Debug)]
pub struct Engine {
    config: Config,
    reader: FactReader,
    servers: BTreeMap<EntityId, History>,
}

/// What the engine remembers of a server.
#[derive(Debug, Default)]
struct History {
    records: VecDeque<Arc<Record>>,
    silent_ns: u64,
    standings: [Standing; RULES.len()],
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
    /// What is wrong, worst first; of equal severity in the order of [`RULES`], then of entities.
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
        let config = Config { window_ns: config.window_ns.max(Config::MIN_WINDOW_NS) };
        Self { config, reader: FactReader::new(), servers: BTreeMap::new() }
    }

    /// Judges the next tick. Ticks must be sealed, come in order, and name their series by the same table each time.
    ///
    /// A server is judged from its first tick on, but rules answer only once the window is full; a server whose entity
    /// retired is forgotten, with its findings.
    pub fn push(&mut self, tick: &Tick, table: &SeriesTable) -> Judgement {
        let facts = self.reader.read(tick, table);
        self.servers.retain(|entity, _| table.entity_of(*entity).is_some());
        let mut judgement = Judgement {
            end: facts.end,
            host: facts.host,
            servers: Vec::with_capacity(facts.servers.len()),
            findings: Vec::new(),
            undecided: Vec::new(),
        };
        let mut found: Vec<(Severity, usize, Finding)> = Vec::new();
        for server in facts.servers {
            let Some(entity) = table.entity_of(server.entity) else { continue };
            let history = self.servers.entry(server.entity).or_default();
            let tick = Arc::new(Record::new(server));
            history.add(Arc::clone(&tick), self.config.window_ns);
            let full = history.is_full(self.config.window_ns);
            let Some(window) = ServerWindow::of(&history.records, full) else { continue };
            let id = entity.to_string();
            history.judge(&window, &id, &mut found, &mut judgement.undecided);
            let service = entity.attributes.iter().find(|attr| attr.key == "service.name");
            let name = match service {
                Some(attr) => attr.value.to_string(),
                None => entity.id.split('/').next().unwrap_or_default().to_owned(),
            };
            let live = history.silent_ns <= SILENCE_NS;
            judgement.servers.push(ServerJudgement { entity: tick.facts.entity, id, name, live, tick, window });
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
        self.records.push_back(record);
        while self.records.len() > 1 && self.covered_without_oldest() >= window_ns {
            self.records.pop_front();
        }
    }

    /// Ticks are a second long within the scheduler's jitter; half a tick short still counts as the whole window.
    fn covered_without_oldest(&self) -> u64 {
        let half_tick = self.records.back().map_or(0, |record| record.facts.dt_ns / 2);
        self.records.iter().skip(1).map(|record| record.facts.dt_ns).sum::<u64>() + half_tick
    }

    fn is_full(&self, window_ns: u64) -> bool {
        let half_tick = self.records.back().map_or(0, |record| record.facts.dt_ns / 2);
        self.records.iter().map(|record| record.facts.dt_ns).sum::<u64>() + half_tick >= window_ns
    }

    fn judge(
        &mut self,
        window: &ServerWindow,
        entity: &str,
        found: &mut Vec<(Severity, usize, Finding)>,
        undecided: &mut Vec<Undecided>,
    ) {
        for (order, (rule, standing)) in RULES.iter().zip(&mut self.standings).enumerate() {
            let verdict = if window.full {
                rule.judge(window)
            } else {
                Verdict::Undecided(Reason::fixed("the window is not full yet", "wait ten seconds"))
            };
            if let Verdict::Undecided(reason) = &verdict {
                undecided.push(Undecided { rule: rule.id(), entity: entity.to_owned(), reason: reason.clone() });
            }
            standing.update(verdict);
            if let Some(diagnosis) = standing.finding() {
                let finding = Finding {
                    id: rule.id().into(),
                    severity: diagnosis.severity,
                    entity: entity.to_owned(),
                    summary: rule.summary().into(),
                    detail: diagnosis.detail.clone(),
                    evidence: diagnosis.evidence.clone(),
                    cost: None,
                    remedies: diagnosis.remedies.clone(),
                };
                found.push((diagnosis.severity, order, finding));
            }
        }
    }
}
