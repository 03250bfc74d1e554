//! From ticks to judgements, calmly.
//!
//! Rules answer anew each tick; the engine makes findings of their answers. A finding rises when its rule fired several
//! times in a row and falls when it was clear several times in a row, so that a single second neither raises nor hides it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use perfwatch_model::{EntityId, Finding, Reason, SeriesTable, Severity, Stamp, Tick};

use crate::facts::{FactReader, HostFacts};
use crate::rules::{Diagnosis, RULES, Verdict};
use crate::window::{Record, ServerWindow};

/// Evaluations in a row that must fire before a finding rises. Windows overlap by nine tenths, so three say that the
/// cause lasted for two seconds more than the window in which it first showed; a lone burst at one edge does not.
const RISE: u32 = 3;
/// Evaluations in a row that must be clear before it falls: longer than the rise, so that a cause that comes and goes is
/// one finding and not many.
const FALL: u32 = 5;
/// Evaluations in a row without an answer after which a finding falls: nothing that proved it is left in a window of 10 s.
const STALE: u32 = 10;
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

/// Where a rule stands with a server.
#[derive(Clone, Debug, Default)]
struct Standing {
    fired: u32,
    cleared: u32,
    undecided: u32,
    /// Evaluations in a row that were less severe than the finding says.
    milder: u32,
    finding: Option<Diagnosis>,
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
            if let Some(diagnosis) = &standing.finding {
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

impl Standing {
    fn update(&mut self, verdict: Verdict) {
        match verdict {
            Verdict::Firing(diagnosis) => {
                self.fired += 1;
                (self.cleared, self.undecided) = (0, 0);
                if self.finding.is_some() || self.fired >= RISE {
                    self.adopt(diagnosis);
                }
            }
            Verdict::Clear => {
                self.cleared += 1;
                (self.fired, self.undecided) = (0, 0);
                if self.cleared >= FALL {
                    self.finding = None;
                }
            }
            // A missing answer breaks a rise, and does not count towards a fall until nothing is left to stand on.
            Verdict::Undecided(_) => {
                self.undecided += 1;
                (self.fired, self.cleared) = (0, 0);
                if self.undecided >= STALE {
                    self.finding = None;
                }
            }
        }
    }

    /// Takes over the newest numbers. Severity rises at once and falls as slowly as a finding does.
    fn adopt(&mut self, mut diagnosis: Diagnosis) {
        match &self.finding {
            Some(standing) if diagnosis.severity < standing.severity => {
                self.milder += 1;
                if self.milder < FALL {
                    diagnosis.severity = standing.severity;
                } else {
                    self.milder = 0;
                }
            }
            _ => self.milder = 0,
        }
        self.finding = Some(diagnosis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn firing(severity: Severity) -> Verdict {
        Verdict::Firing(Diagnosis { severity, detail: String::new(), evidence: Vec::new(), remedies: Vec::new() })
    }

    fn undecided() -> Verdict {
        Verdict::Undecided(Reason::fixed("missing", ""))
    }

    /// Whether the finding stands after each verdict.
    fn stands(verdicts: impl IntoIterator<Item = Verdict>) -> Vec<bool> {
        let mut standing = Standing::default();
        let after = |verdict| {
            standing.update(verdict);
            standing.finding.is_some()
        };
        verdicts.into_iter().map(after).collect()
    }

    #[test]
    fn a_finding_rises_on_the_third_firing_in_a_row_and_falls_on_the_fifth_clear() {
        let mut verdicts = vec![firing(Severity::Warning); 3];
        verdicts.extend(vec![Verdict::Clear; 5]);
        assert_eq!(stands(verdicts), [false, false, true, true, true, true, true, false]);
    }

    #[test]
    fn firing_every_other_second_never_rises() {
        let verdicts = (0..20).map(|at| if at % 2 == 0 { firing(Severity::Critical) } else { Verdict::Clear });
        assert!(stands(verdicts).iter().all(|stands| !stands));
    }

    #[test]
    fn a_missing_answer_breaks_a_rise_but_does_not_end_a_finding_at_once() {
        let fire = || firing(Severity::Warning);
        assert_eq!(stands([fire(), fire(), undecided(), fire(), fire()]), [false; 5]);
        let mut verdicts = vec![fire(); 3];
        verdicts.extend(vec![undecided(); 10]);
        let stood = stands(verdicts);
        assert!(stood[2..12].iter().all(|stands| *stands));
        assert!(!stood[12], "nothing that proved it is left in the window");
    }

    #[test]
    fn severity_rises_at_once_and_falls_slowly() {
        let mut standing = Standing::default();
        let mut severity = |verdict| {
            standing.update(verdict);
            standing.finding.as_ref().map(|finding| finding.severity)
        };
        (0..3).for_each(|_| _ = severity(firing(Severity::Warning)));
        assert_eq!(severity(firing(Severity::Critical)), Some(Severity::Critical));
        for _ in 0..4 {
            assert_eq!(severity(firing(Severity::Warning)), Some(Severity::Critical));
        }
        assert_eq!(severity(firing(Severity::Warning)), Some(Severity::Warning));
    }
}
