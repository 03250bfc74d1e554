//! The confusion matrix: what was injected against what was named first.

use std::collections::BTreeMap;
use std::fmt;

use crate::trial::{Outcome, Trial};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../diagnose/README.md");
/// Name of the row of runs without a fault.
const HEALTHY: &str = "healthy";
const BEGIN: &str = "<!-- faults table: begin -->\n";
const END: &str = "<!-- faults table: end -->";

#[derive(Default)]
struct Row {
    expected: Option<&'static str>,
    named: BTreeMap<String, usize>,
    delays_s: Vec<f64>,
    contaminated: usize,
    did_not_bite: usize,
    not_possible: usize,
    broken: usize,
}

/// Outcomes by injected fault.
#[derive(Default)]
pub(crate) struct Matrix {
    rows: BTreeMap<String, Row>,
}

impl Matrix {
    pub(crate) fn add(&mut self, trial: &Trial, outcome: Outcome) {
        let row = self.rows.entry(trial.fault.unwrap_or(HEALTHY).to_owned()).or_default();
        row.expected = trial.expected();
        match outcome {
            Outcome::Clean { named, after_s } => {
                if named.as_deref() == row.expected {
                    row.delays_s.extend(after_s);
                }
                *row.named.entry(named.unwrap_or_else(|| "none".to_owned())).or_default() += 1;
            }
            Outcome::Contaminated => row.contaminated += 1,
            Outcome::DidNotBite => row.did_not_bite += 1,
            Outcome::NotPossible(_) => row.not_possible += 1,
            Outcome::Broken(_) => row.broken += 1,
        }
    }

    /// Clean runs that named what was injected, and healthy runs that named nothing.
    pub(crate) fn right(&self) -> usize {
        self.rows.values().map(Row::right).sum()
    }

    /// Clean runs that did not, and broken ones.
    pub(crate) fn wrong(&self) -> usize {
        self.rows.values().map(|row| row.clean() - row.right() + row.broken).sum()
    }

    /// Runs that say nothing about the rules.
    pub(crate) fn apart(&self) -> usize {
        self.rows.values().map(|row| row.contaminated + row.did_not_bite + row.not_possible).sum()
    }

    /// Findings above a note on a healthy server.
    fn false_alarms(&self) -> usize {
        self.rows.get(HEALTHY).map_or(0, |row| row.clean() - row.right())
    }

    fn faults(&self) -> impl Iterator<Item = (&String, &Row)> {
        self.rows.iter().filter(|(fault, _)| *fault != HEALTHY)
    }

    /// Whether this is what the rules promise: no broken run, no false alarm, and every fault named right; in a full run
    /// at most one of 25 missed, and as many clean runs as were asked for (`wanted`: per fault, healthy).
    pub(crate) fn verdict(&self, wanted: Option<(usize, usize)>) -> Result<(), String> {
        let broken: usize = self.rows.values().map(|row| row.broken).sum();
        if broken > 0 {
            return Err(format!("{broken} runs broke"));
        }
        if self.false_alarms() > 0 {
            return Err(format!("{} false alarms", self.false_alarms()));
        }
        let (clean, right) =
            self.faults().fold((0, 0), |(clean, right), (_, row)| (clean + row.clean(), right + row.right()));
        if clean - right > clean / 25 {
            return Err(format!("{} of {clean} faults were named wrong", clean - right));
        }
        let Some((per_fault, healthy)) = wanted else { return Ok(()) };
        for (name, row) in &self.rows {
            let wanted = if name == HEALTHY { healthy } else { per_fault };
            if row.clean() < wanted && row.not_possible == 0 {
                return Err(format!("{name}: {} clean runs of {wanted}; repeat on a quieter machine", row.clean()));
            }
        }
        Ok(())
    }

    /// Replaces the table in the README of the rules.
    pub(crate) fn write_into_readme(&self) {
        let text = std::fs::read_to_string(README).expect("agent/diagnose/README.md can be read");
        let begin = text.find(BEGIN).expect("the README marks the begin of the table") + BEGIN.len();
        let end = text.find(END).expect("the README marks the end of the table");
        let text = format!("{}{self}{}", &text[..begin], &text[end..]);
        std::fs::write(README, text).expect("agent/diagnose/README.md can be written");
    }
}

impl Row {
    fn clean(&self) -> usize {
        self.named.values().sum()
    }

    fn right(&self) -> usize {
        self.named.get(self.expected.unwrap_or("none")).copied().unwrap_or(0)
    }
}

impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| injected | must be named first | clean runs | right | named first | median delay | contaminated | did not bite | not possible |"
        )?;
        writeln!(f, "|---|---|---|---|---|---|---|---|---|")?;
        for (fault, row) in &self.rows {
            let named: Vec<_> = row.named.iter().map(|(id, count)| format!("{id} ×{count}")).collect();
            let mut delays = row.delays_s.clone();
            delays.sort_by(f64::total_cmp);
            let delay = delays.get(delays.len() / 2).map_or("–".to_owned(), |delay| format!("{delay:.0} s"));
            writeln!(
                f,
                "| {fault} | {} | {} | {} | {} | {delay} | {} | {} | {} |",
                row.expected.unwrap_or("nothing above a note"),
                row.clean(),
                row.right(),
                named.join(", "),
                row.contaminated,
                row.did_not_bite,
                row.not_possible,
            )?;
        }
        writeln!(
            f,
            "\n{} of {} faults named right; {} false alarms in {} healthy runs.",
            self.faults().map(|(_, row)| row.right()).sum::<usize>(),
            self.faults().map(|(_, row)| row.clean()).sum::<usize>(),
            self.false_alarms(),
            self.rows.get(HEALTHY).map_or(0, Row::clean),
        )
    }
}
