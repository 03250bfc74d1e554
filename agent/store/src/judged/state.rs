//! What of ledgers and findings is known between ticks, and what is to be written.

use std::collections::{BTreeMap, HashMap};

use perfwatch_model::{Finding, Quality, Severity};

use super::{LedgerKind, LedgerOf};

/// Number of a [`Line`] in the journal.
type LineId = u32;

/// Lines that are named at most; the longest silent go first. A server has some twenty.
const MAX_LINES: usize = 16_384;
/// Ticks after which a finding that stands on is written anew, with the numbers of that tick.
const RENEW_TICKS: u64 = 60;
/// Findings that wait for a disk at most; the oldest go.
const MAX_EPISODES: usize = 1_024;

/// A part of a ledger by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Line {
    pub(crate) entity: String,
    pub(crate) kind: LedgerKind,
    pub(crate) label: String,
}

#[derive(Debug)]
struct Named {
    id: LineId,
    seen: u64,
    written: bool,
}

#[derive(Debug)]
struct Standing {
    id: i64,
    seq: u64,
    severity: Severity,
}

/// A row of `findings`.
#[derive(Clone, Debug)]
pub(crate) struct Episode {
    pub(crate) id: i64,
    pub(crate) seq: u64,
    pub(crate) wall_ns: u64,
    pub(crate) finding: Finding,
}

/// What a transaction is to write.
#[derive(Clone, Debug, Default)]
pub(crate) struct JudgedWriting {
    pub(crate) lines: Vec<(LineId, Line)>,
    /// Tick, line, nanoseconds, quality.
    pub(crate) ledger: Vec<(u64, LineId, u64, Quality)>,
    pub(crate) episodes: Vec<Episode>,
    /// Until when each finding that stands stood, by row.
    pub(crate) stood: BTreeMap<i64, u64>,
    pub(crate) lines_gone: Vec<LineId>,
}

impl JudgedWriting {
    /// Bytes that it takes, about.
    pub(crate) fn bytes(&self) -> u64 {
        let lines: usize = self.lines.iter().map(|(_, line)| line.entity.len() + line.label.len() + 16).sum();
        let episodes = self.episodes.len() * 2_048;
        (lines + self.ledger.len() * 24 + episodes + self.stood.len() * 16) as u64
    }
}

/// Everything between ticks.
#[derive(Debug, Default)]
pub(crate) struct Judged {
    lines: HashMap<Line, Named>,
    next_line: LineId,
    standing: HashMap<(String, String), Standing>,
    next_episode: i64,
    /// What waits for the disk.
    waiting: JudgedWriting,
}

impl Judged {
    /// A line as it was written.
    pub(crate) fn restore_line(&mut self, id: LineId, line: Line, seen: u64) {
        self.next_line = self.next_line.max(id.saturating_add(1));
        self.lines.insert(line, Named { id, seen, written: true });
    }

    /// Rows of `findings` have numbers below this.
    pub(crate) fn restore_episodes(&mut self, next: i64) {
        self.next_episode = next;
    }

    /// Takes in what was made of tick `seq`.
    pub(crate) fn take(&mut self, seq: u64, wall_ns: u64, ledgers: &[LedgerOf], findings: &[Finding]) {
        for ledger in ledgers {
            for row in ledger.rows() {
                let line = Line { entity: row.entity, kind: row.kind, label: row.label };
                let next = &mut self.next_line;
                let named = self.lines.entry(line).or_insert_with(|| {
                    *next += 1;
                    Named { id: *next - 1, seen: seq, written: false }
                });
                named.seen = seq;
                self.waiting.ledger.push((seq, named.id, row.ns, row.quality));
            }
        }
        let key = |finding: &Finding| (finding.id.to_string(), finding.entity.clone());
        self.standing.retain(|standing, _| findings.iter().any(|finding| key(finding) == *standing));
        for finding in findings {
            let known = self.standing.get(&key(finding));
            let goes_on = known.filter(|known| known.severity == finding.severity && seq < known.seq + RENEW_TICKS);
            if let Some(known) = goes_on {
                self.waiting.stood.insert(known.id, seq);
                continue;
            }
            let id = self.next_episode;
            self.next_episode += 1;
            self.standing.insert(key(finding), Standing { id, seq, severity: finding.severity });
            self.waiting.episodes.push(Episode { id, seq, wall_ns, finding: finding.clone() });
            self.waiting.stood.insert(id, seq);
        }
    }

    /// Leaves out what belongs to ticks before this one, which will not be written.
    pub(crate) fn leave_out(&mut self, before: u64) {
        self.waiting.ledger.retain(|(seq, ..)| *seq >= before);
        let excess = self.waiting.episodes.len().saturating_sub(MAX_EPISODES);
        for lost in self.waiting.episodes.drain(..excess) {
            self.waiting.stood.remove(&lost.id);
        }
    }

    /// What waits for the disk.
    pub(crate) fn writing(&self) -> JudgedWriting {
        let unwritten = self.lines.iter().filter(|(_, named)| !named.written);
        let lines = unwritten.map(|(line, named)| (named.id, line.clone())).collect();
        JudgedWriting { lines, ..self.waiting.clone() }
    }

    /// All of that is on disk, or there is none.
    pub(crate) fn written(&mut self) {
        self.waiting = JudgedWriting::default();
        self.lines.values_mut().for_each(|named| named.written = true);
    }

    /// The journal is a new file.
    pub(crate) fn all_unwritten(&mut self) {
        self.lines.values_mut().for_each(|named| named.written = false);
        self.waiting.lines_gone.clear();
        // The rows of what stands are lost with the old file.
        self.standing.clear();
        let begun: Vec<i64> = self.waiting.episodes.iter().map(|episode| episode.id).collect();
        self.waiting.stood.retain(|id, _| begun.contains(id));
    }

    /// Forgets lines that nothing from tick `oldest` on uses, and the longest silent beyond the limit.
    pub(crate) fn forget(&mut self, oldest: u64) {
        let mut before = oldest;
        if self.lines.len() > MAX_LINES {
            let mut seen: Vec<_> = self.lines.values().map(|named| named.seen).collect();
            let excess = seen.len() - MAX_LINES;
            before = before.max(*seen.select_nth_unstable(excess).1);
        }
        for (_, named) in self.lines.extract_if(|_, named| named.seen < before) {
            self.waiting.lines_gone.push(named.id);
        }
    }
}
