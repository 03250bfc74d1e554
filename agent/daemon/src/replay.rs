//! A recording, or an agent's journal, judged and shown anew.
//!
//! Ledgers and findings are not read back: they are made again of the ticks, by the same code, and then compared with what
//! was said when the ticks were measured.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use perfwatch_diagnose::{Config, Engine, Judgement};
use perfwatch_model::{Finding, Snapshot};
use perfwatch_store::{Archive, ArchiveError, Archived, Cursor, LedgerKind, LedgerRow, Span, Unnamed};

use crate::assemble::Teller;
use crate::assemble::scene::{Follows, SceneReader, WHOLE_EVERY};
use crate::pipeline::ledgers;

/// Ticks after a beginning that cannot be compared: whoever measured them had seen more than the file holds. The rules' windows,
/// what a finding takes to rise and to fall, the slowest probes.
const UNSURE: u64 = 30;
/// The same of how a GPU's memory filled.
const UNSURE_OF_FILLING: u64 = 30 + UNSURE;
/// The rule that looks at what scenes tell of the time before: where there is none, nobody knows what an agent knew.
const OF_ERRORS: &str = "gpu-unhealthy";
/// The rule that looks at how memory filled.
const OF_FILLING: &str = "gpu-memory-nearly-full";

/// Why a file cannot be replayed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It cannot be read.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// It is ours, without a single tick.
    #[error("{path} holds no ticks", path = .0.display())]
    Empty(PathBuf),
}

impl ReplayError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Archive(error) => error.hint(),
            Self::Empty(_) => "record for longer than a second",
        }
    }
}

/// One tick of a replay.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Number of the tick.
    pub seq: u64,
    /// End of the tick, nanoseconds since 1970.
    pub wall_ns: u64,
    /// What was shown.
    pub snapshot: Arc<Snapshot>,
    /// Ledgers and findings, made anew.
    pub judged: Vec<JudgedRow>,
    /// Whether they are what was said then; `None` where the file does not tell, or begins too late to know.
    pub as_recorded: Option<bool>,
}

/// The way through a file.
#[derive(Debug)]
pub struct Replay {
    archive: Archive,
    cursor: Cursor,
    engine: Engine,
    teller: Teller,
    scenes: SceneReader,
    /// Ticks since the rules began to listen.
    heard: u64,
}

impl std::fmt::Debug for Teller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Teller").finish_non_exhaustive()
    }
}

impl Replay {
    /// Opens a file and stands at its beginning.
    ///
    /// # Errors
    /// It cannot be replayed.
    pub fn open(path: &Path) -> Result<Self, ReplayError> {
        let archive = Archive::open(path)?;
        let mut replay = Self {
            archive,
            cursor: Cursor::at(0),
            engine: Engine::new(Config::default()),
            teller: Teller::default(),
            scenes: SceneReader::default(),
            heard: 0,
        };
        let first = replay.span()?.first_seq;
        replay.seek(first)?;
        Ok(replay)
    }

    /// What the file covers, less what only warms the rules up, and how many ticks that is.
    ///
    /// # Errors
    /// It holds nothing, or cannot be read.
    pub fn span(&self) -> Result<Span, ReplayError> {
        let Some(mut span) = self.archive.span()? else {
            return Err(ReplayError::Empty(self.archive.path().to_owned()));
        };
        if let Some(shown) = self.archive.shown_from().filter(|shown| (span.first_seq..=span.last_seq).contains(shown))
        {
            span.first_seq = shown;
            span.first.wall_ns = self.archive.wall_of(shown)?.unwrap_or(span.first.wall_ns);
        }
        Ok(span)
    }

    /// Number of the tick that is read next.
    pub fn position(&self) -> u64 {
        self.cursor.position()
    }

    /// The file.
    pub fn archive(&self) -> &Archive {
        &self.archive
    }

    /// Goes to a tick, so that it is the next: everything before it that matters to it is judged on the way.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn seek(&mut self, seq: u64) -> Result<(), ReplayError> {
        self.frames_to(seq, 0).map(drop)
    }

    /// Goes to a tick, and brings up to so many before it, oldest first; it is the next then.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn frames_to(&mut self, seq: u64, frames: u64) -> Result<Vec<Frame>, ReplayError> {
        let kept_from = self.archive.before(seq, frames)?;
        let from = self.archive.before(kept_from, WARM_UP)?;
        self.scenes = SceneReader::default();
        self.start(None)?;
        self.cursor = Cursor::at(from);
        let mut kept = Vec::new();
        while self.cursor.position() < seq {
            let Some(read) = self.read()? else { break };
            if read.seq() >= seq {
                self.cursor = Cursor::at(read.seq());
                break;
            }
            let wanted = read.seq() >= kept_from;
            let frame = self.judge(read, wanted)?;
            kept.extend(frame);
        }
        Ok(kept)
    }

    /// The next tick; `None` at the end, which a running agent moves on.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, ReplayError> {
        match self.read()? {
            Some(read) => self.judge(read, true),
            None => Ok(None),
        }
    }

    /// The cursor's tick, or the next that there is, and moves on. What was left of a second when an agent ended was never on
    /// its screen, and is passed over.
    fn read(&mut self) -> Result<Option<Unnamed>, ReplayError> {
        self.archive.refresh()?;
        loop {
            let read = self.archive.unnamed(self.cursor.position())?;
            let Some(read) = read else { return Ok(None) };
            self.cursor = Cursor::at(read.seq().saturating_add(1));
            if !read.scene().is_empty() || self.scenes.living().is_none() {
                return Ok(Some(read));
            }
        }
    }

    /// As if nothing had been read but the newest scene; `living` as [`Archive::begin_anew`] takes it.
    fn start(&mut self, living: Option<&[&str]>) -> Result<(), ReplayError> {
        self.archive.begin_anew(living)?;
        self.engine = Engine::new(Config::default());
        self.engine.recall(self.scenes.known());
        self.teller = Teller::default();
        self.heard = 0;
        Ok(())
    }

    fn judge(&mut self, read: Unnamed, wanted: bool) -> Result<Option<Frame>, ReplayError> {
        let seq = read.seq();
        let knew = self.scenes.living().is_some();
        let follows = self.scenes.read(read.scene());
        let living = self.scenes.living().map(|living| living.into_iter().map(str::to_owned).collect::<Vec<_>>());
        if let Some(living) = living {
            let living: Vec<&str> = living.iter().map(String::as_str).collect();
            // An agent's first tick: it knew nothing of the one before it but what the scene says. And the first of which is
            // known who lived.
            if follows == Follows::First || !knew {
                self.start(Some(&living))?;
            } else {
                self.archive.living(&living);
            }
        }
        self.engine.ask_experimental(self.scenes.experimental());
        let Archived { tick, judged: comparable, .. } = self.archive.resolve(read)?;
        let table = self.archive.table();
        let judgement = self.engine.push(&tick, &table);
        let told = self.teller.tell(&tick, &table, &judgement);
        self.heard += 1;
        if !wanted {
            return Ok(None);
        }
        let judged = rows(&judgement);
        let as_recorded = if comparable && self.heard > UNSURE {
            let recorded = self.recorded(seq)?;
            // A file of before GPUs had ledgers says nothing of them.
            let of_gpu = |row: &JudgedRow| matches!(row, JudgedRow::Ledger(row) if row.kind == LedgerKind::Gpu);
            let silent = !recorded.iter().any(of_gpu);
            let (forgot, is_new) = (self.scenes.boot().is_none(), self.heard <= UNSURE_OF_FILLING);
            let is_left_out = |row: &&JudgedRow| {
                (silent && of_gpu(row)) || (forgot && row.is_by(OF_ERRORS)) || (is_new && row.is_by(OF_FILLING))
            };
            Some(recorded.iter().filter(|row| !is_left_out(row)).eq(judged.iter().filter(|row| !is_left_out(row))))
        } else {
            None
        };
        let snapshot = Arc::new(self.scenes.shown(told));
        Ok(Some(Frame { seq, wall_ns: tick.end.wall_ns, snapshot, judged, as_recorded }))
    }
}

/// Ticks that are judged before one that is shown, and that a recording holds before its first: the way to the next whole scene,
/// and what its findings rest on.
pub(crate) const WARM_UP: u64 = WHOLE_EVERY + UNSURE_OF_FILLING;

/// A part of a ledger, or a finding, in words that can be compared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JudgedRow {
    /// Where some of the time went.
    Ledger(LedgerRow),
    /// What was wrong: rule, entity, severity.
    Finding(String, String, &'static str),
}

impl JudgedRow {
    fn is_by(&self, id: &str) -> bool {
        matches!(self, Self::Finding(rule, ..) if rule == id)
    }

    fn finding(finding: &Finding) -> Self {
        Self::Finding(finding.id.to_string(), finding.entity.clone(), finding.severity.name())
    }
}

impl std::fmt::Display for JudgedRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ledger(row) => {
                write!(f, "{} {} {} {} ns ({:?})", row.entity, row.kind.name(), row.label, row.ns, row.quality)
            }
            Self::Finding(rule, entity, severity) => write!(f, "{severity} {rule} {entity}"),
        }
    }
}

/// The words of a judgement, sorted.
fn rows(judgement: &Judgement) -> Vec<JudgedRow> {
    let ledgers = ledgers(judgement);
    let ledgers = ledgers.iter().flat_map(perfwatch_store::LedgerOf::rows).map(JudgedRow::Ledger);
    let mut rows: Vec<_> = ledgers.chain(judgement.findings.iter().map(JudgedRow::finding)).collect();
    rows.sort();
    rows.dedup();
    rows
}

/// What comes of judging a whole file anew.
#[derive(Clone, Debug, Default)]
pub struct Comparison {
    /// Ticks of the file.
    pub ticks: u64,
    /// Of these, how many could be compared.
    pub compared: u64,
    /// Numbers of the ticks that were judged otherwise, with what is new in them and what is missing; the first few.
    pub differing: Vec<(u64, Vec<JudgedRow>, Vec<JudgedRow>)>,
    /// How many those are.
    pub differ: u64,
}

/// As many are told in full.
const TOLD: usize = 5;

impl Replay {
    /// What was said of a tick when it was measured, sorted.
    fn recorded(&self, seq: u64) -> Result<Vec<JudgedRow>, ReplayError> {
        let ledgers = self.archive.ledgers(seq, seq)?.into_iter().map(|(_, row)| JudgedRow::Ledger(row));
        let findings = self.archive.findings(seq, seq)?;
        let findings = findings.iter().map(|row| JudgedRow::finding(&row.finding));
        let mut rows: Vec<_> = ledgers.chain(findings).collect();
        rows.sort();
        rows.dedup();
        Ok(rows)
    }

    /// Judges everything from here to the end anew and compares.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn compare(&mut self) -> Result<Comparison, ReplayError> {
        let mut result = Comparison::default();
        while let Some(frame) = self.next_frame()? {
            result.ticks += 1;
            result.compared += u64::from(frame.as_recorded.is_some());
            if frame.as_recorded == Some(false) {
                result.differ += 1;
                if result.differing.len() < TOLD {
                    let then = self.recorded(frame.seq)?;
                    let only = |a: &[JudgedRow], b: &[JudgedRow]| {
                        a.iter().filter(|row| !b.contains(row)).cloned().collect::<Vec<_>>()
                    };
                    result.differing.push((frame.seq, only(&frame.judged, &then), only(&then, &frame.judged)));
                }
            }
        }
        Ok(result)
    }
}

#[cfg(test)]
mod tests;
